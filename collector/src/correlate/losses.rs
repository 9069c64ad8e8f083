//! What was lost, counted by cause, and told as one loss for each run of it.
//!
//! Owns the counts and how often they are told: a storm makes a line or two a second, never one per record. There are two
//! kinds of loss. What somebody counted (the kernel's `lost`, a full queue, a full ring) is told a second later. Events
//! that were settled without the audit stream are told when a second has passed without another of that cause, and every
//! ten seconds while there are more. Each kind adds up to its counts in the account: [`Losses::totals`], and
//! [`Crosscheck::by_cause`](crate::account::Crosscheck::by_cause).
//!
//! Bounds: one untold run per cause and unit.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use crate::audit::gaps::Gap;
use crate::audit::record::Serial;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::neighbours::Neighbours;
use crate::event::{Cause, Loss, LossUnit};

/// Losses by cause, and those not told yet.
#[derive(Debug, Default)]
pub(super) struct Losses {
    totals: BTreeMap<Cause, u64>,
    counted: BTreeMap<(Cause, LossUnit), Run>,
    settled: BTreeMap<Cause, Run>,
}

/// Losses of one cause, one after the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When the first and the last was added.
    added: (KtimeNs, KtimeNs),
    /// From when to when they happened.
    moments: (KtimeNs, KtimeNs),
    /// The same on the wall clock, by the stamps where they have one.
    span: (TimeMs, TimeMs),
    serials: Option<(Serial, Serial)>,
    count: u64,
    /// None of what was merely counted.
    recovered: Option<u64>,
}

/// An event that was given back.
pub(super) struct GivenBackEvent {
    pub(super) cause: Cause,
    pub(super) serial: Option<Serial>,
    pub(super) time: TimeMs,
    pub(super) taken: KtimeNs,
}

impl Losses {
    const PAUSE: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);

    /// `count` of them were lost between `from` and `to`.
    pub(super) fn count(
        &mut self,
        cause: Cause,
        count: u64,
        unit: LossUnit,
        (from, to): (KtimeNs, KtimeNs),
        offset: RealtimeOffset,
    ) {
        *self.totals.entry(cause).or_default() += count;
        let run = Run {
            added: (to, to),
            moments: (from, to),
            span: (offset.wall(from), offset.wall(to)),
            serials: None,
            count,
            recovered: None,
        };
        (self.counted.entry((cause, unit)))
            .and_modify(|untold| untold.join(run))
            .or_insert(run);
    }

    /// The audit stream does not have this event, and eBPF does.
    pub(super) fn given_back(&mut self, event: &GivenBackEvent, now: KtimeNs) {
        let run = Run {
            added: (now, now),
            moments: (event.taken, event.taken),
            span: (event.time, event.time),
            serials: event.serial.map(|serial| (serial, serial)),
            count: 1,
            recovered: Some(1),
        };
        self.settle(event.cause, run);
    }

    /// Neither witness has `unrecovered` of the events that left a hole in the serials; the others were given back before.
    pub(super) fn gap(
        &mut self,
        cause: Cause,
        gap: &Gap,
        unrecovered: u64,
        moments: (KtimeNs, KtimeNs),
        now: KtimeNs,
    ) {
        let run = Run {
            added: (now, now),
            moments,
            span: (gap.before.time, gap.after.time),
            serials: Some((gap.first, gap.last)),
            count: unrecovered,
            recovered: Some(0),
        };
        if unrecovered > 0 || self.settled.contains_key(&cause) {
            self.settle(cause, run);
        }
    }

    /// What is to be told at `now`.
    pub(super) fn due(
        &mut self,
        now: KtimeNs,
        offset: RealtimeOffset,
        neighbours: &Neighbours,
    ) -> Vec<Loss> {
        let since = |at: KtimeNs| now.since(at);
        let counted = (self.counted).extract_if(.., |_, run| since(run.added.0) >= Self::PAUSE);
        let settled = (self.settled).extract_if(.., |_, run| {
            since(run.added.1) >= Self::PAUSE || since(run.added.0) >= Self::LONGEST
        });
        let settled = settled.map(|(cause, run)| ((cause, LossUnit::Events), run));
        let due = counted.chain(settled);
        due.map(|((cause, unit), run)| run.told(cause, unit, offset.wall(now), neighbours))
            .collect()
    }

    /// What has not been told.
    pub(super) fn rest(
        &mut self,
        now: KtimeNs,
        offset: RealtimeOffset,
        neighbours: &Neighbours,
    ) -> Vec<Loss> {
        let counted = mem::take(&mut self.counted).into_iter();
        let settled = mem::take(&mut self.settled).into_iter();
        let settled = settled.map(|(cause, run)| ((cause, LossUnit::Events), run));
        let rest = counted.chain(settled);
        rest.map(|((cause, unit), run)| run.told(cause, unit, offset.wall(now), neighbours))
            .collect()
    }

    /// What somebody counted, by cause.
    pub(super) const fn totals(&self) -> &BTreeMap<Cause, u64> {
        &self.totals
    }

    fn settle(&mut self, cause: Cause, run: Run) {
        (self.settled.entry(cause))
            .and_modify(|untold| untold.join(run))
            .or_insert(run);
    }
}

impl Run {
    fn join(&mut self, other: Self) {
        self.added.1 = self.added.1.max(other.added.1);
        self.moments = widest(self.moments, other.moments);
        self.span = widest(self.span, other.span);
        self.serials = match (self.serials, other.serials) {
            (Some((first, last)), Some((other_first, other_last))) => Some((
                if other_first.ahead_of(first) < 0 {
                    other_first
                } else {
                    first
                },
                if other_last.ahead_of(last) > 0 {
                    other_last
                } else {
                    last
                },
            )),
            (serials, others) => serials.or(others),
        };
        self.count += other.count;
        self.recovered = self.recovered.zip(other.recovered).map(|(a, b)| a + b);
    }

    fn told(self, cause: Cause, unit: LossUnit, time: TimeMs, neighbours: &Neighbours) -> Loss {
        let (from, to) = self.moments;
        let between = match self.serials {
            Some(_) => (None, None),
            None => (neighbours.around(from).0, neighbours.around(to).1),
        };
        Loss {
            time,
            cause,
            count: self.count,
            unit,
            recovered: self.recovered,
            serials: self.serials,
            between,
            span: Some(self.span),
        }
    }
}

fn widest<T: Ord>((from, to): (T, T), (other_from, other_to): (T, T)) -> (T, T) {
    (from.min(other_from), to.max(other_to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Stamp;

    const OFFSET: RealtimeOffset = RealtimeOffset(0);

    fn at(ms: u64) -> KtimeNs {
        KtimeNs(ms * 1_000_000)
    }

    fn given_back(ms: u64, serial: Option<u32>) -> GivenBackEvent {
        GivenBackEvent {
            cause: Cause::RateLimit,
            serial: serial.map(Serial),
            time: TimeMs(ms),
            taken: at(ms),
        }
    }

    fn due(losses: &mut Losses, ms: u64) -> Vec<Loss> {
        losses.due(at(ms), OFFSET, &Neighbours::default())
    }

    #[test]
    fn a_storm_is_told_once_when_it_is_over_and_names_its_ends() {
        let mut losses = Losses::default();
        for n in 0..900 {
            let (ms, serial) = (1_000 + n, u32::MAX - 450 + 7);
            let serial = serial.wrapping_add(n as u32);
            losses.given_back(&given_back(ms, (n > 5).then_some(serial)), at(5_000 + n));
            assert_eq!(due(&mut losses, 5_000 + n), []);
        }
        let gap = Gap {
            first: Serial(10_000),
            last: Serial(10_004),
            count: 5,
            before: Stamp {
                time: TimeMs(1_500),
                serial: Serial(9_999),
            },
            after: Stamp {
                time: TimeMs(2_500),
                serial: Serial(10_005),
            },
            noticed: at(6_000),
        };
        losses.gap(Cause::RateLimit, &gap, 2, (at(1_500), at(2_500)), at(6_000));
        assert_eq!(due(&mut losses, 6_999), []);
        let told = due(&mut losses, 7_000);
        let [loss] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((loss.count, loss.recovered), (902, Some(900)));
        assert_eq!(loss.span, Some((TimeMs(1_000), TimeMs(2_500))));
        assert_eq!(
            loss.serials,
            Some((Serial(u32::MAX - 437), Serial(10_004))),
            "across the wrap"
        );
        assert_eq!(due(&mut losses, 9_000), []);
    }

    #[test]
    fn what_never_ends_is_told_every_ten_seconds() {
        let mut losses = Losses::default();
        let mut told = Vec::new();
        for ms in (0..60_000).step_by(100) {
            losses.given_back(&given_back(ms, None), at(ms));
            told.extend(due(&mut losses, ms));
        }
        assert_eq!(told.len(), 5, "{told:?}");
        told.extend(losses.rest(at(60_000), OFFSET, &Neighbours::default()));
        let count: u64 = told.iter().map(|loss| loss.count).sum();
        assert_eq!(count, 600);
    }

    #[test]
    fn what_is_counted_keeps_its_unit_and_adds_up() {
        let mut losses = Losses::default();
        for ms in 0..100 {
            let moments = (at(ms), at(ms + 1));
            losses.count(Cause::WindowFull, 1, LossUnit::Events, moments, OFFSET);
            losses.count(
                Cause::WindowFull,
                2,
                LossUnit::Observations,
                moments,
                OFFSET,
            );
            assert_eq!(due(&mut losses, ms + 1), []);
        }
        let told = due(&mut losses, 1_001);
        let counts: Vec<_> = told.iter().map(|loss| (loss.unit, loss.count)).collect();
        assert_eq!(
            counts,
            [(LossUnit::Events, 100), (LossUnit::Observations, 200)]
        );
        assert_eq!(told[0].span, Some((TimeMs(0), TimeMs(100))));
        assert_eq!(losses.totals()[&Cause::WindowFull], 300);
    }
}
