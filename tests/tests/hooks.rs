//! Where the kernel's audit code can be watched, every verdict is the kernel's own, and so is every cause.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::stream::{Event, tally};
use audit_collector_tests::{typed, workload};
use collector::audit::arch::Arch;
use collector::audit::rules::{Action, Field, FilterList, Operator, Rule};

/// How long the account may take to settle. An emulated machine is slow.
const SETTLE_TIME: Duration = Duration::from_secs(120);

/// A short wait, so that the tests end soon; the figures do not depend on it.
const WAITS: [&str; 1] = ["--reorder-window-ms=1000"];

const ALL: [Requirement; 4] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::FunctionTracing,
];

/// What came of one workload.
struct Outcome {
    finished: Finished,
    metrics: Samples,
    uid: u32,
    /// By how much the kernel's own count of lost records moved.
    lost: u64,
}

/// Runs `processes` that each make `count` calls under a rule, with the collector as the daemon.
fn storm(uid: u32, collector: &[&str], processes: u32, count: u32) -> Outcome {
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "hooks"))
        .unwrap();
    let expected = u64::from(processes) * u64::from(count);
    let (processes, count) = (processes.to_string(), count.to_string());
    let workload = ["open", "--processes", &processes, "--count", &count];
    let outcome = run(&mut guard, uid, collector, &workload, expected);
    check(&outcome, expected);
    outcome
}

fn run(
    guard: &mut AuditGuard,
    uid: u32,
    collector: &[&str],
    workload: &[&str],
    expected: u64,
) -> Outcome {
    let daemon = ["--mode=daemon", "--enable"];
    let arguments: Vec<&str> = [&WAITS[..], &daemon, collector].concat();
    let mut collector = Collector::start(&arguments).unwrap();
    let before = guard.status().unwrap().lost;
    workload::run(uid, workload).unwrap();
    let metrics = collector.settle(expected, SETTLE_TIME).unwrap();
    let lost = guard.status().unwrap().lost.wrapping_sub(before);
    let finished = collector.stop().unwrap();
    Outcome {
        finished,
        metrics,
        uid,
        lost: u64::from(lost),
    }
}

impl Outcome {
    fn events(&self) -> Vec<Event<'_>> {
        self.finished.stream.events_of(self.uid)
    }

    /// Runs of programs that the kernel left out, as it may where they can be preempted (Linux 7.2). Each may have cost a call
    /// its observation, or the kernel's decision on it; without one everything is exact.
    fn missed(&self) -> u64 {
        self.metrics.missed_runs()
    }

    /// The causes of those given back.
    fn causes(&self) -> BTreeMap<Option<&str>, u64> {
        let given_back = |event: &Event<'_>| event.outcome() == "backfilled";
        tally(self.events().into_iter().filter(given_back), Event::cause)
    }
}

/// What must hold whatever is lost.
fn check(outcome: &Outcome, expected: u64) {
    let stream = &outcome.finished.stream;
    let started = stream.states("started").next().unwrap()["message"].to_string();
    assert!(started.contains("level audit-hooks"), "{started}");
    let events = outcome.events();
    let mut by_number: BTreeMap<u64, Event<'_>> = BTreeMap::new();
    for event in &events {
        if let Some(twin) = by_number.insert(event.argument(3).unwrap(), *event) {
            let stderr = &outcome.finished.stderr;
            panic!("told twice:\n{}\n{}\n{stderr}", twin.0, event.0);
        }
    }
    let missed = outcome.missed();
    let told = by_number.len() as u64;
    assert!(
        told <= expected && told + missed >= expected,
        "{told} of {expected} calls, {missed} runs missed"
    );
    println!(
        "{:?}; lost +{}; causes {:?}; {missed} runs missed",
        tally(events.iter().copied(), Event::outcome),
        outcome.lost,
        outcome.causes()
    );
    let exact = |event: &&Event<'_>| event.verdict() == Some("exact");
    let exact = events.iter().filter(exact).count() as u64;
    assert!(exact <= told && exact + missed >= expected, "{exact} exact");
    for event in events.iter().filter(|event| event.outcome() == "matched") {
        let by_serial = event.matched_by() == Some("serial");
        assert_eq!(by_serial, event.verdict() == Some("exact"), "{}", event.0);
    }
    let mut by_serial: BTreeMap<u64, Event<'_>> = BTreeMap::new();
    // Not of all events: records that came late are told apart from their event.
    for event in events.iter().copied() {
        let serial = event.serial();
        if let Some(other) = serial.and_then(|serial| by_serial.insert(serial, event)) {
            panic!("two events with one serial:\n{}\n{}", other.0, event.0);
        }
    }
    let metrics = &outcome.metrics;
    let told = |verdict: &str, outcome: &str| {
        let labels = [("verdict", verdict), ("outcome", outcome)];
        metrics.count("crosscheck_events_total", &labels)
    };
    assert!(told("exact", "matched") + told("exact", "backfilled") + missed >= expected);
    assert!(told("exact", "audit_only") + told("inferred", "backfilled") <= missed);
    let unrecovered = told("inferred", "unrecovered");
    assert!(
        unrecovered <= missed,
        "{unrecovered} unrecovered: {:?}\n{}",
        stream.loss_lines().collect::<Vec<_>>(),
        outcome.finished.stderr
    );
    assert_eq!(metrics.count("records_malformed_total", &[]), 0);
    let dropped = metrics.count("ebpf_ringbuf_dropped_events_total", &[]);
    assert_eq!(dropped, missed);
}

/// What the kernel's own words explain is all that it lost. An emulated processor may be too slow for what came through as
/// well: that is then said of those events, and only where our own queue was full. A run that the kernel left out (`missed`) may
/// have been the one that had the kernel's word.
fn check_causes(outcome: &Outcome, cause: &str) {
    let overrun = outcome.finished.stream.losses().contains_key("queue_full");
    let mut causes = outcome.causes();
    let unheard = causes.remove(&Some("unknown")).unwrap_or_default();
    assert!(unheard <= outcome.missed(), "{unheard} of unknown cause");
    let mut causes: Vec<_> = causes.into_keys().collect();
    causes.retain(|other| *other != Some("queue_full") || !overrun);
    assert_eq!(causes, [Some(cause)]);
    let labels = [("stage", "kernel"), ("cause", cause)];
    assert_eq!(
        outcome.metrics.count("lost_records_total", &labels),
        outcome.lost
    );
    let of_kernel = [("stage", "kernel")];
    assert_eq!(
        outcome.metrics.count("lost_records_total", &of_kernel),
        outcome.lost
    );
}

#[test]
fn what_a_full_backlog_refuses_is_exact_and_has_no_serial() {
    if !requirement::met(&ALL) {
        return;
    }
    let settings = [
        "--rate-limit=0",
        // Room for three events: how many more there are at once depends on how fast the machine is.
        "--backlog-limit=16",
        "--backlog-wait-time=0",
    ];
    let outcome = storm(60_071, &settings, 2, 5_000);
    assert!(outcome.lost >= 500, "the kernel lost only {}", outcome.lost);
    check_causes(&outcome, "backlog_limit");
    for event in outcome.events() {
        if event.cause() == Some("backlog_limit") && event.outcome() == "backfilled" {
            assert_eq!(event.serial(), None, "{}", event.0);
        }
    }
}

#[test]
fn what_a_rate_limit_drops_is_exact_and_keeps_its_serial() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = storm(
        60_072,
        &["--rate-limit=100", "--backlog-limit=65536"],
        2,
        1_000,
    );
    assert!(
        outcome.lost >= 1_000,
        "the kernel lost only {}",
        outcome.lost
    );
    check_causes(&outcome, "rate_limit");
    for event in outcome.events() {
        if event.verdict() == Some("exact") {
            assert!(event.serial().is_some(), "{}", event.0);
        }
    }
}

#[test]
fn nothing_is_expected_that_the_kernel_did_not_report() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = storm(
        60_073,
        &["--rate-limit=0", "--backlog-limit=65536"],
        2,
        2_000,
    );
    assert_eq!(outcome.lost, 0);
    assert_eq!(outcome.causes(), BTreeMap::new());
    let stream = &outcome.finished.stream;
    assert_eq!(stream.losses(), BTreeMap::new());
    assert_eq!(stream.missed_runs() > 0, outcome.missed() > 0);
}

/// A rule of the task list makes the kernel report every call of the tasks it names: also those that no rule of
/// the exit list is about, and the last one of each task, which does not return.
#[test]
fn what_a_task_rule_forces_is_matched_call_by_call() {
    if !requirement::met(&ALL) {
        return;
    }
    let uid = 60_074;
    let mut guard = AuditGuard::take().unwrap();
    let forced = Rule::new(FilterList::TASK, Action::Always)
        .condition(Field::UID, Operator::EQUAL, uid)
        .key(format!("{KEY}-task"));
    guard.add_rule(&forced).unwrap();
    let settings = ["--rate-limit=0", "--backlog-limit=65536"];
    let workload = ["forks", "--count", "20"];
    let outcome = run(&mut guard, uid, &settings, &workload, 60);
    let events = outcome.events();
    let matched = tally(events.iter().copied(), |event| {
        (event.outcome(), event.matched_by(), event.verdict())
    });
    let exact = matched[&("matched", Some("serial"), Some("exact"))];
    assert!(
        exact + outcome.missed() >= events.len() as u64,
        "{matched:?}"
    );
    let calls = tally(events.iter().copied(), Event::syscall);
    assert_eq!(calls.get(&Some("openat")), Some(&20), "{calls:?}");
    assert_eq!(calls.get(&Some("exit_group")), Some(&20), "{calls:?}");
    let audit_only = [("verdict", "exact"), ("outcome", "audit_only")];
    let audit_only = outcome
        .metrics
        .count("crosscheck_events_total", &audit_only);
    assert!(audit_only <= outcome.missed());
    assert_eq!(outcome.lost, 0);
}

/// What is longer than any piece of memory the kernel gives out. The record comes, without what there was no room for.
#[test]
fn what_the_kernel_has_no_memory_for_is_counted_by_its_own_word() {
    if !requirement::met(&ALL) {
        return;
    }
    let uid = 60_075;
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "memory");
    guard.add_rule(&rule).unwrap();
    let settings = ["--rate-limit=0", "--backlog-limit=65536"];
    let daemon = ["--mode=daemon", "--enable"];
    let arguments = [&WAITS[..], &daemon, &settings].concat();
    let mut collector = Collector::start(&arguments).unwrap();
    let before = guard.status().unwrap().lost;
    for first in ["1", "51"] {
        // Two digits of each byte; kmalloc gives 4 MiB at most.
        typed::tell(&vec![1; 3 << 20]).unwrap();
        let opens = ["open", "--first", first, "--count", "50"];
        workload::run(uid, &opens).unwrap();
    }
    collector.settle(100, SETTLE_TIME).unwrap();
    assert_eq!(guard.status().unwrap().lost, before + 2);
    // The next poll tells of it.
    let lost = [("stage", "kernel"), ("cause", "out_of_memory")];
    let count = || {
        collector
            .metrics()
            .unwrap()
            .count("lost_records_total", &lost)
    };
    let began = Instant::now();
    while count() < 2 && began.elapsed() < SETTLE_TIME {
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(count(), 2);
    let stream = collector.stop().unwrap().stream;
    assert_eq!(stream.losses(), [("out_of_memory", 2)].into());
    let events = stream.events_of(uid);
    let outcomes = tally(events.iter().copied(), |event| {
        (event.outcome(), event.cause())
    });
    assert_eq!(outcomes, [(("matched", None), 100)].into());
    let cut = |event: &Event<'_>| event.0["records"][0]["body"].to_string().contains(" data=");
    assert_eq!(stream.events().filter(cut).count(), 2);
}

/// Has `count` processes log in as user `uid` and make a call each; returns the events of the calls that logged in, which no rule asks
/// for: the kernel reports them since they have a LOGIN record.
fn logins(uid: u32, settings: &[&str], count: u32) -> Outcome {
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "forced");
    guard.add_rule(&rule).unwrap();
    let daemon = ["--mode=daemon", "--enable"];
    let arguments = [&WAITS[..], &daemon, settings].concat();
    let mut collector = Collector::start(&arguments).unwrap();
    let before = guard.status().unwrap().lost;
    let auid = uid.to_string();
    for first in 1..=count {
        let first = first.to_string();
        let open = ["--auid", &auid, "open", "--first", &first, "--count", "1"];
        workload::run(uid, &open).unwrap();
    }
    let expected = 2 * u64::from(count);
    let metrics = collector.settle(expected, SETTLE_TIME).unwrap();
    let lost = guard.status().unwrap().lost.wrapping_sub(before);
    Outcome {
        finished: collector.stop().unwrap(),
        metrics,
        uid,
        lost: u64::from(lost),
    }
}

/// The calls that logged somebody in.
fn forced(outcome: &Outcome) -> Vec<Event<'_>> {
    let logged_in = |event: &Event<'_>| {
        event.0["process"]["auid"] == outcome.uid && event.0["process"]["uid"] != outcome.uid
    };
    let events: Vec<_> = outcome.finished.stream.events().filter(logged_in).collect();
    for event in &events {
        assert_eq!(event.verdict(), Some("exact"), "{}", event.0);
        assert!(event.serial().is_some(), "{}", event.0);
    }
    events
}

fn has_login(event: &Event<'_>) -> bool {
    let records = event.0["records"].as_array().unwrap();
    records.iter().any(|record| record["type"] == "LOGIN")
}

fn misses(event: &Event<'_>, what: &str) -> bool {
    let missing = event.0["missing"].as_array().unwrap();
    missing.iter().any(|missing| missing == what)
}

#[test]
fn what_another_part_of_the_kernel_forces_is_matched_with_its_record() {
    if !requirement::met(&ALL) {
        return;
    }
    let settings = ["--rate-limit=0", "--backlog-limit=65536"];
    let outcome = logins(60_076, &settings, 8);
    let events = forced(&outcome);
    let whole = |event: &&Event<'_>| {
        has_login(event)
            && event.outcome() == "matched"
            && event.matched_by() == Some("serial")
            && event.0["complete"] == true
    };
    let whole = events.iter().filter(whole).count() as u64;
    assert_eq!(outcome.lost, 0);
    assert!(whole <= 8 && whole + outcome.missed() >= 8, "{events:?}");
}

#[test]
fn where_the_record_that_forced_an_event_is_lost_the_event_says_so() {
    if !requirement::met(&ALL) {
        return;
    }
    let settings = ["--rate-limit=1", "--backlog-limit=65536"];
    let outcome = logins(60_077, &settings, 16);
    let events = forced(&outcome);
    let missed = outcome.missed();
    let told = events.len() as u64;
    assert!(
        told <= 16 && told + missed >= 16,
        "{told} told, {missed} missed"
    );
    let without: Vec<_> = events.iter().filter(|event| !has_login(event)).collect();
    println!("lost +{}; {} without LOGIN", outcome.lost, without.len());
    assert!(without.len() >= 8, "{events:?}");
    let silent = without
        .iter()
        .filter(|event| !misses(event, "record:other"));
    assert!(silent.count() as u64 <= missed, "{without:?}");
    for event in &without {
        assert_eq!(event.0["complete"], false, "{}", event.0);
        let given_back = event.outcome() == "backfilled";
        assert!(
            !given_back || event.cause() == Some("rate_limit"),
            "{}",
            event.0
        );
    }
    let with_all = |event: &&Event<'_>| has_login(event) && misses(event, "record:other");
    assert_eq!(events.iter().filter(with_all).count(), 0, "{events:?}");
    check_causes(&outcome, "rate_limit");
}
