//! Holes in the serials of the audit stream.
//!
//! Owns which serials are missing and when that is judged: a serial may come late, because the kernel queues records
//! after it stamped them and in another order, so a hole is a [`Gap`] only when it has stayed open for the reorder window.
//! Knows nothing of records or causes, and only of one host's stream: auditd's own records
//! ([`RecordType::is_from_daemon`](crate::audit::record::RecordType::is_from_daemon)) have serials of another count and are
//! not to be shown to it.
//!
//! A gap says that at least one event per serial was stamped and lost whole. No gap does not say that all is there: a
//! refused record takes no serial (kernel/audit.c `audit_log_start`).
//!
//! A live stream may begin in the middle of an event: what the kernel queued behind that event's first records may have gone to nobody
//! before we listened, so a hole behind a stamp of before the beginning tells nothing.
//!
//! Bounds: [`GapTracker::MAX_HOLES`] open holes, and as many gaps judged early until the next tick.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::account::Serials;
use crate::audit::record::{Serial, Stamp};
use crate::clock::{KtimeNs, TimeMs};

/// Serials that were never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first serial missing.
    pub first: Serial,
    /// The last one.
    pub last: Serial,
    /// How many are missing: all from `first` to `last`, but where so many gaps were open that some had to be joined.
    pub count: u64,
    /// The stamp seen right before the gap.
    pub before: Stamp,
    /// The stamp seen right behind it.
    pub after: Stamp,
    /// When it was judged a gap.
    pub noticed: KtimeNs,
}

impl Gap {
    /// Makes one of this gap and a later one, where there are too many to keep each.
    pub fn join(&mut self, later: &Self) {
        *self = Self {
            last: later.last,
            after: later.after,
            count: self.count + later.count,
            noticed: later.noticed,
            ..*self
        };
    }

    /// What is missing now that `stamp` has come after all: none where it was not missing, or is one of a gap that had to be joined
    /// from several. Else the gaps that are left on either side of it.
    pub fn without(&self, stamp: Stamp) -> Option<[Option<Self>; 2]> {
        let (into, span) = (
            stamp.serial.ahead_of(self.first),
            self.last.ahead_of(self.first),
        );
        let is_joined = self.count != u64::from(span.unsigned_abs()) + 1;
        if into < 0 || into > span || is_joined {
            return None;
        }
        let left = Self {
            last: Serial(stamp.serial.0.wrapping_sub(1)),
            count: u64::from(into.unsigned_abs()),
            after: stamp,
            ..*self
        };
        let right = Self {
            first: Serial(stamp.serial.0.wrapping_add(1)),
            count: u64::from((span - into).unsigned_abs()),
            before: stamp,
            ..*self
        };
        Some([left, right].map(|gap| (gap.count > 0).then_some(gap)))
    }
}

/// Watches the serials of one host.
#[derive(Debug)]
pub struct GapTracker {
    window: Duration,
    /// Nothing is asked of what followed a stamp of before this; 0 once a later one has come.
    began: TimeMs,
    head: Option<Head>,
    /// By their first position; in that order they were also opened.
    holes: BTreeMap<u64, Hole>,
    /// Judged since the last tick.
    judged: VecDeque<Gap>,
    counts: Serials,
}

/// The furthest serial seen.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// Positions are serials that do not wrap.
    position: u64,
    stamp: Stamp,
    /// The latest time of all stamps, which need not be the furthest serial's.
    latest: TimeMs,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    last: u64,
    before: Stamp,
    after: Stamp,
    opened: KtimeNs,
}

impl GapTracker {
    /// More open holes than this, and the oldest are judged before their time.
    pub const MAX_HOLES: usize = 8_192;
    /// A serial further ahead is that of another boot: at the rates a kernel reaches, so many events take minutes.
    pub const MAX_JUMP: u32 = 1 << 24;

    /// A tracker that has seen nothing and leaves a hole open for `window`. Records stamped since `began` are all meant to come; of those
    /// before, of which some may, it is not asked which.
    pub fn new(window: Duration, began: TimeMs) -> Self {
        Self {
            window,
            began,
            head: None,
            holes: BTreeMap::new(),
            judged: VecDeque::new(),
            counts: Serials::default(),
        }
    }

    /// Takes up where an earlier tracker had come to `furthest`: what follows it is asked for, whenever it was stamped.
    pub fn resume(&mut self, furthest: Stamp) {
        self.began = TimeMs(0);
        self.start(furthest);
    }

    /// Takes notice of a record's stamp, each record's or each event's. Returns whether it may be missing from a gap that has been
    /// judged: it is behind the furthest serial and fills no hole.
    pub fn saw(&mut self, stamp: Stamp, now: KtimeNs) -> bool {
        let Some(head) = &mut self.head else {
            self.start(stamp);
            return false;
        };
        let ahead = stamp.serial.ahead_of(head.stamp.serial);
        if ahead == 0 {
            head.latest = head.latest.max(stamp.time);
            return false;
        }
        if ahead < 0 {
            return self.saw_behind(stamp, now);
        }
        if ahead as u32 > Self::MAX_JUMP {
            self.restart(stamp, now);
            return false;
        }
        let position = head.position + ahead as u64;
        let hole = Hole {
            last: position - 1,
            before: head.stamp,
            after: stamp,
            opened: now,
        };
        let first = head.position + 1;
        let is_asked_for = head.stamp.time >= self.began;
        if is_asked_for {
            // The clock may be set back.
            self.began = TimeMs(0);
        }
        *head = Head {
            position,
            stamp,
            latest: head.latest.max(stamp.time),
        };
        if first < position && is_asked_for {
            self.holes.insert(first, hole);
            if self.holes.len() > Self::MAX_HOLES {
                self.judge_oldest(now);
            }
        }
        false
    }

    /// Lets time pass: appends to `out` the gaps judged since the last call.
    pub fn tick(&mut self, now: KtimeNs, out: &mut Vec<Gap>) {
        while let Some((_, hole)) = self.holes.first_key_value() {
            if now.since(hole.opened) < self.window {
                break;
            }
            self.judge_oldest(now);
        }
        out.extend(self.judged.drain(..));
    }

    /// Appends to `out` all holes still open: the input has ended.
    pub fn flush(&mut self, now: KtimeNs, out: &mut Vec<Gap>) {
        while !self.holes.is_empty() {
            self.judge_oldest(now);
        }
        out.extend(self.judged.drain(..));
    }

    /// How many gaps were judged, the serials in them, and how far the serials have come.
    pub fn counts(&self) -> Serials {
        Serials {
            furthest: self.head.map(|head| head.stamp),
            ..self.counts
        }
    }

    fn start(&mut self, stamp: Stamp) {
        self.head = Some(Head {
            // One lap up, so that what is behind has a position too.
            position: (1 << 32) + u64::from(stamp.serial.0),
            stamp,
            latest: stamp.time,
        });
    }

    /// A serial behind the head: it fills its hole, or it was there before.
    ///
    /// One that fills none and whose time is later than all others' by more than the window is of another boot: the
    /// kernel takes an event's time before its serial, so a late record's time is never ahead of the records stamped after it.
    fn saw_behind(&mut self, stamp: Stamp, now: KtimeNs) -> bool {
        let Some(head) = &mut self.head else {
            return false;
        };
        let behind = u64::from(head.stamp.serial.ahead_of(stamp.serial).unsigned_abs());
        let position = head.position - behind;
        let window = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        let later = stamp.time.0.saturating_sub(head.latest.0) > window;
        head.latest = head.latest.max(stamp.time);
        let hole = self.holes.range(..=position).next_back();
        let Some((first, hole)) = hole
            .map(|(first, hole)| (*first, *hole))
            .filter(|(_, hole)| position <= hole.last)
        else {
            if later {
                self.restart(stamp, now);
            }
            return !later;
        };
        self.holes.remove(&first);
        if first < position {
            let last = position - 1;
            let left = Hole {
                last,
                after: stamp,
                ..hole
            };
            self.holes.insert(first, left);
        }
        if position < hole.last {
            let right = Hole {
                before: stamp,
                ..hole
            };
            self.holes.insert(position + 1, right);
        }
        if self.holes.len() > Self::MAX_HOLES {
            self.judge_oldest(now);
        }
        false
    }

    /// The serials start anew at `stamp`; what was missing before cannot come any more.
    fn restart(&mut self, stamp: Stamp, now: KtimeNs) {
        while !self.holes.is_empty() {
            self.judge_oldest(now);
        }
        self.start(stamp);
    }

    fn judge_oldest(&mut self, now: KtimeNs) {
        let Some((first, hole)) = self.holes.pop_first() else {
            return;
        };
        let gap = Gap {
            first: Serial(first as u32),
            last: Serial(hole.last as u32),
            count: hole.last - first + 1,
            before: hole.before,
            after: hole.after,
            noticed: now,
        };
        self.counts.gaps += 1;
        self.counts.missing += gap.count;
        let full = self.judged.len() >= Self::MAX_HOLES;
        match self.judged.back_mut() {
            Some(newest) if full => newest.join(&gap),
            _ => self.judged.push_back(gap),
        }
    }
}
