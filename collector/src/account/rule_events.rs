//! Events by the key of the rule that reported them, as metrics count them: a key that has a count keeps it.

use std::collections::BTreeMap;

/// How often events with each key came. Not more than `limit` keys have a count of their own, first come first served;
/// events with others are counted together. An event with several keys counts for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleEvents {
    limit: usize,
    by_key: BTreeMap<String, u64>,
    other: u64,
}

impl RuleEvents {
    /// What all other keys are counted as.
    pub const OTHER: &'static str = "other";

    /// No events yet.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Gives a key a count, where there is room: rules are loaded with it.
    pub fn expect(&mut self, key: &[u8]) {
        let _count = self.count_of(key);
    }

    /// An event with this key came.
    pub fn count(&mut self, key: &[u8]) {
        *self.count_of(key) += 1;
    }

    /// The counts by key, what is counted together last.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_key
            .iter()
            .map(|(key, events)| (key.as_str(), *events))
            .chain([(Self::OTHER, self.other)])
    }

    fn count_of(&mut self, key: &[u8]) -> &mut u64 {
        let key = String::from_utf8_lossy(key);
        let has_room = self.by_key.len() < self.limit && key != Self::OTHER;
        if has_room && !self.by_key.contains_key(key.as_ref()) {
            self.by_key.insert(key.as_ref().to_owned(), 0);
        }
        match self.by_key.get_mut(key.as_ref()) {
            Some(events) => events,
            None => &mut self.other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beyond_the_limit_are_counted_together() {
        let mut events = RuleEvents::new(2);
        events.expect(b"exec");
        for key in [&b"etc"[..], b"exec", b"late", b"other", b"\xff", b"etc"] {
            events.count(key);
        }
        let counts: Vec<_> = events.counts().collect();
        assert_eq!(counts, [("etc", 2), ("exec", 1), ("other", 3)]);
    }
}
