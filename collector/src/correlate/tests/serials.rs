//! Serials that are missing, and calls of which it is known whether they had one.

use super::*;

#[test]
fn serials_missing_beyond_what_came_back_are_unrecovered() {
    let mut bench = Bench::new();
    bench.observe(observation(1_050, 3));
    bench.poll(
        1_500,
        Poll {
            socket_drops: 9,
            ..drained()
        },
    );
    let gap = Gap {
        first: Serial(6),
        last: Serial(8),
        count: 3,
        before: stamp(1_000, 5),
        after: stamp(1_100, 9),
        noticed: at(4_200),
    };
    bench.correlator.gap(gap);
    bench.tick(8_300);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Backfilled), 1);
    assert_eq!(
        crosscheck.by_cause[&(Outcome::Unrecovered, Cause::SocketOverrun)],
        2
    );
    assert_eq!(crosscheck.expected, 3);
    assert!(crosscheck.balances());
    bench.tick(9_300);
    let told = bench.out.iter().any(|output| {
        matches!(output, Output::Loss(loss) if loss.serials == Some((Serial(6), Serial(8)))
            && (loss.count, loss.recovered) == (3, Some(1)))
    });
    assert!(told, "{:?}", bench.out);
}

#[test]
fn a_serial_that_came_after_its_gap_was_judged_is_not_missing() {
    let mut bench = Bench::new();
    for (first, last) in [(6, 8), (11, 11)] {
        bench.correlator.gap(Gap {
            first: Serial(first),
            last: Serial(last),
            count: u64::from(last - first + 1),
            before: stamp(1_000, first - 1),
            after: stamp(1_100, last + 1),
            noticed: at(4_200),
        });
    }
    for serial in [7, 7, 9, 11] {
        bench.correlator.came_late(stamp(1_050, serial));
    }
    bench.poll(4_500, drained());
    bench.tick(8_300);
    bench.tick(9_300);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Unrecovered), 2, "6 and 8");
    let last_told = bench.out.iter().filter_map(|output| match output {
        Output::Loss(loss) => loss.serials,
        _ => None,
    });
    assert_eq!(last_told.collect::<Vec<_>>(), [(Serial(6), Serial(8))]);
}

#[test]
fn serials_are_not_missed_while_their_calls_still_wait_to_be_given_back() {
    let mut bench = Bench::new();
    bench.observe(observation(1_050, 3));
    bench.correlator.gap(Gap {
        first: Serial(6),
        last: Serial(6),
        count: 1,
        before: stamp(1_000, 5),
        after: stamp(1_100, 7),
        noticed: at(1_200),
    });
    // The stream has not moved past the call, so it cannot be said yet that it was lost.
    bench.tick(20_000);
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    bench.poll(20_500, drained());
    bench.tick(25_000);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Backfilled), 1);
    assert_eq!(crosscheck.total(Outcome::Unrecovered), 0);
}

/// A storm in which one call was refused between two events that came, and one fell where two serials are missing.
fn refused_and_perhaps_not(during: Poll) -> Bench {
    refused(observation(1_100, 4), during)
}

/// The same, with `call` for the one that was refused.
fn refused(call: Observation, during: Poll) -> Bench {
    let mut bench = Bench::new();
    bench.poll(800, drained());
    for (ms, fd, serial) in [(1_000, 3, 5), (1_200, 5, 6), (1_400, 7, 9)] {
        bench.observe(observation(ms, fd));
        bench.event(syscall_event(ms, serial, fd));
    }
    bench.observe(call);
    bench.observe(observation(1_300, 6));
    bench.poll(2_000, during);
    bench.poll(3_000, drained());
    bench
}

#[test]
fn a_call_that_never_had_a_serial_was_refused_whatever_else_was_lost_meanwhile() {
    let causes = |during: Poll| {
        let mut bench = refused_and_perhaps_not(during);
        bench.tick(9_000);
        let given_back = bench.events().split_off(3);
        let causes: Vec<_> = given_back.iter().map(|event| event.cause).collect();
        causes
    };
    let (refused, unknown) = (Some(Cause::BacklogLimit), Some(Cause::KernelUnknown));
    let lost = Poll {
        lost: 1,
        ..drained()
    };
    let cases = [
        Poll {
            queue_full: 4,
            ..lost
        },
        Poll {
            congested: 1,
            ..lost
        },
        Poll {
            delivery: Delivery::Multicast,
            socket_drops: 4,
            ..lost
        },
        Poll {
            status: Some(KernelStatus {
                enabled: 1,
                rate_limit: 1_000,
                backlog_limit: 64,
                ..KernelStatus::default()
            }),
            ..lost
        },
    ];
    for case in cases {
        assert_eq!(causes(case), [refused, unknown], "{case:?}");
    }
    assert_eq!(causes(lost), [refused, refused]);
}

/// It is seen at its entry, and the kernel may draw its serial long after.
#[test]
fn a_call_that_does_not_return_may_have_had_any_serial() {
    let during = Poll {
        lost: 1,
        queue_full: 4,
        ..drained()
    };
    let exit = Observation {
        result: None,
        ..observation(1_100, 4)
    };
    let mut bench = refused(exit, during);
    bench.tick(9_000);
    let events = bench.events();
    let given_back = events.iter().find(|event| {
        let seen = event.observation.as_ref();
        seen.is_some_and(|seen| seen.result.is_none())
    });
    assert_eq!(given_back.unwrap().cause, Some(Cause::KernelUnknown));
}

#[test]
fn a_missing_serial_is_not_put_down_to_a_refusal_and_no_refused_call_is_set_against_it() {
    let mut bench = refused_and_perhaps_not(Poll {
        lost: 1,
        queue_full: 4,
        ..drained()
    });
    bench.correlator.gap(Gap {
        first: Serial(7),
        last: Serial(8),
        count: 2,
        before: stamp(1_200, 6),
        after: stamp(1_400, 9),
        noticed: at(4_400),
    });
    bench.tick(9_000);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Backfilled), 2);
    let queue_full = (Outcome::Unrecovered, Cause::QueueFull);
    assert_eq!(crosscheck.by_cause[&queue_full], 1);
    assert!(crosscheck.balances());
}
