//! Files that hold datagrams as they were received, with their arrival times.
//!
//! Owns the file format, a writer that never blocks the reader of the socket, and a reader that trusts nothing.
//!
//! # Format, version 1
//! All numbers are little-endian, but the datagrams keep the byte order of their machine, which the header names.
//!
//! | header | bytes |
//! |---|---|
//! | magic `AUDITCAP` | 8 |
//! | version | 2 |
//! | length of the whole header | 2 |
//! | byte order of the datagrams: 1 little, 2 big | 1 |
//! | delivery: 1 unicast, 2 multicast | 1 |
//! | length of the kernel release | 2 |
//! | `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, ns, signed | 8 |
//! | `CLOCK_MONOTONIC` at the beginning, ns | 8 |
//! | kernel release (`uname -r`) | as said |
//!
//! | frame | bytes |
//! |---|---|
//! | kind: 1 datagram, 2 clock; readers pass over others | 1 |
//! | zero | 3 |
//! | length of what follows the time | 4 |
//! | `CLOCK_MONOTONIC`, ns | 8 |
//! | datagram: its length as sent (4), then it, netlink header included, as far as it was read | as said |
//! | clock: the new `CLOCK_REALTIME` minus `CLOCK_MONOTONIC`, ns, signed | 8 |
//!
//! Bounds: [`WRITE_QUEUE`] chunks of [`CHUNK_BYTES`] wait for the disk, and what comes while they are all full is
//! dropped and counted. A frame is at most [`FRAME_LIMIT`] bytes.

mod reader;
mod writer;

pub use reader::{CaptureReadError, CaptureReader, CapturedDatagram, Frame};
pub use writer::{CaptureCounts, CaptureError, CaptureWriter};

use crate::audit::socket::Delivery;
use crate::clock::{KtimeNs, RealtimeOffset};

/// How a capture begins.
pub const MAGIC: [u8; 8] = *b"AUDITCAP";

/// The version written.
pub const VERSION: u16 = 1;

/// Most bytes of a frame after its time.
pub const FRAME_LIMIT: usize = 1 << 20;

/// Datagrams are handed to the disk in pieces of about this size.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Most chunks that wait for the disk.
pub const WRITE_QUEUE: usize = 128;

const FIXED_HEADER: usize = 32;
const FRAME_HEADER: usize = 16;
const KIND_DATAGRAM: u8 = 1;
const KIND_CLOCK: u8 = 2;

const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { 1 } else { 2 };

/// What a capture says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the records reached the socket; none where the file does not tell.
    pub delivery: Option<Delivery>,
    /// `uname -r` of the machine.
    pub kernel_release: String,
    /// The wall clock at the beginning.
    pub offset: RealtimeOffset,
    /// When the capture began.
    pub started: KtimeNs,
}

/// Whether a file that begins with `start` is a capture.
pub fn is_capture(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}
