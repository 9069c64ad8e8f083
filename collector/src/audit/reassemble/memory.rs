//! The events handed on lately.
//!
//! Bounds: as many events as the reassembler's limits say, [`Seen::RECORDS`] records of each.

use std::collections::{HashMap, VecDeque};

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
pub(super) struct HandedOn {
    capacity: usize,
    events: HashMap<Key, Seen>,
    order: VecDeque<Key>,
}

impl HandedOn {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            events: HashMap::new(),
            order: VecDeque::new(),
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
        {
            self.events.remove(&oldest);
        }
    }
}
