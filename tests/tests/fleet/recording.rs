//! What one real collector serves while it works, and what it would serve if that went on for ever.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::exposition::Sample;
use audit_collector_tests::process::Collector;
use audit_collector_tests::workload;

const UID: u32 = 60_183;
/// How often it is scraped, and how long that is apart.
const SCRAPES: usize = 6;
const APART: Duration = Duration::from_secs(1);
/// Calls between two scrapes.
const CALLS: &str = "150";

/// The scrapes, line by line as in the last of them.
pub(super) struct Recording {
    pub(super) lines: Vec<Line>,
    /// When each scrape was made, in seconds since 1970.
    moments: Vec<f64>,
}

/// A line of every scrape.
pub(super) enum Line {
    Comment(String),
    Series(Series),
}

/// A series, and its value in each scrape.
pub(super) struct Series {
    /// As it stands before the value.
    pub(super) text: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    kind: Kind,
    values: Vec<f64>,
}

/// What becomes of a value in time.
enum Kind {
    /// It grows as it did.
    Counter,
    /// It goes through what it was.
    Gauge,
    /// It is as long ago as it was.
    Time,
    /// When the process began.
    Start,
}

impl Recording {
    /// Has a collector watch this kernel for some seconds, as the daemon and with everything switched on.
    pub(super) fn make() -> Self {
        let mut guard = AuditGuard::take().unwrap();
        guard.enable().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("fleet.rules");
        let rule = format!("-a always,exit -F arch=b64 -S openat -F uid={UID} -k {KEY}-fleet\n");
        fs::write(&rules, rule).unwrap();
        let mut collector = Collector::start(&[
            "--mode=daemon",
            &format!("--rules={}", rules.display()),
            "--rules-remove-at-exit",
            "--canary",
            "--canary-interval-s=1",
        ])
        .unwrap();
        collector.wait_until_ready().unwrap();
        let mut scrapes = Vec::new();
        for _ in 0..SCRAPES {
            workload::run(UID, &["open", "--count", CALLS]).unwrap();
            thread::sleep(APART);
            scrapes.push((now(), collector.get("/metrics").unwrap().body));
        }
        collector.stop().unwrap();
        Self::of(&scrapes)
    }

    /// Of scrapes and when they were made.
    fn of(scrapes: &[(f64, String)]) -> Self {
        let values: Vec<BTreeMap<&str, f64>> = scrapes
            .iter()
            .map(|(_, text)| samples(text).collect())
            .collect();
        // What is not known from the start is served from then on.
        let last = values.last().unwrap();
        let mut types = BTreeMap::new();
        let mut lines = Vec::new();
        for line in scrapes[scrapes.len() - 1].1.lines() {
            if line.starts_with('#') {
                types.extend(
                    line.strip_prefix("# TYPE ")
                        .and_then(|line| line.split_once(' ')),
                );
                lines.push(Line::Comment(line.to_owned()));
                continue;
            }
            let (text, _) = line.rsplit_once(' ').unwrap();
            let Sample { name, labels, .. } = Sample::parse(line).unwrap();
            lines.push(Line::Series(Series {
                kind: Kind::of(&name, &types),
                values: values
                    .iter()
                    .map(|values| *values.get(text).unwrap_or(&last[text]))
                    .collect(),
                text: text.to_owned(),
                name,
                labels,
            }));
        }
        Self {
            lines,
            moments: scrapes.iter().map(|(moment, _)| *moment).collect(),
        }
    }

    /// Its series, and their places among the lines.
    pub(super) fn series(&self) -> impl Iterator<Item = (usize, &Series)> {
        let lines = self.lines.iter().enumerate();
        lines.filter_map(|(at, line)| match line {
            Line::Series(series) => Some((at, series)),
            Line::Comment(_) => None,
        })
    }

    /// The value of `series` at `at`, in seconds since 1970, of a collector that began at `began` and does everything `pace` times
    /// as fast.
    pub(super) fn value(&self, series: &Series, at: f64, began: f64, pace: f64) -> f64 {
        let played = (at - began).max(0.0) * pace / APART.as_secs_f64();
        let last = self.moments.len() - 1;
        let rounds = (played / last as f64).floor();
        let scrape = ((played - rounds * last as f64) as usize).min(last);
        let value = series.values[scrape];
        match series.kind {
            Kind::Counter => value + rounds * (series.values[last] - series.values[0]),
            Kind::Time if value > 0.0 => at - (self.moments[scrape] - value),
            Kind::Gauge | Kind::Time => value,
            Kind::Start => began,
        }
    }
}

impl Kind {
    fn of(name: &str, types: &BTreeMap<&str, &str>) -> Self {
        if name == "process_start_time_seconds" {
            Self::Start
        } else if name.ends_with("_timestamp_seconds") {
            Self::Time
        } else if types.get(name) == Some(&"gauge") {
            Self::Gauge
        } else {
            Self::Counter
        }
    }
}

/// Each series as its line has it, and its value.
fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series, value.parse().unwrap())
    })
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
