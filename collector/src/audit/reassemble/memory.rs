//! The events handed on lately.
//!
//! Bounds: as many events as the reassembler's limits say, as many again of which more may come, and [`Seen::RECORDS`] records of each.

use std::collections::{HashMap, VecDeque};

use super::Key;

/// What is kept of an event that was handed on.
#[derive(Default)]
pub(super) struct Seen {
    hashes: [u64; Self::RECORDS],
    len: usize,
    /// Whether more of it may come.
    open: bool,
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
pub(super) struct HandedOn {
    capacity: usize,
    events: HashMap<Key, Seen>,
    order: VecDeque<Key>,
    /// Those of which more may come, which a call that blocks puts off for as long as it likes: no storm of events that ended
    /// may make them forgotten.
    open: VecDeque<Key>,
}

impl HandedOn {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            events: HashMap::new(),
            order: VecDeque::new(),
            open: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Seen> {
        self.events.get(key)
    }

    /// Adds an event's records, and forgets the oldest event where there are too many.
    pub(super) fn remember(&mut self, key: Key, hashes: &[u64]) {
        let order = &mut self.order;
        let seen = self.events.entry(key).or_insert_with(|| {
            order.push_back(key);
            Seen::default()
        });
        seen.add(hashes);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
            && self.events.get(&oldest).is_some_and(|seen| !seen.open)
        {
            self.events.remove(&oldest);
        }
    }

    /// More may come of this event, which was just remembered: forgets it only where there are too many of that kind.
    pub(super) fn keep_open(&mut self, key: Key) {
        let Some(seen) = self.events.get_mut(&key).filter(|seen| !seen.open) else {
            return;
        };
        seen.open = true;
        self.open.push_back(key);
        if self.open.len() > self.capacity
            && let Some(oldest) = self.open.pop_front()
        {
            self.events.remove(&oldest);
        }
    }
}
