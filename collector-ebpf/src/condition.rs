//! Audit rules in compiled form.
//!
//! A rule becomes a run of [`Condition`]s, of which the last carries its action. The program for one (arch, system call)
//! is such runs one after the other, and at its end a rule `never` that always matches. A condition says where to go on if it fails,
//! and if its rule is in doubt: not before the next rule, and as much further as nothing there could change the outcome.
//! Conditions that no rule ends with may stand before several rules, to pass over all of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::facts::Fact;

/// Conditions in one compiled set of rules.
pub const MAX_CONDITIONS: u32 = 8192;
/// No rule in particular.
pub const NO_RULE: u16 = u16::MAX;

/// One comparison of a compiled rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Condition {
    /// The right-hand side.
    pub value: u32,
    /// Where to go on if this fails: further on.
    pub otherwise: u16,
    /// Of a rule's last condition, where to go on if it cannot be told whether the rule matches: further on.
    pub in_doubt: u16,
    /// The rule's place in its list, or [`NO_RULE`].
    pub rule: u16,
    /// [`Fact`] as a number.
    pub fact: u8,
    /// [`Comparison`] bits.
    pub comparison: u8,
    /// See the constants.
    pub flags: u8,
    /// Zeros.
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<Condition>() == 16);

impl Condition {
    /// What stands at the end of a program. It never fails and is never in doubt, so it goes on nowhere.
    pub const END: Self = Self {
        value: 1,
        otherwise: 0,
        in_doubt: 0,
        rule: NO_RULE,
        fact: Fact::One as u8,
        comparison: Comparison::EQUAL.0,
        flags: Self::LAST,
        padding: [0; 3],
    };
    /// The rule's last condition.
    pub const LAST: u8 = 1;
    /// The rule's action is `always`, otherwise `never`.
    pub const ALWAYS: u8 = 2;
    /// The supplementary groups count too where the comparison says no (`=`) or yes (`!=`); they are not known
    /// here, so only the other answer is sure.
    pub const GROUPS: u8 = 4;
}

/// A comparison as the set of outcomes that satisfy it, so that evaluating needs no branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Comparison(pub u8);

impl Comparison {
    /// `=`
    pub const EQUAL: Self = Self(0b00010);
    /// `!=`
    pub const NOT_EQUAL: Self = Self(0b00101);
    /// `<`
    pub const LESS: Self = Self(0b00001);
    /// `>`
    pub const GREATER: Self = Self(0b00100);
    /// `<=`
    pub const LESS_OR_EQUAL: Self = Self(0b00011);
    /// `>=`
    pub const GREATER_OR_EQUAL: Self = Self(0b00110);
    /// `&`: any bit in common.
    pub const BIT_MASK: Self = Self(0b01000);
    /// `&=`: all bits of the right-hand side.
    pub const BIT_TEST: Self = Self(0b10000);
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// No event.
    Never,
    /// An event.
    Always,
}
