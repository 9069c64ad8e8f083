//! Where an event without a serial fell between those that have one.

use std::collections::VecDeque;

use crate::audit::record::Serial;
use crate::clock::KtimeNs;
use crate::correlate::fragment;
use crate::probe::observation::Observation;

/// When the events with a serial happened, as far as is known, for the last [`Neighbours::CAPACITY`] of them.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// In the order of time, in which they nearly come.
    by_time: VecDeque<Drawn>,
}

#[derive(Clone, Copy, Debug)]
struct Drawn {
    at: KtimeNs,
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
        let drawn = Drawn { at, serial, entry };
        let place = self.first_from(at);
        match self.by_time.get_mut(place) {
            Some(same) if same.at == at => *same = drawn,
            _ => self.by_time.insert(place, drawn),
        }
        if self.by_time.len() > Self::CAPACITY {
            self.by_time.pop_front();
        }
    }

    /// The place of the first that is not before `at`.
    fn first_from(&self, at: KtimeNs) -> usize {
        self.by_time.partition_point(|drawn| drawn.at < at)
    }

    /// The serials of the last event before `at` and of the first after it.
    pub(super) fn around(&self, at: KtimeNs) -> (Option<Serial>, Option<Serial>) {
        let first = self.first_from(at);
        let before = first
            .checked_sub(1)
            .and_then(|before| self.by_time.get(before));
        let after = self.by_time.get(first);
        match (
            before.map(|drawn| drawn.serial),
            after.map(|drawn| drawn.serial),
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
        let end = self.by_time.partition_point(|drawn| drawn.at <= over);
        let before = self.by_time.range(..end).rev().take(Self::REACH);
        let before = before.filter(|drawn| drawn.entry.is_some());
        let after = self
            .by_time
            .range(self.first_from(begun)..)
            .take(Self::REACH);
        let after = after.filter(|drawn| drawn.entry.is_some_and(|entry| entry >= begun));
        let highest =
            |one: Serial, other: Serial| if one.ahead_of(other) > 0 { one } else { other };
        let lowest = |one: Serial, other: Serial| if one.ahead_of(other) < 0 { one } else { other };
        let below = before.map(|drawn| drawn.serial).reduce(highest)?;
        let above = after.map(|drawn| drawn.serial).reduce(lowest)?;
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
        for drawn in self.by_time.iter().rev().take(4_096) {
            let ahead = drawn.serial.ahead_of(serial);
            let side = if ahead < 0 { &mut below } else { &mut above };
            let serials = ahead.unsigned_abs();
            if (1..=reach).contains(&serials)
                && side.is_none_or(|nearest| serials < nearest.serials)
            {
                *side = Some(Neighbour {
                    at: drawn.at,
                    serials,
                });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_lie_in_the_order_of_time_however_they_come() {
        let mut neighbours = Neighbours::default();
        for at in [30, 10, 20, 40] {
            neighbours.note(KtimeNs(at), None, Serial(at as u32));
        }
        let around = |at| neighbours.around(KtimeNs(at));
        assert_eq!(around(5), (None, Some(Serial(10))));
        assert_eq!(around(20), (Some(Serial(10)), Some(Serial(20))));
        assert_eq!(around(25), (Some(Serial(20)), Some(Serial(30))));
        assert_eq!(around(41), (Some(Serial(40)), None));
    }

    #[test]
    fn of_too_many_the_oldest_are_forgotten() {
        let mut neighbours = Neighbours::default();
        let most = Neighbours::CAPACITY as u64;
        for at in 0..most + 2 {
            neighbours.note(KtimeNs(at), None, Serial(at as u32));
        }
        // At the same time there is one.
        neighbours.note(KtimeNs(most), None, Serial(most as u32 + 7));
        let around = |at| neighbours.around(KtimeNs(at));
        assert_eq!(around(2), (None, Some(Serial(2))));
        assert_eq!(around(most).1, Some(Serial(most as u32 + 7)));
    }
}
