//! No daemon, a stopped one, a killed one: beside it nothing is lost, in its place what it did not get.

use std::collections::BTreeSet;

use audit_collector_tests::listener::listen;
use audit_collector_tests::requirement;
use collector::audit::socket::EventSocket;

use super::*;

/// A daemon that takes little at a time and judges nothing.
const ANOTHER: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--ebpf=off",
    "--backlog-limit=65536",
    "--receive-buffer-bytes=4096",
];

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

/// How a daemon ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is killed at once.
    Killed,
    /// It does not read for a while before: what the kernel has put aside for it is then kept for another one, or thrown away.
    StoppedAndKilled,
}

/// A daemon is killed, 300 calls are made, and another one starts. What it tells of is what the kernel has not kept.
fn missed_between_two_daemons(uid: u32, end: End) {
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-file={}", folder.path().join("state").display());
    let buffer = match end {
        End::Killed => "--receive-buffer-bytes=16MiB",
        End::StoppedAndKilled => "--receive-buffer-bytes=4096",
    };
    let mut first = start(&[&DAEMON, &[&state, buffer]]);
    open(uid, 100);
    first.settle(100, patience(SETTLE_TIME)).unwrap();
    // The file is brought up to date twice a second.
    thread::sleep(patience(Duration::from_millis(1_500)));
    // A listener knows what the kernel reports meanwhile: loading and unloading BPF programs is reported too.
    let mut all = EventSocket::multicast(Some(64 << 20)).unwrap();
    let lost = guard.status().unwrap().lost;
    if end == End::StoppedAndKilled {
        kill(Pid::from_raw(first.pid() as i32), Signal::SIGSTOP).unwrap();
        open_from(uid, 101, 150);
        wait_for_an_empty_queue(&mut guard);
    }
    first.end_with(Signal::SIGKILL).unwrap();
    match end {
        End::Killed => open_from(uid, 101, 300),
        End::StoppedAndKilled => open_from(uid, 251, 150),
    }
    wait_for_an_empty_queue(&mut guard);

    let mut second = start(&[&DAEMON, &[&state]]);
    open_from(uid, 401, 100);
    let metrics = second.settle(100, patience(SETTLE_TIME)).unwrap();
    let missed = [("cause", "not_running"), ("outcome", "unrecovered")];
    let name = "crosscheck_missing_events_total";
    // Sent to a daemon that read no more, and gone with it: no kernel keeps that.
    let unread = match end {
        End::Killed => 0,
        End::StoppedAndKilled => 1,
    };
    let least = if requirement::keeps_records() {
        unread
    } else {
        300
    };
    let metrics = match least {
        0 => metrics,
        least => once_counted(&second, name, &missed, least),
    };
    let told = metrics.count(name, &missed);
    assert_eq!(told, metrics.count("serial_missing_total", &[]));
    assert_eq!(
        guard.status().unwrap().lost,
        lost,
        "the kernel counts none of it"
    );
    let stream = second.stop().unwrap().stream;
    assert_eq!(losses_told_otherwise(&stream, &metrics), [""; 0]);
    // What came of the calls made meanwhile.
    let came = |event: &Event<'_>| event.argument(3).is_some_and(|n| (101..=400).contains(&n));
    let came = stream.events_of(uid).into_iter().filter(came).count() as u64;
    let heard = listen(&mut all, |_| true).unwrap();
    if requirement::keeps_records() {
        assert!(heard.calls_of(uid) >= 400);
        assert!((unread..20).contains(&told), "{told}");
        // One may have been cut in two, and then is neither.
        assert!(came <= 300 && came + told + unread >= 300, "{came} came");
    } else {
        assert_eq!(came, 0);
        assert!(told < 330, "{told}");
    }
    if told == 0 {
        return;
    }
    let loss = stream.losses_of("not_running").next().unwrap();
    assert_eq!(loss["count"], told, "{loss}");
    let end = |index: usize| loss["serials"][index].as_u64().unwrap();
    let span = end(0)..=end(1);
    let missed: BTreeSet<u64> = heard
        .serials()
        .filter(|serial| span.contains(serial))
        .collect();
    assert_eq!(missed.len() as u64, told, "{loss}");
    if !requirement::keeps_records() {
        // Besides the calls, programs that were unloaded and loaded again.
        let missed_calls = heard.serials_of(uid).filter(|serial| span.contains(serial));
        assert_eq!((heard.calls_of(uid), missed_calls.count()), (400, 300));
    }
}

#[test]
fn what_was_missed_while_the_daemon_was_dead_is_told_at_its_next_start() {
    if !requirement::met(&NEEDED) {
        return;
    }
    missed_between_two_daemons(60_125, End::Killed);
}

#[test]
fn what_waited_for_a_daemon_that_was_then_killed_is_told_at_its_next_start() {
    if !requirement::met(&NEEDED) {
        return;
    }
    missed_between_two_daemons(60_126, End::StoppedAndKilled);
}

/// With `audit=1` the kernel keeps as many records as the backlog limit says, and counts the others; without, it keeps and counts none.
#[test]
fn what_is_kept_for_a_daemon_to_come_and_what_is_lost_is_all_there_was() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_127;
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
    let folder = tempfile::tempdir().unwrap();
    let state = format!("--state-file={}", folder.path().join("state").display());
    let mut first = start(&[&DAEMON, &[&state]]);
    open(uid, 100);
    first.settle(100, patience(SETTLE_TIME)).unwrap();
    thread::sleep(patience(Duration::from_millis(1_500)));
    let lost = guard.status().unwrap().lost;
    first.end_with(Signal::SIGKILL).unwrap();
    open_from(uid, 101, 100);
    wait_for_an_empty_queue(&mut guard);
    let room = StatusChange {
        backlog_limit: Some(64),
        ..StatusChange::default()
    };
    guard.set(&room).unwrap();
    wait_for_an_empty_queue(&mut guard);
    let mut all = EventSocket::multicast(Some(64 << 20)).unwrap();
    wait_for_an_empty_queue(&mut guard);
    // The last record may still be in kauditd's hand.
    thread::sleep(patience(Duration::from_millis(100)));
    listen(&mut all, |_| true).unwrap();
    let before = guard.status().unwrap().lost;
    // Never so many at a time that they have no room in the queue itself.
    for first in (201..=400).step_by(5) {
        open_from(uid, first, 5);
        wait_for_an_empty_queue(&mut guard);
    }
    thread::sleep(patience(Duration::from_millis(100)));
    let heard = listen(&mut all, |_| true).unwrap();
    assert!(heard.calls_of(uid) >= 200);
    let counted = u64::from(guard.status().unwrap().lost - before);
    let uncounted = if requirement::keeps_records() {
        0
    } else {
        heard.records.len() as u64
    };
    assert_eq!(counted + uncounted, heard.records.len() as u64);
    let lost = u64::from(guard.status().unwrap().lost - lost);

    let mut second = start(&[&DAEMON, &[&state]]);
    open_from(uid, 401, 100);
    second.settle(100, patience(SETTLE_TIME)).unwrap();
    let name = "crosscheck_missing_events_total";
    let missed = [("cause", "not_running"), ("outcome", "unrecovered")];
    let metrics = once_counted(&second, name, &missed[1..], 200);
    let stream = second.stop().unwrap().stream;
    let told = metrics.count(name, &missed);
    assert_eq!(told, metrics.count(name, &missed[1..]), "of other causes");
    // The second one's own start is reported too, before it reads how many were lost.
    let started = listen(&mut all, |_| true).unwrap().records.len() as u64;
    let losses = stream.losses();
    let counted = losses.get("not_running").copied().unwrap_or_default();
    assert!(
        (lost..=lost + started).contains(&counted),
        "{counted}, {lost}"
    );
    assert_eq!(losses.len(), usize::from(requirement::keeps_records()));
    let came = |event: &Event<'_>| event.argument(3).is_some_and(|n| (101..=400).contains(&n));
    let came = stream.events_of(uid).into_iter().filter(came).count() as u64;
    assert_eq!(came, if requirement::keeps_records() { 100 } else { 0 });
    let calls = 300 - came;
    assert!((calls..calls + 30).contains(&told), "{told}");
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
    if requirement::keeps_records() {
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
