//! The text of a record behind the kernel's audit queue, on its way through a ring of its own.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most bytes of one text that are sent. The kernel's longest are EXECVE records of 7,500 bytes of arguments and
/// messages from user space of 8,970 bytes; only what a terminal is typed (USER_TTY) has no bound.
pub const TEXT_BYTES: usize = 16_384;

/// What stands before a text in the ring.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TextHeader {
    /// Bytes of this header and of the text behind it.
    pub length: u32,
    /// Bytes of this header.
    pub fixed: u16,
    /// [`TextHeader::VERSION`].
    pub version: u8,
    /// [`TextReason`] as a number.
    pub reason: u8,
    /// `CLOCK_MONOTONIC` when it was sent.
    pub taken_ns: u64,
    /// Bytes of the text in the kernel: more than follow where it is longer than [`TEXT_BYTES`].
    pub whole: u32,
    /// The record's type.
    pub record_type: u16,
    /// Zero.
    pub padding: u16,
}

const _: () = assert!(size_of::<TextHeader>() == 24);

impl TextHeader {
    /// Of this layout.
    pub const VERSION: u8 = 1;
}

/// Why a text is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum TextReason {
    /// The record left the kernel's queue, as every record does.
    Queued,
    /// It was given up because the queue of what is to be sent again was full.
    RetryOverflow,
    /// It was given up because the queue of what is kept for a daemon was full.
    HoldOverflow,
    /// It was given up because nothing is kept for a daemon on a kernel that was booted without `audit=1`; the kernel does
    /// not count these.
    NotHeld,
    /// There was no room for it in the collector's multicast socket; the kernel does not count these as lost.
    SocketOverrun,
    /// It is not lost, but will be sent behind the others that were to be sent again after it.
    PutBehind,
}

impl TextReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::RetryOverflow,
        Self::HoldOverflow,
        Self::NotHeld,
        Self::SocketOverrun,
        Self::PutBehind,
    ];
}

/// One [`TextReason`]'s counts on one CPU since the programs were loaded.
///
/// Where texts are sent, `seen = submitted + ring_full + unreadable` holds whenever no program is running.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TextCounters {
    /// Records that this happened to; also where no texts are sent.
    pub seen: u64,
    /// Texts in the ring.
    pub submitted: u64,
    /// Bytes those take in the ring, headers and alignment included.
    pub submitted_bytes: u64,
    /// Texts the ring had no room for.
    pub ring_full: u64,
    /// Texts that could not be read, or of which it is not known where they are.
    pub unreadable: u64,
}

const _: () = assert!(size_of::<TextCounters>() == 40);

impl TextCounters {
    /// The sum over reasons and CPUs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            submitted: self.submitted + other.submitted,
            submitted_bytes: self.submitted_bytes + other.submitted_bytes,
            ring_full: self.ring_full + other.ring_full,
            unreadable: self.unreadable + other.unreadable,
        }
    }
}

/// The record that a task has in hand: one element for kauditd, one for whoever else breaks its connection.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct InHand {
    /// The task's address.
    pub task: u64,
    /// The address of the `struct sk_buff`.
    pub skb: u64,
}

const _: () = assert!(size_of::<InHand>() == 16);

/// Which texts are sent, in the global `TEXT_MIRROR`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TextMirror {
    /// None.
    Off,
    /// Those of records that the kernel is seen to lose.
    #[default]
    Lost,
    /// Every record's, and again where it is lost.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_their_numbers() {
        for (number, reason) in TextReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
