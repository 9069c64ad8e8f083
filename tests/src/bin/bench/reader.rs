//! A daemon that reads every record and throws it away: what it costs the callers no collector that keeps everything can fall below.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use audit_collector_tests::audit_state::KEY;
use collector::audit::record::RecordType;
use collector::audit::socket::{Batch, EventSocket, Received};
use memchr::memmem;
use nix::time::{ClockId, clock_gettime};

/// As large as the collector's, so that the kernel never waits.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How long records gather, as at the collector.
const GATHER: Duration = Duration::from_millis(20);

/// The thread that reads, as the daemon.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    /// Events of which the record of the call has come.
    events: AtomicU64,
    /// Processor time the thread has used, in ns.
    used: AtomicU64,
    stop: AtomicBool,
}

impl Reader {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut socket = EventSocket::unicast(Some(RECEIVE_BUFFER))?;
        socket.claim()?;
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let read = read(&mut socket, &shared);
                let released = socket.release();
                read.and(released.map_err(Into::into))
            }
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Events that have come so far.
    pub(crate) fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Relaxed)
    }

    /// Processor seconds used so far.
    pub(crate) fn processor_seconds(&self) -> f64 {
        self.shared.used.load(Ordering::Relaxed) as f64 / 1e9
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.end().context("nobody reads")?
    }

    fn end(&mut self) -> Option<anyhow::Result<()>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|_| bail!("the reader panicked")))
    }
}

/// Where the measurement failed, the audit pid must be given back all the same.
impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

fn read(socket: &mut EventSocket, shared: &Shared) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    let key = memmem::Finder::new(KEY);
    while !shared.stop.load(Ordering::Relaxed) {
        if !socket.wait(Duration::from_millis(50))? {
            continue;
        }
        thread::sleep(GATHER);
        while let Received::Datagrams(_) = socket.receive(&mut batch, Batch::MAX_DATAGRAMS)? {
            let ours = batch.iter().filter(|datagram| {
                RecordType(datagram.message_type) == RecordType::SYSCALL
                    && key.find(datagram.payload).is_some()
            });
            shared
                .events
                .fetch_add(ours.count() as u64, Ordering::Relaxed);
        }
        let used = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
        shared.used.store(used.as_nanos() as u64, Ordering::Relaxed);
    }
    Ok(())
}
