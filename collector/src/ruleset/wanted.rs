//! What rule files ask for: the end state, given the rules that are loaded before.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::place::SourceLine;
use super::set::{Entry, OnError, RuleSet};
use crate::audit::language::Directive;
use crate::audit::rules::{FilterList, Placement, Rule};
use crate::audit::status::StatusField;

/// The line that asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The line.
    pub source: Arc<SourceLine>,
    /// What happens where it fails.
    pub on_error: OnError,
}

/// A rule of the end state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRule {
    /// The rule.
    pub rule: Rule,
    /// The line that asks for it; none for a rule that was loaded before and that no line speaks of.
    pub asked: Option<Asked>,
}

/// A setting of the end state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub field: StatusField,
    /// Its value in the kernel's unit.
    pub value: u32,
    /// The line that asks for it.
    pub asked: Asked,
}

/// The end state that rule files ask for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Every rule that is to be loaded in the end, in the order the kernel lists them: by list, then by place in it.
    pub rules: Vec<WantedRule>,
    /// The settings in the order to make them: each once, `enabled`, which may lock all others, last.
    pub settings: Vec<Setting>,
    /// What is to be done rather than to be so, in order: resets, locks, trees, messages.
    pub actions: Vec<(Directive, Asked)>,
    /// Lines that delete a rule that is not loaded then.
    pub not_found: Vec<Asked>,
    /// Lines that add a rule that is there already, by the place of the line that does; none for one loaded before.
    pub repeated: Vec<(Asked, Option<Asked>)>,
    /// Whether `-D` stands in the files, so that the rules loaded before do not stay.
    pub clears: bool,
}

impl Wanted {
    /// The rules a line asks for.
    pub fn asked(&self) -> impl Iterator<Item = (&Rule, &Asked)> {
        self.rules
            .iter()
            .filter_map(|wanted| Some((&wanted.rule, wanted.asked.as_ref()?)))
    }
}

impl RuleSet {
    /// The end state these files ask for where `loaded` is what the kernel lists now. Lines with faults ask for
    /// nothing.
    ///
    /// A rule that a line adds is not added twice: one that is there stays in its place, and `-A` brings it to the
    /// front. (The kernel refuses the first and makes a second one of the latter, which can never match.)
    pub fn wanted(&self, loaded: &[Rule]) -> Wanted {
        let mut draft = Draft::default();
        for rule in loaded {
            draft.append(WantedRule {
                rule: rule.clone(),
                asked: None,
            });
        }
        for entry in self.entries() {
            for directive in entry.line.iter().flat_map(|line| &line.directives) {
                draft.follow(directive, entry);
            }
        }
        let mut wanted = draft.wanted;
        wanted.rules = draft.lists.into_values().flatten().collect();
        wanted
            .settings
            .sort_by_key(|setting| setting.field == StatusField::Enabled);
        wanted
    }
}

/// An end state in the making, with the lists apart.
#[derive(Default)]
struct Draft {
    wanted: Wanted,
    lists: BTreeMap<FilterList, VecDeque<WantedRule>>,
    /// Every rule that was ever on a list: most rules are new, and need no search.
    met: HashSet<Rule>,
}

impl Draft {
    fn follow(&mut self, directive: &Directive, entry: &Entry) {
        let asked = Asked {
            source: Arc::clone(&entry.source),
            on_error: entry.on_error,
        };
        match directive {
            Directive::Add { rule, placement } => self.add(rule, *placement, asked),
            Directive::Delete { rule } => {
                if self.take(rule).is_none() {
                    self.wanted.not_found.push(asked);
                }
            }
            Directive::DeleteAll { key: None } => {
                self.lists.clear();
                self.wanted.clears = true;
            }
            Directive::DeleteAll { key: Some(key) } => {
                for list in self.lists.values_mut() {
                    list.retain(|wanted| !has_key_like(&wanted.rule, key));
                }
            }
            Directive::Set { field, value } => {
                let settings = &mut self.wanted.settings;
                settings.retain(|setting| setting.field != *field);
                settings.push(Setting {
                    field: *field,
                    value: *value,
                    asked,
                });
            }
            Directive::Reset { .. }
            | Directive::Lock { .. }
            | Directive::Trim
            | Directive::MakeEquivalent { .. }
            | Directive::Message { .. } => self.wanted.actions.push((directive.clone(), asked)),
            // Questions, and what `RuleSet` has seen to.
            Directive::ContinueOnErrors
            | Directive::IgnoreErrors
            | Directive::Status
            | Directive::List { .. }
            | Directive::Read { .. }
            | Directive::Interpret
            | Directive::Version
            | Directive::Help => {}
        }
    }

    fn add(&mut self, rule: &Rule, placement: Placement, asked: Asked) {
        if let Some(there) = self.find(rule) {
            let first = there.asked.clone();
            if placement == Placement::Last {
                there.asked.get_or_insert(asked.clone());
                self.wanted.repeated.push((asked, first));
                return;
            }
            self.wanted.repeated.push((asked.clone(), first));
            self.take(rule);
        }
        let added = WantedRule {
            rule: rule.clone(),
            asked: Some(asked),
        };
        match placement {
            Placement::First => {
                self.met.insert(rule.clone());
                self.list(rule).push_front(added);
            }
            Placement::Last => self.append(added),
        }
    }

    fn append(&mut self, wanted: WantedRule) {
        self.met.insert(wanted.rule.clone());
        self.list(&wanted.rule).push_back(wanted);
    }

    fn take(&mut self, rule: &Rule) -> Option<WantedRule> {
        let index = self.index(rule)?;
        self.list(rule).remove(index)
    }

    fn find(&mut self, rule: &Rule) -> Option<&mut WantedRule> {
        let index = self.index(rule)?;
        self.list(rule).get_mut(index)
    }

    fn index(&self, rule: &Rule) -> Option<usize> {
        if !self.met.contains(rule) {
            return None;
        }
        let list = self.lists.get(&rule.list)?;
        list.iter().position(|wanted| wanted.rule == *rule)
    }

    fn list(&mut self, rule: &Rule) -> &mut VecDeque<WantedRule> {
        self.lists.entry(rule.list).or_default()
    }
}

/// Whether one of the rule's keys has `key` in it: so `auditctl -D -k` and `-l -k` choose.
pub fn has_key_like(rule: &Rule, key: &[u8]) -> bool {
    rule.keys()
        .any(|have| key.is_empty() || have.windows(key.len()).any(|part| part == key))
}

/// The lists rules can be on, in the order the kernel lists them.
pub(super) fn lists<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<FilterList> {
    let mut lists: Vec<_> = rules.map(|rule| rule.list).collect();
    lists.sort_unstable();
    lists.dedup();
    lists
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::{rule, set};
    use super::*;

    fn keys(wanted: &Wanted) -> String {
        let rules = wanted.rules.iter().flat_map(|wanted| wanted.rule.keys());
        String::from_utf8(rules.collect::<Vec<_>>().concat()).unwrap()
    }

    fn wanted(text: &str, loaded: &str) -> Wanted {
        let loaded: Vec<Rule> = loaded.chars().map(|key| rule(&key.to_string())).collect();
        set(text).wanted(&loaded)
    }

    #[test]
    fn lines_are_followed_in_order() {
        assert_eq!(keys(&wanted("a1\na2\nA3\na4", "")), "3124");
        assert_eq!(keys(&wanted("a1\nd1\na2", "xy")), "xy2");
        assert_eq!(keys(&wanted("a1\nD\na2", "xy")), "2");
        assert_eq!(keys(&wanted("a1\nDx\nD1", "xy")), "y");
        // A part of the key is enough, as with auditctl.
        assert_eq!(keys(&wanted("a12\na3\nD2", "")), "3");
    }

    #[test]
    fn who_asked_is_known() {
        let wanted = wanted("a1\nay", "xy");
        let asked: Vec<_> = wanted
            .asked()
            .map(|(_, asked)| asked.source.place.line)
            .collect();
        // `y` was loaded before, and line 2 asks for it all the same.
        assert_eq!((keys(&wanted).as_str(), asked), ("xy1", vec![2, 1]));
        assert!(!wanted.clears);
    }

    #[test]
    fn a_rule_is_wanted_once() {
        let twice = wanted("a1\na2\na1", "");
        assert_eq!(keys(&twice), "12");
        let (asked, first) = &twice.repeated[0];
        assert_eq!(asked.source.place.line, 3);
        assert_eq!(first.as_ref().unwrap().source.place.line, 1);
        assert_eq!(keys(&wanted("a1\na2\nA2", "")), "21");
        assert_eq!(wanted("d9", "").not_found.len(), 1);
    }

    #[test]
    fn the_last_value_of_a_setting_counts_and_the_switch_is_last() {
        let wanted = wanted("e2\nb5 b7\ne1", "");
        let settings: Vec<_> = wanted.settings.iter().map(|s| (s.field, s.value)).collect();
        assert_eq!(
            settings,
            [(StatusField::BacklogLimit, 7), (StatusField::Enabled, 1)]
        );
    }
}
