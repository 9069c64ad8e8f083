//! Every call of a counted workload comes out exactly once, however the kernel is made to lose it, and the stream, the
//! metrics and the account all say the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::balance::{Balance, losses_told_otherwise};
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::{Event, tally};
use audit_collector_tests::wait;
use audit_collector_tests::workload::{self, Report};
use collector::audit::arch::Arch;
use collector::audit::client::{Client, UserMessage};
use collector::audit::record::RecordType;
use collector::audit::status::StatusChange;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the account may take to settle. Builds of tests are slow, and other work may share the machine.
const SETTLE_TIME: Duration = Duration::from_secs(60);

/// Short waits, so that the tests end soon; the figures do not depend on them as long as every thread gets its turn
/// within them.
const WAITS: [(&str, Duration); 2] = [
    ("--reassembly-timeout-ms", Duration::from_millis(500)),
    ("--reorder-window-ms", Duration::from_millis(1000)),
];

/// One workload under one way to lose events.
struct Case {
    uid: u32,
    /// Settings made by the test, as another daemon would; the collector must leave them.
    settings: StatusChange,
    collector: &'static [&'static str],
    processes: u32,
    count: u32,
}

/// What came of it.
struct Outcome {
    finished: Finished,
    metrics: Samples,
    uid: u32,
    /// By how much the kernel's own count of lost records moved.
    lost: u64,
}

impl Case {
    fn calls(&self) -> u64 {
        u64::from(self.processes) * u64::from(self.count)
    }

    /// The mode arguments that the workload's calls have.
    fn numbers(&self) -> BTreeSet<u64> {
        (0..u64::from(self.processes))
            .flat_map(|maker| (1..=u64::from(self.count)).map(move |call| (maker << 24) | call))
            .collect()
    }

    /// Runs it and checks what must hold whatever is lost.
    fn run(&self) -> Outcome {
        self.run_with(|_| self.load())
    }

    /// The same where `load` does more about [`Case::load`].
    fn run_with(&self, load: impl FnOnce(&Collector) -> Report) -> Outcome {
        let mut guard = AuditGuard::take().unwrap();
        let rule = rule_for(self.uid, Arch::NATIVE, &["openat"], "account");
        guard.add_rule(&rule).unwrap();
        guard.set(&self.settings).unwrap();
        let before = guard.status().unwrap();

        let waits = WAITS.map(|(flag, wait)| format!("{flag}={}", patience(wait).as_millis()));
        let arguments: Vec<&str> = (waits.iter().map(String::as_str))
            .chain(self.collector.iter().copied())
            .collect();
        let mut collector = Collector::start(&arguments).unwrap();
        let lost_before = guard.status().unwrap().lost;
        assert_eq!(load(&collector).calls, self.calls());
        let metrics = collector
            .settle(self.calls(), patience(SETTLE_TIME))
            .unwrap();
        let lost = guard.status().unwrap().lost.wrapping_sub(lost_before);
        let finished = collector.stop().unwrap();

        let after = guard.status().unwrap();
        assert_eq!(
            (
                after.enabled,
                after.failure,
                after.rate_limit,
                after.backlog_limit
            ),
            (
                before.enabled,
                before.failure,
                before.rate_limit,
                before.backlog_limit
            ),
            "the collector left the kernel's settings changed"
        );
        assert_eq!(after.backlog_wait_time, before.backlog_wait_time);
        assert_eq!(
            after.pid, before.pid,
            "the collector still holds the audit pid"
        );

        let outcome = Outcome {
            finished,
            metrics,
            uid: self.uid,
            lost: u64::from(lost),
        };
        outcome.check(self);
        outcome
    }

    fn load(&self) -> Report {
        let (processes, count) = (self.processes.to_string(), self.count.to_string());
        let arguments = ["open", "--processes", &processes, "--count", &count];
        workload::run(self.uid, &arguments).unwrap()
    }
}

impl Outcome {
    fn events(&self) -> Vec<Event<'_>> {
        self.finished.stream.events_of(self.uid)
    }

    fn balance(&self) -> Balance {
        Balance::of_metrics(&self.metrics)
    }

    fn causes(&self) -> BTreeMap<Option<&str>, u64> {
        let events = self.events().into_iter();
        tally(
            events.filter(|event| event.outcome() == "backfilled"),
            Event::cause,
        )
    }

    /// What must hold whatever is lost.
    fn check(&self, case: &Case) {
        let stream = &self.finished.stream;
        assert!(stream.broken.is_empty(), "not JSON: {:?}", stream.broken);
        let events = self.events();
        let mut numbers: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for event in &events {
            let number = event.argument(3).unwrap_or_default();
            numbers.entry(number).or_default().push(event.0.to_string());
        }
        for twins in numbers.values() {
            assert_eq!(twins.len(), 1, "came out more than once: {twins:#?}");
        }
        let found: BTreeSet<u64> = numbers.into_keys().collect();
        assert_eq!(found, case.numbers(), "calls lost or made up");

        let balance = self.balance();
        println!("{balance}; lost +{}; causes {:?}", self.lost, self.causes());
        assert_eq!(
            balance,
            Balance::of_events(&events),
            "metrics and stream differ"
        );
        assert_eq!(balance.settled(), case.calls(), "{balance}");
        assert_eq!(balance.unrecovered, 0, "{balance}");
        assert_eq!(balance.audit_only, 0, "{balance}");

        let mut ids = BTreeSet::new();
        let mut serials = BTreeSet::new();
        for event in stream.events() {
            assert!(ids.insert(event.id()), "id {} twice", event.id());
            if let Some(serial) = event.serial() {
                assert!(serials.insert(serial), "serial {serial} twice");
            }
        }
        for event in &events {
            match event.outcome() {
                // Records may be none: where only the end of an event came through.
                "matched" => assert!(event.serial().is_some(), "{}", event.0),
                "backfilled" => assert!(event.cause().is_some(), "{}", event.0),
                _ => {}
            }
        }

        if case.processes == 1 {
            self.check_serials(&events);
        }

        let metrics = &self.metrics;
        let differences = losses_told_otherwise(stream, metrics);
        assert_eq!(differences, [""; 0]);
        assert_eq!(
            metrics.count("kernel_lost_records_total", &[]),
            self.lost,
            "the kernel's own count"
        );
        assert_eq!(metrics.count("records_malformed_total", &[]), 0);
        let dropped = metrics.count("ebpf_ringbuf_dropped_events_total", &[]);
        assert_eq!(dropped, metrics.missed_runs());
        assert_eq!(metrics.count("sink_dropped_events_total", &[]), 0);
    }
}

impl Outcome {
    /// One process makes one call after the other, so the kernel stamped them in the order of their numbers: an event
    /// that was given another call's serial breaks that order.
    fn check_serials(&self, events: &[Event<'_>]) {
        let mut stamped: Vec<(u64, u64, Event<'_>)> = events
            .iter()
            .filter_map(|event| Some((event.argument(3)?, event.serial()?, *event)))
            .collect();
        stamped.sort_unstable_by_key(|(number, ..)| *number);
        for pair in stamped.windows(2) {
            let [(number, serial, event), (next, next_serial, next_event)] = pair else {
                continue;
            };
            assert!(
                next_serial > serial && next_serial - serial >= next - number,
                "the serials of calls {number} and {next} are in the wrong order or too close: {}\n{}",
                event.0,
                next_event.0
            );
        }
    }
}

const ALL: [Requirement; 3] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
];

/// Auditing on, with room for everything.
fn ample() -> StatusChange {
    StatusChange {
        enabled: Some(1),
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        ..StatusChange::default()
    }
}

#[test]
fn nothing_is_lost_with_an_ample_backlog_as_the_daemon() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = Case {
        uid: 60_011,
        settings: StatusChange::default(),
        collector: &[
            "--mode=daemon",
            "--enable",
            "--rate-limit=0",
            "--backlog-limit=65536",
        ],
        processes: 1,
        count: 2_000,
    }
    .run();
    assert_eq!(
        outcome.balance(),
        Balance {
            matched: 2_000,
            ..Balance::default()
        }
    );
    assert_eq!(outcome.lost, 0);
    assert_eq!(outcome.finished.stream.losses(), BTreeMap::new());
}

#[test]
fn nothing_is_lost_with_an_ample_backlog_beside_a_daemon() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = Case {
        uid: 60_012,
        settings: ample(),
        collector: &["--mode=multicast", "--receive-buffer-bytes=64MiB"],
        processes: 1,
        count: 2_000,
    }
    .run();
    assert_eq!(
        outcome.balance(),
        Balance {
            matched: 2_000,
            ..Balance::default()
        }
    );
}

#[test]
fn a_rate_limit_loses_nothing_for_good() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = Case {
        uid: 60_013,
        settings: StatusChange::default(),
        collector: &[
            "--mode=daemon",
            "--enable",
            "--rate-limit=100",
            "--backlog-limit=65536",
        ],
        processes: 1,
        count: 2_000,
    }
    .run();
    assert!(
        outcome.lost >= 1_000,
        "the kernel lost only {}",
        outcome.lost
    );
    assert!(outcome.balance().backfilled >= 1_000);
    let causes = outcome.causes();
    assert_eq!(
        causes.keys().copied().collect::<Vec<_>>(),
        [Some("rate_limit")]
    );
    let told = outcome.metrics.count(
        "lost_records_total",
        &[("stage", "kernel"), ("cause", "rate_limit")],
    );
    assert_eq!(told, outcome.lost);
}

#[test]
fn a_full_backlog_loses_nothing_for_good_and_no_serial_is_made_up() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = Case {
        uid: 60_014,
        settings: StatusChange::default(),
        collector: &[
            "--mode=daemon",
            "--enable",
            "--rate-limit=0",
            "--backlog-limit=64",
            "--backlog-wait-time=0",
        ],
        processes: 2,
        count: 5_000,
    }
    .run();
    assert!(
        outcome.lost >= 1_000,
        "the kernel lost only {}",
        outcome.lost
    );
    let causes = outcome.causes();
    assert_eq!(
        causes.keys().copied().collect::<Vec<_>>(),
        [Some("backlog_limit")]
    );
    for event in outcome.events() {
        if event.outcome() == "backfilled" {
            assert_eq!(
                event.serial(),
                None,
                "a refused event consumes no serial: {}",
                event.0
            );
        }
    }
    let told = outcome.metrics.count(
        "lost_records_total",
        &[("stage", "kernel"), ("cause", "backlog_limit")],
    );
    assert_eq!(told, outcome.lost);
}

const OVERRUN: [(&str, &str); 1] = [("cause", "socket_overrun")];

/// Waits until the collector has counted some.
fn wait_for(collector: &Collector, metric: &str, labels: &[(&str, &str)]) {
    let is_counted = || collector.metrics().unwrap().count(metric, labels) > 0;
    wait::until(patience(SETTLE_TIME), is_counted, || {
        format!("{metric} stays 0")
    });
}

#[test]
fn an_overrun_of_the_socket_is_told_from_a_loss_of_the_kernel() {
    if !requirement::met(&ALL) {
        return;
    }
    let case = Case {
        uid: 60_015,
        settings: ample(),
        collector: &["--mode=multicast", "--receive-buffer-bytes=4096"],
        processes: 1,
        count: 2_000,
    };
    // However fast it reads, what is stopped does not.
    let outcome = case.run_with(|collector| {
        let pid = Pid::from_raw(collector.pid() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        let report = case.load();
        kill(pid, Signal::SIGCONT).unwrap();
        wait_for(
            collector,
            "netlink_dropped_records_total",
            &[("socket", "events")],
        );
        // A hole in the serials shows by the next one after it, unless the hooks have kept what it is of.
        let message = UserMessage::new(RecordType::USER, b"op=test").unwrap();
        Client::connect().unwrap().user_message(&message).unwrap();
        if collector.stream().watches_kernel() {
            wait_for(collector, "recovered_records_total", &OVERRUN);
        } else {
            wait_for(collector, "serial_missing_total", &[]);
        }
        report
    });
    let events = [("socket", "events")];
    assert!(outcome.metrics.count("netlink_overruns_total", &events) > 0);
    assert!(
        outcome
            .metrics
            .count("netlink_dropped_records_total", &events)
            > 0
    );
    let holes = outcome.metrics.count("serial_missing_total", &[]);
    if outcome.finished.stream.watches_kernel() {
        let dropped = outcome
            .metrics
            .count("netlink_dropped_records_total", &events);
        let recovered = outcome.metrics.count("recovered_records_total", &OVERRUN);
        assert_eq!((recovered, holes), (dropped, 0));
    } else {
        assert!(holes > 0);
    }
    assert!(outcome.balance().backfilled > 0);
    let causes = outcome.causes();
    assert_eq!(
        causes.keys().copied().collect::<Vec<_>>(),
        [Some("socket_overrun")]
    );
    assert!(
        outcome
            .finished
            .stream
            .losses()
            .contains_key("socket_overrun")
    );
}
