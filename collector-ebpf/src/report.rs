//! The kernel's own decision to report a call, as the hooks on the audit code see it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What became of a call that the kernel decided to report.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Report {
    /// The seconds of the stamp: `CLOCK_REALTIME_COARSE` at the call's entry.
    pub stamp_sec: u64,
    /// The stamp's nanoseconds.
    pub stamp_nsec: u32,
    /// The serial; 0 where the kernel refused the event before it drew one.
    pub serial: u32,
    /// How many of the event's records the kernel gave up while it wrote the event, by [`LossReason`].
    pub lost: [u16; LossReason::COUNT],
    /// The [`LossReason`] of the first of them plus one; 0 where there was none.
    pub first_lost: u8,
    /// 1 where the serial had been drawn before the kernel wrote the event: a record of another part of the kernel, or of an
    /// io_uring operation inside the call, came first.
    pub preceded: u8,
    /// Zero.
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<Report>() == 32);

/// Why the kernel gave up a record: the messages that kernel/audit.c hands to `audit_log_lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LossReason {
    /// `backlog limit exceeded`
    BacklogLimit,
    /// `rate limit exceeded`
    RateLimit,
    /// `out of memory in …`
    OutOfMemory,
    /// `kauditd retry queue overflow`
    RetryOverflow,
    /// `kauditd hold queue overflow`
    HoldOverflow,
    /// A message that no kernel known so far has.
    Other,
}

impl LossReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::BacklogLimit,
        Self::RateLimit,
        Self::OutOfMemory,
        Self::RetryOverflow,
        Self::HoldOverflow,
        Self::Other,
    ];

    /// The reason that a message gives, by its first sixteen bytes; every message is longer than that.
    #[inline(always)]
    pub fn of_message(message: [u64; 2]) -> Self {
        const fn word(text: [u8; 8]) -> u64 {
            u64::from_le_bytes(text)
        }
        match message[0] {
            first if first == word(*b"backlog ") => Self::BacklogLimit,
            first if first == word(*b"rate lim") => Self::RateLimit,
            first if first == word(*b"out of m") => Self::OutOfMemory,
            first if first == word(*b"kauditd ") => match message[1] {
                second if second == word(*b"retry qu") => Self::RetryOverflow,
                second if second == word(*b"hold que") => Self::HoldOverflow,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// One value of the map `NOTES`: what the hooks know of the event that a task is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Note {
    /// [`InFlight::entry_ns`](crate::InFlight::entry_ns) of the call that the event is of; 0 where none is in flight, or
    /// not known yet.
    pub entry_ns: u64,
    /// What is known so far.
    pub report: Report,
    /// Bytes of `key` in use; 0 where the event is written with `key=(null)`.
    pub key_length: u64,
    /// `filterkey`: the keys of the rule behind the event, each but the first behind a 0x01.
    pub key: [u8; KEY_BYTES],
}

impl Note {
    /// One of which nothing is known yet.
    pub const EMPTY: Self = Self {
        entry_ns: 0,
        report: Report {
            stamp_sec: 0,
            stamp_nsec: 0,
            serial: 0,
            lost: [0; LossReason::COUNT],
            first_lost: 0,
            preceded: 0,
            padding: [0; 2],
        },
        key_length: 0,
        key: [0; KEY_BYTES],
    };
}

/// Room for the longest key (`AUDIT_MAX_KEY_LEN` of include/uapi/linux/audit.h) and a NUL.
pub const KEY_BYTES: usize = 264;

const _: () = assert!(size_of::<Note>() == 48 + KEY_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_kernel_is_told_apart() {
        for (message, reason) in [
            ("backlog limit exceeded", LossReason::BacklogLimit),
            ("rate limit exceeded", LossReason::RateLimit),
            ("out of memory in audit_log_start", LossReason::OutOfMemory),
            ("out of memory in TTY auditing", LossReason::OutOfMemory),
            ("kauditd retry queue overflow", LossReason::RetryOverflow),
            ("kauditd hold queue overflow", LossReason::HoldOverflow),
            ("kauditd lost its queue", LossReason::Other),
            ("something of the future", LossReason::Other),
        ] {
            let bytes: [u8; 16] = message.as_bytes()[..16].try_into().unwrap();
            let words = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()));
            assert_eq!(LossReason::of_message(words), reason, "{message}");
        }
        for (number, reason) in LossReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
