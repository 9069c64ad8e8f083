//! Every way to lose events that the design knows, provoked on the kernel: each is found with its cause and its count, nothing
//! comes out twice, and stream and metrics say the same. docs/losses.md lists them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod clock;
mod counters;
mod daemons;
mod kept;
mod rules;
mod sockets;
mod switched_off;
mod witness;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::balance::{Balance, broken_identities, losses_told_otherwise};
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::{Requirement, patience};
use audit_collector_tests::stream::{Event, Stream};
use audit_collector_tests::{wait, workload};
use collector::audit::arch::Arch;
use collector::audit::client::{Client, UserMessage};
use collector::audit::record::RecordType;
use collector::audit::status::StatusChange;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the account may take to settle on a machine that others use too.
const SETTLE_TIME: Duration = Duration::from_secs(60);

const NEEDED: [Requirement; 3] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
];

/// As the daemon, with room for everything.
const DAEMON: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--ebpf=on",
    "--rate-limit=0",
    "--backlog-limit=65536",
];

/// Beside whoever is the daemon, with room for everything.
const BESIDE: [&str; 3] = [
    "--mode=multicast",
    "--ebpf=on",
    "--receive-buffer-bytes=64MiB",
];

/// Holds the audit state and has user `uid`'s openat calls audited, as soon as auditing is on.
fn auditing_opens_of(uid: u32) -> AuditGuard {
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "losses");
    guard.add_rule(&rule).unwrap();
    guard
}

/// Auditing on, with room for everything.
fn enable(guard: &mut AuditGuard) {
    let change = StatusChange {
        enabled: Some(1),
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        ..StatusChange::default()
    };
    guard.set(&change).unwrap();
}

/// Starts a collector with a short wait: the figures do not depend on it. Longer than kauditd is held up by a daemon that does
/// not read (kernel/audit.c: five times 100 ms), so that no event is parted by that.
fn start(flags: &[&[&str]]) -> Collector {
    let waits = [("--reassembly-timeout-ms", Duration::from_millis(1_000))];
    let waits = waits.map(|(flag, wait)| format!("{flag}={}", patience(wait).as_millis()));
    let waits = waits.iter().map(String::as_str);
    let flags: Vec<&str> = waits.chain(flags.concat()).collect();
    Collector::start(&flags).unwrap()
}

/// Has user `uid` make `count` calls, numbered from `first`.
fn open_from(uid: u32, first: u32, count: u32) {
    let (first, count) = (first.to_string(), count.to_string());
    let arguments = ["open", "--first", &first, "--count", &count];
    workload::run(uid, &arguments).unwrap();
}

/// The same from 1.
fn open(uid: u32, count: u32) {
    open_from(uid, 1, count);
}

/// Runs `what` while process `pid` is stopped.
fn while_stopped(pid: u32, what: impl FnOnce()) {
    let pid = Pid::from_raw(pid as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let going_on = GoesOn(pid);
    what();
    drop(going_on);
}

/// Lets a stopped process go on, in a panic too.
struct GoesOn(Pid);

impl Drop for GoesOn {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Waits until the kernel has nothing queued.
fn wait_for_an_empty_queue(guard: &mut AuditGuard) {
    until("the kernel's queue is empty", || {
        guard.status().unwrap().backlog == 0
    });
}

/// Has the kernel write a record, behind which a hole in the serials shows.
fn write_a_record() {
    let message = UserMessage::new(RecordType::USER, b"op=test").unwrap();
    Client::connect().unwrap().user_message(&message).unwrap();
}

/// Waits until `condition` holds.
fn until(what: &str, condition: impl FnMut() -> bool) {
    wait::until(limit(), condition, || what.to_owned());
}

/// The collector's metrics once they tell `value` or more of `name`.
fn once_counted(collector: &Collector, name: &str, labels: &[(&str, &str)], value: u64) -> Samples {
    let counted = |metrics: &Samples| metrics.sum(name, labels).unwrap_or_default() as u64;
    let enough = || Some(collector.metrics().unwrap()).filter(|told| counted(told) >= value);
    wait::for_some(limit(), enough, || {
        let metrics = collector.metrics().unwrap();
        let (counted, balance) = (counted(&metrics), Balance::of_metrics(&metrics));
        format!("{name} {labels:?} is {counted} and not {value}; {balance}")
    })
}

/// How long to wait for what must come: not as long as a virtual machine lets a test run, so that it is told what did not.
fn limit() -> Duration {
    patience(SETTLE_TIME).min(Duration::from_secs(150))
}

/// Whether the collector is told of each of the kernel's decisions.
fn watches_audit_code(collector: &Collector) -> bool {
    let stream = collector.stream();
    let started = stream.states("started").next().unwrap();
    let message = started["message"].to_string();
    message.contains("level audit-hooks")
}

/// The events of user `uid` by outcome and cause. Each of the calls 1 to `count` must be there once.
fn outcomes(stream: &Stream, uid: u32, count: u32) -> BTreeMap<(&str, Option<&str>), u64> {
    assert!(stream.broken.is_empty(), "not JSON: {:?}", stream.broken);
    let mut by_number: BTreeMap<u64, Event<'_>> = BTreeMap::new();
    for event in stream.events_of(uid) {
        let number = event.argument(3).unwrap_or_default();
        if let Some(twin) = by_number.insert(number, event) {
            panic!("told twice:\n{}\n{}", twin.0, event.0);
        }
    }
    let expected = (1..=u64::from(count)).collect::<Vec<_>>();
    let numbers = by_number.keys().copied().collect::<Vec<_>>();
    assert_eq!(numbers, expected, "calls lost or made up");
    audit_collector_tests::stream::tally(by_number.into_values(), |event| {
        (event.outcome(), event.cause())
    })
}

/// Stops the collector, whose `metrics` are those of a settled account, and checks that the stream tells the same of judged
/// events and of losses. Returns the stream.
fn stop(collector: Collector, metrics: &Samples) -> Stream {
    let stream = collector.stop().unwrap().stream;
    assert_eq!(broken_identities(metrics), [""; 0]);
    assert_eq!(losses_told_otherwise(&stream, metrics), [""; 0]);
    // The hooks see events of others too: those of the requests that a test itself makes.
    let judged = |event: &Event<'_>| matches!(event.verdict(), Some("exact" | "inferred"));
    let events: Vec<_> = stream.events().filter(judged).collect();
    let of_events = Balance::of_events(&events);
    let of_metrics = Balance {
        unrecovered: 0,
        ..Balance::of_metrics(metrics)
    };
    assert_eq!(of_events, of_metrics, "stream and metrics differ");
    println!("{of_metrics}; losses {:?}", stream.losses());
    stream
}
