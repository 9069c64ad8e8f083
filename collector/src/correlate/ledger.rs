//! The running account of expected events.
//!
//! Owns the rules by which [`Crosscheck`] moves, so that its identity holds after every call:
//! `expected = matched + backfilled + unrecovered + withdrawn + pending`, over the verdicts exact and inferred.
//! `maybe` verdicts are settled too, but nobody expects them.

use crate::account::Crosscheck;
use crate::event::{Cause, Outcome};
use crate::probe::observation::Verdict;

impl Crosscheck {
    /// An observation arrived that says the kernel should report an event.
    pub(super) fn expect(&mut self, verdict: Verdict) {
        if verdict != Verdict::Maybe {
            self.expected += 1;
            self.pending_observations += 1;
        }
    }

    /// The audit event of an expected observation came.
    pub(super) fn matched(&mut self, verdict: Verdict) {
        self.no_longer_pending(verdict);
        self.settle(verdict, Outcome::Matched, None);
    }

    /// No audit event came for an expected observation.
    pub(super) fn backfilled(&mut self, verdict: Verdict, cause: Cause) {
        self.no_longer_pending(verdict);
        self.settle(verdict, Outcome::Backfilled, Some(cause));
    }

    /// An observation turned out not to be expected.
    pub(super) fn withdrawn(&mut self, verdict: Verdict) {
        self.no_longer_pending(verdict);
        self.withdrawn += 1;
    }

    /// An audit event that the witness should have seen, and did not.
    pub(super) fn audit_only(&mut self, verdict: Verdict) {
        self.settle(verdict, Outcome::AuditOnly, None);
    }

    /// Events the kernel stamped that neither witness has.
    pub(super) fn unrecovered(&mut self, events: u64, cause: Cause) {
        self.expected += events;
        *self
            .settled
            .entry((Verdict::Inferred, Outcome::Unrecovered))
            .or_default() += events;
        *self
            .by_cause
            .entry((Outcome::Unrecovered, cause))
            .or_default() += events;
    }

    /// Whether the identity holds.
    pub fn balances(&self) -> bool {
        let settled: u64 = self
            .settled
            .iter()
            .filter(|((verdict, outcome), _)| {
                *verdict != Verdict::Maybe && *outcome != Outcome::AuditOnly
            })
            .map(|(_, events)| events)
            .sum();
        self.expected == settled + self.withdrawn + self.pending_observations
    }

    fn no_longer_pending(&mut self, verdict: Verdict) {
        if verdict != Verdict::Maybe {
            self.pending_observations -= 1;
        }
    }

    fn settle(&mut self, verdict: Verdict, outcome: Outcome, cause: Option<Cause>) {
        *self.settled.entry((verdict, outcome)).or_default() += 1;
        if let Some(cause) = cause {
            *self.by_cause.entry((outcome, cause)).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_after_every_step() {
        let mut account = Crosscheck::default();
        for _ in 0..4 {
            account.expect(Verdict::Inferred);
        }
        account.expect(Verdict::Maybe);
        assert!(account.balances());
        account.matched(Verdict::Inferred);
        account.matched(Verdict::Maybe);
        account.backfilled(Verdict::Inferred, Cause::RateLimit);
        account.withdrawn(Verdict::Inferred);
        account.unrecovered(3, Cause::KernelUnknown);
        account.audit_only(Verdict::Inferred);
        assert!(account.balances());
        assert_eq!((account.expected, account.pending_observations), (7, 1));
        account.expected += 1;
        assert!(!account.balances());
    }
}
