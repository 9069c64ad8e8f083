//! Which observation belongs to which audit event, and what follows where one has no counterpart.
//!
//! ```text
//! AuditEvent ──▶ SYSCALL record? ──key──▶ pending observation ──▶ matched
//!                    │ none                     ▲ │ window over, stream has moved past it
//!                    ▼                          │ ▼
//!                 fragment ── content, order ───┘ backfilled
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::account::{Crosscheck, Histogram};
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::gaps::Gap;
use crate::audit::record::Stamp;
use crate::audit::records::SyscallFields;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::{Evidence, Poll};
use crate::correlate::fragment;
use crate::correlate::key::MatchKey;
use crate::correlate::neighbours::Neighbours;
use crate::correlate::observations::{Observations, Pending};
use crate::correlate::waiting::{Waiting, WaitingEvent};
use crate::event::{
    Cause, Event, EventId, Loss, LossUnit, MatchedBy, Outcome, Output, State, StateChange,
};
use crate::probe::observation::{Observation, Verdict};

/// Times and capacities.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an audit event waits for its observation.
    pub event_wait: Duration,
    /// How long an observation waits at least; longer than it takes an event without its end to time out and wait.
    pub observation_wait: Duration,
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
            longest_wait: Duration::from_secs(60),
            max_observations: 262_144,
            max_events: 65_536,
        }
    }
}

/// What the eBPF witness watches, and what the rules say; implemented by the rule mirror.
pub trait Watch {
    /// Whether a call of this number can produce an observation.
    fn covers(&self, arch: u32, syscall: u32) -> bool;
    /// What the rules in force say of a call the kernel reported; none where no rule asks for it.
    fn judge_record(&self, fields: &SyscallFields) -> Option<Verdict>;
    /// What the rules in force say of an observed call; none where no rule asks for it.
    fn judge_observation(&self, observation: &Observation) -> Option<Verdict>;
    /// The keys of the exit rule at this place of the list.
    fn keys(&self, rule: u16) -> Vec<Box<[u8]>>;
}

/// The witness as it stands.
struct Witness {
    watch: Box<dyn Watch + Send>,
    generation: u32,
    /// When the programs were attached. A stamp is up to a tick older than the call's entry, so for that long before
    /// and after it cannot be told whether a call was seen to enter.
    since: TimeMs,
    /// When the rules in `watch` were taken over: what entered before may have been judged by others.
    rules_since: TimeMs,
    /// When the programs were detached: what came out since was not seen.
    until: Option<KtimeNs>,
    /// Calls of these processes are not watched: our own, and the audit daemon's.
    exempt: Vec<u32>,
}

/// An event given back, remembered in case its records come after all.
struct Backfill {
    id: EventId,
    entry: TimeMs,
    settled: KtimeNs,
}

/// Matches the two streams. See the module's picture.
pub struct Correlator {
    limits: Limits,
    offset: RealtimeOffset,
    stepped_at: Option<KtimeNs>,
    witness: Option<Witness>,
    observations: Observations,
    waiting: Waiting,
    evidence: Evidence,
    neighbours: Neighbours,
    /// All records stamped before have come, as far as is known.
    drained: KtimeNs,
    backfills: HashMap<MatchKey, VecDeque<Backfill>>,
    backfills_order: VecDeque<(KtimeNs, MatchKey)>,
    /// Times of backfilled calls that may have consumed a serial and have not been set against a gap, oldest first.
    unclaimed: VecDeque<TimeMs>,
    gaps: VecDeque<Gap>,
    late_parts: u16,
    crosscheck: Crosscheck,
    losses: std::collections::BTreeMap<Cause, u64>,
    latency: Histogram,
    wait: Histogram,
}

impl Correlator {
    /// Both clocks have millisecond truncation and a tick between them, and a starved machine updates its coarse clock late.
    const TOLERANCE_MS: u64 = 2_000;
    /// The longest tick (HZ=100): a stamp is at most so far behind the call's entry.
    const TICK_MS: u64 = 10;
    /// Larger changes of the offset between two ticks are steps of the clock, smaller ones are its slewing.
    const STEP_NS: u64 = 5_000_000;
    /// The stream is taken to have moved past what happened this long before the last match.
    const ORDER_SLACK: Duration = Duration::from_millis(100);
    /// How many backfilled events and unclaimed times are remembered.
    const MEMORY: usize = 262_144;

    /// A correlator without a witness: every event passes as `audit_only`.
    pub fn new(limits: Limits, offset: RealtimeOffset) -> Self {
        Self {
            limits,
            offset,
            stepped_at: None,
            witness: None,
            observations: Observations::default(),
            waiting: Waiting::default(),
            evidence: Evidence::default(),
            neighbours: Neighbours::default(),
            drained: KtimeNs(0),
            backfills: HashMap::new(),
            backfills_order: VecDeque::new(),
            unclaimed: VecDeque::new(),
            gaps: VecDeque::new(),
            late_parts: 0,
            crosscheck: Crosscheck::default(),
            losses: std::collections::BTreeMap::new(),
            latency: Histogram::default(),
            wait: Histogram::default(),
        }
    }

    /// The witness watches from `since` on.
    pub fn witness_attached(
        &mut self,
        watch: Box<dyn Watch + Send>,
        generation: u32,
        since: KtimeNs,
        exempt: Vec<u32>,
    ) {
        let since = self.offset.wall(since);
        self.witness = Some(Witness {
            watch,
            generation,
            since,
            rules_since: TimeMs(since.0 + Self::TICK_MS),
            until: None,
            exempt,
        });
    }

    /// The witness watches no longer: what happens from `at` on comes from the audit stream alone.
    pub fn witness_detached(&mut self, at: KtimeNs) {
        if let Some(witness) = &mut self.witness {
            witness.until = Some(at);
        }
    }

    /// The rules in force changed; observations judged against others are judged again when they are settled.
    pub fn rules_changed(&mut self, watch: Box<dyn Watch + Send>, generation: u32, at: KtimeNs) {
        if let Some(witness) = &mut self.witness {
            witness.rules_since = TimeMs(self.offset.wall(at).0 + Self::TICK_MS);
            witness.watch = watch;
            witness.generation = generation;
        }
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
        if let Some(fields) = &fields {
            let key = MatchKey::of_record(fields);
            let stamp = event.stamp.time;
            if let Some(pending) = self
                .observations
                .take_by_key(&key, stamp, self.tolerance(now))
            {
                return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
            }
            if let Some(id) = self.take_backfill(&key, stamp) {
                return self.emit_superseding(event, part, id, now, out);
            }
        }
        if !self.watches(&event, fields.as_ref()) {
            self.neighbours
                .note(self.offset.monotonic(event.stamp.time), event.stamp.serial);
            return self.emit_unwatched(event, part, now, out);
        }
        // A fragment waits until events that kept their SYSCALL record have had the first choice.
        self.waiting.insert(WaitingEvent {
            event,
            fields,
            part,
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
    pub fn observation(&mut self, observation: Observation, now: KtimeNs, out: &mut Vec<Output>) {
        self.crosscheck.expect(observation.verdict);
        let entry_wall = self.offset.wall(observation.entry);
        let pending = Pending {
            entry_wall,
            arrived: now,
            observation: Box::new(observation),
        };
        let key = MatchKey::of_observation(&pending.observation);
        if let Some(waiting) = self
            .waiting
            .take_by_key(&key, entry_wall, self.tolerance(now))
        {
            return self.emit_matched(
                waiting.event,
                waiting.part,
                pending,
                MatchedBy::Key,
                now,
                out,
            );
        }
        self.observations.insert(pending);
        if self.observations.len() > self.limits.max_observations
            && let Some(oldest) = self.observations.take_due(|_| true)
        {
            self.lose(Cause::WindowFull, 1, LossUnit::Observations, now, out);
            self.settle_observation(oldest, Some(Cause::WindowFull), now, out);
        }
    }

    /// What a poll of the kernel's status and of the event socket found.
    pub fn poll(&mut self, poll: Poll, out: &mut Vec<Output>) {
        if poll.drained() {
            self.drained = self.drained.max(poll.at);
        }
        for (cause, count) in [
            (Evidence::cause_of_lost(&poll), poll.lost),
            (Cause::SocketOverrun, poll.socket_drops),
            (Cause::QueueFull, poll.queue_full),
        ] {
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
        while let Some(waiting) = self
            .waiting
            .take_older_than(now.minus(self.limits.event_wait))
        {
            self.settle_waiting(waiting, now, out);
        }
        let (limits, drained) = (self.limits, self.drained);
        let due = |pending: &Pending| {
            let waited = now.since(pending.observation.taken.max(pending.arrived));
            waited >= limits.longest_wait
                || (waited >= limits.observation_wait && pending.observation.taken <= drained)
        };
        while let Some(pending) = self.observations.take_due(due) {
            self.settle_observation(pending, None, now, out);
        }
        // A gap is set against what was backfilled in it, so it is settled after that.
        while self
            .gaps
            .front()
            .is_some_and(|gap| now.since(gap.noticed) >= limits.observation_wait)
        {
            self.settle_oldest_gap(out);
        }
        self.forget(now);
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
    }

    /// The input has ended: settles everything that still waits.
    pub fn finish(&mut self, now: KtimeNs, out: &mut Vec<Output>) {
        while let Some(waiting) = self.waiting.take_older_than(now) {
            self.settle_waiting(waiting, now, out);
        }
        while let Some(pending) = self.observations.take_due(|_| true) {
            self.settle_observation(pending, None, now, out);
        }
        while !self.gaps.is_empty() {
            self.settle_oldest_gap(out);
        }
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
    }

    /// Whether anything waits for its counterpart.
    pub fn is_idle(&self) -> bool {
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
    pub fn losses(&self) -> &std::collections::BTreeMap<Cause, u64> {
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

    fn watches(&self, event: &AuditEvent, fields: Option<&SyscallFields>) -> bool {
        let Some(witness) = &self.witness else {
            return false;
        };
        let ended = witness
            .until
            .is_some_and(|until| event.stamp.time > self.offset.wall(until));
        if ended || event.stamp.time.0 + Self::TICK_MS < witness.since.0 {
            return false;
        }
        match fields {
            Some(fields) => {
                !witness.exempt.contains(&fields.pid)
                    && witness.watch.covers(fields.arch, fields.syscall)
            }
            None => fragment::is_fragment(event),
        }
    }

    /// The keys of the rule an observation was judged by; none where that is not known, or not the rules in force.
    fn rule_keys(&self, observation: &Observation) -> Option<Vec<Box<[u8]>>> {
        let witness = self.witness.as_ref()?;
        let current = witness.generation == observation.rules_generation;
        let rule = observation.rule.filter(|_| current)?;
        Some(witness.watch.keys(rule))
    }

    /// After a step of the clock the stamps of calls in flight say nothing.
    fn tolerance(&self, now: KtimeNs) -> u64 {
        match self.stepped_at {
            Some(at) if now.since(at) < self.limits.longest_wait => u64::MAX,
            _ => Self::TOLERANCE_MS,
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
            ..
        } = waiting;
        let Some(fields) = fields else {
            return match self.take_for_fragment(&event) {
                Some(pending) => {
                    self.emit_matched(event, part, pending, MatchedBy::Content, now, out)
                }
                None => self.emit_unwatched(event, part, now, out),
            };
        };
        let witness = self.witness.as_ref().filter(|witness| {
            event.stamp.time >= witness.rules_since
                && witness.until.is_none_or(|until| event.first_read < until)
        });
        let verdict = witness.and_then(|witness| witness.watch.judge_record(&fields));
        match verdict {
            Some(verdict) => {
                self.crosscheck.audit_only(verdict);
                self.emit_audit_only(event, Some(verdict), part, now, out);
            }
            None => self.emit_unwatched(event, part, now, out),
        }
    }

    fn take_for_fragment(&mut self, event: &AuditEvent) -> Option<Pending> {
        let content = fragment::Content::of(event);
        let stamp = self.offset.monotonic(event.stamp.time);
        let (after, before) = self.neighbours.bracket(event.stamp.serial, fragment::REACH);
        let (from, to) = (
            stamp.minus(Duration::from_millis(5)),
            stamp.plus(fragment::LATEST_ENTRY),
        );
        self.observations.take_best(from, to, |pending| {
            let observation = &pending.observation;
            let in_order = after.is_none_or(|after| after <= observation.taken)
                && before.is_none_or(|before| observation.taken <= before);
            let agreement = content.agreement(observation)?;
            let distance = pending.entry_wall.0.abs_diff(event.stamp.time.0);
            Some((
                in_order,
                agreement,
                std::cmp::Reverse(distance),
                std::cmp::Reverse(observation.entry),
            ))
        })
    }

    fn settle_observation(
        &mut self,
        pending: Pending,
        cause: Option<Cause>,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        let Pending {
            observation,
            entry_wall,
            arrived,
        } = pending;
        if observation.verdict == Verdict::Maybe {
            self.crosscheck.maybe_unconfirmed += 1;
            return;
        }
        if let Some(witness) = &self.witness
            && witness.generation != observation.rules_generation
            && !matches!(
                witness.watch.judge_observation(&observation),
                Some(Verdict::Inferred | Verdict::Exact)
            )
        {
            self.crosscheck.withdrawn(observation.verdict);
            return;
        }
        let cause = cause.unwrap_or_else(|| self.evidence.cause(&observation));
        self.crosscheck.backfilled(observation.verdict, cause);
        let id = EventId::Ebpf {
            taken: observation.taken,
            cpu: observation.cpu,
            sequence: observation.sequence,
        };
        self.remember_backfill(&observation, id, entry_wall, cause, now);
        self.observe(entry_wall, arrived, now);
        let rule_keys = self.rule_keys(&observation);
        out.push(Output::Event(Box::new(Event {
            id,
            serial: None,
            between: self.neighbours.around(observation.taken),
            time: entry_wall,
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
        let first = TimeMs(gap.before.time.0.min(gap.after.time.0).saturating_sub(10));
        let last = self.offset.wall(gap.noticed).max(gap.after.time);
        let missing = gap.count;
        let mut claimed = 0;
        let mut index = self.unclaimed.partition_point(|time| *time < first);
        while claimed < missing && self.unclaimed.get(index).is_some_and(|time| *time <= last) {
            self.unclaimed.remove(index);
            claimed += 1;
            index = index.min(self.unclaimed.len());
        }
        let (before, after) = (
            self.offset.monotonic(gap.before.time),
            self.offset.monotonic(gap.after.time),
        );
        let cause = self.evidence.cause_between(before, before, after);
        if claimed < missing {
            self.crosscheck.unrecovered(missing - claimed, cause);
        }
        out.push(Output::Loss(Loss {
            time: last,
            cause,
            count: missing,
            unit: LossUnit::Events,
            serials: Some((gap.first, gap.last)),
            span: Some((gap.before.time, gap.after.time)),
        }));
    }

    fn remember_backfill(
        &mut self,
        observation: &Observation,
        id: EventId,
        entry: TimeMs,
        cause: Cause,
        now: KtimeNs,
    ) {
        let key = MatchKey::of_observation(observation);
        self.backfills.entry(key).or_default().push_back(Backfill {
            id,
            entry,
            settled: now,
        });
        self.backfills_order.push_back((now, key));
        // What the kernel refused before it drew a serial cannot have left a hole.
        if !matches!(
            cause,
            Cause::BacklogLimit | Cause::NoContext | Cause::AuditDisabled
        ) {
            let at = self.unclaimed.partition_point(|time| *time <= entry);
            self.unclaimed.insert(at, entry);
            if self.unclaimed.len() > Self::MEMORY {
                self.unclaimed.pop_front();
            }
        }
    }

    fn take_backfill(&mut self, key: &MatchKey, stamp: TimeMs) -> Option<EventId> {
        let queue = self.backfills.get_mut(key)?;
        let at = queue
            .iter()
            .position(|backfill| backfill.entry.0.abs_diff(stamp.0) <= Self::TOLERANCE_MS)?;
        queue.remove(at).map(|backfill| backfill.id)
    }

    fn forget(&mut self, now: KtimeNs) {
        let kept = now.minus(self.limits.longest_wait);
        while self.backfills_order.front().is_some_and(|(settled, _)| {
            *settled < kept || self.backfills_order.len() > Self::MEMORY
        }) {
            let Some((settled, key)) = self.backfills_order.pop_front() else {
                break;
            };
            if let Some(queue) = self.backfills.get_mut(&key) {
                while queue
                    .front()
                    .is_some_and(|backfill| backfill.settled <= settled)
                {
                    queue.pop_front();
                }
                if queue.is_empty() {
                    self.backfills.remove(&key);
                }
            }
        }
        let oldest = self.offset.wall(kept);
        while self.unclaimed.front().is_some_and(|time| *time < oldest) {
            self.unclaimed.pop_front();
        }
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
        self.drained = self.drained.max(observation.taken.minus(Self::ORDER_SLACK));
        self.neighbours.note(observation.taken, event.stamp.serial);
        self.observe(event.stamp.time, event.first_read.min(pending.arrived), now);
        let whole = matches!(event.completion, Completion::Eoe) && by != MatchedBy::Content;
        let cause = (!whole).then(|| {
            let taken = observation.taken;
            self.evidence.cause_between(observation.entry, taken, taken)
        });
        out.push(Output::Event(Box::new(Event {
            cause,
            matched_by: Some(by),
            rule_keys: self.rule_keys(&observation),
            verdict: Some(observation.verdict),
            observation: Some(observation),
            ..audit_event(event, Outcome::Matched, part)
        })));
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
