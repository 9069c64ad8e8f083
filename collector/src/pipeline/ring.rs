//! Reads the ring buffer of the BPF programs.
//!
//! Owns the consumer's end. The ring itself is the queue to the core, as much memory as was asked for: what the core is too
//! slow for is left there, and the programs count what they have no room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::clock::KtimeNs;
use crate::pipeline::inlet::Inlet;
use crate::pipeline::packet::Packet;
use crate::pipeline::sys;
use crate::probe::decode;
use crate::probe::load::SENDERS;
use crate::probe::ring::{POLL_INTERVAL, Ring};

/// Packets that may wait for the core.
pub(super) const QUEUE_PACKETS: usize = 2_048;
/// Bytes that may wait for the core in all packets together: enough that it never has to wait for the reader.
const QUEUE_BYTES: u64 = 4 << 20;
/// How long the reader leaves the ring alone where that much waits.
const PAUSE: Duration = Duration::from_millis(2);
/// Samples per packet.
const PACKET_SAMPLES: usize = 256;

/// What the reader counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Samples read, by the program that sent them.
    pub(super) read: [AtomicU64; SENDERS.len()],
    /// Samples the core could not decode.
    pub(super) undecodable: AtomicU64,
    /// Bytes of the ring that these took.
    pub(super) read_bytes: AtomicU64,
    pub(super) inlet: Inlet,
}

/// Reads until `stop` turns true, then what is left, then ends.
pub(super) async fn read(
    ring: Ring,
    core: mpsc::Sender<Packet>,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut ring = sys::watch_ring(ring)?;
    loop {
        let stopping = *stop.borrow();
        loop {
            while is_busy(&core, &counts) {
                tokio::time::sleep(PAUSE).await;
            }
            if drain(ring.get_mut(), &core, &counts) < PACKET_SAMPLES {
                break;
            }
            tokio::task::yield_now().await;
        }
        if stopping {
            return Ok(());
        }
        tokio::select! {
            ready = ring.readable_mut() => ready?.clear_ready(),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Whether the core has enough to do.
fn is_busy(core: &mpsc::Sender<Packet>, counts: &Counts) -> bool {
    let full =
        counts.inlet.queued_bytes.load(Ordering::Relaxed) > QUEUE_BYTES || core.capacity() == 0;
    full && !core.is_closed()
}

/// Takes at most one packet's worth; returns how many samples that was.
fn drain(ring: &mut Ring, core: &mpsc::Sender<Packet>, counts: &Counts) -> usize {
    let now = KtimeNs::now();
    let mut packet = Packet::default();
    ring.drain(PACKET_SAMPLES, |sample| {
        counts.read[decode::program_of(sample)].fetch_add(1, Ordering::Relaxed);
        packet.push(0, now, sample);
    });
    let samples = packet.len();
    if samples > 0 {
        // It looked whether there is room before it read.
        counts.inlet.hand_on(packet, core, u64::MAX);
        counts
            .read_bytes
            .store(ring.read_bytes(), Ordering::Relaxed);
    }
    if samples < PACKET_SAMPLES {
        counts.inlet.drained(now);
    }
    samples
}
