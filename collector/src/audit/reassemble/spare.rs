//! The memory of events that are gone, for later ones.
//!
//! An event begins in a small buffer, and gets a large one where it outgrows that: so what an event holds is never far from what it
//! needs, and a few long argument lists do not leave large buffers to events of a few hundred bytes.
//!
//! Bounds: [`Spare::SMALL`], [`Spare::LARGE`] and [`Spare::HASHES`]. Most events have less than 4 KiB.

use crate::audit::event::Records;
use crate::audit::record::Record;

/// Empty, with their memory.
#[derive(Default)]
pub(super) struct Spare {
    small: Kept<Records>,
    large: Kept<Records>,
    hashes: Kept<Vec<u64>>,
}

/// Buffers of one kind.
struct Kept<T> {
    buffers: Vec<T>,
    /// What they take in all.
    bytes: usize,
}

/// What may be kept.
struct Bound {
    /// Of one buffer.
    each: usize,
    /// Of all together.
    all: usize,
}

impl Spare {
    /// What events begin in.
    const SMALL: Bound = Bound {
        each: 24 << 10,
        all: 12 << 20,
    };
    /// What those go on in that outgrow it.
    const LARGE: Bound = Bound {
        each: 256 << 10,
        all: 4 << 20,
    };
    /// Hashes of records.
    const HASHES: Bound = Bound {
        each: 24 << 10,
        all: 1 << 20,
    };

    /// For the records of an event that begins.
    pub(super) fn records(&mut self) -> Records {
        self.small.take()
    }

    /// For the hashes of an event that begins.
    pub(super) fn hashes(&mut self) -> Vec<u64> {
        self.hashes.take()
    }

    /// `record` is to be added to `records`: moves them where they would grow out of what is small.
    pub(super) fn make_room(&mut self, records: &mut Records, record: &Record<'_>) {
        let grown = 2 * records.capacity();
        if records.has_room(record) || grown.max(record.body.len()) <= Self::SMALL.each {
            return;
        }
        let larger = self.large.buffers.iter().enumerate();
        let larger = larger.filter(|(_, large)| large.capacity() > grown);
        let Some((place, _)) = larger.min_by_key(|(_, large)| large.capacity()) else {
            return;
        };
        let mut large = self.large.buffers.swap_remove(place);
        self.large.bytes -= large.capacity();
        large.append(records);
        self.keep(std::mem::replace(records, large));
    }

    /// Keeps the memory of records that nobody needs any more.
    pub(super) fn keep(&mut self, mut records: Records) {
        records.clear();
        if records.bytes() <= Self::SMALL.each {
            self.small.keep(records, &Self::SMALL);
        } else {
            self.large.keep(records, &Self::LARGE);
        }
    }

    /// The same for hashes.
    pub(super) fn keep_hashes(&mut self, mut hashes: Vec<u64>) {
        hashes.clear();
        self.hashes.keep(hashes, &Self::HASHES);
    }
}

/// Memory that can be used again.
trait Buffer: Default {
    /// What it takes.
    fn bytes(&self) -> usize;
}

impl Buffer for Records {
    fn bytes(&self) -> usize {
        self.capacity()
    }
}

impl Buffer for Vec<u64> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<u64>()
    }
}

impl<T: Buffer> Kept<T> {
    fn take(&mut self) -> T {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.bytes();
        buffer
    }

    fn keep(&mut self, buffer: T, bound: &Bound) {
        let bytes = buffer.bytes();
        if bytes > 0 && bytes <= bound.each && self.bytes + bytes <= bound.all {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            buffers: Vec::new(),
            bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;

    fn record(body: &[u8]) -> Record<'_> {
        Record {
            body,
            ..netlink_record(1309, b"audit(1.000:1): ").unwrap()
        }
    }

    fn filled(spare: &mut Spare, body: &[u8], n_records: usize) -> Records {
        let mut records = spare.records();
        for _ in 0..n_records {
            spare.make_room(&mut records, &record(body));
            records.push(&record(body));
        }
        records
    }

    #[test]
    fn an_event_that_outgrows_its_buffer_goes_on_in_one_that_did_before() {
        let mut spare = Spare::default();
        let body = [b'x'; 7_500];
        let first = filled(&mut spare, &body, 12);
        let capacity = first.capacity();
        assert!(capacity > Spare::SMALL.each);
        spare.keep(first);
        let small = filled(&mut spare, b"few", 1);
        assert!(small.capacity() < 4_096, "the large one is for others");
        spare.keep(small);
        let second = filled(&mut spare, &body, 12);
        assert_eq!(second.capacity(), capacity);
        assert_eq!(second, [record(&body); 12].into_iter().collect());
        let kept = |kept: &Kept<Records>| (kept.buffers.len(), kept.bytes > 0);
        assert_eq!(kept(&spare.small), (1, true));
        assert_eq!(kept(&spare.large), (0, false));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spare = Spare::default();
        for n_records in [1, 12, 80] {
            for _ in 0..2_000 {
                let mut fresh = Spare::default();
                spare.keep(filled(&mut fresh, &[b'x'; 7_500], n_records));
            }
        }
        for (kept, bound) in [(&spare.small, Spare::SMALL), (&spare.large, Spare::LARGE)] {
            let each = kept.buffers.iter().map(Records::capacity);
            assert!(each.clone().max() <= Some(bound.each));
            assert_eq!(each.sum::<usize>(), kept.bytes);
            // As much as there is room for.
            assert!(kept.bytes <= bound.all && kept.bytes + bound.each > bound.all);
        }
        for _ in 0..200_000 {
            spare.keep_hashes(vec![0; 8]);
        }
        spare.keep_hashes(vec![0; Spare::HASHES.each]);
        assert_eq!(spare.hashes.bytes, Spare::HASHES.all);
        assert_eq!(spare.hashes.buffers.len(), Spare::HASHES.all / 64);
    }
}
