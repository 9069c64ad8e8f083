//! Carries rendered lines to standard output or to a file, on a thread of its own behind a bounded queue.
//!
//! Owns the queue, the writing and the counts. Knows nothing of formats: an item is some whole lines that stay together.
//!
//! Bounds and policy: the queue holds at most `queue_bytes`; a batch that does not fit is dropped whole (drop-newest) and
//! counted, so that whoever submits never waits. A write that fails is tried again for ever, with the rest of the very
//! item it tore, so that no line is ever torn by another; meanwhile the queue fills up and then drops. When a sink that
//! dropped takes items again, [`SinkHandle::recovered`] says what was lost in between, for a loss line.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::account;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::config::Target;
use crate::event::{Cause, Loss, LossUnit};

/// Most bytes that one write is given.
const WRITE_BYTES: usize = 256 << 10;

/// The pause before a failed write is tried again: the first, and the longest; it doubles in between.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a sink could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output file.
    #[error("cannot open output file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot use standard output")]
    Stdout {
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread.
    #[error("cannot start the thread of sink {name}")]
    Thread {
        /// The sink.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What a sink is and what it may hold.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The `sink` label.
    pub name: String,
    /// Where lines go.
    pub target: Target,
    /// Most bytes that may wait.
    pub queue_bytes: usize,
}

/// Items on their way to a sink, rendered one behind the other.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each item ends in `bytes`.
    ends: Vec<usize>,
    oldest: Option<TimeMs>,
}

impl Batch {
    /// What of a batch there is room for in the next from the start: a quiet host's do not grow, and one line does not keep a storm's
    /// memory.
    const FIRST_ITEMS: usize = 64;
    const FIRST_BYTES: usize = 16 << 10;

    /// Takes what is in it, and begins the next.
    pub fn take(&mut self) -> Self {
        let next = Self {
            bytes: Vec::with_capacity(self.n_bytes().min(Self::FIRST_BYTES)),
            ends: Vec::with_capacity(self.len().min(Self::FIRST_ITEMS)),
            oldest: None,
        };
        std::mem::replace(self, next)
    }

    /// Adds one item: `render` appends its lines, each with its newline. `time` is the item's own.
    pub fn push(&mut self, time: TimeMs, render: impl FnOnce(&mut Vec<u8>)) {
        render(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn append(&mut self, other: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
        self.oldest = self.oldest.into_iter().chain(other.oldest).min();
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It waits for the sink.
    Queued,
    /// The queue was full: it is gone and counted.
    Dropped,
    /// The sink has stopped because nobody reads its output any more: it is gone and counted.
    Stopped,
}

/// How a sink ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The final counts; nothing is queued any more.
    pub counts: account::Sink,
    /// Items given up at the deadline.
    pub abandoned: u64,
}

/// The producer's end of a sink. Dropping it without [`SinkHandle::close`] lets the thread write what waits and end.
#[derive(Debug)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    name: String,
    /// Drops that no loss line has told of, by cause.
    untold: BTreeMap<Cause, Untold>,
}

#[derive(Clone, Copy, Debug)]
struct Untold {
    items: u64,
    first: TimeMs,
    last: TimeMs,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when something is queued, when the sink closes and when its thread ends.
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// The counts, but for those that [`Queue::snapshot`] fills in.
    counts: account::Sink,
    /// Items in `batches` and those the thread holds unwritten.
    queued: u64,
    /// Bytes of the same.
    queued_bytes: usize,
    /// Time of the oldest item the thread holds.
    writing_since: Option<TimeMs>,
    closing: bool,
    /// Nothing is written any more.
    stopped: bool,
    /// The thread is gone.
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn count_dropped(&mut self, reason: &'static str, n_items: u64) {
        *self.counts.dropped.entry(reason).or_default() += n_items;
    }

    /// Gives up everything that waits, and stops.
    fn abandon(&mut self, reason: &'static str) -> u64 {
        let abandoned = std::mem::take(&mut self.queued);
        self.count_dropped(reason, abandoned);
        self.batches.clear();
        self.queued_bytes = 0;
        self.writing_since = None;
        self.stopped = true;
        abandoned
    }

    fn snapshot(&self, capacity: usize) -> account::Sink {
        let waiting = self.batches.iter().filter_map(|batch| batch.oldest);
        account::Sink {
            queued: self.queued,
            queued_bytes: self.queued_bytes as u64,
            queue_capacity_bytes: capacity as u64,
            oldest_pending: waiting.chain(self.writing_since).min(),
            ..self.counts.clone()
        }
    }
}

/// Whether the target ends with a whole line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    Whole,
    Torn,
}

impl SinkHandle {
    /// Opens the target and starts the sink's thread.
    pub fn spawn(config: SinkConfig) -> Result<Self, SinkError> {
        let SinkConfig {
            name,
            target,
            queue_bytes,
        } = config;
        let (file, line) = match target {
            Target::Stdout => {
                // The descriptor itself: std's handle would buffer, and hide how much was written.
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|source| SinkError::Stdout { source })?;
                (File::from(stdout), LineState::Whole)
            }
            Target::File(path) => open(&path).map_err(|source| SinkError::Open { path, source })?,
        };
        Self::spawn_writer(name, queue_bytes, file, line)
    }

    fn spawn_writer(
        name: String,
        capacity: usize,
        writer: impl Device + Send + 'static,
        line: LineState,
    ) -> Result<Self, SinkError> {
        let queue = Queue {
            counts: account::Sink {
                up: true,
                ..account::Sink::default()
            },
            ..Queue::default()
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            capacity,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            name: name.clone(),
            writer,
            line,
        };
        std::thread::Builder::new()
            .name(format!("sink-{name}"))
            .spawn(move || writer.run())
            .map_err(|source| SinkError::Thread {
                name: name.clone(),
                source,
            })?;
        Ok(Self {
            shared,
            name,
            untold: BTreeMap::new(),
        })
    }

    /// The sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands a batch to the sink, without ever waiting for the target.
    pub fn submit(&mut self, batch: Batch) -> Submitted {
        let n_items = batch.len() as u64;
        if batch.n_bytes() == 0 {
            return Submitted::Queued;
        }
        let mut queue = self.shared.lock();
        queue.counts.handed_over += n_items;
        if queue.stopped {
            queue.count_dropped("write_error", n_items);
            return Submitted::Stopped;
        }
        if queue.queued_bytes.saturating_add(batch.n_bytes()) > self.shared.capacity {
            let (cause, reason) = if queue.counts.up {
                (Cause::QueueFull, "queue_full")
            } else {
                (Cause::SinkError, "write_error")
            };
            queue.count_dropped(reason, n_items);
            drop(queue);
            let time = batch.oldest.unwrap_or_default();
            let untold = self.untold.entry(cause).or_insert(Untold {
                items: 0,
                first: time,
                last: time,
            });
            untold.items += n_items;
            untold.first = untold.first.min(time);
            untold.last = untold.last.max(time);
            return Submitted::Dropped;
        }
        queue.queued += n_items;
        queue.queued_bytes += batch.n_bytes();
        queue.batches.push_back(batch);
        drop(queue);
        self.shared.changed.notify_all();
        Submitted::Queued
    }

    /// What was dropped, once the queue is at most half full again; each drop is told once. The caller renders these and
    /// submits them.
    pub fn recovered(&mut self, now: TimeMs) -> Vec<Loss> {
        if self.untold.is_empty() {
            return Vec::new();
        }
        let queue = self.shared.lock();
        if queue.stopped || queue.queued_bytes > self.shared.capacity / 2 {
            return Vec::new();
        }
        drop(queue);
        let loss = |(cause, untold): (Cause, Untold)| Loss {
            time: now,
            cause,
            count: untold.items,
            unit: LossUnit::Events,
            recovered: None,
            serials: None,
            between: (None, None),
            span: Some((untold.first, untold.last)),
        };
        std::mem::take(&mut self.untold)
            .into_iter()
            .map(loss)
            .collect()
    }

    /// The counts now. They add up: `handed_over = delivered + dropped + queued`.
    pub fn counts(&self) -> account::Sink {
        self.shared.lock().snapshot(self.shared.capacity)
    }

    /// Whether nobody reads the output any more (EPIPE).
    pub fn is_stopped(&self) -> bool {
        self.shared.lock().stopped
    }

    /// Writes what waits, for `deadline` at the longest; what waits then is given up and counted.
    pub fn close(self, deadline: Duration) -> Closed {
        let mut queue = self.shared.lock();
        queue.closing = true;
        self.shared.changed.notify_all();
        queue = self
            .shared
            .changed
            .wait_timeout_while(queue, deadline, |queue| !queue.ended)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let abandoned = queue.abandon("deadline");
        Closed {
            counts: queue.snapshot(self.shared.capacity),
            abandoned,
        }
    }
}

impl Drop for SinkHandle {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
    }
}

/// The thread's end of a sink.
struct Writer<W> {
    shared: Arc<Shared>,
    name: String,
    writer: W,
    line: LineState,
}

/// What a sink writes to.
trait Device: Write {
    /// Whether it is a file that holds nothing any more: somebody cut it to make room (logrotate's `copytruncate`).
    fn was_emptied(&self) -> bool {
        false
    }
}

impl Device for File {
    fn was_emptied(&self) -> bool {
        self.metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
    }
}

impl<W: Device> Writer<W> {
    fn run(mut self) {
        while let Some(batch) = self.take() {
            if !self.write(&batch) {
                break;
            }
        }
        let mut queue = self.shared.lock();
        queue.ended = true;
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits for batches and joins them up to the size of one write; none at the end.
    fn take(&self) -> Option<Batch> {
        let mut queue = self.shared.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(mut batch) = queue.batches.pop_front() {
                while let Some(next) = queue.batches.front()
                    && batch.n_bytes() + next.n_bytes() <= WRITE_BYTES
                {
                    batch.append(next);
                    queue.batches.pop_front();
                }
                queue.writing_since = batch.oldest;
                return Some(batch);
            }
            if queue.closing {
                return None;
            }
            queue = self
                .shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes one batch, however often it takes. False when there is nobody to write to or to write for any more.
    fn write(&mut self, batch: &Batch) -> bool {
        let mut rest = batch.bytes.as_slice();
        let mut ends = batch.ends.as_slice();
        let mut pause = RETRY_PAUSE.0;
        let mut failed = false;
        while !rest.is_empty() {
            // The beginning of a torn item may be gone; its end alone would be no line.
            let begun = batch.ends.len() - ends.len();
            let begin = begun.checked_sub(1).map_or(0, |last| batch.ends[last]);
            let written = batch.bytes.len() - rest.len();
            if failed
                && begin < written
                && self.writer.was_emptied()
                && let Some((end, others)) = ends.split_first()
            {
                let mut queue = self.shared.lock();
                queue.count_dropped("write_error", 1);
                queue.queued -= 1;
                queue.queued_bytes -= end - written;
                rest = &batch.bytes[*end..];
                ends = others;
                continue;
            }
            let torn = self.line == LineState::Torn;
            let chunk = if torn {
                b"\n"
            } else {
                &rest[..rest.len().min(WRITE_BYTES)]
            };
            let started = KtimeNs::now();
            let result = match self.writer.write(chunk) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                result => result,
            };
            let took = KtimeNs::now().since(started);

            let mut queue = self.shared.lock();
            if queue.stopped {
                return false;
            }
            queue.counts.retries += u64::from(failed);
            queue.counts.delivery_duration.observe(took);
            match result {
                Ok(_) if torn => self.line = LineState::Whole,
                Ok(n) => {
                    rest = &rest[n..];
                    let written = batch.bytes.len() - rest.len();
                    let n_items = ends.partition_point(|end| *end <= written);
                    ends = &ends[n_items..];
                    queue.queued -= n_items as u64;
                    queue.queued_bytes -= n;
                    queue.counts.delivered += n_items as u64;
                    queue.counts.delivered_bytes += n as u64;
                    queue.counts.last_success = Some(RealtimeOffset::sample().wall(KtimeNs::now()));
                    if !queue.counts.up {
                        queue.counts.up = true;
                        tracing::info!(sink = self.name, "output can be written again");
                    }
                    failed = false;
                    pause = RETRY_PAUSE.0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    *queue.counts.errors.entry("closed").or_default() += 1;
                    queue.counts.up = false;
                    queue.abandon("write_error");
                    tracing::info!(sink = self.name, "nobody reads the output any more");
                    return false;
                }
                Err(error) => {
                    // A descriptor shared with a program that made it non-blocking is slow, not broken.
                    if error.kind() != ErrorKind::WouldBlock {
                        *queue.counts.errors.entry(error_kind(&error)).or_default() += 1;
                        if queue.counts.up {
                            queue.counts.up = false;
                            tracing::error!(
                                sink = self.name, %error,
                                "output cannot be written; trying again until it can"
                            );
                        }
                    }
                    failed = true;
                    let wait = self
                        .shared
                        .changed
                        .wait_timeout_while(queue, pause, |queue| !queue.stopped);
                    drop(wait.unwrap_or_else(PoisonError::into_inner));
                    pause = (pause * 2).min(RETRY_PAUSE.1);
                }
            }
        }
        self.shared.lock().writing_since = None;
        true
    }
}

fn error_kind(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => "disk_full",
        _ => "other",
    }
}

/// Opens a file to append to, for its owner only where it is new, and looks whether it ends with a whole line.
fn open(path: &Path) -> io::Result<(File, LineState)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let metadata = file.metadata()?;
    let mut last = [b'\n'];
    if metadata.file_type().is_file() && metadata.len() > 0 {
        File::open(path)?.read_exact_at(&mut last, metadata.len() - 1)?;
    }
    let line = if last == [b'\n'] {
        LineState::Whole
    } else {
        LineState::Torn
    };
    Ok((file, line))
}

#[cfg(test)]
mod tests;
