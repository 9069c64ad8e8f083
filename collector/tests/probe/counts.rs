//! What is lost or left over is counted, and nothing is lost unseen.

use std::fs;

use aya::maps::{HashMap, Map, MapData};
use collector_ebpf::KEPT_BYTES;

use super::*;

#[test]
fn a_full_ring_is_counted_to_the_last_sample() {
    let uid = 81_009;
    let small = WitnessConfig {
        ring_bytes: 8192,
        ..config()
    };
    let Some(mut probe) = probe_with(small, &[rule(uid, &["openat"])]) else {
        return;
    };
    as_user(uid, || {
        for _ in 0..1000 {
            sys::openat(libc::AT_FDCWD, c"/no/such", 0);
        }
    });
    let counters = probe.witness.counters().unwrap();
    assert_eq!(counters.attempted, 1000, "{counters:?}");
    assert!(counters.ring_full > 900, "{counters:?}");
    let seen = probe.take();
    assert_eq!(seen.len() as u64, counters.submitted);
}

#[test]
fn calls_that_cannot_be_remembered_are_counted() {
    let uid = 81_010;
    let narrow = WitnessConfig {
        in_flight: 1,
        ..config()
    };
    let Some(mut probe) = probe_with(narrow, &[rule(uid, &["clock_nanosleep"])]) else {
        return;
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                sys::become_user(uid);
                std::thread::sleep(Duration::from_millis(300));
            });
        }
    });
    let seen = probe.take().len() as u64;
    let counters = probe.witness.counters().unwrap();
    assert_eq!(counters.attempted, 8, "{counters:?}");
    assert_eq!(seen + counters.in_flight_full, 8, "{counters:?}");
    assert!(counters.in_flight_full >= 1, "{counters:?}");
}

#[test]
fn calls_that_ended_unseen_leave_no_trace() {
    let uid = 81_015;
    let narrow = WitnessConfig {
        in_flight: 1,
        ..config()
    };
    let Some(mut probe) = probe_with(narrow, &[rule(uid, &["clock_nanosleep", "openat"])]) else {
        return;
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sys::become_user(uid);
            // Longer than detaching takes.
            std::thread::sleep(Duration::from_secs(2));
        });
        std::thread::sleep(Duration::from_millis(100));
        probe.witness.detach().unwrap();
    });
    probe.witness.attach().unwrap();
    as_user(uid, || sys::openat(libc::AT_FDCWD, c"/no/such", 0));
    assert_eq!(only(probe.take()).syscall, number("openat"));
    assert_eq!(probe.witness.counters().unwrap().in_flight_full, 0);
}

#[test]
fn what_was_kept_for_calls_that_ended_unseen_is_not_there_any_more() {
    let Some(mut probe) = probe(&[rule(81_016, &["openat"])]) else {
        return;
    };
    let mut kept = kept();
    kept.insert(1, [0; KEPT_BYTES], 0).unwrap();
    probe.witness.detach().unwrap();
    assert_eq!(kept.keys().count(), 1);
    probe.witness.attach().unwrap();
    assert_eq!(kept.keys().count(), 0);
}

/// The map of that name of this process, which has loaded the programs once: each test has a process of its own.
fn kept() -> HashMap<MapData, u64, [u8; KEPT_BYTES]> {
    let mut ids = fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter_map(|entry| {
            // The descriptor that reads the folder is gone by now.
            let text = fs::read_to_string(entry.unwrap().path()).ok()?;
            let id = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
            id.trim().parse().ok()
        });
    let map = ids.find_map(|id| {
        let map = MapData::from_id(id).unwrap();
        (map.info().unwrap().name_as_str() == Some("KEPT")).then_some(map)
    });
    Map::HashMap(map.unwrap()).try_into().unwrap()
}

#[test]
fn every_call_of_many_threads_comes_once() {
    let uid = 81_011;
    let Some(mut probe) = probe_with(
        WitnessConfig {
            ring_bytes: 16 << 20,
            ..config()
        },
        &[rule(uid, &["openat", "clone", "clone3"])],
    ) else {
        return;
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                sys::become_user(uid);
                for _ in 0..1000 {
                    sys::openat(libc::AT_FDCWD, c"/no/such", 0);
                }
                std::thread::spawn(|| sys::openat(libc::AT_FDCWD, c"/child", 0))
                    .join()
                    .unwrap();
            });
        }
    });
    println!("8,008 samples in {:?}", start.elapsed());
    let seen = probe.take();
    let opens = |path: &str| {
        seen.iter()
            .filter(|call| call.syscall == number("openat") && call.paths[0].path == whole(path))
            .count()
    };
    assert_eq!((opens("/no/such"), opens("/child")), (8000, 8));
    // The parent's side of a clone returns a thread's id; the child's side is no call of its own.
    let clones: Vec<_> = seen
        .iter()
        .filter(|call| call.syscall != number("openat"))
        .collect();
    assert_eq!(clones.len(), 8);
    assert!(
        clones
            .iter()
            .all(|call| call.result.is_some_and(|result| result > 0))
    );
    let mut numbers: Vec<_> = seen.iter().map(|call| (call.cpu, call.sequence)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), seen.len());
}
