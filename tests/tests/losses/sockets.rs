//! What our own sockets and queues lose.

use audit_collector_tests::displacement::netlink_sockets_of;
use audit_collector_tests::listener::listen;
use audit_collector_tests::{requirement, sys, typed};
use collector::audit::socket::{Batch, EventSocket};

use super::*;

/// Stops a reader with a small buffer for the time of a load and returns its metrics and stream.
fn overrun(uid: u32, flags: &[&str]) -> (Samples, Stream) {
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
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

/// Nobody counts what a socket's filter refuses, and nobody can know why it did not come.
#[test]
fn what_a_filter_keeps_from_our_socket_is_given_back() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_135;
    let mut guard = auditing_opens_of(uid);
    let buffer: u32 = 5 << 20;
    let flag = format!("--receive-buffer-bytes={buffer}");
    enable(&mut guard);
    let mut collector = start(&[&["--mode=multicast", "--ebpf=on", &flag]]);
    let socket = &netlink_sockets_of(collector.pid(), buffer).unwrap()[0];
    let before = collector.metrics().unwrap();
    open(uid, 100);
    wait_for_an_empty_queue(&mut guard);
    sys::refuse_everything(socket).unwrap();
    open_from(uid, 101, 200);
    wait_for_an_empty_queue(&mut guard);
    sys::take_everything(socket).unwrap();
    open_from(uid, 301, 100);
    let metrics = collector.settle(400, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 400),
        [
            (("matched", None), 200),
            (("backfilled", Some("unknown")), 200),
        ]
        .into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    let missing = |metrics: &Samples| metrics.count("serial_missing_total", &[]);
    assert_eq!(missing(&metrics) - missing(&before), 200);
}

#[test]
fn a_record_longer_than_is_read_is_counted_and_keeps_its_beginning() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_134;
    let _guard = auditing_opens_of(uid);
    let mut collector = start(&[&DAEMON]);
    open(uid, 10);
    // Two digits of each byte.
    let (whole, cut) = (Batch::DATAGRAM_BYTES / 2 - 1_000, Batch::DATAGRAM_BYTES);
    typed::tell(&vec![1; whole]).unwrap();
    typed::tell(&vec![1; cut]).unwrap();
    open_from(uid, 11, 10);
    let labels = [("cause", "socket_truncated")];
    once_counted(&collector, "lost_records_total", &labels, 1);
    let metrics = collector.settle(20, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(stream.losses(), [("socket_truncated", 1)].into());
    assert_eq!(outcomes(&stream, uid, 20), [(("matched", None), 20)].into());
    assert_eq!(metrics.count("serial_missing_total", &[]), 0);
    let typed = |event: Event<'_>| {
        let body = event.0["records"][0]["body"].as_str()?;
        let (_, data) = body.split_once(" data=")?;
        Some(data.bytes().filter(|digit| b"01".contains(digit)).count())
    };
    let digits: Vec<_> = stream.events().filter_map(typed).collect();
    assert_eq!(digits.len(), 2);
    assert_eq!(digits[0], 2 * whole);
    let room = Batch::DATAGRAM_BYTES - 1_000..Batch::DATAGRAM_BYTES;
    assert!(room.contains(&digits[1]), "{digits:?}");
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
