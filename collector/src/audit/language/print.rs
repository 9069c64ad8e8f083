//! Rules as text, in auditctl's words.
//!
//! Owns how a rule reads: `-a always,exit -F arch=b64 -S openat -F uid=1234 -F key=name`. Every rule can be printed,
//! also one with numbers this code does not know. No I/O.

use std::fmt;

use nix::errno::Errno;

use crate::audit::arch::Arch;
use crate::audit::rules::{
    Action, Condition, Field, FilterList, KEY_SEPARATOR, Operator, Permissions, Rule,
};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Never => "never",
            Action::Always => "always",
        };
        match self.list.name() {
            "unknown" => write!(f, "-a {action},{}", self.list.0)?,
            list => write!(f, "-a {action},{list}")?,
        }
        // The architecture comes before the system calls, whose names depend on it.
        let is_arch = |condition: &&Condition| condition.field == Field::ARCH;
        for condition in self.conditions.iter().filter(is_arch) {
            write_condition(f, condition)?;
        }
        self.write_syscalls(f)?;
        for condition in self.conditions.iter().filter(|c| !is_arch(c)) {
            write_condition(f, condition)?;
        }
        Ok(())
    }
}

impl Rule {
    fn write_syscalls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only these lists look at the mask.
        if !matches!(self.list, FilterList::EXIT | FilterList::URING_EXIT) {
            return Ok(());
        }
        if self.names_all_syscalls() {
            return f.write_str(" -S all");
        }
        let arch = self.arch_condition().unwrap_or(Arch::NATIVE);
        for (index, number) in self.syscall_numbers().enumerate() {
            f.write_str(if index == 0 { " -S " } else { "," })?;
            match arch.syscall_name(number) {
                // io_uring operations are numbered apart from system calls.
                Some(name) if self.list == FilterList::EXIT => f.write_str(name)?,
                _ => write!(f, "{number}")?,
            }
        }
        Ok(())
    }
}

fn write_condition(f: &mut fmt::Formatter<'_>, condition: &Condition) -> fmt::Result {
    let Condition {
        field,
        operator,
        value,
        ref string,
    } = *condition;
    if field == Field::FIELD_COMPARE {
        return write!(f, " -C {}", Comparison { operator, value });
    }
    match field.name() {
        Some(name) => write!(f, " -F {name}{operator}")?,
        None => write!(f, " -F {}{operator}", field.0)?,
    }
    match (field, string) {
        (Field::FILTERKEY, Some(keys)) => {
            for (index, key) in keys.split(|byte| *byte == KEY_SEPARATOR).enumerate() {
                if index > 0 {
                    f.write_str(" -F key=")?;
                }
                write!(f, "{}", Text(key))?;
            }
            Ok(())
        }
        (_, Some(string)) => write!(f, "{}", Text(string)),
        (Field::ARCH, _) => write!(f, "{}", Arch(value)),
        (Field::PERM, _) => write!(f, "{}", Permissions(value)),
        (Field::FILETYPE, _) => match file_type(value) {
            Some(name) => f.write_str(name),
            None => write!(f, "{value}"),
        },
        (Field::EXIT, _) => write!(f, "{}", CallResult(value as i32)),
        (Field::LOGINUID | Field::SESSIONID | Field::OBJ_UID | Field::OBJ_GID, _)
        | (Field(1..=8), _)
            if value == u32::MAX =>
        {
            // An id that is not set.
            f.write_str("-1")
        }
        (Field::ARG0 | Field::ARG1 | Field::ARG2 | Field::ARG3 | Field::FSTYPE, _) => {
            write!(f, "{value:#x}")
        }
        _ => write!(f, "{value}"),
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::EQUAL => "=",
            Self::NOT_EQUAL => "!=",
            Self::LESS => "<",
            Self::GREATER => ">",
            Self::LESS_OR_EQUAL => "<=",
            Self::GREATER_OR_EQUAL => ">=",
            Self::BIT_MASK => "&",
            Self::BIT_TEST => "&=",
            Self(other) => return write!(f, "?{other:#x}?"),
        })
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [
            (Self::READ, "r"),
            (Self::WRITE, "w"),
            (Self::EXECUTE, "x"),
            (Self::ATTRIBUTES, "a"),
        ] {
            if self.0 & bit.0 != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// The result of a system call: the name of its error where it is one.
struct CallResult(i32);

impl fmt::Display for CallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_neg().map(Errno::from_raw) {
            Some(errno) if self.0 < 0 && errno != Errno::UnknownErrno => write!(f, "-{errno:?}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// A string of a rule: as it is where that is one readable word, else quoted with escapes.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if text.chars().all(|c| !c.is_control() && !c.is_whitespace()) => {
                f.write_str(text)
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// The value of `-C`.
struct Comparison {
    operator: Operator,
    value: u32,
}

/// `AUDIT_COMPARE_*` of include/uapi/linux/audit.h, from number 1 on.
const COMPARISONS: [(&str, &str); 25] = [
    ("uid", "obj_uid"),
    ("gid", "obj_gid"),
    ("euid", "obj_uid"),
    ("egid", "obj_gid"),
    ("auid", "obj_uid"),
    ("suid", "obj_uid"),
    ("sgid", "obj_gid"),
    ("fsuid", "obj_uid"),
    ("fsgid", "obj_gid"),
    ("uid", "auid"),
    ("uid", "euid"),
    ("uid", "fsuid"),
    ("uid", "suid"),
    ("auid", "fsuid"),
    ("auid", "suid"),
    ("auid", "euid"),
    ("euid", "suid"),
    ("euid", "fsuid"),
    ("suid", "fsuid"),
    ("gid", "egid"),
    ("gid", "fsgid"),
    ("gid", "sgid"),
    ("egid", "fsgid"),
    ("egid", "sgid"),
    ("sgid", "fsgid"),
];

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = (self.value as usize).checked_sub(1);
        match index.and_then(|index| COMPARISONS.get(index)) {
            Some((left, right)) => write!(f, "{left}{}{right}", self.operator),
            None => write!(f, "{}{}", self.operator, self.value),
        }
    }
}

fn file_type(value: u32) -> Option<&'static str> {
    Some(match value {
        libc::S_IFSOCK => "socket",
        libc::S_IFLNK => "link",
        libc::S_IFREG => "file",
        libc::S_IFBLK => "block",
        libc::S_IFDIR => "dir",
        libc::S_IFCHR => "character",
        libc::S_IFIFO => "fifo",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::Watched;

    #[test]
    fn rules_read_as_auditctl_prints_them() {
        let rule = Rule::always_exit()
            .arch(Arch::I386)
            .syscalls(Arch::I386, &["open", "openat"])
            .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
            .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
            .condition(Field::EXIT, Operator::EQUAL, -13_i32 as u32)
            .condition(Field::ARG0, Operator::BIT_TEST, 0x40)
            .condition(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 1)
            .key(b"one\x01two");
        assert_eq!(
            rule.to_string(),
            "-a always,exit -F arch=b32 -S open,openat -F auid>=1000 -F auid!=-1 -F exit=-EACCES -F a0&=0x40 \
             -C uid!=obj_uid -F key=one -F key=two"
        );
        let watch = Rule::watch(
            Watched::Directory(b"/etc"),
            Permissions::WRITE.and(Permissions::ATTRIBUTES),
        );
        assert_eq!(
            watch.to_string(),
            "-a always,exit -S all -F dir=/etc -F perm=wa"
        );
        let never = Rule::new(FilterList::TASK, Action::Never);
        assert_eq!(never.to_string(), "-a never,task");
    }

    #[test]
    fn what_is_unknown_is_printed_as_numbers() {
        let mut rule =
            Rule::new(FilterList(9), Action::Always).condition(Field(77), Operator(5), 3);
        assert_eq!(rule.to_string(), "-a always,9 -F 77?0x5?3");
        rule = Rule::always_exit().arch(Arch(0x1234));
        rule.set_syscall(5);
        assert_eq!(rule.to_string(), "-a always,exit -F arch=0x1234 -S 5");
        rule = Rule::always_exit().text(Field::WATCH, Operator::EQUAL, b"/a b\xff");
        assert_eq!(rule.to_string(), r#"-a always,exit -F path="/a b\xff""#);
    }
}
