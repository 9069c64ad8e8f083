//! Records that the kernel is known to send later than the rest of their event.
//!
//! While the daemon does not read, kauditd puts the record that it tried in vain behind those it does not try any more.
//!
//! Bounds: [`Behind::CAPACITY`] records, each for [`Behind::REMEMBERED`]; kauditd puts one behind per half a second.

use std::collections::VecDeque;
use std::time::Duration;

use super::Key;
use crate::clock::KtimeNs;

/// The records that are to come.
#[derive(Default)]
pub(super) struct Behind {
    records: VecDeque<(KtimeNs, Key, u64)>,
}

impl Behind {
    const CAPACITY: usize = 1_024;
    const REMEMBERED: Duration = Duration::from_secs(600);

    /// The record with this hash, of this event, is to come. It may be told more than once.
    pub(super) fn expect(&mut self, key: Key, hash: u64, now: KtimeNs) {
        self.came(&key, hash);
        if self.records.len() == Self::CAPACITY {
            self.records.pop_front();
        }
        self.records.push_back((now, key, hash));
    }

    /// Whether none is to come.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether one of this event is to come.
    pub(super) fn expects(&self, key: &Key) -> bool {
        self.records.iter().any(|(_, of, _)| of == key)
    }

    /// The record has come; whether it was the last one that its event waited for.
    pub(super) fn came(&mut self, key: &Key, hash: u64) -> bool {
        let before = self.records.len();
        self.records
            .retain(|(_, of, which)| (of, *which) != (key, hash));
        self.records.len() < before && !self.expects(key)
    }

    /// Forgets those that have not come for long.
    pub(super) fn forget(&mut self, now: KtimeNs) {
        let old = |at: &KtimeNs| now.since(*at) > Self::REMEMBERED;
        while self.records.front().is_some_and(|(at, _, _)| old(at)) {
            self.records.pop_front();
        }
    }
}
