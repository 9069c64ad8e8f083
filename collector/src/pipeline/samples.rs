//! Reads the ring with the samples of the BPF programs.
//!
//! Owns the consumer's end. The core reads it itself, and decodes a sample where it lies: the ring is the queue, and what the core is too
//! slow for stays there until the programs have no room, which they count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};

use crate::clock::KtimeNs;
use crate::core::Core;
use crate::pipeline::sys;
use crate::probe::decode;
use crate::probe::load::SENDERS;
use crate::probe::ring::Ring;

/// Samples taken at a time, so that neither records nor what is due wait long meanwhile.
const BATCH: usize = 256;

/// What the reader counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Samples read, by the program that sent them.
    pub(super) read: [AtomicU64; SENDERS.len()],
    /// Samples that could not be decoded.
    pub(super) undecodable: AtomicU64,
    /// Bytes of the ring that all took.
    pub(super) read_bytes: AtomicU64,
}

/// The ring, where there is one, watched by the runtime it was made in.
pub(super) struct Samples {
    ring: Option<AsyncFd<Ring>>,
    counts: Arc<Counts>,
}

impl Samples {
    /// The ring's end, and the runtime for the core to run in: one of its own, on one thread, so that whoever wakes the core wakes
    /// nobody else.
    ///
    /// # Errors
    /// What the system reports where it has no descriptors for that.
    pub(super) fn of_core(
        ring: Option<Ring>,
        counts: Arc<Counts>,
    ) -> std::io::Result<(Self, Runtime)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let ring = ring.map(sys::watch_ring).transpose();
        drop(entered);
        match ring {
            Ok(ring) => Ok((Self { ring, counts }, runtime)),
            Err(error) => {
                // Only so may it end inside another runtime.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Waits until the programs say that much has come: they wake the reader once per many samples only, so that whoever waits has to
    /// look by itself as well. For ever where there is no ring.
    pub(super) async fn gathered(&mut self) {
        match &mut self.ring {
            Some(ring) => match ring.readable_mut().await {
                Ok(mut ready) => ready.clear_ready(),
                // The runtime ends.
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Hands the core some of what has been sent, and tells it where that was all; whether there may be more.
    pub(super) fn hand_over(&mut self, core: &mut Core) -> bool {
        let Some(ring) = &mut self.ring else {
            return false;
        };
        let ring = ring.get_mut();
        let counts = &self.counts;
        let now = KtimeNs::now();
        let read = ring.drain(BATCH, |sample| {
            counts.read[decode::program_of(sample)].fetch_add(1, Ordering::Relaxed);
            match decode::decode(sample) {
                Ok(observation) => core.observation(observation, now),
                Err(error) => {
                    if counts.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(%error, "a sample of the eBPF programs cannot be decoded; it is counted and left out");
                    }
                }
            }
        });
        counts
            .read_bytes
            .store(ring.read_bytes(), Ordering::Relaxed);
        if read < BATCH {
            core.correlator.witness_passed(now);
        }
        read == BATCH
    }
}
