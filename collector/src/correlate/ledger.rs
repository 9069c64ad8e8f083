//! The running account of expected events.
//!
//! Owns the rules by which [`Crosscheck`] moves, so that its identities hold after every call:
//! `expected = matched + backfilled + unrecovered + withdrawn + pending`, over the verdicts exact and inferred, and each
//! breakdown adds up to what is settled. `maybe` verdicts are settled too, but nobody expects them.

use crate::account::{Crosscheck, Tally};
use crate::audit::rules::KEY_SEPARATOR;
use crate::byte_string::ByteString;
use crate::event::{Cause, Outcome};
use crate::probe::observation::{Observation, Verdict};

/// Whose event it is.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// [`Crosscheck::by_key`]; none where it is not known which rule asks for it.
    key: Option<ByteString>,
    call: (u32, u32),
    uid: u32,
}

impl Subject {
    /// Of an observed call; `keys` are those of the rule that asks for it.
    pub(super) fn new<'a>(
        observation: &Observation,
        keys: Option<impl IntoIterator<Item = &'a [u8]>>,
    ) -> Self {
        let key = keys.map(|keys| {
            let mut joined = ByteString::default();
            for (place, key) in keys.into_iter().enumerate() {
                if place > 0 {
                    joined.push(KEY_SEPARATOR);
                }
                joined.extend_from_slice(key);
            }
            joined.truncate(Crosscheck::KEY_BYTES);
            joined
        });
        Self {
            key,
            call: (observation.arch, observation.syscall),
            uid: observation.credentials.uid,
        }
    }

    /// The same, with the keys of a rule.
    pub(super) fn of_rule(observation: &Observation, keys: Option<&[ByteString]>) -> Self {
        let keys = keys.map(|keys| keys.iter().map(|key| &**key));
        Self::new(observation, keys)
    }
}

impl Crosscheck {
    /// An observation arrived that says the kernel should report an event.
    pub(super) fn expect(&mut self, verdict: Verdict) {
        if verdict != Verdict::Maybe {
            self.expected += 1;
            self.pending_observations += 1;
        }
    }

    /// The audit event of an observation came.
    pub(super) fn matched(&mut self, verdict: Verdict, subject: &Subject) {
        self.count(verdict, Outcome::Matched, 1);
        let matched = Tally {
            matched: 1,
            ..Tally::default()
        };
        self.settle(verdict, subject, matched);
    }

    /// No audit event came for an observation, or one of which records had to be given back.
    pub(super) fn backfilled(&mut self, verdict: Verdict, cause: Cause, subject: &Subject) {
        self.count(verdict, Outcome::Backfilled, 1);
        if verdict != Verdict::Maybe {
            self.count_cause(Outcome::Backfilled, cause, 1);
        }
        let backfilled = Tally {
            backfilled: 1,
            ..Tally::default()
        };
        self.settle(verdict, subject, backfilled);
    }

    /// An event that no observation is of, and whose records the audit stream lost: copies of them are there.
    pub(super) fn recovered(&mut self, cause: Cause) {
        self.expected += 1;
        self.count(Verdict::Exact, Outcome::Backfilled, 1);
        self.count_cause(Outcome::Backfilled, cause, 1);
        self.count_unknown(Tally {
            backfilled: 1,
            ..Tally::default()
        });
    }

    /// An observation turned out not to be expected.
    pub(super) fn withdrawn(&mut self, verdict: Verdict, subject: &Subject) {
        self.withdrawn += 1;
        let withdrawn = Tally {
            withdrawn: 1,
            ..Tally::default()
        };
        self.settle(verdict, subject, withdrawn);
    }

    /// An audit event that the witness should have seen, and did not.
    pub(super) fn audit_only(&mut self, verdict: Verdict) {
        self.count(verdict, Outcome::AuditOnly, 1);
    }

    /// An audit event without an observation, at a time when observations were lost.
    pub(super) fn uncertain(&mut self, verdict: Verdict, cause: Cause) {
        self.count(verdict, Outcome::Uncertain, 1);
        *self
            .by_cause
            .entry((Outcome::Uncertain, cause))
            .or_default() += 1;
    }

    /// Events the kernel stamped that neither witness has.
    pub(super) fn unrecovered(&mut self, events: u64, cause: Cause) {
        self.expected += events;
        self.count(Verdict::Inferred, Outcome::Unrecovered, events);
        self.count_cause(Outcome::Unrecovered, cause, events);
        self.count_unknown(Tally {
            unrecovered: events,
            ..Tally::default()
        });
    }

    /// Whether the identities hold.
    pub fn balances(&self) -> bool {
        let settled = self.settled_expected();
        let of_cause = |outcome| {
            let of = self.by_cause.iter().filter(|((of, _), _)| *of == outcome);
            of.map(|(_, events)| events).sum::<u64>()
        };
        self.expected == settled.expected() + self.pending_observations
            && self.by_key.total() == settled
            && self.by_syscall.total() == settled
            && self.by_uid.total() == settled
            && of_cause(Outcome::Backfilled) == settled.backfilled
            && of_cause(Outcome::Unrecovered) == settled.unrecovered
    }

    fn count(&mut self, verdict: Verdict, outcome: Outcome, events: u64) {
        *self.settled.entry((verdict, outcome)).or_default() += events;
    }

    fn count_cause(&mut self, outcome: Outcome, cause: Cause, events: u64) {
        *self.by_cause.entry((outcome, cause)).or_default() += events;
    }

    /// What is settled of events of which it is not known whose they are.
    fn count_unknown(&mut self, settled: Tally) {
        self.by_key.count(None, settled);
        self.by_syscall.count(None, settled);
        self.by_uid.count(None, settled);
    }

    /// An expected event waits no longer.
    fn settle(&mut self, verdict: Verdict, subject: &Subject, settled: Tally) {
        if verdict == Verdict::Maybe {
            return;
        }
        self.pending_observations -= 1;
        self.by_key.count(subject.key.as_ref(), settled);
        self.by_syscall.count(Some(&subject.call), settled);
        self.by_uid.count(Some(&subject.uid), settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_after_every_step() {
        let mut account = Crosscheck::default();
        let subject = Subject {
            key: Some((*b"opens").into()),
            call: (0xc000_003e, 257),
            uid: 1000,
        };
        for _ in 0..4 {
            account.expect(Verdict::Inferred);
        }
        account.expect(Verdict::Maybe);
        assert!(account.balances());
        account.matched(Verdict::Inferred, &subject);
        account.matched(Verdict::Maybe, &subject);
        account.backfilled(Verdict::Inferred, Cause::RateLimit, &subject);
        let keyless = Subject {
            key: None,
            ..subject.clone()
        };
        account.withdrawn(Verdict::Inferred, &keyless);
        account.unrecovered(3, Cause::KernelUnknown);
        account.audit_only(Verdict::Inferred);
        account.uncertain(Verdict::Inferred, Cause::RingFull);
        account.backfilled(Verdict::Maybe, Cause::RetryOverflow, &subject);
        account.recovered(Cause::RetryOverflow);
        assert!(account.balances());
        assert_eq!((account.expected, account.pending_observations), (8, 1));
        let of_key = Tally {
            matched: 1,
            backfilled: 1,
            ..Tally::default()
        };
        assert_eq!(account.by_key.rows(), [(&(*b"opens").into(), of_key)]);
        assert_eq!(account.by_key.unknown().expected(), 5);
        assert_eq!(account.by_uid.rows()[0].1.expected(), 3);
        account.expected += 1;
        assert!(!account.balances());
    }
}
