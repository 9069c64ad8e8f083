//! What the cross-check found, and how long events take.

use super::family::{Families, Number};
use crate::account::Account;
use crate::event::Outcome;
use crate::probe::observation::Verdict;

pub(super) fn add(families: &mut Families, account: &Account) {
    let crosscheck = &account.crosscheck;
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
    for (source, pending) in [
        ("audit", crosscheck.pending_events),
        ("ebpf", crosscheck.pending_observations),
    ] {
        families.set("crosscheck_pending_events", &[source], Number(pending));
    }
    families.histogram("merge_latency_seconds", &[], &account.merge_latency);
    families.histogram("merge_wait_seconds", &[], &account.merge_wait);
}
