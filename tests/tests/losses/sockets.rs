//! What our own sockets and queues lose.

use audit_collector_tests::listener::listen;
use audit_collector_tests::requirement;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;

use super::*;

/// Stops a reader with a small buffer for the time of a load and returns its metrics and stream.
fn overrun(uid: u32, flags: &[&str]) -> (Samples, Stream) {
    let mut guard = auditing_opens_of(uid);
    let change = StatusChange {
        enabled: Some(1),
        rate_limit: Some(0),
        backlog_limit: Some(65_536),
        ..StatusChange::default()
    };
    guard.set(&change).unwrap();
    let small = ["--receive-buffer-bytes=4096"];
    let mut collector = start(&[&["--mode=multicast", "--ebpf=on"], &small, flags]);
    // Another listener gets the same records, all of them.
    let mut all = EventSocket::multicast(Some(64 << 20)).unwrap();
    // Figures are published four times a second.
    thread::sleep(patience(Duration::from_millis(600)));
    listen(&mut all, |_| true).unwrap();
    let before = collector.metrics().unwrap();
    while_stopped(collector.pid(), || {
        open(uid, 500);
        wait_for_an_empty_queue(&mut guard);
    });
    let events = [("socket", "events")];
    once_counted(&collector, "netlink_dropped_records_total", &events, 1);
    write_a_record();
    // What the hooks keep of the records closes the holes in the serials.
    let kept = collector.stream().watches_kernel();
    if !kept {
        once_counted(&collector, "serial_missing_total", &[], 1);
    }
    // The hooks see events of others too, such as that of the listener.
    let settled = Balance::of_metrics(&before).settled() + 500;
    collector.settle(settled, patience(SETTLE_TIME)).unwrap();
    let heard = listen(&mut all, |heard| heard.says("op=test")).unwrap();
    let sent = heard.records.len() as u64;
    let count = |metrics: &Samples| {
        metrics.count("records_received_total", &[])
            + metrics.count("netlink_dropped_records_total", &events)
    };
    let mut metrics = Samples::default();
    until("every record is read or dropped", || {
        metrics = collector.metrics().unwrap();
        count(&metrics) - count(&before) >= sent
    });
    assert_eq!(
        count(&metrics) - count(&before),
        sent,
        "records read and dropped are not those sent"
    );
    let stream = stop(collector, &metrics);
    let dropped = metrics.count("netlink_dropped_records_total", &events);
    assert_eq!(stream.losses(), [("socket_overrun", dropped)].into());
    if kept {
        let overrun = [("cause", "socket_overrun")];
        assert_eq!(metrics.count("recovered_records_total", &overrun), dropped);
        assert_eq!(metrics.count("serial_missing_total", &[]), 0);
    }
    let causes = outcomes(&stream, uid, 500);
    assert!(
        causes[&("backfilled", Some("socket_overrun"))] > 300,
        "{causes:?}"
    );
    let known = |(outcome, cause): &(&str, Option<&str>)| {
        *cause == Some("socket_overrun") || (*outcome, *cause) == ("matched", None)
    };
    assert!(causes.keys().all(known), "{causes:?}");
    (metrics, stream)
}

#[test]
fn an_overrun_by_multicast_is_counted_to_the_record() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let (metrics, _) = overrun(60_131, &[]);
    assert!(metrics.count("netlink_overruns_total", &[("socket", "events")]) >= 1);
}

#[test]
fn an_overrun_that_the_kernel_does_not_tell_of_is_seen_by_what_it_dropped() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let (metrics, _) = overrun(60_132, &["--no-enobufs"]);
    assert_eq!(
        metrics.count("netlink_overruns_total", &[("socket", "events")]),
        0
    );
}

#[test]
fn what_our_own_queue_has_no_room_for_is_given_back() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_133;
    let mut guard = auditing_opens_of(uid);
    let before = guard.status().unwrap().lost;
    let flags = ["--receive-buffer-bytes=64MiB", "--record-queue-bytes=64KiB"];
    let mut collector = start(&[&DAEMON, &flags]);
    // What has piled up meanwhile is read faster than it can be matched.
    while_stopped(collector.pid(), || {
        open(uid, 2_000);
        wait_for_an_empty_queue(&mut guard);
    });
    let metrics = collector.settle(2_000, patience(SETTLE_TIME)).unwrap();
    assert_eq!(guard.status().unwrap().lost, before);
    let stream = stop(collector, &metrics);
    let told = stream.losses();
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), ["queue_full"]);
    let causes = outcomes(&stream, uid, 2_000);
    assert!(
        causes[&("backfilled", Some("queue_full"))] > 0,
        "{causes:?}"
    );
    let known = |(outcome, cause): &(&str, Option<&str>)| {
        *cause == Some("queue_full") || (*outcome, *cause) == ("matched", None)
    };
    assert!(causes.keys().all(known), "{causes:?}");
}
