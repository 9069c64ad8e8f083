//! Calls that are alike to the last argument, as a program's are that opens one file after the other by one buffer, and
//! differ in what they name.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::bench::*;
use crate::audit::event::Completion;
use crate::event::{Event, MatchedBy, Outcome};
use crate::probe::observation::{Captured, Observation};

/// The path that the observation of each event has, by serial.
fn observed(bench: &Bench) -> BTreeMap<Option<u32>, Vec<u8>> {
    let path = |event: &Event| {
        let observation = event.observation.as_ref()?;
        let path = observation.paths.first()?.path.whole()?;
        Some((event.serial.map(|serial| serial.0), path.to_vec()))
    };
    bench.events().into_iter().filter_map(path).collect()
}

#[test]
fn an_event_is_matched_with_the_call_that_named_what_it_names() {
    let mut bench = Bench::new();
    bench.observe(open_observation(1_001, 3, "/etc/refused"));
    bench.observe(open_observation(1_002, 3, "/etc/reported"));
    bench.event(open_event(1_000, 7, 3, "/etc/reported"));
    assert_eq!(bench.events().len(), 1);
    assert_eq!(observed(&bench)[&Some(7)], b"/etc/reported");
    bench.poll(2_000, drained());
    bench.tick(8_000);
    assert_eq!(bench.events()[1].outcome, Outcome::Backfilled);
    assert_eq!(observed(&bench)[&None], b"/etc/refused");
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn an_event_waits_for_its_own_call_where_only_another_has_come() {
    let mut bench = Bench::new();
    bench.observe(open_observation(1_001, 3, "/etc/refused"));
    bench.event(open_event(1_000, 7, 3, "/etc/reported"));
    assert!(bench.events().is_empty());
    bench.observe(open_observation(1_002, 3, "/etc/reported"));
    assert_eq!(observed(&bench)[&Some(7)], b"/etc/reported");
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn an_event_that_lost_its_path_takes_no_call_from_one_that_did_not() {
    let mut bench = Bench::new();
    bench.observe(open_observation(1_001, 3, "/etc/whole"));
    bench.observe(open_observation(1_002, 3, "/etc/cut"));
    bench.event(open_event_without_path(1_000, 8, 3));
    assert!(bench.events().is_empty());
    bench.event(open_event(1_000, 7, 3, "/etc/whole"));
    bench.tick(2_500);
    let observed = observed(&bench);
    assert_eq!(observed[&Some(7)], b"/etc/whole");
    assert_eq!(observed[&Some(8)], b"/etc/cut");
    assert_eq!(bench.events()[1].matched_by, Some(MatchedBy::Content));
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn a_call_is_not_given_back_while_what_is_left_of_its_event_waits_for_the_ring() {
    let mut bench = Bench::new();
    bench.observe(open_observation(1_001, 3, "/etc/one"));
    bench.observe(open_observation(1_002, 3, "/etc/other"));
    bench.event(open_event_without_path(1_000, 8, 3));
    bench.correlator.witness_passed(at(1_500));
    bench.poll(2_000, drained());
    bench.tick(9_000);
    assert!(bench.events().is_empty());
    bench.correlator.witness_passed(at(9_000));
    bench.tick(9_100);
    bench.poll(9_200, drained());
    bench.tick(9_300);
    let outcomes: Vec<_> = (bench.events().iter())
        .map(|event| (event.outcome, event.supersedes))
        .collect();
    assert_eq!(
        outcomes,
        [(Outcome::Backfilled, None), (Outcome::Matched, None)]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn an_event_whose_path_was_changed_under_it_is_matched_all_the_same_in_the_end() {
    let mut bench = Bench::new();
    bench.observe(open_observation(1_001, 3, "/etc/before"));
    bench.event(open_event(1_000, 7, 3, "/etc/after"));
    assert!(bench.events().is_empty());
    bench.tick(2_500);
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn an_event_that_lost_its_address_takes_no_call_from_one_that_did_not() {
    let mut bench = Bench::new();
    for (ms, address) in [(1_001, 1), (1_002, 2)] {
        bench.observe(Observation {
            paths: SmallVec::new(),
            sockaddr: Captured::Whole([2, 0, address].into()),
            ..observation(ms, 0)
        });
    }
    bench.event(syscall_event(1_000, 8, 0));
    assert!(bench.events().is_empty());
    let whole = [(1300, syscall_record(0, 0)), (1306, "saddr=020001".into())];
    bench.event(event_of(&whole, stamp(1_000, 7), Completion::Eoe));
    bench.tick(2_500);
    let address = |event: &Event| {
        let observation = event.observation.as_ref()?;
        Some((event.serial?.0, observation.sockaddr.whole()?[2]))
    };
    let addresses: Vec<_> = bench.events().into_iter().filter_map(address).collect();
    assert_eq!(addresses, [(7, 1), (8, 2)]);
}
