//! No daemon, a stopped one, a killed one: beside it nothing is lost, in its place what it did not get.

use audit_collector_tests::requirement;
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
    let stream = stop(collector, &metrics, uid);
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
        let stream = stop(collector, &metrics, uid);
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
    let stream = stop(collector, &metrics, uid);
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
        // UNICAST_RETRIES). Without audit=1 at boot the kernel then drops it, and counts none of it.
        write_a_record();
        thread::sleep(patience(Duration::from_millis(1_500)));
    });
    write_a_record();
    let metrics = collector.settle(400, patience(SETTLE_TIME)).unwrap();
    assert_eq!(guard.status().unwrap().lost, lost);
    let stream = stop(collector, &metrics, uid);
    let causes = outcomes(&stream, uid, 400);
    let backfilled = causes
        .iter()
        .filter(|((outcome, _), _)| *outcome == "backfilled");
    let backfilled: u64 = backfilled.map(|(_, calls)| calls).sum();
    assert!(backfilled > 300, "{causes:?}");
}
