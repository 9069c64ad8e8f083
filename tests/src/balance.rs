//! The account of expected events, read from each place where the collector tells it.

use std::fmt;

use crate::exposition::Samples;
use crate::stream::Event;

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

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} matched, {} backfilled, {} unrecovered, {} audit_only",
            self.matched, self.backfilled, self.unrecovered, self.audit_only
        )
    }
}
