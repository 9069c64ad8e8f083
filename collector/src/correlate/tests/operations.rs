//! io_uring operations: those with an event of their own, and those whose record is part of a call's.

use collector_ebpf::LossReason;

use smallvec::{SmallVec, smallvec};

use super::*;
use crate::audit::rules::Keys;
use crate::probe::observation::{Credentials, Extent, Operation, Report};

fn hooked() -> Bench {
    let mut bench = Bench::new();
    bench
        .correlator
        .witness_attached(rules(KtimeNs(0)), Vec::new(), Level::AuditHooks);
    bench
}

fn report(ms: u64, serial: Option<u32>, first_lost: Option<LossReason>) -> Report {
    Report {
        time: TimeMs(EPOCH_MS + ms),
        serial: serial.map(Serial),
        lost_records: u32::from(first_lost.is_some()),
        first_lost,
        preceded: false,
    }
}

fn operation(extent: Extent, report: Report) -> Observation {
    let ms = report.time.0 - EPOCH_MS;
    Observation {
        verdict: Verdict::Exact,
        report: Some(report),
        key: Captured::Whole((*b"one\x01two").into()),
        operations: vec![Operation {
            number: 18,
            result: Some(0),
            items: 1,
            tgid: 100,
            ppid: 1,
            credentials: Credentials::default(),
            key: Captured::Absent,
            report,
        }],
        extent,
        result: None,
        paths: SmallVec::new(),
        ..observation(ms, 3)
    }
}

fn call(ms: u64, serial: Option<u32>) -> Observation {
    Observation {
        verdict: Verdict::Exact,
        report: Some(report(ms, serial, None)),
        sequence: ms + 1,
        ..observation(ms, 3)
    }
}

const URINGOP: &str = "uring_op=18 success=yes exit=0 items=1 ppid=1 pid=100 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=(null)";

fn event(ms: u64, serial: u32, completion: Completion) -> AuditEvent {
    event_of(&[(1336, URINGOP.into())], stamp(ms, serial), completion)
}

fn told(bench: &Bench) -> Vec<(Outcome, Option<Serial>, Option<Cause>, usize)> {
    let events = bench.events().into_iter();
    events
        .map(|event| {
            let operations = event.observation.as_ref().map(|seen| seen.operations.len());
            (
                event.outcome,
                event.serial,
                event.cause,
                operations.unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn one_with_an_event_of_its_own_is_matched_by_stamp_or_comes_back() {
    let mut bench = hooked();
    bench.event(event(1_000, 7, Completion::Eoe));
    bench.observe(operation(Extent::Operation, report(1_000, Some(7), None)));
    let lost = report(1_001, None, Some(LossReason::BacklogLimit));
    bench.observe(operation(Extent::Operation, lost));
    bench.poll(2_000, drained());
    bench.tick(7_000);
    assert_eq!(
        told(&bench),
        [
            (Outcome::Matched, Some(Serial(7)), None, 1),
            (Outcome::Backfilled, None, Some(Cause::BacklogLimit), 1),
        ]
    );
    let keys: Keys = smallvec![(*b"one").into(), (*b"two").into()];
    assert_eq!(bench.events()[1].rule_keys, Some(keys));
}

#[test]
fn those_inside_a_call_are_told_and_counted_with_it() {
    let mut bench = hooked();
    for _ in 0..2 {
        bench.observe(operation(Extent::InCall, report(1_000, Some(7), None)));
    }
    let whole = event_of(
        &[
            (1336, URINGOP.into()),
            (1336, URINGOP.into()),
            (1300, syscall_record(3, 0)),
        ],
        stamp(1_000, 7),
        Completion::Eoe,
    );
    bench.event(whole);
    assert_eq!(told(&bench), []);
    bench.observe(call(1_000, Some(7)));
    assert_eq!(told(&bench), [(Outcome::Matched, Some(Serial(7)), None, 2)]);
    assert_eq!(bench.correlator.crosscheck().expected, 1);
    assert!(bench.correlator.is_idle());
}

#[test]
fn a_record_lost_inside_a_call_is_the_calls_lack() {
    let mut bench = hooked();
    let lost = report(1_000, None, Some(LossReason::BacklogLimit));
    bench.observe(operation(Extent::InCall, lost));
    bench.observe(call(1_000, Some(7)));
    bench.event(syscall_event(1_000, 7, 3));
    let lack = Some(Cause::BacklogLimit);
    assert_eq!(told(&bench), [(Outcome::Matched, Some(Serial(7)), lack, 1)]);
}

#[test]
fn what_was_excluded_has_no_record_to_lack() {
    let mut bench = hooked();
    bench.observe(operation(Extent::InCall, report(1_000, None, None)));
    bench.observe(call(1_000, Some(7)));
    bench.event(syscall_event(1_000, 7, 3));
    assert_eq!(told(&bench), [(Outcome::Matched, Some(Serial(7)), None, 0)]);
}

#[test]
fn one_whose_call_is_not_reported_stands_alone() {
    let mut bench = hooked();
    // Its record comes first, or the observation does, or the record never comes.
    bench.event(event(1_000, 7, Completion::Timeout));
    bench.observe(operation(Extent::InCall, report(1_000, Some(7), None)));
    bench.observe(operation(Extent::InCall, report(1_100, Some(8), None)));
    bench.event(event(1_100, 8, Completion::Timeout));
    bench.observe(operation(Extent::InCall, report(1_200, Some(9), None)));
    bench.poll(3_000, drained());
    bench.tick(10_000);
    assert_eq!(bench.events().len(), 2);
    bench.tick(62_000);
    bench.tick(70_000);
    assert_eq!(
        told(&bench),
        [
            (Outcome::Matched, Some(Serial(7)), None, 1),
            (Outcome::Matched, Some(Serial(8)), None, 1),
            (
                Outcome::Backfilled,
                Some(Serial(9)),
                Some(Cause::KernelUnknown),
                1
            ),
        ]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn another_call_of_the_thread_takes_no_operation_of_the_one_before() {
    let mut bench = hooked();
    bench.observe(operation(Extent::InCall, report(1_000, Some(7), None)));
    bench.observe(call(1_100, Some(8)));
    bench.event(syscall_event(1_100, 8, 3));
    assert_eq!(told(&bench), [(Outcome::Matched, Some(Serial(8)), None, 0)]);
    bench.observe(operation(Extent::InCall, report(1_200, Some(9), None)));
    bench.observe(call(1_200, Some(9)));
    let whole = [(1336, URINGOP.into()), (1300, syscall_record(3, 0))];
    bench.event(event_of(&whole, stamp(1_200, 9), Completion::Eoe));
    assert_eq!(
        told(&bench)[1],
        (Outcome::Matched, Some(Serial(9)), None, 1)
    );
}

#[test]
fn only_where_the_hooks_see_it_is_one_without_an_observation_a_lack_of_ours() {
    for (level, completion, verdict) in [
        (Level::AuditHooks, Completion::Eoe, Some(Verdict::Exact)),
        (Level::AuditHooks, Completion::Timeout, None),
        (Level::Syscalls, Completion::Eoe, None),
    ] {
        let mut bench = Bench::new();
        bench
            .correlator
            .witness_attached(rules(KtimeNs(0)), Vec::new(), level);
        bench.event(event(1_000, 7, completion));
        bench.tick(3_000);
        let events = bench.events();
        assert_eq!(events[0].outcome, Outcome::AuditOnly);
        assert_eq!(events[0].verdict, verdict, "{level:?} {completion:?}");
        let crosscheck = bench.correlator.crosscheck();
        assert_eq!(crosscheck.unwatched, u64::from(verdict.is_none()));
    }
}
