//! The collector under trouble: signals in the middle of a load, a disk that fills up.

use std::fs;
use std::thread;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::disk::TinyDisk;
use audit_collector_tests::process::{Collector, STOP_TIME};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::Stream;
use audit_collector_tests::{wait, workload};
use collector::audit::arch::Arch;
use collector::cli::EXIT_FAILURE;
use nix::sys::signal::Signal;

const DAEMON: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--rate-limit=0",
    "--backlog-limit=65536",
    "--reassembly-timeout-ms=500",
];

fn wait_until(what: &str, is: impl Fn() -> bool) {
    wait::until(patience(Duration::from_secs(20)), is, || what.to_owned());
}

#[test]
fn a_signal_under_load_drains_and_puts_everything_back() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
    ]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(60_021, Arch::NATIVE, &["openat"], "signal");
    guard.add_rule(&rule).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut collector = Collector::start(&DAEMON).unwrap();
        // So many that the stop takes place under it, and that how long that takes is not what the machine needs for a storm.
        let load = workload::start(60_021, &["pace", "--rate", "2000", "--count", "8000"]).unwrap();
        wait_until("an event comes", || {
            !collector.stream().events_of(60_021).is_empty()
        });
        let (status, took) = collector.end_with(signal).unwrap();
        assert!(
            status.success(),
            "{signal}: {status}: {}",
            collector.stderr()
        );
        assert!(took < patience(STOP_TIME), "{signal}: {took:?}");
        load.times().unwrap();
        let stream = collector.stream();
        assert!(
            stream.broken.is_empty(),
            "{signal}: not JSON: {:?}",
            stream.broken
        );
        assert_eq!(stream.states("stopped").count(), 1, "{signal}");
        guard.check_restored(std::slice::from_ref(&rule)).unwrap();
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    // It puts back what a collector that ends at once does not.
    let _guard = AuditGuard::take().unwrap();
    let mut collector = Collector::start(&DAEMON).unwrap();
    let pid = nix::unistd::Pid::from_raw(collector.pid() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the stop is told", || {
        collector.stderr().contains("a second signal ends at once")
    });
    let (status, took) = collector.end_with(Signal::SIGTERM).unwrap();
    // A stop in order takes half a second at least, and ends well.
    assert_eq!(status.code(), Some(i32::from(EXIT_FAILURE)), "{took:?}");
}

#[test]
fn a_full_disk_is_told_once_counted_and_survived() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Mount,
    ]) {
        return;
    }
    let uid = 60_022;
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "disk"))
        .unwrap();
    let disk = TinyDisk::new("1m").unwrap();
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![0; 700 << 10]).unwrap();
    let output = disk.path().join("events");
    let collector = Collector::start_writing_to(&output, &DAEMON).unwrap();

    workload::run(uid, &["open", "--count", "3000"]).unwrap();
    wait_until("a sink error is counted", || {
        let metrics = collector.metrics().unwrap();
        metrics.sum("sink_errors_total", &[]).unwrap_or_default() > 0.0
    });
    assert_eq!(collector.get("/-/healthy").unwrap().status, 200);
    thread::sleep(Duration::from_secs(3));
    let told = collector.stderr();
    let lines = told
        .lines()
        .filter(|line| line.to_lowercase().contains("no space"))
        .count();
    assert!(
        (1..=5).contains(&lines),
        "{lines} lines tell of the full disk: {told}"
    );

    fs::remove_file(&filler).unwrap();
    fs::write(&output, "").unwrap();
    thread::sleep(Duration::from_secs(1));
    workload::run(uid, &["open", "--count", "10"]).unwrap();
    thread::sleep(Duration::from_secs(4));
    let metrics = collector.metrics().unwrap();
    assert!(metrics.count("sink_delivered_events_total", &[]) > 0);
    collector.stop().unwrap();
    let stream = Stream::parse(&fs::read(&output).unwrap());
    assert!(stream.broken.is_empty(), "not JSON: {:?}", stream.broken);
    assert!(
        !stream.events_of(uid).is_empty(),
        "nothing came after there was room again"
    );
}
