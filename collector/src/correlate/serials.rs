//! Which serials are accounted for, so that it can be told of a call that did not come that it never had one.
//!
//! The kernel draws an event's serial with the first record of it that finds room (kernel/audit.c `audit_log_start`): an event it
//! refused leaves no hole, and one that was lost behind that does.
//!
//! Bounds: [`Serials::CAPACITY`] runs; what is below them counts as missing.

use std::collections::BTreeMap;

use crate::audit::gaps::GapTracker;
use crate::audit::record::Serial;

/// Serials that came with an event of which it is known that no other call had it.
#[derive(Debug, Default)]
pub(super) struct Serials {
    /// The last to come, with its position: positions are serials that do not wrap.
    last: Option<(u64, Serial)>,
    /// Positions without one missing, from the first to the last of them.
    runs: BTreeMap<u64, u64>,
}

impl Serials {
    /// Holes between which something came, at most; the oldest are forgotten first.
    const CAPACITY: usize = 8_192;

    /// Takes notice of one.
    pub(super) fn came(&mut self, serial: Serial) {
        let position = self.position(serial).unwrap_or_else(|| {
            self.runs.clear();
            // One lap up, so that what is behind has a position too.
            (1 << 32) + u64::from(serial.0)
        });
        self.last = Some((position, serial));
        let below = self.runs.range(..=position).next_back();
        let (mut first, mut last) = (position, position);
        if let Some((run, end)) = below.map(|(run, end)| (*run, *end))
            && position <= end + 1
        {
            (first, last) = (run, end.max(position));
        }
        if let Some(end) = self.runs.remove(&(last + 1)) {
            last = end;
        }
        self.runs.insert(first, last);
        if self.runs.len() > Self::CAPACITY {
            self.runs.pop_first();
        }
    }

    /// Whether none is missing between these two.
    pub(super) fn none_missing(&self, (below, above): (Serial, Serial)) -> bool {
        let (Some(below), Some(above)) = (self.position(below), self.position(above)) else {
            return false;
        };
        let run = self.runs.range(..=below + 1).next_back();
        below < above && (below + 1 == above || run.is_some_and(|(_, end)| *end + 1 >= above))
    }

    /// None where nothing has come yet, or only of another boot.
    fn position(&self, serial: Serial) -> Option<u64> {
        let (position, last) = self.last?;
        let ahead = serial.ahead_of(last);
        (ahead.unsigned_abs() <= GapTracker::MAX_JUMP)
            .then(|| position.checked_add_signed(ahead.into()))?
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn none_is_missing_exactly_where_all_came_in_whatever_order_and_across_the_wrap(
            came in proptest::collection::vec(0_u32..60, 0..120),
            below in 0_u32..60,
            above in 0_u32..60,
            before_wrap in 0_u32..60,
        ) {
            let serial = |offset: u32| Serial((u32::MAX - before_wrap).wrapping_add(offset));
            let mut serials = Serials::default();
            for offset in &came {
                serials.came(serial(*offset));
            }
            let all: BTreeSet<u32> = came.into_iter().collect();
            let none_missing = below < above && (below + 1..above).all(|offset| all.contains(&offset));
            let told = serials.none_missing((serial(below), serial(above)));
            prop_assert_eq!(told, none_missing && !all.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_ago_counts_as_missing_and_another_boot_begins_anew() {
        let mut serials = Serials::default();
        for serial in 0..3 * Serials::CAPACITY as u32 {
            serials.came(Serial(2 * serial));
        }
        assert_eq!(serials.runs.len(), Serials::CAPACITY);
        assert!(!serials.none_missing((Serial(0), Serial(2))));
        serials.came(Serial(1_000_000_000));
        serials.came(Serial(1_000_000_001));
        assert_eq!(serials.runs.len(), 1);
        assert!(serials.none_missing((Serial(999_999_999), Serial(1_000_000_002))));
    }
}
