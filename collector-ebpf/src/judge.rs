//! The evaluator of compiled rules, which the programs and the collector share.
//!
//! Evaluation is three-valued: a field that cannot be judged here makes its rule *maybe*, and the first rule that
//! surely matches ends the walk, as in kernel/auditsc.c `__audit_filter_op`. So does the end of the rules, which is a
//! rule `never` that always matches. Comparisons are those of
//! `audit_comparator` in kernel/auditfilter.c (6.12): unsigned and 32 bits wide, also for `exit` and the arguments.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::condition::{Condition, NO_RULE};
use crate::facts::Facts;
use crate::plan::NO_PROGRAM;

/// Conditions looked at for one call; more make the verdict *maybe*.
pub const MAX_STEPS: u32 = 256;

/// The state of an evaluation, and at its end the result.
///
/// In memory, and read and written as if it were a device, so that the verifier takes each value for any number at
/// each step. Known values would make it follow every combination of every step's outcomes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Walk {
    /// The condition at hand.
    at: u32,
    /// 1 where a condition of the rule at hand could not be judged.
    doubt: u32,
    /// The first rule `always` that perhaps matched.
    perhaps_always: u32,
    /// 1 where a rule `never` perhaps matched.
    perhaps_never: u32,
    ruling: u32,
    rule: u32,
}

/// Reads a field of [`Walk`].
macro_rules! load {
    ($place:expr) => {
        // SAFETY: a field of a live structure; volatile for the reason given there.
        unsafe { (&raw const $place).read_volatile() }
    };
}

/// Writes a field of [`Walk`].
macro_rules! store {
    ($place:expr, $value:expr) => {{
        let value = $value;
        // SAFETY: a field of a live structure that nobody else uses; volatile for the reason given there.
        unsafe { (&raw mut $place).write_volatile(value) }
    }};
}

/// What the rules say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruling(pub u32);

impl Ruling {
    /// No event.
    pub const NO: Self = Self(0);
    /// Perhaps an event.
    pub const MAYBE: Self = Self(1);
    /// An event.
    pub const YES: Self = Self(2);
}

/// A ruling and the rule behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What the rules say.
    pub ruling: Ruling,
    /// Which rule said it; [`NO_RULE`] where it may have been one of several.
    pub rule: u16,
}

/// Where compiled conditions are kept.
pub trait Conditions {
    /// The condition at `index`.
    fn at(&self, index: u32) -> Option<&Condition>;

    /// `value`, in a way that keeps the compiler from turning arithmetic on it into branches.
    #[inline(always)]
    fn opaque(value: u64) -> u64 {
        value
    }
}

/// Walks the rules that begin at `start`. [`NO_PROGRAM`] stands for none, which report nothing.
#[inline(always)]
pub fn judge<C: Conditions>(conditions: &C, start: u16, facts: &mut Facts) -> Judgement {
    store!(facts.walk.at, u32::from(start));
    store!(facts.walk.doubt, 0);
    store!(facts.walk.perhaps_always, u32::from(NO_RULE));
    store!(facts.walk.perhaps_never, 0);
    // What it stays where the walk does not come to an end; there are no conditions at NO_PROGRAM.
    let unfinished = match start {
        NO_PROGRAM => Ruling::NO,
        _ => Ruling::MAYBE,
    };
    store!(facts.walk.ruling, unfinished.0);
    store!(facts.walk.rule, u32::from(NO_RULE));
    for _ in 0..MAX_STEPS {
        let at = load!(facts.walk.at);
        let Some(condition) = conditions.at(at) else {
            break;
        };
        let (no, unsure) = test::<C>(condition, facts);
        if no != 0 {
            store!(facts.walk.at, u32::from(condition.otherwise));
            store!(facts.walk.doubt, 0);
            continue;
        }
        let doubt = load!(facts.walk.doubt) | unsure;
        if condition.flags & Condition::LAST == 0 {
            store!(facts.walk.doubt, doubt);
            store!(facts.walk.at, at + 1);
            continue;
        }
        if doubt == 0 {
            conclude(
                &mut facts.walk,
                condition.flags & Condition::ALWAYS,
                condition.rule,
            );
            break;
        }
        if condition.flags & Condition::ALWAYS == 0 {
            store!(facts.walk.perhaps_never, 1);
        } else if load!(facts.walk.perhaps_always) == u32::from(NO_RULE) {
            store!(facts.walk.perhaps_always, u32::from(condition.rule));
        }
        store!(facts.walk.at, u32::from(condition.in_doubt));
        store!(facts.walk.doubt, 0);
    }
    Judgement {
        ruling: Ruling(load!(facts.walk.ruling)),
        rule: load!(facts.walk.rule) as u16,
    }
}

/// Ends a walk at the first rule that surely matches.
#[inline(always)]
fn conclude(walk: &mut Walk, flags: u8, rule: u16) {
    let perhaps_always = load!(walk.perhaps_always);
    let before = perhaps_always != u32::from(NO_RULE);
    if flags & Condition::ALWAYS == 0 {
        // A perhaps-matching `never` before a sure one changes nothing.
        store!(
            walk.ruling,
            if before {
                Ruling::MAYBE.0
            } else {
                Ruling::NO.0
            }
        );
        store!(walk.rule, perhaps_always);
    } else if load!(walk.perhaps_never) != 0 {
        store!(walk.ruling, Ruling::MAYBE.0);
    } else {
        store!(walk.ruling, Ruling::YES.0);
        // An event in any case, but perhaps with the key of the other rule.
        store!(
            walk.rule,
            if before {
                u32::from(NO_RULE)
            } else {
                u32::from(rule)
            }
        );
    }
}

/// Whether a condition surely fails, and whether it cannot be told. Without branches, see [`Walk`].
#[inline(always)]
fn test<C: Conditions>(condition: &Condition, facts: &Facts) -> (u32, u32) {
    let fact = u32::from(condition.fact & 31);
    let left = C::opaque(u64::from(facts.values[fact as usize]));
    let right = C::opaque(u64::from(condition.value));
    let less = C::opaque(left.wrapping_sub(right)) >> 63;
    let greater = C::opaque(right.wrapping_sub(left)) >> 63;
    let different = less | greater;
    let common = left & right;
    let any = C::opaque(0_u64.wrapping_sub(common)) >> 63;
    let all = 1 - (C::opaque(common.wrapping_sub(right)) >> 63);
    let outcome = less | (1 - different) << 1 | greater << 2 | any << 3 | all << 4;
    let satisfied = C::opaque(outcome & u64::from(condition.comparison));
    let holds = C::opaque(0_u64.wrapping_sub(satisfied)) >> 63;
    let known = u64::from(facts.known >> fact & 1);
    let impossible = u64::from(facts.impossible >> fact & 1);
    // With supplementary groups in play only an equal primary group decides: `=` then holds, `!=` fails.
    let groups = u64::from(condition.flags) >> GROUPS_BIT & 1;
    let unsure = ((1 - known) | (groups & different)) & (1 - impossible);
    let no = impossible | ((1 - holds) & (1 - unsure));
    (no as u32, unsure as u32)
}

/// The place of [`Condition::GROUPS`].
const GROUPS_BIT: u32 = Condition::GROUPS.trailing_zeros();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::{Action, Comparison};
    use crate::facts::Fact;

    struct List(Vec<Condition>);

    impl Conditions for List {
        fn at(&self, index: u32) -> Option<&Condition> {
            self.0.get(index as usize)
        }
    }

    /// A rule: what it does, and its comparisons.
    type Written<'a> = (Action, &'a [(Fact, Comparison, u32)]);

    /// Rules in order.
    fn list(rules: &[Written<'_>]) -> List {
        let mut conditions = Vec::new();
        for (place, (action, tests)) in rules.iter().enumerate() {
            let next = conditions.len() + tests.len();
            for (index, (fact, comparison, value)) in tests.iter().enumerate() {
                let mut flags = 0;
                if index + 1 == tests.len() {
                    flags |= Condition::LAST;
                }
                if *action == Action::Always {
                    flags |= Condition::ALWAYS;
                }
                conditions.push(Condition {
                    value: *value,
                    otherwise: next as u16,
                    in_doubt: next as u16,
                    rule: place as u16,
                    fact: *fact as u8,
                    comparison: comparison.0,
                    flags,
                    padding: [0; 3],
                });
            }
        }
        conditions.push(Condition::END);
        List(conditions)
    }

    fn facts(of: &[(Fact, u32)]) -> Facts {
        let mut facts = Facts::default();
        facts.set(Fact::One, 1);
        for (fact, value) in of {
            facts.set(*fact, *value);
        }
        facts
    }

    const MATCH: (Fact, Comparison, u32) = (Fact::One, Comparison::EQUAL, 1);
    const MAYBE: (Fact, Comparison, u32) = (Fact::Unjudged, Comparison::EQUAL, 1);

    fn ruling(rules: &[Written<'_>], of: &[(Fact, u32)]) -> (Ruling, u16) {
        let judgement = judge(&list(rules), 0, &mut facts(of));
        (judgement.ruling, judgement.rule)
    }

    #[test]
    fn first_match_wins() {
        let never: (Action, &[_]) = (Action::Never, &[(Fact::Uid, Comparison::EQUAL, 5)]);
        let always: (Action, &[_]) = (Action::Always, &[MATCH]);
        assert_eq!(
            ruling(&[never, always], &[(Fact::Uid, 5)]),
            (Ruling::NO, NO_RULE)
        );
        assert_eq!(
            ruling(&[never, always], &[(Fact::Uid, 6)]),
            (Ruling::YES, 1)
        );
        assert_eq!(
            ruling(&[always, never], &[(Fact::Uid, 5)]),
            (Ruling::YES, 0)
        );
    }

    #[test]
    fn a_doubtful_rule_clouds_only_what_it_could_change() {
        let always: (Action, &[_]) = (Action::Always, &[MATCH]);
        let never: (Action, &[_]) = (Action::Never, &[MATCH]);
        let maybe_always: (Action, &[_]) = (Action::Always, &[MAYBE]);
        let maybe_never: (Action, &[_]) = (Action::Never, &[MAYBE]);
        assert_eq!(ruling(&[maybe_always, always], &[]), (Ruling::YES, NO_RULE));
        assert_eq!(
            ruling(&[maybe_never, always], &[]),
            (Ruling::MAYBE, NO_RULE)
        );
        assert_eq!(ruling(&[maybe_always, never], &[]), (Ruling::MAYBE, 0));
        assert_eq!(ruling(&[maybe_never, never], &[]), (Ruling::NO, NO_RULE));
        assert_eq!(ruling(&[maybe_never], &[]), (Ruling::NO, NO_RULE));
        assert_eq!(ruling(&[maybe_always], &[]), (Ruling::MAYBE, 0));
    }

    #[test]
    fn one_sure_no_outweighs_any_doubt_within_a_rule() {
        let rule: (Action, &[_]) = (Action::Always, &[MAYBE, (Fact::Uid, Comparison::EQUAL, 5)]);
        assert_eq!(ruling(&[rule], &[(Fact::Uid, 6)]), (Ruling::NO, NO_RULE));
        assert_eq!(ruling(&[rule], &[(Fact::Uid, 5)]), (Ruling::MAYBE, 0));
    }

    #[test]
    fn doubt_of_one_rule_does_not_leak_into_the_next() {
        let first: (Action, &[_]) = (Action::Never, &[MAYBE, (Fact::Uid, Comparison::EQUAL, 5)]);
        let second: (Action, &[_]) = (Action::Always, &[MATCH]);
        assert_eq!(
            ruling(&[first, second], &[(Fact::Uid, 6)]),
            (Ruling::YES, 1)
        );
    }

    #[test]
    fn comparisons_are_unsigned_and_32_bits_wide() {
        for (comparison, left, right, holds) in [
            (Comparison::EQUAL, 3, 3, true),
            (Comparison::NOT_EQUAL, 3, 3, false),
            (Comparison::LESS, -1_i32 as u32, 0, false),
            (Comparison::GREATER, -1_i32 as u32, 0, true),
            (Comparison::LESS_OR_EQUAL, 3, 3, true),
            (Comparison::GREATER_OR_EQUAL, 2, 3, false),
            (Comparison::BIT_MASK, 0b0110, 0b0011, true),
            (Comparison::BIT_MASK, 0b0100, 0b0011, false),
            (Comparison::BIT_TEST, 0b0110, 0b0011, false),
            (Comparison::BIT_TEST, 0b0111, 0b0011, true),
            // kernel/auditfilter.c: (left & 0) == 0 holds.
            (Comparison::BIT_TEST, 0, 0, true),
            (Comparison::BIT_MASK, 7, 0, false),
        ] {
            let rule: (Action, &[_]) = (Action::Always, &[(Fact::Arg0, comparison, right)]);
            let expected = if holds { Ruling::YES } else { Ruling::NO };
            assert_eq!(
                ruling(&[rule], &[(Fact::Arg0, left)]).0,
                expected,
                "{left} {comparison:?} {right}"
            );
        }
    }

    #[test]
    fn a_fact_the_call_never_has_fails_every_comparison() {
        for comparison in [Comparison::EQUAL, Comparison::NOT_EQUAL] {
            let rules = list(&[(Action::Always, &[(Fact::Exit, comparison, 0)])]);
            let mut none = facts(&[]);
            none.impossible = Fact::RESULT;
            assert_eq!(judge(&rules, 0, &mut none).ruling, Ruling::NO);
        }
    }

    #[test]
    fn groups_leave_only_the_primary_group_certain() {
        for (comparison, primary, expected) in [
            (Comparison::EQUAL, 7, Ruling::YES),
            (Comparison::EQUAL, 8, Ruling::MAYBE),
            (Comparison::NOT_EQUAL, 7, Ruling::NO),
            (Comparison::NOT_EQUAL, 8, Ruling::MAYBE),
        ] {
            let mut rules = list(&[(Action::Always, &[(Fact::Gid, comparison, 7)])]);
            rules.0[0].flags |= Condition::GROUPS;
            assert_eq!(
                judge(&rules, 0, &mut facts(&[(Fact::Gid, primary)])).ruling,
                expected
            );
        }
    }

    #[test]
    fn no_program_reports_nothing() {
        let judgement = judge(&list(&[]), NO_PROGRAM, &mut facts(&[]));
        assert_eq!((judgement.ruling, judgement.rule), (Ruling::NO, NO_RULE));
    }

    #[test]
    fn more_steps_than_the_bound_are_maybe() {
        let rule: (Action, &[_]) = (Action::Never, &[(Fact::Uid, Comparison::EQUAL, 5)]);
        let rules = vec![rule; MAX_STEPS as usize];
        assert_eq!(ruling(&rules, &[(Fact::Uid, 6)]).0, Ruling::MAYBE);
        assert_eq!(ruling(&rules[1..], &[(Fact::Uid, 6)]).0, Ruling::NO);
    }
}
