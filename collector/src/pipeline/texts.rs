//! Reads the ring with the texts of records.
//!
//! Owns the consumer's end. The core reads it itself, right before it takes in what came by the socket: what the kernel
//! lost before it sent the rest of an event is then there before the rest. The ring is the queue; where the core is too slow for
//! it, the programs count what they cannot send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::KtimeNs;
use crate::core::Core;
use crate::probe::ring::Ring;
use crate::probe::texts;

/// Texts taken at a time.
const BATCH: usize = 256;

/// What the reader counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Texts read.
    pub(super) read: AtomicU64,
    /// Bytes of the ring that these took.
    pub(super) read_bytes: AtomicU64,
    /// Texts that could not be decoded.
    pub(super) undecodable: AtomicU64,
}

/// The ring, where there is one.
pub(super) struct Texts {
    ring: Option<Ring>,
    counts: Arc<Counts>,
}

impl Texts {
    pub(super) fn new(ring: Option<Ring>, counts: Arc<Counts>) -> Self {
        Self { ring, counts }
    }

    /// Hands the core all that has been sent.
    pub(super) fn hand_over(&mut self, core: &mut Core) {
        let Some(ring) = &mut self.ring else { return };
        loop {
            let now = KtimeNs::now();
            let read = ring.drain(BATCH, |sample| match texts::decode(sample) {
                Ok(text) => core.text(&text, now),
                Err(error) => {
                    if self.counts.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(%error, "the text of a record cannot be decoded; it is counted and left out");
                    }
                }
            });
            self.counts.read.store(ring.read(), Ordering::Relaxed);
            self.counts
                .read_bytes
                .store(ring.read_bytes(), Ordering::Relaxed);
            if read < BATCH {
                return;
            }
        }
    }
}
