//! The matcher against hand-made streams; time is a number here.

mod bench;
mod bounds;
mod causes;
mod maybe;
mod operations;
mod reported;
mod serials;
mod twins;

use std::time::Duration;

use bench::*;

use smallvec::smallvec;

use super::limits::Limits;
use super::matcher::Correlator;
use super::witness::Rules;
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::gaps::Gap;
use crate::audit::record::{Serial, Stamp};
use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::Poll;
use crate::event::{Cause, MatchedBy, Outcome, Output, StateChange};
use crate::probe::hooks::Level;
use crate::probe::observation::{Captured, Observation, Verdict};
use crate::probe::places::Places;

#[test]
fn an_event_matches_whichever_side_comes_first() {
    let mut bench = Bench::new();
    bench.observe(observation(1_003, 3));
    bench.event(syscall_event(1_000, 7, 3));
    bench.event(syscall_event(1_004, 8, 4));
    bench.observe(observation(1_005, 4));
    let outcomes: Vec<_> = bench
        .events()
        .iter()
        .map(|event| (event.outcome, event.serial, event.cause))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Outcome::Matched, Some(Serial(7)), None),
            (Outcome::Matched, Some(Serial(8)), None)
        ]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn a_twin_is_matched_with_the_nearest_entry_and_the_rest_comes_back() {
    let mut bench = Bench::new();
    for ms in [1_000, 1_500, 2_000] {
        bench.observe(observation(ms, 3));
    }
    bench.event(syscall_event(1_497, 9, 3));
    bench.poll(
        2_100,
        Poll {
            lost: 2,
            ..drained()
        },
    );
    bench.tick(6_600);
    let events = bench.events();
    assert_eq!(
        events.iter().map(|event| event.outcome).collect::<Vec<_>>(),
        [Outcome::Matched, Outcome::Backfilled, Outcome::Backfilled]
    );
    assert_eq!(events[0].observation.as_ref().unwrap().entry, at(1_500));
    assert_eq!(events[1].between, (None, Some(Serial(9))));
    assert_eq!(events[2].between, (Some(Serial(9)), None));
    assert_eq!(events[1].serial, None);
    assert_eq!(events[1].rule_keys, Some(smallvec![(*b"opens").into()]));
    assert_eq!(events[1].cause, Some(Cause::BacklogLimit));
}

#[test]
fn an_observation_waits_as_long_as_the_kernel_queue_holds_records() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    let full = KernelStatus {
        enabled: 1,
        backlog: 50,
        backlog_limit: 64,
        ..KernelStatus::default()
    };
    bench.poll(
        20_000,
        Poll {
            status: Some(full),
            socket_empty: true,
            ..quiet()
        },
    );
    bench.tick(20_000);
    assert!(bench.events().is_empty());
    bench.event(syscall_event(998, 5, 3));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn an_observation_is_given_back_once_the_stream_has_stood_still_for_the_longest_wait() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.tick(60_000);
    assert!(bench.events().is_empty());
    bench.tick(61_001);
    assert_eq!(bench.events()[0].outcome, Outcome::Backfilled);
}

#[test]
fn an_observation_waits_for_minutes_for_a_stream_that_is_slow_and_comes() {
    let mut bench = Bench::new();
    let calls = 1_000..1_200;
    for call in calls.clone() {
        bench.observe(observation(call, 3));
    }
    for (serial, call) in calls.enumerate() {
        let now = 2_000 + serial as u64 * 1_000;
        bench.tick(now);
        let event = syscall_event(call, 5 + serial as u32, 3);
        bench.event(AuditEvent {
            completed: at(now),
            ..event
        });
    }
    bench.tick(210_000);
    let outcomes = bench.events().into_iter().map(|event| event.outcome);
    assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::Matched; 200]);
}

#[test]
fn records_that_come_after_the_backfill_supersede_it_and_settle_nothing_twice() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.poll(1_500, drained());
    bench.tick(5_600);
    bench.event(syscall_event(1_000, 5, 3));
    let events = bench.events();
    assert_eq!(events[1].supersedes, Some(events[0].id));
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.expected, crosscheck.superseded), (1, 1));
    assert!(crosscheck.balances());
}

#[test]
fn an_event_without_an_observation_is_audit_only_after_its_wait() {
    let mut bench = Bench::new();
    bench.event(syscall_event(1_000, 5, 3));
    bench.tick(1_900);
    assert!(bench.events().is_empty());
    bench.tick(2_002);
    assert_eq!(
        (bench.events()[0].outcome, bench.events()[0].verdict),
        (Outcome::AuditOnly, Some(Verdict::Inferred))
    );
}

#[test]
fn what_no_program_watches_passes_at_once() {
    let mut bench = Bench::new();
    bench.event(event_of(
        &[(1112, "pid=1 uid=0 msg='op=login'".into())],
        stamp(1_000, 4),
        Completion::Standalone,
    ));
    assert_eq!(
        (bench.events()[0].outcome, bench.events()[0].verdict),
        (Outcome::AuditOnly, None)
    );
    assert_eq!(bench.correlator.crosscheck().unwatched, 1);
}

#[test]
fn an_event_that_lost_its_syscall_record_finds_its_observation_by_content() {
    let mut bench = Bench::new();
    let mut other = observation(1_001, 3);
    other.paths[0].path = Captured::Whole((*b"/etc/passwd").into());
    bench.observe(other);
    bench.observe(observation(1_002, 4));
    bench.event(fragment(1_000, 5, "/etc/hosts"));
    bench.tick(2_100);
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].outcome, events[0].matched_by),
        (Outcome::Matched, Some(MatchedBy::Content))
    );
    assert_eq!(events[0].observation.as_ref().unwrap().result, Some(4));
}

#[test]
fn fragments_of_calls_alike_are_told_apart_by_the_order_of_serials() {
    let mut bench = Bench::new();
    // Ten calls of one program, told apart by what they returned. The records of most are lost; of the last but one
    // only a fragment is left, and the last one is whole.
    for call in 0..10 {
        bench.observe(observation(1_000 + call, 20 + call as i64));
    }
    bench.event(syscall_event(1_000, 50, 20));
    bench.event(fragment(1_000, 58, "/etc/hosts"));
    bench.event(fragment(1_000, 52, "/etc/hosts"));
    bench.event(syscall_event(1_009, 59, 29));
    bench.tick(2_100);
    let given: Vec<_> = bench
        .events()
        .iter()
        .map(|event| {
            let observation = event.observation.as_ref().unwrap();
            (event.serial.unwrap().0, observation.result.unwrap())
        })
        .collect();
    assert_eq!(given, [(50, 20), (59, 29), (58, 28), (52, 22)]);
}

#[test]
fn a_fragment_that_contradicts_every_observation_takes_none() {
    let mut bench = Bench::new();
    bench.observe(observation(1_001, 3));
    bench.event(fragment(1_000, 5, "/etc/shadow"));
    bench.tick(2_100);
    assert_eq!(
        (
            bench.events()[0].outcome,
            bench.events()[0].observation.is_none()
        ),
        (Outcome::AuditOnly, true)
    );
}

#[test]
fn a_step_of_the_clock_is_told_and_does_not_part_what_belongs_together() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    let stepped = RealtimeOffset(OFFSET.0 + 3_600_000_000_000);
    bench.correlator.tick(at(1_001), stepped, &mut bench.out);
    bench.event(AuditEvent {
        first_read: at(1_002),
        completed: at(1_002),
        ..syscall_event(3_601_000, 5, 3)
    });
    assert!(matches!(&bench.out[0], Output::State(state) if state.message.contains("3600000 ms")));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

/// One call of the property test: when it entered, which of few descriptors it got (so that twins are common), whether the
/// kernel lost its event, and how late each side arrives.
#[derive(Clone, Debug)]
struct Call {
    entry: u64,
    fd: i64,
    lost: bool,
    event_delay: u64,
    observation_delay: u64,
}

fn call() -> impl proptest::strategy::Strategy<Value = Call> {
    use proptest::prelude::*;
    (
        0..2_000_u64,
        0..4_i64,
        any::<bool>(),
        0..900_u64,
        0..900_u64,
    )
        .prop_map(|(entry, fd, lost, event_delay, observation_delay)| Call {
            entry: 1_000 + entry,
            fd,
            lost,
            event_delay,
            observation_delay,
        })
}

proptest::proptest! {
    /// Whatever the order in which the two sides arrive, every call comes out once: matched if its event was
    /// delivered, else given back; and the ledger says so.
    #[test]
    fn every_call_comes_out_once(calls in proptest::collection::vec(call(), 0..60)) {
        let mut bench = Bench::new();
        let mut arrivals: Vec<(u64, usize, bool)> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            arrivals.push((call.entry + call.observation_delay, index, true));
            if !call.lost {
                arrivals.push((call.entry + call.event_delay, index, false));
            }
        }
        arrivals.sort_unstable();
        for (ms, index, observed) in arrivals {
            let call = &calls[index];
            if observed {
                let observation = Observation { sequence: index as u64 + 1, ..observation(call.entry, call.fd) };
                bench.correlator.observation(observation, at(ms), &mut bench.out);
            } else {
                let event = syscall_event(call.entry, index as u32 + 1, call.fd);
                let event = AuditEvent { first_read: at(ms), completed: at(ms), ..event };
                bench.correlator.audit_event(event, at(ms), &mut bench.out);
            }
            bench.correlator.tick(at(ms), OFFSET, &mut bench.out);
        }
        bench.poll(8_000, drained());
        bench.tick(12_000);
        let lost = calls.iter().filter(|call| call.lost).count();
        let outcome = |wanted| bench.events().iter().filter(|event| event.outcome == wanted).count();
        proptest::prop_assert_eq!(outcome(Outcome::Backfilled), lost);
        proptest::prop_assert_eq!(outcome(Outcome::Matched), calls.len() - lost);
        let ids: std::collections::HashSet<_> = bench.events().iter().map(|event| event.id).collect();
        proptest::prop_assert_eq!(ids.len(), calls.len());
        proptest::prop_assert!(bench.correlator.crosscheck().balances());
        proptest::prop_assert!(bench.correlator.is_idle());
    }
}

#[test]
fn a_call_that_blocked_after_its_first_record_is_matched_when_the_rest_comes_late() {
    let mut bench = Bench::new();
    let late = AuditEvent {
        completion: Completion::Late,
        ..syscall_event(1_000, 5, 3)
    };
    bench.event(late);
    bench.observe(observation(1_003, 3));
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].outcome, Outcome::Matched);
    assert!(matches!(
        events[0].id,
        crate::event::EventId::Audit { part: 1, .. }
    ));
}

#[test]
fn an_event_of_which_only_the_end_came_finds_its_observation() {
    let mut bench = Bench::new();
    bench.observe(observation(1_002, 4));
    bench.event(event_of(&[], stamp(1_000, 5), Completion::Eoe));
    bench.tick(2_100);
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].serial, events[0].matched_by),
        (Some(Serial(5)), Some(MatchedBy::Content))
    );
}

#[test]
fn what_entered_around_the_attachment_is_matched_where_it_was_seen_and_unwatched_where_not() {
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(
        Limits::new(Duration::from_secs(2), Duration::from_secs(4)),
        OFFSET,
    );
    bench
        .correlator
        .witness_attached(rules(at(1_003)), Vec::new(), Level::Syscalls);
    bench.event(syscall_event(1_000, 5, 3));
    bench.observe(observation(1_004, 3));
    bench.event(syscall_event(1_000, 6, 4));
    bench.event(syscall_event(700, 7, 5));
    bench.tick(3_000);
    let events = bench.events();
    let outcomes: Vec<_> = events
        .iter()
        .map(|event| (event.serial, event.outcome, event.verdict))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Some(Serial(5)), Outcome::Matched, Some(Verdict::Inferred)),
            (Some(Serial(7)), Outcome::AuditOnly, None),
            (Some(Serial(6)), Outcome::AuditOnly, None),
        ]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn a_clock_set_far_back_makes_nothing_come_out_twice() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.event(syscall_event(1_000, 5, 3));
    let back = RealtimeOffset(OFFSET.0 - 86_400_000_000_000);
    bench.correlator.tick(at(2_000), back, &mut bench.out);
    for (ms, serial) in [(3_000, 6), (70_000, 7)] {
        bench.observe(Observation {
            sequence: ms,
            ..observation(ms, 3)
        });
        let stamped = syscall_event(ms, serial, 3);
        let stamp = Stamp {
            time: TimeMs(stamped.stamp.time.0 - 86_400_000),
            ..stamped.stamp
        };
        bench.event(AuditEvent { stamp, ..stamped });
        bench.correlator.tick(at(ms + 5), back, &mut bench.out);
    }
    let outcomes: Vec<_> = bench.events().iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [Outcome::Matched; 3]);
}

#[test]
fn what_the_stream_passed_may_still_be_in_the_reassembler() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    // Ten seconds in the kernel's queue, then a poll that finds it empty while the event's end is still awaited.
    bench.poll(11_000, drained());
    bench.tick(11_050);
    assert!(bench.events().is_empty());
    let late = syscall_event(1_000, 5, 3);
    bench.event(AuditEvent {
        first_read: at(10_990),
        completed: at(12_990),
        ..late
    });
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn arguments_of_32_bit_calls_match_by_their_low_halves() {
    let mut bench = Bench::new();
    let mut seen = observation(1_003, 3);
    (seen.arch, seen.args[0]) = (0x4000_0003, 0xffff_ff9c);
    bench.observe(seen);
    let body = "arch=40000003 syscall=257 success=yes exit=3 a0=ffffffffffffff9c a1=1000 a2=0 a3=0 items=0 ppid=1 pid=100 \
                auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm=\"a\" exe=\"/a\" key=(null)";
    bench.event(event_of(
        &[(1300, body.to_owned())],
        stamp(1_000, 5),
        Completion::Eoe,
    ));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn an_event_of_copied_records_settles_its_observation_as_backfilled_and_says_nothing_of_the_stream()
{
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.observe(observation(1_200, 4));
    let mirrored = Some(Cause::SocketOverrun);
    bench.event(AuditEvent {
        mirrored,
        ..syscall_event(1_200, 6, 4)
    });
    let events = bench.events();
    assert_eq!(
        (events[0].outcome, events[0].cause, events[0].verdict),
        (Outcome::Backfilled, mirrored, Some(Verdict::Inferred))
    );
    assert!(events[0].observation.is_some() && events[0].audit.is_some());
    // The record of the first may wait in our socket.
    bench.tick(30_000);
    assert_eq!(bench.events().len(), 1);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(
        (crosscheck.expected, crosscheck.pending_observations),
        (2, 1)
    );
    assert_eq!(
        crosscheck.by_cause[&(Outcome::Backfilled, Cause::SocketOverrun)],
        1
    );
}

#[test]
fn an_event_of_copied_records_without_an_observation_is_expected_and_given_back() {
    let mut bench = Bench::new();
    bench.event(AuditEvent {
        mirrored: Some(Cause::HoldOverflow),
        ..syscall_event(1_000, 5, 3)
    });
    bench.tick(5_000);
    let events = bench.events();
    assert_eq!(
        (events[0].outcome, events[0].cause, events[0].verdict),
        (
            Outcome::Backfilled,
            Some(Cause::HoldOverflow),
            Some(Verdict::Exact)
        )
    );
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.expected, crosscheck.unwatched), (1, 0));
    assert!(crosscheck.balances());
}
