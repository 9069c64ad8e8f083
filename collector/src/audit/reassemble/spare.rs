//! The memory of events that are gone, for later ones.
//!
//! An event begins in a small buffer, and gets a large one where it outgrows that: so what an event holds is never far from what it
//! needs, and a few long argument lists do not leave large buffers to events of a few hundred bytes.
//!
//! Bounds: [`Spare::SMALL`] and [`Spare::LARGE`]. Most events have less than 4 KiB.

use crate::audit::event::Records;
use crate::audit::record::Record;

/// Empty, with their memory.
#[derive(Default)]
pub(super) struct Spare {
    small: Vec<Records>,
    large: Vec<Records>,
    hashes: Vec<Vec<u64>>,
}

/// How many buffers are kept, and of how many bytes at most.
struct Bound {
    buffers: usize,
    bytes: usize,
}

impl Spare {
    /// What events begin in: 12 MiB at most.
    const SMALL: Bound = Bound {
        buffers: 512,
        bytes: 24 << 10,
    };
    /// What those go on in that outgrow it: 4 MiB at most.
    const LARGE: Bound = Bound {
        buffers: 16,
        bytes: 256 << 10,
    };

    /// For the records of an event that begins.
    pub(super) fn records(&mut self) -> Records {
        self.small.pop().unwrap_or_default()
    }

    /// For the hashes of an event that begins.
    pub(super) fn hashes(&mut self) -> Vec<u64> {
        self.hashes.pop().unwrap_or_default()
    }

    /// `record` is to be added to `records`: moves them where they would grow out of what is small.
    pub(super) fn make_room(&mut self, records: &mut Records, record: &Record<'_>) {
        let grown = 2 * records.capacity();
        if records.has_room(record) || grown.max(record.body.len()) <= Self::SMALL.bytes {
            return;
        }
        let larger = self.large.iter().enumerate();
        let larger = larger.filter(|(_, large)| large.capacity() > grown);
        let Some((place, _)) = larger.min_by_key(|(_, large)| large.capacity()) else {
            return;
        };
        let mut large = self.large.swap_remove(place);
        large.append(records);
        self.keep(std::mem::replace(records, large));
    }

    /// Keeps the memory of records that nobody needs any more.
    pub(super) fn keep(&mut self, mut records: Records) {
        let (kept, bound) = if records.capacity() <= Self::SMALL.bytes {
            (&mut self.small, Self::SMALL)
        } else {
            (&mut self.large, Self::LARGE)
        };
        if kept.len() < bound.buffers && records.capacity() <= bound.bytes {
            records.clear();
            kept.push(records);
        }
    }

    /// The same for hashes.
    pub(super) fn keep_hashes(&mut self, mut hashes: Vec<u64>) {
        let bytes = hashes.capacity() * size_of::<u64>();
        if self.hashes.len() < Self::SMALL.buffers && bytes <= Self::SMALL.bytes {
            hashes.clear();
            self.hashes.push(hashes);
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
        assert!(capacity > Spare::SMALL.bytes);
        spare.keep(first);
        let small = filled(&mut spare, b"few", 1);
        assert!(small.capacity() < 4_096, "the large one is for others");
        spare.keep(small);
        let second = filled(&mut spare, &body, 12);
        assert_eq!(second.capacity(), capacity);
        assert_eq!(second, [record(&body); 12].into_iter().collect());
        assert_eq!((spare.small.len(), spare.large.len()), (1, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spare = Spare::default();
        for (n_records, kept) in [
            (1, Spare::SMALL.buffers),
            (12, Spare::LARGE.buffers),
            (80, 0),
        ] {
            let mut fresh = Spare::default();
            for _ in 0..=kept {
                spare.keep(filled(&mut fresh, &[b'x'; 7_500], n_records));
            }
        }
        assert_eq!(spare.small.len(), Spare::SMALL.buffers);
        assert_eq!(spare.large.len(), Spare::LARGE.buffers);
        let held = |all: &[Records]| all.iter().map(Records::capacity).max();
        assert!(held(&spare.small) <= Some(Spare::SMALL.bytes));
        assert!(held(&spare.large) <= Some(Spare::LARGE.bytes));
        for _ in 0..=Spare::SMALL.buffers {
            spare.keep_hashes(vec![0; 8]);
        }
        spare.keep_hashes(vec![0; Spare::SMALL.bytes]);
        assert_eq!(spare.hashes.len(), Spare::SMALL.buffers);
    }
}
