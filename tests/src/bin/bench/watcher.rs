//! Sees when lines come to be in a file that others write.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use collector::clock::KtimeNs;

/// How often it looks: what it sees, it sees late by half of that on the average. To be woken by each write would cost those
/// more who write often.
pub(crate) const PERIOD: Duration = Duration::from_micros(500);

/// Reads the number of a call off a line, where it is the line of one.
pub(crate) type ReadNumber = fn(&[u8]) -> Option<u32>;

/// A call as its line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number it has been given.
    pub(crate) call: u32,
    pub(crate) at: KtimeNs,
}

/// Looks until it is stopped.
pub(crate) struct Watcher {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Seen>>>,
}

impl Watcher {
    /// Watches `file`, which need not exist yet, from its beginning.
    pub(crate) fn start(file: PathBuf, number: ReadNumber) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&ended);
        Self {
            ended,
            thread: thread::spawn(move || {
                watch(&file, number, &watched)
                    .with_context(|| format!("cannot watch {}", file.display()))
            }),
        }
    }

    /// All that it has seen, to what the file has now.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<Seen>> {
        self.ended.store(true, Ordering::Release);
        self.thread.join().ok().context("the watcher panicked")?
    }
}

fn watch(path: &PathBuf, number: ReadNumber, ended: &AtomicBool) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut lines = Lines::default();
    let mut buffer = vec![0; 1 << 20];
    let mut file = None;
    loop {
        // Before the look at the file: what it has by then is still read.
        let last = ended.load(Ordering::Acquire);
        if file.is_none() {
            file = File::open(path).ok();
        }
        let length = match &mut file {
            Some(file) => file.read(&mut buffer)?,
            None => 0,
        };
        let at = KtimeNs::now();
        lines.add(&buffer[..length], |line| {
            seen.extend(number(line).map(|call| Seen { call, at }));
        });
        match (length, last) {
            (0, true) => return Ok(seen),
            (0, false) => thread::sleep(PERIOD),
            _ => {}
        }
    }
}

/// Text on its way to be lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Takes more text, and gives `take` each line that is whole now.
    fn add(&mut self, text: &[u8], mut take: impl FnMut(&[u8])) {
        self.0.extend_from_slice(text);
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &self.0) {
            take(&self.0[begin..end]);
            begin = end + 1;
        }
        self.0.drain(..begin);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_line_in_pieces_is_one_line() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in ["a", "b\nc", "\n\nd"] {
            lines.add(piece.as_bytes(), |line| all.push(line.to_vec()));
        }
        assert_eq!(all, [&b"ab"[..], b"c", b""]);
    }

    #[test]
    fn a_file_is_watched_from_before_it_is_there_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse().ok();
        let watcher = Watcher::start(path.clone(), number);
        let before = KtimeNs::now();
        let mut file = File::create(&path).unwrap();
        file.write_all(b"1\nnone\n23\n").unwrap();
        let seen = watcher.stop().unwrap();
        assert_eq!(
            seen.iter().map(|seen| seen.call).collect::<Vec<_>>(),
            [1, 23]
        );
        assert!(seen.iter().all(|seen| seen.at >= before));
    }
}
