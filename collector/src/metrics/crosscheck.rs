//! What the cross-check found, and how long events take.

use super::family::{Families, Number};
use crate::account::Account;
use crate::event::{Cause, Outcome};
use crate::probe::observation::Verdict;

pub(super) fn add(families: &mut Families, account: &Account) {
    let crosscheck = &account.crosscheck;
    for (name, value) in [
        ("crosscheck_expected_events_total", crosscheck.expected),
        ("crosscheck_withdrawn_events_total", crosscheck.withdrawn),
        ("crosscheck_unwatched_events_total", crosscheck.unwatched),
        ("crosscheck_superseded_events_total", crosscheck.superseded),
    ] {
        families.set(name, &[], Number(value));
    }
    // Of a `maybe` it is not known that the event was expected.
    for verdict in [Verdict::Exact, Verdict::Inferred] {
        for outcome in Outcome::ALL {
            let settled = crosscheck.settled.get(&(verdict, outcome));
            families.set(
                "crosscheck_events_total",
                &[verdict.name(), outcome.name()],
                Number(settled.copied().unwrap_or_default()),
            );
        }
    }
    for cause in Cause::ALL {
        for outcome in [Outcome::Backfilled, Outcome::Unrecovered] {
            let missing = crosscheck.by_cause.get(&(outcome, cause));
            families.set(
                "crosscheck_missing_events_total",
                &[cause.stage().name(), cause.name(), outcome.name()],
                Number(missing.copied().unwrap_or_default()),
            );
        }
    }
    let maybe = |outcome| {
        let settled = crosscheck.settled.get(&(Verdict::Maybe, outcome));
        settled.copied().unwrap_or_default()
    };
    for (result, value) in [
        ("matched", maybe(Outcome::Matched)),
        ("audit_only", maybe(Outcome::AuditOnly)),
        ("unconfirmed", crosscheck.maybe_unconfirmed),
        ("found_reported", crosscheck.maybe_settled_yes),
        ("found_not_reported", crosscheck.maybe_settled_no),
    ] {
        families.set("crosscheck_maybe_events_total", &[result], Number(value));
    }
    for (source, pending) in [
        ("audit", crosscheck.pending_events),
        ("ebpf", crosscheck.pending_observations),
    ] {
        families.set("crosscheck_pending_events", &[source], Number(pending));
    }
    let uncertain = u32::from(crosscheck.uncertain_since.is_some());
    families.set("crosscheck_uncertain", &[], uncertain);
    families.histogram("merge_latency_seconds", &[], &account.merge_latency);
    families.histogram("merge_wait_seconds", &[], &account.merge_wait);
}
