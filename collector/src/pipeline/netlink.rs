//! Reads the event socket.
//!
//! Owns the socket. Never waits for what is behind it: a batch that finds the queue full is dropped and counted, as a
//! reader that stops reading would make the kernel drop, or the host wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::audit::capture::CaptureWriter;
use crate::audit::message::Kind;
use crate::audit::socket::{Batch, EventSocket, ReceiveError, Received};
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::correlate::matcher::Correlator;
use crate::pipeline::inlet::Inlet;
use crate::pipeline::packet::Packet;

/// Packets that may wait for the core; a packet is at most one batch of the socket, and of one record where the reader keeps up
/// with the kernel while the core does not, so that what bounds the queue is its bytes.
pub(super) const QUEUE_PACKETS: usize = 16_384;

/// How long reading may go on after the stop.
const LAST_READ: Duration = Duration::from_millis(300);
/// How long records may gather once the first has come. Meanwhile the kernel, which sends each record by itself, has nobody
/// to wake: a wake-up for each would cost those who make the calls, and the reader, more than the reading does.
const GATHER: Duration = Duration::from_millis(20);
/// What of the receive buffer may fill up in a millisecond: over twice what kauditd was seen to send, some 670 records of openat (BENCHMARKS.md, storms),
/// taking each for 1 KiB of it, an estimate. Where more comes, kauditd keeps it, or a multicast socket loses some, which is counted and given back.
const BYTES_PER_MS: usize = 3 << 19;
/// How often a quiet socket is looked at: so often it is known to be empty, and a capture of it handed to the disk.
const LOOK: Duration = Duration::from_millis(100);

/// What the reader counts, shared with those who report it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Times ENOBUFS was reported.
    pub(super) overruns: AtomicU64,
    /// Datagrams longer than the read buffer.
    pub(super) truncated: AtomicU64,
    /// Times another process wanted the audit pid.
    pub(super) replace_requests: AtomicU64,
    pub(super) inlet: Inlet,
}

/// The queue to the core.
pub(super) struct Queue {
    pub(super) core: mpsc::Sender<Packet>,
    /// Bytes that may wait in all packets together; a packet finds room in an empty queue whatever its size.
    pub(super) bytes: u64,
    pub(super) counts: Arc<Counts>,
}

/// Reads until `stop` turns true, then what is left, then ends. Takes a thread of its own.
pub(super) fn read(
    mut socket: EventSocket,
    mut capture: Option<CaptureWriter>,
    queue: &Queue,
    stop: &watch::Receiver<bool>,
) -> Result<(), ReceiveError> {
    let mut batch = Batch::new();
    let gather = gathering(socket.receive_buffer().bytes);
    let mut tended = KtimeNs::now();
    // Whoever is to stop it being gone says the same.
    while !*stop.borrow() && stop.has_changed().is_ok() {
        if socket.wait(LOOK)? {
            thread::sleep(gather);
        }
        let mut more = true;
        while more && !*stop.borrow() {
            more = receive(&mut socket, &mut batch, capture.as_mut(), queue)?;
            let now = KtimeNs::now();
            if now.since(tended) >= LOOK {
                tended = now;
                capture.iter_mut().for_each(tend_capture);
            }
        }
    }
    // Beside a busy daemon records never end.
    let end = KtimeNs::now().plus(LAST_READ);
    while KtimeNs::now() < end && receive(&mut socket, &mut batch, capture.as_mut(), queue)? {}
    capture.iter_mut().for_each(tend_capture);
    Ok(())
}

/// How long records may gather in a receive buffer of so many bytes.
fn gathering(buffer: usize) -> Duration {
    GATHER.min(Duration::from_millis((buffer / BYTES_PER_MS) as u64))
}

/// Lets the file be read while the capture goes on, with the steps of the wall clock, and tells once why it ended.
fn tend_capture(capture: &mut CaptureWriter) {
    follow_clock(capture, KtimeNs::now(), RealtimeOffset::sample());
    capture.flush();
    if let Some(error) = capture.take_error() {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "the capture has ended; collecting goes on");
    }
}

fn follow_clock(capture: &mut CaptureWriter, now: KtimeNs, offset: RealtimeOffset) {
    if offset.0.abs_diff(capture.offset().0) > Correlator::STEP_NS {
        capture.clock_stepped(now, offset);
    }
}

/// Reads one batch; false where nothing waits.
fn receive(
    socket: &mut EventSocket,
    batch: &mut Batch,
    capture: Option<&mut CaptureWriter>,
    queue: &Queue,
) -> Result<bool, ReceiveError> {
    let asked = KtimeNs::now();
    match socket.receive(batch, Batch::MAX_DATAGRAMS)? {
        Received::Empty => {
            queue.counts.inlet.drained(asked);
            return Ok(false);
        }
        Received::Overrun => {
            queue.counts.overruns.fetch_add(1, Ordering::Relaxed);
        }
        Received::Datagrams(_) => {
            if let Some(capture) = capture {
                batch.iter().for_each(|datagram| capture.write(&datagram));
            }
            queue.hand_on(batch);
        }
    }
    Ok(true)
}

impl Queue {
    fn hand_on(&self, batch: &Batch) {
        let counts = &self.counts;
        let mut packet = Packet::with_capacity(batch.len(), batch.n_bytes());
        for datagram in batch.iter() {
            match datagram.kind() {
                Kind::Record => {
                    counts
                        .truncated
                        .fetch_add(u64::from(datagram.truncated()), Ordering::Relaxed);
                    packet.push(datagram.message_type, datagram.arrived, datagram.payload);
                }
                // The kernel asks the same when we give the pid back ourselves.
                Kind::Replace { pid } if pid != Some(std::process::id()) => {
                    counts.replace_requests.fetch_add(1, Ordering::Relaxed);
                }
                Kind::Replace { .. }
                | Kind::Acknowledgement { .. }
                | Kind::Done
                | Kind::Reply
                | Kind::Control => {}
            }
        }
        if !packet.is_empty() {
            counts.inlet.hand_on(packet, &self.core, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::capture::{CaptureReader, Frame};
    use crate::audit::socket::Delivery;

    #[test]
    fn records_gather_only_where_they_have_room() {
        let ms = |bytes| gathering(bytes).as_millis();
        assert_eq!(
            [1 << 20, 4 << 20, 16 << 20, 32 << 20, 1 << 30].map(ms),
            [0, 2, 10, 20, 20]
        );
    }

    #[test]
    fn a_step_of_the_wall_clock_is_captured_once_and_what_is_no_step_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture");
        let mut capture = CaptureWriter::create(&path, Delivery::Unicast).unwrap();
        let start = capture.offset();
        let step = Correlator::STEP_NS as i64;
        for (at, by) in [
            (1, step),
            (2, -step),
            (3, -2 * step),
            (4, -3 * step),
            (5, 0),
        ] {
            follow_clock(&mut capture, KtimeNs(at), RealtimeOffset(start.0 + by));
        }
        capture.finish().unwrap();
        let file = std::fs::read(&path).unwrap();
        let reader = CaptureReader::new(&file[..]).unwrap();
        assert_eq!(reader.header().offset, start);
        let mut told = Vec::new();
        for frame in reader {
            let Frame::Clock { at, offset } = frame.unwrap() else {
                panic!("a datagram that nobody wrote");
            };
            told.push((at.0, offset.0 - start.0));
        }
        assert_eq!(told, [(3, -2 * step), (5, 0)]);
    }
}
