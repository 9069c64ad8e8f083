//! The event socket's reader's end of its queue to the core.
//!
//! Owns what is known of the queue without looking into it: the bytes that wait in it, what it had no room for, and up to when the core
//! has taken in all that was read. Never waits.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::clock::KtimeNs;
use crate::pipeline::packet::Packet;

/// What the reader and the core share of the queue between them.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    /// Records that found the queue full.
    pub(super) queue_full: AtomicU64,
    /// Bytes waiting for the core, which takes off what it has taken in.
    pub(super) queued_bytes: AtomicU64,
    /// When the reader last found nothing more to read, and had sent on all that had been there.
    drained_at: AtomicU64,
}

impl Inlet {
    /// Sends a packet on, where it finds room: in an empty queue whatever its size, else up to `limit` bytes in all packets together.
    pub(super) fn hand_on(&self, packet: Packet, core: &mpsc::Sender<Packet>, limit: u64) {
        let items = packet.len() as u64;
        let bytes = packet.n_bytes() as u64;
        let waiting = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = waiting == 0 || waiting + bytes <= limit;
        if !room || core.try_send(packet).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.queue_full.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Nothing more was there to read at `at`. What was read before has been handed on, and so counts as queued.
    pub(super) fn drained(&self, at: KtimeNs) {
        self.drained_at.store(at.0, Ordering::Release);
    }

    /// Up to when everything that could be read has been taken in by the core; none where something is on its way to it, or
    /// nobody reads.
    pub(super) fn taken_in(&self) -> Option<KtimeNs> {
        // In this order: what was read before that time is counted as queued by now, or has been taken in.
        let drained = KtimeNs(self.drained_at.load(Ordering::Acquire));
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        (queued == 0 && drained > KtimeNs(0)).then_some(drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(items: u16) -> Packet {
        let mut packet = Packet::default();
        for item in 0..items {
            packet.push(item, KtimeNs(1), &[0; 100]);
        }
        packet
    }

    fn queued(inlet: &Inlet) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&inlet.queued_bytes), read(&inlet.queue_full))
    }

    #[test]
    fn all_is_taken_in_once_the_reader_found_nothing_and_the_core_has_what_it_sent() {
        let inlet = Inlet::default();
        let (core, mut packets) = mpsc::channel(1);
        assert_eq!(inlet.taken_in(), None, "nobody has read yet");
        inlet.hand_on(packet(1), &core, u64::MAX);
        inlet.drained(KtimeNs(7));
        assert_eq!(inlet.taken_in(), None);
        let taken = packets.try_recv().unwrap().n_bytes() as u64;
        inlet.queued_bytes.fetch_sub(taken, Ordering::Relaxed);
        assert_eq!(inlet.taken_in(), Some(KtimeNs(7)));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_waits_nowhere() {
        let inlet = Inlet::default();
        let (core, _packets) = mpsc::channel(2);
        let (large, small) = (packet(8).n_bytes() as u64, packet(1).n_bytes() as u64);
        // Larger than the limit, but the queue is empty.
        inlet.hand_on(packet(8), &core, 1);
        assert_eq!(queued(&inlet), (large, 0));
        inlet.hand_on(packet(3), &core, large);
        assert_eq!(queued(&inlet), (large, 3));
        inlet.hand_on(packet(1), &core, large + small);
        assert_eq!(queued(&inlet), (large + small, 3));
        // So many packets.
        inlet.hand_on(packet(2), &core, u64::MAX);
        assert_eq!(queued(&inlet), (large + small, 5));
    }
}
