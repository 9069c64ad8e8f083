//! Settled events by a value that others choose: rule keys, users, calls.
//!
//! Owns which values have a row of their own. There are never more than `ROWS` rows, whatever comes: a value without a row
//! is counted in `other`, and costs each row one of the credits it has earned by its own events; a row that has none
//! left moves into `other` whole. So a value that has more than one in `ROWS + 1` of all events has a row, however many
//! others come in between (Misra and Gries, 1982), and nothing is ever lost from the sums.

use std::collections::HashMap;
use std::hash::Hash;

/// Expected events that are settled, by what became of them. None of these ever goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Both witnesses reported them.
    pub matched: u64,
    /// eBPF gave them back.
    pub backfilled: u64,
    /// Neither witness has them.
    pub unrecovered: u64,
    /// Nobody expects them any more.
    pub withdrawn: u64,
}

impl Tally {
    /// All of them.
    pub const fn expected(&self) -> u64 {
        self.matched + self.backfilled + self.unrecovered + self.withdrawn
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.backfilled += other.backfilled;
        self.unrecovered += other.unrecovered;
        self.withdrawn += other.withdrawn;
    }
}

/// The table. Identity: all its rows, `other` and `unknown` add up to the ledger's totals.
#[derive(Clone, Debug)]
pub struct Breakdown<V, const ROWS: usize> {
    rows: HashMap<V, Row>,
    /// Values without a row.
    other: Tally,
    /// Events of which the value is not known: nothing is left of them but a hole in the serials, or the rule is not known.
    unknown: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    tally: Tally,
    credit: u64,
}

impl<V, const ROWS: usize> Default for Breakdown<V, ROWS> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            other: Tally::default(),
            unknown: Tally::default(),
        }
    }
}

impl<V: Hash + Eq + Clone, const ROWS: usize> Breakdown<V, ROWS> {
    /// Adds `settled` to the row of `value`; none where it is not known.
    pub fn count(&mut self, value: Option<&V>, settled: Tally) {
        let Some(value) = value else {
            return self.unknown.add(settled);
        };
        if self.rows.len() == ROWS && !self.rows.contains_key(value) {
            self.other.add(settled);
            return self.charge(settled.expected());
        }
        let row = self.rows.entry(value.clone()).or_default();
        row.tally.add(settled);
        row.credit += settled.expected();
    }

    /// The values that have a row, most events first.
    pub fn rows(&self) -> Vec<(&V, Tally)>
    where
        V: Ord,
    {
        let mut rows: Vec<_> = (self.rows.iter())
            .map(|(value, row)| (value, row.tally))
            .collect();
        rows.sort_unstable_by(|(a, of_a), (b, of_b)| {
            of_b.expected().cmp(&of_a.expected()).then(a.cmp(b))
        });
        rows
    }

    /// What has no row.
    pub const fn other(&self) -> Tally {
        self.other
    }

    /// What cannot have one.
    pub const fn unknown(&self) -> Tally {
        self.unknown
    }

    /// Everything.
    pub fn total(&self) -> Tally {
        let mut total = self.other;
        total.add(self.unknown);
        for row in self.rows.values() {
            total.add(row.tally);
        }
        total
    }

    fn charge(&mut self, events: u64) {
        let other = &mut self.other;
        self.rows.retain(|_, row| {
            row.credit = row.credit.saturating_sub(events);
            if row.credit == 0 {
                other.add(row.tally);
            }
            row.credit > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCHED: Tally = Tally {
        matched: 1,
        backfilled: 0,
        unrecovered: 0,
        withdrawn: 0,
    };

    #[test]
    fn a_flood_of_values_grows_nothing_and_hides_no_frequent_one() {
        let mut table = Breakdown::<u32, 8>::default();
        // One in five is the same; the flood comes first, and between.
        for n in 0..10_000 {
            let value = if n > 1_000 && n % 5 == 0 {
                7
            } else {
                1_000 + n
            };
            table.count(Some(&value), MATCHED);
            assert!(table.rows.len() <= 8);
            assert_eq!(table.total().matched, u64::from(n) + 1);
        }
        let rows = table.rows();
        assert_eq!(*rows[0].0, 7);
        assert!(rows[0].1.matched > 1_700, "{rows:?}");
    }

    #[test]
    fn what_leaves_its_row_is_in_other_with_all_it_had() {
        let mut table = Breakdown::<&str, 1>::default();
        let backfilled = Tally {
            backfilled: 2,
            ..Tally::default()
        };
        table.count(Some(&"first"), backfilled);
        table.count(Some(&"second"), MATCHED);
        assert_eq!(table.rows(), [(&"first", backfilled)]);
        table.count(Some(&"third"), MATCHED);
        assert!(table.rows().is_empty());
        assert_eq!(table.other().backfilled, 2);
        assert_eq!(table.other().matched, 2);
        table.count(Some(&"fourth"), MATCHED);
        table.count(None, MATCHED);
        assert_eq!(table.rows(), [(&"fourth", MATCHED)]);
        assert_eq!(table.unknown(), MATCHED);
        assert_eq!(table.total().expected(), 6);
    }
}
