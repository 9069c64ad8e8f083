//! What waits is bounded, in number, in bytes and in what is done with it at once.

use super::*;
use crate::correlate::fragment;
use crate::correlate::matcher::Due;

#[test]
fn a_full_window_settles_the_oldest_and_says_so() {
    let mut limits = Limits::new(Duration::from_secs(2), Duration::from_secs(4));
    limits.max_observations = 2;
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(limits, OFFSET);
    for ms in [1_000, 1_001, 1_002] {
        bench.observe(observation(ms, 3));
    }
    assert_eq!(bench.events().len(), 1);
    assert_eq!(bench.events()[0].cause, Some(Cause::WindowFull));
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn samples_that_are_too_large_to_wait_settle_the_oldest() {
    let mut limits = Limits::new(Duration::from_secs(2), Duration::from_secs(4));
    limits.max_observation_bytes = 10_000;
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(limits, OFFSET);
    let large = |ms| Observation {
        n_bytes: 4_000,
        ..observation(ms, 3)
    };
    for ms in 1_000..1_010 {
        bench.observe(large(ms));
    }
    assert_eq!(bench.events().len(), 8);
    assert_eq!(bench.correlator.losses()[&Cause::WindowFull], 8);
    // What was settled is no longer counted.
    bench.observe(observation(1_010, 3));
    assert_eq!(bench.events().len(), 8);
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn records_that_are_too_many_to_wait_settle_the_oldest() {
    let mut limits = Limits::new(Duration::from_secs(2), Duration::from_secs(4));
    limits.max_event_bytes = 8_000;
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(limits, OFFSET);
    bench
        .correlator
        .witness_attached(rules(KtimeNs(0)), Vec::new(), Level::Syscalls);
    for serial in 0..100 {
        bench.event(syscall_event(1_000 + u64::from(serial), serial, 3));
    }
    let lost = bench.correlator.losses()[&Cause::WindowFull];
    assert!((1..100).contains(&lost), "{lost}");
    bench.poll(10_000, drained());
    bench.tick(10_000);
    bench.tick(20_000);
    assert_eq!(bench.events().len(), 100);
    assert!(bench.correlator.is_idle());
}

#[test]
fn a_storm_is_settled_piece_by_piece_and_in_its_order() {
    let mut bench = Bench::new();
    for ms in 0..5_000 {
        bench.observe(observation(1_000 + ms, 3));
    }
    let lost = Poll {
        lost: 5_000,
        ..drained()
    };
    bench.poll(7_000, lost);
    bench.poll(14_000, drained());
    let mut settled = Vec::new();
    loop {
        let before = bench.events().len();
        let due = bench.correlator.tick(at(14_000), OFFSET, &mut bench.out);
        settled.push(bench.events().len() - before);
        if due == Due::Later {
            break;
        }
    }
    assert_eq!(settled.iter().sum::<usize>(), 5_000);
    assert!(settled.len() > 4, "{settled:?}");
    let entries = bench.events();
    let entries = entries
        .iter()
        .map(|event| event.observation.as_ref().unwrap().entry);
    assert!(entries.is_sorted());
}

#[test]
fn gaps_that_are_too_many_become_one_and_miss_as_many() {
    let mut bench = Bench::new();
    for gap in 0..10_000_u32 {
        bench.correlator.gap(Gap {
            first: Serial(2 * gap + 1),
            last: Serial(2 * gap + 1),
            count: 1,
            before: stamp(1_000, 2 * gap),
            after: stamp(1_001, 2 * gap + 2),
            noticed: at(1_100),
        });
    }
    bench.poll(2_000, drained());
    while bench.correlator.tick(at(70_000), OFFSET, &mut bench.out) == Due::Now {}
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Unrecovered), 10_000);
}

#[test]
fn of_many_alike_the_first_at_its_time_is_taken() {
    let mut bench = Bench::new();
    for ms in (0..20_000_u64).rev() {
        bench.event(AuditEvent {
            first_read: at(30_000),
            completed: at(30_000),
            ..syscall_event(1_000 + ms, ms as u32, 3)
        });
    }
    for ms in [1_000, 7_003, 20_999] {
        bench.observe(observation(ms, 3));
    }
    let events = bench.events();
    let entries = [1_000, 7_003, 20_999];
    assert_eq!(events.len(), entries.len());
    for (event, entry) in std::iter::zip(events, entries) {
        let stamp = event.time.0 - EPOCH_MS;
        let first = entry - fragment::TICK.as_millis() as u64;
        assert_eq!(stamp, first.max(1_000), "{entry}");
    }
}
