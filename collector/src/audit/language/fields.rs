//! What each field of a rule takes.
//!
//! Owns which lists and operators a field is for and what kind of value it has: where auditctl(8) refuses, and where
//! every kernel does (kernel/auditfilter.c `audit_field_valid`, Linux 5.10 to 7.2).

use crate::audit::rules::{Field, FilterList, Operator};

/// The field of a name, whatever its case.
pub(super) fn field_named(name: &str) -> Option<Field> {
    match name.to_ascii_lowercase().as_str() {
        "loginuid" => Some(Field::LOGINUID),
        name => Field::named(name),
    }
}

/// Every name of a field.
pub(super) fn field_names() -> impl Iterator<Item = &'static str> {
    let names = Field::NAMED.iter().filter_map(|field| field.name());
    names.chain(["loginuid"])
}

/// What a field's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A user: number, name or `unset`.
    User,
    /// A group: number or name.
    Group,
    /// A number, or the name of an error with or without a minus.
    Result,
    /// A record type: number or name.
    MessageType,
    /// Text of at most this many bytes.
    Text(usize),
    /// An architecture.
    Arch,
    /// Of `rwxa` one or more.
    Permissions,
    /// A name of a file type.
    FileType,
    /// A file system: magic number or name.
    Filesystem,
    /// A number or `unset`.
    Session,
    /// An address family: number or name.
    Family,
    /// A number up to this.
    Number(u32),
}

/// The kind of a field's value.
pub(super) fn kind(field: Field) -> Kind {
    match field {
        Field::UID
        | Field::EUID
        | Field::SUID
        | Field::FSUID
        | Field::LOGINUID
        | Field::OBJ_UID => Kind::User,
        Field::GID | Field::EGID | Field::SGID | Field::FSGID | Field::OBJ_GID => Kind::Group,
        Field::EXIT => Kind::Result,
        Field::MSGTYPE => Kind::MessageType,
        Field::FILTERKEY => Kind::Text(KEY_LIMIT),
        _ if field.has_string() => Kind::Text(PATH_LIMIT),
        Field::ARCH => Kind::Arch,
        Field::PERM => Kind::Permissions,
        Field::FILETYPE => Kind::FileType,
        Field::FSTYPE => Kind::Filesystem,
        Field::SESSIONID => Kind::Session,
        Field::SADDR_FAM => Kind::Family,
        Field::FIELD_COMPARE => Kind::Number(super::comparisons::COMPARISON_MAX),
        Field::LOGINUID_SET => Kind::Number(1),
        _ => Kind::Number(u32::MAX),
    }
}

/// Most bytes of a rule's keys, with what joins them (`AUDIT_MAX_KEY_LEN`).
pub(super) const KEY_LIMIT: usize = 256;

/// Most bytes of other strings (`PATH_MAX`).
pub(super) const PATH_LIMIT: usize = 4096;

/// The lists a field can be used on.
pub(super) fn lists(field: Field) -> &'static [FilterList] {
    const EXIT: FilterList = FilterList::EXIT;
    const IO_URING: FilterList = FilterList::URING_EXIT;
    match field {
        Field::MSGTYPE => &[FilterList::EXCLUDE, FilterList::USER],
        Field::FSTYPE => &[FilterList::FILESYSTEM],
        Field::PERM => &[EXIT],
        Field::SESSIONID => &[EXIT, IO_URING, FilterList::USER],
        Field::EXIT
        | Field::SUCCESS
        | Field::PPID
        | Field::DEVMAJOR
        | Field::DEVMINOR
        | Field::INODE
        | Field::WATCH
        | Field::DIR
        | Field::FILETYPE
        | Field::OBJ_USER
        | Field::OBJ_ROLE
        | Field::OBJ_TYPE
        | Field::OBJ_LEV_LOW
        | Field::OBJ_LEV_HIGH => &[EXIT, IO_URING],
        Field::PID
        | Field::UID
        | Field::GID
        | Field::LOGINUID
        | Field::LOGINUID_SET
        | Field::SUBJ_USER
        | Field::SUBJ_ROLE
        | Field::SUBJ_TYPE
        | Field::SUBJ_SEN
        | Field::SUBJ_CLR
        | Field::EXE => &[
            EXIT,
            IO_URING,
            FilterList::TASK,
            FilterList::USER,
            FilterList::EXCLUDE,
        ],
        Field::FILTERKEY => &[
            EXIT,
            IO_URING,
            FilterList::TASK,
            FilterList::USER,
            FilterList::FILESYSTEM,
        ],
        _ => &[EXIT, IO_URING, FilterList::TASK, FilterList::USER],
    }
}

/// The operators a field takes.
pub(super) fn operators(field: Field) -> &'static [Operator] {
    const ALL: [Operator; 8] = [
        Operator::EQUAL,
        Operator::NOT_EQUAL,
        Operator::LESS,
        Operator::GREATER,
        Operator::LESS_OR_EQUAL,
        Operator::GREATER_OR_EQUAL,
        Operator::BIT_MASK,
        Operator::BIT_TEST,
    ];
    match field {
        Field::ARG0 | Field::ARG1 | Field::ARG2 | Field::ARG3 | Field::PERS | Field::DEVMINOR => {
            &ALL
        }
        Field::PERM | Field::WATCH | Field::DIR => &ALL[..1],
        Field::SUBJ_USER
        | Field::SUBJ_ROLE
        | Field::SUBJ_TYPE
        | Field::OBJ_USER
        | Field::OBJ_ROLE
        | Field::OBJ_TYPE
        | Field::FILTERKEY
        | Field::LOGINUID_SET
        | Field::ARCH
        | Field::FSTYPE
        | Field::FILETYPE
        | Field::FIELD_COMPARE
        | Field::INODE
        | Field::EXE => &ALL[..2],
        _ => &ALL[..6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_every_name() {
        assert_eq!(field_named("LoginUID"), Some(Field::LOGINUID));
        assert_eq!(field_named("udi"), None);
        for name in field_names() {
            assert!(field_named(name).is_some(), "{name}");
        }
        assert!(field_names().any(|name| name == "saddr_fam"));
    }
}
