//! The requests that bring the kernel's rules to an end state.
//!
//! The kernel can add a rule at either end of its list and delete one. A deletion takes it some 12 ms
//! (`synchronize_rcu` in kernel/auditfilter.c `audit_del_rule`), and a rule that is not loaded is a hole in the audit
//! trail. So what is there in the right order stays; what is new is added before anything is deleted; and only a rule
//! that must change its place is gone, between its own deletion and the request that follows it.

use std::collections::HashMap;

use super::wanted::lists;
use crate::audit::rules::{FilterList, Placement, Rule};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Delete the rule loaded at this index.
    Delete(usize),
    /// Add the wanted rule of this index.
    Add(usize, Placement),
}

/// The requests that make `wanted`, which has no rule twice, of `loaded`.
pub(super) fn plan(loaded: &[Rule], wanted: &[&Rule]) -> Vec<Step> {
    let mut steps = Vec::new();
    for list in lists(loaded.iter().chain(wanted.iter().copied())) {
        List::new(list, loaded, wanted).plan(&mut steps);
    }
    steps
}

/// For each of `wanted`, the indices in `loaded` it has.
pub(super) fn places(loaded: &[Rule], wanted: &[&Rule]) -> Vec<Vec<usize>> {
    let mut at: HashMap<&Rule, Vec<usize>> = HashMap::new();
    for (index, rule) in loaded.iter().enumerate() {
        at.entry(rule).or_default().push(index);
    }
    wanted
        .iter()
        .map(|rule| at.get(rule).cloned().unwrap_or_default())
        .collect()
}

/// One of the kernel's lists.
struct List {
    /// Indices of the rules loaded.
    loaded: Vec<usize>,
    /// The rules wanted, each with the indices it is loaded at.
    wanted: Vec<(usize, Vec<usize>)>,
}

impl List {
    fn new(list: FilterList, loaded: &[Rule], wanted: &[&Rule]) -> Self {
        let places = places(loaded, wanted);
        Self {
            loaded: (0..loaded.len())
                .filter(|index| loaded[*index].list == list)
                .collect(),
            wanted: places
                .into_iter()
                .enumerate()
                .filter(|(index, _)| wanted[*index].list == list)
                .collect(),
        }
    }

    fn plan(&self, steps: &mut Vec<Step>) {
        let stays = self.longest_run();
        let mut gone = Vec::new();
        let mut add = |(index, at): &(usize, Vec<usize>), placement, steps: &mut Vec<Step>| {
            steps.extend(at.iter().map(|at| Step::Delete(*at)));
            steps.push(Step::Add(*index, placement));
            gone.extend_from_slice(at);
        };
        for rule in self.wanted[..stays.start].iter().rev() {
            add(rule, Placement::First, steps);
        }
        for rule in &self.wanted[stays.end..] {
            add(rule, Placement::Last, steps);
        }
        for (_, at) in &self.wanted[stays] {
            gone.extend_from_slice(at);
        }
        gone.sort_unstable();
        steps.extend(
            self.loaded
                .iter()
                .filter(|index| gone.binary_search(index).is_err())
                .map(|index| Step::Delete(*index)),
        );
    }

    /// The longest run of wanted rules that are loaded once each and in that order. All before it can be put in front
    /// of it, and all after it behind, so it is what can stay.
    fn longest_run(&self) -> std::ops::Range<usize> {
        let mut longest = 0..0;
        let mut start = 0;
        let mut last = None;
        for (index, (_, at)) in self.wanted.iter().enumerate() {
            match (at.as_slice(), last) {
                ([at], Some(before)) if *at > before => last = Some(*at),
                ([at], _) => (start, last) = (index, Some(*at)),
                _ => (start, last) = (index + 1, None),
            }
            if index + 1 - start.min(index + 1) > longest.len() {
                longest = start..index + 1;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::rules::Action;

    fn rule(number: u8) -> Rule {
        // Three lists, so that their orders are seen to be independent.
        let list =
            [FilterList::EXIT, FilterList::EXCLUDE, FilterList::TASK][usize::from(number % 3)];
        Rule::new(list, Action::Always).key([b'a' + number])
    }

    /// A kernel that adds and deletes as `audit_add_rule` and `audit_del_rule` do.
    fn apply(loaded: &[Rule], wanted: &[&Rule], steps: &[Step]) -> Vec<Rule> {
        let mut rules = loaded.to_vec();
        for step in steps {
            match step {
                Step::Delete(index) => {
                    let at = rules.iter().position(|rule| rule == &loaded[*index]);
                    rules.remove(at.expect("the rule to delete is there"));
                }
                Step::Add(index, Placement::Last) => {
                    assert!(!rules.contains(wanted[*index]), "a duplicate");
                    rules.push(wanted[*index].clone());
                }
                Step::Add(index, Placement::First) => rules.insert(0, wanted[*index].clone()),
            }
        }
        rules.sort_by_key(|rule| rule.list);
        rules
    }

    fn deletions(steps: &[Step]) -> usize {
        steps
            .iter()
            .filter(|step| matches!(step, Step::Delete(_)))
            .count()
    }

    proptest! {
        #[test]
        fn the_end_state_is_reached(
            loaded in proptest::collection::vec(0_u8..20, 0..20),
            wanted in proptest::sample::subsequence((0_u8..20).collect::<Vec<_>>(), 0..20).prop_shuffle(),
        ) {
            let mut loaded: Vec<Rule> = loaded.into_iter().map(rule).collect();
            loaded.sort_by_key(|rule| rule.list);
            let mut wanted: Vec<Rule> = wanted.into_iter().map(rule).collect();
            wanted.sort_by_key(|rule| rule.list);
            let wanted: Vec<&Rule> = wanted.iter().collect();
            let steps = plan(&loaded, &wanted);
            let end = apply(&loaded, &wanted, &steps);
            prop_assert_eq!(end.iter().collect::<Vec<_>>(), wanted);
        }
    }

    #[test]
    fn what_is_there_stays_and_what_is_new_comes_before_what_goes() {
        let [a, b, c, d] = [0, 3, 6, 9].map(rule);
        let loaded = [a.clone(), b.clone()];
        assert_eq!(plan(&loaded, &[&a, &b]), []);
        assert_eq!(
            plan(&loaded, &[&c, &a, &b, &d]),
            [
                Step::Add(0, Placement::First),
                Step::Add(3, Placement::Last)
            ]
        );
        assert_eq!(
            plan(&loaded, &[&c, &d]),
            [
                Step::Add(0, Placement::Last),
                Step::Add(1, Placement::Last),
                Step::Delete(0),
                Step::Delete(1)
            ]
        );
        // Moved behind: gone for one deletion only.
        assert_eq!(
            plan(&loaded, &[&b, &a]),
            [Step::Delete(0), Step::Add(1, Placement::Last)]
        );
        let doubled = [a.clone(), b.clone(), a.clone()];
        assert_eq!(deletions(&plan(&doubled, &[&b, &a])), 2);
    }
}
