//! The largest of the values that were seen lately, so that a scrape shows what was over between two of them.
//!
//! Owns no clock. Holds at most as many values as are noted within [`Peak::SPAN`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::KtimeNs;

/// The largest of the last minute's values.
#[derive(Debug, Default)]
pub(super) struct Peak {
    /// Values none of which is followed by a larger one, oldest first.
    values: VecDeque<(KtimeNs, u64)>,
}

impl Peak {
    /// How long a value counts.
    const SPAN: Duration = Duration::from_secs(60);

    /// Of `value` at `now` and of what was noted within the span before it.
    pub(super) fn note(&mut self, now: KtimeNs, value: u64) -> u64 {
        while self
            .values
            .back()
            .is_some_and(|(_, smaller)| *smaller <= value)
        {
            self.values.pop_back();
        }
        self.values.push_back((now, value));
        while self
            .values
            .front()
            .is_some_and(|(at, _)| now.since(*at) > Self::SPAN)
        {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |(_, largest)| *largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_forgotten_after_its_span() {
        let mut peak = Peak::default();
        let at = |seconds: u64| KtimeNs(seconds * 1_000_000_000);
        assert_eq!(peak.note(at(0), 5), 5);
        assert_eq!(peak.note(at(10), 9), 9);
        assert_eq!(peak.note(at(20), 3), 9);
        assert_eq!(peak.note(at(71), 1), 3);
    }
}
