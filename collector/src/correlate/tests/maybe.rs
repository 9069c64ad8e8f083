//! Observations of which the programs could not tell whether the kernel reports them.

use super::*;

fn maybe(ms: u64, result: i64) -> Observation {
    Observation {
        verdict: Verdict::Maybe,
        rule: None,
        ..observation(ms, result)
    }
}

#[test]
fn a_maybe_without_an_event_is_counted_and_not_given_back() {
    let mut bench = Bench::new();
    bench.observe(Observation {
        verdict: Verdict::Maybe,
        ..observation(1_000, 3)
    });
    bench.poll(1_500, drained());
    bench.tick(5_600);
    assert!(bench.events().is_empty());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.maybe_unconfirmed, crosscheck.expected), (1, 0));
}

#[test]
fn a_maybe_that_can_be_settled_is_expected_or_left_out() {
    let mut bench = Bench::new();
    bench.observe(maybe(1_000, 5));
    bench.observe(maybe(1_001, 6));
    bench.observe(maybe(1_002, 8));
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(
        (crosscheck.expected, crosscheck.pending_observations),
        (1, 1)
    );
    bench.poll(1_500, drained());
    bench.tick(5_600);
    let [event] = bench.events()[..] else {
        panic!("{:?}", bench.out);
    };
    assert_eq!(event.outcome, Outcome::Backfilled);
    assert_eq!(event.verdict, Some(Verdict::Inferred));
    assert_eq!(event.rule_keys.as_ref().unwrap()[0], (*b"opens").into());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(
        (crosscheck.maybe_settled_yes, crosscheck.maybe_settled_no),
        (1, 1)
    );
    assert_eq!(crosscheck.maybe_unconfirmed, 1);
    assert!(crosscheck.balances());
}

#[test]
fn the_memory_of_one_that_nobody_asks_for_is_used_again() {
    let mut bench = Bench::new();
    for ms in [1_000, 1_001] {
        bench.observe(maybe(ms, 6));
        assert_eq!(bench.correlator.n_spare_observations(), 1);
    }
    bench.observe(maybe(1_002, 8));
    assert_eq!(bench.correlator.n_spare_observations(), 0);
    bench.poll(1_500, drained());
    bench.tick(5_600);
    assert_eq!(bench.correlator.n_spare_observations(), 1);
}

#[test]
fn a_maybe_about_a_path_waits_until_the_path_was_looked_at() {
    let mut bench = Bench::new();
    bench.observe(maybe(1_000, 7));
    assert_eq!(bench.correlator.crosscheck().expected, 0);
    let mut places = Places::default();
    places.look([], at(1_900), at(1_901));
    bench.correlator.places_seen(places);
    assert_eq!(bench.correlator.crosscheck().expected, 1);
    bench.poll(2_000, drained());
    bench.tick(5_600);
    assert_eq!(bench.events()[0].outcome, Outcome::Backfilled);
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn what_was_found_in_an_audit_context_counts_only_where_auditing_was_on() {
    let off = Poll {
        status: Some(KernelStatus {
            enabled: 0,
            ..drained().status.unwrap()
        }),
        ..drained()
    };
    for (poll, expected) in [(drained(), 1), (off, 0)] {
        let mut bench = Bench::new();
        bench.poll(900, drained());
        bench.observe(Observation {
            noted: Some(Box::new([None; 5])),
            ..maybe(1_000, 5)
        });
        assert_eq!(bench.correlator.crosscheck().expected, 0, "not known yet");
        bench.poll(1_800, poll);
        bench.correlator.places_seen(Places::default());
        assert_eq!(bench.correlator.crosscheck().expected, expected);
    }
}
