//! Audit events that wait for their observation.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::audit::event::AuditEvent;
use crate::audit::record::Stamp;
use crate::clock::KtimeNs;
use crate::correlate::fragment::{self, Content};
use crate::correlate::key::MatchKey;
use crate::correlate::observations::Observations;
use crate::correlate::queues::Queues;

#[derive(Debug)]
pub(super) struct WaitingEvent {
    pub(super) event: AuditEvent,
    /// What its SYSCALL record says, where that record came.
    pub(super) key: Option<MatchKey>,
    /// What its records say of the call.
    pub(super) content: Content,
    /// 0, or the number of the late part.
    pub(super) part: u16,
    /// Its stamp on the monotonic clock, by the offset known when it came.
    pub(super) stamp: KtimeNs,
    pub(super) since: KtimeNs,
}

/// First in, first out by arrival; by stamp; by time; by key for those that have a SYSCALL record.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    events: HashMap<u64, WaitingEvent>,
    /// By stamp and arrival.
    by_key: Queues<(KtimeNs, u64)>,
    by_stamp: HashMap<Stamp, u64>,
    by_time: BTreeSet<(KtimeNs, u64)>,
    by_arrival: VecDeque<u64>,
    next: u64,
    n_bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Bytes that the records of those that wait hold.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Keeps no more room than what waits needs.
    pub(super) fn shrink(&mut self) {
        self.events.shrink_to_fit();
        self.by_key.shrink();
        self.by_stamp.shrink_to_fit();
        self.by_arrival.shrink_to_fit();
    }

    pub(super) fn insert(&mut self, waiting: WaitingEvent) {
        let number = self.next;
        self.next += 1;
        if let Some(key) = waiting.key {
            let entry = (waiting.stamp, number);
            self.by_key.insert(key, entry, |queue| {
                queue.partition_point(|other| *other < entry)
            });
        }
        self.n_bytes += waiting.event.records.capacity();
        self.by_stamp.insert(waiting.event.stamp, number);
        self.by_time.insert((waiting.stamp, number));
        self.by_arrival.push_back(number);
        self.events.insert(number, waiting);
    }

    /// The one with this stamp.
    pub(super) fn by_stamp(&self, stamp: Stamp) -> Option<&WaitingEvent> {
        self.events.get(self.by_stamp.get(&stamp)?)
    }

    /// Whether one may be of a call that entered at `entry`, by what is left of it and where the clock ticks in time.
    pub(super) fn may_be_of(&self, entry: KtimeNs) -> bool {
        let from = (entry.minus(fragment::LATEST_ENTRY), 0);
        let to = (entry.plus(fragment::EARLIEST_ENTRY), u64::MAX);
        self.by_time.range(from..=to).next().is_some()
    }

    /// Takes the one with this stamp.
    pub(super) fn take_by_stamp(&mut self, stamp: Stamp) -> Option<WaitingEvent> {
        let number = *self.by_stamp.get(&stamp)?;
        self.remove(number)
    }

    /// Takes the one with `key` that `fits` whose stamp is the first within `tolerance` of `entry`.
    pub(super) fn take_by_key(
        &mut self,
        key: &MatchKey,
        entry: KtimeNs,
        tolerance: Duration,
        fits: impl Fn(&Content) -> bool,
    ) -> Option<WaitingEvent> {
        let queue = self.by_key.get(key)?;
        let first = queue.partition_point(|(stamp, _)| stamp.plus(tolerance) < entry);
        let near = queue.range(first..).take(Observations::MOST_CANDIDATES);
        let mut near = near.take_while(|(stamp, _)| stamp.since(entry) <= tolerance);
        let fitting = |(_, number): &&(KtimeNs, u64)| {
            let waiting = self.events.get(number);
            waiting.is_some_and(|waiting| fits(&waiting.content))
        };
        let (_, number) = *near.find(fitting)?;
        self.remove(number)
    }

    /// Takes the oldest that has waited since `since` or longer.
    pub(super) fn take_older_than(&mut self, since: KtimeNs) -> Option<WaitingEvent> {
        loop {
            let number = *self.by_arrival.front()?;
            match self.events.get(&number) {
                Some(waiting) if waiting.since > since => return None,
                Some(_) => return self.remove(number),
                None => {
                    self.by_arrival.pop_front();
                }
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<WaitingEvent> {
        let waiting = self.events.remove(&number)?;
        self.n_bytes -= waiting.event.records.capacity();
        self.by_stamp.remove(&waiting.event.stamp);
        self.by_time.remove(&(waiting.stamp, number));
        if let Some(key) = waiting.key {
            let entry = (waiting.stamp, number);
            self.by_key.take_from(&key, |queue| {
                queue.remove(queue.binary_search(&entry).ok()?)
            });
        }
        while self
            .by_arrival
            .front()
            .is_some_and(|number| !self.events.contains_key(number))
        {
            self.by_arrival.pop_front();
        }
        Some(waiting)
    }
}
