//! What is said of the causes of losses.

use super::*;

#[test]
fn an_observation_is_withdrawn_when_the_rule_behind_it_was_gone() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.correlator.rules_changed(no_rules(at(900)));
    bench.poll(1_500, drained());
    bench.tick(5_600);
    assert!(bench.events().is_empty());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.withdrawn, crosscheck.expected), (1, 1));
    assert!(crosscheck.balances());
}

#[test]
fn causes_follow_from_the_evidence_and_stay_unknown_where_it_is_not_enough() {
    let limited = KernelStatus {
        enabled: 1,
        rate_limit: 100,
        backlog_limit: 8192,
        ..KernelStatus::default()
    };
    let base = Poll {
        at: at(2_000),
        socket_empty: true,
        ..quiet()
    };
    let cases = [
        (
            Poll {
                status: Some(limited),
                lost: 5,
                ..base
            },
            true,
            Cause::RateLimit,
        ),
        (
            Poll {
                lost: 5,
                ..Poll {
                    status: drained().status,
                    ..base
                }
            },
            true,
            Cause::BacklogLimit,
        ),
        (
            Poll {
                socket_drops: 5,
                ..base
            },
            true,
            Cause::SocketOverrun,
        ),
        (
            Poll {
                queue_full: 5,
                ..base
            },
            true,
            Cause::QueueFull,
        ),
        (
            Poll {
                status: Some(limited),
                lost: 5,
                socket_drops: 5,
                ..base
            },
            true,
            Cause::KernelUnknown,
        ),
        (base, true, Cause::KernelUnknown),
        (base, false, Cause::NoContext),
        (
            Poll {
                status: Some(KernelStatus {
                    enabled: 0,
                    ..limited
                }),
                ..base
            },
            true,
            Cause::AuditDisabled,
        ),
    ];
    for (poll, audit_context, cause) in cases {
        let mut bench = Bench::new();
        bench.observe(Observation {
            audit_context,
            ..observation(1_500, 3)
        });
        bench.poll(
            0,
            Poll {
                at: at(1_000),
                ..poll_without_loss(poll)
            },
        );
        bench.correlator.poll(poll);
        bench.tick(70_000);
        assert_eq!(bench.events()[0].cause, Some(cause), "{poll:?}");
    }
}

fn poll_without_loss(poll: Poll) -> Poll {
    Poll {
        lost: 0,
        reasons: None,
        unexplained: 0,
        not_held: 0,
        missed_decisions: 0,
        socket_drops: 0,
        queue_full: 0,
        congested: 0,
        ..poll
    }
}

#[test]
fn a_rule_removed_after_the_call_does_not_make_its_loss_unmade() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.correlator.rules_changed(no_rules(at(1_100)));
    bench.poll(
        1_500,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.tick(6_000);
    assert_eq!(bench.events()[0].cause, Some(Cause::BacklogLimit));
}

#[test]
fn an_observation_of_rules_that_were_changed_twice_stands_only_as_long_as_the_kernel_held_them() {
    let settled = |ms| {
        let mut bench = Bench::new();
        bench.observe(observation(ms, 3));
        for (generation, former_until, since) in [(2, 1_100, 1_200), (3, 2_000, 2_100)] {
            bench.correlator.rules_changed(Rules {
                generation,
                since: at(since),
                ..no_rules(at(former_until))
            });
        }
        bench.poll(2_500, drained());
        bench.tick(7_000);
        let crosscheck = bench.correlator.crosscheck();
        (crosscheck.withdrawn, bench.events().len())
    };
    assert_eq!(settled(1_000), (0, 1));
    assert_eq!(settled(1_150), (1, 0));
}

#[test]
fn what_the_kernel_left_out_while_its_rules_were_changed_says_so_where_nothing_else_went_wrong() {
    let cause = |observed, lost| {
        let mut bench = Bench::new();
        bench.correlator.rules_unsettled(at(900), at(1_100));
        bench.correlator.rules_unsettled(at(1_050), at(1_200));
        bench.observe(observation(observed, 3));
        bench.poll(800, drained());
        bench.poll(2_500, Poll { lost, ..drained() });
        bench.tick(7_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(1_150, 0), Some(Cause::RulesChanged));
    assert_eq!(cause(1_300, 0), Some(Cause::KernelUnknown));
    assert_eq!(cause(1_150, 1), Some(Cause::BacklogLimit));
}

#[test]
fn what_went_to_another_daemon_is_given_back_and_says_so() {
    let displaced = |displaced, lost| Poll {
        displaced,
        lost,
        ..drained()
    };
    let cause = |observed, lost| {
        let mut bench = Bench::new();
        for (ms, displaced_then) in [(1_000, false), (2_000, true), (3_000, true), (4_000, false)] {
            bench.poll(ms, displaced(displaced_then, 0));
        }
        bench.poll(5_000, displaced(false, lost));
        bench.observe(observation(observed, 3));
        bench.poll(6_000, drained());
        bench.tick(12_000);
        bench.events()[0].cause
    };
    for taken in [1_500, 2_500, 3_500] {
        assert_eq!(cause(taken, 0), Some(Cause::Displaced), "{taken}");
    }
    assert_eq!(cause(4_500, 0), Some(Cause::KernelUnknown));
    assert_eq!(cause(4_500, 1), Some(Cause::BacklogLimit));
    // Counted around the change of hands, a loss may be of either.
    let mut bench = Bench::new();
    bench.poll(1_000, displaced(false, 0));
    bench.observe(observation(1_500, 3));
    bench.poll(2_000, displaced(true, 4));
    bench.poll(3_000, displaced(true, 0));
    bench.tick(12_000);
    assert_eq!(bench.events()[0].cause, Some(Cause::KernelUnknown));
}

#[test]
fn what_the_stream_had_not_passed_at_the_end_is_not_called_lost_by_the_kernel() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.poll(
        1_500,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.observe(observation(1_600, 4));
    bench.correlator.finish(at(1_700), &mut bench.out);
    let causes: Vec<_> = bench.events().iter().map(|event| event.cause).collect();
    assert_eq!(causes, [Some(Cause::BacklogLimit), Some(Cause::Stopped)]);
}

#[test]
fn where_observations_were_lost_an_event_without_one_is_uncertain_and_says_why() {
    let outcome = |unobserved, stamped: u64| {
        let mut bench = Bench::new();
        let unobserved = |ms| (2_000..3_000).contains(&ms).then_some(unobserved).flatten();
        for ms in [
            1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000,
        ] {
            if ms == stamped + 500 {
                bench.event(syscall_event(stamped, 5, 3));
            }
            bench.tick(ms);
            bench.poll(
                ms,
                Poll {
                    unobserved: unobserved(ms),
                    ..drained()
                },
            );
        }
        let event = bench.events()[0];
        let crosscheck = bench.correlator.crosscheck();
        assert!(crosscheck.balances());
        assert_eq!(crosscheck.total(event.outcome), 1);
        (event.outcome, event.cause)
    };
    let full = Some(Cause::RingFull);
    assert_eq!(outcome(full, 1_500), (Outcome::Uncertain, full));
    assert_eq!(outcome(None, 1_500), (Outcome::AuditOnly, None));
    assert_eq!(outcome(full, 4_500), (Outcome::AuditOnly, None));
}

#[test]
fn that_observations_are_lost_is_told_once_and_so_is_its_end() {
    let mut bench = Bench::new();
    let mut told = Vec::new();
    for second in 1..40 {
        let lost = [3, 4, 9].contains(&second);
        bench.poll(
            second * 1_000,
            Poll {
                unobserved: lost.then_some(Cause::RingFull),
                ..drained()
            },
        );
        bench.tick(second * 1_000 + 50);
        if let Some(Output::State(state)) = bench.out.pop() {
            told.push((second, state.what));
        }
    }
    let changed = StateChange::WitnessChanged;
    assert_eq!(told, [(3, changed), (19, changed)]);
    assert_eq!(bench.correlator.crosscheck().uncertain_since, None);
}

#[test]
fn auditing_that_was_off_for_less_than_the_time_between_two_polls_is_known_by_its_record() {
    let cause = |observed: u64| {
        let mut bench = Bench::new();
        bench.poll(1_000, drained());
        bench.correlator.auditing_switched_off(at(1_300));
        bench.observe(observation(observed, 3));
        bench.poll(2_000, drained());
        bench.poll(3_000, drained());
        bench.tick(8_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(1_200), Some(Cause::KernelUnknown));
    assert_eq!(cause(1_400), Some(Cause::AuditDisabled));
    assert_eq!(cause(2_400), Some(Cause::KernelUnknown));
}

/// Between two polls auditing was switched off and on, and the kernel refused a record: each may be why.
#[test]
fn what_was_perhaps_not_asked_for_is_not_put_down_to_a_loss_beside_it() {
    let cause = |observed: u64, switched_off: bool| {
        let mut bench = Bench::new();
        bench.poll(1_000, drained());
        if switched_off {
            bench.correlator.auditing_switched_off(at(1_300));
        }
        bench.observe(observation(observed, 3));
        let refused = Poll {
            lost: 1,
            reasons: Some([1, 0, 0, 0, 0, 0]),
            ..drained()
        };
        bench.poll(2_000, refused);
        bench.poll(3_000, drained());
        bench.tick(8_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(1_400, false), Some(Cause::BacklogLimit));
    assert_eq!(cause(1_400, true), Some(Cause::KernelUnknown));
    assert_eq!(
        cause(1_200, true),
        Some(Cause::BacklogLimit),
        "before that it was surely asked for"
    );
}

#[test]
fn what_the_kernel_lacks_rules_for_is_given_back_as_long_as_it_does() {
    let mut bench = Bench::new();
    bench.correlator.rules_missing(Some(at(1_000)), at(1_100));
    bench.observe(observation(900, 3));
    bench.observe(observation(1_500, 3));
    bench.poll(1_600, drained());
    bench.tick(6_000);
    bench.correlator.rules_missing(None, at(7_000));
    bench.observe(observation(6_500, 3));
    bench.observe(observation(7_500, 3));
    bench.poll(8_000, drained());
    bench.tick(13_000);
    let causes: Vec<_> = bench.events().iter().map(|event| event.cause).collect();
    let (changed, unknown) = (Some(Cause::RulesChanged), Some(Cause::KernelUnknown));
    assert_eq!(causes, [unknown, changed, changed, unknown]);
}

#[test]
fn what_a_kernel_that_keeps_nothing_could_not_send_was_dropped_without_a_count() {
    let cause = |keeps_nothing: bool, lost| {
        let mut bench = Bench::new();
        if keeps_nothing {
            bench.correlator.kernel_keeps_nothing();
        }
        bench.poll(1_000, drained());
        bench.observe(observation(1_500, 3));
        let congested = Poll {
            congested: 1,
            lost,
            ..drained()
        };
        bench.poll(2_000, congested);
        bench.poll(3_000, drained());
        bench.poll(4_000, drained());
        bench.tick(9_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(true, 0), Some(Cause::HoldOverflow));
    assert_eq!(cause(false, 0), Some(Cause::KernelUnknown));
    assert_eq!(cause(true, 1), Some(Cause::KernelUnknown));
}

#[test]
fn a_loss_belongs_to_every_poll_that_can_have_counted_it() {
    let lost = Poll {
        lost: 1,
        unexplained: 1,
        ..drained()
    };
    let cause = |polls: &[(u64, u64, Poll)]| {
        let mut bench = Bench::new();
        bench.observe(observation(1_500, 3));
        for (asked, made, poll) in polls {
            bench.correlator.poll(Poll {
                asked: at(*asked),
                at: at(*made),
                ..*poll
            });
        }
        bench.poll(3_600, drained());
        bench.tick(9_000);
        bench.events()[0].cause
    };
    let refused = Some(Cause::BacklogLimit);
    let slow = [(1_000, 1_900, drained()), (2_800, 2_801, lost)];
    assert_eq!(cause(&slow), refused, "lost while a slow poll was made");
    let failed = [
        (900, 901, drained()),
        (1_800, 1_801, quiet()),
        (2_700, 2_701, lost),
    ];
    assert_eq!(cause(&failed), refused, "the poll between failed");
    let before = [(900, 901, lost), (1_800, 1_801, drained())];
    assert_eq!(cause(&before), Some(Cause::KernelUnknown));
}

#[test]
fn a_call_is_not_given_back_before_the_poll_that_tells_why() {
    let mut bench = Bench::new();
    bench.poll(900, drained());
    bench.observe(observation(1_000, 3));
    bench.observe(observation(3_000, 4));
    bench.event(syscall_event(3_000, 5, 4));
    bench.tick(7_000);
    assert_eq!(bench.events().len(), 1, "the control thread is late");
    bench.poll(
        7_100,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.tick(10_700);
    assert_eq!(bench.events()[1].cause, Some(Cause::BacklogLimit));
}

#[test]
fn an_event_that_lost_a_record_in_its_middle_says_why() {
    let mut bench = Bench::new();
    bench.poll(800, drained());
    bench.observe(open_observation(1_001, 3, "/etc/cut"));
    bench.event(AuditEvent {
        completion: Completion::Eoe,
        ..open_event_without_path(1_000, 8, 3)
    });
    bench.tick(2_500);
    bench.poll(
        3_000,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.tick(6_000);
    let event = bench.events()[0];
    assert_eq!(event.outcome, Outcome::Matched);
    assert_eq!(event.cause, Some(Cause::BacklogLimit));
}
