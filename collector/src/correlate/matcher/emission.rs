//! What is handed over, and what is said of it.

use std::borrow::Cow;
use std::time::Duration;

use super::Correlator;
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::fields::Text;
use crate::audit::record::{RecordType, Stamp};
use crate::audit::records::{key_of_call, split_keys};
use crate::audit::rules::Keys;
use crate::clock::{KtimeNs, TimeMs};
use crate::correlate::fragment;
use crate::correlate::given_back::Stamped;
use crate::correlate::ledger::Subject;
use crate::correlate::losses::GivenBackEvent;
use crate::correlate::observations::Pending;
use crate::correlate::unexplained::Lack;
use crate::event::lacking::{Announced, lacking, lacks_foreign_record};
use crate::event::{Cause, Event, EventId, MatchedBy, Outcome, Output};
use crate::probe::observation::{Observation, Verdict};

impl Correlator {
    /// The keys of the rule behind an observation, where that is known.
    pub(super) fn rule_keys(&self, observation: &Observation) -> Option<Keys> {
        if observation.report.is_some() {
            return Some(observation.keys());
        }
        self.witness
            .as_ref()
            .and_then(|witness| witness.keys(observation))
    }

    pub(super) fn emit_matched(
        &mut self,
        event: AuditEvent,
        part: u16,
        pending: Pending,
        by: MatchedBy,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let observation = &pending.observation;
        // A copy says nothing of what still waits in our socket.
        if event.mirrored.is_none() {
            self.progress
                .note(now, observation.taken.minus(Self::ORDER_SLACK));
        }
        let serial = event.stamp.serial;
        let sure = match by {
            MatchedBy::Serial => true,
            MatchedBy::Key => {
                let stamp = self.offset.monotonic(event.stamp.time);
                observation.entry.since(stamp) <= fragment::TICK && stamp <= observation.entry
            }
            MatchedBy::Content => false,
        };
        // A call that does not return is seen at its entry, and its serial drawn some time later.
        let returned = observation.result.is_some();
        let entry = (sure && returned).then_some(observation.entry);
        self.neighbours.note(observation.taken, entry, serial);
        if sure {
            self.serials.came(serial);
        }
        let said = observation.report.and_then(|report| report.first_lost);
        let said = said.map(Cause::of_reason).or(event.mirrored);
        let whole = self.is_whole(&event, observation);
        if said.is_none() && !whole {
            let observation = pending;
            return self.explain_later(event, part, Lack::Records { observation, by }, now, out);
        }
        self.hand_over_matched(event, part, pending, by, said, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the event's parts")]
    pub(super) fn hand_over_matched(
        &mut self,
        event: AuditEvent,
        part: u16,
        pending: Pending,
        by: MatchedBy,
        cause: Option<Cause>,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let observation = pending.observation;
        let rule_keys = self.rule_keys(&observation);
        let subject = match keys_of(&event) {
            Some(joined) => Subject::new(&observation, Some(split_keys(&joined))),
            None => Subject::of_rule(&observation, rule_keys.as_deref()),
        };
        match event.mirrored {
            None => self.crosscheck.matched(observation.verdict, &subject),
            Some(cause) => {
                self.crosscheck
                    .backfilled(observation.verdict, cause, &subject);
                if observation.verdict != Verdict::Maybe {
                    self.tell_copied(&event, cause, now);
                }
            }
        }
        self.observe(event.stamp.time, event.first_read.min(pending.arrived), now);
        let event = self.output(Event {
            cause,
            matched_by: Some(by),
            rule_keys,
            verdict: Some(observation.verdict),
            excluded: self.excluded(&observation),
            observation: Some(observation),
            ..audit_event(event, part)
        });
        out.push(event);
    }

    /// An event of which the stream lost records, and which was given back from copies of them.
    fn tell_copied(&mut self, event: &AuditEvent, cause: Cause, now: KtimeNs) {
        let Stamp { time, serial } = event.stamp;
        let given_back = GivenBackEvent {
            cause,
            serial: Some(serial),
            time,
            taken: self.offset.monotonic(time),
        };
        self.losses.given_back(&given_back, now);
    }

    fn excluded(&self, observation: &Observation) -> Vec<RecordType> {
        let witness = self.witness.as_ref();
        witness.map_or_else(Vec::new, |witness| witness.excluded(observation))
    }

    /// Whether an event has all its records, for all that is known. A late one is the rest of one that began earlier.
    fn is_whole(&self, event: &AuditEvent, observation: &Observation) -> bool {
        let mut records = event.records.iter();
        let syscall = records.find(|record| record.record_type == RecordType::SYSCALL);
        if event.completion == Completion::Late {
            return syscall.is_some() || !observation.is_call();
        }
        let announced = syscall.map(|record| Announced::of(record, observation));
        let witness = self.witness.as_ref();
        let is_excluded = |of| witness.is_some_and(|witness| witness.excludes(observation, of));
        let lacks = lacking(event, Some(observation), announced.as_ref(), is_excluded);
        lacks.is_empty() && !lacks_foreign_record(event, observation)
    }

    /// Why an event that came lacks records.
    pub(super) fn cause_of_lack(&self, observation: &Observation) -> Cause {
        match observation.report {
            Some(_) => self
                .evidence
                .cause(observation, self.level(), Stamped::Maybe),
            None => {
                let taken = observation.taken;
                self.evidence.cause_between(observation.entry, taken, taken)
            }
        }
    }

    pub(super) fn emit_superseding(
        &mut self,
        event: AuditEvent,
        part: u16,
        id: EventId,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.crosscheck.superseded += 1;
        self.observe(event.stamp.time, event.first_read, now);
        let event = self.output(Event {
            supersedes: Some(id),
            cause: event.mirrored,
            ..audit_event(event, part)
        });
        out.push(event);
    }

    pub(super) fn emit_unwatched(
        &mut self,
        event: AuditEvent,
        part: u16,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        match event.mirrored {
            // Of a late part the event has been settled.
            Some(cause) if event.completion != Completion::Late => {
                self.crosscheck.recovered(cause);
                self.tell_copied(&event, cause, now);
            }
            _ => self.crosscheck.unwatched += 1,
        }
        self.emit_audit_alone(event, None, None, part, now, out);
    }

    /// Hands over an event without an observation; `unobserved` says why that may have been lost.
    pub(super) fn emit_audit_alone(
        &mut self,
        event: AuditEvent,
        verdict: Option<Verdict>,
        unobserved: Option<Cause>,
        part: u16,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.observe(event.stamp.time, event.first_read, now);
        let cause_of_lack = || {
            let stamp = self.offset.monotonic(event.stamp.time);
            self.evidence.cause_between(stamp, stamp, event.first_read)
        };
        let lacks = matches!(event.completion, Completion::Timeout);
        let cause = event.mirrored.or(unobserved);
        let cause = cause.or_else(|| lacks.then(cause_of_lack));
        let outcome = match (event.mirrored, unobserved) {
            (Some(_), _) => Outcome::Backfilled,
            (None, Some(_)) => Outcome::Uncertain,
            (None, None) => Outcome::AuditOnly,
        };
        let event = self.output(Event {
            // The kernel had written it.
            verdict: verdict.or(event.mirrored.map(|_| Verdict::Exact)),
            cause,
            outcome,
            ..audit_event(event, part)
        });
        out.push(event);
    }

    /// An event as a line of the stream.
    pub(super) fn output(&mut self, event: Event) -> Output {
        Output::Event(self.spare_events.boxed(event))
    }

    pub(super) fn observe(&mut self, stamp: TimeMs, first_part: KtimeNs, now: KtimeNs) {
        let latency = self.offset.wall(now).0.saturating_sub(stamp.0);
        self.latency.observe(Duration::from_millis(latency));
        self.wait.observe(now.since(first_part));
    }
}

/// The keys as the kernel wrote them; none where its SYSCALL record did not come.
fn keys_of(event: &AuditEvent) -> Option<Cow<'_, [u8]>> {
    let mut records = event.records.iter();
    let syscall = records.find(|record| record.record_type == RecordType::SYSCALL)?;
    let key = key_of_call(syscall)?;
    Some(Text::untrusted(key).map_or(Cow::Borrowed(&[]), Text::decode))
}

/// The part of an [`Event`] that follows from its audit side, as one that eBPF has too.
fn audit_event(event: AuditEvent, part: u16) -> Event {
    let Stamp { time, serial } = event.stamp;
    let outcome = match event.mirrored {
        None => Outcome::Matched,
        Some(_) => Outcome::Backfilled,
    };
    Event {
        id: EventId::Audit { time, serial, part },
        serial: Some(serial),
        between: (None, None),
        time,
        outcome,
        verdict: None,
        cause: None,
        matched_by: None,
        rule_keys: None,
        excluded: Vec::new(),
        audit: Some(event),
        observation: None,
        supersedes: None,
    }
}
