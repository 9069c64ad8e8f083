//! What becomes of those whose wait is over, and of a *maybe* that can be told after all.

use std::time::Duration;

use super::Correlator;
use crate::account::Crosscheck;
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::records::SyscallFields;
use crate::clock::KtimeNs;
use crate::correlate::evidence::Evidence;
use crate::correlate::fragment::{self, Content, Fit};
use crate::correlate::given_back::Stamped;
use crate::correlate::key::MatchKey;
use crate::correlate::ledger::Subject;
use crate::correlate::losses::GivenBackEvent;
use crate::correlate::observations::Pending;
use crate::correlate::operations;
use crate::correlate::unexplained::{Lack, Unexplained};
use crate::correlate::waiting::WaitingEvent;
use crate::correlate::witness::Witness;
use crate::event::{Cause, Event, EventId, MatchedBy, Outcome, Output};
use crate::probe::hooks::Level;
use crate::probe::mirror::rule_number;
use crate::probe::observation::{Observation, Verdict};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

impl Correlator {
    /// What the paths in the rules stand for was looked at again: what waited for that is settled.
    pub fn places_seen(&mut self, places: Places) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        let mut not_reported = Vec::new();
        // What was sampled before the last look has been judged by it.
        let since = witness.places.checked().minus(Self::LATE_SAMPLE);
        witness.places = places;
        for id in self.observations.undecided(since) {
            let Some(observation) = self.observations.get_mut(id) else {
                continue;
            };
            match settle(witness, &self.evidence, observation, &mut self.crosscheck) {
                Settled::Reported(_) => self.crosscheck.expect(observation.verdict),
                Settled::NotReported => not_reported.extend(self.observations.remove(id)),
                Settled::Open => {}
            }
        }
        for pending in not_reported {
            self.discard(pending.observation);
        }
    }

    pub(super) fn settle_waiting(
        &mut self,
        waiting: WaitingEvent,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let WaitingEvent {
            event,
            key,
            content,
            part,
            stamp,
            ..
        } = waiting;
        let Some(key) = key else {
            if operations::has_operations(&event) {
                return self.settle_operation(event, part, stamp, now, out);
            }
            let taken = fragment::is_fragment(&event)
                .then(|| self.take_for_fragment(&event, &content, None, stamp));
            return match taken.flatten() {
                Some(pending) => {
                    self.emit_matched(event, part, pending, MatchedBy::Content, now, out)
                }
                None => self.emit_unwatched(event, part, now, out),
            };
        };
        if let Some(pending) = self.take_for_fragment(&event, &content, Some(&key), stamp) {
            return self.emit_matched(event, part, pending, MatchedBy::Content, now, out);
        }
        // A step of the clock, noticed since, can make a difference to when it came; and what the two say of a path may
        // differ because another thread changed it between one reading and the other.
        let tolerance = self.tolerance(now);
        let found = self
            .observations
            .take_by_key(&key, stamp, tolerance, &content, Fit::No);
        if let Some(pending) = found {
            return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
        }
        if let Some(id) = self.given_back.take(&key, stamp, tolerance) {
            return self.emit_superseding(event, part, id, now, out);
        }
        let witness = self.witness.as_ref();
        let expected = witness
            .filter(|_| event.mirrored.is_none())
            .and_then(|witness| {
                let mut records = event.records.iter();
                let fields = records.find_map(SyscallFields::from_record)?;
                witness.should_have_seen(&fields, stamp, event.first_read)
            });
        match expected {
            Some(verdict) => {
                let lack = Lack::Observation { verdict, stamp };
                self.explain_later(event, part, lack, now, out);
            }
            None => self.emit_unwatched(event, part, now, out),
        }
    }

    /// An io_uring operation has an observation with its stamp, or none.
    fn settle_operation(
        &mut self,
        event: AuditEvent,
        part: u16,
        stamp: KtimeNs,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let witness = self.witness.as_ref();
        // Whether what lacks its end had a context of its own, or was inside a call, cannot be told.
        let verdict = witness
            .filter(|_| event.completion == Completion::Eoe)
            .and_then(|witness| witness.should_have_seen_event(stamp, event.first_read));
        match verdict {
            Some(verdict) => {
                let lack = Lack::Observation { verdict, stamp };
                self.explain_later(event, part, lack, now, out);
            }
            None => self.emit_unwatched(event, part, now, out),
        }
    }

    /// Keeps an event until it can be told why it lacks something.
    pub(super) fn explain_later(
        &mut self,
        event: AuditEvent,
        part: u16,
        lack: Lack,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.unexplained.push(Unexplained {
            event,
            part,
            lack,
            since: now,
        });
        while (self.unexplained.len() > self.limits.max_events
            || self.unexplained.n_bytes() > self.limits.max_event_bytes)
            && let Some(oldest) = self.unexplained.take_older_than(now)
        {
            self.settle_unexplained(oldest, now, out);
        }
    }

    pub(super) fn settle_unexplained(
        &mut self,
        unexplained: Unexplained,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let Unexplained {
            event, part, lack, ..
        } = unexplained;
        match lack {
            Lack::Observation { verdict, stamp } => {
                let lost = self.evidence.unobserved_between(stamp, event.first_read);
                match lost {
                    Some(cause) => self.crosscheck.uncertain(verdict, cause),
                    None => self.crosscheck.audit_only(verdict),
                }
                self.emit_audit_alone(event, Some(verdict), lost, part, now, out);
            }
            Lack::Records { observation, by } => {
                let cause = self.cause_of_lack(&observation.observation);
                self.hand_over_matched(event, part, observation, by, Some(cause), now, out);
            }
        }
    }

    /// The observation that the rest of an event speaks of, with its key where that is left; see [`Content::choose`].
    fn take_for_fragment(
        &mut self,
        event: &AuditEvent,
        content: &Content,
        key: Option<&MatchKey>,
        stamp: KtimeNs,
    ) -> Option<Pending> {
        let from = stamp.minus(fragment::EARLIEST_ENTRY);
        let to = stamp.plus(fragment::LATEST_ENTRY);
        self.observations.between(from, to).next()?;
        let (below, above) = self.neighbours.bracket(event.stamp.serial, fragment::REACH);
        let to = above.map_or(to, |above| to.min(above.at.plus(Self::RACE)));
        let candidates = self.observations.between(from, to).map(|(id, pending)| {
            let observation = &pending.observation;
            let taken = observation.taken;
            let in_order = below.is_none_or(|below| below.at <= taken.plus(Self::RACE))
                && above.is_none_or(|above| taken <= above.at.plus(Self::RACE));
            let possible =
                in_order && key.is_none_or(|key| MatchKey::of_observation(observation) == *key);
            fragment::Candidate {
                id,
                taken,
                from_stamp: observation
                    .entry
                    .since(stamp)
                    .max(stamp.since(observation.entry)),
                agreement: possible.then(|| content.agreement(observation)).flatten(),
            }
        });
        let candidates: Vec<_> = candidates.collect();
        let id = if content.is_empty() && key.is_none() {
            Content::only(&candidates)
        } else {
            Content::choose(candidates, below, above)
        }?;
        self.observations.remove(id)
    }

    pub(super) fn settle_observation(
        &mut self,
        pending: Pending,
        cause: Option<Cause>,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        if self.level() == Level::AuditHooks
            && let Some(waiting) =
                self.take_alike(&pending.observation, self.tolerance(now), |content| {
                    content.fit(&pending.observation) > Fit::No
                })
        {
            let WaitingEvent { event, part, .. } = waiting;
            return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
        }
        let Pending {
            observation,
            arrived,
        } = pending;
        if observation.verdict == Verdict::Maybe {
            self.crosscheck.maybe_unconfirmed += 1;
            return self.discard(observation);
        }
        let rule_keys = self.rule_keys(&observation);
        let subject = Subject::of_rule(&observation, rule_keys.as_deref());
        let excluded = observation
            .report
            .is_some_and(|report| report.serial.is_none() && report.first_lost.is_none());
        let witness = self.witness.as_ref();
        if excluded || witness.is_some_and(|witness| !witness.stands_by(&observation)) {
            self.crosscheck.withdrawn(observation.verdict, &subject);
            return self.discard(observation);
        }
        let report = observation.report;
        let time = report.map_or_else(|| self.offset.wall(observation.entry), |report| report.time);
        let bounds = self.neighbours.bounds(&observation);
        let stamped = match bounds {
            Some(bounds) if self.serials.none_missing(bounds) => Stamped::Never,
            _ => Stamped::Maybe,
        };
        let cause =
            cause.unwrap_or_else(|| self.evidence.cause(&observation, self.level(), stamped));
        self.crosscheck
            .backfilled(observation.verdict, cause, &subject);
        let id = EventId::Ebpf {
            taken: observation.taken,
            cpu: observation.cpu,
            sequence: observation.sequence,
        };
        let stamp = report.and_then(|report| report.stamp());
        // What the kernel refused before it drew a serial cannot have left a hole.
        let stamped = match cause {
            Cause::BacklogLimit | Cause::NoContext | Cause::AuditDisabled | Cause::RulesChanged => {
                Stamped::Never
            }
            _ => stamped,
        };
        match (report, stamp) {
            (_, Some(stamp)) => self.given_back.remember_stamp(stamp, id, now),
            // No record of it can come.
            (Some(_), None) => {}
            (None, None) => {
                let key = MatchKey::of_observation(&observation);
                self.given_back
                    .remember(key, id, observation.entry, stamped, now);
            }
        }
        self.observe(time, arrived, now);
        let given_back = GivenBackEvent {
            cause,
            serial: stamp.map(|stamp| stamp.serial),
            time,
            taken: observation.taken,
        };
        self.losses.given_back(&given_back, now);
        let event = self.output(Event {
            id,
            serial: stamp.map(|stamp| stamp.serial),
            between: if stamp.is_some() {
                (None, None)
            } else {
                self.neighbours.around(observation.taken)
            },
            time,
            outcome: Outcome::Backfilled,
            verdict: Some(observation.verdict),
            cause: Some(cause),
            matched_by: None,
            rule_keys,
            excluded: Vec::new(),
            audit: None,
            observation: Some(observation),
            supersedes: None,
        });
        out.push(event);
    }

    pub(super) fn settle_oldest_gap(&mut self, now: KtimeNs) {
        let Some(gap) = self.gaps.pop_front() else {
            return;
        };
        let before = self.offset.monotonic(gap.before.time);
        let after = self.offset.monotonic(gap.after.time);
        let missing = gap.count;
        // A stamp is behind its call's entry, and the next event's stamp may be older than the gap.
        let first = before.min(after).minus(Duration::from_millis(10));
        let not_running = self.resumed_at.is_some_and(|resumed| before < resumed);
        let mut claimed = self.given_back.claim_serials(&gap).min(missing);
        if !not_running {
            let until = gap.noticed.max(after);
            claimed += self.given_back.claim(first, until, missing - claimed);
        }
        let cause = if not_running {
            Cause::NotRunning
        } else {
            self.evidence.cause_of_gap(before, after)
        };
        let unrecovered = missing - claimed;
        if unrecovered > 0 {
            self.crosscheck.unrecovered(unrecovered, cause);
        }
        self.losses
            .gap(cause, &gap, unrecovered, (before, after), now);
    }
}

/// Turns a *maybe* into what it surely is, where that can be told.
pub(super) fn settle(
    witness: &Witness,
    evidence: &Evidence,
    observation: &mut Observation,
    account: &mut Crosscheck,
) -> Settled {
    // While auditing is off the kernel notes no files, and all that is found is left of calls before; of what a call
    // opened that is seen at once.
    let rests_on_notes = observation.noted.is_some() && observation.opened.is_none();
    if rests_on_notes && !evidence.was_on(observation.entry) {
        return Settled::Open;
    }
    let settled = witness.settle(observation);
    match settled {
        Settled::Reported(rule) => {
            observation.verdict = Verdict::Inferred;
            observation.rule = rule_number(rule);
            account.maybe_settled_yes += 1;
        }
        Settled::NotReported => account.maybe_settled_no += 1,
        Settled::Open => {}
    }
    settled
}
