//! The rules of one call, laid out as the [`Condition`]s that the BPF programs walk.
//!
//! The kernel goes through every rule; a call that no rule is about would cost a step of BPF for each of them as well.
//! So whatever fails takes with it all it can. A condition that fails goes on at the first later rule that does not ask the
//! same (many rules of security guides ask for the same login uids or open flags), and before rules in a row that
//! each want another value of one fact stand two conditions that the fact lies between the least and the greatest of
//! them, before each half of these again, and so on. A rule in doubt passes over those behind it that can only be in doubt as well and do the same. The order of rules
//! stays, since the first one that matches decides.

use collector_ebpf::{Comparison, Condition, Fact};

use crate::audit::rules::Action;
use crate::probe::compile::{Compiled, Groups, Test, UNJUDGED};

/// Rules in a row that want values of one fact, from which on it pays to look first whether it can be any of them.
const LEAST_RULES_IN_A_RANGE: usize = 4;

/// The conditions of `program`, the first of which will be at index `start`; none where the indices do not suffice.
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
            fact: self.fact as u8,
            comparison: comparison.0,
            flags: 0,
            ..Condition::END
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

fn push_with_halves(ranges: &mut Vec<Range>, program: &[Compiled], range: Range) {
    let middle = range.first.midpoint(range.end);
    let halves = [(range.first, middle), (middle, range.end)].map(|(first, end)| {
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
    let width = range.greatest - range.least;
    ranges.push(range);
    for half in halves {
        // Halves that reach as far as the whole tell no more than that.
        if half.is_worth_it() && half.greatest - half.least < width {
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
    let mut entries = Vec::with_capacity(program.len() + 1);
    let mut ranges = ranges.iter().peekable();
    let mut at = start;
    for (place, rule) in program.iter().enumerate() {
        entries.push(u16::try_from(at).ok()?);
        while ranges.next_if(|range| range.first == place).is_some() {
            at += 2;
        }
        at += rule.tests.len();
    }
    entries.push(u16::try_from(at).ok()?);
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

    /// What a program says, and after how many conditions.
    fn walk(program: &[Compiled], facts: &Facts) -> (Judgement, u32) {
        let counted = Counted {
            conditions: lay_out(program, 0).unwrap(),
            steps: Cell::new(0),
        };
        let judgement = judge(&counted, 0, &mut facts.clone());
        (judgement, counted.steps.get())
    }

    /// What rules say one after the other, each asked by itself.
    fn one_by_one(program: &[Compiled], facts: &Facts) -> (Ruling, u16) {
        let mut perhaps_always = None;
        let mut perhaps_never = false;
        for rule in program {
            let mut alone = rule.clone();
            alone.action = Action::Always;
            let matches = walk(&[alone], facts).0.ruling;
            match (rule.action, matches) {
                (Action::Always, Ruling::YES) if perhaps_never => return (Ruling::MAYBE, NO_RULE),
                (Action::Always, Ruling::YES) if perhaps_always.is_some() => {
                    return (Ruling::YES, NO_RULE);
                }
                (Action::Always, Ruling::YES) => return (Ruling::YES, rule.number),
                (Action::Never, Ruling::YES) => break,
                (Action::Always, Ruling::MAYBE) => {
                    perhaps_always = perhaps_always.or(Some(rule.number));
                }
                (Action::Never, Ruling::MAYBE) => perhaps_never = true,
                _ => {}
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
        (
            prop::sample::select(&FACTS),
            comparison,
            0..9_u32,
            any::<bool>(),
        )
            .prop_map(|(fact, comparison, value, count)| Test {
                fact,
                comparison,
                value,
                groups: if count && fact == Fact::Gid {
                    Groups::Count
                } else {
                    Groups::DoNot
                },
            })
    }

    fn a_program() -> impl Strategy<Value = Vec<Compiled>> {
        let rule = (
            any::<bool>(),
            prop::collection::vec(a_test(), 1..4),
            0..9_u32,
        );
        (prop::collection::vec(rule, 1..40), any::<bool>()).prop_map(|(rules, of_users)| {
            rules
                .into_iter()
                .zip(0..)
                .map(|((always, mut tests, uid), number)| {
                    if of_users {
                        tests.push(Test {
                            fact: Fact::Uid,
                            comparison: Comparison::EQUAL,
                            value: uid,
                            groups: Groups::DoNot,
                        });
                    }
                    let action = if always {
                        Action::Always
                    } else {
                        Action::Never
                    };
                    compile::finish(action, number, tests, 0)
                })
                .collect()
        })
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
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn what_is_passed_over_would_not_have_matched(program in a_program(), facts in some_facts()) {
            let judgement = walk(&program, &facts).0;
            let (ruling, rule) = one_by_one(&program, &facts);
            prop_assert_eq!((judgement.ruling, judgement.rule), (ruling, rule));
        }

        #[test]
        fn a_walk_only_goes_forward(program in a_program(), start in 0..100_usize) {
            let conditions = lay_out(&program, start).unwrap();
            let end = start + conditions.len() - 1;
            for (index, condition) in conditions[..conditions.len() - 1].iter().enumerate() {
                let target = usize::from(condition.otherwise);
                prop_assert!(start + index < target && target <= end, "{index}: {condition:?}");
                if condition.flags & Condition::LAST != 0 {
                    let target = usize::from(condition.in_doubt);
                    prop_assert!(start + index < target && target <= end, "{index}: {condition:?}");
                }
            }
            prop_assert_eq!(conditions.last(), Some(&Condition::END));
        }
    }

    const ARCH: Arch = Arch::NATIVE;
    const READ: i32 = libc::O_RDONLY;
    const WRITE: i32 = libc::O_WRONLY;

    fn openat() -> Rule {
        Rule::always_exit().arch(ARCH).syscalls(ARCH, &["openat"])
    }

    /// How many conditions it takes to judge an openat of user 0 with these flags, when it is made or when it has returned.
    fn steps(rules: &[Rule], flags: i32, auid: u32, result: Option<i64>) -> u32 {
        steps_of(0, rules, flags, auid, result)
    }

    fn steps_of(uid: u32, rules: &[Rule], flags: i32, auid: u32, result: Option<i64>) -> u32 {
        let syscall = ARCH.syscall_number("openat").unwrap();
        let program: Vec<Compiled> = rules
            .iter()
            .zip(0..)
            .map(|(rule, place)| compile::exit(rule, place, ARCH, syscall).unwrap())
            .collect();
        let mut facts = Facts::default();
        for (fact, value) in [
            (Fact::One, 1),
            (Fact::Uid, uid),
            (Fact::Auid, auid),
            (Fact::AuidSet, u32::from(auid != u32::MAX)),
        ] {
            facts.set(fact, value);
        }
        facts.set_args(&[0, 0, flags as u64, 0, 0, 0, 0, 0]);
        if let Some(result) = result {
            facts.set_result(result);
        }
        walk(&program, &facts).1
    }

    #[test]
    fn many_rules_that_are_about_others_take_few_steps() {
        let of_users: Vec<Rule> = (0..1000)
            .map(|n| openat().condition(Field::UID, Operator::EQUAL, 1000 + n))
            .collect();
        assert!(of_users.len() > MAX_STEPS as usize);
        assert_eq!(steps(&of_users, READ, 1000, None), 2);
        // Of one of them: up to four conditions for each time that its part is halved, and the rules of the last part.
        for uid in (1000..2000).step_by(9) {
            let steps = steps_of(uid, &of_users, READ, 1000, None);
            assert!(steps <= 40, "{uid}: {steps}");
        }
        let watches: Vec<Rule> = (0..300)
            .map(|n| {
                let path = format!("/etc/{n}");
                let asked = match n % 2 {
                    0 => Permissions::WRITE,
                    _ => Permissions(Permissions::WRITE.0 | Permissions::ATTRIBUTES.0),
                };
                Rule::watch(Watched::Path(path.as_bytes()), asked)
            })
            .collect();
        assert_eq!(steps(&watches, READ, 1000, None), 2);
        assert_eq!(steps(&watches, WRITE, 1000, None), 3);
        let refused: Vec<Rule> = (0..100)
            .map(|n| {
                openat()
                    .condition(Field::EXIT, Operator::EQUAL, [-13_i32, -1][n % 2] as u32)
                    .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
                    .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
                    .text(Field::DIR, Operator::EQUAL, format!("/home/{n}"))
            })
            .collect();
        // Nobody has logged in, root has, and a user whom the rules mean opens a file without an error.
        assert_eq!(steps(&refused, READ, u32::MAX, None), 6);
        assert_eq!(steps(&refused, READ, 0, None), 5);
        assert_eq!(steps(&refused, READ, 1000, Some(3)), 2);
    }
}
