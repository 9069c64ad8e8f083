//! The stages of the data path, each for itself, on the captured corpus, and those that need a witness on storms of calls:
//! `cargo bench -p audit-collector`. What CI holds to is their instructions: `cargo xtask instructions`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod storm;

use collector::audit::event::{AuditEvent, Records};
use collector::audit::parse;
use collector::audit::reassemble::{EventEnd, Limits, Reassembler};
use collector::audit::record::Record;
use collector::clock::{KtimeNs, RealtimeOffset};
use collector::config::Format;
use collector::correlate::matcher::Correlator;
use collector::event::{Cause, Outcome, Output};
use collector::output::identity::Identity;
use collector::output::render::Renderer;
use collector::probe::decode;
use collector::probe::observation::Verdict;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use storm::{Batch, CALLS, Storm};

const CORPUS: &[u8] = include_bytes!("../../testdata/debian12-6.18/records.log");
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
    Correlator::new(storm::limits(), RealtimeOffset(0))
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
            storm::recycle(&mut correlator, &mut outputs);
        });
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let samples = Storm(0).samples();
    bencher
        .counter(ItemsCount::new(CALLS))
        .bench(|| decode_samples(&samples));
}

#[divan::bench]
fn correlate_matched(bencher: Bencher<'_, '_>) {
    let (mut correlator, mut outputs) = (storm::witnessed(), Vec::new());
    let mut storms = (0..).map(Storm);
    bencher
        .counter(ItemsCount::new(CALLS))
        .with_inputs(|| storms.next().unwrap().batches(|_| true))
        .bench_local_values(|batches| match_calls(&mut correlator, batches, &mut outputs));
    let account = correlator.crosscheck();
    let matched = account.settled.get(&(Verdict::Inferred, Outcome::Matched));
    assert_eq!(matched.copied().unwrap_or_default(), account.expected);
}

/// Of each storm the kernel reports the first and the last call, and has no room for the others.
#[divan::bench]
fn correlate_backfilled(bencher: Bencher<'_, '_>) {
    let (mut correlator, mut outputs) = (storm::witnessed(), Vec::new());
    let mut storms = (0..).map(Storm);
    let came = |call| call == 0 || call == CALLS - 1;
    bencher
        .counter(ItemsCount::new(CALLS))
        .with_inputs(|| {
            let storm = storms.next().unwrap();
            (storm, storm.batches(came))
        })
        .bench_local_values(|(storm, batches)| {
            give_back_calls(&mut correlator, storm, batches, &mut outputs);
        });
    let account = correlator.crosscheck();
    let refused = (Outcome::Backfilled, Cause::BacklogLimit);
    let refused = account.by_cause.get(&refused).copied().unwrap_or_default();
    assert_eq!(refused * CALLS, account.expected * (CALLS - 2));
}

// What `cargo xtask instructions` counts is not to be merged with what makes its input.

#[inline(never)]
fn decode_samples(samples: &[Vec<u8>]) {
    for sample in samples {
        divan::black_box(decode::decode(sample)).unwrap();
    }
}

#[inline(never)]
fn match_calls(correlator: &mut Correlator, batches: Vec<Batch>, outputs: &mut Vec<Output>) {
    storm::hand_over(correlator, batches, outputs);
}

#[inline(never)]
fn give_back_calls(
    correlator: &mut Correlator,
    storm: Storm,
    batches: Vec<Batch>,
    outputs: &mut Vec<Output>,
) {
    storm::hand_over(correlator, batches, outputs);
    storm.pass(CALLS - 2, correlator, outputs);
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
