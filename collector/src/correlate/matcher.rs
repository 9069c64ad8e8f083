//! Which observation belongs to which audit event, and what follows where one has no counterpart.
//!
//! ```text
//! AuditEvent ──▶ SYSCALL record? ──key──▶ pending observation ──▶ matched
//!                    │ none                     ▲ │ window over, stream has moved past it
//!                    ▼                          │ ▼
//!                 fragment ── content, order ───┘ backfilled
//! ```

mod clock;
mod emission;
mod news;
mod settling;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::account::{Crosscheck, Histogram};
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::gaps::{Gap, GapTracker};
use crate::audit::record::{Record, Stamp};
use crate::audit::records::SyscallFields;
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::correlate::evidence::Evidence;
use crate::correlate::fragment::{self, Content};
use crate::correlate::given_back::GivenBack;
use crate::correlate::key::MatchKey;
use crate::correlate::limits::Limits;
use crate::correlate::losses::Losses;
use crate::correlate::neighbours::Neighbours;
use crate::correlate::observations::{Observations, Pending};
use crate::correlate::operations::{self, Operations};
use crate::correlate::progress::Progress;
use crate::correlate::serials::Serials;
use crate::correlate::spare::Spare;
use crate::correlate::unexplained;
use crate::correlate::waiting::{Waiting, WaitingEvent};
use crate::correlate::witness::Witness;
use crate::event::{Cause, Event, LossUnit, MatchedBy, Output};
use crate::probe::hooks::Level;
use crate::probe::observation::{Extent, Observation};
use crate::probe::settle::Settled;

/// When time should pass again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Whenever it suits.
    Later,
    /// As soon as others have had their turn: more has waited long enough.
    Now,
}

/// Matches the two streams. See the module's picture.
pub struct Correlator {
    limits: Limits,
    offset: RealtimeOffset,
    stepped_at: Option<KtimeNs>,
    /// When this run went on where an earlier one had ended; none where it did not.
    resumed_at: Option<KtimeNs>,
    /// Every observation that was taken before has come, for all that is known; none where nobody says.
    witness_passed: Option<KtimeNs>,
    witness: Option<Witness>,
    observations: Observations,
    operations: Operations,
    waiting: Waiting,
    unexplained: unexplained::Queue,
    evidence: Evidence,
    neighbours: Neighbours,
    serials: Serials,
    progress: Progress,
    given_back: GivenBack,
    gaps: VecDeque<Gap>,
    late_parts: u16,
    crosscheck: Crosscheck,
    losses: Losses,
    latency: Histogram,
    wait: Histogram,
    /// Into which what is compared of a record is decoded.
    decoded: Vec<u8>,
    spare_events: Spare<Event>,
    spare_observations: Spare<Observation>,
}

impl Correlator {
    /// Both clocks have millisecond truncation and a tick between them, and a starved machine updates its coarse clock late.
    const TOLERANCE: Duration = Duration::from_secs(2);
    /// Larger changes of the offset between two ticks are steps of the clock, smaller ones are its slewing.
    pub(crate) const STEP_NS: u64 = 5_000_000;
    /// The stream is taken to have moved past what happened this long before the last match.
    const ORDER_SLACK: Duration = Duration::from_millis(100);
    /// Serials of calls on two CPUs may be drawn in another order than their samples are taken, by so much.
    const RACE: Duration = Duration::from_millis(1);
    /// Longer than it takes two polls to come.
    const POLL_WAIT: Duration = Duration::from_secs(3);
    /// How much later than it was taken a sample may come, and be judged for the first time.
    const LATE_SAMPLE: Duration = Duration::from_secs(2);
    /// Events settled in one tick: after a storm tens of thousands are due at once, and who waits for them waits for nothing else.
    const SETTLED_AT_ONCE: usize = 1_024;
    /// Bytes of the sample of an observation whose memory is used again, at most: what is kept has its texts until then.
    const SPARE_BYTES: usize = 1_024;
    /// After so long without a loss of observations, nothing from before can be in doubt any more.
    const CERTAIN_AFTER: Duration = Duration::from_secs(10);

    /// A correlator without a witness: every event passes as `audit_only`.
    pub fn new(limits: Limits, offset: RealtimeOffset) -> Self {
        Self {
            limits,
            offset,
            stepped_at: None,
            resumed_at: None,
            witness_passed: None,
            witness: None,
            observations: Observations::default(),
            operations: Operations::default(),
            waiting: Waiting::default(),
            unexplained: unexplained::Queue::default(),
            evidence: Evidence::default(),
            neighbours: Neighbours::default(),
            serials: Serials::default(),
            progress: Progress::default(),
            given_back: GivenBack::default(),
            gaps: VecDeque::new(),
            late_parts: 0,
            crosscheck: Crosscheck::default(),
            losses: Losses::default(),
            latency: Histogram::default(),
            wait: Histogram::default(),
            decoded: Vec::new(),
            spare_events: Spare::default(),
            spare_observations: Spare::default(),
        }
    }

    fn level(&self) -> Level {
        let witness = self.witness.as_ref();
        witness.map_or(Level::Syscalls, |witness| witness.level)
    }

    /// An event of the audit stream.
    #[inline(never)] // A stage: its instructions are counted apart (`cargo xtask instructions`).
    pub fn audit_event(&mut self, event: AuditEvent, now: KtimeNs, out: &mut Vec<Output>) {
        let part = if event.completion == Completion::Late {
            self.next_late_part()
        } else {
            0
        };
        if self.has_nothing_to_match() {
            return self.emit_unwatched(event, part, now, out);
        }
        let fields = event.records.iter().find_map(SyscallFields::from_record);
        let stamp = self.offset.monotonic(event.stamp.time);
        if fields.is_some() || event.records.iter().any(stands_alone) {
            self.serials.came(event.stamp.serial);
        }
        // Whatever the witness saw is matched, also where it is not known to have been watching.
        if let Some(pending) = self.observations.take_by_stamp(event.stamp) {
            return self.emit_matched(event, part, pending, MatchedBy::Serial, now, out);
        }
        if operations::is_part_of_call(&event)
            && let Some(pending) = self.operations.take_by_stamp(event.stamp)
        {
            self.crosscheck.expect(pending.observation.verdict);
            return self.emit_matched(event, part, pending, MatchedBy::Serial, now, out);
        }
        if let Some(id) = self.given_back.take_by_stamp(event.stamp) {
            return self.emit_superseding(event, part, id, now, out);
        }
        let content = Content::of(&event, fields.as_ref(), &mut self.decoded);
        if let Some(fields) = &fields
            // The observation that has the stamp may be on its way: one that only looks alike must not come first.
            && self.level() == Level::Syscalls
        {
            let key = MatchKey::of_record(fields);
            let near = self.nearness(now);
            let least = content.least();
            let found = self
                .observations
                .take_by_key(&key, stamp, near, &content, least);
            if let Some(pending) = found {
                return self.emit_matched(event, part, pending, MatchedBy::Key, now, out);
            }
            if let Some(id) = self.given_back.take(&key, stamp, near) {
                return self.emit_superseding(event, part, id, now, out);
            }
        }
        if !self.may_have_observation(&event, fields.as_ref(), stamp, now) {
            return self.emit_unwatched(event, part, now, out);
        }
        // An event that lacks records waits until those that have them have had the first choice.
        self.waiting.insert(WaitingEvent {
            key: fields.as_ref().map(MatchKey::of_record),
            event,
            content,
            part,
            stamp,
            since: now,
        });
        while (self.waiting.len() > self.limits.max_events
            || self.waiting.n_bytes() > self.limits.max_event_bytes)
            && let Some(oldest) = self.waiting.take_older_than(now)
        {
            self.lose(Cause::WindowFull, 1, LossUnit::Events, now);
            self.settle_waiting(oldest, now, out);
        }
    }

    /// Takes the memory of an event back that nobody needs any more.
    pub fn recycle(&mut self, mut event: Box<Event>) {
        if let Some(observation) = event.observation.take() {
            self.discard(observation);
        }
        self.spare_events.keep(event);
    }

    /// The same of an observation.
    fn discard(&mut self, observation: Box<Observation>) {
        if observation.n_bytes <= Self::SPARE_BYTES {
            self.spare_observations.keep(observation);
        }
    }

    /// An observation of the eBPF witness.
    pub fn observation(
        &mut self,
        mut observation: Observation,
        now: KtimeNs,
        out: &mut Vec<Output>,
    ) {
        match observation.extent {
            Extent::InCall => return self.operation_in_call(observation, now, out),
            Extent::Whole | Extent::EndOnly => self.operations.join_call(&mut observation),
            Extent::Operation => {}
        }
        let witness = self.witness.as_ref();
        let settled = witness.map_or(Settled::Open, |witness| {
            settling::settle(
                witness,
                &self.evidence,
                &mut observation,
                &mut self.crosscheck,
            )
        });
        let pending = Pending {
            arrived: now,
            observation: self.spare_observations.boxed(observation),
        };
        self.expect(pending, settled, now, out);
    }

    /// An io_uring operation inside a call waits for that, unless its records were handed on without the call's.
    fn operation_in_call(&mut self, observation: Observation, now: KtimeNs, out: &mut Vec<Output>) {
        let stamp = observation.report.and_then(|report| report.stamp());
        let alone = stamp.is_some_and(|stamp| {
            let waiting = self.waiting.by_stamp(stamp);
            waiting.is_some_and(|waiting| operations::is_part_of_call(&waiting.event))
        });
        let pending = Pending {
            arrived: now,
            observation: self.spare_observations.boxed(observation),
        };
        let pending = if alone {
            Some(pending)
        } else {
            self.operations.hold(pending)
        };
        if let Some(pending) = pending {
            self.expect(pending, Settled::Open, now, out);
        }
    }

    /// From here on an audit event is expected for an observation.
    fn expect(&mut self, pending: Pending, settled: Settled, now: KtimeNs, out: &mut Vec<Output>) {
        self.crosscheck.expect(pending.observation.verdict);
        if let Some((waiting, by)) = self.take_waiting(&pending.observation, now) {
            return self.emit_matched(waiting.event, waiting.part, pending, by, now, out);
        }
        if settled == Settled::NotReported {
            return self.discard(pending.observation);
        }
        self.observations.insert(pending);
        while (self.observations.len() > self.limits.max_observations
            || self.observations.n_bytes() > self.limits.max_observation_bytes)
            && let Some(oldest) = self.observations.take_due(|_| true)
        {
            self.lose(Cause::WindowFull, 1, LossUnit::Observations, now);
            self.settle_observation(oldest, Some(Cause::WindowFull), now, out);
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
        let fits = |content: &Content| content.fit(observation) >= content.least();
        let waiting = self.take_alike(observation, self.nearness(now), fits)?;
        Some((waiting, MatchedBy::Key))
    }

    /// The waiting event that looks like an observed call on which no decision is known.
    fn take_alike(
        &mut self,
        observation: &Observation,
        tolerance: Duration,
        fits: impl Fn(&Content) -> bool,
    ) -> Option<WaitingEvent> {
        if observation.report.is_some() {
            return None;
        }
        let key = MatchKey::of_observation(observation);
        self.waiting
            .take_by_key(&key, observation.entry, tolerance, fits)
    }

    /// A hole in the serials that outlived the reorder window.
    pub fn gap(&mut self, gap: Gap) {
        let full = self.gaps.len() >= GapTracker::MAX_HOLES;
        match self.gaps.back_mut() {
            Some(newest) if full => newest.join(&gap),
            _ => self.gaps.push_back(gap),
        }
    }

    /// A record behind the furthest serial has come: where it was missing from a gap that is not settled, it is no more.
    pub fn came_late(&mut self, stamp: Stamp) {
        let is_below = |gap: &Gap| gap.last.ahead_of(stamp.serial) < 0;
        let at = self.gaps.partition_point(is_below);
        let Some(left) = self.gaps.get(at).and_then(|gap| gap.without(stamp)) else {
            return;
        };
        self.gaps.remove(at);
        for gap in left.into_iter().rev().flatten() {
            self.gaps.insert(at, gap);
        }
    }

    /// Lets time pass: settles what has waited long enough, of very many as much as is good at once.
    pub fn tick(&mut self, now: KtimeNs, offset: RealtimeOffset, out: &mut Vec<Output>) -> Due {
        self.follow_clock(now, offset, out);
        let mut room = Self::SETTLED_AT_ONCE;
        let passed = self.witness_passed.map_or(now, |passed| {
            passed.clamp(now.minus(self.limits.longest_wait), now)
        });
        let waited_since = passed.minus(self.limits.event_wait);
        while room > 0
            && let Some(waiting) = self.waiting.take_older_than(waited_since)
        {
            room -= 1;
            self.settle_waiting(waiting, now, out);
        }
        self.follow_certainty(now, out);
        // Without polls, nothing will explain anything.
        let explained = self
            .evidence
            .last_poll()
            .map_or(now, |poll| poll.max(now.minus(Self::POLL_WAIT)));
        while room > 0
            && let Some(unexplained) = self.unexplained.take_older_than(explained)
        {
            room -= 1;
            self.settle_unexplained(unexplained, now, out);
        }
        let limits = self.limits;
        let longest_ago = now.minus(limits.longest_wait);
        for pending in self.operations.take_older_than(longest_ago) {
            self.expect(pending, Settled::Open, now, out);
        }
        let passed = self.stream_passed(now);
        let overdue = self.overdue_since(now);
        let chosen_by_content = self.level() == Level::Syscalls;
        while room > 0 {
            // A fragment that waits for the ring to be read may choose it yet.
            let waiting = &self.waiting;
            let due = |pending: &Pending| {
                let observation = &pending.observation;
                let since = observation.taken.max(pending.arrived);
                since <= overdue
                    || (now.since(since) >= limits.observation_wait
                        && observation.taken <= passed
                        && !(chosen_by_content && waiting.may_be_of(observation.entry)))
            };
            let Some(pending) = self.observations.take_due(due) else {
                break;
            };
            room -= 1;
            self.settle_observation(pending, None, now, out);
        }
        // A gap is set against what was given back in it, so it is settled after all of that.
        let oldest = self.observations.oldest();
        let is_due = |gap: &Gap| {
            gap.noticed <= overdue
                || (now.since(gap.noticed) >= limits.observation_wait
                    && oldest.is_none_or(|oldest| oldest > gap.noticed))
        };
        while room > 0 && self.gaps.front().is_some_and(is_due) {
            room -= 1;
            self.settle_oldest_gap(now);
        }
        let due = self.losses.due(now, offset, &self.neighbours);
        out.extend(due.into_iter().map(Output::Loss));
        self.given_back.forget(longest_ago);
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
        if room == 0 { Due::Now } else { Due::Later }
    }

    /// The input has ended: settles everything that still waits.
    pub fn finish(&mut self, now: KtimeNs, out: &mut Vec<Output>) {
        while let Some(waiting) = self.waiting.take_older_than(now) {
            self.settle_waiting(waiting, now, out);
        }
        for pending in self.operations.take_older_than(now) {
            self.expect(pending, Settled::Open, now, out);
        }
        let passed = self.progress.furthest();
        while let Some(pending) = self.observations.take_due(|_| true) {
            // Of what the stream had not passed it cannot be said that it was lost.
            let undecided = pending.observation.taken > passed;
            self.settle_observation(pending, undecided.then_some(Cause::Stopped), now, out);
        }
        while let Some(unexplained) = self.unexplained.take_older_than(now) {
            self.settle_unexplained(unexplained, now, out);
        }
        while !self.gaps.is_empty() {
            self.settle_oldest_gap(now);
        }
        let rest = self.losses.rest(now, self.offset, &self.neighbours);
        out.extend(rest.into_iter().map(Output::Loss));
        debug_assert!(self.crosscheck.balances(), "{:?}", self.crosscheck);
    }

    /// Keeps no more room than what waits and what is remembered needs.
    pub(crate) fn shrink(&mut self) {
        self.observations.shrink();
        self.waiting.shrink();
        self.given_back.shrink();
        self.spare_events = Spare::default();
        self.spare_observations = Spare::default();
    }

    /// Whether nothing waits for its counterpart.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let waiting = self.waiting.len() + self.unexplained.len();
        waiting + self.observations.len() + self.operations.len() == 0
    }

    #[cfg(test)]
    pub(super) fn n_spare_observations(&self) -> usize {
        self.spare_observations.len()
    }

    /// The account of expected events.
    pub fn crosscheck(&self) -> Crosscheck {
        Crosscheck {
            pending_events: (self.waiting.len() + self.unexplained.unobserved()) as u64,
            ..self.crosscheck.clone()
        }
    }

    /// What was lost and counted, by cause.
    pub fn losses(&self) -> &BTreeMap<Cause, u64> {
        self.losses.totals()
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

    /// Whether there is no witness, nor anything that one has left: whatever comes is of the audit stream alone.
    fn has_nothing_to_match(&self) -> bool {
        let observed = self.observations.len() + self.operations.len();
        self.witness.is_none() && observed == 0 && self.given_back.is_empty()
    }

    fn may_have_observation(
        &self,
        event: &AuditEvent,
        fields: Option<&SyscallFields<'_>>,
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
                None if event.completion == Completion::Late => false,
                // What the kernel could not send may have been all that got into its queue of a call's event.
                None => {
                    fragment::is_fragment(event)
                        || is_copied_part(event)
                        || (witness.level == Level::AuditHooks && operations::has_operations(event))
                }
            }
    }
}

/// Whether a record is of the kernel and of no call.
fn stands_alone(record: Record<'_>) -> bool {
    let record_type = record.record_type;
    record_type.stands_alone() && !record_type.is_from_daemon() && !record_type.is_from_collector()
}

/// Whether an event may be the part of a call's of which there are copies.
fn is_copied_part(event: &AuditEvent) -> bool {
    let inside = |record: Record<'_>| !record.record_type.stands_alone();
    event.mirrored.is_some() && event.records.iter().all(inside)
}
