//! Where an event without a serial fell between those that have one.

use std::collections::BTreeMap;

use crate::audit::record::Serial;
use crate::clock::KtimeNs;

/// When the events with a serial happened, as far as is known, for the last [`Neighbours::CAPACITY`] of them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_time: BTreeMap<KtimeNs, Serial>,
}

impl Neighbours {
    const CAPACITY: usize = 65_536;

    /// Notes that the kernel stamped `serial` at about `at`: a system call's exit, as that is when its serial is drawn.
    pub(super) fn note(&mut self, at: KtimeNs, serial: Serial) {
        self.by_time.insert(at, serial);
        if self.by_time.len() > Self::CAPACITY {
            self.by_time.pop_first();
        }
    }

    /// The serials of the last event before `at` and of the first after it.
    pub(super) fn around(&self, at: KtimeNs) -> (Option<Serial>, Option<Serial>) {
        let before = self.by_time.range(..at).next_back();
        let after = self.by_time.range(at..).next();
        match (
            before.map(|(_, serial)| *serial),
            after.map(|(_, serial)| *serial),
        ) {
            // Serials drawn at the same moment on two CPUs can be the other way round.
            (Some(before), Some(after)) if after.ahead_of(before) < 0 => {
                (Some(after), Some(before))
            }
            neighbours => neighbours,
        }
    }

    /// Between which times `serial` was drawn, by those of its nearest known neighbours within `reach` serials.
    pub(super) fn bracket(&self, serial: Serial, reach: i32) -> (Option<KtimeNs>, Option<KtimeNs>) {
        let mut below: Option<(i32, KtimeNs)> = None;
        let mut above: Option<(i32, KtimeNs)> = None;
        for (at, known) in self.by_time.iter().rev().take(4_096) {
            let distance = known.ahead_of(serial);
            if (-reach..0).contains(&distance)
                && below.is_none_or(|(nearest, _)| distance > nearest)
            {
                below = Some((distance, *at));
            }
            if (1..=reach).contains(&distance)
                && above.is_none_or(|(nearest, _)| distance < nearest)
            {
                above = Some((distance, *at));
            }
        }
        (below.map(|(_, at)| at), above.map(|(_, at)| at))
    }
}
