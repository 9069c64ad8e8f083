//! Observations that wait for their audit event.
//!
//! Views of one set: by time (the store itself), by deadline, and by what the audit event is to be known by: its stamp
//! where the kernel's report is known, otherwise the key (first in, first out). The deadlines are references that may be
//! stale; whoever follows one drops it then, and a key's queue is removed with its last entry.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::audit::record::Stamp;
use crate::clock::KtimeNs;
use crate::correlate::fragment::{Content, Fit};
use crate::correlate::key::MatchKey;
use crate::correlate::queues::Queues;
use crate::probe::observation::{Observation, Verdict};

/// Orders observations by entry; CPU and sequence make it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObservationId {
    entry: KtimeNs,
    cpu: u16,
    sequence: u64,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) observation: Box<Observation>,
    /// When it came out of the ring.
    pub(super) arrived: KtimeNs,
}

#[derive(Debug, Default)]
pub(super) struct Observations {
    by_entry: BTreeMap<ObservationId, Pending>,
    by_key: Queues<ObservationId>,
    by_stamp: HashMap<Stamp, ObservationId>,
    by_arrival: VecDeque<(KtimeNs, ObservationId)>,
    n_bytes: usize,
}

impl Observations {
    /// Candidates looked at for one event, so that a storm does not cost its square.
    pub(super) const MOST_CANDIDATES: usize = 2_048;

    pub(super) fn len(&self) -> usize {
        self.by_entry.len()
    }

    /// Bytes of the samples of those that wait.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Keeps no more room than what waits needs.
    pub(super) fn shrink(&mut self) {
        self.by_key.shrink();
        self.by_stamp.shrink_to_fit();
        self.by_arrival.shrink_to_fit();
    }

    pub(super) fn insert(&mut self, pending: Pending) {
        let observation = &pending.observation;
        let id = ObservationId {
            entry: observation.entry,
            cpu: observation.cpu,
            sequence: observation.sequence,
        };
        match &observation.report {
            // What the kernel refused before it drew a serial has no audit event.
            Some(report) => {
                let stamp = report.stamp();
                self.by_stamp.extend(stamp.map(|stamp| (stamp, id)));
            }
            None => {
                let key = MatchKey::of_observation(observation);
                // Threads of one process may come out of order; one thread never does, so this rarely looks further
                // than the end.
                self.by_key.insert(key, id, |queue| {
                    let before = queue.iter().rposition(|other| *other < id);
                    before.map_or(0, |before| before + 1)
                });
            }
        }
        self.by_arrival.push_back((observation.taken, id));
        self.n_bytes += observation.n_bytes;
        self.by_entry.insert(id, pending);
    }

    /// Takes the observation of the call whose event has this stamp.
    pub(super) fn take_by_stamp(&mut self, stamp: Stamp) -> Option<Pending> {
        let id = *self.by_stamp.get(&stamp)?;
        self.remove(id)
    }

    /// Takes the observation with `key` that fits `content` at least as well as `least`, or is the only one, and whose entry is nearest to and not before
    /// `stamp`, as the stamp is the coarse clock at entry. Where none is, the one that entered last before it within
    /// `tolerance`, as the clocks may disagree. One that fits well goes before a nearer one of which that is not known.
    pub(super) fn take_by_key(
        &mut self,
        key: &MatchKey,
        stamp: KtimeNs,
        tolerance: Duration,
        content: &Content,
        least: Fit,
    ) -> Option<Pending> {
        let queue = self.by_key.get(key)?;
        let after = queue.partition_point(|id| id.entry < stamp);
        let near =
            |id: &&ObservationId| id.entry.since(stamp).max(stamp.since(id.entry)) <= tolerance;
        let forward = queue.range(after..).take_while(near);
        let backward = queue.range(..after).rev().take_while(near);
        let mut best: Option<(Fit, ObservationId)> = None;
        let mut n_candidates = 0;
        for id in forward.chain(backward).take(Self::MOST_CANDIDATES) {
            let Some(pending) = self.by_entry.get(id) else {
                continue;
            };
            let fit = content.fit(&pending.observation);
            n_candidates += 1;
            if best.is_none_or(|(best, _)| fit > best) {
                best = Some((fit, *id));
            }
            if fit >= content.most().max(least) {
                break;
            }
        }
        let (_, id) =
            best.filter(|(fit, _)| *fit >= least || (n_candidates == 1 && *fit > Fit::No))?;
        self.remove(id)
    }

    /// Those whose event's stamp is not known.
    pub(super) fn between(
        &self,
        from: KtimeNs,
        to: KtimeNs,
    ) -> impl Iterator<Item = (ObservationId, &Pending)> {
        let first = ObservationId {
            entry: from,
            cpu: 0,
            sequence: 0,
        };
        // Where all were reported there is no need to look.
        let most = if self.by_key.is_empty() {
            0
        } else {
            usize::MAX
        };
        self.by_entry
            .range(first..)
            .take(most)
            .take_while(move |(id, _)| id.entry <= to)
            .filter(|(_, pending)| pending.observation.report.is_none())
            .take(Self::MOST_CANDIDATES)
            .map(|(id, pending)| (*id, pending))
    }

    /// Those with a *maybe* verdict, of what was sampled after `since`.
    pub(super) fn undecided(&self, since: KtimeNs) -> Vec<ObservationId> {
        let undecided = |id: &ObservationId| {
            let pending = self.by_entry.get(id);
            pending.is_some_and(|pending| pending.observation.verdict == Verdict::Maybe)
        };
        let arrived = self.by_arrival.iter();
        arrived
            .filter(|(taken, _)| *taken > since)
            .map(|(_, id)| *id)
            .filter(undecided)
            .collect()
    }

    /// One of them, to change what does not tell it from others.
    pub(super) fn get_mut(&mut self, id: ObservationId) -> Option<&mut Observation> {
        let pending = self.by_entry.get_mut(&id)?;
        Some(&mut pending.observation)
    }

    /// When the oldest that waits was sampled.
    pub(super) fn oldest(&self) -> Option<KtimeNs> {
        self.by_arrival
            .iter()
            .find(|(_, id)| self.by_entry.contains_key(id))
            .map(|(taken, _)| *taken)
    }

    /// Takes the oldest for which `due` holds, by the time it was sampled; none where the oldest is not due.
    pub(super) fn take_due(&mut self, due: impl Fn(&Pending) -> bool) -> Option<Pending> {
        loop {
            let (_, id) = *self.by_arrival.front()?;
            match self.by_entry.get(&id) {
                Some(pending) if !due(pending) => return None,
                Some(_) => {
                    self.by_arrival.pop_front();
                    return self.remove(id);
                }
                None => {
                    self.by_arrival.pop_front();
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: ObservationId) -> Option<Pending> {
        let pending = self.by_entry.remove(&id)?;
        self.n_bytes -= pending.observation.n_bytes;
        if let Some(stamp) = pending.observation.report.and_then(|report| report.stamp()) {
            self.by_stamp.remove(&stamp);
        }
        let key = MatchKey::of_observation(&pending.observation);
        self.by_key
            .take_from(&key, |queue| queue.remove(queue.binary_search(&id).ok()?));
        // Matched observations leave their entry in `by_arrival` behind; when most of it is such, it is swept.
        if self.by_arrival.len() > 64 && self.by_arrival.len() > 4 * self.by_entry.len() {
            self.by_arrival
                .retain(|(_, id)| self.by_entry.contains_key(id));
        }
        Some(pending)
    }
}
