//! Tests of [`Reassembler`].

use proptest::prelude::*;

use super::*;
use crate::audit::parse::log_line;
use crate::audit::record::{Provenance, Serial};
use crate::clock::TimeMs;
use crate::event::Cause;

/// A reassembler with its output.
struct Bench {
    reassembler: Reassembler,
    out: Vec<AuditEvent>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Self {
            reassembler: Reassembler::new(limits),
            out: Vec::new(),
        }
    }

    fn push(&mut self, ms: u64, record: Record<'_>) -> &mut Self {
        self.reassembler.push(&record, at(ms), &mut self.out);
        self
    }

    fn tick(&mut self, ms: u64) -> &mut Self {
        self.reassembler.tick(at(ms), &mut self.out);
        self
    }

    /// Serial, number of records and completion of what came out.
    fn events(&self) -> Vec<(u32, usize, Completion)> {
        self.out
            .iter()
            .map(|event| (event.stamp.serial.0, event.records.len(), event.completion))
            .collect()
    }

    fn counts(&self) -> Assembly {
        self.reassembler.counts()
    }
}

fn at(ms: u64) -> KtimeNs {
    KtimeNs(ms * 1_000_000)
}

fn record(record_type: RecordType, serial: u32, body: &str) -> Record<'_> {
    Record {
        record_type,
        stamp: Stamp {
            time: TimeMs(1_700_000_000_000),
            serial: Serial(serial),
        },
        node: None,
        body: body.as_bytes(),
        enrichment: None,
        provenance: Provenance::Stream,
    }
}

fn syscall(serial: u32) -> Record<'static> {
    record(RecordType::SYSCALL, serial, "arch=c000003e syscall=2")
}

fn cwd(serial: u32) -> Record<'static> {
    record(RecordType::CWD, serial, "cwd=\"/\"")
}

fn eoe(serial: u32) -> Record<'static> {
    record(RecordType::EOE, serial, "")
}

fn avc(serial: u32) -> Record<'static> {
    record(RecordType::AVC, serial, "avc:  denied  { read } for  pid=1")
}

#[test]
fn interleaved_events_come_apart() {
    let mut bench = Bench::new();
    for record in [syscall(1), syscall(2), cwd(2), cwd(1), eoe(2), eoe(1)] {
        bench.push(0, record);
    }
    assert_eq!(
        bench.events(),
        [(2, 2, Completion::Eoe), (1, 2, Completion::Eoe)]
    );
    assert_eq!(
        bench.out[0].records,
        [syscall(2), cwd(2)].into_iter().collect()
    );
    assert_eq!(bench.counts().pending, 0);
}

#[test]
fn a_type_that_stands_alone_does_not_wait() {
    let mut bench = Bench::new();
    bench.push(0, syscall(1));
    bench.push(0, record(RecordType::USER_LOGIN, 2, "pid=1 msg='op=login'"));
    assert_eq!(bench.events(), [(2, 1, Completion::Standalone)]);
}

#[test]
fn a_lost_end_costs_the_timeout_and_no_memory() {
    let mut bench = Bench::new();
    bench.push(0, syscall(1)).tick(1_999);
    assert_eq!(bench.events(), []);
    bench.tick(2_000);
    assert_eq!(bench.events(), [(1, 1, Completion::Timeout)]);
    assert_eq!(bench.reassembler.pending_bytes, 0);
    // Its end comes after all: nothing to tell.
    bench.push(2_100, eoe(1));
    assert_eq!(bench.out.len(), 1);
    assert_eq!(bench.counts().late_records, 0);
}

#[test]
fn a_record_that_may_stand_alone_waits_for_its_call_a_while() {
    let mut bench = Bench::new();
    bench.push(0, avc(1)).push(0, avc(2)).push(100, syscall(2));
    bench.tick(199);
    assert_eq!(bench.events(), []);
    bench.tick(200);
    assert_eq!(bench.events(), [(1, 1, Completion::Standalone)]);
    bench.push(300, eoe(2));
    assert_eq!(bench.events()[1..], [(2, 2, Completion::Eoe)]);
}

#[test]
fn the_call_that_blocked_after_its_avc_comes_whole_and_late() {
    let mut bench = Bench::new();
    bench.push(0, avc(1)).tick(500);
    for record in [syscall(1), cwd(1), eoe(1)] {
        bench.push(30_000, record);
    }
    assert_eq!(
        bench.events(),
        [(1, 1, Completion::Standalone), (1, 2, Completion::Late)]
    );
    assert_eq!(bench.counts().late_records, 2);
}

#[test]
fn a_storm_makes_nothing_forgotten_of_which_more_may_come() {
    let mut bench = Bench::with(Limits {
        remembered: 10,
        max_records_per_event: 3,
        ..Limits::default()
    });
    // One whose call blocks, one whose end is late, one that is too long, and one whose PATH the kernel put behind.
    bench.reassembler.put_behind(&path(4, 0), at(0));
    bench.push(0, avc(1)).push(0, syscall(2));
    bench
        .push(0, syscall(3))
        .push(0, cwd(3))
        .push(0, path(3, 0));
    bench.push(0, syscall(4)).push(0, eoe(4));
    bench.tick(3_000);
    assert_eq!(bench.out.len(), 4);
    for serial in 100..200 {
        bench.push(3_000, syscall(serial)).push(3_000, eoe(serial));
    }
    bench.out.clear();
    bench.push(60_000, eoe(2)).push(60_000, eoe(3));
    bench.push(60_000, syscall(1)).push(60_000, eoe(1));
    bench.push(60_000, path(4, 0)).tick(63_000);
    assert_eq!(
        bench.events(),
        [(1, 1, Completion::Late), (4, 1, Completion::Late)]
    );
    assert_eq!(bench.counts().late_records, 2);
}

#[test]
fn an_end_alone_is_an_event_of_which_all_records_were_lost() {
    let mut bench = Bench::new();
    bench.push(0, eoe(7)).push(0, eoe(7));
    assert_eq!(bench.events(), [(7, 0, Completion::Eoe)]);
}

#[test]
fn repeated_records_are_dropped_before_and_after_the_end() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        for record in [syscall(1), syscall(1), cwd(1), eoe(1)] {
            bench.push(0, record);
        }
    }
    assert_eq!(bench.events(), [(1, 2, Completion::Eoe)]);
    assert_eq!(bench.counts().duplicate_records, 4);
    assert_eq!(bench.counts().late_records, 0);
}

#[test]
fn the_same_serial_at_another_time_or_on_another_host_is_another_event() {
    let mut bench = Bench::new();
    for prefix in ["", "node=a ", "node=b "] {
        for time in ["1.000", "2.000"] {
            let line = format!("{prefix}type=CWD msg=audit({time}:1): cwd=\"/\"");
            bench.push(0, log_line(line.as_bytes()).unwrap());
        }
    }
    assert_eq!(bench.counts().pending, 6);
}

#[test]
fn too_many_in_flight_push_the_oldest_out() {
    let mut bench = Bench::with(Limits {
        max_events: 2,
        ..Limits::default()
    });
    for serial in 1..=4 {
        bench.push(0, syscall(serial));
    }
    assert_eq!(
        bench.events(),
        [(1, 1, Completion::Evicted), (2, 1, Completion::Evicted)]
    );
    assert_eq!(bench.counts().evicted, 2);
    bench.push(0, eoe(1));
    assert_eq!(bench.out.len(), 2);
}

#[test]
fn an_endless_event_is_split_and_loses_nothing() {
    let limits = Limits {
        max_records_per_event: 10,
        ..Limits::default()
    };
    let mut bench = Bench::with(limits);
    for n in 0..25 {
        bench.push(0, record(RecordType::PATH, 1, &format!("item={n}")));
    }
    bench.push(0, eoe(1));
    assert_eq!(
        bench.events(),
        [
            (1, 10, Completion::Evicted),
            (1, 10, Completion::Late),
            (1, 5, Completion::Late)
        ]
    );
}

#[test]
fn bytes_in_flight_are_bounded() {
    let mut bench = Bench::with(Limits {
        max_bytes: 10_000,
        ..Limits::default()
    });
    for serial in 0..100 {
        bench.push(0, record(RecordType::PATH, serial, &"x".repeat(1_000)));
        assert!(bench.reassembler.pending_bytes <= 10_000);
    }
    assert!(bench.counts().evicted > 80);
}

#[test]
fn tickets_of_ended_events_do_not_pile_up_behind_one_that_waits() {
    let mut bench = Bench::new();
    bench.push(0, syscall(0));
    for serial in 1..20_000 {
        bench.push(0, avc(serial)).push(0, eoe(serial));
    }
    assert!(bench.reassembler.by_age.len() <= 2_000);
    assert!(bench.reassembler.in_grace.len() <= 2_000);
    assert!(
        bench
            .reassembler
            .handed_on
            .get(&bench.reassembler.key(&avc(19_999)))
            .is_some()
    );
}

#[test]
fn memory_of_events_handed_on_is_bounded() {
    let mut bench = Bench::with(Limits {
        remembered: 10,
        ..Limits::default()
    });
    for serial in 0..100 {
        bench.push(0, syscall(serial)).push(0, eoe(serial));
    }
    // The last one is known, the first one forgotten and taken for new.
    bench.push(0, cwd(99)).push(0, cwd(0));
    bench.reassembler.flush(at(0), &mut bench.out);
    assert_eq!(
        bench.events()[100..],
        [(99, 1, Completion::Late), (0, 1, Completion::Flushed)]
    );
    // So are those of which more may come, beside the others.
    for serial in 200..220 {
        bench.push(0, avc(serial));
    }
    bench.tick(1_000);
    for serial in 300..320 {
        bench.push(1_000, syscall(serial)).push(1_000, eoe(serial));
    }
    let known = |serial: &u32| {
        let key = bench.reassembler.key(&avc(*serial));
        bench.reassembler.handed_on.get(&key).is_some()
    };
    assert_eq!(
        (0..300).filter(known).collect::<Vec<_>>(),
        (210..220).collect::<Vec<_>>()
    );
    // At most ten of the others, and the last five surely.
    assert!((315..320).all(|serial| known(&serial)));
    assert!(!(300..310).any(|serial| known(&serial)));
}

#[test]
fn a_log_without_end_records_ends_events_at_the_proctitle() {
    let mut bench = Bench::with(Limits {
        end: EventEnd::Proctitle,
        ..Limits::default()
    });
    bench
        .push(0, syscall(1))
        .push(0, record(RecordType::PROCTITLE, 1, "proctitle=\"ls\""));
    bench.push(0, eoe(1));
    assert_eq!(bench.events(), [(1, 2, Completion::Eoe)]);
}

#[test]
fn time_that_runs_backwards_does_no_harm() {
    let mut bench = Bench::new();
    bench
        .push(5_000, syscall(1))
        .push(0, syscall(2))
        .tick(1_000);
    assert_eq!(bench.events(), []);
    bench.tick(7_000);
    assert_eq!(bench.out.len(), 2);
}

/// Records of events 0..n: each a SYSCALL, up to four PATHs, an EOE, in order.
fn events(n: u32, first: u32) -> impl Strategy<Value = Vec<Vec<Record<'static>>>> {
    proptest::collection::vec(0..5usize, n as usize).prop_map(move |paths| {
        std::iter::zip(0u32.., paths)
            .map(|(n, paths)| {
                let serial = first.wrapping_add(n);
                let mut records = vec![syscall(serial)];
                records.extend(
                    ["item=0", "item=1", "item=2", "item=3"]
                        .iter()
                        .take(paths)
                        .map(|body| record(RecordType::PATH, serial, body)),
                );
                records.push(eoe(serial));
                records
            })
            .collect()
    })
}

proptest! {
    /// Any interleaving that keeps each event's own order, with repeats: the same events come out, whole and once.
    #[test]
    fn any_interleaving_with_repeats_and_wrap_gives_the_same_events(
        events in events(12, u32::MAX - 5),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 100),
    ) {
        let mut bench = Bench::new();
        let mut left: Vec<_> = events.iter().map(|records| records.iter().copied()).collect();
        let mut repeats = 0;
        for (choice, repeat) in choices {
            if left.is_empty() {
                break;
            }
            let n = choice.index(left.len());
            match left[n].next() {
                Some(record) => {
                    bench.push(0, record);
                    if repeat {
                        repeats += u64::from(record.record_type != RecordType::EOE);
                        bench.push(0, record);
                    }
                }
                None => drop(left.remove(n)),
            }
        }
        for rest in left {
            for record in rest {
                bench.push(0, record);
            }
        }
        prop_assert_eq!(bench.counts().duplicate_records, repeats);
        prop_assert_eq!(bench.counts().completed, events.len() as u64);
        for records in &events {
            let expected: Records = records[..records.len() - 1].iter().copied().collect();
            let found = bench.out.iter().filter(|event| event.records == expected);
            prop_assert_eq!(found.count(), 1);
        }
    }

    /// Any order at all, any times, tight bounds: every record comes out once, and the account balances throughout.
    #[test]
    fn no_record_is_lost_whatever_the_order_and_the_bounds(
        (events, order) in events(8, 0).prop_flat_map(|events| {
            let order: Vec<_> = events.concat();
            (Just(events), Just(order).prop_shuffle())
        }),
        times in proptest::collection::vec(0..1_000u64, 60),
        (max_events, max_records_per_event) in (0..6usize, 1..5usize),
    ) {
        let mut bench = Bench::with(Limits { max_events, max_records_per_event, ..Limits::default() });
        let mut now = 0;
        for (record, passed) in std::iter::zip(order, times.iter().cycle()) {
            now += passed;
            bench.push(now, record);
            prop_assert!(bench.counts().pending <= max_events as u64);
        }
        bench.reassembler.flush(at(now), &mut bench.out);
        let mut found: Vec<_> = bench.out.iter().flat_map(|event| &event.records).collect();
        let mut expected: Vec<_> = events.concat();
        expected.retain(|record| record.record_type != RecordType::EOE);
        fn place<'a>(record: &Record<'a>) -> (u32, RecordType, &'a [u8]) {
            (record.stamp.serial.0, record.record_type, record.body)
        }
        found.sort_by_key(place);
        expected.sort_by_key(place);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(bench.counts().duplicate_records, 0);
        prop_assert_eq!(bench.reassembler.pending_bytes, 0);
    }
}

/// The same record as a copy from the kernel.
fn copied(record: Record<'_>) -> Record<'_> {
    Record {
        provenance: Provenance::Mirror(Cause::RetryOverflow),
        ..record
    }
}

fn path(serial: u32, item: usize) -> Record<'static> {
    let body = ["item=0 name=\"/tmp\"", "item=1 name=\"/tmp\""][item];
    record(RecordType::PATH, serial, body)
}

#[test]
fn a_copied_end_waits_for_what_the_socket_still_holds() {
    let mut bench = Bench::new();
    bench.push(10, copied(eoe(1)));
    bench.push(20, copied(path(1, 1)));
    bench
        .reassembler
        .stream_passed(at(10), at(21), &mut bench.out);
    assert_eq!(bench.events(), []);
    bench.push(30, syscall(1)).push(31, path(1, 0));
    bench.push(40, copied(syscall(2))).push(41, copied(eoe(2)));
    bench
        .reassembler
        .stream_passed(at(41), at(42), &mut bench.out);
    assert_eq!(bench.events(), [(1, 3, Completion::Eoe)]);
    assert_eq!(
        bench.out[0].records,
        [syscall(1), path(1, 0), copied(path(1, 1))]
            .into_iter()
            .collect(),
        "in the kernel's order"
    );
    assert_eq!(bench.out[0].mirrored, Some(Cause::RetryOverflow));
    bench
        .reassembler
        .stream_passed(at(60), at(60), &mut bench.out);
    assert_eq!(bench.events()[1], (2, 1, Completion::Eoe));
    assert_eq!(bench.counts().completed, 2);
}

#[test]
fn an_end_without_a_beginning_waits_as_if_it_had_not_come_and_is_told_as_one_that_came() {
    let mut bench = Bench::new();
    bench.push(0, copied(cwd(1))).push(1, copied(eoe(1)));
    bench
        .reassembler
        .stream_passed(at(100), at(100), &mut bench.out);
    assert_eq!(bench.events(), []);
    bench.tick(2_000);
    assert_eq!(bench.events(), [(1, 1, Completion::Eoe)]);
}

#[test]
fn where_each_record_comes_once_two_alike_are_two() {
    let mut bench = Bench::with(Limits {
        repeats: Repeats::Records,
        ..Limits::default()
    });
    bench
        .push(0, avc(1))
        .push(0, avc(1))
        .push(0, copied(avc(1)));
    bench.push(1, syscall(1)).push(1, eoe(1));
    assert_eq!(bench.events(), [(1, 4, Completion::Eoe)]);
    assert_eq!(bench.counts().duplicate_records, 0);
}

#[test]
fn an_event_waits_for_a_record_that_the_kernel_put_behind_its_end() {
    let mut bench = Bench::new();
    bench.reassembler.put_behind(&cwd(1), at(0));
    // Tried in vain once more.
    bench.reassembler.put_behind(&cwd(1), at(1));
    bench.push(10, syscall(1)).push(11, eoe(1));
    assert_eq!(bench.events(), []);
    bench.push(12, cwd(1));
    assert_eq!(bench.events(), [(1, 2, Completion::Eoe)]);
    // Another event is none of its business, and neither is one that came in order after all.
    bench.push(13, syscall(2)).push(14, eoe(2));
    bench.reassembler.put_behind(&cwd(3), at(15));
    bench.push(16, syscall(3)).push(17, cwd(3)).push(18, eoe(3));
    assert_eq!(bench.out.len(), 3);
    assert_eq!(bench.counts().late_records, 0);
}
