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

    /// The nearest known neighbours of `serial` below and above it, at most `reach` serials away.
    pub(super) fn bracket(
        &self,
        serial: Serial,
        reach: u32,
    ) -> (Option<Neighbour>, Option<Neighbour>) {
        let mut below: Option<Neighbour> = None;
        let mut above: Option<Neighbour> = None;
        for (at, known) in self.by_time.iter().rev().take(4_096) {
            let ahead = known.ahead_of(serial);
            let side = if ahead < 0 { &mut below } else { &mut above };
            let serials = ahead.unsigned_abs();
            if (1..=reach).contains(&serials)
                && side.is_none_or(|nearest| serials < nearest.serials)
            {
                *side = Some(Neighbour { at: *at, serials });
            }
        }
        (below, above)
    }
}

/// An event whose serial is known to lie near another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbour {
    /// When its serial was drawn.
    pub(super) at: KtimeNs,
    /// How many serials away it is, at least 1.
    pub(super) serials: u32,
}
