//! What auditing and the witness cost those who call: single calls, and a server under load.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::requirement::find_program;
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::rules::{Field, Operator, Rule};
use collector::audit::status::StatusChange;
use tempfile::TempDir;

use crate::figure::Figure;
use crate::report::{Column, Group, Report, Target};
use crate::rounds::{Extent, Sample, Session, Subject};
use crate::taker::{Taker, Who};

/// Whose calls are audited.
const UID: u32 = 60_912;

/// Whose are not.
const OTHER_UID: u32 = 60_913;

/// Whom the other rules are about: nobody. One more for each rule.
const NOBODIES: u32 = 61_000;

const RULES: [u32; 3] = [1, 50, 300];

const SUBJECTS: [Who; 4] = [Who::Nobody, Who::Auditd, Who::OursWithoutWitness, Who::Ours];

const CALLS: [Column; 3] = [
    Column::new("other_ns", "getppid", 0),
    Column::new("unaudited_ns", "openat + close, of another user", 0),
    Column::new("audited_ns", "openat + close, audited", 0),
];

const REQUESTS: [Column; 2] = [
    Column::new("set", "SET, requests/s", 0),
    Column::new("get", "GET, requests/s", 0),
];

/// Room for all records of a turn, so that nobody waits and nothing is lost.
const BACKLOG: u32 = 65_536;

pub(crate) fn run(session: &Session) -> anyhow::Result<Report> {
    let mut report = Report {
        bench: "overhead",
        title: "Overhead: what callers pay",
        how: vec![
            "ns of CPU time that the calling process takes for each call, in user and in kernel mode: the median of ten batches in \
             each round. All rules name openat and one user each; that of the audited calls is the last. The queue has room for all \
             records. Level audit-hooks, which works in emulated machines only here, is told in instructions above."
                .into(),
            "redis-server with redis-benchmark (50 clients, no pipelining) over a Unix socket, its accept4, connect, execve and openat \
             audited by a rule behind 49 others."
                .into(),
        ],
        groups: Vec::new(),
        ratios: Vec::new(),
    };
    let (plain, ours) = (Who::Auditd.name(), Who::Ours.name());
    for n_rules in RULES {
        let title = match n_rules {
            1 => "1 rule".to_owned(),
            n => format!("{n} rules"),
        };
        let subjects = SUBJECTS
            .map(|who| Subject::new(who.name(), move || measure_calls(who, n_rules)))
            .into();
        let group = session.alternate(&title, &CALLS, subjects)?;
        for (key, what, target) in [
            ("other_ns", "getppid", Some(Target::AtMost(40.0))),
            (
                "unaudited_ns",
                "openat + close of another user",
                Some(Target::AtMost(80.0)),
            ),
            ("audited_ns", "openat + close, audited", None),
        ] {
            let what = format!("{title}: {what}, ns more than with auditd");
            report
                .ratios
                .extend(group.difference(what, key, ours, plain, target));
        }
        report.groups.push(group);
    }
    let group = redis(session)?;
    for (key, what) in [("set", "SET"), ("get", "GET")] {
        let what = format!("redis {what}: requests/s, of those with auditd");
        report
            .ratios
            .extend(group.ratio(what, key, ours, plain, None));
    }
    report.groups.push(group);
    Ok(report)
}

/// Auditing on with `rules` and room, or off without.
fn prepare(guard: &mut AuditGuard, who: Who, rules: &[Rule]) -> anyhow::Result<()> {
    if who == Who::Nobody {
        return guard.set(&StatusChange {
            enabled: Some(0),
            ..StatusChange::default()
        });
    }
    for rule in rules {
        guard.add_rule(rule)?;
    }
    guard.enable()?;
    guard.set(&StatusChange {
        backlog_limit: Some(BACKLOG),
        ..StatusChange::default()
    })
}

/// `n` rules about openat of users that nobody is.
pub(crate) fn rules_of_nobodies(n: u32) -> Vec<Rule> {
    (0..n)
        .map(|n| rule_for(NOBODIES + n, Arch::NATIVE, &["openat"], "nobody"))
        .collect()
}

fn measure_calls(who: Who, n_rules: u32) -> anyhow::Result<Sample> {
    let mut guard = AuditGuard::take()?;
    let mut rules = rules_of_nobodies(n_rules - 1);
    rules.push(rule_for(UID, Arch::NATIVE, &["openat"], "bench"));
    prepare(&mut guard, who, &rules)?;
    let taker = Taker::start(who, &[])?;
    let sample = Sample::from([
        ("other_ns", ns_per_call(OTHER_UID, "getppid", 50_000)?),
        ("unaudited_ns", ns_per_call(OTHER_UID, "open", 5_000)?),
        ("audited_ns", ns_per_call(UID, "open", 1_000)?),
    ]);
    taker.stop()?;
    Ok(sample)
}

/// Of the middle one of ten batches.
fn ns_per_call(uid: u32, call: &str, count: u32) -> anyhow::Result<f64> {
    let calls = count.to_string();
    let arguments = ["time", call, "--batches", "10", "--count", &calls];
    let times = workload::start(uid, &arguments)?.times()?;
    let times = times.into_iter().map(|ns| ns as f64 / f64::from(count));
    let figure = Figure::of(times.collect()).context("no batch was made")?;
    Ok(figure.median)
}

fn redis(session: &Session) -> anyhow::Result<Group> {
    let requests = match session.extent {
        Extent::Usual => 100_000,
        Extent::Full => 1_000_000,
    };
    let subjects = [
        Who::Nobody,
        Who::Auditd,
        Who::AuditdAndLaurel,
        Who::OursWithoutWitness,
        Who::Ours,
    ];
    let subjects = subjects
        .map(|who| Subject::new(who.name(), move || measure_redis(who, requests)))
        .into();
    session.alternate("redis, 50 rules", &REQUESTS, subjects)
}

fn measure_redis(who: Who, requests: u32) -> anyhow::Result<Sample> {
    let mut guard = AuditGuard::take()?;
    prepare(&mut guard, who, &rules_of_nobodies(49))?;
    let taker = Taker::start(who, &[])?;
    // Behind the taker, so that auditing has been on when it begins.
    let redis = Redis::start()?;
    if who != Who::Nobody {
        guard.add_rule(&redis.rule())?;
    }
    let sample = redis.measure(requests)?;
    drop(redis);
    taker.stop()?;
    Ok(sample)
}

/// A server of our own, which dropping ends.
struct Redis {
    child: Child,
    folder: TempDir,
}

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = Command::new(find_program("redis-server").context("redis is not installed")?)
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(folder.path().join("socket"))
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run redis-server")?;
        let redis = Self { child, folder };
        let began = Instant::now();
        while !redis.folder.path().join("socket").exists() {
            ensure!(
                began.elapsed() < Duration::from_secs(5),
                "redis-server does not listen"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    /// Its calls, and no other process's.
    fn rule(&self) -> Rule {
        let calls = ["accept4", "connect", "execve", "openat"];
        rule_for(0, Arch::NATIVE, &calls, "redis").condition(
            Field::PID,
            Operator::EQUAL,
            self.child.id(),
        )
    }

    /// Requests per second, as `redis-benchmark` tells them.
    fn measure(&self, requests: u32) -> anyhow::Result<Sample> {
        let program = find_program("redis-benchmark").context("redis-benchmark is missing")?;
        let output = Command::new(program)
            .args(["--csv", "-t", "set,get", "-c", "50", "-n"])
            .arg(requests.to_string())
            .arg("-s")
            .arg(self.folder.path().join("socket"))
            .stdin(Stdio::null())
            .output()
            .context("cannot run redis-benchmark")?;
        ensure!(
            output.status.success(),
            "redis-benchmark: {}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Sample::from([
            ("set", requests_per_second(&text, "SET")?),
            ("get", requests_per_second(&text, "GET")?),
        ]))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It keeps nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The figure behind `test` in what `redis-benchmark --csv` prints.
fn requests_per_second(text: &str, test: &str) -> anyhow::Result<f64> {
    let named = format!("\"{test}\",\"");
    let figure = text
        .lines()
        .find_map(|line| line.strip_prefix(&named)?.split('"').next())
        .with_context(|| format!("redis-benchmark tells nothing of {test}"))?;
    Ok(figure.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_per_second_are_read_by_the_name_of_the_test() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"123456.79\",\"0.1\"\n\"GET\",\"5.00\",\"0.1\"\n";
        assert_eq!(requests_per_second(text, "SET").unwrap(), 123_456.79);
        assert_eq!(requests_per_second(text, "GET").unwrap(), 5.0);
        assert!(requests_per_second(text, "MSET").is_err());
    }
}
