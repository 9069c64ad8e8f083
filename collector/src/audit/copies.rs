//! Copies of all records, taken in the kernel, beside what came of them by the audit stream.
//!
//! Owns which copy has been confirmed by its record and which has not. Two records may be the same to the byte: they are counted,
//! so that one of them confirms one copy. Knows nothing of why a record did not come. No I/O, no clock.
//!
//! Bounds: [`Copies::MAX_BYTES`] of unconfirmed copies; [`Copies::MAX_NOTES`] records remembered whose copy has not come, or
//! whose copy was taken for the record, each for [`Copies::REMEMBERED`] at most.

use std::collections::hash_map::{HashMap, RandomState};
use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher as _;
use std::time::Duration;

use crate::clock::KtimeNs;

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The record's type.
    pub record_type: u16,
    /// Its text as in a datagram.
    pub text: Box<[u8]>,
    /// When it was taken.
    pub taken: KtimeNs,
}

/// What a record of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// One that is new.
    New,
    /// One whose copy has been taken for it already.
    Late,
}

/// The copies that wait for their record.
#[derive(Debug, Default)]
pub struct Copies {
    hasher: RandomState,
    next: u64,
    /// In the order in which they were taken.
    waiting: BTreeMap<u64, Copy>,
    bytes: usize,
    by_text: HashMap<u64, VecDeque<u64>>,
    /// By text: how many records came whose copy did not, or, below zero, copies taken for records that did not come.
    surplus: HashMap<u64, i32>,
    /// When each of those was noted, and which way.
    notes: VecDeque<(KtimeNs, u64, i32)>,
    confirmed: u64,
}

impl Copies {
    /// Bytes of copies that wait; beyond, the oldest goes unjudged.
    pub const MAX_BYTES: usize = 64 << 20;
    /// Notes of records and copies without each other.
    pub const MAX_NOTES: usize = 262_144;
    /// How long one is kept.
    pub const REMEMBERED: Duration = Duration::from_secs(60);

    /// A copy. Returns how many had to be given up for it, unjudged.
    pub fn copied(&mut self, copy: Copy) -> u64 {
        let text = self.hash(copy.record_type, &copy.text);
        if self.settle(text, 1) {
            self.confirmed += 1;
            return 0;
        }
        self.bytes += weight(&copy);
        self.by_text.entry(text).or_default().push_back(self.next);
        self.waiting.insert(self.next, copy);
        self.next += 1;
        let mut unjudged = 0;
        while self.bytes > Self::MAX_BYTES && self.take_oldest().is_some() {
            unjudged += 1;
        }
        unjudged
    }

    /// A record that the stream brought.
    pub fn came(&mut self, record_type: u16, text: &[u8], now: KtimeNs) -> Came {
        let text = self.hash(record_type, text);
        if self.take(text).is_some() {
            self.confirmed += 1;
            return Came::New;
        }
        if self.settle(text, -1) {
            return Came::Late;
        }
        self.note(text, 1, now);
        Came::New
    }

    /// A record that is known to be lost: its copy waits no longer.
    pub fn lost(&mut self, record_type: u16, text: &[u8]) {
        let text = self.hash(record_type, text);
        self.confirmed += u64::from(self.take(text).is_some());
    }

    /// Takes the oldest copy for which `due` holds; none where the oldest is not due. From then on it stands for its record.
    pub fn take_due(&mut self, now: KtimeNs, due: impl Fn(&Copy) -> bool) -> Option<Copy> {
        let (_, oldest) = self.waiting.first_key_value()?;
        if !due(oldest) {
            return None;
        }
        let copy = self.take_oldest()?;
        let text = self.hash(copy.record_type, &copy.text);
        self.note(text, -1, now);
        Some(copy)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: KtimeNs) {
        while let Some((at, text, way)) = self.notes.front().copied()
            && (now.since(at) > Self::REMEMBERED || self.notes.len() > Self::MAX_NOTES)
        {
            self.notes.pop_front();
            self.settle(text, way);
        }
    }

    /// How many stood for a record that came, or was told to be lost.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn hash(&self, record_type: u16, text: &[u8]) -> u64 {
        self.hasher.hash_one((record_type, text))
    }

    fn note(&mut self, text: u64, way: i32, now: KtimeNs) {
        *self.surplus.entry(text).or_default() += way;
        self.notes.push_back((now, text, way));
    }

    /// Takes one from what there is too much of in this way; false where there is nothing.
    fn settle(&mut self, text: u64, way: i32) -> bool {
        let Some(surplus) = self.surplus.get_mut(&text) else {
            return false;
        };
        if surplus.signum() != way {
            return false;
        }
        *surplus -= way;
        if *surplus == 0 {
            self.surplus.remove(&text);
        }
        true
    }

    /// The oldest copy of this text.
    fn take(&mut self, text: u64) -> Option<Copy> {
        let queue = self.by_text.get_mut(&text)?;
        let number = queue.pop_front();
        if queue.is_empty() {
            self.by_text.remove(&text);
        }
        let copy = self.waiting.remove(&number?)?;
        self.bytes -= weight(&copy);
        Some(copy)
    }

    fn take_oldest(&mut self) -> Option<Copy> {
        let (_, oldest) = self.waiting.first_key_value()?;
        let text = self.hash(oldest.record_type, &oldest.text);
        // Of one text the oldest comes first.
        self.take(text)
    }
}

/// What a copy takes in memory, about.
fn weight(copy: &Copy) -> usize {
    size_of::<Copy>() + copy.text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> KtimeNs {
        KtimeNs(ms * 1_000_000)
    }

    fn copy(ms: u64, text: &str) -> Copy {
        Copy {
            record_type: 1300,
            text: text.as_bytes().into(),
            taken: at(ms),
        }
    }

    #[test]
    fn a_record_confirms_its_copy_whichever_comes_first() {
        let mut copies = Copies::default();
        copies.copied(copy(1, "a"));
        assert_eq!(copies.came(1300, b"a", at(2)), Came::New);
        assert_eq!(copies.came(1300, b"b", at(3)), Came::New);
        copies.copied(copy(3, "b"));
        assert!(copies.is_empty());
        assert_eq!(copies.surplus, HashMap::new());
    }

    #[test]
    fn of_two_alike_one_may_be_lost() {
        let mut copies = Copies::default();
        copies.copied(copy(1, "a"));
        copies.copied(copy(2, "a"));
        assert_eq!(copies.came(1300, b"a", at(3)), Came::New);
        assert_eq!(copies.take_due(at(4), |_| false), None);
        assert_eq!(copies.take_due(at(4), |_| true), Some(copy(2, "a")));
        // It comes after all, once; another one would be a record of its own.
        assert_eq!(copies.came(1300, b"a", at(5)), Came::Late);
        assert_eq!(copies.came(1300, b"a", at(6)), Came::New);
    }

    #[test]
    fn what_is_known_to_be_lost_does_not_wait() {
        let mut copies = Copies::default();
        copies.copied(copy(1, "a"));
        copies.lost(1300, b"a");
        copies.lost(1300, b"never copied");
        assert!(copies.is_empty());
    }

    #[test]
    fn notes_and_copies_are_bounded() {
        let mut copies = Copies::default();
        for n in 0..10_u32 {
            copies.came(1300, &n.to_le_bytes(), at(1));
        }
        copies.tick(at(61_002));
        assert!(copies.surplus.is_empty() && copies.notes.is_empty());
        let long = "x".repeat(9_000_000);
        let unjudged: u64 = (0..10)
            .map(|n| copies.copied(copy(n, &format!("{n}{long}"))))
            .sum();
        assert_eq!((unjudged, copies.len()), (3, 7));
    }

    proptest! {
        /// However copies and records interleave: what is left over are the texts that came less often than they were copied.
        #[test]
        fn what_is_left_is_what_did_not_come(
            copied in proptest::collection::vec(0..4_u8, 0..20),
            came in proptest::collection::vec(0..4_u8, 0..20),
            turns in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let mut copies = Copies::default();
            let (mut first, mut second) = (copied.iter(), came.iter());
            for turn in turns.into_iter().chain([true; 20]).chain([false; 20]) {
                if turn {
                    if let Some(text) = first.next() {
                        copies.copied(Copy { record_type: 1, text: [*text].into(), taken: at(0) });
                    }
                } else if let Some(text) = second.next() {
                    prop_assert_eq!(copies.came(1, &[*text], at(0)), Came::New);
                }
            }
            let mut left = Vec::new();
            while let Some(copy) = copies.take_due(at(1), |_| true) {
                left.push(copy.text[0]);
            }
            left.sort_unstable();
            let mut expected = Vec::new();
            for text in 0..4 {
                let count = |of: &[u8]| of.iter().filter(|other| **other == text).count();
                let lost = count(&copied).saturating_sub(count(&came));
                expected.extend(std::iter::repeat_n(text, lost));
            }
            prop_assert_eq!(left, expected);
            prop_assert_eq!(copies.bytes, 0);
        }
    }
}
