//! What the kernel's status and our sockets say about losses, as a timeline, and which cause follows from it.
//!
//! Status is polled, so a loss is known to lie between two polls. The poll itself, not a guess, decides: where two causes
//! could have moved the same number, the cause is `unknown`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::KtimeNs;
use crate::event::Cause;
use crate::probe::observation::Observation;

/// What one poll found, as differences to the poll before.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    /// When it was made.
    pub at: KtimeNs,
    /// The kernel's status; none where the poll failed.
    pub status: Option<KernelStatus>,
    /// Records the kernel counted as lost since the last poll.
    pub lost: u64,
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
}

impl Poll {
    /// Whether nothing was on its way from the kernel's queue to us when the poll was made.
    pub fn drained(&self) -> bool {
        self.socket_empty
            && self.congested == 0
            && self.status.is_some_and(|status| status.backlog == 0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    from: KtimeNs,
    poll: Poll,
    /// Whether auditing was on at the poll before.
    enabled_before: Option<u32>,
}

/// The polls of the last minutes.
#[derive(Debug, Default)]
pub struct Evidence {
    intervals: VecDeque<Interval>,
    last: Option<Poll>,
}

impl Evidence {
    /// How many polls are kept: at one a second, more than any observation waits.
    pub const CAPACITY: usize = 300;
    /// A loss and the poll that tells of it are not atomic: the record is lost before the observation is taken.
    const SLACK: Duration = Duration::from_millis(20);

    /// Adds a poll.
    pub fn add(&mut self, poll: Poll) {
        let before = self.last.replace(poll);
        self.intervals.push_back(Interval {
            from: before.map_or(KtimeNs(0), |before| before.at),
            poll,
            enabled_before: before
                .and_then(|before| before.status)
                .map(|status| status.enabled),
        });
        if self.intervals.len() > Self::CAPACITY {
            self.intervals.pop_front();
        }
    }

    /// The cause of the records the kernel counted as lost in `poll`.
    pub fn cause_of_lost(poll: &Poll) -> Cause {
        // What the kernel could not deliver to the daemon in time counts as lost as well.
        let limits_alone = poll.delivery == Delivery::Unicast && poll.congested == 0;
        Self::cause_by_limits(poll, limits_alone)
    }

    /// The cause of an event not coming to us while `poll` counted records as lost. What is lost on the way to another
    /// daemon has been sent by multicast before.
    fn cause_of_missing(poll: &Poll) -> Cause {
        Self::cause_by_limits(poll, poll.congested == 0)
    }

    /// Which limit bit, where nothing but the limits can have (`limits_alone`) or the queue was seen full.
    fn cause_by_limits(poll: &Poll, limits_alone: bool) -> Cause {
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

    /// Whether the last poll found the daemon's socket congested: the kernel then keeps records apart, for later.
    pub(super) fn was_congested(&self) -> bool {
        self.last.is_some_and(|poll| poll.congested > 0)
    }

    /// Why the audit event of `observation` did not come, or not whole.
    pub fn cause(&self, observation: &Observation) -> Cause {
        if !observation.audit_context {
            return Cause::NoContext;
        }
        self.cause_between(observation.entry, observation.taken, observation.taken)
    }

    /// Why an event that entered at `entry` and whose records were written between `since` and `taken` did not come, or not
    /// whole.
    pub fn cause_between(&self, entry: KtimeNs, since: KtimeNs, taken: KtimeNs) -> Cause {
        let mut lost = None;
        let (mut dropped, mut queue_full, mut disabled) = (false, false, false);
        for interval in &self.intervals {
            let poll = &interval.poll;
            if poll.at.plus(Self::SLACK) < entry {
                continue;
            }
            let covers =
                interval.from.minus(Self::SLACK) <= taken && since <= poll.at.plus(Self::SLACK);
            if covers && poll.lost > 0 {
                lost = Some(Self::cause_of_missing(poll));
            }
            let enabled_now = poll.status.map(|status| status.enabled);
            if interval.from <= entry
                && (enabled_now == Some(0) || interval.enabled_before == Some(0))
            {
                disabled = true;
            }
            // A record waits in the kernel's queue before it is dropped at the socket or in our queue.
            if poll.at >= taken {
                dropped |= poll.socket_drops > 0;
                queue_full |= poll.queue_full > 0;
                // The stream has passed it: what is dropped from here on is something else.
                if poll.drained() && poll.at >= taken.plus(Self::SLACK) {
                    break;
                }
            }
        }
        match (lost, dropped, queue_full, disabled) {
            (Some(cause), false, false, _) => cause,
            (None, true, false, _) => Cause::SocketOverrun,
            (None, false, true, _) => Cause::QueueFull,
            (None, false, false, true) => Cause::AuditDisabled,
            _ => Cause::KernelUnknown,
        }
    }
}
