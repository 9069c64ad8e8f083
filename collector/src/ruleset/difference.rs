//! What the kernel's rules lack, or have too many of, against rule files.

use super::plan::places;
use super::wanted::{Wanted, WantedRule};
use crate::audit::rules::Rule;

/// How the rules that are loaded differ from the end state that files ask for.
#[derive(Clone, Debug, Default)]
pub struct Difference<'a> {
    /// Wanted, and not loaded.
    pub missing: Vec<&'a WantedRule>,
    /// Loaded, and not wanted.
    pub extra: Vec<&'a Rule>,
    /// Loaded, but not in the place that the order of the files gives it. The first rule that matches decides, so the
    /// order has a meaning.
    pub misplaced: Vec<&'a WantedRule>,
}

impl Difference<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misplaced.is_empty()
    }
}

/// Compares `loaded`, as the kernel lists it, with the end state that [`crate::ruleset::RuleSet::wanted`] made of it.
/// Where the files have no `-D`, rules they do not speak of are wanted as they are.
pub fn difference<'a>(loaded: &'a [Rule], wanted: &'a Wanted) -> Difference<'a> {
    let rules: Vec<&Rule> = wanted.rules.iter().map(|wanted| &wanted.rule).collect();
    let mut difference = Difference::default();
    let mut is_wanted = vec![false; loaded.len()];
    let mut common: Vec<(usize, &WantedRule)> = Vec::new();
    for (at, rule) in places(loaded, &rules).into_iter().zip(&wanted.rules) {
        match at.as_slice() {
            [] => difference.missing.push(rule),
            // A second one is extra.
            [first, ..] => {
                is_wanted[*first] = true;
                common.push((*first, rule));
            }
        }
    }
    difference.extra = loaded
        .iter()
        .zip(is_wanted)
        .filter(|(_, wanted)| !wanted)
        .map(|(rule, _)| rule)
        .collect();
    let places: Vec<usize> = common.iter().map(|(at, _)| *at).collect();
    let mut in_order = longest_increasing(&places).into_iter().peekable();
    difference.misplaced = common
        .into_iter()
        .enumerate()
        .filter(|(index, _)| in_order.next_if_eq(index).is_none())
        .map(|(_, (_, rule))| rule)
        .collect();
    difference
}

/// The indices of a longest increasing subsequence of `numbers`, ascending.
fn longest_increasing(numbers: &[usize]) -> Vec<usize> {
    // For each length, the index of the smallest number such a subsequence can end with.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; numbers.len()];
    for (index, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before[index] = length.checked_sub(1).map(|shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut indices: Vec<usize> =
        std::iter::successors(ends.last().copied(), |index| before[*index]).collect();
    indices.reverse();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(key: &str) -> Rule {
        Rule::always_exit().key(key)
    }

    fn wanted(keys: &[&str]) -> Wanted {
        Wanted {
            rules: keys
                .iter()
                .map(|key| WantedRule {
                    rule: rule(key),
                    asked: None,
                })
                .collect(),
            ..Wanted::default()
        }
    }

    fn compare(loaded: &[&str], keys: &[&str]) -> [Vec<String>; 3] {
        let loaded: Vec<Rule> = loaded.iter().map(|key| rule(key)).collect();
        let wanted = wanted(keys);
        let difference = difference(&loaded, &wanted);
        let key = |rule: &Rule| String::from_utf8(rule.keys().next().unwrap().into()).unwrap();
        [
            difference
                .missing
                .iter()
                .map(|wanted| key(&wanted.rule))
                .collect(),
            difference.extra.iter().map(|rule| key(rule)).collect(),
            difference
                .misplaced
                .iter()
                .map(|wanted| key(&wanted.rule))
                .collect(),
        ]
    }

    #[test]
    fn each_kind_is_told_apart() {
        let none: [Vec<String>; 3] = Default::default();
        assert_eq!(compare(&["a", "b"], &["a", "b"]), none);
        assert_eq!(
            compare(&["a", "b"], &["b", "c"]),
            [vec!["c".to_owned()], vec!["a".to_owned()], vec![]]
        );
        // One moved rule is one difference, not four.
        assert_eq!(
            compare(&["a", "b", "c", "d"], &["b", "c", "d", "a"]),
            [vec![], vec![], vec!["a".to_owned()]]
        );
        assert_eq!(
            compare(&["a", "a"], &["a"]),
            [vec![], vec!["a".to_owned()], vec![]]
        );
    }
}
