//! What the kernel's status and our sockets say about losses, as a timeline, and which cause follows from it.
//!
//! Status is polled, so a loss is known to lie between two polls. The poll itself, not a guess, decides: where two causes
//! could have moved the same number, the cause is `unknown`.

use std::collections::VecDeque;
use std::time::Duration;

use collector_ebpf::{LossReason, TextReason};

use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::KtimeNs;
use crate::correlate::given_back::Stamped;
use crate::event::Cause;
use crate::probe::hooks::Level;
use crate::probe::observation::Observation;

/// What one poll found, as differences to the poll before.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// When it was begun: what is in it is no older.
    pub asked: KtimeNs,
    /// When it was made.
    pub at: KtimeNs,
    /// The kernel's status; none where the poll failed.
    pub status: Option<KernelStatus>,
    /// Records the kernel counted as lost since the last poll.
    pub lost: u64,
    /// The reasons the kernel gave for that, by [`LossReason`]; none where no program sees them.
    pub reasons: Option<[u64; LossReason::COUNT]>,
    /// Records among `lost` for which no program has seen the kernel's reason.
    pub unexplained: u64,
    /// Records that the kernel gave up since the last poll without counting them: it keeps none while there is no daemon, where it
    /// was booted without `audit=1`.
    pub not_held: u64,
    /// Runs of the hooks that the kernel left out since the last poll: so many decisions may not have been seen.
    pub missed_decisions: u64,
    /// Records dropped at our event socket since the last poll, where such a drop is a loss (multicast).
    pub socket_drops: u64,
    /// How records reach us.
    pub delivery: Delivery,
    /// Times the event socket was congested since the last poll, where that is not a loss by itself (unicast).
    pub congested: u64,
    /// Records given up in the collector's own queue since the last poll.
    pub queue_full: u64,
    /// Whether the event socket had nothing waiting.
    pub socket_empty: bool,
    /// Whether the kernel sends to another daemon, or to nobody, though we had been made its daemon.
    pub displaced: bool,
    /// Why observations were lost since the last poll, one of the causes; none where none were.
    pub unobserved: Option<Cause>,
}

impl Poll {
    /// The one reason for which the kernel lost records; none where there were others too, or no program saw them.
    fn only_reason(&self) -> Option<LossReason> {
        let reasons = self.reasons.filter(|_| self.unexplained == 0)?;
        let mut given = std::iter::zip(LossReason::ALL, reasons).filter(|(_, lost)| *lost > 0);
        let (reason, _) = given.next()?;
        given.next().is_none().then_some(reason)
    }

    /// Whether nothing that the kernel had queued before the poll was begun was on its way to us any more.
    pub fn drained(&self) -> bool {
        self.socket_empty
            && self.congested == 0
            && self.status.is_some_and(|status| status.backlog == 0)
    }
}

/// What is known of the kernel's part in an event that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing.
    Nothing,
    /// It drew no serial for it: whatever happened, happened before that.
    NoSerial,
    /// It drew a serial, and nothing of the event came: its first record had found room.
    Serial,
    /// The kernel did not decide to report it.
    NoReport,
    /// The kernel wrote it, and gave up none of its records while it did.
    Queued,
}

impl Cause {
    /// The cause that the kernel's own words for it stand for.
    pub(super) const fn of_reason(reason: LossReason) -> Self {
        match reason {
            LossReason::BacklogLimit => Self::BacklogLimit,
            LossReason::RateLimit => Self::RateLimit,
            LossReason::OutOfMemory => Self::OutOfMemory,
            LossReason::RetryOverflow => Self::RetryOverflow,
            LossReason::HoldOverflow => Self::HoldOverflow,
            LossReason::Other => Self::KernelUnknown,
        }
    }

    /// The cause of which the text of a record tells; none where it was not lost.
    pub(super) const fn of_text(reason: TextReason) -> Option<Self> {
        match reason {
            TextReason::Queued | TextReason::PutBehind => None,
            TextReason::RetryOverflow => Some(Self::RetryOverflow),
            TextReason::HoldOverflow | TextReason::NotHeld => Some(Self::HoldOverflow),
            TextReason::SocketOverrun => Some(Self::SocketOverrun),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    /// When the poll before was begun.
    from: KtimeNs,
    /// When the last one before was begun that could read the status, which counts from then on.
    status_from: KtimeNs,
    poll: Poll,
    /// Whether auditing was on at the poll before.
    enabled_before: Option<u32>,
    displaced_before: bool,
}

impl Interval {
    /// Whether, for all that is known, nothing was sent to us in all of it; none where it was for a part of it.
    fn displaced(&self) -> Option<bool> {
        let same = self.displaced_before == self.poll.displaced;
        same.then_some(self.poll.displaced)
    }
}

/// The polls of the last minutes, and when the rules were not settled.
#[derive(Debug, Default)]
pub struct Evidence {
    intervals: VecDeque<Interval>,
    last: Option<Poll>,
    /// When the last poll was begun that could read the status.
    last_status: Option<KtimeNs>,
    /// From when to when, oldest first.
    unsettled: VecDeque<(KtimeNs, KtimeNs)>,
    /// Whether the kernel keeps nothing for a daemon that it cannot reach, and does not count what it drops then.
    keeps_nothing: bool,
    /// Since when the kernel lacks rules that the witness judges by.
    missing_since: Option<KtimeNs>,
    /// When auditing was switched off, oldest first.
    switched_off: VecDeque<KtimeNs>,
}

impl Evidence {
    /// How many polls are kept, at somewhat more than one a second: what waits longer, for a stream that is minutes behind, has no
    /// known cause.
    pub const CAPACITY: usize = 300;
    /// How many times of unsettled rules are kept; those that touch are one.
    pub const UNSETTLED: usize = 64;
    /// A loss and the poll that tells of it are not atomic: the record is lost before the observation is taken.
    const SLACK: Duration = Duration::from_millis(20);
    /// The time between two polls, and some.
    const AROUND: Duration = Duration::from_secs(1);

    /// Adds a poll.
    pub fn add(&mut self, poll: Poll) {
        let before = self.last.replace(poll);
        self.intervals.push_back(Interval {
            from: before.map_or(KtimeNs(0), |before| before.asked),
            status_from: self.last_status.unwrap_or(KtimeNs(0)),
            poll,
            enabled_before: before
                .and_then(|before| before.status)
                .map(|status| status.enabled),
            displaced_before: before.is_some_and(|before| before.displaced),
        });
        if poll.status.is_some() {
            self.last_status = Some(poll.asked);
        }
        if self.intervals.len() > Self::CAPACITY {
            self.intervals.pop_front();
        }
    }

    /// From `from` to `until` the kernel may have held other rules than those the witness judged by.
    pub fn rules_unsettled(&mut self, from: KtimeNs, until: KtimeNs) {
        if let Some((_, last)) = self.unsettled.back_mut()
            && from <= *last
        {
            *last = until.max(*last);
            return;
        }
        if self.unsettled.len() == Self::UNSETTLED {
            self.unsettled.pop_front();
        }
        self.unsettled.push_back((from, until));
    }

    /// The kernel was booted without `audit=1` (kernel/audit.c `kauditd_hold_skb`).
    pub(super) fn kernel_keeps_nothing(&mut self) {
        self.keeps_nothing = true;
    }

    /// Since `since` the kernel lacks rules that the witness judges by; none where it has had them all since `now`.
    pub(super) fn rules_missing(&mut self, since: Option<KtimeNs>, now: KtimeNs) {
        match since {
            Some(since) => {
                self.missing_since.get_or_insert(since);
            }
            None => {
                if let Some(from) = self.missing_since.take() {
                    self.rules_unsettled(from, now);
                }
            }
        }
    }

    /// Auditing was switched off at `at`. When it came on again is known from the next poll only.
    pub(super) fn switched_off(&mut self, at: KtimeNs) {
        if self.switched_off.len() == Self::CAPACITY {
            self.switched_off.pop_front();
        }
        self.switched_off.push_back(at);
    }

    /// Whether auditing was surely on when a call entered; not known before the next poll.
    pub(super) fn was_on(&self, entry: KtimeNs) -> bool {
        self.intervals.iter().rev().any(|interval| {
            let polled = interval.enabled_before.is_some() && interval.poll.status.is_some();
            let covers = interval.from <= entry && entry <= interval.poll.at;
            covers && polled && !self.off_at(interval, entry)
        })
    }

    /// Whether auditing may have been off when a call entered in the time of `interval`.
    fn off_at(&self, interval: &Interval, entry: KtimeNs) -> bool {
        let enabled_now = interval.poll.status.map(|status| status.enabled);
        let switched = |at: &KtimeNs| {
            interval.from <= *at && *at <= interval.poll.at && *at <= entry.plus(Self::SLACK)
        };
        enabled_now == Some(0)
            || interval.enabled_before == Some(0)
            || self.switched_off.iter().any(switched)
    }

    /// The cause of the records the kernel counted as lost in `poll`.
    pub fn cause_of_lost(poll: &Poll) -> Cause {
        // What the kernel could not deliver to the daemon in time counts as lost as well.
        let limits_alone =
            poll.delivery == Delivery::Unicast && poll.congested == 0 && !poll.displaced;
        Self::cause_by_limits(poll, limits_alone)
    }

    /// The cause of an event not coming to us while `poll` counted records as lost, as far as that can be one. What is lost on the
    /// way to another daemon has been sent by multicast before.
    fn cause_of_missing(poll: &Poll, seen: Seen, congested: bool) -> Option<Cause> {
        match seen {
            Seen::Nothing => Some(Self::cause_by_limits(poll, !congested)),
            Seen::NoSerial => Self::cause_of_refusal(poll),
            Seen::Serial => Self::cause_behind_the_serial(poll, congested),
            Seen::NoReport | Seen::Queued => None,
        }
    }

    /// Why the kernel refused an event before it drew a serial; none where it refused nothing.
    fn cause_of_refusal(poll: &Poll) -> Option<Cause> {
        if let Some(reasons) = poll.reasons.filter(|_| poll.unexplained == 0) {
            let refused = [LossReason::BacklogLimit, LossReason::OutOfMemory];
            let mut refused = refused
                .into_iter()
                .filter(|reason| reasons[*reason as usize] > 0);
            return match (refused.next(), refused.next()) {
                (Some(_), Some(_)) => Some(Cause::KernelUnknown),
                (reason, _) => reason.map(Cause::of_reason),
            };
        }
        Some(match poll.status {
            Some(status) if status.backlog_limit > 0 => Cause::BacklogLimit,
            _ => Cause::KernelUnknown,
        })
    }

    /// Why the kernel lost an event for which it had drawn a serial; none where it can have lost none.
    fn cause_behind_the_serial(poll: &Poll, congested: bool) -> Option<Cause> {
        if let Some(reason) = poll.only_reason() {
            let refused = matches!(reason, LossReason::BacklogLimit | LossReason::OutOfMemory);
            return (!refused).then(|| Cause::of_reason(reason));
        }
        let rate_limit = poll.status.map(|status| status.rate_limit);
        match (rate_limit, congested) {
            // What the daemon took in time was not lost behind the queue either.
            (Some(0), false) => None,
            (Some(1..), false) => Some(Cause::RateLimit),
            _ => Some(Cause::KernelUnknown),
        }
    }

    /// Which limit bit, where nothing but the limits can have (`limits_alone`) or the queue was seen full.
    fn cause_by_limits(poll: &Poll, limits_alone: bool) -> Cause {
        if let Some(reason) = poll.only_reason() {
            return Cause::of_reason(reason);
        }
        let Some(status) = poll.status else {
            return Cause::KernelUnknown;
        };
        match (status.rate_limit, status.backlog_limit) {
            (0, 1..) if limits_alone || status.backlog >= status.backlog_limit => {
                Cause::BacklogLimit
            }
            (1.., 0) if limits_alone => Cause::RateLimit,
            // A queue with room for more than a second's worth cannot have been full.
            (rate @ 1.., limit)
                if limits_alone && rate <= limit / 2 && status.backlog < limit / 2 =>
            {
                Cause::RateLimit
            }
            _ => Cause::KernelUnknown,
        }
    }

    /// Why a record was lost that had got into the kernel's queue; none where nothing was lost there.
    fn cause_behind_the_queue(poll: &Poll) -> Option<Cause> {
        let held = poll.not_held > 0;
        let Some(reasons) = poll.reasons else {
            return Some(match poll.lost {
                0 => Cause::HoldOverflow,
                _ => Cause::KernelUnknown,
            });
        };
        let lost = |reason: &LossReason| {
            reasons[*reason as usize] > 0 || (held && *reason == LossReason::HoldOverflow)
        };
        let mut reasons = [LossReason::RetryOverflow, LossReason::HoldOverflow]
            .into_iter()
            .filter(lost);
        match (reasons.next(), reasons.next()) {
            (Some(_), Some(_)) => Some(Cause::KernelUnknown),
            (reason, _) => reason.map(Cause::of_reason),
        }
    }

    /// Why the observation of an event that was stamped at `stamp` and read at `read` may have been lost. Counts are read
    /// after the poll's time, and what waits for us is given up later than it was taken: the polls around speak as well.
    pub(super) fn unobserved_between(&self, stamp: KtimeNs, read: KtimeNs) -> Option<Cause> {
        let around = |interval: &&Interval| {
            interval.from.minus(Self::AROUND) <= read
                && stamp <= interval.poll.at.plus(Self::AROUND)
        };
        let mut around = self.intervals.iter().filter(around);
        around.find_map(|interval| interval.poll.unobserved)
    }

    /// The first poll since `since` that told of lost observations.
    pub(super) fn unobserved_since(&self, since: KtimeNs) -> Option<KtimeNs> {
        let polls = self.intervals.iter().rev().map(|interval| interval.poll);
        let lost = |poll: &Poll| poll.unobserved.is_some();
        let lost = polls.take_while(|poll| poll.at >= since).filter(lost);
        lost.last().map(|poll| poll.at)
    }

    /// Up to when the last status is known to tell of all losses.
    pub(super) const fn last_status(&self) -> Option<KtimeNs> {
        self.last_status
    }

    /// When the last poll was made.
    pub(super) fn last_poll(&self) -> Option<KtimeNs> {
        self.last.map(|poll| poll.at)
    }

    /// Whether the last poll found that the kernel does not send to us.
    pub(super) fn is_displaced(&self) -> bool {
        self.last.is_some_and(|poll| poll.displaced)
    }

    /// Whether the last poll found the daemon's socket congested: the kernel then keeps records apart, for later.
    pub(super) fn was_congested(&self) -> bool {
        self.last.is_some_and(|poll| poll.congested > 0)
    }

    /// Why the audit event of `observation` did not come, or not whole; `stamped` says whether it can have drawn a serial.
    pub(super) fn cause(&self, observation: &Observation, level: Level, stamped: Stamped) -> Cause {
        let seen = match (level, stamped) {
            (Level::AuditHooks, _) => Seen::NoReport,
            (Level::Syscalls, Stamped::Never) => Seen::NoSerial,
            (Level::Syscalls, Stamped::Maybe) => Seen::Nothing,
        };
        let (entry, taken) = (observation.entry, observation.taken);
        if let Some(report) = &observation.report {
            return match report.first_lost {
                Some(reason) => Cause::of_reason(reason),
                None => self
                    .known_between(Seen::Queued, entry, taken, taken)
                    .unwrap_or(Cause::KernelUnknown),
            };
        }
        if !observation.audit_context {
            return Cause::NoContext;
        }
        self.known_between(seen, entry, taken, taken)
            .or_else(|| {
                let touches = |(from, until): &(KtimeNs, KtimeNs)| {
                    from.minus(Self::SLACK) <= taken && entry <= until.plus(Self::SLACK)
                };
                let missing = self.missing_since.map(|from| (from, KtimeNs(u64::MAX)));
                let unsettled = self.unsettled.iter().chain(&missing).any(touches);
                unsettled.then_some(Cause::RulesChanged)
            })
            .unwrap_or(Cause::KernelUnknown)
    }

    /// Why an event that entered at `entry` and whose records were written between `since` and `taken` did not come, or not
    /// whole.
    pub fn cause_between(&self, entry: KtimeNs, since: KtimeNs, taken: KtimeNs) -> Cause {
        self.known_between(Seen::Nothing, entry, since, taken)
            .unwrap_or(Cause::KernelUnknown)
    }

    /// Why the events between two that came, stamped at `before` and `after`, did not.
    pub(super) fn cause_of_gap(&self, before: KtimeNs, after: KtimeNs) -> Cause {
        self.known_between(Seen::Serial, before, before, after)
            .unwrap_or(Cause::KernelUnknown)
    }

    /// Why a record that left the kernel's queue at `taken` did not come.
    pub(super) fn cause_behind(&self, taken: KtimeNs) -> Cause {
        self.known_between(Seen::Queued, taken, taken, taken)
            .unwrap_or(Cause::KernelUnknown)
    }

    /// The same; none where nothing was seen that could be a cause, and `unknown` where too much was.
    fn known_between(
        &self,
        seen: Seen,
        entry: KtimeNs,
        since: KtimeNs,
        taken: KtimeNs,
    ) -> Option<Cause> {
        let blind = |interval: &Interval| {
            interval.poll.missed_decisions > 0
                && interval.from.minus(Self::SLACK) <= taken
                && since <= interval.poll.at.plus(Self::SLACK)
        };
        let seen = match seen {
            Seen::NoReport if self.intervals.iter().any(blind) => Seen::Nothing,
            seen => seen,
        };
        let mut lost = None;
        let (mut dropped, mut queue_full, mut disabled) = (false, false, false);
        let (mut displaced, mut congested) = (false, false);
        let before = |interval: &Interval| interval.poll.at.plus(Self::SLACK) < entry;
        let first = self.intervals.partition_point(before);
        for (index, interval) in self.intervals.iter().enumerate().skip(first) {
            let poll = &interval.poll;
            let follows = |from: KtimeNs| from.minus(Self::SLACK) <= taken;
            let reaches = since <= poll.at.plus(Self::SLACK);
            let covers = follows(interval.from) && reaches;
            let enabled_now = poll.status.map(|status| status.enabled);
            if covers && interval.displaced() == Some(true) && enabled_now != Some(0) {
                return Some(Cause::Displaced);
            }
            displaced |= covers && interval.displaced().is_none();
            if follows(interval.status_from) && reaches {
                // The reader is told of it only when it reads on.
                let next = self.intervals.get(index + 1);
                let congested = poll.congested + next.map_or(0, |next| next.poll.congested) > 0;
                let counted =
                    (poll.lost > 0).then(|| Self::cause_of_missing(poll, seen, congested));
                let not_held = poll.not_held > 0 && matches!(seen, Seen::Nothing | Seen::Serial);
                let not_held = not_held.then_some(Cause::HoldOverflow);
                lost = one_of([lost, counted.flatten(), not_held]);
            }
            disabled |= interval.from <= entry && self.off_at(interval, entry);
            congested |= (covers || poll.at >= taken) && poll.congested > 0;
            // A record waits in the kernel's queue before it is dropped at the socket or in our queue.
            if poll.at >= taken {
                if seen == Seen::Queued && poll.lost + poll.not_held > 0 {
                    lost = lost.or(Self::cause_behind_the_queue(poll));
                }
                dropped |= poll.socket_drops > 0;
                queue_full |= poll.queue_full > 0;
                // The stream has passed it: what is dropped from here on is something else.
                if poll.drained() && poll.asked >= taken.plus(Self::SLACK) {
                    break;
                }
            }
        }
        if seen == Seen::NoReport {
            return disabled.then_some(Cause::AuditDisabled);
        }
        let was_sent = seen != Seen::NoSerial;
        let unasked = disabled && matches!(seen, Seen::Nothing | Seen::NoSerial);
        let cause = one_of([
            lost,
            unasked.then_some(Cause::AuditDisabled),
            displaced.then_some(Cause::Displaced),
            (was_sent && dropped).then_some(Cause::SocketOverrun),
            (was_sent && queue_full).then_some(Cause::QueueFull),
        ]);
        // Had a queue been full, the kernel would have counted it.
        let not_held = (was_sent && congested && self.keeps_nothing).then_some(Cause::HoldOverflow);
        cause
            .or(disabled.then_some(Cause::AuditDisabled))
            .or(not_held)
    }
}

/// The only cause among some, and `unknown` where there are two.
fn one_of<const N: usize>(causes: [Option<Cause>; N]) -> Option<Cause> {
    let mut causes = causes.into_iter().flatten();
    let first = causes.next()?;
    let only = causes.all(|cause| cause == first);
    Some(if only { first } else { Cause::KernelUnknown })
}
