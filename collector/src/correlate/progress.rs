//! How far the audit stream is known to have come, and since when that is known.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::KtimeNs;

/// Everything queued before a point in time has been read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// `(noticed, passed)`, both rising.
    notes: VecDeque<(KtimeNs, KtimeNs)>,
}

impl Progress {
    /// Notes closer together than this are joined, so that few are kept.
    const STEP: Duration = Duration::from_millis(100);

    /// At `noticed` it became known that the stream had passed `passed`.
    pub(super) fn note(&mut self, noticed: KtimeNs, passed: KtimeNs) {
        if self
            .notes
            .back()
            .is_some_and(|(_, before)| *before >= passed)
        {
            return;
        }
        // A step is judged by its first note's time, so that steady progress still makes notes.
        let joined = self.notes.len() > 1
            && self
                .notes
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|(start, _)| noticed.since(*start) < Self::STEP);
        if joined {
            self.notes.pop_back();
        }
        self.notes.push_back((noticed, passed));
    }

    /// The point that was known to be passed at `at`.
    pub(super) fn known_at(&mut self, at: KtimeNs) -> KtimeNs {
        while self.notes.get(1).is_some_and(|(noticed, _)| *noticed <= at) {
            self.notes.pop_front();
        }
        match self.notes.front() {
            Some((noticed, passed)) if *noticed <= at => *passed,
            _ => KtimeNs(0),
        }
    }

    /// When it was last noticed that the stream had come further.
    pub(super) fn moved_at(&self) -> KtimeNs {
        self.notes
            .back()
            .map_or(KtimeNs(0), |(noticed, _)| *noticed)
    }

    /// The furthest point known to be passed.
    pub(super) fn furthest(&self) -> KtimeNs {
        self.notes.back().map_or(KtimeNs(0), |(_, passed)| *passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> KtimeNs {
        KtimeNs(ms * 1_000_000)
    }

    #[test]
    fn what_was_known_then_is_told_and_steady_progress_keeps_few_notes() {
        let mut progress = Progress::default();
        assert_eq!(progress.known_at(at(5)), at(0));
        for ms in 1_000..3_000 {
            progress.note(at(ms), at(ms - 10));
        }
        assert!(progress.notes.len() < 50, "{}", progress.notes.len());
        assert_eq!(progress.furthest(), at(2_989));
        let known = progress.known_at(at(2_000));
        assert!(known > at(1_700) && known <= at(1_990), "{known:?}");
        progress.note(at(3_100), at(500));
        assert_eq!(progress.furthest(), at(2_989), "never back");
        assert_eq!(progress.moved_at(), at(2_999), "nor is that a move");
    }
}
