//! Rules as text, in auditctl's words.
//!
//! Owns how a rule reads: `-a always,exit -F arch=b64 -S openat -F uid=1234 -F key=name`. Every rule can be printed,
//! also one with numbers this code does not know, and none acts on a terminal or passes for more than one line. No I/O.

use std::fmt;

use crate::audit::arch::Arch;
use crate::audit::language::calls::call_name;
use crate::audit::language::comparisons::compared_fields;
use crate::audit::language::errno::error_name;
use crate::audit::language::filesystems::{FILESYSTEMS, name_in};
use crate::audit::language::text::Text;
use crate::audit::record::RecordType;
use crate::audit::rules::{
    Action, Condition, Field, FilterList, KEY_SEPARATOR, Operator, Permissions, Rule,
};

impl fmt::Display for Rule {
    /// The line `auditctl -l` prints for it. Where that line would be read back as another rule, or could pass for
    /// other lines, this one differs: docs/rules.md lists how.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_watch() {
            return self.write_watch(f);
        }
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
        self.write_calls(f)?;
        for condition in self.conditions.iter().filter(|c| !is_arch(c)) {
            write_condition(f, condition)?;
        }
        Ok(())
    }
}

impl Rule {
    /// Whether `-w PATH -p PERMISSIONS -k KEY` makes this rule, which `auditctl -l` then prints so.
    fn is_watch(&self) -> bool {
        let mut fields = self.conditions.iter().map(|condition| condition.field);
        // `-w` takes slashes from the end of a path.
        let ends_with_slash = |path: &[u8]| path.len() > 1 && path.ends_with(b"/");
        let path = self
            .conditions
            .first()
            .and_then(|first| first.string.as_deref());
        self.list == FilterList::EXIT
            && !path.is_some_and(ends_with_slash)
            && self.action == Action::Always
            && self.names_all_syscalls()
            && matches!(fields.next(), Some(Field::WATCH | Field::DIR))
            && fields.next() == Some(Field::PERM)
            && fields.all(|field| field == Field::FILTERKEY)
            && self
                .conditions
                .iter()
                .all(|condition| condition.operator == Operator::EQUAL)
    }

    fn write_watch(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Condition {
            field,
            value,
            string,
            ..
        } in &self.conditions
        {
            match (*field, string) {
                (Field::PERM, _) => write!(f, " -p {}", Permissions(*value))?,
                (Field::FILTERKEY, Some(keys)) => {
                    for key in keys_in(keys) {
                        write!(f, " -k {}", Text(key))?;
                    }
                }
                (_, path) => write!(f, "-w {}", Text(path.as_deref().unwrap_or_default()))?,
            }
        }
        Ok(())
    }

    fn write_calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only these lists look at the mask.
        if !matches!(self.list, FilterList::EXIT | FilterList::URING_EXIT) {
            return Ok(());
        }
        if self.names_all_syscalls() {
            return f.write_str(" -S all");
        }
        let arch = self
            .conditions
            .iter()
            .rfind(|condition| condition.field == Field::ARCH)
            .map_or(Arch::NATIVE, |condition| Arch(condition.value));
        for (index, number) in self.syscall_numbers().enumerate() {
            f.write_str(if index == 0 { " -S " } else { "," })?;
            match call_name(self.list, arch, number) {
                Some(name) => f.write_str(name)?,
                None => write!(f, "{number}")?,
            }
        }
        Ok(())
    }
}

/// Keys joined in one string. What is empty between two separators is no key.
fn keys_in(joined: &[u8]) -> impl Iterator<Item = &[u8]> {
    joined
        .split(|byte| *byte == KEY_SEPARATOR)
        .filter(|key| !key.is_empty())
}

fn write_condition(f: &mut fmt::Formatter<'_>, condition: &Condition) -> fmt::Result {
    let Condition {
        field,
        operator,
        value,
        ref string,
    } = *condition;
    let signed = value.cast_signed();
    if field == Field::FIELD_COMPARE
        && let Some((left, right)) = compared_fields(value)
        && let (Some(left), Some(right)) = (left.name(), right.name())
    {
        return write!(f, " -C {left}{operator}{right}");
    }
    if let (Field::FILTERKEY, Some(keys)) = (field, string) {
        return keys_in(keys).try_for_each(|key| write!(f, " -F key{operator}{}", Text(key)));
    }
    match field.name() {
        Some(name) => write!(f, " -F {name}{operator}")?,
        None => write!(f, " -F {}{operator}", field.0)?,
    }
    match (field, string) {
        (_, Some(string)) => write!(f, "{}", Text(string)),
        (Field::ARCH, _) => write!(f, "{}", Arch(value)),
        (Field::PERM, _) => write!(f, "{}", Permissions(value)),
        (Field::EXIT, _) => match signed.checked_neg().and_then(error_name) {
            Some(name) => write!(f, "-{name}"),
            None => write!(f, "{signed}"),
        },
        (Field::MSGTYPE, _) => match record_type(value) {
            Some(name) => f.write_str(name),
            None => write!(f, "{signed}"),
        },
        (Field::FSTYPE, _) => match name_in(&FILESYSTEMS, value) {
            Some(name) => f.write_str(name),
            None => write!(f, "{signed}"),
        },
        (Field::ARG0 | Field::ARG1 | Field::ARG2 | Field::ARG3, _) => write!(f, "{value:#X}"),
        (Field::INODE, _) => write!(f, "{value}"),
        _ => write!(f, "{signed}"),
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

fn record_type(value: u32) -> Option<&'static str> {
    RecordType(u16::try_from(value).ok()?).name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::Watched;

    fn numbered(list: FilterList, field: Field, value: u32) -> String {
        Rule::new(list, Action::Always)
            .condition(field, Operator::EQUAL, value)
            .to_string()
    }

    #[test]
    fn rules_read_as_auditctl_prints_them() {
        let rule = Rule::always_exit()
            .arch(Arch::I386)
            .syscalls(Arch::I386, &["open", "openat"])
            .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
            .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
            .condition(Field::EXIT, Operator::EQUAL, -13_i32 as u32)
            .condition(Field::ARG0, Operator::BIT_TEST, 0xab)
            .condition(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 1)
            .key(b"one\x01\x01two\x01");
        assert_eq!(
            rule.to_string(),
            "-a always,exit -F arch=b32 -S open,openat -F auid>=1000 -F auid!=-1 -F exit=-EACCES -F a0&=0xAB \
             -C uid!=obj_uid -F key=one -F key=two"
        );
        let never = Rule::new(FilterList::TASK, Action::Never);
        assert_eq!(never.to_string(), "-a never,task");
        let any = Rule::always_exit().all_syscalls();
        assert_eq!(any.to_string(), "-a always,exit -S all");
    }

    #[test]
    fn a_watch_reads_as_one_only_if_it_is_nothing_else() {
        let watch = Rule::watch(
            Watched::Directory(b"/etc"),
            Permissions::WRITE.and(Permissions::ATTRIBUTES),
        );
        assert_eq!(watch.to_string(), "-w /etc -p wa");
        let keyed = watch.clone().key(b"one\x01two");
        assert_eq!(keyed.to_string(), "-w /etc -p wa -k one -k two");

        let syscalls = " -S all -F dir=/etc -F perm=wa";
        let never = Rule {
            action: Action::Never,
            ..watch.clone()
        };
        assert_eq!(never.to_string(), format!("-a never,exit{syscalls}"));
        let user = watch.clone().condition(Field::UID, Operator::EQUAL, 7);
        assert_eq!(
            user.to_string(),
            format!("-a always,exit{syscalls} -F uid=7")
        );
        let negated = watch.text(Field::FILTERKEY, Operator::NOT_EQUAL, "k");
        assert_eq!(
            negated.to_string(),
            format!("-a always,exit{syscalls} -F key!=k")
        );
        let slash = Rule::watch(Watched::Directory(b"/etc/"), Permissions::WRITE);
        assert_eq!(
            slash.to_string(),
            "-a always,exit -S all -F dir=/etc/ -F perm=w"
        );
        let swapped = Rule::always_exit()
            .all_syscalls()
            .condition(Field::PERM, Operator::EQUAL, 15)
            .text(Field::WATCH, Operator::EQUAL, "/a");
        assert_eq!(
            swapped.to_string(),
            "-a always,exit -S all -F perm=rwxa -F path=/a"
        );
    }

    #[test]
    fn numbers_have_names_where_auditctl_prints_them() {
        let exit = |value: i32| numbered(FilterList::EXIT, Field::EXIT, value.cast_unsigned());
        assert_eq!(exit(-11), "-a always,exit -F exit=-EAGAIN");
        assert_eq!(exit(13), "-a always,exit -F exit=13");
        assert_eq!(exit(-4000), "-a always,exit -F exit=-4000");
        assert_eq!(exit(i32::MIN), "-a always,exit -F exit=-2147483648");

        let excluded = |value| numbered(FilterList::EXCLUDE, Field::MSGTYPE, value);
        assert_eq!(excluded(1307), "-a always,exclude -F msgtype=CWD");
        assert_eq!(excluded(1399), "-a always,exclude -F msgtype=1399");
        assert_eq!(excluded(66_843), "-a always,exclude -F msgtype=66843");

        let mounted = |value| numbered(FilterList::FILESYSTEM, Field::FSTYPE, value);
        assert_eq!(
            mounted(0x7472_6163),
            "-a always,filesystem -F fstype=tracefs"
        );
        assert_eq!(
            mounted(0x9123_683e),
            "-a always,filesystem -F fstype=-1859950530"
        );

        // auditctl reads names of file types, and prints numbers.
        let exit = |field, value| numbered(FilterList::EXIT, field, value);
        assert_eq!(
            exit(Field::FILETYPE, 0o40_000),
            "-a always,exit -F filetype=16384"
        );
        assert_eq!(exit(Field::UID, u32::MAX - 1), "-a always,exit -F uid=-2");
        assert_eq!(
            exit(Field::INODE, u32::MAX),
            "-a always,exit -F inode=4294967295"
        );
    }

    #[test]
    fn calls_are_named_as_the_last_architecture_has_them() {
        let mut rule = Rule::always_exit().arch(Arch::X86_64).arch(Arch::I386);
        rule.set_syscall(11);
        assert!(rule.to_string().ends_with(" -S execve"), "{rule}");
        let mut operation = Rule::new(FilterList::URING_EXIT, Action::Always);
        operation.set_syscall(18);
        operation.set_syscall(2000);
        assert_eq!(operation.to_string(), "-a always,io_uring -S openat,2000");
    }

    #[test]
    fn what_is_unknown_is_printed_as_numbers() {
        let mut rule =
            Rule::new(FilterList(9), Action::Always).condition(Field(77), Operator(5), 3);
        assert_eq!(rule.to_string(), "-a always,9 -F 77?0x5?3");
        rule = Rule::always_exit().arch(Arch(0x12ab));
        rule.set_syscall(5);
        assert_eq!(rule.to_string(), "-a always,exit -F arch=0x12AB -S 5");
        rule = Rule::always_exit().condition(Field::FIELD_COMPARE, Operator::EQUAL, 26);
        assert_eq!(rule.to_string(), "-a always,exit -F field_compare=26");
    }

    #[test]
    fn a_hostile_string_stays_one_word() {
        let rule = Rule::always_exit().text(Field::WATCH, Operator::EQUAL, b"/a b\n-D\xff");
        assert_eq!(rule.to_string(), r"-a always,exit -F path=/a\ b\x0a-D\xff");
    }
}
