//! Writing a capture: frames into chunks, chunks through a bounded queue to a thread that does the disk I/O.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use super::{
    BYTE_ORDER, CHUNK_BYTES, FIXED_HEADER, FRAME_HEADER, KIND_CLOCK, KIND_DATAGRAM, MAGIC, VERSION,
    WRITE_QUEUE,
};
use crate::audit::message::Datagram;
use crate::audit::socket::Delivery;
use crate::clock::{KtimeNs, RealtimeOffset};

/// Why a capture cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file could not be created.
    #[error("cannot create the capture {}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written; the capture has ended.
    #[error("the capture {} ended after {written} datagrams", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Datagrams in the file.
        written: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a capture has counted. `offered = written + dropped + queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// Datagrams offered.
    pub offered: u64,
    /// Datagrams in the file.
    pub written: u64,
    /// Datagrams given up: the queue was full, or the file could no longer be written.
    pub dropped: u64,
    /// Datagrams waiting for the disk.
    pub queued: u64,
}

/// Writes a capture without ever blocking its caller, but in [`CaptureWriter::finish`].
#[derive(Debug)]
pub struct CaptureWriter {
    path: PathBuf,
    chunk: Chunk,
    queue: Option<SyncSender<Chunk>>,
    spare: Receiver<Chunk>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    /// The wall clock as the file tells it by now.
    offset: RealtimeOffset,
    offered: u64,
    /// Datagrams that never reached the queue.
    refused: u64,
    reported: bool,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    datagrams: u64,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    failure: OnceLock<io::Error>,
}

impl CaptureWriter {
    /// Creates the file, readable by its owner only, and writes the header. A file of that name is overwritten.
    ///
    /// # Errors
    /// Where the file cannot be created or the header cannot be written.
    pub fn create(path: &Path, delivery: Delivery) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Create {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let offset = RealtimeOffset::sample();
        let header = header(delivery, offset, &kernel_release().map_err(failed)?);
        file.write_all(&header).map_err(failed)?;
        Self::start(path, file, header.len() as u64, offset)
    }

    /// Starts the thread on a file that holds `length` bytes already.
    fn start(
        path: &Path,
        file: File,
        length: u64,
        offset: RealtimeOffset,
    ) -> Result<Self, CaptureError> {
        let shared = Arc::new(Shared::default());
        let (queue, chunks) = sync_channel(WRITE_QUEUE);
        let (give_back, spare) = sync_channel(WRITE_QUEUE);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_chunks(file, length, &chunks, &give_back, &shared)
            })
            .map_err(|source| CaptureError::Create {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            chunk: Chunk::default(),
            queue: Some(queue),
            spare,
            thread: Some(thread),
            shared,
            offset,
            offered: 0,
            refused: 0,
            reported: false,
        })
    }

    /// Adds a datagram. Where the capture has ended, or the disk is too slow, it is counted as dropped.
    pub fn write(&mut self, datagram: &Datagram<'_>) {
        self.offered += 1;
        if self.queue.is_none() {
            self.refused += 1;
            return;
        }
        let length = u32::try_from(datagram.length).unwrap_or(u32::MAX);
        frame(
            &mut self.chunk.bytes,
            KIND_DATAGRAM,
            datagram.arrived,
            &[&length.to_le_bytes(), datagram.raw],
        );
        self.chunk.datagrams += 1;
        if self.chunk.bytes.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// The wall clock as the capture tells it by now.
    pub fn offset(&self) -> RealtimeOffset {
        self.offset
    }

    /// Notes that the wall clock was stepped.
    pub fn clock_stepped(&mut self, at: KtimeNs, offset: RealtimeOffset) {
        self.offset = offset;
        frame(
            &mut self.chunk.bytes,
            KIND_CLOCK,
            at,
            &[&offset.0.to_le_bytes()],
        );
    }

    /// Hands what was added so far to the disk, so that it can be read while the capture goes on.
    pub fn flush(&mut self) {
        if self.chunk.bytes.is_empty() {
            return;
        }
        let spare = self.spare.try_recv().unwrap_or_default();
        let chunk = std::mem::replace(&mut self.chunk, spare);
        let Some(queue) = &self.queue else {
            self.refused += chunk.datagrams;
            return;
        };
        match queue.try_send(chunk) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk)) => {
                self.refused += chunk.datagrams;
                // It may have told of a step.
                self.clock_stepped(KtimeNs::now(), self.offset);
            }
            Err(TrySendError::Disconnected(chunk)) => {
                self.refused += chunk.datagrams;
                self.queue = None;
            }
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> CaptureCounts {
        let written = self.shared.written.load(Ordering::Acquire);
        let unsettled = self.offered - self.refused - written;
        let ended = self.shared.failure.get().is_some() || self.thread.is_none();
        CaptureCounts {
            offered: self.offered,
            written,
            dropped: self.refused + if ended { unsettled } else { 0 },
            queued: if ended { 0 } else { unsettled },
        }
    }

    /// Why the capture has ended, once; none while it goes on and after it was told.
    pub fn take_error(&mut self) -> Option<CaptureError> {
        if self.reported {
            return None;
        }
        let error = self.failure();
        self.reported = error.is_some();
        error
    }

    /// Writes what waits and closes the file. This waits for the disk.
    ///
    /// # Errors
    /// Why the capture ended early.
    pub fn finish(mut self) -> Result<CaptureCounts, CaptureError> {
        self.close();
        match self.failure() {
            Some(error) => Err(error),
            None => Ok(self.counts()),
        }
    }

    fn close(&mut self) {
        if let Some(queue) = self.queue.take() {
            let chunk = std::mem::take(&mut self.chunk);
            // This fails only where the thread has ended, and then `failure` says why.
            let _ = queue.send(chunk);
        }
        if let Some(thread) = self.thread.take() {
            // The thread returns nothing and keeps its error in `shared`.
            let _ = thread.join();
        }
    }

    fn failure(&self) -> Option<CaptureError> {
        let source = self.shared.failure.get()?;
        Some(CaptureError::Write {
            path: self.path.clone(),
            written: self.shared.written.load(Ordering::Acquire),
            source: match source.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => source.kind().into(),
            },
        })
    }
}

impl Drop for CaptureWriter {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread: writes until the queue is closed or the file fails, and then cuts the file after its last whole chunk.
fn write_chunks(
    mut file: File,
    mut length: u64,
    chunks: &Receiver<Chunk>,
    give_back: &SyncSender<Chunk>,
    shared: &Shared,
) {
    for mut chunk in chunks {
        if let Err(error) = file.write_all(&chunk.bytes) {
            // Half a frame at the end would only puzzle a reader; where cutting fails, the reader says so.
            let _ = file.set_len(length);
            // Only this thread sets it, and only here.
            let _ = shared.failure.set(error);
            return;
        }
        length += chunk.bytes.len() as u64;
        shared.written.fetch_add(chunk.datagrams, Ordering::Release);
        chunk.bytes.clear();
        chunk.datagrams = 0;
        // A full queue of spares only means that a buffer is freed.
        let _ = give_back.try_send(chunk);
    }
}

fn header(delivery: Delivery, offset: RealtimeOffset, release: &[u8]) -> Vec<u8> {
    let release = &release[..release.len().min(255)];
    let mut bytes = Vec::with_capacity(FIXED_HEADER + release.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(((FIXED_HEADER + release.len()) as u16).to_le_bytes());
    bytes.push(BYTE_ORDER);
    bytes.push(match delivery {
        Delivery::Unicast => 1,
        Delivery::Multicast => 2,
    });
    bytes.extend((release.len() as u16).to_le_bytes());
    bytes.extend(offset.0.to_le_bytes());
    bytes.extend(KtimeNs::now().0.to_le_bytes());
    bytes.extend(release);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, at: KtimeNs, body: &[&[u8]]) {
    let length: usize = body.iter().map(|part| part.len()).sum();
    bytes.reserve(FRAME_HEADER + length);
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend((length as u32).to_le_bytes());
    bytes.extend(at.0.to_le_bytes());
    for part in body {
        bytes.extend_from_slice(part);
    }
}

fn kernel_release() -> io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let names = nix::sys::utsname::uname()?;
    Ok(names.release().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::capture::{CaptureReader, Frame};
    use crate::audit::message;

    #[test]
    fn a_full_disk_is_one_error_and_what_did_not_fit_is_counted() {
        let path = Path::new("/dev/full");
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let mut writer = CaptureWriter::start(path, file, 0, RealtimeOffset(0)).unwrap();
        let raw = message::request(1300, 0, &[b'x'; 1000]);
        let datagram = Datagram::parse(&raw, raw.len(), KtimeNs(0)).unwrap();
        let mut offered = 0;
        let error = loop {
            writer.write(&datagram);
            writer.flush();
            offered += 1;
            if let Some(error) = writer.take_error() {
                break error;
            }
        };
        let CaptureError::Write {
            written: 0, source, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
        for _ in 0..3 {
            writer.write(&datagram);
            writer.flush();
            offered += 1;
        }
        assert!(writer.take_error().is_none());
        let expected = CaptureCounts {
            offered,
            written: 0,
            dropped: offered,
            queued: 0,
        };
        assert_eq!(writer.counts(), expected);
        assert!(writer.finish().is_err());
    }

    #[test]
    fn a_step_is_told_though_the_disk_was_too_slow_for_it() {
        let (output, input) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(input));
        let start = RealtimeOffset(0);
        let mut writer = CaptureWriter::start(Path::new("pipe"), file, 0, start).unwrap();
        let raw = message::request(1300, 0, &[b'x'; 1000]);
        let datagram = Datagram::parse(&raw, raw.len(), KtimeNs(0)).unwrap();
        while writer.counts().dropped == 0 {
            writer.write(&datagram);
            writer.flush();
        }
        let stepped = RealtimeOffset(3_600_000_000_000);
        writer.clock_stepped(KtimeNs(1), stepped);
        writer.flush();
        let header = header(Delivery::Unicast, start, b"6.18");
        let input = io::Read::chain(io::Cursor::new(header), output);
        let read = thread::spawn(move || {
            let reader = CaptureReader::new(io::BufReader::new(input)).unwrap();
            let mut offset = reader.header().offset;
            for frame in reader {
                if let Frame::Clock { offset: told, .. } = frame.unwrap() {
                    offset = told;
                }
            }
            offset
        });
        writer.finish().unwrap();
        assert_eq!(read.join().unwrap(), stepped);
    }

    #[test]
    fn a_disk_that_fails_at_once_fails_the_creation() {
        let error = CaptureWriter::create(Path::new("/dev/full"), Delivery::Unicast).unwrap_err();
        assert!(matches!(error, CaptureError::Create { .. }), "{error}");
    }
}
