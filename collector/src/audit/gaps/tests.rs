//! Tests of [`GapTracker`].

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(3);

fn stamp(serial: u32) -> Stamp {
    stamp_at(serial, 1_000_000)
}

fn stamp_at(serial: u32, time: u64) -> Stamp {
    Stamp {
        time: TimeMs(time),
        serial: Serial(serial),
    }
}

fn seconds(seconds: u64) -> KtimeNs {
    KtimeNs(seconds * 1_000_000_000)
}

/// First, last and count of the gaps in `serials`, all seen at once and judged after the window.
fn gaps_in(serials: &[u32]) -> Vec<(u32, u32, u64)> {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    for &serial in serials {
        tracker.saw(stamp(serial), seconds(0));
    }
    let mut out = Vec::new();
    tracker.tick(seconds(2), &mut out);
    assert_eq!(out, [], "judged before the window was over");
    tracker.tick(seconds(3), &mut out);
    out.iter()
        .map(|gap| (gap.first.0, gap.last.0, gap.count))
        .collect()
}

#[test]
fn a_hole_is_a_gap_after_the_window_and_has_its_neighbours() {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    let mut out = Vec::new();
    tracker.saw(stamp_at(5, 100), seconds(1));
    tracker.saw(stamp_at(9, 200), seconds(2));
    tracker.tick(seconds(4), &mut out);
    assert_eq!(out, []);
    tracker.tick(seconds(5), &mut out);
    let gap = Gap {
        first: Serial(6),
        last: Serial(8),
        count: 3,
        before: stamp_at(5, 100),
        after: stamp_at(9, 200),
        noticed: seconds(5),
    };
    assert_eq!(out, [gap]);
    assert_eq!(
        tracker.counts(),
        Serials {
            gaps: 1,
            missing: 3,
            furthest: Some(stamp_at(9, 200)),
        }
    );
    tracker.tick(seconds(60), &mut out);
    assert_eq!(out.len(), 1, "told once");
}

#[test]
fn a_late_serial_fills_or_splits_its_hole() {
    assert_eq!(gaps_in(&[1, 3, 2]), []);
    assert_eq!(gaps_in(&[1, 5, 3]), [(2, 2, 1), (4, 4, 1)]);
    assert_eq!(gaps_in(&[1, 5, 2, 4]), [(3, 3, 1)]);
    assert_eq!(gaps_in(&[1, 1, 2, 1, 4, 4, 2]), [(3, 3, 1)]);
}

#[test]
fn serials_wrap() {
    assert_eq!(gaps_in(&[u32::MAX - 1, u32::MAX, 0, 1]), []);
    assert_eq!(
        gaps_in(&[u32::MAX - 2, 2, 0]),
        [(u32::MAX - 1, u32::MAX, 2), (1, 1, 1)]
    );
    assert_eq!(gaps_in(&[1, u32::MAX]), [], "of before the first one seen");
}

#[test]
fn one_late_record_does_not_add_four_billion() {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    let mut out = Vec::new();
    tracker.saw(stamp(100), seconds(0));
    tracker.saw(stamp(102), seconds(0));
    tracker.tick(seconds(10), &mut out);
    // Judged already; its record comes after all, and so does one from before the start.
    tracker.saw(stamp(101), seconds(11));
    tracker.saw(stamp(50), seconds(11));
    tracker.saw(stamp(103), seconds(11));
    tracker.flush(seconds(20), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(
        tracker.counts(),
        Serials {
            gaps: 1,
            missing: 1,
            furthest: Some(stamp(103)),
        }
    );
}

#[test]
fn another_boot_begins_anew_instead_of_losing_half_the_serials() {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    let mut out = Vec::new();
    tracker.saw(stamp_at(5_000, 10_000), seconds(0));
    tracker.saw(stamp_at(5_002, 10_000), seconds(0));
    tracker.saw(stamp_at(1, 70_000), seconds(1));
    tracker.saw(stamp_at(2, 70_000), seconds(1));
    tracker.saw(stamp_at(4, 70_000), seconds(1));
    tracker.saw(stamp_at(900_000_000, 170_000), seconds(2));
    tracker.saw(stamp_at(900_000_002, 170_000), seconds(2));
    tracker.flush(seconds(2), &mut out);
    let missing: Vec<_> = out.iter().map(|gap| (gap.first.0, gap.count)).collect();
    assert_eq!(missing, [(5_001, 1), (3, 1), (900_000_001, 1)]);
}

#[test]
fn too_many_holes_are_judged_early_and_counted_right() {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    let n_holes = 3 * GapTracker::MAX_HOLES as u64;
    for serial in 0..=n_holes as u32 {
        tracker.saw(stamp(2 * serial), seconds(0));
    }
    assert!(tracker.holes.len() <= GapTracker::MAX_HOLES);
    assert!(tracker.judged.len() <= GapTracker::MAX_HOLES);
    let mut out = Vec::new();
    tracker.flush(seconds(0), &mut out);
    assert_eq!(out.iter().map(|gap| gap.count).sum::<u64>(), n_holes);
    assert_eq!(tracker.counts().missing, n_holes);
}

#[test]
fn what_followed_a_stamp_of_before_the_beginning_is_not_asked_for() {
    let gaps = |resumed: Option<Stamp>| {
        let mut tracker = GapTracker::new(WINDOW, TimeMs(500));
        if let Some(furthest) = resumed {
            tracker.resume(furthest);
        }
        // The end of an event that began before; then two events, and one that the clock was set back for.
        for (serial, time) in [(5, 490), (9, 510), (12, 520), (14, 100), (16, 110)] {
            tracker.saw(stamp_at(serial, time), seconds(0));
        }
        let mut out = Vec::new();
        tracker.tick(seconds(3), &mut out);
        let serials = out.iter().map(|gap| (gap.first.0, gap.last.0));
        serials.collect::<Vec<_>>()
    };
    assert_eq!(gaps(None), [(10, 11), (13, 13), (15, 15)]);
    let resumed = gaps(Some(stamp_at(3, 400)));
    assert_eq!(resumed, [(4, 4), (6, 8), (10, 11), (13, 13), (15, 15)]);
}

#[test]
fn what_may_be_missing_from_a_judged_gap_is_told_of() {
    let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
    let mut saw = |serial, at| tracker.saw(stamp(serial), seconds(at));
    assert!(!saw(5, 0));
    assert!(!saw(9, 0));
    assert!(!saw(7, 1), "it fills a hole");
    assert!(saw(7, 1), "it may be a second record of its event");
    assert!(!saw(9, 1), "the furthest one");
    tracker.tick(seconds(4), &mut Vec::new());
    assert!(tracker.saw(stamp(6), seconds(5)));
}

#[test]
fn a_gap_is_left_on_both_sides_of_what_came_after_all() {
    let gap = |first: u32, last: u32| Gap {
        first: Serial(first),
        last: Serial(last),
        count: u64::from(last.wrapping_sub(first)) + 1,
        before: stamp(first.wrapping_sub(1)),
        after: stamp(last.wrapping_add(1)),
        noticed: seconds(5),
    };
    let over_the_wrap = gap(u32::MAX - 1, 2);
    assert_eq!(over_the_wrap.without(stamp(3)), None);
    assert_eq!(over_the_wrap.without(stamp(u32::MAX - 2)), None);
    let left = gap(u32::MAX - 1, u32::MAX);
    assert_eq!(
        over_the_wrap.without(stamp(0)),
        Some([Some(left), Some(gap(1, 2))])
    );
    assert_eq!(
        over_the_wrap.without(stamp(2)),
        Some([Some(gap(u32::MAX - 1, 1)), None])
    );
    assert_eq!(gap(7, 7).without(stamp(7)), Some([None, None]));
    let joined = Gap {
        count: 2,
        ..gap(3, 8)
    };
    assert_eq!(joined.without(stamp(5)), None);
}

proptest! {
    #[test]
    fn any_order_within_the_window_gives_exactly_what_is_missing(
        start in prop_oneof![Just(1), Just(u32::MAX - 100), any::<u32>()],
        (order, missing) in (2..300usize).prop_flat_map(|n| (
            Just((1..n as u32).collect::<Vec<_>>()).prop_shuffle(),
            proptest::collection::hash_set(0..n as u32, 0..n),
        )),
    ) {
        // The first one seen is the start of what can be judged.
        let mut seen = vec![0];
        seen.extend(order.iter().copied().filter(|serial| !missing.contains(serial)));
        let serials: Vec<_> = seen.iter().map(|serial| start.wrapping_add(*serial)).collect();
        let found: Vec<_> = gaps_in(&serials)
            .into_iter()
            .flat_map(|(first, _, count)| (0..count as u32).map(move |n| first.wrapping_add(n)))
            .collect();
        let furthest = *seen.iter().max().unwrap();
        let expected: Vec<_> = (0..furthest)
            .filter(|serial| !seen.contains(serial))
            .map(|serial| start.wrapping_add(serial))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_stamps_panic_and_holes_stay_bounded_and_disjoint(
        stamps in proptest::collection::vec((any::<u32>(), 0..100_000u64, 0..10u64), 0..200),
    ) {
        let mut tracker = GapTracker::new(WINDOW, TimeMs(0));
        let mut now = 0;
        let mut out = Vec::new();
        for (serial, time, passed) in stamps {
            now += passed;
            tracker.saw(stamp_at(serial, time), seconds(now));
            tracker.tick(seconds(now), &mut out);
            let mut end = 0;
            for (first, hole) in &tracker.holes {
                prop_assert!(end < *first && *first <= hole.last);
                end = hole.last + 1;
            }
        }
        tracker.flush(seconds(now), &mut out);
        let counts = tracker.counts();
        prop_assert_eq!(counts.missing, out.iter().map(|gap| gap.count).sum::<u64>());
        prop_assert!(counts.missing <= 200 * u64::from(GapTracker::MAX_JUMP));
    }
}
