//! io_uring operations: seen where the kernel's audit code can be watched, and passed on everywhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::stream::{Event, tally};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::language::calls::call_number;
use collector::audit::rules::{Action, Field, FilterList, Operator, Rule};

/// How long the account may take to settle. An emulated machine is slow.
const SETTLE_TIME: Duration = Duration::from_secs(120);

const ANYWHERE: [Requirement; 4] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::Ring,
];

const HOOKED: [Requirement; 5] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::Ring,
    Requirement::FunctionTracing,
];

const WORKERS: [&str; 3] = ["caller", "workers", "poller"];

/// What came of one workload.
struct Outcome {
    finished: Finished,
    metrics: Samples,
    uid: u32,
    /// Operations that the workload had done.
    done: u64,
    /// By how much the kernel's own count of lost records moved.
    lost: u64,
}

/// A rule on io_uring's operations of these names by user `uid`.
fn rule(uid: u32, names: &[&str]) -> Rule {
    let list = FilterList::URING_EXIT;
    let mut rule = Rule::new(list, Action::Always).condition(Field::UID, Operator::EQUAL, uid);
    for name in names {
        let number = call_number(list, Arch::NATIVE, name).unwrap();
        assert!(rule.set_syscall(number));
    }
    rule.key(key(uid))
}

fn key(uid: u32) -> String {
    format!("{KEY}-ring-{uid}")
}

/// Runs a workload under `rule`, with the collector as the daemon, until `expected` events are settled.
fn run(rule: &Rule, uid: u32, settings: &[&str], load: &[&str], expected: u64) -> Outcome {
    let mut guard = AuditGuard::take().unwrap();
    guard.add_rule(rule).unwrap();
    let daemon = ["--mode=daemon", "--enable", "--reorder-window-ms=1000"];
    let mut collector = Collector::start(&[&daemon, settings].concat()).unwrap();
    let said = collector.stderr();
    let hooked = Requirement::FunctionTracing.missing().is_none();
    assert_eq!(
        said.contains("witness at level audit-hooks"),
        hooked,
        "{said}"
    );
    let before = guard.status().unwrap().lost;
    let report = workload::run(uid, load).unwrap();
    let metrics = collector.settle(expected, SETTLE_TIME).unwrap();
    let lost = guard.status().unwrap().lost.wrapping_sub(before);
    let finished = collector.stop().unwrap();
    Outcome {
        finished,
        metrics,
        uid,
        done: report.calls,
        lost: u64::from(lost),
    }
}

impl Outcome {
    fn events(&self) -> Vec<Event<'_>> {
        self.finished.stream.ring_events_of(self.uid)
    }

    /// Runs of programs that the kernel left out, as it may where they can be preempted (Linux 7.2).
    fn missed(&self) -> u64 {
        self.metrics.missed_runs()
    }

    /// How many operations were issued to their end, by name. One that has to wait for something is issued again.
    fn issued(&self) -> BTreeMap<&str, u64> {
        let mut issued = BTreeMap::new();
        for (name, exit) in self.events().into_iter().flat_map(Event::operations) {
            if exit == Some(0) {
                *issued.entry(name).or_default() += 1;
            }
        }
        issued
    }
}

/// Every record has an operation that eBPF saw, and every such event is the kernel's own decision.
fn check_matched(outcome: &Outcome, worker: &str) {
    let events = outcome.events();
    let told = tally(events.iter().copied(), |event| {
        (event.outcome(), event.verdict(), event.matched_by())
    });
    println!("{worker}: {told:?}, issued {:?}", outcome.issued());
    let exact = told.get(&("matched", Some("exact"), Some("serial")));
    let exact = exact.copied().unwrap_or_default();
    assert!(
        exact + outcome.missed() >= events.len() as u64,
        "{worker}: {told:?}, {} runs missed",
        outcome.missed()
    );
    for event in &events {
        let records = event.records().matches("\"URINGOP\"").count();
        assert_eq!(records, event.operations().count(), "{}", event.0);
        let in_call = event.syscall() == Some("io_uring_enter");
        assert!(in_call || event.syscall().is_none(), "{}", event.0);
        assert_eq!(event.0["keys"][0], key(outcome.uid), "{}", event.0);
        if event.outcome() == "matched" {
            assert_eq!(event.0["complete"], true, "{}", event.0);
        }
    }
    let audit_only = [("verdict", "exact"), ("outcome", "audit_only")];
    let audit_only = outcome
        .metrics
        .count("crosscheck_events_total", &audit_only);
    assert!(audit_only <= outcome.missed());
    assert_eq!(outcome.lost, 0);
}

#[test]
fn every_operation_is_known_by_the_serial_that_the_kernel_drew() {
    if !requirement::met(&HOOKED) {
        return;
    }
    let names = ["openat", "close", "renameat", "unlinkat", "connect"];
    for (uid, worker) in (60_141..).zip(WORKERS) {
        let settings = ["--rate-limit=0", "--backlog-limit=65536"];
        let load = ["ring-kinds", "--worker", worker];
        let outcome = run(&rule(uid, &names), uid, &settings, &load, 7);
        check_matched(&outcome, worker);
        let issued = outcome.issued();
        assert_eq!(
            issued.values().sum::<u64>(),
            outcome.done,
            "{worker}: {issued:?}"
        );
        assert_eq!(issued.get("openat"), Some(&2), "{worker}: {issued:?}");
    }
}

#[test]
fn operations_of_one_call_are_told_with_it_and_counted_once() {
    if !requirement::met(&HOOKED) {
        return;
    }
    let uid = 60_145;
    let settings = ["--rate-limit=0", "--backlog-limit=65536"];
    let load = ["ring", "--worker=caller", "--count=40", "--batch=8"];
    let outcome = run(&rule(uid, &["openat"]), uid, &settings, &load, 5);
    check_matched(&outcome, "caller");
    let calls = outcome.events();
    let calls = calls.iter().filter(|event| event.syscall().is_some());
    assert_eq!(calls.count(), 5);
    assert_eq!(outcome.issued().get("openat"), Some(&40));
}

#[test]
fn what_a_rate_limit_drops_of_operations_comes_back() {
    if !requirement::met(&HOOKED) {
        return;
    }
    for (uid, worker, batch, events) in
        [(60_146, "workers", "1", 300), (60_147, "caller", "2", 150)]
    {
        let settings = ["--rate-limit=50", "--backlog-limit=65536"];
        let load = ["ring", "--worker", worker, "--count=300", "--batch", batch];
        let outcome = run(&rule(uid, &["openat"]), uid, &settings, &load, events);
        let told = tally(outcome.events(), |event| (event.outcome(), event.cause()));
        println!("{worker}: {told:?}; lost +{}", outcome.lost);
        assert!(outcome.lost > 100, "the kernel lost only {}", outcome.lost);
        let missed = outcome.missed();
        let issued = outcome.issued().get("openat").copied();
        let issued = issued.unwrap_or_default();
        assert!(
            issued <= 300 && issued + missed >= 300,
            "{worker}: {issued} of 300 operations, {missed} runs missed"
        );
        let backfilled = told.get(&("backfilled", Some("rate_limit")));
        assert!(backfilled.is_some_and(|events| *events > 20), "{told:?}");
        for event in outcome.events() {
            if event.verdict() == Some("exact") {
                assert!(event.serial().is_some(), "{}", event.0);
                assert_eq!(event.0["keys"][0], key(uid), "{}", event.0);
            }
        }
        let unrecovered = [("outcome", "unrecovered")];
        let unrecovered = outcome.metrics.sum("crosscheck_events_total", &unrecovered);
        assert!(unrecovered.unwrap_or_default() as u64 <= missed);
    }
}

/// Without the hooks nothing sees an operation but the audit stream, and nobody says otherwise.
#[test]
fn operations_pass_whole_whether_or_not_they_are_seen() {
    if !requirement::met(&ANYWHERE) {
        return;
    }
    let hooked = Requirement::FunctionTracing.missing().is_none();
    let expected = if hooked {
        (20, ("matched", Some("exact")))
    } else {
        (0, ("audit_only", None))
    };
    let uid = 60_149;
    let load = ["ring", "--worker=workers", "--count=20"];
    let outcome = run(&rule(uid, &["openat"]), uid, &[], &load, expected.0);
    let events = outcome.events();
    assert_eq!(outcome.issued().get("openat"), Some(&20));
    for event in &events {
        assert_eq!((event.outcome(), event.verdict()), expected.1);
        assert_eq!(event.syscall(), None, "{}", event.0);
        assert_eq!(event.0["keys"][0], key(uid), "{}", event.0);
        assert_eq!(event.0["missing"], serde_json::json!([]), "{}", event.0);
    }
}
