//! One audit message and the numbers that identify it.
//!
//! Owns the domain types of a record. Bodies are bytes as the kernel wrote them; nothing here decodes
//! text beyond the stamp.

use crate::clock::TimeMs;
use crate::event::Cause;

/// The kernel's 32-bit event serial. It starts at 1 at boot and wraps (kernel/audit.c `audit_serial`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial(pub u32);

impl Serial {
    /// How far this serial is ahead of `other`, negative when behind; right across the wrap as long as the
    /// two are less than 2³¹ apart.
    pub fn ahead_of(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }
}

/// What all records of one event share: `audit(sec.ms:serial)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The event's time; for a system call the coarse clock at its entry.
    pub time: TimeMs,
    /// The event's serial.
    pub serial: Serial,
}

/// A record type number (`AUDIT_*` of include/uapi/linux/audit.h and of libaudit's tables).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

/// How a record came to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    /// By the audit stream: our socket, or a log.
    #[default]
    Stream,
    /// The stream lost it for this cause. Its text was copied behind the kernel's queue.
    Mirror(Cause),
}

/// One audit message: a type, a stamp, a body. It borrows from what it was read from, or from the
/// [`Records`](crate::audit::event::Records) that keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The type, from the netlink header or from `type=` of a log line.
    pub record_type: RecordType,
    /// Time and serial.
    pub stamp: Stamp,
    /// `node=` of a log line; records from netlink have none.
    pub node: Option<&'a [u8]>,
    /// The text after `audit(…): `, as the kernel wrote it, without a trailing newline. In an enriched log the
    /// part after the 0x1d separator is not in here but in `enrichment`.
    pub body: &'a [u8],
    /// What an enriched log adds behind 0x1d (`ARCH=x86_64 SYSCALL=openat AUID="root" …`).
    pub enrichment: Option<&'a [u8]>,
    /// How it came.
    pub provenance: Provenance,
}
