//! The kernel's own count of lost records.

use collector::audit::client::Client;

use super::*;

#[test]
fn a_reset_of_the_kernels_count_neither_loses_nor_adds_a_record() {
    if !audit_collector_tests::requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_111;
    let mut guard = auditing_opens_of(uid);
    let limits = [
        "--mode=daemon",
        "--enable",
        "--ebpf=on",
        "--rate-limit=100",
        "--backlog-limit=65536",
    ];
    let mut collector = start(&[&limits]);
    let before = guard.status().unwrap().lost;
    open(uid, 500);
    wait_for_an_empty_queue(&mut guard);
    let lost = u64::from(guard.status().unwrap().lost - before);
    assert!(lost >= 500, "the kernel lost only {lost}");
    once_counted(&collector, "kernel_lost_records_total", &[], lost);

    Client::connect().unwrap().reset_lost().unwrap();
    // Fewer than before, so that the count stays below what it was: else no reader of it could tell.
    open_from(uid, 501, 200);
    collector.settle(700, patience(SETTLE_TIME)).unwrap();
    let lost = lost + u64::from(guard.status().unwrap().lost);
    // Where the hooks tell the cause, events need not wait for the poll that tells of the loss.
    let metrics = once_counted(&collector, "kernel_lost_records_total", &[], lost);
    assert_eq!(metrics.count("kernel_lost_records_total", &[]), lost);
    assert_eq!(metrics.count("kernel_lost_resets_total", &[]), 1);
    let stream = stop(collector, &metrics);
    assert_eq!(stream.losses(), [("rate_limit", lost)].into());
    let causes = outcomes(&stream, uid, 700);
    let known = |(outcome, cause): &(&str, Option<&str>)| {
        *cause == Some("rate_limit") || (*outcome, *cause) == ("matched", None)
    };
    assert!(causes.keys().all(known), "{causes:?}");
}
