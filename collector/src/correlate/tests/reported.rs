//! Where the hooks see the kernel's own decisions: what has a serial is matched by nothing else, and causes are exact.

use collector_ebpf::LossReason;

use super::*;
use crate::audit::record::Record;
use crate::probe::observation::Report;

fn hooked() -> Bench {
    let mut bench = Bench::new();
    bench
        .correlator
        .witness_attached(rules(KtimeNs(0)), Vec::new(), Level::AuditHooks);
    bench
}

/// An observation of the call stamped at `ms`, as the kernel reported it.
fn reported(ms: u64, serial: Option<u32>, first_lost: Option<LossReason>) -> Observation {
    Observation {
        verdict: Verdict::Exact,
        report: Some(Report {
            time: TimeMs(EPOCH_MS + ms),
            serial: serial.map(Serial),
            lost_records: u32::from(first_lost.is_some()),
            first_lost,
            preceded: false,
        }),
        ..observation(ms, 3)
    }
}

fn outcomes(bench: &Bench) -> Vec<(Outcome, Option<Serial>, Option<Cause>)> {
    let events = bench.events().into_iter();
    events
        .map(|event| (event.outcome, event.serial, event.cause))
        .collect()
}

#[test]
fn twins_are_told_apart_by_their_serials_whichever_side_comes_first() {
    let mut bench = hooked();
    bench.event(syscall_event(1_000, 8, 3));
    for serial in [7, 8] {
        bench.observe(Observation {
            tid: serial,
            ..reported(1_000, Some(serial), None)
        });
    }
    bench.event(syscall_event(1_000, 7, 3));
    let events = bench.events();
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event.outcome, Outcome::Matched);
        assert_eq!(event.matched_by, Some(MatchedBy::Serial));
        assert_eq!(event.verdict, Some(Verdict::Exact));
        let serial = event.serial.unwrap();
        assert_eq!(event.observation.as_ref().unwrap().tid, serial.0);
    }
}

#[test]
fn a_fragment_is_matched_by_its_serial_and_says_what_the_kernel_said() {
    let mut bench = hooked();
    bench.observe(reported(1_000, Some(7), Some(LossReason::RateLimit)));
    bench.event(fragment(1_000, 7, "/somewhere/else"));
    let event = bench.events()[0];
    assert_eq!(event.matched_by, Some(MatchedBy::Serial));
    assert_eq!(event.cause, Some(Cause::RateLimit));
}

#[test]
fn what_was_refused_without_a_serial_never_takes_the_event_of_its_twin() {
    let mut bench = hooked();
    bench.observe(reported(1_000, None, Some(LossReason::BacklogLimit)));
    bench.event(syscall_event(1_000, 7, 3));
    assert_eq!(bench.events().len(), 0);
    bench.observe(reported(1_000, Some(7), None));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    assert_eq!(
        outcomes(&bench),
        [
            (Outcome::Matched, Some(Serial(7)), None),
            (Outcome::Backfilled, None, Some(Cause::BacklogLimit)),
        ]
    );
    // Nor does it take one that comes after it was given back.
    bench.event(syscall_event(1_001, 8, 3));
    bench.observe(reported(1_001, Some(8), None));
    assert_eq!(
        outcomes(&bench)[2],
        (Outcome::Matched, Some(Serial(8)), None)
    );
    assert_eq!(bench.correlator.crosscheck().superseded, 0);
}

#[test]
fn what_the_rules_ask_for_and_the_kernel_did_not_report_takes_no_event_before_its_own_could_come() {
    let mut bench = hooked();
    bench.observe(observation(1_000, 3));
    bench.event(syscall_event(1_000, 7, 3));
    bench.observe(reported(1_000, Some(7), None));
    bench.poll(
        2_000,
        Poll {
            lost: 5,
            socket_drops: 5,
            ..drained()
        },
    );
    bench.tick(7_000);
    assert_eq!(
        outcomes(&bench),
        [
            (Outcome::Matched, Some(Serial(7)), None),
            // What was lost meanwhile cannot be this one.
            (Outcome::Backfilled, None, Some(Cause::KernelUnknown)),
        ]
    );
}

#[test]
fn where_decisions_may_have_been_missed_the_kernels_reasons_speak_for_those_too() {
    let cause = |missed_decisions| {
        let mut bench = hooked();
        let mut reasons = [0; LossReason::COUNT];
        reasons[LossReason::BacklogLimit as usize] = 5;
        bench.observe(observation(1_000, 3));
        bench.poll(
            2_000,
            Poll {
                lost: 5,
                reasons: Some(reasons),
                missed_decisions,
                ..drained()
            },
        );
        bench.tick(7_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(0), Some(Cause::KernelUnknown));
    assert_eq!(cause(1), Some(Cause::BacklogLimit));
}

#[test]
fn a_call_whose_decision_was_missed_gets_its_event_before_it_is_given_back() {
    let mut bench = hooked();
    bench.observe(observation(1_000, 3));
    bench.event(syscall_event(1_000, 7, 3));
    bench.correlator.witness_passed(at(1_500));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    assert_eq!(
        outcomes(&bench),
        [(Outcome::Matched, Some(Serial(7)), None)]
    );
    assert_eq!(bench.events()[0].matched_by, Some(MatchedBy::Key));
    assert!(bench.correlator.is_idle());
}

#[test]
fn the_kernels_reason_outweighs_what_the_polls_would_make_of_it() {
    for (reason, cause) in [
        (LossReason::RateLimit, Cause::RateLimit),
        (LossReason::OutOfMemory, Cause::OutOfMemory),
        (LossReason::Other, Cause::KernelUnknown),
    ] {
        let mut bench = hooked();
        bench.observe(reported(1_000, Some(7), Some(reason)));
        bench.poll(
            2_000,
            Poll {
                lost: 5,
                socket_drops: 2,
                ..drained()
            },
        );
        bench.tick(7_000);
        assert_eq!(
            outcomes(&bench),
            [(Outcome::Backfilled, Some(Serial(7)), Some(cause))]
        );
    }
}

#[test]
fn what_got_into_the_queue_was_lost_behind_it() {
    let cause = |poll: Poll| {
        let mut bench = hooked();
        bench.observe(reported(1_000, Some(7), None));
        bench.poll(2_000, poll);
        bench.poll(3_000, drained());
        bench.tick(8_000);
        bench.events()[0].cause
    };
    let lost = |reason: LossReason| {
        let mut reasons = [0; LossReason::COUNT];
        reasons[reason as usize] = 3;
        Poll {
            lost: 3,
            reasons: Some(reasons),
            ..drained()
        }
    };
    assert_eq!(
        cause(lost(LossReason::RetryOverflow)),
        Some(Cause::RetryOverflow)
    );
    assert_eq!(
        cause(lost(LossReason::HoldOverflow)),
        Some(Cause::HoldOverflow)
    );
    assert_eq!(
        cause(lost(LossReason::BacklogLimit)),
        Some(Cause::KernelUnknown)
    );
    assert_eq!(
        cause(Poll {
            socket_drops: 1,
            ..lost(LossReason::BacklogLimit)
        }),
        Some(Cause::SocketOverrun)
    );
}

#[test]
fn an_event_waits_for_an_observation_that_is_still_on_its_way() {
    let mut bench = hooked();
    bench.event(syscall_event(1_000, 7, 3));
    bench.correlator.witness_passed(at(1_500));
    bench.tick(4_000);
    assert_eq!(bench.events().len(), 0);
    bench
        .correlator
        .observation(reported(1_000, Some(7), None), at(4_100), &mut bench.out);
    bench.event(syscall_event(1_100, 8, 3));
    bench.correlator.witness_passed(at(2_200));
    bench.tick(4_200);
    assert_eq!(
        outcomes(&bench),
        [
            (Outcome::Matched, Some(Serial(7)), None),
            (Outcome::AuditOnly, Some(Serial(8)), None),
        ]
    );
    // A witness that says nothing for long holds nothing up.
    bench.event(syscall_event(4_500, 9, 3));
    bench.tick(66_000);
    assert_eq!(bench.events().len(), 3);
}

#[test]
fn an_event_excluded_by_a_rule_is_no_loss() {
    let mut bench = hooked();
    bench.observe(reported(1_000, None, None));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    assert_eq!(bench.events().len(), 0);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.expected, crosscheck.withdrawn), (1, 1));
}

#[test]
fn what_the_kernel_reported_stands_whatever_the_rules_say_now() {
    let mut bench = hooked();
    bench.observe(reported(1_000, None, Some(LossReason::BacklogLimit)));
    bench.correlator.rules_changed(no_rules(at(900)));
    bench.correlator.exempt_changed(vec![100]);
    bench.poll(2_000, drained());
    bench.tick(7_000);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn a_call_that_no_rule_names_is_expected_where_the_kernel_reported_it() {
    let mut bench = hooked();
    let another = |serial| {
        let mut event = syscall_event(1_000, serial, 3);
        let of_call = event.records.first().unwrap();
        let body = String::from_utf8_lossy(of_call.body).replace("257", "59");
        let body = body.as_bytes();
        event.records = [Record { body, ..of_call }].into_iter().collect();
        event
    };
    bench.event(another(7));
    bench.event(another(8));
    bench.observe(reported(1_000, Some(8), None));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    bench.poll(7_500, drained());
    bench.tick(7_550);
    assert_eq!(
        outcomes(&bench),
        [
            (Outcome::Matched, Some(Serial(8)), None),
            (Outcome::AuditOnly, Some(Serial(7)), None),
        ]
    );
    assert_eq!(bench.events()[1].verdict, Some(Verdict::Exact));
}

#[test]
fn records_that_come_after_their_event_was_given_back_supersede_it_by_their_serial() {
    let mut bench = hooked();
    bench.observe(reported(1_000, Some(7), None));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    let given_back = bench.events()[0].id;
    bench.event(syscall_event(1_000, 7, 3));
    assert_eq!(bench.events()[1].supersedes, Some(given_back));
}

#[test]
fn a_gap_is_set_against_the_serials_that_are_known_to_be_lost() {
    let mut bench = hooked();
    for serial in [u32::MAX, 0] {
        bench.observe(Observation {
            sequence: u64::from(serial),
            ..reported(1_000, Some(serial), Some(LossReason::RateLimit))
        });
    }
    bench.poll(2_000, drained());
    bench.tick(7_000);
    // Three are missing across the wrap: the third is nobody's.
    bench.correlator.gap(Gap {
        first: Serial(u32::MAX),
        last: Serial(1),
        count: 3,
        before: stamp(1_000, u32::MAX - 1),
        after: stamp(1_100, 2),
        noticed: at(7_000),
    });
    bench.tick(20_000);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Unrecovered), 1);
    assert_eq!(crosscheck.total(Outcome::Backfilled), 2);
}

#[test]
fn the_kernels_reasons_are_told_as_they_are_and_the_rest_as_before() {
    let mut bench = hooked();
    let mut reasons = [0; LossReason::COUNT];
    reasons[LossReason::BacklogLimit as usize] = 2;
    reasons[LossReason::RateLimit as usize] = 3;
    bench.poll(
        1_000,
        Poll {
            lost: 6,
            reasons: Some(reasons),
            ..drained()
        },
    );
    let losses = bench.correlator.losses();
    assert_eq!(
        (
            losses[&Cause::BacklogLimit],
            losses[&Cause::RateLimit],
            losses.values().sum::<u64>()
        ),
        (3, 3, 6)
    );
}
