//! Storms that the kernel may not keep up with: every call comes out once, and what is said of it is what its maker
//! knows of it, be it given back or not.
//!
//! They are short by default. `AUDIT_COLLECTOR_STORM=full` makes as many calls as an operator's worst day.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::auditd::{self, Auditd};
use audit_collector_tests::balance::Balance;
use audit_collector_tests::built_folder;
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::journal::{Comparison, Journal};
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{
    self, Requirement, find_program, in_virtual_machine, patience,
};
use audit_collector_tests::storm::rules;
use audit_collector_tests::stream::{Event, tally};
use audit_collector_tests::{wait, workload};
use collector::audit::arch::Arch;
use collector::audit::status::StatusChange;

/// How long the account may take to settle.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// How long the collector may take to hand memory back.
const MEMORY_TIME: Duration = Duration::from_secs(5);

/// Short waits, so that the tests end soon; the figures do not depend on them.
const WAITS: [(&str, Duration); 2] = [
    ("--reassembly-timeout-ms", Duration::from_millis(500)),
    ("--reorder-window-ms", Duration::from_millis(1000)),
];

/// Nobody waits for room in the kernel's queue, which has room for this many records.
const TINY: [&str; 4] = [
    "--mode=daemon",
    "--rate-limit=0",
    "--backlog-limit=16",
    "--backlog-wait-time=0",
];
/// Less room than the records of any call take.
const TINIEST: [&str; 4] = [
    "--mode=daemon",
    "--rate-limit=0",
    "--backlog-limit=1",
    "--backlog-wait-time=0",
];
const USUAL: [&str; 4] = [
    "--mode=daemon",
    "--rate-limit=0",
    "--backlog-limit=8192",
    "--backlog-wait-time=0",
];
const BESIDE: [&str; 2] = ["--mode=multicast", "--receive-buffer-bytes=64MiB"];

const ALL: [Requirement; 3] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
];

/// How many calls a storm has: few, unless asked for more, and fewer on an emulated processor.
fn size(short: u32, full: u32) -> u32 {
    if std::env::var("AUDIT_COLLECTOR_STORM").as_deref() == Ok("full") {
        full
    } else if in_virtual_machine() {
        short / 4
    } else {
        short
    }
}

/// What came of a storm.
struct Outcome {
    finished: Finished,
    metrics: Samples,
    comparison: Comparison,
    uid: u32,
    /// By how much the kernel's own count of lost records moved.
    lost: u64,
}

/// Runs `workload storm ARGUMENTS` as user `uid` under the collector, and checks what must hold whatever is lost.
fn storm(uid: u32, collector: &[&str], arguments: &[&str]) -> Outcome {
    let mut guard = AuditGuard::take().unwrap();
    storm_under(&mut guard, uid, collector, arguments)
}

fn storm_under(
    guard: &mut AuditGuard,
    uid: u32,
    collector: &[&str],
    arguments: &[&str],
) -> Outcome {
    for rule in rules(uid) {
        guard.add_rule(&rule).unwrap();
    }
    let waits = WAITS.map(|(flag, wait)| format!("{flag}={}", patience(wait).as_millis()));
    let flags: Vec<&str> = (waits.iter().map(String::as_str))
        .chain(collector.iter().copied())
        .collect();
    let mut collector = Collector::start(&flags).unwrap();
    let before = guard.status().unwrap().lost;
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(uid), Some(uid)).unwrap();
    let place = folder.path().to_str().unwrap();
    let arguments = [&["storm"], arguments, &["--folder", place]].concat();
    let began = Instant::now();
    let journal = workload::start(uid, &arguments).unwrap().journal().unwrap();
    let took = began.elapsed();
    let calls = journal.calls.len() as u64;
    let metrics = collector.settle(calls, patience(SETTLE_TIME)).unwrap();
    let lost = guard.status().unwrap().lost.wrapping_sub(before);
    has_handed_memory_back(&collector);
    let finished = collector.stop().unwrap();
    let comparison = journal.compare(uid, &finished.stream.events_of(uid));
    let outcome = Outcome {
        finished,
        metrics,
        comparison,
        uid,
        lost: u64::from(lost),
    };
    println!(
        "{calls} calls in {took:?}; lost +{}; {}; causes {:?}",
        outcome.lost,
        outcome.comparison,
        outcome.causes()
    );
    outcome.check(&journal);
    outcome
}

/// After a storm the collector takes no more memory than docs/memory.md says, beside its rings.
fn has_handed_memory_back(collector: &Collector) {
    let path = format!("/proc/{}/status", collector.pid());
    let own_kib = || -> u64 {
        let status = fs::read_to_string(&path).unwrap();
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        own.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    };
    wait::until(
        patience(MEMORY_TIME),
        || own_kib() <= 40 << 10,
        || format!("{} KiB are still taken", own_kib()),
    );
}

impl Outcome {
    fn events(&self) -> Vec<Event<'_>> {
        self.finished.stream.events_of(self.uid)
    }

    /// The causes of those given back.
    fn causes(&self) -> BTreeMap<Option<&str>, u64> {
        let given_back = |event: &Event<'_>| event.outcome() == "backfilled";
        tally(self.events().into_iter().filter(given_back), Event::cause)
    }

    /// Runs of programs that the kernel left out, as it may where they can be preempted (Linux 7.2).
    fn missed(&self) -> u64 {
        self.metrics.missed_runs()
    }

    fn check(&self, journal: &Journal) {
        let stream = &self.finished.stream;
        assert!(stream.broken.is_empty(), "{:?}", stream.broken);
        let missed = self.missed();
        if missed == 0 {
            self.comparison.assert_whole();
        } else {
            let made_up = [
                &self.comparison.wrong,
                &self.comparison.twice,
                &self.comparison.made_up,
            ];
            assert!(made_up.iter().all(|lines| lines.is_empty()), "{made_up:#?}");
            assert!(self.comparison.untold.len() as u64 <= missed);
        }
        let balance = Balance::of_metrics(&self.metrics);
        assert_eq!(
            balance,
            Balance::of_events(&self.events()),
            "metrics and stream differ"
        );
        let calls = journal.calls.len() as u64;
        assert!(balance.settled() <= calls && balance.settled() + missed >= calls);
        assert!(balance.unrecovered + balance.audit_only <= missed);
        let metrics = &self.metrics;
        assert_eq!(metrics.count("kernel_lost_records_total", &[]), self.lost);
        assert_eq!(metrics.count("records_malformed_total", &[]), 0);
        let dropped = metrics.count("ebpf_ringbuf_dropped_events_total", &[]);
        assert_eq!(dropped, missed);
        if stream.watches_kernel() {
            let exact = |event: &&Event<'_>| event.verdict() == Some("exact");
            let exact = self.events().iter().filter(exact).count() as u64;
            assert!(exact + missed >= calls, "{exact} of {calls} are exact");
            let mistaken = &self.comparison.taken_for_twin;
            assert!(mistaken.len() as u64 <= missed, "{mistaken:#?}");
        }
    }

    /// What was given back was so for want of room in the kernel's queue, which the kernel's own count confirms. An emulated
    /// processor may be too slow for what came through as well: that is then said of those events.
    fn check_refused(&self) {
        let overrun = self.finished.stream.losses().contains_key("queue_full");
        let mut causes: Vec<_> = self.causes().into_keys().collect();
        causes.retain(|cause| *cause != Some("queue_full") || !(overrun && in_virtual_machine()));
        assert!(
            causes.is_empty() || causes == [Some("backlog_limit")],
            "{causes:?}"
        );
        self.check_count();
    }

    /// That as many are told as lost by the kernel as it counts itself. Beside another daemon that is what could not be sent to
    /// that one as well.
    fn check_count(&self) {
        let of_kernel = [("stage", "kernel")];
        assert_eq!(
            self.metrics.count("lost_records_total", &of_kernel),
            self.lost
        );
    }

    /// That enough was lost to tell.
    fn check_lost(&self, at_least: u64) {
        let given_back = self.comparison.told.get("backfilled").copied();
        assert!(
            given_back.unwrap_or_default() >= at_least,
            "too little was lost: {}",
            self.comparison
        );
    }
}

#[test]
fn a_storm_of_opens_comes_out_whole() {
    if !requirement::met(&ALL) {
        return;
    }
    let count = size(4_000, 20_000).to_string();
    let outcome = storm(60_091, &USUAL, &["open", "--count", &count]);
    outcome.check_refused();
}

#[test]
fn a_storm_of_opens_with_hardly_any_backlog_comes_out_whole() {
    if !requirement::met(&ALL) {
        return;
    }
    let count = size(4_000, 20_000).to_string();
    let outcome = storm(60_092, &TINY, &["open", "--count", &count]);
    outcome.check_refused();
    outcome.check_lost(100);
}

#[test]
fn a_storm_of_programs_comes_out_whole() {
    if !requirement::met(&ALL) {
        return;
    }
    let count = size(400, 2_000).to_string();
    let arguments = ["exec", "--n-makers=4", "--count", &count];
    let outcome = storm(60_093, &TINIEST, &arguments);
    outcome.check_refused();
    // A program takes so long to start that hardly an event is lost whole; the others say what they lack.
    assert!(outcome.lost >= 20, "the kernel lost only {}", outcome.lost);
}

#[test]
fn a_storm_of_connections_comes_out_whole() {
    if !requirement::met(&ALL) {
        return;
    }
    let count = size(2_000, 10_000).to_string();
    let outcome = storm(60_094, &TINY, &["connect", "--count", &count]);
    outcome.check_refused();
    outcome.check_lost(100);
}

#[test]
fn a_storm_of_everything_by_many_threads_comes_out_whole() {
    if !requirement::met(&ALL) {
        return;
    }
    let count = size(64, 160).to_string();
    let threads = ["mixed", "--makers=threads", "--n-makers=64"];
    let arguments = [&threads[..], &["--count", &count]].concat();
    let outcome = storm(60_095, &TINIEST, &arguments);
    outcome.check_refused();
    outcome.check_lost(100);
}

/// Debian's daemon is slower than the calls: the kernel refuses most of them, for us as well.
#[test]
fn a_storm_beside_debians_daemon_comes_out_whole() {
    if !requirement::met(&[&ALL[..], &[Requirement::Program(auditd::PROGRAM)]].concat()) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    guard
        .set(&StatusChange {
            enabled: Some(1),
            failure: Some(0),
            rate_limit: Some(0),
            backlog_limit: Some(8192),
            backlog_wait_time: Some(0),
        })
        .unwrap();
    let neighbour = Auditd::start().unwrap();
    let count = size(10_000, 20_000).to_string();
    let arguments = ["open", "--count", &count];
    let outcome = storm_under(&mut guard, 60_096, &BESIDE, &arguments);
    let log = fs::read(neighbour.log()).unwrap();
    let calls = log.split(|byte| *byte == b'\n');
    let calls = calls.filter(|line| line.starts_with(b"type=SYSCALL "));
    println!("auditd wrote {}", calls.count());
    // A slow build may overrun its own socket as well, and then it cannot be told which of the two it was.
    outcome.check_count();
    drop(neighbour);
}

/// What strace sees of a search through many files, and what the collector makes of the same search.
#[test]
fn a_search_through_a_tree_is_told_file_by_file() {
    let needs = [Requirement::Program("strace"), Requirement::Program("grep")];
    if !requirement::met(&[&ALL[..], &needs].concat()) {
        return;
    }
    let uid = 60_097;
    // A virtual machine has no files of others to speak of.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../collector/src");
    let tree = if in_virtual_machine() {
        sources.as_path()
    } else {
        Path::new("/usr/include")
    };
    let program = find_program("grep").unwrap();
    let search = |command: &mut Command| {
        let ended = command
            .args(["-r", "no file has this text"])
            .arg(tree)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(1), "grep found something or failed");
    };
    let as_user = || {
        let mut command = Command::new(built_folder().join("workload"));
        command.args(["--uid", &uid.to_string(), "become"]);
        command
    };
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(uid), Some(uid)).unwrap();
    let trace = folder.path().join("trace");
    search(
        as_user()
            .args([
                "--",
                "strace",
                "-qq",
                "-s",
                "8192",
                "-e",
                "trace=openat",
                "-o",
            ])
            .arg(&trace)
            .arg(&program),
    );
    let mut traced: BTreeMap<(String, bool), u64> = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        let Some((head, result)) = line.rsplit_once(" = ") else {
            continue;
        };
        let name = head.split('"').nth(1).unwrap();
        let opened = (name.to_owned(), !result.starts_with('-'));
        *traced.entry(opened).or_default() += 1;
    }
    let n_traced: u64 = traced.values().sum();

    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "search"))
        .unwrap();
    let flags = [&["--reorder-window-ms=1000"], &TINY[..]].concat();
    let mut collector = Collector::start(&flags).unwrap();
    search(as_user().arg("--").arg(&program));
    let metrics = collector.settle(n_traced, patience(SETTLE_TIME)).unwrap();
    let finished = collector.stop().unwrap();
    let events = finished.stream.events_of(uid);
    let mut told: BTreeMap<(String, bool), u64> = BTreeMap::new();
    for event in &events {
        let name = event.0["paths"][0]["name"].as_str().unwrap_or_default();
        let opened = (name.to_owned(), event.0["syscall"]["success"] == true);
        *told.entry(opened).or_default() += 1;
        assert_eq!(event.0["process"]["comm"], "grep", "{}", event.0);
        assert_eq!(event.0["keys"][0], format!("{KEY}-search"), "{}", event.0);
    }
    println!(
        "strace saw {n_traced} calls; {}",
        Balance::of_metrics(&metrics)
    );
    assert!(n_traced >= 100, "too little to tell: {n_traced}");
    assert_eq!(events.len() as u64, n_traced);
    assert_eq!(told, traced);
}
