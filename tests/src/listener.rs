//! Records as a test hears them, in the order the kernel sent them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use collector::audit::message::{Datagram, Kind};
use collector::audit::socket::{Batch, EventSocket, Received};

/// How long a test waits for records that should come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came.
#[derive(Debug, Default)]
pub struct Heard {
    /// The records, as `type=1300 audit(…): …`.
    pub records: Vec<String>,
    /// How often the socket was full.
    pub overruns: usize,
}

impl Heard {
    /// How many SYSCALL records are of user `uid`.
    pub fn calls_of(&self, uid: u32) -> usize {
        self.serials_of(uid).count()
    }

    /// Their serials.
    pub fn serials_of(&self, uid: u32) -> impl Iterator<Item = u64> {
        let uid = format!(" uid={uid} ");
        self.records
            .iter()
            .filter(move |record| record.starts_with("type=1300 ") && record.contains(&uid))
            .filter_map(|record| serial(record))
    }

    /// The records' serials.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.records.iter().filter_map(|record| serial(record))
    }

    /// Whether a record contains `text`.
    pub fn says(&self, text: &str) -> bool {
        self.records.iter().any(|record| record.contains(text))
    }
}

fn serial(record: &str) -> Option<u64> {
    let (_, stamp) = record.split_once("audit(")?;
    let (stamp, _) = stamp.split_once(')')?;
    stamp.split_once(':')?.1.parse().ok()
}

/// Reads until nothing waits and what came is `enough`, or ten seconds have passed.
///
/// # Errors
/// Where the socket cannot be read, or what it brings is no record.
pub fn listen(
    socket: &mut EventSocket,
    mut enough: impl FnMut(&Heard) -> bool,
) -> anyhow::Result<Heard> {
    let mut batch = Batch::new();
    let mut heard = Heard::default();
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match socket.receive(&mut batch, usize::MAX)? {
            Received::Empty if enough(&heard) => break,
            Received::Empty => thread::sleep(Duration::from_millis(2)),
            Received::Overrun => heard.overruns += 1,
            Received::Datagrams(count) => {
                ensure!(count == batch.len(), "{count} of {}", batch.len());
                for datagram in batch.iter() {
                    heard.records.extend(text_of(&datagram)?);
                }
            }
        }
    }
    Ok(heard)
}

fn text_of(datagram: &Datagram<'_>) -> anyhow::Result<Option<String>> {
    ensure!(
        !datagram.truncated(),
        "a record of {} bytes was cut",
        datagram.length
    );
    if datagram.kind() != Kind::Record {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(datagram.payload);
    ensure!(text.starts_with("audit("), "not a record: {text}");
    Ok(Some(format!("type={} {text}", datagram.message_type)))
}
