//! Events that were given back, remembered for a while: their records may come after all, and the serials some of them
//! consumed show as gaps.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::KtimeNs;
use crate::correlate::key::MatchKey;
use crate::event::EventId;

/// Bounded by [`GivenBack::CAPACITY`]; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    by_key: HashMap<MatchKey, VecDeque<Given>>,
    order: VecDeque<(KtimeNs, MatchKey)>,
    /// Entries of calls that may have consumed a serial and have not been set against a gap, oldest first.
    unclaimed: VecDeque<KtimeNs>,
}

#[derive(Debug)]
struct Given {
    id: EventId,
    entry: KtimeNs,
    settled: KtimeNs,
}

/// Whether the kernel can have drawn a serial for an event that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamped {
    /// It was refused before that.
    Never,
    /// Perhaps.
    Maybe,
}

impl GivenBack {
    const CAPACITY: usize = 262_144;

    pub(super) fn remember(
        &mut self,
        key: MatchKey,
        id: EventId,
        entry: KtimeNs,
        stamped: Stamped,
        now: KtimeNs,
    ) {
        self.by_key.entry(key).or_default().push_back(Given {
            id,
            entry,
            settled: now,
        });
        self.order.push_back((now, key));
        if stamped == Stamped::Maybe {
            let at = self.unclaimed.partition_point(|other| *other <= entry);
            self.unclaimed.insert(at, entry);
            if self.unclaimed.len() > Self::CAPACITY {
                self.unclaimed.pop_front();
            }
        }
    }

    /// Takes the one with `key` that entered within `tolerance` of `stamp`.
    pub(super) fn take(
        &mut self,
        key: &MatchKey,
        stamp: KtimeNs,
        tolerance: Duration,
    ) -> Option<EventId> {
        let queue = self.by_key.get_mut(key)?;
        let near =
            |given: &Given| given.entry.since(stamp).max(stamp.since(given.entry)) <= tolerance;
        let at = queue.iter().position(near)?;
        queue.remove(at).map(|given| given.id)
    }

    /// Sets at most `serials` missing ones against calls that entered within `[from, to]`; returns how many found one.
    pub(super) fn claim(&mut self, from: KtimeNs, to: KtimeNs, serials: u64) -> u64 {
        let first = self.unclaimed.partition_point(|entry| *entry < from);
        let end = self.unclaimed.partition_point(|entry| *entry <= to);
        let claimed = serials.min(end.saturating_sub(first) as u64);
        self.unclaimed.drain(first..first + claimed as usize);
        claimed
    }

    /// Forgets what was settled, or entered, before `kept`, and what is too much.
    pub(super) fn forget(&mut self, kept: KtimeNs) {
        while let Some((settled, key)) = self.order.front().copied()
            && (settled < kept || self.order.len() > Self::CAPACITY)
        {
            self.order.pop_front();
            if let Some(queue) = self.by_key.get_mut(&key) {
                while queue.front().is_some_and(|given| given.settled <= settled) {
                    queue.pop_front();
                }
                if queue.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        while self.unclaimed.front().is_some_and(|entry| *entry < kept) {
            self.unclaimed.pop_front();
        }
    }
}
