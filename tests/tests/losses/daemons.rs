//! No daemon, a stopped one, a killed one: beside it nothing is lost, in its place what it did not get.

use std::collections::BTreeSet;

use audit_collector_tests::listener::listen;
use audit_collector_tests::requirement;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;

use super::*;

/// A daemon that takes little at a time and judges nothing.
const ANOTHER: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--ebpf=off",
    "--backlog-limit=65536",
    "--receive-buffer-bytes=4096",
];

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

#[test]
fn without_a_daemon_a_reader_beside_loses_nothing() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_121;
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
    let before = guard.status().unwrap();
    assert_eq!(before.pid, 0);
    let mut collector = start(&[&BESIDE]);
    open(uid, 1_000);
    let metrics = collector.settle(1_000, patience(SETTLE_TIME)).unwrap();
    assert_eq!(metrics.count("kernel_daemon_connected", &[]), 0);
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 1_000),
        [(("matched", None), 1_000)].into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    // The kernel kept nothing for a daemon to come, and counted none of it.
    assert_eq!(guard.status().unwrap().lost, before.lost);
}

#[test]
fn beside_a_stopped_daemon_nothing_is_lost() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_122;
    let mut guard = auditing_opens_of(uid);
    let daemon = start(&[&ANOTHER]);
    let mut collector = start(&[&BESIDE]);
    while_stopped(daemon.pid(), || {
        open(uid, 400);
        let metrics = collector.settle(400, patience(SETTLE_TIME)).unwrap();
        let stream = stop(collector, &metrics);
        assert_eq!(
            outcomes(&stream, uid, 400),
            [(("matched", None), 400)].into()
        );
        wait_for_an_empty_queue(&mut guard);
    });
    daemon.stop().unwrap();
}

#[test]
fn beside_a_killed_daemon_nothing_is_lost() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_123;
    let _guard = auditing_opens_of(uid);
    let mut daemon = start(&[&ANOTHER]);
    let mut collector = start(&[&BESIDE]);
    open(uid, 200);
    collector.settle(200, patience(SETTLE_TIME)).unwrap();
    let killed = daemon.pid();
    daemon.end_with(Signal::SIGKILL).unwrap();
    open_from(uid, 201, 400);
    let metrics = collector.settle(600, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 600),
        [(("matched", None), 600)].into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    let gone = format!("pid from {killed} to 0");
    let told = |state: &serde_json::Value| state["message"].to_string().contains(&gone);
    assert!(stream.states("status_changed").any(told), "{gone}");
}

#[test]
fn what_was_missed_while_the_daemon_was_dead_is_told_at_its_next_start() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_125;
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-file={}", folder.path().join("state").display());
    let mut first = start(&[&DAEMON, &[&state]]);
    open(uid, 100);
    first.settle(100, patience(SETTLE_TIME)).unwrap();
    // The file is brought up to date twice a second.
    thread::sleep(patience(Duration::from_millis(1_500)));
    // A listener knows what the kernel reports meanwhile: loading and unloading BPF programs is reported too.
    let mut all = EventSocket::multicast(Some(64 << 20)).unwrap();
    first.end_with(Signal::SIGKILL).unwrap();
    let lost = guard.status().unwrap().lost;
    open_from(uid, 101, 300);
    wait_for_an_empty_queue(&mut guard);
    // What this kernel keeps for a daemon to come, with audit=1 on its command line, comes now.
    let kept = guard.status().unwrap().lost == lost && keeps_records();

    let mut second = start(&[&DAEMON, &[&state]]);
    open_from(uid, 401, 100);
    let metrics = second.settle(100, patience(SETTLE_TIME)).unwrap();
    let missed = [("cause", "not_running"), ("outcome", "unrecovered")];
    let of_second = |metrics: &Samples| metrics.count("crosscheck_missing_events_total", &missed);
    if kept {
        assert_eq!(of_second(&metrics), 0);
        second.stop().unwrap();
        return;
    }
    let metrics = once_counted(&second, "crosscheck_missing_events_total", &missed, 300);
    let told = of_second(&metrics);
    assert_eq!(told, metrics.count("serial_missing_total", &[]));
    assert_eq!(
        guard.status().unwrap().lost,
        lost,
        "the kernel counts none of it"
    );
    let stream = second.stop().unwrap().stream;
    assert_eq!(losses_told_otherwise(&stream, &metrics), [""; 0]);
    let loss = stream.losses_of("not_running").next().unwrap();
    assert_eq!(loss["count"], told, "{loss}");
    let end = |index: usize| loss["serials"][index].as_u64().unwrap();
    let span = end(0)..=end(1);
    let heard = listen(&mut all, |_| true).unwrap();
    let missed: BTreeSet<u64> = heard
        .serials()
        .filter(|serial| span.contains(serial))
        .collect();
    assert_eq!(missed.len() as u64, told, "{loss}");
    // Besides the calls, programs that were unloaded and loaded again.
    let missed_calls = heard.serials_of(uid).filter(|serial| span.contains(serial));
    assert_eq!((heard.calls_of(uid), missed_calls.count()), (400, 300));
}

/// Whether the kernel keeps records while there is no daemon (kernel/audit.c `audit_default`).
fn keeps_records() -> bool {
    let options = std::fs::read_to_string("/proc/cmdline").unwrap();
    options.split_whitespace().any(|word| word == "audit=1")
}

#[test]
fn what_a_stopped_daemon_misses_is_given_back_once_it_goes_on() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_124;
    let mut guard = auditing_opens_of(uid);
    let mut collector = start(&[&DAEMON, &["--receive-buffer-bytes=4096"]]);
    let lost = guard.status().unwrap().lost;
    while_stopped(collector.pid(), || {
        open(uid, 400);
        wait_for_an_empty_queue(&mut guard);
        // What could not be sent is tried again with the next record: five times for 100 ms (kernel/audit.c
        // UNICAST_RETRIES). Without audit=1 at boot the kernel then drops it, and counts none of it; with it, it is kept.
        write_a_record();
        thread::sleep(patience(Duration::from_millis(1_500)));
    });
    write_a_record();
    let metrics = collector.settle(400, patience(SETTLE_TIME)).unwrap();
    assert_eq!(guard.status().unwrap().lost, lost);
    let stream = stop(collector, &metrics);
    let causes = outcomes(&stream, uid, 400);
    if keeps_records() {
        assert_eq!(causes, [(("matched", None), 400)].into());
        assert_eq!(stream.losses(), BTreeMap::new());
        return;
    }
    assert!(
        causes[&("backfilled", Some("hold_overflow"))] > 300,
        "{causes:?}"
    );
    let known = |(outcome, cause): &(&str, Option<&str>)| {
        *cause == Some("hold_overflow") || (*outcome, *cause) == ("matched", None)
    };
    assert!(causes.keys().all(known), "{causes:?}");
}
