//! The records of one event in one buffer.
//!
//! Records come and go by the million, so that what holds them is used again: whoever is done with an event gives its records back
//! ([`Records::clear`] keeps their memory).

use std::fmt;

use crate::audit::record::{Provenance, Record, RecordType, Stamp};

/// Records, one behind the other.
#[derive(Clone, Default)]
pub struct Records {
    text: Vec<u8>,
    places: Vec<Place>,
}

/// Where a record lies in the text: its node, body and enrichment follow each other.
#[derive(Clone, Copy)]
struct Place {
    record_type: RecordType,
    provenance: Provenance,
    stamp: Stamp,
    begin: usize,
    node_end: Option<usize>,
    body_end: usize,
    enrichment_end: Option<usize>,
}

/// Goes through [`Records`].
#[derive(Clone)]
pub struct Iter<'a> {
    text: &'a [u8],
    places: std::slice::Iter<'a, Place>,
}

impl Records {
    /// How many.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            text: &self.text,
            places: self.places.iter(),
        }
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.places.get(index).map(|place| place.record(&self.text))
    }

    /// The first.
    pub fn first(&self) -> Option<Record<'_>> {
        self.get(0)
    }

    /// Adds a copy of `record`.
    pub fn push(&mut self, record: &Record<'_>) {
        let begin = self.text.len();
        let node_end = record.node.map(|node| self.write(node));
        let body_end = self.write(record.body);
        let enrichment_end = record.enrichment.map(|enrichment| self.write(enrichment));
        self.places.push(Place {
            record_type: record.record_type,
            provenance: record.provenance,
            stamp: record.stamp,
            begin,
            node_end,
            body_end,
            enrichment_end,
        });
    }

    /// Whether `record` can be added to them in the memory they hold.
    pub fn has_room(&self, record: &Record<'_>) -> bool {
        let parts = [Some(record.body), record.node, record.enrichment];
        let length: usize = parts.into_iter().flatten().map(<[u8]>::len).sum();
        self.places.len() < self.places.capacity()
            && length <= self.text.capacity() - self.text.len()
    }

    /// Adds a copy of all of `others`.
    pub fn append(&mut self, others: &Self) {
        let behind = self.text.len();
        self.text.extend_from_slice(&others.text);
        let moved = others.places.iter().map(|place| place.moved(behind));
        self.places.extend(moved);
    }

    /// Puts them into the order of what `key` says of each; those of which it says the same stay in theirs.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl Fn(&Record<'_>) -> K) {
        let Self { text, places } = self;
        places.sort_by_key(|place| key(&place.record(text)));
    }

    /// Removes all, and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    /// How many bytes of memory they hold, filled or not.
    pub fn capacity(&self) -> usize {
        self.text.capacity() + self.places.capacity() * size_of::<Place>()
    }

    /// Where the text ends then.
    fn write(&mut self, part: &[u8]) -> usize {
        self.text.extend_from_slice(part);
        self.text.len()
    }
}

impl Place {
    /// Of the same text, `by` bytes further on.
    fn moved(&self, by: usize) -> Self {
        Self {
            begin: self.begin + by,
            node_end: self.node_end.map(|end| end + by),
            body_end: self.body_end + by,
            enrichment_end: self.enrichment_end.map(|end| end + by),
            ..*self
        }
    }

    fn record<'a>(&self, text: &'a [u8]) -> Record<'a> {
        let body = self.node_end.unwrap_or(self.begin);
        Record {
            record_type: self.record_type,
            stamp: self.stamp,
            node: self.node_end.map(|end| &text[self.begin..end]),
            body: &text[body..self.body_end],
            enrichment: self.enrichment_end.map(|end| &text[self.body_end..end]),
            provenance: self.provenance,
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.places.next().map(|place| place.record(self.text))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Records {
    type Item = Record<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> FromIterator<Record<'a>> for Records {
    fn from_iter<I: IntoIterator<Item = Record<'a>>>(all: I) -> Self {
        let mut records = Self::default();
        all.into_iter().for_each(|record| records.push(&record));
        records
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::record::Serial;
    use crate::clock::TimeMs;
    use crate::event::Cause;

    type Parts = (u16, Option<Vec<u8>>, Vec<u8>, Option<Vec<u8>>);

    fn record(parts: &Parts) -> Record<'_> {
        let (record_type, node, body, enrichment) = parts;
        Record {
            record_type: RecordType(*record_type),
            stamp: Stamp {
                time: TimeMs(u64::from(*record_type)),
                serial: Serial(1),
            },
            node: node.as_deref(),
            body,
            enrichment: enrichment.as_deref(),
            provenance: Provenance::Mirror(Cause::Displaced),
        }
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in_also_where_the_memory_was_used_before(
            before in proptest::collection::vec(any::<Parts>(), 0..4),
            parts in proptest::collection::vec(any::<Parts>(), 0..8),
        ) {
            let mut records: Records = before.iter().map(record).collect();
            let mut both = records.clone();
            records.clear();
            prop_assert!(records.is_empty());
            for parts in &parts {
                let (capacity, had_room) = (records.capacity(), records.has_room(&record(parts)));
                records.push(&record(parts));
                prop_assert_eq!(records.capacity() == capacity, had_room);
            }
            let mut expected: Vec<_> = parts.iter().map(record).collect();
            both.append(&records);
            prop_assert_eq!(both, before.iter().chain(&parts).map(record).collect());
            prop_assert_eq!(records.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(records.get(parts.len()), None);
            records.sort_by_key(|record| record.record_type);
            expected.sort_by_key(|record| record.record_type);
            prop_assert_eq!(records, expected.into_iter().collect());
        }
    }
}
