//! Events that were given back, remembered for a while: their records may come after all, and the serials some of them
//! consumed show as gaps.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::audit::gaps::Gap;
use crate::audit::record::Stamp;
use crate::clock::KtimeNs;
use crate::correlate::key::MatchKey;
use crate::correlate::queues::Queues;
use crate::event::EventId;

/// Bounded by [`GivenBack::CAPACITY`]; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    /// By entry.
    by_key: Queues<Given>,
    order: VecDeque<(KtimeNs, MatchKey)>,
    by_stamp: HashMap<Stamp, EventId>,
    stamps: VecDeque<(KtimeNs, Stamp)>,
    /// The serials of those whose stamp is known and that have not been set against a gap.
    serials: BTreeSet<u32>,
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

    /// Whether no event is remembered that a late one could replace.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.by_stamp.is_empty()
    }

    /// Keeps no more room than what is remembered needs.
    pub(super) fn shrink(&mut self) {
        self.by_key.shrink();
        self.order.shrink_to_fit();
        self.by_stamp.shrink_to_fit();
        self.stamps.shrink_to_fit();
        self.unclaimed.shrink_to_fit();
    }

    pub(super) fn remember(
        &mut self,
        key: MatchKey,
        id: EventId,
        entry: KtimeNs,
        stamped: Stamped,
        now: KtimeNs,
    ) {
        let given = Given {
            id,
            entry,
            settled: now,
        };
        self.by_key.insert(key, given, |queue| {
            queue.partition_point(|other| other.entry <= entry)
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

    /// Takes the first with `key` that entered within `tolerance` of `stamp`.
    pub(super) fn take(
        &mut self,
        key: &MatchKey,
        stamp: KtimeNs,
        tolerance: Duration,
    ) -> Option<EventId> {
        let taken = self.by_key.take_from(key, |queue| {
            let at = queue.partition_point(|given| given.entry.plus(tolerance) < stamp);
            queue
                .get(at)
                .filter(|given| given.entry.since(stamp) <= tolerance)?;
            queue.remove(at).map(|given| given.id)
        });
        taken.flatten()
    }

    /// Sets at most `serials` missing ones against calls that entered within `[from, to]`; returns how many found one.
    pub(super) fn claim(&mut self, from: KtimeNs, to: KtimeNs, serials: u64) -> u64 {
        let first = self.unclaimed.partition_point(|entry| *entry < from);
        let end = self.unclaimed.partition_point(|entry| *entry <= to);
        let claimed = serials.min(end.saturating_sub(first) as u64);
        self.unclaimed.drain(first..first + claimed as usize);
        claimed
    }

    /// Remembers one whose stamp is known.
    pub(super) fn remember_stamp(&mut self, stamp: Stamp, id: EventId, now: KtimeNs) {
        self.by_stamp.insert(stamp, id);
        self.stamps.push_back((now, stamp));
        self.serials.insert(stamp.serial.0);
    }

    /// Takes the one with this stamp.
    pub(super) fn take_by_stamp(&mut self, stamp: Stamp) -> Option<EventId> {
        self.by_stamp.remove(&stamp)
    }

    /// Sets a gap's serials against the events known to have had them; returns how many did.
    pub(super) fn claim_serials(&mut self, gap: &Gap) -> u64 {
        let (first, last) = (gap.first.0, gap.last.0);
        let found: Vec<u32> = if first <= last {
            self.serials.range(first..=last).copied().collect()
        } else {
            let wrapped = self.serials.range(..=last);
            self.serials
                .range(first..)
                .chain(wrapped)
                .copied()
                .collect()
        };
        for serial in &found {
            self.serials.remove(serial);
        }
        found.len() as u64
    }

    /// Forgets what was settled, or entered, before `kept`, and what is too much.
    pub(super) fn forget(&mut self, kept: KtimeNs) {
        while let Some((settled, key)) = self.order.front().copied()
            && (settled < kept || self.order.len() > Self::CAPACITY)
        {
            self.order.pop_front();
            let is_over = |given: &mut Given| given.settled <= settled;
            self.by_key
                .take_from(&key, |queue| while queue.pop_front_if(is_over).is_some() {});
        }
        while let Some((settled, stamp)) = self.stamps.front().copied()
            && (settled < kept || self.stamps.len() > Self::CAPACITY)
        {
            self.stamps.pop_front();
            self.by_stamp.remove(&stamp);
            self.serials.remove(&stamp.serial.0);
        }
        while self.unclaimed.front().is_some_and(|entry| *entry < kept) {
            self.unclaimed.pop_front();
        }
    }
}
