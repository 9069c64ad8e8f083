//! The rules of one call, laid out as the [`Condition`]s that the BPF programs walk.
//!
//! The kernel goes through every rule; a call that no rule is about would cost a step of BPF for each of them as well.
//! So whatever fails takes with it all it can:
//!
//! - A condition that fails goes on at the first later rule that does not ask the same. Many rules of security guides ask
//!   for the same login uids or open flags.
//! - Before rules in a row that each want one value of the same fact stand two conditions, that the fact lies between the
//!   least and the greatest of them; before either half of these rules again, and so on.
//! - A rule in doubt passes over those behind it that do the same and can only be in doubt as well.
//!
//! The order of rules stays, since the first one that matches decides.

use collector_ebpf::{Comparison, Condition, Fact, MAX_CONDITIONS, NO_RULE};

use crate::audit::rules::Action;
use crate::probe::compile::{Compiled, Groups, Test, UNJUDGED};

/// Rules in a row that want values of one fact, from which on it pays to look first whether it can be any of them.
const LEAST_RULES_IN_A_RANGE: usize = 8;

/// The conditions of `program`, the first of which will be at index `start`; none where they have no room up to [`MAX_CONDITIONS`].
pub(super) fn lay_out(program: &[Compiled], start: usize) -> Option<Vec<Condition>> {
    let ranges = ranges(program);
    let mut conditions = Vec::new();
    let entries = entries(program, &ranges, start)?;
    let targets = targets(program, &entries);
    let in_doubt = in_doubt(program, &entries);
    let mut ranges = ranges.into_iter().peekable();
    for (place, (rule, targets)) in program.iter().zip(&targets).enumerate() {
        while let Some(range) = ranges.next_if(|range| range.first == place) {
            conditions.extend(range.conditions(entries[range.end]));
        }
        let last = rule.tests.len() - 1;
        for (index, (test, otherwise)) in rule.tests.iter().zip(targets).enumerate() {
            let mut flags = 0;
            if index == last {
                flags |= Condition::LAST;
            }
            if rule.action == Action::Always {
                flags |= Condition::ALWAYS;
            }
            if test.groups == Groups::Count {
                flags |= Condition::GROUPS;
            }
            conditions.push(Condition {
                value: test.value,
                otherwise: *otherwise,
                in_doubt: in_doubt[place],
                rule: rule.number,
                fact: test.fact as u8,
                comparison: test.comparison.0,
                flags,
                padding: [0; 3],
            });
        }
    }
    conditions.push(Condition::END);
    Some(conditions)
}

/// Rules in a row that each want a fact to be equal to a value.
#[derive(Clone)]
struct Range {
    fact: Fact,
    /// The first rule's place.
    first: usize,
    /// The place behind the last rule.
    end: usize,
    least: u32,
    greatest: u32,
}

impl Range {
    /// Whether to look at it first. If all want the same value, the first one passes over the others when it fails.
    fn is_worth_it(&self) -> bool {
        self.end - self.first >= LEAST_RULES_IN_A_RANGE && self.least < self.greatest
    }

    /// What lets pass only what may match one of the rules; the rest goes on at `otherwise`. Where the fact is not known, both
    /// leave a doubt, which the first rule's own comparison would raise or its failure take away.
    fn conditions(&self, otherwise: u16) -> [Condition; 2] {
        [
            (Comparison::GREATER_OR_EQUAL, self.least),
            (Comparison::LESS_OR_EQUAL, self.greatest),
        ]
        .map(|(comparison, value)| Condition {
            value,
            otherwise,
            in_doubt: otherwise,
            rule: NO_RULE,
            fact: self.fact as u8,
            comparison: comparison.0,
            flags: 0,
            padding: [0; 3],
        })
    }
}

/// The ranges of a program in the order of their first rules, each followed by its halves.
fn ranges(program: &[Compiled]) -> Vec<Range> {
    // By the place of their first rule, each as long as it can be.
    let mut longest: Vec<Vec<Range>> = vec![Vec::new(); program.len()];
    for (first, rule) in program.iter().enumerate().rev() {
        let following = longest.get(first + 1).map_or(&[][..], Vec::as_slice);
        longest[first] = wanted(rule)
            .map(|(fact, value)| {
                let rest = following.iter().find(|range| range.fact == fact);
                Range {
                    fact,
                    first,
                    end: rest.map_or(first + 1, |rest| rest.end),
                    least: rest.map_or(value, |rest| rest.least.min(value)),
                    greatest: rest.map_or(value, |rest| rest.greatest.max(value)),
                }
            })
            .collect();
    }
    let mut ranges = Vec::new();
    let mut end = 0;
    for longest in longest {
        let worth_it = |range: &Range| range.first >= end && range.is_worth_it();
        if let Some(range) = longest
            .into_iter()
            .filter(worth_it)
            .max_by_key(|range| range.end)
        {
            end = range.end;
            push_with_halves(&mut ranges, program, range);
        }
    }
    ranges
}

/// Halves are looked at only where a fact can be in one of them at most; else going through both would cost more than the rules.
fn push_with_halves(ranges: &mut Vec<Range>, program: &[Compiled], range: Range) {
    let middle = range.first.midpoint(range.end);
    let [one, other] = [(range.first, middle), (middle, range.end)].map(|(first, end)| {
        let values = || {
            let wanted = program[first..end].iter().flat_map(wanted);
            wanted.filter_map(|(fact, value)| (fact == range.fact).then_some(value))
        };
        Range {
            fact: range.fact,
            first,
            end,
            least: values().min().unwrap_or(u32::MAX),
            greatest: values().max().unwrap_or(0),
        }
    });
    ranges.push(range);
    if one.greatest < other.least || other.greatest < one.least {
        for half in [one, other].into_iter().filter(Range::is_worth_it) {
            push_with_halves(ranges, program, half);
        }
    }
}

/// The facts that `rule` wants to be equal to a value. Groups are left out where supplementary ones will do too.
fn wanted(rule: &Compiled) -> impl Iterator<Item = (Fact, u32)> {
    rule.tests
        .iter()
        .filter(|test| test.comparison == Comparison::EQUAL && test.groups == Groups::DoNot)
        .map(|test| (test.fact, test.value))
}

/// The index at which each rule is entered, and behind them that of the end.
fn entries(program: &[Compiled], ranges: &[Range], start: usize) -> Option<Vec<u16>> {
    let index = |at| {
        let index = u16::try_from(at).ok()?;
        (u32::from(index) < MAX_CONDITIONS).then_some(index)
    };
    let mut entries = Vec::with_capacity(program.len() + 1);
    let mut ranges = ranges.iter().peekable();
    let mut at = start;
    for (place, rule) in program.iter().enumerate() {
        entries.push(index(at)?);
        while ranges.next_if(|range| range.first == place).is_some() {
            at += 2;
        }
        at += rule.tests.len();
    }
    entries.push(index(at)?);
    Some(entries)
}

/// For each test of each rule where to go on if it fails: at the first later rule without the same test.
fn targets(program: &[Compiled], entries: &[u16]) -> Vec<Vec<u16>> {
    let mut targets: Vec<Vec<u16>> = vec![Vec::new(); program.len()];
    for place in (0..program.len()).rev() {
        targets[place] = program[place]
            .tests
            .iter()
            .map(|test| {
                same(program.get(place + 1), test)
                    .map_or(entries[place + 1], |index| targets[place + 1][index])
            })
            .collect();
    }
    targets
}

/// For each rule where to go on if it cannot be told whether it matches: at the first later rule that might do something else or
/// surely match. One more of the same that is in doubt changes nothing.
fn in_doubt(program: &[Compiled], entries: &[u16]) -> Vec<u16> {
    let mut targets = entries[1..].to_vec();
    for place in (1..program.len()).rev() {
        let (rule, next) = (&program[place - 1], &program[place]);
        if rule.action == next.action && next.tests.contains(&UNJUDGED) {
            targets[place - 1] = targets[place];
        }
    }
    targets
}

/// Where in `rule` the same test stands.
fn same(rule: Option<&Compiled>, test: &Test) -> Option<usize> {
    rule?.tests.iter().position(|other| other == test)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use collector_ebpf::{Conditions, Facts, Judgement, MAX_STEPS, NO_RULE, Ruling, judge};
    use proptest::prelude::*;

    use super::*;
    use crate::audit::arch::Arch;
    use crate::audit::rules::{Field, Operator, Permissions, Rule, Watched};
    use crate::probe::compile;

    /// Conditions that count how often they are asked for.
    struct Counted {
        conditions: Vec<Condition>,
        steps: Cell<u32>,
    }

    impl Conditions for Counted {
        fn at(&self, index: u32) -> Option<&Condition> {
            self.steps.set(self.steps.get() + 1);
            self.conditions.get(index as usize)
        }
    }

    /// What a program that is laid out from `start` on says, and after how many conditions.
    fn walk_from(start: u16, program: &[Compiled], facts: &Facts) -> (Judgement, u32) {
        let mut conditions = vec![Condition::END; usize::from(start)];
        conditions.extend(lay_out(program, usize::from(start)).unwrap());
        let counted = Counted {
            conditions,
            steps: Cell::new(0),
        };
        let judgement = judge(&counted, start, &mut facts.clone());
        (judgement, counted.steps.get())
    }

    /// Whether a rule matches, each of its tests asked by itself.
    fn matches(rule: &Compiled, facts: &Facts) -> Option<bool> {
        let holds = |test: &Test| {
            let left = facts.values[test.fact as usize];
            if facts.impossible & test.fact.bit() != 0 {
                Some(false)
            } else if facts.known & test.fact.bit() == 0
                || test.groups == Groups::Count && left != test.value
            {
                None
            } else {
                Some(compile::compare(left, test.comparison, test.value))
            }
        };
        let held: Vec<_> = rule.tests.iter().map(holds).collect();
        if held.contains(&Some(false)) {
            Some(false)
        } else if held.contains(&None) {
            None
        } else {
            Some(true)
        }
    }

    /// What rules say one after the other.
    fn one_by_one(program: &[Compiled], facts: &Facts) -> (Ruling, u16) {
        let mut perhaps_always = None;
        let mut perhaps_never = false;
        for rule in program {
            match (rule.action, matches(rule, facts)) {
                (Action::Always, Some(true)) if perhaps_never => return (Ruling::MAYBE, NO_RULE),
                (Action::Always, Some(true)) if perhaps_always.is_some() => {
                    return (Ruling::YES, NO_RULE);
                }
                (Action::Always, Some(true)) => return (Ruling::YES, rule.number),
                (Action::Never, Some(true)) => break,
                (Action::Always, None) => {
                    perhaps_always = perhaps_always.or(Some(rule.number));
                }
                (Action::Never, None) => perhaps_never = true,
                (_, Some(false)) => {}
            }
        }
        perhaps_always.map_or((Ruling::NO, NO_RULE), |rule| (Ruling::MAYBE, rule))
    }

    const FACTS: [Fact; 5] = [Fact::Uid, Fact::Gid, Fact::Auid, Fact::Exit, Fact::Unjudged];

    fn a_test() -> impl Strategy<Value = Test> {
        let comparison = prop_oneof![
            3 => Just(Comparison::EQUAL),
            1 => prop::sample::select(vec![
                Comparison::NOT_EQUAL,
                Comparison::LESS,
                Comparison::GREATER,
                Comparison::LESS_OR_EQUAL,
                Comparison::GREATER_OR_EQUAL,
                Comparison::BIT_MASK,
                Comparison::BIT_TEST,
            ]),
        ];
        let test = (
            prop::sample::select(&FACTS),
            comparison,
            0..9_u32,
            any::<bool>(),
        );
        let test = test.prop_map(|(fact, comparison, value, count)| Test {
            fact,
            comparison,
            value,
            groups: if count && fact == Fact::Gid {
                Groups::Count
            } else {
                Groups::DoNot
            },
        });
        prop_oneof![4 => test, 1 => Just(UNJUDGED)]
    }

    /// Whom the rules of a program are about.
    #[derive(Clone, Copy, Debug)]
    enum Users {
        Any,
        OneEach,
        OneEachInOrder,
    }

    fn a_program() -> impl Strategy<Value = Vec<Compiled>> {
        let users = prop::sample::select(vec![Users::Any, Users::OneEach, Users::OneEachInOrder]);
        let action = prop::sample::select(vec![Action::Always, Action::Never]);
        let rule = (action, prop::collection::vec(a_test(), 1..4), 0..9_u32);
        (users, prop::collection::vec(rule, 1..40)).prop_map(|(users, rules)| {
            let rules = rules.into_iter().zip(0_u16..);
            let finished = rules.map(|((action, mut tests, uid), number)| {
                tests.extend(match users {
                    Users::Any => None,
                    Users::OneEach => Some(is(Fact::Uid, uid)),
                    Users::OneEachInOrder => Some(is(Fact::Uid, u32::from(number) / 4)),
                });
                compile::finish(action, number, tests, 0)
            });
            finished.collect()
        })
    }

    fn is(fact: Fact, value: u32) -> Test {
        Test {
            fact,
            comparison: Comparison::EQUAL,
            value,
            groups: Groups::DoNot,
        }
    }

    fn some_facts() -> impl Strategy<Value = Facts> {
        let fact = (0..10_u32, 0..4_u32);
        prop::collection::vec(fact, FACTS.len() - 1).prop_map(|values| {
            let mut facts = Facts::default();
            facts.set(Fact::One, 1);
            for (fact, (value, what)) in FACTS.into_iter().zip(values) {
                match what {
                    0 => {}
                    1 => facts.impossible |= fact.bit(),
                    _ => facts.set(fact, value),
                }
            }
            facts
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 4_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn what_is_passed_over_would_not_have_matched(
            program in a_program(), facts in some_facts(), start in 0..100_u16,
        ) {
            let judgement = walk_from(start, &program, &facts).0;
            let (ruling, rule) = one_by_one(&program, &facts);
            prop_assert_eq!((judgement.ruling, judgement.rule), (ruling, rule));
        }

        #[test]
        fn a_walk_only_goes_forward(program in a_program(), start in 0..100_usize) {
            let conditions = lay_out(&program, start).unwrap();
            let end = start + conditions.len() - 1;
            prop_assert_eq!(conditions.last(), Some(&Condition::END));
            for (index, condition) in (start..end).zip(&conditions) {
                for target in [condition.otherwise, condition.in_doubt] {
                    let target = usize::from(target);
                    prop_assert!(index < target && target <= end, "{index}: {condition:?}");
                }
            }
        }
    }

    /// Rules `always` that each want one value of a fact.
    fn of_each(fact: Fact, values: impl IntoIterator<Item = u32>) -> Vec<Compiled> {
        let tests = values.into_iter().map(|value| vec![is(fact, value)]);
        tests
            .zip(0..)
            .map(|(tests, number)| compile::finish(Action::Always, number, tests, 0))
            .collect()
    }

    fn facts(of: &[(Fact, u32)]) -> Facts {
        let mut facts = Facts::default();
        facts.set(Fact::One, 1);
        for (fact, value) in of {
            facts.set(*fact, *value);
        }
        facts
    }

    #[test]
    fn one_rule_of_many_is_found_in_few_steps() {
        let rules = of_each(Fact::Uid, 1000..2000);
        assert!(rules.len() > MAX_STEPS as usize);
        for uid in [0, 999, 2000, u32::MAX] {
            let (judgement, steps) = walk_from(0, &rules, &facts(&[(Fact::Uid, uid)]));
            assert_eq!(
                (judgement.ruling, steps),
                (Ruling::NO, 3 - u32::from(uid < 1000))
            );
        }
        // Four conditions for each time that its part is halved, seven times, and the rules of the last part.
        for uid in 1000..2000 {
            let (judgement, steps) = walk_from(0, &rules, &facts(&[(Fact::Uid, uid)]));
            assert_eq!(judgement.ruling, Ruling::YES);
            assert_eq!(u32::from(judgement.rule), uid - 1000);
            assert!(steps <= 4 * 7 + 16, "{uid}: {steps}");
        }
    }

    #[test]
    fn what_cannot_be_passed_over_takes_hardly_more_than_the_rules_themselves() {
        let interleaved = of_each(Fact::Uid, (0..160).map(|n| 1000 + n + 60_000 * (n % 2)));
        let (judgement, steps) = walk_from(0, &interleaved, &facts(&[(Fact::Uid, 5000)]));
        assert_eq!((judgement.ruling, steps), (Ruling::NO, 2 + 160 + 1));
        let of_results = of_each(Fact::Exit, 0..160);
        let (judgement, steps) = walk_from(0, &of_results, &facts(&[]));
        assert_eq!(judgement.ruling, Ruling::MAYBE);
        assert!(steps <= 160 * 3 / 2, "{steps}");
    }

    #[test]
    fn what_has_no_room_is_not_laid_out() {
        let rules = of_each(Fact::Uid, [5, 6]);
        let room = MAX_CONDITIONS as usize - 3;
        assert_eq!(
            lay_out(&rules, room).map(|conditions| conditions.len()),
            Some(3)
        );
        assert_eq!(lay_out(&rules, room + 1), None);
        assert_eq!(lay_out(&rules, usize::from(u16::MAX)), None);
    }

    const ARCH: Arch = Arch::NATIVE;

    /// How many conditions it takes to judge an openat of root, who has logged in as `auid`, when it is made.
    fn steps(rules: &[Rule], flags: i32, auid: u32) -> (Ruling, u32) {
        let syscall = ARCH.syscall_number("openat").unwrap();
        let program: Vec<Compiled> = rules
            .iter()
            .zip(0..)
            .map(|(rule, place)| compile::exit(rule, place, ARCH, syscall).unwrap())
            .collect();
        let set = u32::from(auid != u32::MAX);
        let mut facts = facts(&[(Fact::Uid, 0), (Fact::Auid, auid), (Fact::AuidSet, set)]);
        facts.set_args(&[0, 0, flags as u64, 0, 0, 0, 0, 0]);
        let (judgement, steps) = walk_from(0, &program, &facts);
        (judgement.ruling, steps)
    }

    #[test]
    fn rules_of_security_guides_that_ask_the_same_take_few_steps() {
        let watches: Vec<Rule> = (0..300)
            .map(|n| {
                let path = format!("/etc/{n}");
                let asked = match n % 2 {
                    0 => Permissions::WRITE,
                    _ => Permissions::WRITE.and(Permissions::ATTRIBUTES),
                };
                Rule::watch(Watched::Path(path.as_bytes()), asked)
            })
            .collect();
        assert_eq!(steps(&watches, libc::O_RDONLY, 1000), (Ruling::NO, 2));
        assert_eq!(steps(&watches, libc::O_WRONLY, 1000), (Ruling::MAYBE, 3));
        let refused: Vec<Rule> = (0..100)
            .map(|n| {
                Rule::always_exit()
                    .arch(ARCH)
                    .syscalls(ARCH, &["openat"])
                    .condition(Field::EXIT, Operator::EQUAL, [-13_i32, -1][n % 2] as u32)
                    .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
                    .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
                    .text(Field::DIR, Operator::EQUAL, format!("/home/{n}"))
            })
            .collect();
        // A daemon, root, and a user.
        assert_eq!(steps(&refused, libc::O_RDONLY, u32::MAX), (Ruling::NO, 6));
        assert_eq!(steps(&refused, libc::O_RDONLY, 0), (Ruling::NO, 5));
        assert_eq!(steps(&refused, libc::O_RDONLY, 1000), (Ruling::MAYBE, 7));
    }
}
