//! The audit rules in compiled form, and the evaluator.
//!
//! A rule becomes a run of [`Condition`]s; the last one of a rule carries its action, and each one carries where the
//! next rule begins. The list for one (arch, system call) is such runs one after the other. Evaluation is
//! three-valued: a field that cannot be judged here makes its rule *maybe*, and the first rule that surely matches
//! ends the walk, as in kernel/auditsc.c `__audit_filter_op`. Comparisons are those of `audit_comparator` in
//! kernel/auditfilter.c (6.12): unsigned and 32 bits wide, also for `exit` and the arguments.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System call numbers a rule's mask can name (`AUDIT_BITMASK_SIZE` words of 32 bits).
pub const SYSCALL_NUMBERS: u32 = 2048;
/// Conditions in one compiled set of rules.
pub const MAX_CONDITIONS: u32 = 8192;
/// Conditions looked at for one call; more make the verdict *maybe*.
pub const MAX_STEPS: u32 = 256;
/// [`Plan::start`] of a call that no rule reports, and the end of a program.
pub const NO_PROGRAM: u16 = u16::MAX;
/// No rule in particular.
pub const NO_RULE: u16 = u16::MAX;

/// Which of the two buffers of rules is in force, and which generation that is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct Active {
    /// 0 or 1.
    pub buffer: u32,
    /// Counts the refreshes.
    pub generation: u32,
}

/// What to do about one system call of one arch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Plan {
    /// The first condition of its rules, or [`NO_PROGRAM`].
    pub start: u16,
    /// See the constants.
    pub flags: u16,
    /// The arguments that are paths, each plus one; 0 is none.
    pub paths: [u8; 2],
    /// The argument that points to a `struct sockaddr`, plus one; 0 is none.
    pub sockaddr: u8,
    /// The argument that holds its length, plus one.
    pub sockaddr_length: u8,
}

impl Plan {
    /// The call does not come back (exit, exit_group): sampled at its entry.
    pub const NO_RETURN: u16 = 1;
    /// The call replaces the program: on success its argument vector is read from the new memory.
    pub const EXEC: u16 = 2;
    /// The call may change uids, gids or groups, so they say nothing at its entry.
    pub const CHANGES_IDS: u16 = 4;
    /// The call may change login uid, session or personality.
    pub const CHANGES_LOGIN: u16 = 8;
    /// The call changes the working directory; audit records the old one.
    pub const CHANGES_CWD: u16 = 16;
    /// `sockaddr` names a `struct msghdr` that holds address and length.
    pub const MESSAGE: u16 = 32;
    /// The call is socketcall(2), which hides its arguments behind a pointer.
    pub const SOCKETCALL: u16 = 64;
    /// A rule asks for login uid or session.
    pub const ASKS_LOGIN: u16 = 128;
    /// A rule asks for the personality.
    pub const ASKS_PERSONALITY: u16 = 256;

    /// Nothing to do.
    pub const NONE: Self = Self {
        start: NO_PROGRAM,
        flags: 0,
        paths: [0; 2],
        sockaddr: 0,
        sockaddr_length: 0,
    };
}

/// Both buffers' plans for one system call number, by buffer and then by arch (0: the machine's own, 1: its 32-bit
/// one). Together in one map element, so that an exit finds with one look-up whether its entry may be in flight,
/// also when the rules changed in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Plans {
    /// `[buffer][arch]`
    pub plans: [[Plan; 2]; 2],
}

impl Plans {
    /// Nothing to do in either buffer.
    pub const NONE: Self = Self {
        plans: [[Plan::NONE; 2]; 2],
    };
}

const _: () = assert!(size_of::<Plans>() == 32);

/// One comparison of a compiled rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Condition {
    /// The right-hand side.
    pub value: u32,
    /// Where the next rule begins, or [`NO_PROGRAM`].
    pub next_rule: u16,
    /// The rule's place in its list.
    pub rule: u16,
    /// [`Fact`] as a number.
    pub fact: u8,
    /// [`Comparison`] bits.
    pub comparison: u8,
    /// See the constants.
    pub flags: u8,
    /// Zero.
    pub padding: u8,
}

const _: () = assert!(size_of::<Condition>() == 12);

impl Condition {
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

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fact {
    /// Always 1.
    One,
    /// What cannot be judged here.
    Unjudged,
    /// Process.
    Pid,
    /// Parent process.
    Ppid,
    /// `cred.uid`; this and the seven that follow stand in the kernel's order.
    Uid,
    /// `cred.gid`
    Gid,
    /// `cred.suid`
    Suid,
    /// `cred.sgid`
    Sgid,
    /// `cred.euid`
    Euid,
    /// `cred.egid`
    Egid,
    /// `cred.fsuid`
    Fsuid,
    /// `cred.fsgid`
    Fsgid,
    /// Login uid.
    Auid,
    /// 1 where the login uid is set.
    AuidSet,
    /// Login session.
    Session,
    /// Personality.
    Personality,
    /// The result, restart codes as -EINTR.
    Exit,
    /// 1 for success, 2 for failure (`AUDITSC_SUCCESS`, `AUDITSC_FAILURE`).
    Success,
    /// First argument.
    Arg0,
    /// Second argument.
    Arg1,
    /// Third argument.
    Arg2,
    /// Fourth argument.
    Arg3,
    /// The `AUDIT_PERM_*` bits that the open flags in the second argument ask for (open).
    OpenAccess1,
    /// The same of the third argument (openat).
    OpenAccess2,
}

impl Fact {
    /// This fact's bit in [`Facts::known`] and [`Facts::impossible`].
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Facts that calls with [`Plan::CHANGES_IDS`] may change.
    pub const IDS: u32 = Self::Uid.bit()
        | Self::Gid.bit()
        | Self::Suid.bit()
        | Self::Sgid.bit()
        | Self::Euid.bit()
        | Self::Egid.bit()
        | Self::Fsuid.bit()
        | Self::Fsgid.bit();
    /// Facts that calls with [`Plan::CHANGES_LOGIN`] may change.
    pub const LOGIN: u32 =
        Self::Auid.bit() | Self::AuidSet.bit() | Self::Session.bit() | Self::Personality.bit();
    /// Facts that exist only once the call has returned.
    pub const RESULT: u32 = Self::Exit.bit() | Self::Success.bit();
    /// All facts that can be judged at all.
    pub const ALL: u32 = ((1 << (Self::OpenAccess2 as u32 + 1)) - 1) & !Self::Unjudged.bit();
}

/// What is known about a call.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Facts {
    /// By [`Fact`].
    pub values: [u32; 32],
    /// Bits of the facts that are known.
    pub known: u32,
    /// Bits of the facts the call will never have; comparing them is false, whatever the operator.
    pub impossible: u32,
    /// Where [`judge`] keeps what it knows so far.
    pub walk: Walk,
}

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

impl Facts {
    /// Sets a known fact.
    #[inline(always)]
    pub fn set(&mut self, fact: Fact, value: u32) {
        self.values[fact as usize] = value;
        self.known |= fact.bit();
    }

    /// Sets what follows from a result. Restart codes are told as -EINTR and success is anything but an errno
    /// (`audit_return_fixup` in kernel/auditsc.c, `is_syscall_success` in asm/ptrace.h).
    #[inline(always)]
    pub fn set_result(&mut self, result: i64) {
        self.set(Fact::Exit, audited_result(result) as u32);
        self.set(
            Fact::Success,
            if (-4095..0).contains(&result) { 2 } else { 1 },
        );
    }

    /// Sets what follows from the arguments (six, and two that are never used).
    #[inline(always)]
    pub fn set_args(&mut self, args: &[u64; 8]) {
        self.set(Fact::Arg0, args[0] as u32);
        self.set(Fact::Arg1, args[1] as u32);
        self.set(Fact::Arg2, args[2] as u32);
        self.set(Fact::Arg3, args[3] as u32);
        self.set(Fact::OpenAccess1, open_access(args[1]));
        self.set(Fact::OpenAccess2, open_access(args[2]));
    }
}

/// The result as an audit record prints it.
pub const fn audited_result(result: i64) -> i64 {
    // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND and ERESTART_RESTARTBLOCK, but not ENOIOCTLCMD among them.
    if result <= -512 && result >= -516 && result != -515 {
        -4
    } else {
        result
    }
}

/// `ACC_MODE` of include/linux/fs.h: read is 4, write is 2, as in `AUDIT_PERM_READ` and `AUDIT_PERM_WRITE`.
#[inline(always)]
const fn open_access(flags: u64) -> u32 {
    (0x6624 >> ((flags as u32 & 3) * 4)) & 0xf
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// No event.
    Never,
    /// An event.
    Always,
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

/// Walks the rules that begin at `start`.
#[inline(always)]
pub fn judge<C: Conditions>(conditions: &C, start: u16, facts: &mut Facts) -> Judgement {
    store!(facts.walk.at, u32::from(start));
    store!(facts.walk.doubt, 0);
    store!(facts.walk.perhaps_always, u32::from(NO_RULE));
    store!(facts.walk.perhaps_never, 0);
    store!(facts.walk.ruling, Ruling::MAYBE.0);
    store!(facts.walk.rule, u32::from(NO_RULE));
    for _ in 0..MAX_STEPS {
        let at = load!(facts.walk.at);
        if at == u32::from(NO_PROGRAM) {
            conclude(&mut facts.walk, NO_MATCH, NO_RULE);
            break;
        }
        let Some(condition) = conditions.at(at) else {
            break;
        };
        let (no, unsure) = test::<C>(condition, facts);
        if no != 0 {
            store!(facts.walk.at, u32::from(condition.next_rule));
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
        store!(facts.walk.at, u32::from(condition.next_rule));
        store!(facts.walk.doubt, 0);
    }
    Judgement {
        ruling: Ruling(load!(facts.walk.ruling)),
        rule: load!(facts.walk.rule) as u16,
    }
}

/// In place of a rule's flags: the end of the list, which means the same as `never`.
const NO_MATCH: u8 = 0;

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
            let last_rule = place + 1 == rules.len();
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
                    next_rule: if last_rule { NO_PROGRAM } else { next as u16 },
                    rule: place as u16,
                    fact: *fact as u8,
                    comparison: comparison.0,
                    flags,
                    padding: 0,
                });
            }
        }
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
    fn more_steps_than_the_bound_are_maybe() {
        let rule: (Action, &[_]) = (Action::Never, &[(Fact::Uid, Comparison::EQUAL, 5)]);
        let rules = vec![rule; MAX_STEPS as usize];
        assert_eq!(ruling(&rules, &[(Fact::Uid, 6)]).0, Ruling::MAYBE);
        assert_eq!(ruling(&rules[1..], &[(Fact::Uid, 6)]).0, Ruling::NO);
    }

    #[test]
    fn results_read_as_audit_prints_them() {
        for (result, printed, success) in [
            (3, 3, 1),
            (-2, -2, 2),
            (-512, -4, 2),
            (-516, -4, 2),
            (-515, -515, 2),
            (-4095, -4095, 2),
            (-4096, -4096, 1),
        ] {
            let mut facts = Facts::default();
            facts.set_result(result);
            assert_eq!(facts.values[Fact::Exit as usize], printed as u32);
            assert_eq!(facts.values[Fact::Success as usize], success, "{result}");
        }
    }

    #[test]
    fn open_flags_ask_for_read_write_or_both() {
        assert_eq!([0, 1, 2, 3].map(open_access), [4, 2, 6, 6]);
        assert_eq!(open_access(0o2000000), 4);
    }
}
