//! Which fields are told apart, and how often each was compared.
//!
//! The names are a closed set, so that metrics and memory stay bounded whatever a record says: what is not in the table
//! counts as `other`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::record::RecordType;

/// Record types and their fields, as the kernel names them; the arguments of EXECVE under one name.
const RECORDS: [(RecordType, &[&str]); 11] = [
    (
        RecordType::SYSCALL,
        &[
            "arch", "syscall", "per", "success", "exit", "a0", "a1", "a2", "a3", "items", "ppid",
            "pid", "auid", "uid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid", "tty",
            "ses", "comm", "exe", "subj", "key",
        ],
    ),
    (RecordType::EXECVE, &["argc", ARGUMENTS]),
    (RecordType::MMAP, &["fd", "flags"]),
    (RecordType::OPENAT2, &["oflag", "mode", "resolve"]),
    (RecordType::FD_PAIR, &["fd0", "fd1"]),
    (RecordType::SOCKADDR, &["saddr"]),
    (
        RecordType::OBJ_PID,
        &["opid", "oauid", "ouid", "oses", "obj", "ocomm"],
    ),
    (RecordType::CWD, &["cwd"]),
    (
        RecordType::PATH,
        &[
            "item",
            "name",
            "inode",
            "dev",
            "mode",
            "ouid",
            "ogid",
            "rdev",
            "obj",
            "nametype",
            "cap_fp",
            "cap_fi",
            "cap_fe",
            "cap_fver",
            "cap_frootid",
        ],
    ),
    (RecordType::PROCTITLE, &["proctitle"]),
    (RecordType::EOE, &[]),
];

const ARGUMENTS: &str = "arguments";
/// What is in no table.
const OTHER: &str = "other";
/// Whether a record is there at all.
const RECORD: &str = "record";
/// Whether records, and the fields in them, come in the kernel's order.
const ORDER: &str = "order";

/// What is compared: a record type's name and a field's.
pub type Place = (&'static str, &'static str);

/// The place of a field.
pub(super) fn field(record_type: RecordType, name: &[u8]) -> Place {
    let Some((known, fields)) = RECORDS.iter().find(|(known, _)| *known == record_type) else {
        return (OTHER, OTHER);
    };
    let record = known.name().unwrap_or(OTHER);
    if record_type == RecordType::EXECVE && name != b"argc" {
        return (record, ARGUMENTS);
    }
    let field = fields.iter().find(|field| field.as_bytes() == name);
    (record, field.copied().unwrap_or(OTHER))
}

/// The place of a record's being there.
pub(super) fn record(record_type: RecordType) -> Place {
    let known = RECORDS.iter().any(|(known, _)| *known == record_type);
    let name = record_type.name().filter(|_| known);
    (name.unwrap_or(OTHER), RECORD)
}

/// The place of an event's order.
pub(super) const fn order() -> Place {
    ("event", ORDER)
}

/// How one field came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Times the rebuilt value was the kernel's to the byte.
    pub identical: u64,
    /// Times it was declared unknown.
    pub unknown: u64,
    /// Times it was another, or only one of the two was there.
    pub wrong: u64,
    /// The first of those.
    pub example: Option<Arc<Example>>,
}

impl Tally {
    /// How often it was compared.
    pub const fn compared(&self) -> u64 {
        self.identical + self.unknown + self.wrong
    }
}

/// A value that was rebuilt wrongly. Each text is escaped, and cut at [`Example::BYTES`] bytes of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The call.
    pub call: String,
    /// What the kernel wrote; none where it wrote no such thing.
    pub audit: Option<String>,
    /// What was rebuilt.
    pub rebuilt: Option<String>,
}

impl Example {
    /// How much of a value is kept.
    pub const BYTES: usize = 160;
}

/// Everything that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Events compared.
    pub events: u64,
    /// By place; every known one is there from the beginning.
    pub fields: BTreeMap<Place, Tally>,
}

impl Default for Table {
    fn default() -> Self {
        let mut fields: BTreeMap<Place, Tally> = BTreeMap::new();
        for (record_type, names) in RECORDS {
            fields.entry(record(record_type)).or_default();
            for name in names.iter().chain([&OTHER]) {
                let known = record_type.name().unwrap_or(OTHER);
                fields.entry((known, name)).or_default();
            }
        }
        for place in [(OTHER, RECORD), (OTHER, OTHER), order()] {
            fields.entry(place).or_default();
        }
        Self { events: 0, fields }
    }
}

impl Table {
    /// All fields together.
    pub fn sum(&self) -> Tally {
        self.fields
            .values()
            .fold(Tally::default(), |sum, tally| Tally {
                identical: sum.identical + tally.identical,
                unknown: sum.unknown + tally.unknown,
                wrong: sum.wrong + tally.wrong,
                example: None,
            })
    }
}
