//! Ordinary work under the rules of security guides, with nothing lost: nothing may be given back, nothing may be
//! missed, and what one collector writes as the daemon another writes beside it.
//!
//! `AUDIT_COLLECTOR_ORDINARY_SECONDS` says how long the work goes on; it is short by default.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::auditd::{self, Auditd};
use audit_collector_tests::balance::Balance;
use audit_collector_tests::built_folder;
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::tally;
use collector::audit::language::{Directive, parse_line};
use collector::audit::rules::{Field, FilterList, Operator, Rule};
use collector::audit::status::StatusChange;
use collector::ruleset::LocalHost;

/// How long the work goes on where nothing else is said.
const SECONDS: u64 = 8;

/// Between two rounds of work, so that others of this machine get their turn.
const PAUSE: Duration = Duration::from_millis(300);

/// How long nothing may move before the account counts as settled.
const QUIET: Duration = Duration::from_secs(2);

const SETTLE_TIME: Duration = Duration::from_secs(60);

/// Short, so that the test ends soon.
const WAITS: [&str; 2] = ["--reassembly-timeout-ms=1000", "--reorder-window-ms=2000"];

const ALL: [Requirement; 4] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::Program("setsid"),
];

fn seconds() -> u64 {
    match std::env::var("AUDIT_COLLECTOR_ORDINARY_SECONDS") {
        Ok(seconds) => seconds.parse().unwrap(),
        Err(_) => SECONDS,
    }
}

/// The rules of guides among `tests/rules`, for the sessions of one user only.
fn rules(auid: u32) -> Vec<Rule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut rules: Vec<Rule> = Vec::new();
    for file in ["stig.rules", "ospp.rules", "pci-dss.rules"] {
        let text = fs::read(folder.join(file)).unwrap();
        for line in text.split(|byte| *byte == b'\n') {
            let directives = parse_line(line, &LocalHost).unwrap().directives;
            for directive in directives {
                let Directive::Add { rule, .. } = directive else {
                    continue;
                };
                if rule.list != FilterList::EXIT {
                    continue;
                }
                let mut rule = rule.condition(Field::LOGINUID, Operator::EQUAL, auid);
                rule.conditions
                    .retain(|condition| condition.field != Field::FILTERKEY);
                let known = |other: &Rule| {
                    (&other.syscalls, &other.conditions) == (&rule.syscalls, &rule.conditions)
                };
                if !rules.iter().any(known) {
                    rules.push(rule);
                }
            }
        }
    }
    rules
}

/// Loads them and returns how many the kernel took: some need folders or modules that a machine may lack.
fn load(guard: &mut AuditGuard, auid: u32) -> usize {
    let rules = rules(auid);
    let mut n_loaded = 0;
    for (index, rule) in rules.iter().enumerate() {
        match guard.add_rule(&rule.clone().key(format!("{KEY}-{index}"))) {
            Ok(()) => n_loaded += 1,
            Err(error) => println!("not loaded: {rule}: {error:#}"),
        }
    }
    assert!(
        10 * n_loaded >= 9 * rules.len(),
        "only {n_loaded} of {} rules are loaded",
        rules.len()
    );
    n_loaded
}

/// Room for everything: what is lost here would be no fault of the collector's.
fn ample() -> StatusChange {
    StatusChange {
        enabled: Some(1),
        failure: Some(0),
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        ..StatusChange::default()
    }
}

/// Sessions of user `uid`, one after the other, for as long as is asked for; how many. An emulated processor is too slow for `collectors` to
/// follow several without a break.
fn work(uid: u32, address: &str, collectors: &[&Collector]) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(uid), Some(uid)).unwrap();
    let script = folder.path().join("session");
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("load/session.sh"),
        &script,
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let began = Instant::now();
    let mut n_sessions = 0;
    while n_sessions == 0 || began.elapsed() < Duration::from_secs(seconds()) {
        let id = uid.to_string();
        let status = Command::new(built_folder().join("workload"))
            .args(["--auid", &id, "--uid", &id, "become", "/bin/sh"])
            .arg(&script)
            .arg(folder.path())
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "a session ended with {status}");
        n_sessions += 1;
        thread::sleep(PAUSE);
        if requirement::in_virtual_machine() {
            for collector in collectors {
                settle(collector);
            }
        }
    }
    n_sessions
}

/// Waits until nothing is pending and nothing has been settled for a while.
fn settle(collector: &Collector) -> Samples {
    let began = Instant::now();
    let mut last = (0, began);
    loop {
        let metrics = collector.metrics().unwrap();
        let settled = Balance::of_metrics(&metrics).settled();
        if settled != last.0 || metrics.count("crosscheck_pending_events", &[]) > 0 {
            last = (settled, Instant::now());
        }
        if last.1.elapsed() > patience(QUIET) {
            return metrics;
        }
        assert!(
            began.elapsed() < patience(SETTLE_TIME),
            "{settled} settled, but it goes on: {}",
            collector.stderr()
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// What must hold of a collector after work of which nothing was lost; the serials of the events of `auid`'s sessions.
fn check(name: &str, metrics: &Samples, finished: &Finished, auid: u32) -> BTreeMap<u64, String> {
    let stream = &finished.stream;
    assert!(stream.broken.is_empty(), "{name}: {:?}", stream.broken);
    let events: Vec<_> = stream
        .events()
        .filter(|event| event.0["process"]["auid"] == auid)
        .collect();
    let outcomes = tally(events.iter().copied(), |event| {
        (event.verdict(), event.outcome())
    });
    let calls = tally(events.iter().copied(), |event| event.syscall()).len();
    println!("{name}: {outcomes:?}, {calls} kinds of calls");
    let alarms: Vec<String> = stream
        .events()
        .filter(|event| matches!(event.outcome(), "backfilled" | "unrecovered"))
        .map(|event| event.0.to_string())
        .collect();
    assert!(
        alarms.is_empty(),
        "{name}: {} false alarms, among them\n{}",
        alarms.len(),
        alarms[..alarms.len().min(5)].join("\n")
    );
    // What the rules do not ask for, such as the record of a login, has no verdict.
    let unseen: Vec<String> = (events.iter())
        .filter(|event| event.outcome() == "audit_only" && event.verdict().is_some())
        .map(|event| event.0.to_string())
        .collect();
    let missed = metrics.missed_runs();
    assert!(
        unseen.len() as u64 <= missed,
        "{name}: {} events that eBPF did not see, {missed} runs missed, among them\n{}",
        unseen.len(),
        unseen[..unseen.len().min(5)].join("\n")
    );
    let told = stream.missed_runs();
    assert!(told >= missed, "{name}: {told} of {missed} runs missed");
    assert_eq!(stream.losses(), BTreeMap::new(), "{name}");
    let balance = Balance::of_metrics(metrics);
    assert_eq!(
        (balance.backfilled, balance.unrecovered),
        (0, 0),
        "{name}: {balance}"
    );
    assert!(
        balance.audit_only + balance.uncertain <= missed,
        "{name}: {balance}"
    );
    println!("{name}: {balance}, {missed} runs missed");
    assert!(
        balance.matched >= 200,
        "{name}: too little to tell: {balance}"
    );
    for metric in [
        "kernel_lost_records_total",
        "serial_missing_total",
        "records_malformed_total",
        "sink_dropped_events_total",
    ] {
        assert_eq!(metrics.count(metric, &[]), 0, "{name}: {metric}");
    }
    let dropped = metrics.count("ebpf_ringbuf_dropped_events_total", &[]);
    assert_eq!(dropped, missed, "{name}");
    let mut serials = BTreeMap::new();
    for event in events {
        let Some(serial) = event.serial() else {
            continue;
        };
        let twin = serials.insert(serial, event.0.to_string());
        assert_eq!(twin, None, "{name}: serial {serial} twice");
    }
    serials
}

#[test]
fn ordinary_work_raises_no_alarm_as_the_daemon_nor_beside_one() {
    if !requirement::met(&ALL) {
        return;
    }
    let auid = 60_081;
    let mut guard = AuditGuard::take().unwrap();
    let n_rules = load(&mut guard, auid);
    guard.set(&ample()).unwrap();
    let daemon = [&WAITS[..], &["--mode=daemon"]].concat();
    let daemon = Collector::start(&daemon).unwrap();
    let beside = [
        &WAITS[..],
        &["--mode=multicast", "--receive-buffer-bytes=64MiB"],
    ]
    .concat();
    let beside = Collector::start(&beside).unwrap();
    let address = format!("http://{}/metrics", daemon.address());
    let n_sessions = work(auid, &address, &[&daemon, &beside]);
    println!("{n_rules} rules, {n_sessions} sessions");
    let (daemon_metrics, beside_metrics) = (settle(&daemon), settle(&beside));
    let (beside, daemon) = (beside.stop().unwrap(), daemon.stop().unwrap());
    let as_daemon = check("daemon", &daemon_metrics, &daemon, auid);
    let as_neighbour = check("multicast", &beside_metrics, &beside, auid);
    let only = |some: &BTreeMap<u64, String>, other: &BTreeMap<u64, String>| -> Vec<String> {
        let only = some
            .iter()
            .filter(|(serial, _)| !other.contains_key(serial));
        only.map(|(_, line)| line.clone()).collect()
    };
    let no_lines: Vec<String> = Vec::new();
    assert_eq!(only(&as_daemon, &as_neighbour), no_lines);
    assert_eq!(only(&as_neighbour, &as_daemon), no_lines);
}

#[test]
fn ordinary_work_raises_no_alarm_beside_debians_daemon() {
    if !requirement::met(&[&ALL[..], &[Requirement::Program(auditd::PROGRAM)]].concat()) {
        return;
    }
    let auid = 60_082;
    let mut guard = AuditGuard::take().unwrap();
    load(&mut guard, auid);
    guard.set(&ample()).unwrap();
    let neighbour = Auditd::start().unwrap();
    let arguments = [
        &WAITS[..],
        &["--mode=multicast", "--receive-buffer-bytes=64MiB"],
    ]
    .concat();
    let collector = Collector::start(&arguments).unwrap();
    let address = format!("http://{}/metrics", collector.address());
    let n_sessions = work(auid, &address, &[&collector]);
    println!("{n_sessions} sessions");
    let metrics = settle(&collector);
    let finished = collector.stop().unwrap();
    let ours = check("beside auditd", &metrics, &finished, auid);
    // The daemon's own log has every one of these events.
    let log = fs::read(neighbour.log()).unwrap();
    let log = String::from_utf8_lossy(&log);
    let mut written: Vec<u64> = log
        .lines()
        .filter_map(|line| line.split_once("msg=audit(")?.1.split_once("):"))
        .filter_map(|(stamp, _)| stamp.split_once(':')?.1.parse().ok())
        .collect();
    written.sort_unstable();
    for (serial, line) in &ours {
        assert!(
            written.binary_search(serial).is_ok(),
            "auditd has no {line}"
        );
    }
}
