//! The stages of the data path, each for itself, on the captured corpus: `cargo bench -p audit-collector`. What CI holds to is
//! their instructions: `cargo xtask instructions`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use collector::audit::event::{AuditEvent, Records};
use collector::audit::parse;
use collector::audit::reassemble::{EventEnd, Limits, Reassembler};
use collector::audit::record::Record;
use collector::clock::{KtimeNs, RealtimeOffset};
use collector::config::Format;
use collector::correlate::limits;
use collector::correlate::matcher::Correlator;
use collector::event::Output;
use collector::output::identity::Identity;
use collector::output::render::Renderer;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

const CORPUS: &[u8] = include_bytes!("../testdata/debian12-6.18/records.log");
const NOW: KtimeNs = KtimeNs(1_800_000_000_000_000_000);

fn main() {
    divan::main();
}

fn lines() -> impl Iterator<Item = &'static [u8]> {
    CORPUS.split_inclusive(|byte| *byte == b'\n')
}

fn records() -> Vec<Record<'static>> {
    lines().map(|line| parse::log_line(line).unwrap()).collect()
}

fn reassembler() -> Reassembler {
    Reassembler::new(Limits {
        end: EventEnd::Proctitle,
        ..Limits::default()
    })
}

fn events() -> Vec<AuditEvent> {
    let (mut reassembler, mut events) = (reassembler(), Vec::new());
    for record in records() {
        reassembler.push(&record, NOW, &mut events);
    }
    reassembler.flush(NOW, &mut events);
    events
}

fn correlator() -> Correlator {
    let limits = limits::Limits::new(Duration::from_secs(2), Duration::from_secs(5));
    Correlator::new(limits, RealtimeOffset(0))
}

fn outputs() -> Vec<Output> {
    let (mut correlator, mut outputs) = (correlator(), Vec::new());
    for event in events() {
        correlator.audit_event(event, NOW, &mut outputs);
    }
    outputs
}

#[divan::bench]
fn parse_lines(bencher: Bencher<'_, '_>) {
    bencher
        .counter(ItemsCount::new(lines().count()))
        .counter(BytesCount::new(CORPUS.len()))
        .bench(|| {
            for line in lines() {
                divan::black_box(parse::log_line(line)).unwrap();
            }
        });
}

#[divan::bench]
fn keep_records(bencher: Bencher<'_, '_>) {
    let records = records();
    let mut kept = Records::default();
    bencher
        .counter(ItemsCount::new(records.len()))
        .bench_local(|| {
            kept.clear();
            records.iter().for_each(|record| kept.push(record));
        });
}

/// Each time with later stamps, so that nothing is a repeat of what came before.
#[divan::bench]
fn reassemble(bencher: Bencher<'_, '_>) {
    let mut records = records();
    let mut reassembler = reassembler();
    let mut events = Vec::new();
    bencher
        .counter(ItemsCount::new(records.len()))
        .bench_local(|| {
            for record in &mut records {
                record.stamp.time.0 += 1_000_000;
                reassembler.push(record, NOW, &mut events);
            }
            reassembler.flush(NOW, &mut events);
            for event in events.drain(..) {
                reassembler.recycle(event.records);
            }
        });
}

#[divan::bench]
fn correlate(bencher: Bencher<'_, '_>) {
    let mut correlator = correlator();
    let mut outputs = Vec::new();
    bencher
        .counter(ItemsCount::new(records().len()))
        .with_inputs(events)
        .bench_local_values(|events| {
            for event in events {
                correlator.audit_event(event, NOW, &mut outputs);
            }
            for output in outputs.drain(..) {
                if let Output::Event(event) = output {
                    correlator.recycle(event);
                }
            }
        });
}

#[divan::bench(args = ["json", "raw"])]
fn render(bencher: Bencher<'_, '_>, format: &str) {
    let identity = Identity {
        boot_id: "0b9f3a52-7d7a-4c35-9f0e-4d9a4f0f6c11".to_owned(),
        host: "host.example".to_owned(),
    };
    let format = match format {
        "json" => Format::Json,
        _ => Format::Raw,
    };
    let mut renderer = Renderer::of_format(format, false, identity);
    let outputs = outputs();
    let mut lines = Vec::new();
    bencher
        .counter(ItemsCount::new(records().len()))
        .bench_local(|| {
            lines.clear();
            for output in &outputs {
                renderer.render(output, &mut lines);
            }
        });
}
