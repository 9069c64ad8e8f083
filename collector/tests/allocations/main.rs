//! From bytes to lines no record costs an allocation, once buffers and tables have their size; a call that eBPF saw hardly one.
//!
//! The captured corpus goes through the core again and again, each time with later stamps, and every thread's allocations are
//! counted by the test program's allocator. It has records of some thirty types: calls, long argument lists, addresses, names
//! that are no text, messages from user space.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

#[path = "../../benches/stages/storm.rs"]
mod storm;
mod sys;

use std::io::{self, Write as _};
use std::time::Duration;

use collector::audit::reassemble::{EventEnd, Limits, Repeats};
use collector::audit::record::RecordType;
use collector::clock::{KtimeNs, RealtimeOffset, TimeMs};
use collector::command::replay;
use collector::config::Format;
use collector::core::{Core, CoreConfig};
use collector::event::Outcome;
use collector::output::identity::Identity;
use collector::output::render::Renderer;
use collector::probe::decode::decode;
use collector::probe::observation::Verdict;
use collector::probe::texts::TextMirror;
use collector::verify::Sampling;
use storm::Storm;

/// How often the corpus goes through before anything is counted: tables have as many entries as they are to have, also that of the
/// times auditing was switched off (300), which the corpus does once.
const WARM_UP: u64 = 320;
const COUNTED: u64 = 20;
/// Events that the reassembler remembers, fewer than by default, so that its tables have their size soon.
const REMEMBERED: usize = 1_000;

/// Storms of calls, of which the last is counted.
const STORMS: u64 = 3;
/// Allocations for a call that is matched.
const MATCHED: f64 = 0.25;
/// For one that is given back.
const GIVEN_BACK: f64 = 1.5;

const FORMATS: [Format; 2] = [Format::Json, Format::Raw];

/// The corpus, and how long it lasts: each pass goes on where the one before ended.
struct Corpus {
    lines: Vec<Line>,
    ms: u64,
    serials: u64,
}

/// A line of the corpus, taken apart at its stamp.
struct Line {
    record_type: u16,
    before: String,
    ms: u64,
    serial: u64,
    behind: String,
}

impl Line {
    /// As in a log.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        self.write_text(out);
    }

    /// As in a datagram.
    fn write_text(&self, out: &mut Vec<u8>) {
        let (seconds, ms) = (self.ms / 1_000, self.ms % 1_000);
        write!(
            out,
            "audit({seconds}.{ms:03}:{}{}",
            self.serial, self.behind
        )
        .unwrap();
    }
}

impl Corpus {
    /// The next pass gets later stamps.
    fn move_on(&mut self) {
        for line in &mut self.lines {
            line.ms += self.ms;
            line.serial += self.serials;
        }
    }
}

fn span(values: impl Iterator<Item = u64> + Clone) -> u64 {
    values.clone().max().unwrap() - values.min().unwrap() + 1
}

fn corpus() -> Corpus {
    let log = include_str!("../../testdata/debian12-6.18/records.log");
    let line = |line: &str| {
        let (before, rest) = line.split_once("audit(").unwrap();
        let (stamp, behind) = rest.split_at(rest.find(')').unwrap());
        let (time, serial) = stamp.split_once(':').unwrap();
        let (seconds, ms) = time.split_once('.').unwrap();
        let name = &before["type=".len()..before.len() - " msg=".len()];
        Line {
            record_type: RecordType::from_name(name.as_bytes()).unwrap().0,
            before: before.to_owned(),
            ms: seconds.parse::<u64>().unwrap() * 1_000 + ms.parse::<u64>().unwrap(),
            serial: serial.parse().unwrap(),
            behind: behind.to_owned(),
        }
    };
    let lines: Vec<_> = log.lines().map(line).collect();
    Corpus {
        ms: span(lines.iter().map(|line| line.ms)),
        serials: span(lines.iter().map(|line| line.serial)),
        lines,
    }
}

fn renderer(format: Format) -> Renderer {
    let identity = Identity {
        boot_id: "0b9f3a52-7d7a-4c35-9f0e-4d9a4f0f6c11".to_owned(),
        host: "host.example".to_owned(),
    };
    Renderer::of_format(format, false, identity)
}

/// How records come.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As lines of a log.
    Log,
    /// As datagrams of the audit socket.
    Socket,
}

impl Way {
    fn limits(self) -> Limits {
        let limits = Limits {
            remembered: REMEMBERED,
            ..Limits::default()
        };
        match self {
            Self::Log => Limits {
                end: EventEnd::Proctitle,
                ..limits
            },
            Self::Socket => Limits {
                repeats: Repeats::Records,
                ..limits
            },
        }
    }
}

/// How often memory was asked for in [`COUNTED`] passes of the corpus.
fn allocations(format: Format, way: Way) -> u64 {
    let config = CoreConfig {
        source: "test",
        reassembly: way.limits(),
        reorder_window: Duration::from_secs(5),
        began: TimeMs(0),
        verify: Sampling::PerSecond(0),
        texts: TextMirror::Off,
    };
    let mut core = Core::new(&config, RealtimeOffset(0));
    let mut renderer = renderer(format);
    let mut corpus = corpus();
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut allocations = 0;
    let mut lines = 0_u64;
    for pass in 0..WARM_UP + COUNTED {
        for line in &corpus.lines {
            input.clear();
            match way {
                Way::Log => line.write(&mut input),
                Way::Socket => line.write_text(&mut input),
            }
            let now = KtimeNs(line.ms * 1_000_000);
            let before = sys::asked();
            match way {
                Way::Log => core.log_line(&input, |_| now),
                Way::Socket => core.datagram(line.record_type, &input, now),
            }
            lines += 1;
            if lines.is_multiple_of(64) {
                core.tick(now, RealtimeOffset(0));
            }
            core.each_output(|event| {
                output.clear();
                renderer.render(event, &mut output);
            });
            if pass >= WARM_UP {
                allocations += sys::asked() - before;
            }
        }
        corpus.move_on();
    }
    assert!(!output.is_empty());
    allocations
}

#[test]
fn no_record_costs_an_allocation() {
    for format in FORMATS {
        for way in [Way::Log, Way::Socket] {
            assert_eq!(allocations(format, way), 0, "{format:?}, {way:?}");
        }
    }
}

/// How often memory is asked for on behalf of each call, from the sample of the programs to the event that is handed on, where the
/// audit stream brings the events of those that `came`. The records' own way is not in it: see above.
fn allocations_per_call(came: impl Fn(u64) -> bool, outcome: Outcome) -> f64 {
    let (mut correlator, mut outputs) = (storm::witnessed(), Vec::new());
    let lost = (0..storm::CALLS).filter(|call| !came(*call)).count() as u64;
    let mut counted = 0;
    for storm in (0..STORMS).map(Storm) {
        let samples = storm.samples();
        let batches = storm.batches(&came);
        let before = sys::asked();
        for sample in &samples {
            decode(sample).unwrap();
        }
        storm::hand_over(&mut correlator, batches, &mut outputs);
        storm.pass(lost, &mut correlator, &mut outputs);
        counted = sys::asked() - before;
    }
    let settled = correlator.crosscheck().settled;
    let told = settled.get(&(Verdict::Inferred, outcome)).copied();
    assert!(told >= Some(STORMS * (storm::CALLS - 2)), "{settled:?}");
    counted as f64 / storm::CALLS as f64
}

/// A box for each observation that waits beyond those that are kept, and now and then a node of the tree they wait in.
#[test]
fn a_call_that_ebpf_saw_costs_hardly_an_allocation() {
    let matched = allocations_per_call(|_| true, Outcome::Matched);
    let given_back = allocations_per_call(
        |call| call == 0 || call == storm::CALLS - 1,
        Outcome::Backfilled,
    );
    println!(
        "{matched:.2} allocations for a call that is matched, {given_back:.2} for one that is given back"
    );
    assert!(matched <= MATCHED, "{matched}");
    assert!(given_back <= GIVEN_BACK, "{given_back}");
}

#[test]
fn a_replay_asks_for_no_more_memory_where_its_log_is_longer() {
    let folder = tempfile::tempdir().unwrap();
    let replayed = |format, passes| {
        let path = folder.path().join("log");
        let (mut corpus, mut log) = (corpus(), Vec::new());
        for _ in 0..passes {
            for line in &corpus.lines {
                line.write(&mut log);
                log.push(b'\n');
            }
            corpus.move_on();
        }
        std::fs::write(&path, log).unwrap();
        let before = sys::asked();
        replay::run(&path, renderer(format), &mut io::sink()).unwrap();
        sys::asked() - before
    };
    for format in FORMATS {
        let (short, long) = (replayed(format, 360), replayed(format, 440));
        // Of the 32,768 events that are remembered the short one fills the table; when that doubles once more is chance.
        assert!(long <= short + 10, "{format:?}: {short} and {long}");
    }
}
