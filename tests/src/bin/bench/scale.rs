//! What grows with what: each curve should be flat.

use std::path::Path;

use crate::input::{Input, Shape};
use crate::replay::{folder_in_memory, replay, timed};
use crate::report::{Column, Group, Report};
use crate::rounds::{Session, Subject};
use crate::storm::Storm;
use crate::taker::{WAITS, Who};

const STORMS: [Column; 4] = [
    Column::new("us_per_event", "collector, CPU µs per event", 1),
    Column::new("cpu_ns", "makers' CPU ns per call", 0),
    Column::new("peak_mib", "peak MiB", 0),
    Column::new("told_percent", "captured or recovered, %", 2),
];

const REPLAYS: [Column; 1] = [Column::new("ns", "CPU ns per record", 0)];

const PROCESSES: [u32; 4] = [1, 8, 64, 256];
const RULES: [u32; 4] = [1, 10, 50, 300];
const RINGS: [&str; 4] = ["4MiB", "16MiB", "64MiB", "256MiB"];
const IN_FLIGHT: [usize; 4] = [1, 64, 1_024, 8_000];
const KEYS: [usize; 3] = [1, 32, 1_000];

/// How often the recorded storm is repeated in a replay.
const COPIES: u64 = 5;

pub(crate) fn run(session: &Session) -> anyhow::Result<Report> {
    let processes = PROCESSES.map(|makers| {
        Subject::new(makers.to_string(), move || {
            Storm::of_opens(makers).measure(Who::Ours, None, &WAITS)
        })
    });
    let rings = RINGS.map(|ring| {
        Subject::new(ring, move || {
            let ring = format!("--ebpf-ring-bytes={ring}");
            let flags = [&WAITS[..], &[ring.as_str()]].concat();
            Storm::of_opens(2).measure(Who::Ours, None, &flags)
        })
    });
    let rules = RULES.map(|n_rules| {
        Subject::new(n_rules.to_string(), move || {
            let storm = Storm::of_opens(2).behind_rules(n_rules - 1);
            storm.measure(Who::Ours, None, &WAITS)
        })
    });
    let folder = folder_in_memory()?;
    // Recorded once, laid out in each way before anything is measured.
    Input::make(folder.path(), Shape::of(1))?;
    let original = folder.path().join("original");
    let laid_out = |shape: Shape, what: &str, number: usize| -> anyhow::Result<Subject<'_>> {
        let place = folder.path().join(format!("{what}-{number}"));
        std::fs::create_dir(&place)?;
        let input = Input::repeat(&place, &original, shape)?;
        Ok(Subject::new(number.to_string(), move || {
            timed(input.records, || {
                replay("json", &input.capture, Path::new("/dev/null"))
            })
        }))
    };
    let mut in_flight = Vec::new();
    for events in IN_FLIGHT {
        let shape = Shape {
            in_flight: Some(events),
            ..Shape::of(COPIES)
        };
        in_flight.push(laid_out(shape, "events", events)?);
    }
    let mut keys = Vec::new();
    for n_keys in KEYS {
        let shape = Shape {
            n_keys: Some(n_keys),
            ..Shape::of(COPIES)
        };
        keys.push(laid_out(shape, "keys", n_keys)?);
    }
    let groups = vec![
        session.alternate("processes that call", &STORMS, processes.into())?,
        session.alternate("size of the ring", &STORMS, rings.into())?,
        session.alternate("rules", &STORMS, rules.into())?,
        session.alternate("events in flight", &REPLAYS, in_flight)?,
        session.alternate("keys", &REPLAYS, keys)?,
    ];
    let most_to_least = |group: &Group| {
        let (first, last) = group.rows.first().zip(group.rows.last())?;
        let key = group.columns.first()?.key;
        let what = format!(
            "{}: the cost at {}, of that at {}",
            group.title, last.name, first.name
        );
        group.ratio(what, key, &last.name, &first.name, None)
    };
    Ok(Report {
        bench: "scale",
        title: "Scale: what grows with what",
        how: vec![
            "The collector as the daemon at level syscalls, 40,000 openat in all at backlog 8,192 and wait 0. Events in flight and keys: a \
             capture replayed to JSON, the records of so many events in turn, or with so many keys. Rules: all name openat and one user \
             each, the last the makers'. The kernel, too, compares each call with all of them (see the overhead)."
                .into(),
        ],
        ratios: groups.iter().filter_map(most_to_least).collect(),
        groups,
    })
}
