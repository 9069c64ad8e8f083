//! Which observation belongs to which audit event, and what follows where one has no counterpart.
//!
//! ```text
//! AuditEvent ──▶ SYSCALL record? ──key──▶ pending observation ──▶ matched
//!                    │ none                     ▲ │ window over, stream has moved past it
//!                    ▼                          │ ▼
//!                 fragment ── content, order ───┘ backfilled
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use collector_ebpf::LossReason;

use crate::account::{Crosscheck, Histogram};
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::gaps::Gap;
use crate::audit::record::{Record, RecordType, Stamp};
use crate::audit::records::SyscallFields;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::{Evidence, Poll};
use crate::correlate::fragment;
use crate::correlate::given_back::{GivenBack, Stamped};
use crate::correlate::key::MatchKey;
use crate::correlate::neighbours::Neighbours;
use crate::correlate::observations::{Observations, Pending};
use crate::correlate::progress::Progress;
use crate::correlate::waiting::{Waiting, WaitingEvent};
use crate::correlate::witness::{Rules, Witness};
use crate::event::{
    Cause, Event, EventId, Loss, LossUnit, MatchedBy, Outcome, Output, State, StateChange,
};
use crate::probe::hooks::Level;
use crate::probe::observation::{Observation, Verdict};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

/// Times and capacities.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an audit event waits for its observation.
    pub event_wait: Duration,
    /// How long an observation waits at least; longer than it takes an event without its end to time out and wait.
    pub observation_wait: Duration,
    /// How long a record may still be on its way to a match after it was read: until its event times out and has waited.
    pub settle_wait: Duration,
    /// How long an observation waits at most while the audit stream has not been seen to move past it.
    pub longest_wait: Duration,
    /// Observations that may wait.
    pub max_observations: usize,
    /// Audit events that may wait.
    pub max_events: usize,
}

impl Limits {
    /// Limits that fit a reassembly timeout: an observation waits `reorder_window`, and never less than an event that
    /// lost its end takes to get here.
    pub fn new(reassembly_timeout: Duration, reorder_window: Duration) -> Self {
        let event_wait = Duration::from_secs(1);
        let least = reassembly_timeout + event_wait + Duration::from_millis(500);
        Self {
            event_wait,
            observation_wait: reorder_window.max(least),
            settle_wait: least,
            longest_wait: Duration::from_secs(60),
            max_observations: 262_144,
            max_events: 65_536,
        }
    }
}

/// Matches the two streams. See the module's picture.
pub struct Correlator {
    limits: Limits,
    offset: RealtimeOffset,
    stepped_at: Option<KtimeNs>,
    /// Every observation that was taken before has come, for all that is known; none where nobody says.
    witness_passed: Option<KtimeNs>,
    witness: Option<Witness>,
    observations: Observations,
    waiting: Waiting,
    evidence: Evidence,
    neighbours: Neighbours,
    progress: Progress,
    given_back: GivenBack,
    gaps: VecDeque<Gap>,
    late_parts: u16,
    crosscheck: Crosscheck,
    losses: BTreeMap<Cause, u64>,
    latency: Histogram,
    wait: Histogram,
}

impl Correlator {
    /// Both clocks have millisecond truncation and a tick between them, and a starved machine updates its coarse clock late.
    const TOLERANCE: Duration = Duration::from_secs(2);
    /// Larger changes of the offset between two ticks are steps of the clock, smaller ones are its slewing.
    const STEP_NS: u64 = 5_000_000;
    /// The stream is taken to have moved past what happened this long before the last match.
    const ORDER_SLACK: Duration = Duration::from_millis(100);
    /// Serials of calls on two CPUs may be drawn in another order than their samples are taken, by so much.
    const RACE: Duration = Duration::from_millis(1);

    /// A correlator without a witness: every event passes as `audit_only`.
    pub fn new(limits: Limits, offset: RealtimeOffset) -> Self {
        Self {
            limits,
            offset,
            stepped_at: None,
            witness_passed: None,
            witness: None,
            observations: Observations::default(),
            waiting: Waiting::default(),
            evidence: Evidence::default(),
            neighbours: Neighbours::default(),
            progress: Progress::default(),
            given_back: GivenBack::default(),
            gaps: VecDeque::new(),
            late_parts: 0,
            crosscheck: Crosscheck::default(),
            losses: BTreeMap::new(),
            latency: Histogram::default(),
            wait: Histogram::default(),
        }
    }

    /// The witness watches from `rules.since` on.
    pub fn witness_attached(&mut self, rules: Rules, exempt: Vec<u32>, level: Level) {
        self.witness = Some(Witness::new(rules, exempt, level));
    }

    fn level(&self) -> Level {
        let witness = self.witness.as_ref();
        witness.map_or(Level::Syscalls, |witness| witness.level)
    }

    /// The witness watches no longer: what happens from `at` on comes from the audit stream alone.
    pub fn witness_detached(&mut self, at: KtimeNs) {
        if let Some(witness) = &mut self.witness {
            witness.detach(at);
        }
    }

    /// Every observation taken before `at` has been handed over. Where this is told, an event waits for its observation
    /// as long as that may still be on its way.
    pub fn witness_passed(&mut self, at: KtimeNs) {
        self.witness_passed = self.witness_passed.max(Some(at));
    }

    /// The rules in force changed; observations judged against others are judged again when they are settled.
    pub fn rules_changed(&mut self, rules: Rules) {
        self.rules_unsettled(rules.former_until, rules.since);
        if let Some(witness) = &mut self.witness {
            witness.change_rules(rules);
        }
    }

    /// From `from` to `until` the kernel may have held other rules than those the witness judged by.
    pub fn rules_unsettled(&mut self, from: KtimeNs, until: KtimeNs) {
        self.evidence.rules_unsettled(from, until);
    }

    /// Other processes' calls are exempt now.
    pub fn exempt_changed(&mut self, exempt: Vec<u32>) {
        if let Some(witness) = &mut self.witness {
            witness.exempt = exempt;
        }
    }

    /// An event of the audit stream.
    pub fn audit_event(&mut self, event: AuditEvent, now: KtimeNs, out: &mut Vec<Output>) {
        let part = if event.completion == Completion::Late {
            self.next_late_part()
        } else {
            0
        };
        let fields = event.records.iter().find_map(SyscallFields::from_record);
        let stamp = self.offset.monotonic(event.stamp.time);
        // Whatever the witness saw is matched, also where it is not known to have been watching.
        if let Some(pending) = self.observations.take_by_stamp(event.stamp) {
            return self.emit_matched(event, part, pending, MatchedBy::Serial, now, out);
        }
        if let Some(id) = self.given_back.take_by_stamp(event.stamp) {
            return self.emit_superseding(event, part, id, now, out);
        }
        if let Some(fields) = &fields
            // The observation that has the stamp may be on its way: one that only looks alike must not come first.
            && self.level() == Level::Syscalls
        {
            let key = MatchKey::of_record(fields);
            let tolerance = self.tolerance(now);
            if let Some(pending) = self.observations.take_by_key(&key, stamp, tolerance) {
                return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
            }
            if let Some(id) = self.given_back.take(&key, stamp, tolerance) {
                return self.emit_superseding(event, part, id, now, out);
            }
        }
        if !self.may_have_observation(&event, fields.as_ref(), stamp, now) {
            return self.emit_unwatched(event, part, now, out);
        }
        // A fragment waits until events that kept their SYSCALL record have had the first choice.
        self.waiting.insert(WaitingEvent {
            event,
            fields,
            part,
            stamp,
            since: now,
        });
        if self.waiting.len() > self.limits.max_events
            && let Some(oldest) = self.waiting.take_older_than(now)
        {
            self.lose(Cause::WindowFull, 1, LossUnit::Events, now, out);
            self.settle_waiting(oldest, now, out);
        }
    }

    /// An observation of the eBPF witness.
    pub fn observation(
        &mut self,
        mut observation: Observation,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let witness = self.witness.as_ref();
        let settled = witness.map_or(Settled::Open, |witness| {
            settle(witness, &mut observation, &mut self.crosscheck)
        });
        self.crosscheck.expect(observation.verdict);
        let pending = Pending {
            arrived: now,
            observation: Box::new(observation),
        };
        if let Some((waiting, by)) = self.take_waiting(&pending.observation, now) {
            return self.emit_matched(waiting.event, waiting.part, pending, by, now, out);
        }
        if settled == Settled::NotReported {
            return;
        }
        self.observations.insert(pending);
        if self.observations.len() > self.limits.max_observations
            && let Some(oldest) = self.observations.take_due(|_| true)
        {
            self.lose(Cause::WindowFull, 1, LossUnit::Observations, now, out);
            self.settle_observation(oldest, Some(Cause::WindowFull), now, out);
        }
    }

    /// What the paths in the rules stand for was looked at again: what waited for that is settled.
    pub fn places_seen(&mut self, places: Places) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        witness.places = places;
        for id in self.observations.undecided() {
            let Some(observation) = self.observations.get_mut(id) else {
                continue;
            };
            match settle(witness, observation, &mut self.crosscheck) {
                Settled::Reported(_) => self.crosscheck.expect(observation.verdict),
                Settled::NotReported => {
                    self.observations.remove(id);
                }
                Settled::Open => {}
            }
        }
    }

    fn take_waiting(
        &mut self,
        observation: &Observation,
        now: KtimeNs,
    ) -> Option<(WaitingEvent, MatchedBy)> {
        if let Some(report) = &observation.report {
            let waiting = self.waiting.take_by_stamp(report.stamp()?)?;
            return Some((waiting, MatchedBy::Serial));
        }
        // For the same reason as in `audit_event`; such an event is taken when either of the two is settled.
        if self.level() == Level::AuditHooks {
            return None;
        }
        let waiting = self.take_alike(observation, now)?;
        Some((waiting, MatchedBy::Key))
    }

    /// The waiting event that looks like an observed call on which no decision is known.
    fn take_alike(&mut self, observation: &Observation, now: KtimeNs) -> Option<WaitingEvent> {
        if observation.report.is_some() {
            return None;
        }
        let key = MatchKey::of_observation(observation);
        let tolerance = self.tolerance(now);
        self.waiting.take_by_key(&key, observation.entry, tolerance)
    }

    /// What a poll of the kernel's status and of the event socket found.
    pub fn poll(&mut self, poll: Poll, out: &mut Vec<Output>) {
        if poll.drained() && !self.evidence.was_congested() {
            self.progress.note(poll.at, poll.at);
        }
        let reasons = poll.reasons.unwrap_or_default();
        let explained = std::iter::zip(LossReason::ALL.map(Cause::of_reason), reasons);
        let others = [
            (Evidence::cause_of_lost(&poll), poll.unexplained),
            (Cause::SocketOverrun, poll.socket_drops),
            (Cause::QueueFull, poll.queue_full),
        ];
        for (cause, count) in explained.chain(others) {
            if count > 0 {
                self.lose(cause, count, LossUnit::Records, poll.at, out);
            }
        }
        self.evidence.add(poll);
    }

    /// Something else was lost: observations, unreadable datagrams.
    pub fn lose(
        &mut self,
        cause: Cause,
        count: u64,
        unit: LossUnit,
        at: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        *self.losses.entry(cause).or_default() += count;
        let time = self.offset.wall(at);
        out.push(Output::Loss(Loss {
            time,
            cause,
            count,
            unit,
            serials: None,
            span: None,
        }));
    }

    /// A hole in the serials that outlived the reorder window.
    pub fn gap(&mut self, gap: Gap) {
        self.gaps.push_back(gap);
    }

    /// Lets time pass: settles what has waited long enough.
    pub fn tick(&mut self, now: KtimeNs, offset: RealtimeOffset, out: &mut Vec<Output>) {
        self.follow_clock(now, offset, out);
        let passed = self.witness_passed.map_or(now, |passed| {
            passed.clamp(now.minus(self.limits.longest_wait), now)
        });
        let waited_since = passed.minus(self.limits.event_wait);
        while let Some(waiting) = self.waiting.take_older_than(waited_since) {
            self.settle_waiting(waiting, now, out);
        }
        let limits = self.limits;
        // Records that the stream has passed may still be on their way through the reassembler and the wait for a match.
        let passed = self.progress.known_at(now.minus(limits.settle_wait));
        let due = |pending: &Pending| {
            let waited = now.since(pending.observation.taken.max(pending.arrived));
            waited >= limits.longest_wait
                || (waited >= limits.observation_wait && pending.observation.taken <= passed)
        };
        while let Some(pending) = self.observations.take_due(due) {
            self.settle_observation(pending, None, now, out);
        }
        // A gap is set against what was given back in it, so it is settled after all of that.
        let oldest = self.observations.oldest();
        while self.gaps.front().is_some_and(|gap| {
            let waited = now.since(gap.noticed);
            waited >= limits.longest_wait
                || (waited >= limits.observation_wait
                    && oldest.is_none_or(|oldest| oldest > gap.noticed))
        }) {
            self.settle_oldest_gap(out);
        }
        self.given_back.forget(now.minus(limits.longest_wait));
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
    }

    /// The input has ended: settles everything that still waits.
    pub fn finish(&mut self, now: KtimeNs, out: &mut Vec<Output>) {
        while let Some(waiting) = self.waiting.take_older_than(now) {
            self.settle_waiting(waiting, now, out);
        }
        let passed = self.progress.furthest();
        while let Some(pending) = self.observations.take_due(|_| true) {
            // Of what the stream had not passed it cannot be said that it was lost.
            let undecided = pending.observation.taken > passed;
            self.settle_observation(pending, undecided.then_some(Cause::Stopped), now, out);
        }
        while !self.gaps.is_empty() {
            self.settle_oldest_gap(out);
        }
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
    }

    /// Whether nothing waits for its counterpart.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.len() == 0 && self.observations.len() == 0
    }

    /// The account of expected events.
    pub fn crosscheck(&self) -> Crosscheck {
        Crosscheck {
            pending_events: self.waiting.len() as u64,
            ..self.crosscheck.clone()
        }
    }

    /// What was lost, by cause.
    pub fn losses(&self) -> &BTreeMap<Cause, u64> {
        &self.losses
    }

    /// From the stamp to the hand-over, and from the first part to the hand-over.
    pub fn histograms(&self) -> (Histogram, Histogram) {
        (self.latency, self.wait)
    }

    /// Numbers the records that came after their event, so that each line has an id of its own.
    fn next_late_part(&mut self) -> u16 {
        self.late_parts = self.late_parts.wrapping_add(1).max(1);
        self.late_parts
    }

    fn may_have_observation(
        &self,
        event: &AuditEvent,
        fields: Option<&SyscallFields>,
        stamp: KtimeNs,
        now: KtimeNs,
    ) -> bool {
        let Some(witness) = &self.witness else {
            return false;
        };
        let watched = self.recently_stepped(now) || witness.watched_at(stamp);
        watched
            && match fields {
                Some(fields) => witness.watches(fields),
                // The rest of a late part's event was matched before.
                None => event.completion != Completion::Late && fragment::is_fragment(event),
            }
    }

    /// After a step of the clock the stamps of calls in flight say nothing.
    fn recently_stepped(&self, now: KtimeNs) -> bool {
        self.stepped_at
            .is_some_and(|at| now.since(at) < self.limits.longest_wait)
    }

    fn tolerance(&self, now: KtimeNs) -> Duration {
        if self.recently_stepped(now) {
            Duration::MAX
        } else {
            Self::TOLERANCE
        }
    }

    fn follow_clock(&mut self, now: KtimeNs, offset: RealtimeOffset, out: &mut Vec<Output>) {
        let by = offset.0.saturating_sub(self.offset.0);
        self.offset = offset;
        if by.unsigned_abs() > Self::STEP_NS {
            self.stepped_at = Some(now);
            out.push(Output::State(State {
                time: offset.wall(now),
                what: StateChange::ClockStepped,
                message: format!("the wall clock was stepped by {} ms", by / 1_000_000),
            }));
        }
    }

    fn settle_waiting(&mut self, waiting: WaitingEvent, now: KtimeNs, out: &mut Vec<Output>) {
        let WaitingEvent {
            event,
            fields,
            part,
            stamp,
            ..
        } = waiting;
        let Some(fields) = fields else {
            return match self.take_for_fragment(&event, stamp) {
                Some(pending) => {
                    self.emit_matched(event, part, pending, MatchedBy::Content, now, out)
                }
                None => self.emit_unwatched(event, part, now, out),
            };
        };
        // Only a step of the clock, noticed since, can make a difference to when it came.
        let key = MatchKey::of_record(&fields);
        if let Some(pending) = self
            .observations
            .take_by_key(&key, stamp, self.tolerance(now))
        {
            return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
        }
        if self.level() == Level::AuditHooks
            && let Some(id) = self.given_back.take(&key, stamp, self.tolerance(now))
        {
            return self.emit_superseding(event, part, id, now, out);
        }
        let witness = self.witness.as_ref();
        match witness.and_then(|witness| witness.should_have_seen(&fields, stamp, event.first_read))
        {
            Some(verdict) => {
                self.crosscheck.audit_only(verdict);
                self.emit_audit_only(event, Some(verdict), part, now, out);
            }
            None => self.emit_unwatched(event, part, now, out),
        }
    }

    /// The observation that the rest of an event speaks of; see [`fragment::Content::choose`].
    fn take_for_fragment(&mut self, event: &AuditEvent, stamp: KtimeNs) -> Option<Pending> {
        let content = fragment::Content::of(event);
        let (below, above) = self.neighbours.bracket(event.stamp.serial, fragment::REACH);
        let from = stamp.minus(Duration::from_millis(5));
        let to = stamp.plus(fragment::LATEST_ENTRY);
        let to = above.map_or(to, |above| to.min(above.at.plus(Self::RACE)));
        let candidates = self.observations.between(from, to).map(|(id, pending)| {
            let observation = &pending.observation;
            let taken = observation.taken;
            let in_order = below.is_none_or(|below| below.at <= taken.plus(Self::RACE))
                && above.is_none_or(|above| taken <= above.at.plus(Self::RACE));
            fragment::Candidate {
                id,
                taken,
                from_stamp: observation
                    .entry
                    .since(stamp)
                    .max(stamp.since(observation.entry)),
                agreement: content.agreement(observation).filter(|_| in_order),
            }
        });
        let id = content.choose(candidates.collect(), below, above)?;
        self.observations.remove(id)
    }

    fn settle_observation(
        &mut self,
        pending: Pending,
        cause: Option<Cause>,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        if self.level() == Level::AuditHooks
            && let Some(waiting) = self.take_alike(&pending.observation, now)
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
            return;
        }
        let excluded = observation
            .report
            .is_some_and(|report| report.serial.is_none() && report.first_lost.is_none());
        let witness = self.witness.as_ref();
        if excluded || witness.is_some_and(|witness| !witness.stands_by(&observation)) {
            self.crosscheck.withdrawn(observation.verdict);
            return;
        }
        let report = observation.report;
        let time = report.map_or_else(|| self.offset.wall(observation.entry), |report| report.time);
        let cause = cause.unwrap_or_else(|| self.evidence.cause(&observation, self.level()));
        self.crosscheck.backfilled(observation.verdict, cause);
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
            _ => Stamped::Maybe,
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
        let rule_keys = self.rule_keys(&observation);
        out.push(Output::Event(Box::new(Event {
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
            audit: None,
            observation: Some(observation),
            supersedes: None,
        })));
    }

    fn settle_oldest_gap(&mut self, out: &mut Vec<Output>) {
        let Some(gap) = self.gaps.pop_front() else {
            return;
        };
        let before = self.offset.monotonic(gap.before.time);
        let after = self.offset.monotonic(gap.after.time);
        let missing = gap.count;
        // A stamp is behind its call's entry, and the next event's stamp may be older than the gap.
        let first = before.min(after).minus(Duration::from_millis(10));
        let known = self.given_back.claim_serials(&gap).min(missing);
        let claimed = known
            + self
                .given_back
                .claim(first, gap.noticed.max(after), missing - known);
        let cause = self.evidence.cause_between(before, before, after);
        if claimed < missing {
            self.crosscheck.unrecovered(missing - claimed, cause);
        }
        out.push(Output::Loss(Loss {
            time: self.offset.wall(gap.noticed),
            cause,
            count: missing,
            unit: LossUnit::Events,
            serials: Some((gap.first, gap.last)),
            span: Some((gap.before.time, gap.after.time)),
        }));
    }

    /// The keys of the rule behind an observation, where that is known.
    fn rule_keys(&self, observation: &Observation) -> Option<Vec<Box<[u8]>>> {
        self.witness
            .as_ref()
            .and_then(|witness| witness.keys(observation))
    }

    fn emit_matched(
        &mut self,
        event: AuditEvent,
        part: u16,
        pending: Pending,
        by: MatchedBy,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let observation = pending.observation;
        self.crosscheck.matched(observation.verdict);
        self.progress
            .note(now, observation.taken.minus(Self::ORDER_SLACK));
        self.neighbours.note(observation.taken, event.stamp.serial);
        self.observe(event.stamp.time, event.first_read.min(pending.arrived), now);
        let cause = self.cause_of_lack(&event, &observation);
        out.push(Output::Event(Box::new(Event {
            cause,
            matched_by: Some(by),
            rule_keys: self.rule_keys(&observation),
            verdict: Some(observation.verdict),
            observation: Some(observation),
            ..audit_event(event, Outcome::Matched, part)
        })));
    }

    /// Why an event that came lacks records; none where it has them all, for all that is known.
    fn cause_of_lack(&self, event: &AuditEvent, observation: &Observation) -> Option<Cause> {
        if let Some(reason) = observation.report.and_then(|report| report.first_lost) {
            return Some(Cause::of_reason(reason));
        }
        let syscall = |record: &Record| record.record_type == RecordType::SYSCALL;
        let whole = event.completion == Completion::Eoe && event.records.iter().any(syscall);
        (!whole).then(|| match observation.report {
            Some(_) => self.evidence.cause(observation, self.level()),
            None => {
                let taken = observation.taken;
                self.evidence.cause_between(observation.entry, taken, taken)
            }
        })
    }

    fn emit_superseding(
        &mut self,
        event: AuditEvent,
        part: u16,
        id: EventId,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.crosscheck.superseded += 1;
        self.observe(event.stamp.time, event.first_read, now);
        out.push(Output::Event(Box::new(Event {
            supersedes: Some(id),
            ..audit_event(event, Outcome::Matched, part)
        })));
    }

    fn emit_unwatched(
        &mut self,
        event: AuditEvent,
        part: u16,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.crosscheck.unwatched += 1;
        self.emit_audit_only(event, None, part, now, out);
    }

    fn emit_audit_only(
        &mut self,
        event: AuditEvent,
        verdict: Option<Verdict>,
        part: u16,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        self.observe(event.stamp.time, event.first_read, now);
        let cause = matches!(event.completion, Completion::Timeout).then(|| {
            let stamp = self.offset.monotonic(event.stamp.time);
            self.evidence.cause_between(stamp, stamp, event.first_read)
        });
        out.push(Output::Event(Box::new(Event {
            verdict,
            cause,
            ..audit_event(event, Outcome::AuditOnly, part)
        })));
    }

    fn observe(&mut self, stamp: TimeMs, first_part: KtimeNs, now: KtimeNs) {
        let latency = self.offset.wall(now).0.saturating_sub(stamp.0);
        self.latency.observe(Duration::from_millis(latency));
        self.wait.observe(now.since(first_part));
    }
}

/// Turns a *maybe* into what it surely is, where that can be told.
fn settle(witness: &Witness, observation: &mut Observation, account: &mut Crosscheck) -> Settled {
    let settled = witness.settle(observation);
    match settled {
        Settled::Reported(rule) => {
            observation.verdict = Verdict::Inferred;
            observation.rule = Some(rule);
            account.maybe_settled_yes += 1;
        }
        Settled::NotReported => account.maybe_settled_no += 1,
        Settled::Open => {}
    }
    settled
}

/// The part of an [`Event`] that follows from its audit side.
fn audit_event(event: AuditEvent, outcome: Outcome, part: u16) -> Event {
    let Stamp { time, serial } = event.stamp;
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
        audit: Some(event),
        observation: None,
        supersedes: None,
    }
}
