//! The account of expected events, read from each place where the collector tells it, and the identities it keeps.

use std::fmt;

use collector::event::Cause;

use crate::exposition::Samples;
use crate::stream::{Event, Stream};

/// Expected events by outcome. `maybe` verdicts are in none of these: nobody expects those events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Both witnesses have them.
    pub matched: u64,
    /// eBPF gave them back.
    pub backfilled: u64,
    /// Neither has them.
    pub unrecovered: u64,
    /// Only the audit stream has them.
    pub audit_only: u64,
    /// Only the audit stream has them, at a time when observations were lost.
    pub uncertain: u64,
}

impl Balance {
    /// As `/metrics` tells it.
    pub fn of_metrics(metrics: &Samples) -> Self {
        let count = |outcome| {
            ["exact", "inferred"]
                .iter()
                .map(|verdict| {
                    let labels = [("verdict", *verdict), ("outcome", outcome)];
                    metrics.count("crosscheck_events_total", &labels)
                })
                .sum()
        };
        Self {
            matched: count("matched"),
            backfilled: count("backfilled"),
            unrecovered: count("unrecovered"),
            audit_only: count("audit_only"),
            uncertain: count("uncertain"),
        }
    }

    /// As the events of the stream tell it; what is unrecovered is told as a loss and has no event.
    pub fn of_events<'a>(events: impl IntoIterator<Item = &'a Event<'a>>) -> Self {
        let mut balance = Self::default();
        for event in events {
            match event.outcome() {
                "matched" => balance.matched += 1,
                "backfilled" => balance.backfilled += 1,
                "audit_only" => balance.audit_only += 1,
                "uncertain" => balance.uncertain += 1,
                _ => balance.unrecovered += 1,
            }
        }
        balance
    }

    /// All that are settled.
    pub fn settled(&self) -> u64 {
        self.matched + self.backfilled + self.unrecovered
    }
}

/// The collector's identities that a scrape breaks, each with its figures.
pub fn broken_identities(metrics: &Samples) -> Vec<String> {
    let count =
        |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels).unwrap_or_default() as u64;
    let all = |name| count(name, &[]);
    let balance = Balance::of_metrics(metrics);
    let missing = |outcome| count("crosscheck_missing_events_total", &[("outcome", outcome)]);
    let pending = count("crosscheck_pending_events", &[("source", "ebpf")]);
    let refused: u64 = ["ring_full", "in_flight_full"]
        .iter()
        .map(|reason| {
            let labels = [("ringbuf", "observations"), ("reason", *reason)];
            count("ebpf_ringbuf_dropped_events_total", &labels)
        })
        .sum();
    let equal = [
        (
            "records",
            all("records_received_total"),
            all("records_parsed_total") + all("records_malformed_total"),
        ),
        (
            "events",
            all("events_begun_total"),
            all("events_merged_total") + all("events_pending"),
        ),
        (
            "expected",
            all("crosscheck_expected_events_total"),
            balance.settled() + all("crosscheck_withdrawn_events_total") + pending,
        ),
        (
            "backfilled by cause",
            missing("backfilled"),
            balance.backfilled,
        ),
        (
            "unrecovered by cause",
            missing("unrecovered"),
            balance.unrecovered,
        ),
        (
            "sinks",
            all("sink_handed_over_events_total"),
            all("sink_delivered_events_total")
                + all("sink_dropped_events_total")
                + all("sink_queue_events"),
        ),
    ];
    let mut broken: Vec<String> = equal
        .iter()
        .filter(|(_, left, right)| left != right)
        .map(|(name, left, right)| format!("{name}: {left} is not {right}"))
        .collect();
    let (attempted, submitted, read) = (
        all("ebpf_attempted_events_total"),
        all("ebpf_submitted_events_total"),
        all("ebpf_events_total"),
    );
    // The programs count on while their counters are read, on each CPU by itself.
    if attempted.abs_diff(submitted + refused) > RUNNING || read > submitted {
        broken.push(format!(
            "observations: {attempted} attempted, {submitted} sent, {refused} refused, {read} read"
        ));
    }
    broken
}

/// Where the losses that the whole stream tells of differ from what was counted, with the figures.
pub fn losses_told_otherwise(stream: &Stream, metrics: &Samples) -> Vec<String> {
    let mut differences = Vec::new();
    for cause in Cause::ALL {
        let missing = |outcome| {
            let labels = [("cause", cause.name()), ("outcome", outcome)];
            metrics.count("crosscheck_missing_events_total", &labels)
        };
        let counted = metrics.count("lost_records_total", &[("cause", cause.name())]);
        let (backfilled, unrecovered) = (missing("backfilled"), missing("unrecovered"));
        let mut told = (0, 0, 0);
        for loss in stream.losses_of(cause.name()) {
            let count = loss["count"].as_u64().unwrap_or_default();
            match loss["recovered"].as_u64() {
                Some(recovered) => {
                    told.1 += recovered;
                    told.2 += count - recovered;
                }
                None => told.0 += count,
            }
        }
        if told != (counted, backfilled, unrecovered) {
            differences.push(format!(
                "{}: {told:?} told, ({counted}, {backfilled}, {unrecovered}) counted",
                cause.name()
            ));
        }
    }
    differences
}

/// More samples than programs can be at work on at a time.
const RUNNING: u64 = 64;

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} matched, {} backfilled, {} unrecovered, {} audit_only, {} uncertain",
            self.matched, self.backfilled, self.unrecovered, self.audit_only, self.uncertain
        )
    }
}
