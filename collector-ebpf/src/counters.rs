//! The counters, by program and CPU.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One program's counts on one CPU since the programs were loaded.
///
/// `attempted = submitted + ring_full + in_flight_full` holds whenever no program is running.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counters {
    /// Samples the programs meant to send; also the source of `Sample::sequence`.
    pub attempted: u64,
    /// Samples in the ring.
    pub submitted: u64,
    /// Bytes those samples take in the ring, headers and alignment included.
    pub submitted_bytes: u64,
    /// Samples the ring had no room for.
    pub ring_full: u64,
    /// Calls that could not be remembered between entry and exit.
    pub in_flight_full: u64,
    /// Calls whose sample is without what the audit context held for the records, for want of room in `KEPT`.
    pub kept_full: u64,
    /// Strings and addresses that could not be read.
    pub unreadable: u64,
    /// Exits whose entry no program saw: forked children, calls begun before attaching, calls skipped by seccomp or
    /// ptrace. Not an error.
    pub without_entry: u64,
    /// Bytes put into the ring since the reader was last woken from here.
    pub since_wakeup: u64,
}

const _: () = assert!(size_of::<Counters>() == 72);

impl Counters {
    /// The sum over programs and CPUs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            attempted: self.attempted + other.attempted,
            submitted: self.submitted + other.submitted,
            submitted_bytes: self.submitted_bytes + other.submitted_bytes,
            ring_full: self.ring_full + other.ring_full,
            in_flight_full: self.in_flight_full + other.in_flight_full,
            kept_full: self.kept_full + other.kept_full,
            unreadable: self.unreadable + other.unreadable,
            without_entry: self.without_entry + other.without_entry,
            since_wakeup: self.since_wakeup + other.since_wakeup,
        }
    }
}
