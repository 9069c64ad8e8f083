//! Records to replay: those of a storm on this kernel, many times over with other serials and times, as a capture and as
//! logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::process::Collector;
use audit_collector_tests::{storm, workload};
use collector::audit::capture::{CaptureReader, Frame};
use collector::audit::message::{HEADER_LENGTH, Kind};
use collector::audit::record::RecordType;
use collector::audit::status::StatusChange;
use memchr::{memchr, memmem};

/// Whose calls are recorded.
const UID: u32 = 60_920;

/// The storm: as many makers, as many rounds each.
const MAKERS: &str = "4";
const COUNT: &str = "1500";

/// The same records in the forms that programs read.
pub(crate) struct Input {
    /// As auditd writes them to its log: without the ends of events.
    pub(crate) log: PathBuf,
    /// As auditd passes them to its plugins.
    pub(crate) plugin: PathBuf,
    /// As the collector captures them.
    pub(crate) capture: PathBuf,
    /// How many, those of [`Input::log`] and all.
    pub(crate) log_records: u64,
    pub(crate) records: u64,
}

/// How the records of a storm are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How often all of them come.
    pub(crate) copies: u64,
    /// Records of so many events come in turn, one of each; none: as they were recorded.
    pub(crate) in_flight: Option<usize>,
    /// So many keys, one event after the other; none: those they have.
    pub(crate) n_keys: Option<usize>,
}

impl Shape {
    /// As they were recorded.
    pub(crate) fn of(copies: u64) -> Self {
        Self {
            copies,
            in_flight: None,
            n_keys: None,
        }
    }

    fn lay_out(self, recorded: Vec<Recorded>) -> Vec<Recorded> {
        let mut events: BTreeMap<u64, Vec<Recorded>> = BTreeMap::new();
        let in_flight = match (self.in_flight, self.n_keys) {
            (None, None) => return recorded,
            (in_flight, _) => in_flight.unwrap_or(1),
        };
        for record in recorded {
            events.entry(record.serial).or_default().push(record);
        }
        let mut events: Vec<_> = events.into_values().collect();
        if let Some(n_keys) = self.n_keys {
            for (number, event) in events.iter_mut().enumerate() {
                for record in event {
                    record.set_key(number % n_keys);
                }
            }
        }
        let mut all = Vec::new();
        let mut events = events.into_iter();
        loop {
            let turn = events.by_ref().take(in_flight).map(Vec::into_iter);
            let mut turn: Vec<_> = turn.collect();
            if turn.is_empty() {
                return all;
            }
            while !turn.is_empty() {
                turn.retain_mut(|event| {
                    let record = event.next();
                    let more = record.is_some();
                    all.extend(record);
                    more
                });
            }
        }
    }
}

/// One record of the storm.
struct Recorded {
    message_type: u16,
    seconds: u64,
    /// `.mmm:`
    millis: String,
    serial: u64,
    /// From `): ` on.
    rest: Vec<u8>,
    /// Of the frame: when it came, and its netlink header.
    arrived: u64,
    header: Vec<u8>,
}

impl Input {
    /// Has the kernel record a storm once, and writes it to `folder`.
    pub(crate) fn make(folder: &Path, shape: Shape) -> anyhow::Result<Self> {
        let original = folder.join("original");
        record(&original)?;
        Self::repeat(folder, &original, shape)
    }

    /// The records of the capture `original`.
    pub(crate) fn repeat(folder: &Path, original: &Path, shape: Shape) -> anyhow::Result<Self> {
        let bytes = std::fs::read(original)?;
        let header_length = bytes.get(10..12).context("the capture has no header")?;
        let header_length = usize::from(u16::from_le_bytes([header_length[0], header_length[1]]));
        let recorded = recorded(&bytes)?;
        let (first, last) = (recorded.first(), recorded.last());
        let (first, last) = first.zip(last).context("nothing was recorded")?;
        let seconds = last.seconds - first.seconds + 1;
        let serials = recorded.iter().map(|record| record.serial);
        let span = serials.clone().max().zip(serials.min());
        let span = span.map_or(1, |(most, least)| most - least + 1);
        let recorded = shape.lay_out(recorded);
        let path = |name: &str| folder.join(name);
        let [mut log, mut plugin, mut capture] = [
            BufWriter::new(File::create(path("log"))?),
            BufWriter::new(File::create(path("plugin"))?),
            BufWriter::new(File::create(path("capture"))?),
        ];
        capture.write_all(&bytes[..header_length])?;
        let mut input = Self {
            log: path("log"),
            plugin: path("plugin"),
            capture: path("capture"),
            log_records: 0,
            records: 0,
        };
        let mut text = Vec::new();
        for copy in 0..shape.copies {
            for record in &recorded {
                text.clear();
                let (seconds, serial) =
                    (record.seconds + copy * seconds, record.serial + copy * span);
                write!(text, "audit({seconds}{}{serial}", record.millis)?;
                text.extend_from_slice(&record.rest);
                let name = RecordType(record.message_type);
                let name = name.name().context("a record of no known type")?;
                let mut line = Vec::with_capacity(text.len() + 32);
                write!(line, "type={name} msg=")?;
                line.extend_from_slice(&text);
                line.push(b'\n');
                plugin.write_all(&line)?;
                if RecordType(record.message_type) != RecordType::EOE {
                    log.write_all(&line)?;
                    input.log_records += 1;
                }
                let length = record.header.len() + text.len();
                capture.write_all(&[1, 0, 0, 0])?;
                capture.write_all(&(4 + length as u32).to_le_bytes())?;
                let arrived = record.arrived + copy * seconds * 1_000_000_000;
                capture.write_all(&arrived.to_le_bytes())?;
                capture.write_all(&(length as u32).to_le_bytes())?;
                capture.write_all(&record.header)?;
                capture.write_all(&text)?;
                input.records += 1;
            }
        }
        for mut file in [log, plugin, capture] {
            file.flush()?;
        }
        Ok(input)
    }
}

impl Recorded {
    /// Gives it key `number`, where it has one.
    fn set_key(&mut self, number: usize) {
        const MARK: &[u8] = b" key=\"";
        let Some(begin) = memmem::find(&self.rest, MARK) else {
            return;
        };
        let begin = begin + MARK.len();
        if let Some(length) = memchr(b'"', &self.rest[begin..]) {
            let key = format!("key-{number}").into_bytes();
            self.rest.splice(begin..begin + length, key);
        }
    }
}

/// Has the collector capture a mixed storm of which nobody loses anything.
fn record(capture: &Path) -> anyhow::Result<()> {
    let mut guard = AuditGuard::take()?;
    for rule in storm::rules(UID) {
        guard.add_rule(&rule)?;
    }
    guard.set(&StatusChange {
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        ..StatusChange::default()
    })?;
    let capture = format!("--capture={}", capture.display());
    let mut collector = Collector::start(&["--mode=daemon", "--ebpf=off", &capture])?;
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::chown(folder.path(), Some(UID), Some(UID))?;
    let files = folder.path().display().to_string();
    let arguments = [
        "storm",
        "mixed",
        "--n-makers",
        MAKERS,
        "--count",
        COUNT,
        "--folder",
        &files,
    ];
    workload::start(UID, &arguments)?.journal()?;
    std::thread::sleep(Duration::from_millis(300));
    collector.end().map(drop)
}

/// The records of whole events.
fn recorded(capture: &[u8]) -> anyhow::Result<Vec<Recorded>> {
    let mut records = Vec::new();
    for frame in &mut CaptureReader::new(capture)? {
        let Frame::Datagram(captured) = frame? else {
            continue;
        };
        let Some(datagram) = captured.datagram() else {
            continue;
        };
        if datagram.kind() != Kind::Record {
            continue;
        }
        let text = String::from_utf8_lossy(datagram.payload);
        let Some((stamp, _)) = text
            .strip_prefix("audit(")
            .and_then(|text| text.split_once(')'))
        else {
            continue;
        };
        let (seconds, after) = stamp.split_once('.').context("a stamp without a point")?;
        let (millis, serial) = after.split_once(':').context("a stamp without a serial")?;
        records.push(Recorded {
            message_type: datagram.message_type,
            seconds: seconds.parse()?,
            millis: format!(".{millis}:"),
            serial: serial.parse()?,
            rest: datagram.payload["audit(".len() + stamp.len()..].to_vec(),
            arrived: captured.arrived.0,
            header: captured.raw[..HEADER_LENGTH].to_vec(),
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(serial: u64, rest: &str) -> Recorded {
        Recorded {
            message_type: 1300,
            seconds: 1,
            millis: ".000:".into(),
            serial,
            rest: rest.into(),
            arrived: 0,
            header: Vec::new(),
        }
    }

    fn laid_out(shape: Shape) -> Vec<(u64, String)> {
        let recorded = [(1, "a key=\"x\""), (1, "b"), (2, "c key=\"x\" d"), (3, "e")];
        let recorded = recorded.map(|(serial, rest)| record(serial, rest)).into();
        let all = shape.lay_out(recorded).into_iter();
        all.map(|record| (record.serial, String::from_utf8(record.rest).unwrap()))
            .collect()
    }

    #[test]
    fn events_in_flight_take_turns() {
        let shape = Shape {
            in_flight: Some(2),
            ..Shape::of(1)
        };
        let serials: Vec<u64> = laid_out(shape)
            .into_iter()
            .map(|(serial, _)| serial)
            .collect();
        assert_eq!(serials, [1, 2, 1, 3]);
    }

    #[test]
    fn events_have_keys_in_turn() {
        let shape = Shape {
            n_keys: Some(2),
            ..Shape::of(1)
        };
        let texts: Vec<String> = laid_out(shape).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a key=\"key-0\"", "b", "c key=\"key-1\" d", "e"]);
    }
}
