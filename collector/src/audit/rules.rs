//! Audit rules as the kernel holds them, `struct audit_rule_data` of include/uapi/linux/audit.h.
//!
//! Owns the domain type of a rule and the ways to build one in code. The bytes are in [`wire`], the text is in
//! [`crate::audit::language`]. No I/O.
//!
//! ```
//! use collector::audit::arch::Arch;
//! use collector::audit::rules::{Field, Operator, Rule};
//!
//! let rule = Rule::always_exit()
//!     .arch(Arch::X86_64)
//!     .syscalls(Arch::X86_64, &["openat"])
//!     .condition(Field::UID, Operator::EQUAL, 1234)
//!     .key("name");
//! assert_eq!(rule.to_string(), "-a always,exit -F arch=b64 -S openat -F uid=1234 -F key=name");
//! ```

mod examples;
pub mod wire;

pub use examples::example_rules;
pub use wire::{Placement, RuleDecodeError, RuleEncodeError};

use smallvec::SmallVec;

use crate::audit::arch::Arch;
use crate::byte_string::ByteString;

/// Which of the kernel's lists a rule is on (`AUDIT_FILTER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilterList(pub u32);

impl FilterList {
    /// Messages from user space.
    pub const USER: Self = Self(0);
    /// Task creation.
    pub const TASK: Self = Self(1);
    /// System call exit.
    pub const EXIT: Self = Self(4);
    /// Records that are not wanted.
    pub const EXCLUDE: Self = Self(5);
    /// File systems.
    pub const FILESYSTEM: Self = Self(6);
    /// io_uring operations.
    pub const URING_EXIT: Self = Self(7);

    /// The name in auditctl's words, also the `list` label of metrics; `unknown` for other numbers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::USER => "user",
            Self::TASK => "task",
            Self::EXIT => "exit",
            Self::EXCLUDE => "exclude",
            Self::FILESYSTEM => "filesystem",
            Self::URING_EXIT => "io_uring",
            _ => "unknown",
        }
    }
}

/// What a rule that matches does (`AUDIT_NEVER`, `AUDIT_ALWAYS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// No event.
    Never,
    /// An event.
    Always,
}

/// How a field compares (`AUDIT_EQUAL` …), the `fieldflags` of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operator(pub u32);

impl Operator {
    /// `=`
    pub const EQUAL: Self = Self(0x4000_0000);
    /// `!=`
    pub const NOT_EQUAL: Self = Self(0x3000_0000);
    /// `<`
    pub const LESS: Self = Self(0x1000_0000);
    /// `>`
    pub const GREATER: Self = Self(0x2000_0000);
    /// `<=`
    pub const LESS_OR_EQUAL: Self = Self(0x5000_0000);
    /// `>=`
    pub const GREATER_OR_EQUAL: Self = Self(0x6000_0000);
    /// `&`
    pub const BIT_MASK: Self = Self(0x0800_0000);
    /// `&=`
    pub const BIT_TEST: Self = Self(0x4800_0000);
}

/// A field a rule compares (`AUDIT_PID` …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field(pub u32);

macro_rules! fields {
    ($($(#[$doc:meta])* $constant:ident = $number:literal, $name:literal;)*) => {
        impl Field {
            $($(#[$doc])* pub const $constant: Self = Self($number);)*

            /// Every field known here.
            pub const NAMED: &[Self] = &[$(Self::$constant,)*];

            /// The name in auditctl's words; none for numbers not known here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($name),)*
                    _ => None,
                }
            }

            /// The field of that name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$constant),)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    /// Process.
    PID = 0, "pid";
    /// Real user.
    UID = 1, "uid";
    /// Effective user.
    EUID = 2, "euid";
    /// Saved user.
    SUID = 3, "suid";
    /// File-system user.
    FSUID = 4, "fsuid";
    /// Real group.
    GID = 5, "gid";
    /// Effective group.
    EGID = 6, "egid";
    /// Saved group.
    SGID = 7, "sgid";
    /// File-system group.
    FSGID = 8, "fsgid";
    /// Login user (`auid`).
    LOGINUID = 9, "auid";
    /// Personality.
    PERS = 10, "pers";
    /// `AUDIT_ARCH_*`.
    ARCH = 11, "arch";
    /// Record type; lists `exclude` and `user` only.
    MSGTYPE = 12, "msgtype";
    /// Subject's LSM user.
    SUBJ_USER = 13, "subj_user";
    /// Subject's LSM role.
    SUBJ_ROLE = 14, "subj_role";
    /// Subject's LSM type.
    SUBJ_TYPE = 15, "subj_type";
    /// Subject's sensitivity.
    SUBJ_SEN = 16, "subj_sen";
    /// Subject's clearance.
    SUBJ_CLR = 17, "subj_clr";
    /// Parent process.
    PPID = 18, "ppid";
    /// Object's LSM user.
    OBJ_USER = 19, "obj_user";
    /// Object's LSM role.
    OBJ_ROLE = 20, "obj_role";
    /// Object's LSM type.
    OBJ_TYPE = 21, "obj_type";
    /// Object's lower level.
    OBJ_LEV_LOW = 22, "obj_lev_low";
    /// Object's higher level.
    OBJ_LEV_HIGH = 23, "obj_lev_high";
    /// Whether the login user is set.
    LOGINUID_SET = 24, "loginuid_set";
    /// Login session.
    SESSIONID = 25, "sessionid";
    /// Magic number of the file system; list `filesystem` only.
    FSTYPE = 26, "fstype";
    /// Major device number.
    DEVMAJOR = 100, "devmajor";
    /// Minor device number.
    DEVMINOR = 101, "devminor";
    /// Inode number.
    INODE = 102, "inode";
    /// The call's result.
    EXIT = 103, "exit";
    /// Whether the call succeeded.
    SUCCESS = 104, "success";
    /// A path that is watched.
    WATCH = 105, "path";
    /// Kinds of access, [`Permissions`].
    PERM = 106, "perm";
    /// A directory that is watched with all below it.
    DIR = 107, "dir";
    /// File type, the `S_IFMT` bits.
    FILETYPE = 108, "filetype";
    /// Object's owner.
    OBJ_UID = 109, "obj_uid";
    /// Object's group.
    OBJ_GID = 110, "obj_gid";
    /// Two fields of the event compared, `AUDIT_COMPARE_*`.
    FIELD_COMPARE = 111, "field_compare";
    /// The executable's path.
    EXE = 112, "exe";
    /// Address family of the socket address.
    SADDR_FAM = 113, "saddr_fam";
    /// First argument.
    ARG0 = 200, "a0";
    /// Second argument.
    ARG1 = 201, "a1";
    /// Third argument.
    ARG2 = 202, "a2";
    /// Fourth argument.
    ARG3 = 203, "a3";
    /// The key of a rule; it does not compare.
    FILTERKEY = 210, "key";
}

impl Field {
    /// Whether the field compares with a string, which then travels in the rule's buffer
    /// (kernel/auditfilter.c `audit_data_to_entry`).
    pub const fn has_string(self) -> bool {
        matches!(
            self,
            Self::SUBJ_USER
                | Self::SUBJ_ROLE
                | Self::SUBJ_TYPE
                | Self::SUBJ_SEN
                | Self::SUBJ_CLR
                | Self::OBJ_USER
                | Self::OBJ_ROLE
                | Self::OBJ_TYPE
                | Self::OBJ_LEV_LOW
                | Self::OBJ_LEV_HIGH
                | Self::WATCH
                | Self::DIR
                | Self::FILTERKEY
                | Self::EXE
        )
    }
}

/// Kinds of access a watch asks for (`AUDIT_PERM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permissions(pub u32);

impl Permissions {
    /// Execution.
    pub const EXECUTE: Self = Self(1);
    /// Writing.
    pub const WRITE: Self = Self(2);
    /// Reading.
    pub const READ: Self = Self(4);
    /// Change of attributes.
    pub const ATTRIBUTES: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One comparison of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which field.
    pub field: Field,
    /// How it compares.
    pub operator: Operator,
    /// The number to compare with; for fields with a string its length, as on the wire.
    pub value: u32,
    /// The string of fields that have one (paths, keys, labels).
    pub string: Option<Box<[u8]>>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The list it is on, without the prepend flag.
    pub list: FilterList,
    /// What it does.
    pub action: Action,
    /// The system calls it names, bit `nr % 32` of word `nr / 32`.
    pub syscalls: [u32; 64],
    /// Its comparisons; all must hold.
    pub conditions: Vec<Condition>,
}

/// System call numbers a rule can name are below this; the kernel never matches others.
pub const SYSCALL_LIMIT: u32 = 2048;

/// What joins several keys of one rule (`AUDIT_KEY_SEPARATOR`).
pub const KEY_SEPARATOR: u8 = 1;

impl Rule {
    /// A rule without system calls or conditions.
    pub fn new(list: FilterList, action: Action) -> Self {
        Self {
            list,
            action,
            syscalls: [0; 64],
            conditions: Vec::new(),
        }
    }

    /// `-a always,exit`
    pub fn always_exit() -> Self {
        Self::new(FilterList::EXIT, Action::Always)
    }

    /// `-a always,exit -S all -F dir=…` (or `path=`) ` -F perm=…`: what auditctl makes of `-w`.
    pub fn watch(watched: Watched<'_>, permissions: Permissions) -> Self {
        let (field, path) = watched.condition();
        Self::always_exit()
            .all_syscalls()
            .text(field, Operator::EQUAL, path)
            .condition(Field::PERM, Operator::EQUAL, permissions.0)
    }

    /// Adds `-F arch=…`. The kernel tells system call numbers apart by it, so it belongs before them.
    #[must_use]
    pub fn arch(self, arch: Arch) -> Self {
        self.condition(Field::ARCH, Operator::EQUAL, arch.0)
    }

    /// Adds a comparison with a number.
    #[must_use]
    pub fn condition(mut self, field: Field, operator: Operator, value: u32) -> Self {
        self.conditions.push(Condition {
            field,
            operator,
            value,
            string: None,
        });
        self
    }

    /// Adds a comparison with a string.
    #[must_use]
    pub fn text(mut self, field: Field, operator: Operator, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.conditions.push(Condition {
            field,
            operator,
            value: u32::try_from(text.len()).unwrap_or(u32::MAX),
            string: Some(text.into()),
        });
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.text(Field::FILTERKEY, Operator::EQUAL, key)
    }

    /// Adds system calls by name; names `arch` does not have are left out, since the list often spans architectures.
    #[must_use]
    pub fn syscalls(mut self, arch: Arch, names: &[&str]) -> Self {
        for number in names.iter().filter_map(|name| arch.syscall_number(name)) {
            self.set_syscall(number);
        }
        self
    }

    /// Names every system call, as `-S all` does: all but the last 16 numbers, whose bits stand for classes of calls. The
    /// kernel takes those bits out of every rule, so this is also what it lists.
    #[must_use]
    pub fn all_syscalls(mut self) -> Self {
        self.syscalls = ALL_SYSCALLS;
        self
    }

    /// Names a system call; false where its number is out of a rule's reach.
    pub fn set_syscall(&mut self, number: u32) -> bool {
        match self.syscalls.get_mut((number / 32) as usize) {
            Some(word) => {
                *word |= 1 << (number % 32);
                true
            }
            None => false,
        }
    }

    /// Whether the rule names system call `number`.
    pub fn names_syscall(&self, number: u32) -> bool {
        self.syscalls
            .get((number / 32) as usize)
            .is_some_and(|word| word >> (number % 32) & 1 == 1)
    }

    /// The system calls it names, in order. For `-S all` that is every number.
    pub fn syscall_numbers(&self) -> impl Iterator<Item = u32> {
        (0..SYSCALL_LIMIT).filter(|number| self.names_syscall(*number))
    }

    /// Whether it names every system call.
    pub fn names_all_syscalls(&self) -> bool {
        self.syscalls[..63] == ALL_SYSCALLS[..63]
    }

    /// The architecture it is limited to (`-F arch=`), if any.
    pub fn arch_condition(&self) -> Option<Arch> {
        self.conditions
            .iter()
            .find(|condition| {
                condition.field == Field::ARCH && condition.operator == Operator::EQUAL
            })
            .map(|condition| Arch(condition.value))
    }

    /// Its keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.conditions
            .iter()
            .filter(|condition| condition.field == Field::FILTERKEY)
            .filter_map(|condition| condition.string.as_deref())
            .flat_map(|keys| keys.split(|byte| *byte == KEY_SEPARATOR))
    }
}

/// The keys of a rule, of which most have one.
pub type Keys = SmallVec<[ByteString; 1]>;

/// What a watch watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched<'a> {
    /// One file or directory.
    Path(&'a [u8]),
    /// A directory and all below it.
    Directory(&'a [u8]),
}

impl<'a> Watched<'a> {
    /// The field that watches it, and its path.
    pub const fn condition(self) -> (Field, &'a [u8]) {
        match self {
            Self::Path(path) => (Field::WATCH, path),
            Self::Directory(path) => (Field::DIR, path),
        }
    }
}

const ALL_SYSCALLS: [u32; 64] = {
    let mut words = [u32::MAX; 64];
    words[63] = 0xffff;
    words
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_name_what_was_set() {
        let mut rule = Rule::always_exit();
        for number in [0, 31, 32, 257, 2047] {
            assert!(rule.set_syscall(number));
        }
        assert!(!rule.set_syscall(SYSCALL_LIMIT));
        assert!(!rule.names_syscall(u32::MAX));
        let named: Vec<_> = rule.syscall_numbers().collect();
        assert_eq!(named, [0, 31, 32, 257, 2047]);
        assert!(!rule.names_all_syscalls());
        assert!(rule.all_syscalls().names_all_syscalls());
    }

    #[test]
    fn keys_joined_by_the_separator_come_apart() {
        let rule = Rule::always_exit().key(b"one\x01two");
        assert_eq!(rule.keys().collect::<Vec<_>>(), [b"one", b"two"]);
        assert_eq!(Rule::always_exit().keys().count(), 0);
    }
}
