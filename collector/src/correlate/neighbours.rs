//! Where an event without a serial fell between those that have one.

use std::collections::BTreeMap;

use crate::audit::record::Serial;
use crate::clock::KtimeNs;
use crate::correlate::fragment;
use crate::probe::observation::Observation;

/// When the events with a serial happened, as far as is known, for the last [`Neighbours::CAPACITY`] of them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_time: BTreeMap<KtimeNs, Drawn>,
}

#[derive(Clone, Copy, Debug)]
struct Drawn {
    serial: Serial,
    /// When its call entered; none where that it is this call's is a guess.
    entry: Option<KtimeNs>,
}

impl Neighbours {
    const CAPACITY: usize = 65_536;
    /// Calls looked at for a bound.
    const REACH: usize = 64;

    /// Notes that the kernel stamped `serial` at about `at`: a system call's exit, as that is when its serial is drawn.
    /// `entry` is when that call began, where the serial is surely its.
    pub(super) fn note(&mut self, at: KtimeNs, entry: Option<KtimeNs>, serial: Serial) {
        self.by_time.insert(at, Drawn { serial, entry });
        if self.by_time.len() > Self::CAPACITY {
            self.by_time.pop_first();
        }
    }

    /// The serials of the last event before `at` and of the first after it.
    pub(super) fn around(&self, at: KtimeNs) -> (Option<Serial>, Option<Serial>) {
        let before = self.by_time.range(..at).next_back();
        let after = self.by_time.range(at..).next();
        match (
            before.map(|(_, drawn)| drawn.serial),
            after.map(|(_, drawn)| drawn.serial),
        ) {
            // Serials drawn at the same moment on two CPUs can be the other way round.
            (Some(before), Some(after)) if after.ahead_of(before) < 0 => {
                (Some(after), Some(before))
            }
            neighbours => neighbours,
        }
    }

    /// Serials between which that of `observation` is, if the kernel drew one for it: of calls that were over before it
    /// began, and of such that began when it was over. Twins of one tick may be matched the other way round. None for a call that
    /// does not return, as it is not seen when it is over.
    pub(super) fn bounds(&self, observation: &Observation) -> Option<(Serial, Serial)> {
        observation.result?;
        let over = observation.entry.minus(fragment::TICK);
        let begun = observation.taken.plus(fragment::TICK);
        let before = self.by_time.range(..=over).rev().take(Self::REACH);
        let before = before.filter(|(_, drawn)| drawn.entry.is_some());
        let after = self.by_time.range(begun..).take(Self::REACH);
        let after = after.filter(|(_, drawn)| drawn.entry.is_some_and(|entry| entry >= begun));
        let highest =
            |one: Serial, other: Serial| if one.ahead_of(other) > 0 { one } else { other };
        let lowest = |one: Serial, other: Serial| if one.ahead_of(other) < 0 { one } else { other };
        let below = before.map(|(_, drawn)| drawn.serial).reduce(highest)?;
        let above = after.map(|(_, drawn)| drawn.serial).reduce(lowest)?;
        Some((below, above))
    }

    /// The nearest known neighbours of `serial` below and above it, at most `reach` serials away.
    pub(super) fn bracket(
        &self,
        serial: Serial,
        reach: u32,
    ) -> (Option<Neighbour>, Option<Neighbour>) {
        let mut below: Option<Neighbour> = None;
        let mut above: Option<Neighbour> = None;
        for (at, Drawn { serial: known, .. }) in self.by_time.iter().rev().take(4_096) {
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
