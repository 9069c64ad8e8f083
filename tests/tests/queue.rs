//! What the kernel loses behind its audit queue comes back to the byte, with the cause, and once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::displacement::netlink_sockets_of;
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::listener::{Heard, listen};
use audit_collector_tests::process::{Collector, Finished};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::Event;
use audit_collector_tests::{sys, wait, workload};
use collector::audit::arch::Arch;
use collector::audit::parse::netlink_record;
use collector::audit::privilege::Capability;
use collector::audit::record::RecordType;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ALL: [Requirement; 5] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::FunctionTracing,
    Requirement::Capability(Capability::AuditRead),
];

/// A buffer for a handful of records.
const SMALL: u32 = 4096;
/// One for all records of a test.
const LARGE: usize = 64 << 20;

/// SYSCALL, CWD, PATH, PROCTITLE and EOE of an `openat`.
const RECORDS_OF_A_CALL: u64 = 5;

const DAEMON: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--rate-limit=0",
    "--backlog-limit=8192",
    "--backlog-wait-time=0",
];

/// A collector and an independent listener that hears everything from now on.
struct Scene {
    guard: AuditGuard,
    uid: u32,
    collector: Collector,
    listener: EventSocket,
    heard: Heard,
    /// What the collector had received when the listener began, and what it had lost.
    before: Samples,
    calls: u64,
}

/// What came of it.
struct Outcome {
    finished: Finished,
    heard: Heard,
    before: Samples,
    metrics: Samples,
}

impl Scene {
    fn set(uid: u32, arguments: &[&str]) -> Self {
        let mut guard = AuditGuard::take().unwrap();
        guard
            .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "queue"))
            .unwrap();
        let mut listener = EventSocket::multicast(Some(LARGE)).unwrap();
        if requirement::keeps_records() {
            // What the kernel kept for a daemon to come goes to that one only: the listener would not hear of it.
            let earlier = Collector::start(&DAEMON).unwrap();
            calm(&earlier);
            earlier.stop().unwrap();
        }
        let buffer = format!("--receive-buffer-bytes={SMALL}");
        // What the kernel holds comes with its next record, which on an emulated processor takes a while.
        let waits = [
            "--reorder-window-ms=1000",
            "--reassembly-timeout-ms=5000",
            &buffer,
        ];
        let collector = Collector::start(&[&waits[..], arguments].concat()).unwrap();
        let mut before = calm(&collector);
        let mut calls = 0;
        // What little was kept since is sent as far as there is room for it, and the rest with the next record.
        let mut kept = requirement::keeps_records();
        while kept {
            workload::run(uid, &["open", "--count", "1"]).unwrap();
            calls += 1;
            assert!(calls < 100, "the kernel still sends what it kept");
            let came = received(&before);
            before = calm(&collector);
            kept = received(&before) > came + RECORDS_OF_A_CALL;
        }
        listen(&mut listener, |_| true).unwrap();
        Self {
            guard,
            uid,
            collector,
            listener,
            heard: Heard::default(),
            before,
            calls,
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.collector.pid() as i32), signal).unwrap();
    }

    fn open(&mut self, count: u64) {
        let count_text = count.to_string();
        workload::run(self.uid, &["open", "--count", &count_text]).unwrap();
        self.calls += count;
    }

    fn limit_backlog(&mut self, records: u32) {
        let change = StatusChange {
            backlog_limit: Some(records),
            ..StatusChange::default()
        };
        self.guard.set(&change).unwrap();
    }

    /// Waits until kauditd has taken everything out of its queue.
    fn drain_queue(&mut self) {
        wait::until(
            patience(Duration::from_secs(20)),
            || self.guard.status().unwrap().backlog == 0,
            || "the kernel's queue is not empty".to_owned(),
        );
        // The last one may still be in kauditd's hand: it tries five times for a tenth of a second.
        thread::sleep(Duration::from_millis(800));
    }

    fn end(mut self) -> Outcome {
        self.signal(Signal::SIGCONT);
        // kauditd sends what it has put aside only when there is something new.
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(300));
            self.open(1);
        }
        let time = patience(Duration::from_secs(30));
        self.collector.settle(self.calls, time).unwrap();
        let metrics = calm(&self.collector);
        let more = listen(&mut self.listener, |_| true).unwrap();
        self.heard.records.extend(more.records);
        self.heard.overruns += more.overruns;
        Outcome {
            finished: self.collector.stop().unwrap(),
            heard: self.heard,
            before: self.before,
            metrics,
        }
    }
}

/// The metrics once nothing more comes.
fn calm(collector: &Collector) -> Samples {
    let mut last = collector.metrics().unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = collector.metrics().unwrap();
        if received(&last) == received(&now) {
            return now;
        }
        last = now;
    }
}

fn received(metrics: &Samples) -> u64 {
    metrics.count("records_received_total", &[])
}

/// Type, serial and text of a record.
type Key = (RecordType, u32, String);

impl Outcome {
    /// By how much a count has grown.
    fn grown(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.metrics.count(name, labels) - self.before.count(name, labels)
    }

    fn lost(&self, cause: &str) -> u64 {
        self.grown("lost_records_total", &[("cause", cause)])
    }

    fn recovered(&self, cause: &str) -> u64 {
        self.grown("recovered_records_total", &[("cause", cause)])
    }

    /// Runs of programs that the kernel left out.
    fn missed(&self) -> u64 {
        self.metrics.missed_runs()
    }

    fn heard(&self) -> BTreeMap<Key, u64> {
        let mut heard = BTreeMap::new();
        for text in &self.heard.records {
            let (number, text) = text.strip_prefix("type=").unwrap().split_once(' ').unwrap();
            let record = netlink_record(number.parse().unwrap(), text.as_bytes()).unwrap();
            let body = String::from_utf8(record.body.into()).unwrap();
            let key = (record.record_type, record.stamp.serial.0, body);
            *heard.entry(key).or_default() += 1;
        }
        heard
    }

    fn told(&self) -> BTreeMap<Key, u64> {
        let mut told = BTreeMap::new();
        for event in self.finished.stream.events() {
            let serial = event.serial().unwrap_or_default() as u32;
            for record in event.0["records"].as_array().unwrap() {
                let name = record["type"].as_str().unwrap();
                let record_type = RecordType::from_name(name.as_bytes()).unwrap();
                let body = record["body"].as_str().unwrap().to_owned();
                *told.entry((record_type, serial, body)).or_default() += 1;
            }
        }
        told
    }

    /// Every record that the listener heard is in the stream as often, and every loss is accounted for.
    fn check(&self) -> u64 {
        assert_eq!(self.heard.overruns, 0, "the listener itself lost records");
        let came = received(&self.metrics) - received(&self.before);
        let lost = self.heard.records.len() as u64 - came;
        let recovered = self.grown("recovered_records_total", &[]);
        let missed = self.missed();
        println!("{came} came, {lost} lost, {recovered} recovered, {missed} runs missed");
        println!("losses {:?}", self.finished.stream.losses());
        assert!(recovered <= lost && lost <= recovered + missed);
        let (heard, told) = (self.heard(), self.told());
        let mut absent = Vec::new();
        for (key, count) in &heard {
            let times = told.get(key).copied().unwrap_or_default();
            if key.0 == RecordType::EOE {
                continue;
            }
            assert!(
                times <= *count,
                "told {times} times, heard {count}: {key:?}"
            );
            absent.extend((times < *count).then_some(key));
        }
        assert!(
            absent.len() as u64 <= missed,
            "{} absent, as {:?}",
            absent.len(),
            absent.first()
        );
        // Nothing of the calls is missing, their ends included, nor told in parts, as what was kept from before may be.
        let serials: BTreeSet<u64> = heard.keys().map(|key| key.1.into()).collect();
        let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
        let mut mirrored = 0;
        for event in self.finished.stream.events() {
            *ends.entry(event.serial().unwrap_or_default()).or_default() += 1;
            mirrored += self.check_event(event);
        }
        let repeated: Vec<_> = ends
            .iter()
            .filter(|(serial, n)| serials.contains(serial) && **n > 1)
            .collect();
        println!("{mirrored} records mirrored; serials told twice: {repeated:?}");
        // All of them, to see why.
        for event in self.finished.stream.events() {
            let serial = event.serial().unwrap_or_default();
            if repeated.iter().any(|(repeated, _)| **repeated == serial) {
                println!("{}", event.0);
            }
        }
        assert!(repeated.len() as u64 <= missed, "{repeated:?}");
        assert!(mirrored <= recovered && mirrored > 0);
        for sample in ["ring_full", "unreadable", "undecodable"] {
            let labels = [("ringbuf", "texts"), ("reason", sample)];
            assert_eq!(
                self.metrics
                    .count("ebpf_ringbuf_dropped_events_total", &labels),
                0
            );
        }
        lost
    }

    /// How many of its records are copies; whether what it says of itself agrees with that.
    fn check_event(&self, event: Event<'_>) -> u64 {
        let records = event.0["records"].as_array().unwrap();
        let copied = records
            .iter()
            .filter(|record| record["provenance"] == "mirror");
        let causes: Vec<_> = copied
            .clone()
            .map(|record| record["cause"].as_str().unwrap())
            .collect();
        if !causes.is_empty() {
            assert_eq!(event.outcome(), "backfilled", "{}", event.0);
            // That of the first to come, which may have been the end; or of one that did not get into the queue.
            let cause = event.cause().unwrap();
            assert!(
                causes.contains(&cause) || ["retry_overflow", "backlog_limit"].contains(&cause),
                "{}",
                event.0
            );
            let source = if causes.len() == records.len() {
                "ebpf"
            } else {
                "both"
            };
            assert!(
                event.0["source"] == source || self.missed() > 0,
                "{}",
                event.0
            );
        }
        causes.len() as u64
    }
}

/// A daemon that does not read, while the kernel's queues are long: everything is put aside to be sent again, until there is
/// no room for that.
fn stopped_daemon(uid: u32, arguments: &[&str]) -> Outcome {
    let mut scene = Scene::set(uid, &[&DAEMON[..], arguments].concat());
    scene.signal(Signal::SIGSTOP);
    scene.open(300);
    // What waits in the queue finds no room among what is to be sent again.
    scene.limit_backlog(16);
    scene.drain_queue();
    // Each time something new wakes kauditd, it tries again, and what is kept for a daemon grows.
    for _ in 0..3 {
        scene.open(2);
        scene.drain_queue();
    }
    scene.limit_backlog(8192);
    scene.open(20);
    scene.drain_queue();
    scene.end()
}

/// What the kernel counted, it gave a reason for; what it did not count, it dropped without a queue to hold it in.
fn check_reasons(outcome: &Outcome, lost: u64) {
    let counted = outcome.grown("kernel_lost_records_total", &[]);
    let (retry, hold) = (
        outcome.lost("retry_overflow"),
        outcome.lost("hold_overflow"),
    );
    println!("kernel counts {counted}: retry {retry}, hold {hold}");
    // Others may write a record while the limit is low. It has never been in the queue.
    let refused = outcome.lost("backlog_limit");
    assert!(refused < 5, "{refused}");
    let counted = counted - refused;
    let missed = outcome.missed();
    assert!(retry + hold <= lost && lost <= retry + hold + missed);
    assert!(retry > 0 && hold > 0);
    if requirement::keeps_records() {
        assert!(retry + hold + missed >= counted && retry + hold <= counted);
    } else {
        assert!(retry <= counted && counted <= retry + missed);
    }
    for cause in ["retry_overflow", "hold_overflow"] {
        let (lost, recovered) = (outcome.lost(cause), outcome.recovered(cause));
        assert!(recovered <= lost && lost <= recovered + missed, "{cause}");
    }
    let others = outcome.finished.stream.losses().into_keys();
    let others: Vec<_> = others
        .filter(|cause| !cause.ends_with("_overflow") && *cause != "backlog_limit")
        .collect();
    assert!(others.is_empty() || missed > 0, "{others:?}");
}

#[test]
fn what_a_stopped_daemon_loses_comes_back_to_the_byte() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = stopped_daemon(60_081, &[]);
    let lost = outcome.check();
    check_reasons(&outcome, lost);
}

#[test]
fn a_copy_of_every_record_tells_nothing_twice() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = stopped_daemon(60_082, &["--ebpf-text-mirror=all"]);
    let lost = outcome.check();
    check_reasons(&outcome, lost);
}

/// A multicast socket that is not read. `hide` keeps the kernel from telling it.
fn overrun(uid: u32, hide: impl FnOnce(u32)) -> Outcome {
    let mut scene = Scene::set(uid, &["--mode=multicast", "--enable"]);
    hide(scene.collector.pid());
    scene.signal(Signal::SIGSTOP);
    scene.open(100);
    scene.drain_queue();
    scene.end()
}

fn check_overrun(outcome: &Outcome) {
    let lost = outcome.check();
    assert!(lost > 300, "only {lost}");
    assert_eq!(outcome.lost("socket_overrun"), lost);
    let recovered = outcome.recovered("socket_overrun");
    assert!(recovered <= lost && lost <= recovered + outcome.missed());
    let overruns = outcome.grown("netlink_dropped_records_total", &[("socket", "events")]);
    assert_eq!(overruns, lost);
}

#[test]
fn what_a_full_multicast_socket_loses_comes_back_to_the_byte() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = overrun(60_083, |_| ());
    check_overrun(&outcome);
    assert!(outcome.grown("netlink_overruns_total", &[("socket", "events")]) > 0);
}

#[test]
fn so_it_does_where_the_kernel_does_not_tell_the_socket() {
    if !requirement::met(&ALL) {
        return;
    }
    let outcome = overrun(60_084, |pid| {
        for socket in netlink_sockets_of(pid, SMALL).unwrap() {
            sys::hide_overruns(&socket).unwrap();
        }
    });
    check_overrun(&outcome);
    assert_eq!(
        outcome.grown("netlink_overruns_total", &[("socket", "events")]),
        0
    );
}
