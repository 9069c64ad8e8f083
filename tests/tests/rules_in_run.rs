//! The rules while the collector runs: loaded, compared, put back, taken out; and the audit pid, lost and taken back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::displacement::take_seat_of;
use audit_collector_tests::process::{Collector, run_to_end};
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::{wait, workload};
use collector::audit::arch::Arch;
use collector::audit::client::Client;
use collector::audit::rules::Rule;
use collector::audit::status::StatusChange;
use collector::cli::EXIT_USAGE;
use tempfile::TempDir;

/// For what is to be noticed within a second: the status is read every 0.9 s, and a machine that others use too adds to
/// that.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A size that no other socket of the collector has.
const RECEIVE_BUFFER: u32 = 3 << 20;

const DAEMON: [&str; 4] = [
    "--mode=daemon",
    "--rate-limit=0",
    "--account-interval-s=0",
    "--reassembly-timeout-ms=200",
];

const NEEDED: [Requirement; 2] = [Requirement::AuditControl, Requirement::DaemonSeat];

/// A rule file of one user's rules, under keys of ours.
struct RuleFile {
    uid: u32,
    folder: TempDir,
}

impl RuleFile {
    fn new(uid: u32, lines: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test.rules"), lines.join("\n") + "\n").unwrap();
        Self { uid, folder }
    }

    /// One rule for each of `calls`.
    fn of_calls(uid: u32, before: &[&str], calls: &[&str]) -> Self {
        let rules = calls.iter().map(|call| line(uid, call));
        let lines: Vec<_> = before
            .iter()
            .map(|line| (*line).to_owned())
            .chain(rules)
            .collect();
        Self::new(uid, &lines)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("test.rules")
    }

    fn flag(&self) -> String {
        format!("--rules={}", self.path().display())
    }

    fn rule(&self, call: &str) -> Rule {
        rule_for(self.uid, Arch::NATIVE, &[call], call)
    }
}

/// The line that asks for `rule_for(uid, NATIVE, [call], call)`.
fn line(uid: u32, call: &str) -> String {
    format!("-a always,exit -F arch=b64 -S {call} -F uid={uid} -k {KEY}-{call}")
}

fn start(file: &RuleFile, more: &[&str]) -> Collector {
    let flag = file.flag();
    let arguments: Vec<&str> = DAEMON
        .iter()
        .chain(more)
        .copied()
        .chain([flag.as_str()])
        .collect();
    Collector::start(&arguments).unwrap()
}

fn kernel_rules() -> Vec<Rule> {
    Client::connect().unwrap().rules().unwrap()
}

/// Waits until `what` was told `count` times; says how long that took, and the last message.
fn told(collector: &Collector, what: &str, count: usize, time: Duration) -> (Duration, String) {
    let began = Instant::now();
    let message = wait::for_some(
        time,
        || {
            let stream = collector.stream();
            let state = stream.states(what).nth(count - 1)?;
            Some(state["message"].as_str().unwrap().to_owned())
        },
        || format!("no {what}: {}", collector.stderr()),
    );
    (began.elapsed(), message)
}

/// Waits until a gauge has this value.
fn gauge(collector: &Collector, name: &str, value: f64) {
    let current = || collector.metrics().unwrap().sum(name, &[]);
    wait::until(
        Duration::from_secs(5),
        || current() == Some(value),
        || format!("{name} is {:?}, not {value}", current()),
    );
}

fn gauge_is_there(collector: &Collector, name: &str) {
    wait::until(
        Duration::from_secs(5),
        || collector.metrics().unwrap().sum(name, &[]).is_some(),
        || format!("no {name}"),
    );
}

#[test]
fn rules_are_loaded_at_the_start_and_stay_with_the_settings_of_their_file() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_051, &["-b 4321", "-r 77"], &["openat", "connect"]);
    let mut guard = AuditGuard::take().unwrap();
    let before = guard.status().unwrap();
    let collector = start(&file, &["--ebpf=off"]);
    let ours = [file.rule("openat"), file.rule("connect")];
    let loaded = kernel_rules();
    assert!(loaded.ends_with(&ours), "{loaded:?}");
    // The first figures that tell of rules at all tell it.
    gauge_is_there(&collector, "rules_loaded");
    let first = collector.metrics().unwrap();
    assert_eq!(first.sum("rules_in_sync", &[]), Some(1.0));
    assert_eq!(first.sum("rules_reloads_total", &[]), Some(0.0));
    let status = guard.status().unwrap();
    assert_eq!((status.backlog_limit, status.enabled), (4321, 1));
    assert_eq!(status.rate_limit, 0, "a flag wins over the file");
    collector.stop().unwrap();
    assert!(kernel_rules().ends_with(&ours));
    let status = guard.status().unwrap();
    assert_eq!(status.backlog_limit, 4321);
    assert_eq!(
        (status.enabled, status.rate_limit),
        (before.enabled, before.rate_limit)
    );
    for rule in &ours {
        guard.delete_rule(rule).unwrap();
    }
    guard
        .set(&StatusChange {
            backlog_limit: Some(before.backlog_limit),
            ..StatusChange::default()
        })
        .unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn rules_go_at_the_exit_and_what_was_there_comes_back_where_that_is_asked_for() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_052, &["-D", "-b 4321"], &["openat"]);
    let mut guard = AuditGuard::take().unwrap();
    let former = ["connect", "unlinkat", "mkdirat"].map(|call| file.rule(call));
    for rule in &former {
        guard.add_rule(rule).unwrap();
    }
    let collector = start(
        &file,
        &[
            "--ebpf=off",
            "--rules-remove-at-exit",
            "--rules-key=audit-collector-test-ours",
        ],
    );
    let tagged = rule_for(
        60_052,
        Arch::NATIVE,
        &["openat"],
        "openat\u{1}audit-collector-test-ours",
    );
    assert_eq!(kernel_rules(), [tagged]);
    assert_eq!(guard.status().unwrap().backlog_limit, 4321);
    let finished = collector.stop().unwrap();
    assert_eq!(
        finished.stream.states("rules_drifted").count(),
        0,
        "{}",
        finished.stderr
    );
    let rules = kernel_rules();
    assert!(rules.ends_with(&former), "{rules:?}");
    guard.check_restored(&former).unwrap();
}

#[test]
fn drift_is_told_at_once_and_so_is_its_end() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_053, &["-D"], &["openat", "connect"]);
    let mut guard = AuditGuard::take().unwrap();
    let collector = start(&file, &["--ebpf=off", "--rules-remove-at-exit"]);
    gauge(&collector, "rules_in_sync", 1.0);
    guard.delete_rule(&file.rule("connect")).unwrap();
    guard.add_rule(&file.rule("mkdirat")).unwrap();
    let (took, _) = told(&collector, "rules_drifted", 1, AT_ONCE);
    // The two changes may be seen one by one.
    let last = || {
        let stream = collector.stream();
        stream.states("rules_drifted").last().unwrap()["message"].to_string()
    };
    let both = wait::for_some(
        AT_ONCE,
        || Some(last()).filter(|last| last.contains("1 missing") && last.contains("1 too many")),
        last,
    );
    assert!(
        both.contains("-S connect") && both.contains("-S mkdirat"),
        "{both}"
    );
    assert!(!both.contains("-S openat"), "{both}");
    println!("drift was told after {took:?}");
    gauge(&collector, "rules_in_sync", 0.0);
    assert!(
        collector.stderr().contains("are not the configured ones"),
        "{}",
        collector.stderr()
    );
    guard.delete_rule(&file.rule("mkdirat")).unwrap();
    guard.add_rule(&file.rule("connect")).unwrap();
    told(&collector, "rules_in_sync", 1, AT_ONCE);
    gauge(&collector, "rules_in_sync", 1.0);
    let metrics = collector.metrics().unwrap();
    assert_eq!(metrics.sum("rules_reloads_total", &[]), Some(0.0));
    assert!(
        metrics
            .sum("rules_last_change_timestamp_seconds", &[])
            .is_some()
    );
    collector.stop().unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn drift_is_noticed_while_auditing_is_off_and_no_record_tells_of_it() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_050, &[], &["openat"]);
    let mut guard = AuditGuard::take().unwrap();
    guard
        .set(&StatusChange {
            enabled: Some(0),
            ..StatusChange::default()
        })
        .unwrap();
    let more = ["--ebpf=off", "--enable=false", "--rules-remove-at-exit"];
    let collector = start(&file, &more);
    gauge(&collector, "rules_in_sync", 1.0);
    guard.delete_rule(&file.rule("openat")).unwrap();
    // They are read again after a hundred times as long as the last reading took, at the latest after ten seconds.
    let (took, _) = told(
        &collector,
        "rules_drifted",
        1,
        Duration::from_secs(10) + AT_ONCE,
    );
    println!("drift was told after {took:?}");
    collector.stop().unwrap();
    assert!(!kernel_rules().contains(&file.rule("openat")));
}

#[test]
fn rules_taken_out_are_put_back_and_the_calls_in_between_are_given_back_with_the_cause() {
    if !requirement::met(&[NEEDED[0], NEEDED[1], Requirement::Ebpf]) {
        return;
    }
    let uid = 60_054;
    let file = RuleFile::of_calls(uid, &["-D"], &["openat", "connect"]);
    let mut guard = AuditGuard::take().unwrap();
    let mut collector = start(
        &file,
        &[
            "--rules-remove-at-exit",
            "--rules-enforce",
            "--ebpf=on",
            "--backlog-limit=65536",
            "--reorder-window-ms=1000",
        ],
    );
    // So many that they last until the rule is back, and no more than a slow build keeps up with.
    let calls = 15_000;
    let load = workload::start(uid, &["open", "--count", &calls.to_string()]).unwrap();
    thread::sleep(Duration::from_millis(60));
    guard.delete_rule(&file.rule("openat")).unwrap();
    let began = Instant::now();
    let wanted = [file.rule("openat"), file.rule("connect")];
    wait::until(
        AT_ONCE,
        || kernel_rules() == wanted,
        || format!("{:?}: {}", kernel_rules(), collector.stderr()),
    );
    println!("the rule was back after {:?}", began.elapsed());
    let report = load.finish().unwrap();
    assert_eq!(report.calls, calls);
    collector.settle(calls, Duration::from_secs(30)).unwrap();
    told(&collector, "rules_enforced", 1, AT_ONCE);
    told(&collector, "rules_in_sync", 1, AT_ONCE);
    let metrics = collector.metrics().unwrap();
    assert_eq!(
        metrics.count("rules_reloads_total", &[("result", "done")]),
        1
    );
    assert_eq!(metrics.sum("rules_in_sync", &[]), Some(1.0));
    let finished = collector.stop().unwrap();
    let events = finished.stream.events_of(uid);
    let opens: Vec<_> = events
        .iter()
        .filter(|event| event.syscall() == Some("openat"))
        .collect();
    assert_eq!(opens.len() as u64, calls);
    let given_back: Vec<_> = opens
        .iter()
        .filter(|event| event.outcome() == "backfilled")
        .collect();
    let causes: BTreeSet<_> = given_back.iter().map(|event| event.cause()).collect();
    // Where our own queue was full as well, which of the two it was cannot be said.
    let overrun = finished.stream.losses().contains_key("queue_full");
    assert!(
        causes == [Some("rules_changed")].into() || overrun && !causes.is_empty(),
        "{causes:?} of {} events",
        given_back.len()
    );
    println!("{} of {calls} events were given back", given_back.len());
    guard.check_restored(&[]).unwrap();
}

#[test]
fn a_fight_over_the_rules_slows_down_and_each_time_is_counted() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_055, &[], &["openat"]);
    let mut guard = AuditGuard::take().unwrap();
    let collector = start(
        &file,
        &["--ebpf=off", "--rules-remove-at-exit", "--rules-enforce"],
    );
    let began = Instant::now();
    let mut taken_out = 0;
    while began.elapsed() < Duration::from_secs(6) {
        taken_out += u64::from(guard.delete_rule(&file.rule("openat")).is_ok());
        thread::sleep(Duration::from_millis(50));
    }
    // Put back at once, after 1 s and after 2 s more; the next time would be after 4 s more.
    assert_eq!(taken_out, 4);
    gauge(&collector, "rules_reloads_total", 3.0);
    told(&collector, "rules_enforced", 3, AT_ONCE);
    gauge(&collector, "rules_in_sync", 0.0);
    collector.stop().unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn a_fault_in_a_rule_file_is_named_and_nothing_is_touched() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let bad = line(60_056, "openat").replace("-F uid", "-F udi");
    let file = RuleFile::new(60_056, &["-D".into(), "-b 4321".into(), bad]);
    let mut guard = AuditGuard::take().unwrap();
    let output = file.folder.path().join("events");
    let ended = run_to_end(
        &[
            "run".to_owned(),
            "--mode=daemon".to_owned(),
            "--listen=off".to_owned(),
            format!("--output={}", output.display()),
            file.flag(),
        ],
        Duration::from_secs(20),
    )
    .unwrap();
    assert_eq!(ended.code, Some(i32::from(EXIT_USAGE)), "{}", ended.stderr);
    let place = format!("{}:3:", file.path().display());
    assert!(ended.stderr.contains(&place), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(!output.exists(), "the output was opened");
    guard.check_restored(&[]).unwrap();
}

#[test]
fn beside_another_daemon_rules_are_compared_and_not_loaded() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let file = RuleFile::of_calls(60_057, &[], &["openat"]);
    let mut guard = AuditGuard::take().unwrap();
    let daemon = Collector::start(&["--mode=daemon", "--ebpf=off"]).unwrap();
    let beside = Collector::start(&["--mode=multicast", "--ebpf=off", &file.flag()]).unwrap();
    let (_, message) = told(&beside, "rules_drifted", 1, AT_ONCE);
    assert!(
        message.contains("1 missing") && message.contains("-S openat"),
        "{message}"
    );
    gauge(&beside, "rules_in_sync", 0.0);
    assert!(!kernel_rules().contains(&file.rule("openat")));
    assert_eq!(daemon.metrics().unwrap().sum("rules_in_sync", &[]), None);
    guard.add_rule(&file.rule("openat")).unwrap();
    told(&beside, "rules_in_sync", 1, AT_ONCE);
    beside.stop().unwrap();
    guard.delete_rule(&file.rule("openat")).unwrap();
    daemon.stop().unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn another_daemon_in_our_place_is_noticed_and_what_goes_to_it_is_given_back() {
    if !requirement::met(&[NEEDED[0], NEEDED[1], Requirement::Ebpf]) {
        return;
    }
    let uid = 60_058;
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "displaced"))
        .unwrap();
    let buffer = format!("--receive-buffer-bytes={RECEIVE_BUFFER}");
    let arguments = [
        DAEMON.as_slice(),
        &["--ebpf=on", "--reorder-window-ms=1000", &buffer],
    ]
    .concat();
    let mut collector = Collector::start(&arguments).unwrap();
    workload::run(uid, &["open", "--count", "100"]).unwrap();
    collector.settle(100, Duration::from_secs(20)).unwrap();
    gauge(&collector, "kernel_daemon_is_self", 1.0);

    let mut seat = take_seat_of(collector.pid(), RECEIVE_BUFFER).unwrap();
    let (took, message) = told(&collector, "displaced", 1, AT_ONCE);
    println!("the other daemon was noticed after {took:?}");
    assert!(
        message.contains(&format!("process {} ", std::process::id())),
        "{message}"
    );
    assert!(
        collector.stderr().contains(&message),
        "{}",
        collector.stderr()
    );
    gauge(&collector, "kernel_daemon_is_self", 0.0);
    assert_eq!(
        collector
            .metrics()
            .unwrap()
            .count("kernel_daemon_connected", &[]),
        1
    );

    workload::run(uid, &["open", "--count", "50"]).unwrap();
    let metrics = collector.settle(150, Duration::from_secs(30)).unwrap();
    let count = |outcome| metrics.count("crosscheck_events_total", &[("outcome", outcome)]);
    assert_eq!(
        (count("matched"), count("backfilled"), count("unrecovered")),
        (100, 50, 0)
    );
    let stream = collector.stream();
    let causes: BTreeSet<_> = stream
        .events_of(uid)
        .iter()
        .filter(|event| event.outcome() == "backfilled")
        .map(|event| event.cause())
        .collect();
    assert_eq!(causes, [Some("displaced")].into());

    // It lives on as the daemon: nothing is taken from it, also not at our end.
    let enabled = guard.status().unwrap().enabled;
    let finished = collector.stop().unwrap();
    assert_eq!(finished.stream.states("reclaimed").count(), 0);
    let status = guard.status().unwrap();
    assert_eq!((status.pid, status.enabled), (std::process::id(), enabled));
    seat.release().unwrap();
}

#[test]
fn the_audit_pid_is_taken_back_once_the_other_is_gone_where_that_is_asked_for() {
    if !requirement::met(&[NEEDED[0], NEEDED[1], Requirement::Ebpf]) {
        return;
    }
    let uid = 60_059;
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "reclaim");
    guard.add_rule(&rule).unwrap();
    let buffer = format!("--receive-buffer-bytes={RECEIVE_BUFFER}");
    let more = [
        "--ebpf=on",
        "--reorder-window-ms=1000",
        "--reclaim",
        &buffer,
    ];
    let mut collector = Collector::start(&[DAEMON.as_slice(), &more].concat()).unwrap();
    let mut seat = take_seat_of(collector.pid(), RECEIVE_BUFFER).unwrap();
    told(&collector, "displaced", 1, AT_ONCE);
    thread::sleep(Duration::from_millis(2_500));
    assert_eq!(guard.status().unwrap().pid, std::process::id());
    let refusals = collector
        .stderr()
        .matches("does not give the audit pid back")
        .count();
    assert_eq!(refusals, 1, "{}", collector.stderr());

    seat.release().unwrap();
    told(&collector, "reclaimed", 1, AT_ONCE);
    assert_eq!(guard.status().unwrap().pid, collector.pid());
    gauge(&collector, "kernel_daemon_is_self", 1.0);
    workload::run(uid, &["open", "--count", "100"]).unwrap();
    let metrics = collector.settle(100, Duration::from_secs(20)).unwrap();
    assert_eq!(
        metrics.count("crosscheck_events_total", &[("outcome", "matched")]),
        100
    );
    collector.stop().unwrap();
    guard.check_restored(std::slice::from_ref(&rule)).unwrap();
}
