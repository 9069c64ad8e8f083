//! The rules the configuration asks for, and how what the kernel holds stands with them.
//!
//! Owns the comparison, what is told of it, and when rules that drifted are put back. Which rules those are was read at
//! the start ([`files`]); names of users and kinds of paths are those of that time.

mod drift;
pub(super) mod files;
pub(super) mod held;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use crate::audit::client::Client;
use crate::audit::rules::Rule;
use crate::event::StateChange;
use crate::pipeline::News;
use crate::pipeline::rules::drift::Drift;
use crate::ruleset::{self, OnError, Refusal, RuleSet};

/// What is done about rules that drifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// It is told.
    Compare,
    /// They are put back.
    PutBack,
}

/// The configured rules.
#[derive(Debug)]
pub(super) struct Configured {
    /// Of the files, what asks for rules, under our key.
    set: RuleSet,
    upkeep: Upkeep,
    patience: Patience,
    /// How the rules differed when last compared; none before that.
    drift: Option<Drift>,
    /// How often they were put back, by result.
    reloads: BTreeMap<&'static str, u64>,
}

impl Configured {
    /// Every result of putting rules back.
    pub(crate) const RESULTS: [&str; 2] = ["done", "failed"];

    pub(super) fn new(set: RuleSet, upkeep: Upkeep) -> Self {
        Self {
            // One rule the kernel refuses keeps no other from being put back.
            set: set.with_on_error(OnError::Ignore),
            upkeep,
            patience: Patience::default(),
            drift: None,
            reloads: Self::RESULTS.map(|result| (result, 0)).into(),
        }
    }

    /// Whether the kernel holds the configured rules; none before the first comparison.
    pub(super) fn in_sync(&self) -> Option<bool> {
        self.drift.as_ref().map(Drift::is_none)
    }

    /// How often the rules were put back, by result.
    pub(super) fn reloads(&self) -> &BTreeMap<&'static str, u64> {
        &self.reloads
    }

    /// Compares; says what is new of how the rules stand.
    pub(super) fn compare(&mut self, loaded: &[Rule]) -> Option<News> {
        let mut wanted = self.set.wanted(loaded);
        let drift = if wanted.clears {
            Drift::of(&ruleset::difference(loaded, &wanted))
        } else {
            // Of rules the files do not speak of, a second one is none of their business either.
            let mut met = HashSet::new();
            let loaded: Vec<Rule> = loaded
                .iter()
                .filter(|rule| met.insert(*rule))
                .cloned()
                .collect();
            wanted = self.set.wanted(&loaded);
            Drift::of(&ruleset::difference(&loaded, &wanted))
        };
        let before = self.drift.replace(drift.clone());
        if before.as_ref() == Some(&drift) || (before.is_none() && drift.is_none()) {
            return None;
        }
        Some(if drift.is_none() {
            let text = "the kernel holds the configured audit rules again".to_owned();
            (StateChange::RulesInSync, text)
        } else {
            let text =
                format!("the audit rules in the kernel are not the configured ones: {drift}");
            (StateChange::RulesDrifted, text)
        })
    }

    /// The rules to judge calls by where the kernel holds `loaded`: those it should hold, and behind them what it holds
    /// besides; none where it holds what it should.
    pub(super) fn judged_by(&self, loaded: &[Rule]) -> Option<Vec<Rule>> {
        if self.drift.as_ref().is_none_or(|drift| !drift.lacks_rules()) {
            return None;
        }
        let wanted = self.set.wanted(loaded).rules;
        let mut rules: Vec<Rule> = wanted.into_iter().map(|wanted| wanted.rule).collect();
        let met: HashSet<Rule> = rules.iter().cloned().collect();
        let besides = loaded.iter().filter(|rule| !met.contains(rule));
        rules.extend(besides.cloned());
        Some(rules)
    }

    /// Whether rules that drifted are to be put back now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.upkeep == Upkeep::PutBack && self.in_sync() == Some(false) && self.patience.allows(now)
    }

    /// Puts the rules back and says how that went.
    pub(super) fn put_back(&mut self, client: &mut Client, now: Instant) -> News {
        self.patience.used(now);
        let loaded = ruleset::load(client, &self.set);
        let result = match &loaded {
            Ok(loaded) if loaded.loaded == loaded.wanted => "done",
            _ => "failed",
        };
        *self.reloads.entry(result).or_default() += 1;
        let times: u64 = self.reloads.values().sum();
        let text = match loaded {
            Ok(loaded) => {
                let refused = loaded
                    .failures
                    .iter()
                    .find(|error| !matches!(error.refusal, Refusal::NotLoaded));
                format!(
                    "put the configured audit rules back, {} of {}: {} added, {} deleted{} (time {times} of this run)",
                    loaded.loaded,
                    loaded.wanted,
                    loaded.added,
                    loaded.deleted,
                    refused.map_or_else(String::new, |error| format!("; {error}")),
                )
            }
            Err(error) => format!(
                "the configured audit rules could not be put back: {} (time {times} of this run)",
                ruleset::with_sources(&error)
            ),
        };
        (StateChange::RulesEnforced, text)
    }
}

/// Keeps two programs that each put back their own rules from doing it all the time.
#[derive(Debug, Default)]
struct Patience {
    /// When it was last spent, and how long that lasts.
    spent: Option<(Instant, Duration)>,
}

impl Patience {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(300);
    /// Peace for so long, and the next time counts as the first.
    const FORGETS: Duration = Duration::from_secs(900);

    fn allows(&self, now: Instant) -> bool {
        self.spent.is_none_or(|(at, wait)| now >= at + wait)
    }

    fn used(&mut self, now: Instant) {
        let wait = match self.spent {
            Some((at, wait)) if now < at + Self::FORGETS => (wait * 2).min(Self::LONGEST),
            _ => Self::SHORTEST,
        };
        self.spent = Some((now, wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::language;
    use crate::ruleset::{LocalHost, Trust};

    fn configured(lines: &str) -> Configured {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, lines).unwrap();
        let set = RuleSet::read(&[file.path()], Trust::Anyone, |line| {
            language::parse_line(line, &LocalHost)
        });
        Configured::new(set.unwrap(), Upkeep::PutBack)
    }

    fn rule(key: &str) -> Rule {
        Rule::always_exit().all_syscalls().key(key)
    }

    #[test]
    fn a_change_of_the_drift_is_told_once_and_so_is_its_end() {
        let mut configured =
            configured("-D\n-a always,exit -S all -k a\n-a always,exit -S all -k b\n");
        assert_eq!(configured.in_sync(), None);
        assert_eq!(configured.compare(&[rule("a"), rule("b")]), None);
        assert_eq!(configured.in_sync(), Some(true));
        let now = Instant::now();
        assert!(!configured.is_due(now));
        let (what, text) = configured.compare(&[rule("b"), rule("c")]).unwrap();
        assert_eq!(what, StateChange::RulesDrifted);
        assert!(
            text.contains("1 missing") && text.contains("1 too many"),
            "{text}"
        );
        assert_eq!(configured.compare(&[rule("b"), rule("c")]), None);
        assert!(configured.is_due(now));
        let (_, text) = configured.compare(&[rule("b"), rule("a")]).unwrap();
        assert!(text.contains("1 out of place"), "{text}");
        let (what, _) = configured.compare(&[rule("a"), rule("b")]).unwrap();
        assert_eq!(what, StateChange::RulesInSync);
    }

    #[test]
    fn calls_are_judged_by_missing_rules_too() {
        let mut configured =
            configured("-D\n-a always,exit -S all -k a\n-a always,exit -S all -k b\n");
        configured.compare(&[rule("a"), rule("b"), rule("x")]);
        assert_eq!(
            configured.judged_by(&[rule("a"), rule("b"), rule("x")]),
            None
        );
        configured.compare(&[rule("x"), rule("b")]);
        assert_eq!(
            configured.judged_by(&[rule("x"), rule("b")]),
            Some(vec![rule("a"), rule("b"), rule("x")])
        );
    }

    #[test]
    fn files_that_do_not_clear_the_list_say_nothing_of_the_rules_of_others() {
        let mut configured = configured("-a always,exit -S all -k a\n");
        assert_eq!(
            configured.compare(&[rule("x"), rule("x"), rule("a"), rule("y")]),
            None
        );
        assert_eq!(configured.in_sync(), Some(true));
        let (_, text) = configured.compare(&[rule("x"), rule("x")]).unwrap();
        assert!(
            text.contains("1 missing") && !text.contains("too many"),
            "{text}"
        );
    }

    #[test]
    fn the_first_time_is_at_once_and_a_fight_slows_down() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut times = Vec::new();
        for tenth in 0..36_000 {
            let now = start + Duration::from_millis(100 * tenth);
            if patience.allows(now) {
                patience.used(now);
                times.push(tenth / 10);
            }
        }
        assert_eq!(times[..6], [0, 1, 3, 7, 15, 31]);
        assert!(times.len() < 25, "{times:?}");
        let later = start + Duration::from_secs(3_600) + Patience::FORGETS;
        patience.used(later);
        assert!(patience.allows(later + Patience::SHORTEST));
    }
}
