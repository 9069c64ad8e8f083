//! A fleet: hosts that replay a recording, each at its own pace, some of them with a fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::faults::{Change, FAULTS, Fault, How, Lasting};
use super::recording::{Line, Recording, Series, now};

/// Every so many hosts has a fault, one after the other.
const FAULTY: usize = 5;
/// Every so many, of those that have none, was restarted lately: its counters began anew.
const RESTARTED: usize = 23;
const CLUSTERS: [&str; 4] = ["berlin", "lisbon", "oslo", ""];
const JOB: &str = "audit-collector";
/// For how long collectors have run at the least, and since when the restarted ones, in seconds.
const RUNNING: f64 = 30_000.0;
const RESTART: f64 = 900.0;

pub(super) struct Fleet {
    pub(super) recording: Recording,
    pub(super) hosts: Vec<Host>,
}

pub(super) struct Host {
    pub(super) instance: String,
    /// Empty where it has none, as of most who have but one.
    pub(super) cluster: &'static str,
    pub(super) fault: Option<&'static Fault>,
    /// What the fault does, by the place of the series in the recording.
    changes: BTreeMap<usize, How>,
    /// How much busier than the recorded collector.
    pace: f64,
    /// When its collector began, the last time and the one before, in seconds since 1970.
    began: [f64; 2],
    /// From when until when it has its fault.
    faulty: [f64; 2],
}

impl Fleet {
    /// As of now.
    pub(super) fn of(recording: Recording, number: usize) -> Self {
        let now = now();
        let hosts = (0..number)
            .map(|number| Host::new(number, &recording, now))
            .collect();
        Self { recording, hosts }
    }

    /// What the collector of `host` serves at `at`; nothing where it is down.
    pub(super) fn exposition(&self, host: &Host, at: f64) -> Option<String> {
        if host.is_down(at) {
            return None;
        }
        let mut text = String::with_capacity(64 << 10);
        for (place, line) in self.recording.lines.iter().enumerate() {
            let written = match line {
                Line::Comment(comment) => writeln!(text, "{comment}"),
                Line::Series(series) => {
                    let value = self.value(host, (place, series), at);
                    writeln!(text, "{} {value}", series.text)
                }
            };
            written.expect("a text takes everything");
        }
        Some(text)
    }

    /// The value of a series of `host` at `at`.
    pub(super) fn value(&self, host: &Host, (place, series): (usize, &Series), at: f64) -> f64 {
        let [began, before] = host.began;
        let began = if at < began { before } else { began };
        let value = self.recording.value(series, at, began, host.pace);
        let [since, until] = host.faulty;
        match host.changes.get(&place) {
            Some(How::Grows(speed)) => {
                let lasted = at.min(until) - began.max(since);
                value + (lasted.max(0.0) * speed * (0.5 + host.pace)).floor()
            }
            Some(How::Is(is)) if host.is_faulty(at) => *is,
            Some(How::Age(age)) if host.is_faulty(at) => at - age,
            _ => value,
        }
    }
}

impl Host {
    fn new(number: usize, recording: &Recording, now: f64) -> Self {
        let fault = number.is_multiple_of(FAULTY).then(|| {
            let place = number / FAULTY % FAULTS.len();
            &FAULTS[place]
        });
        let restarted = fault.is_none() && number.is_multiple_of(RESTARTED);
        // From a quarter of the recorded collector's work to twice as much.
        let pace = 0.25 + number as f64 % 36.0 * 0.05;
        let before = now - RUNNING - 600.0 * (number % 50) as f64;
        Self {
            // Of the same name in each cluster, as it comes about where they are set up alike.
            instance: format!("host-{:04}:10470", number / CLUSTERS.len()),
            cluster: CLUSTERS[number % CLUSTERS.len()],
            fault,
            changes: fault
                .into_iter()
                .flat_map(|fault| changes(fault, recording))
                .collect(),
            pace,
            began: [if restarted { now - RESTART } else { before }, before],
            faulty: match fault.map(|fault| fault.lasting) {
                Some(Lasting::Since(ago)) => [now - ago, f64::INFINITY],
                Some(Lasting::Between(ago, until)) => [now - ago, now - until],
                None => [f64::INFINITY; 2],
            },
        }
    }

    /// The alerts there should be of it.
    pub(super) fn reasons(&self) -> &'static [&'static str] {
        self.fault.map_or(&[], |fault| fault.reasons)
    }

    pub(super) fn is_faulty(&self, at: f64) -> bool {
        let [since, until] = self.faulty;
        (since..until).contains(&at)
    }

    pub(super) fn is_down(&self, at: f64) -> bool {
        self.is_faulty(at) && self.fault.is_some_and(|fault| fault.changes.is_empty())
    }

    /// Whether nobody says what should have been reported.
    pub(super) fn is_unwitnessed(&self) -> bool {
        let mut changes = self.fault.iter().flat_map(|fault| fault.changes);
        changes.any(|(name, ..)| *name == "witness_level")
    }

    /// What tells it from all others, as the overview's table has it.
    pub(super) fn key(&self) -> String {
        key(&self.labels())
    }

    /// What Prometheus says of everything that is its.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            ("job", JOB),
            ("instance", &self.instance),
            ("cluster", self.cluster),
        ];
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }
}

/// The key of the host that a series with these labels is of.
pub(super) fn key(labels: &BTreeMap<String, String>) -> String {
    let label = |name: &str| labels.get(name).map_or("", String::as_str);
    ["cluster", "job", "instance"].map(label).join("/")
}

/// What `fault` does to each series that it is about.
fn changes(fault: &Fault, recording: &Recording) -> Vec<(usize, How)> {
    let of = |change: &Change| {
        let (name, labels, how) = *change;
        let found: Vec<_> = recording
            .series()
            .filter(|(_, series)| series.is(name, labels))
            .map(|(place, _)| (place, how))
            .collect();
        assert!(
            !found.is_empty(),
            "{}: no {name} {labels:?} is served",
            fault.what
        );
        found
    };
    fault.changes.iter().flat_map(of).collect()
}

impl Series {
    /// Whether it is of this name (without `audit_collector_`) and has these labels.
    pub(super) fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let mut labels = labels.iter();
        self.name.strip_prefix("audit_collector_") == Some(name)
            && labels.all(|(label, value)| self.labels.get(*label).is_some_and(|is| is == value))
    }
}
