//! What the witness itself loses: nothing that it did not see is taken for certain.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use audit_collector_tests::requirement;
use audit_collector_tests::stream::tally;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

#[test]
fn a_full_ring_makes_what_audit_alone_has_uncertain_and_says_so() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_151;
    let mut guard = auditing_opens_of(uid);
    let flags = ["--receive-buffer-bytes=64MiB", "--ebpf-ring-bytes=64KiB"];
    let mut collector = start(&[&DAEMON, &flags]);
    open(uid, 100);
    collector.settle(100, patience(SETTLE_TIME)).unwrap();
    let certain = collector.metrics().unwrap();
    assert_eq!(certain.sum("crosscheck_uncertain", &[]), Some(0.0));
    while_stopped(collector.pid(), || {
        open_from(uid, 101, 1_000);
        wait_for_an_empty_queue(&mut guard);
    });
    let outcome = [("outcome", "uncertain")];
    let dropped = [("reason", "ring_full")];
    let metrics = once_counted(&collector, "ebpf_ringbuf_dropped_events_total", &dropped, 1);
    assert_eq!(metrics.sum("crosscheck_uncertain", &[]), Some(1.0));
    let dropped = metrics.count("ebpf_ringbuf_dropped_events_total", &dropped);
    once_counted(&collector, "crosscheck_events_total", &outcome, dropped);
    let metrics = collector
        .settle(1_100 - dropped, patience(SETTLE_TIME))
        .unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 1_100),
        [
            (("matched", None), 1_100 - dropped),
            (("uncertain", Some("ring_full")), dropped),
        ]
        .into()
    );
    assert!(dropped >= 800, "only {dropped}");
    assert_eq!(stream.losses(), [("ring_full", dropped)].into());
    let begun = stream.states("witness_changed").next().unwrap();
    assert!(
        begun["message"].to_string().contains("being lost"),
        "{begun}"
    );
}

#[test]
fn calls_that_the_map_has_no_room_for_are_uncertain_and_counted() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_153;
    let _guard = auditing_opens_of(uid);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
    let mut collector = start(&[&DAEMON, &["--ebpf-in-flight=64"]]);
    // What is stamped right after the start may be of the time before.
    thread::sleep(patience(Duration::from_millis(500)));
    let path = fifo.to_str().unwrap();
    // Whoever opens it to read waits for one who writes.
    let opens = ["open", "--processes", "100", "--count", "1", "--path", path];
    let load = workload::start(uid, &opens).unwrap();
    let dropped = [("reason", "in_flight_full")];
    once_counted(
        &collector,
        "ebpf_ringbuf_dropped_events_total",
        &dropped,
        36,
    );
    let in_flight = [("map", "in_flight")];
    let metrics = once_counted(&collector, "ebpf_map_entries", &in_flight, 64);
    assert_eq!(metrics.sum("crosscheck_uncertain", &[]), Some(1.0));
    drop(OpenOptions::new().write(true).open(&fifo).unwrap());
    load.finish().unwrap();
    let judged = [("outcome", "uncertain")];
    let expected = if watches_audit_code(&collector) {
        // The hooks report what is not in flight as well.
        collector.settle(100, patience(SETTLE_TIME)).unwrap();
        [(("matched", None), 100)].into()
    } else {
        once_counted(&collector, "crosscheck_events_total", &judged, 36);
        [
            (("matched", None), 64),
            (("uncertain", Some("in_flight_full")), 36),
        ]
        .into()
    };
    let metrics = collector.settle(64, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    let events = stream.events_of(uid);
    let told = tally(events.iter().copied(), |event| {
        (event.outcome(), event.cause())
    });
    assert_eq!(told, expected);
    let calls = tally(events, |event| event.argument(3));
    assert_eq!(calls.len(), 100, "{calls:?}");
    assert_eq!(stream.losses(), [("in_flight_full", 36)].into());
    let refused = [("map", "in_flight")];
    assert_eq!(metrics.count("ebpf_map_update_errors_total", &refused), 36);
}

#[test]
fn what_neither_witness_has_is_counted_by_its_serials() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_152;
    let mut guard = auditing_opens_of(uid);
    enable(&mut guard);
    // Without the copies of records that the hooks would have.
    let flags = [
        "--mode=multicast",
        "--ebpf=on",
        "--receive-buffer-bytes=4096",
        "--ebpf-ring-bytes=64KiB",
        "--ebpf-text-mirror=off",
    ];
    let mut collector = start(&[&flags]);
    while_stopped(collector.pid(), || {
        open(uid, 1_000);
        wait_for_an_empty_queue(&mut guard);
    });
    let events = [("socket", "events")];
    once_counted(&collector, "netlink_dropped_records_total", &events, 1);
    write_a_record();
    let missing = once_counted(&collector, "serial_missing_total", &[], 900);
    let missing = missing.count("serial_missing_total", &[]);
    let metrics = collector.settle(1_000, patience(SETTLE_TIME)).unwrap();
    let balance = Balance::of_metrics(&metrics);
    println!("{balance}; {missing} serials missing");
    // Every event has come, or was given back, or is missed by its serial.
    assert_eq!(balance.settled() + balance.uncertain, 1_000, "{balance}");
    assert_eq!(missing, balance.backfilled + balance.unrecovered);
    assert!(balance.unrecovered >= 800, "{balance}");
    stop(collector, &metrics);
}
