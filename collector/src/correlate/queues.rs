//! Queues of what has one key: twins, which their order alone tells apart.

use std::collections::{HashMap, VecDeque};

use crate::correlate::key::MatchKey;

/// A queue for each key of which there is anything. The memory of one that becomes empty is used for a later one.
#[derive(Debug)]
pub(super) struct Queues<T> {
    by_key: HashMap<MatchKey, VecDeque<T>>,
    spare: Vec<VecDeque<T>>,
}

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            spare: Vec::new(),
        }
    }
}

impl<T> Queues<T> {
    /// How many empty queues are kept.
    const SPARE: usize = 1_024;
    /// What a queue may have room for to be kept.
    const SPARE_ROOM: usize = 16;

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn get(&self, key: &MatchKey) -> Option<&VecDeque<T>> {
        self.by_key.get(key)
    }

    /// Puts `value` where `place` says.
    pub(super) fn insert(
        &mut self,
        key: MatchKey,
        value: T,
        place: impl FnOnce(&VecDeque<T>) -> usize,
    ) {
        let spare = &mut self.spare;
        let queue = self.by_key.entry(key);
        let queue = queue.or_insert_with(|| spare.pop().unwrap_or_default());
        queue.insert(place(queue), value);
    }

    /// What `take` makes of the queue of `key`, out of which it may take something; none where there is no queue.
    pub(super) fn take_from<R>(
        &mut self,
        key: &MatchKey,
        take: impl FnOnce(&mut VecDeque<T>) -> R,
    ) -> Option<R> {
        let queue = self.by_key.get_mut(key)?;
        let taken = take(queue);
        if queue.is_empty()
            && let Some(queue) = self.by_key.remove(key)
            && self.spare.len() < Self::SPARE
            && queue.capacity() <= Self::SPARE_ROOM
        {
            self.spare.push(queue);
        }
        Some(taken)
    }

    /// Keeps no more room than what waits needs.
    pub(super) fn shrink(&mut self) {
        self.by_key.shrink_to_fit();
        self.spare = Vec::new();
    }
}
