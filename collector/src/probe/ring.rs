//! Reading the ring buffer.
//!
//! Owns the consumer's side of the ring; samples stay bytes. The programs wake the reader only once per many samples,
//! so besides waiting for the descriptor it has to look by itself.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};

/// What the kernel puts before each sample (`BPF_RINGBUF_HDR_SZ`).
const HEADER_BYTES: u64 = 8;

/// The reading end of the ring.
pub struct Ring {
    ring: RingBuf<MapData>,
    size: u64,
    read: u64,
    read_bytes: u64,
}

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>, size: u32) -> Self {
        Self {
            ring,
            size: u64::from(size),
            read: 0,
            read_bytes: 0,
        }
    }

    /// Hands on at most `max` samples that are in the ring now, and says how many it were. The bytes of a sample
    /// live only as long as the call: its place in the ring is free again afterwards.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < max {
            let Some(sample) = self.ring.next() else {
                break;
            };
            self.read_bytes += (sample.len() as u64 + HEADER_BYTES).next_multiple_of(8);
            each(&sample);
            count += 1;
        }
        self.read += count as u64;
        count
    }

    /// Samples read so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Size of the ring in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the ring they took. What [`Counters::submitted_bytes`](super::load::Counters::submitted_bytes) is above
    /// it has not been read yet.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
