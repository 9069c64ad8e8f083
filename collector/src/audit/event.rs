//! All records that share a stamp, as the reassembler hands them on.

mod records;

pub use records::{Iter, Records};

use crate::audit::record::Stamp;
use crate::clock::KtimeNs;
use crate::event::Cause;

/// Why the reassembler handed an event on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Completion {
    /// Its end-of-event record came, or what ends an event in a log without such records.
    Eoe,
    /// It is of a type that stands alone and has no end-of-event record.
    Standalone,
    /// No end-of-event record came within the timeout.
    Timeout,
    /// A bound was hit: too much was in flight and this was the oldest, or this one grew too large.
    Evicted,
    /// The input ended.
    Flushed,
    /// Its event had already been handed on when these records came.
    Late,
}

/// An event of the audit stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The stamp all its records share.
    pub stamp: Stamp,
    /// The records in the order of arrival, without the end-of-event record. Empty where that was the only one to come.
    pub records: Records,
    /// Why it was handed on.
    pub completion: Completion,
    /// Why the audit stream lost a record of it, the end-of-event record included, that was copied in the kernel and is in here
    /// nevertheless; of several causes the first to come. None where all came by the stream.
    pub mirrored: Option<Cause>,
    /// When its first record was read.
    pub first_read: KtimeNs,
    /// When it was handed on.
    pub completed: KtimeNs,
}
