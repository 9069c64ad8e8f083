//! The events handed on lately.
//!
//! Bounds: as many events as the reassembler's limits say, as many again of which more may come, and [`Seen::RECORDS`] records of each.

use std::collections::{HashMap, VecDeque};
use std::mem;

use super::Key;

/// What is kept of an event that was handed on.
#[derive(Default)]
pub(super) struct Seen {
    hashes: [u64; Self::RECORDS],
    len: usize,
}

impl Seen {
    /// More than the event of a rename with its two directories has. Records beyond are late ones when they come again.
    const RECORDS: usize = 8;

    /// Whether a record with this hash was part of the event.
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.hashes[..self.len].contains(&hash)
    }

    fn add(&mut self, hashes: &[u64]) {
        for (slot, hash) in std::iter::zip(&mut self.hashes[self.len..], hashes) {
            *slot = *hash;
            self.len += 1;
        }
    }
}

/// The events handed on last.
///
/// In two generations, of which the older is forgotten as a whole. To take the oldest event out for each new one would leave
/// marks in the table of where events were, for which it grows to twice the size.
pub(super) struct HandedOn {
    capacity: usize,
    current: HashMap<Key, Seen>,
    former: HashMap<Key, Seen>,
    /// Those of which more may come, which a call that blocks puts off for as long as it likes: no storm of events that ended
    /// may make them forgotten.
    open: HashMap<Key, Seen>,
    open_order: VecDeque<Key>,
}

impl HandedOn {
    /// Remembers at most `capacity` events, and the last half as many surely.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            current: HashMap::new(),
            former: HashMap::new(),
            open: HashMap::new(),
            open_order: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Seen> {
        [&self.current, &self.former, &self.open]
            .into_iter()
            .find_map(|events| events.get(key))
    }

    /// Adds an event's records, and forgets the oldest events where there are too many.
    pub(super) fn remember(&mut self, key: Key, hashes: &[u64]) {
        if let Some(seen) = self.open.get_mut(&key) {
            seen.add(hashes);
            return;
        }
        if self.current.len() >= self.capacity / 2 {
            mem::swap(&mut self.current, &mut self.former);
            self.current.clear();
        }
        let former = self.former.remove(&key);
        let seen = self
            .current
            .entry(key)
            .or_insert(former.unwrap_or_default());
        seen.add(hashes);
    }

    /// More may come of this event, which was just remembered: forgets it only where there are too many of that kind.
    pub(super) fn keep_open(&mut self, key: Key) {
        let Some(seen) = self.current.remove(&key) else {
            return;
        };
        self.open.insert(key, seen);
        self.open_order.push_back(key);
        if self.open_order.len() > self.capacity
            && let Some(oldest) = self.open_order.pop_front()
        {
            self.open.remove(&oldest);
        }
    }
}
