use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn batch(lines: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for (i, line) in lines.iter().enumerate() {
        batch.push(TimeMs(1_000 + i as u64), |out| {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        });
    }
    batch
}

fn assert_adds_up(counts: &account::Sink) {
    let dropped: u64 = counts.dropped.values().sum();
    assert_eq!(
        counts.handed_over,
        counts.delivered + dropped + counts.queued,
        "{counts:?}"
    );
}

fn to_file(path: &Path, queue_bytes: usize) -> SinkHandle {
    SinkHandle::spawn(SinkConfig {
        name: "test".to_owned(),
        target: Target::File(path.to_owned()),
        queue_bytes,
    })
    .unwrap()
}

fn wait_for(handle: &SinkHandle, condition: impl Fn(&account::Sink) -> bool) -> account::Sink {
    let started = KtimeNs::now();
    loop {
        let counts = handle.counts();
        if condition(&counts) {
            return counts;
        }
        assert!(KtimeNs::now().since(started) < LONG, "never: {counts:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Writes as scripted, then everything.
struct Scripted {
    script: VecDeque<io::Result<usize>>,
    written: Arc<Mutex<Vec<u8>>>,
    emptied: bool,
}

impl Device for Scripted {
    fn was_emptied(&self) -> bool {
        self.emptied
    }
}

impl Device for io::PipeWriter {}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match self.script.pop_front() {
            Some(result) => result?.min(bytes.len()),
            None => bytes.len(),
        };
        self.written.lock().unwrap().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_is_appended_to_and_belongs_to_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    for round in ["one", "two"] {
        let mut handle = to_file(&path, 1 << 16);
        assert_eq!(handle.submit(batch(&[round, "more"])), Submitted::Queued);
        let closed = handle.close(LONG);
        assert_eq!((closed.counts.delivered, closed.abandoned), (2, 0));
        assert_adds_up(&closed.counts);
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"one\nmore\ntwo\nmore\n");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_line_torn_by_an_earlier_run_is_ended_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    std::fs::write(&path, "whole\nto").unwrap();
    let mut handle = to_file(&path, 1 << 16);
    handle.submit(batch(&["next"]));
    handle.close(LONG);
    assert_eq!(std::fs::read(&path).unwrap(), b"whole\nto\nnext\n");
}

#[test]
fn a_torn_write_is_finished_before_anything_else_and_nothing_is_lost() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let script = [
        Ok(2),
        Err(ErrorKind::StorageFull.into()),
        Err(ErrorKind::StorageFull.into()),
        Ok(1),
        Err(ErrorKind::Interrupted.into()),
        Ok(5),
    ];
    let scripted = Scripted {
        script: script.into(),
        written: Arc::clone(&written),
        emptied: false,
    };
    let name = "test".to_owned();
    let mut handle = SinkHandle::spawn_writer(name, 1 << 16, scripted, LineState::Whole).unwrap();
    handle.submit(batch(&["first", "second"]));
    handle.submit(batch(&["third"]));
    let counts = handle.close(LONG).counts;
    assert_eq!(
        written.lock().unwrap().as_slice(),
        b"first\nsecond\nthird\n"
    );
    assert_eq!(counts.errors["disk_full"], 2);
    assert_eq!((counts.delivered, counts.retries), (3, 2));
    assert_eq!(counts.delivered_bytes, 19);
    assert!(counts.up);
    assert_adds_up(&counts);
}

#[test]
fn a_full_disk_never_blocks_the_producer_and_the_queue_says_what_it_dropped() {
    let mut handle = to_file(Path::new("/dev/full"), 64);
    handle.submit(batch(&["0123456789012345678901234567890123456789"]));
    let counts = wait_for(&handle, |counts| !counts.up);
    assert_eq!(counts.queued, 1);
    assert_eq!(counts.oldest_pending, Some(TimeMs(1_000)));
    let second = handle.submit(batch(&["0123456789012345678901234567890123456789", "x"]));
    assert_eq!(second, Submitted::Dropped);
    assert_eq!(handle.recovered(TimeMs(5)), Vec::new(), "it is still full");
    let closed = handle.close(Duration::from_millis(20));
    assert_eq!(closed.abandoned, 1);
    assert!(closed.counts.errors["disk_full"] >= 1);
    assert_eq!(closed.counts.dropped["write_error"], 2);
    assert_eq!(closed.counts.dropped["deadline"], 1);
    assert_adds_up(&closed.counts);
}

#[test]
fn what_a_full_queue_dropped_is_told_once_when_there_is_room_again() {
    let (mut reader, writer) = io::pipe().unwrap();
    let name = "test".to_owned();
    let mut handle = SinkHandle::spawn_writer(name, 1 << 20, writer, LineState::Whole).unwrap();
    let line = "x".repeat(1 << 19);
    let mut dropped = 0;
    for _ in 0..5 {
        dropped += u64::from(handle.submit(batch(&[&line])) == Submitted::Dropped);
    }
    assert!(dropped >= 3, "{dropped}");
    let mut all = vec![0; ((1 << 19) + 1) * (5 - dropped as usize)];
    reader.read_exact(&mut all).unwrap();
    wait_for(&handle, |counts| counts.queued == 0);
    let losses = handle.recovered(TimeMs(7));
    assert_eq!(losses.len(), 1);
    assert_eq!(
        (losses[0].cause, losses[0].count),
        (Cause::QueueFull, dropped)
    );
    assert_eq!(losses[0].span, Some((TimeMs(1_000), TimeMs(1_000))));
    assert_eq!(handle.recovered(TimeMs(8)), Vec::new());
    assert_adds_up(&handle.counts());
}

#[test]
fn a_reader_that_goes_away_stops_the_sink() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let name = "test".to_owned();
    let mut handle = SinkHandle::spawn_writer(name, 1 << 16, writer, LineState::Whole).unwrap();
    handle.submit(batch(&["nobody"]));
    wait_for(&handle, |counts| counts.errors.contains_key("closed"));
    assert!(handle.is_stopped());
    assert_eq!(handle.submit(batch(&["again"])), Submitted::Stopped);
    let counts = handle.close(LONG).counts;
    assert_eq!(counts.dropped["write_error"], 2);
    assert_adds_up(&counts);
}

#[test]
fn a_reader_that_hangs_does_not_hold_up_the_end() {
    let (_reader, writer) = io::pipe().unwrap();
    let name = "test".to_owned();
    let mut handle = SinkHandle::spawn_writer(name, 1 << 22, writer, LineState::Whole).unwrap();
    handle.submit(batch(&[&"y".repeat(1 << 20), "z"]));
    let started = KtimeNs::now();
    let closed = handle.close(Duration::from_millis(50));
    assert!(KtimeNs::now().since(started) < Duration::from_secs(5));
    assert_eq!(closed.abandoned, 2);
    assert_adds_up(&closed.counts);
}

#[test]
fn the_end_of_a_line_whose_beginning_was_cut_away_is_not_written() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let scripted = Scripted {
        script: [Ok(2), Err(ErrorKind::StorageFull.into())].into(),
        written: Arc::clone(&written),
        emptied: true,
    };
    let name = "test".to_owned();
    let mut handle = SinkHandle::spawn_writer(name, 1 << 16, scripted, LineState::Whole).unwrap();
    handle.submit(batch(&["first", "second"]));
    let counts = handle.close(LONG).counts;
    assert_eq!(*written.lock().unwrap(), b"fisecond\n");
    assert_eq!((counts.delivered, counts.dropped["write_error"]), (1, 1));
    assert_adds_up(&counts);
}
