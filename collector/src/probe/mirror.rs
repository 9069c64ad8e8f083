//! The loaded audit rules, compiled into what the BPF programs evaluate.
//!
//! Owns the way from `struct audit_rule_data` to [`Condition`]s, with the semantics of kernel/auditsc.c
//! `audit_filter_rules` (6.12); must not know maps or the kernel at hand. The evaluator is
//! [`collector_ebpf::judge`], the same in the BPF programs and here. A field that neither can judge makes its rule
//! *maybe*; nothing is guessed.
//!
//! Bounds: [`MAX_CONDITIONS`] conditions in all, [`MAX_STEPS`](collector_ebpf::MAX_STEPS) per call; what does not fit
//! is *maybe*.

use std::collections::HashMap;

use collector_ebpf::{
    Comparison, Condition, Conditions, Fact, Facts, MAX_CONDITIONS, NO_PROGRAM, Plan, Ruling,
    SYSCALL_NUMBERS,
};

use crate::audit::arch::Arch;
use crate::audit::rules::{self, Action, Field, FilterList, Operator, Rule};
use crate::probe::calls::{self, PermissionTest};
use crate::probe::observation::{Observation, Verdict};

/// In place of a rule's number where a program did not fit.
const MANY_RULES: u16 = u16::MAX - 1;
/// The record type whose loss loses the event (kernel/auditsc.c `audit_log_exit`).
const SYSCALL_RECORD: u32 = 1300;

/// One set of rules in compiled form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// By system call number: the plan of [`Arch::NATIVE`] and of [`Arch::COMPAT`].
    plans: Vec<[Plan; 2]>,
    conditions: Vec<Condition>,
    /// The keys of the exit list's rules, in its order.
    keys: Vec<Vec<Box<[u8]>>>,
    /// System calls whose rules did not fit.
    overflowed: u32,
}

/// What the rules say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// None: no event.
    pub verdict: Option<Verdict>,
    /// The rule behind the verdict: its place in the exit list; none where it may be one of several.
    pub rule: Option<u16>,
}

impl Mirror {
    /// Compiles the rules of all lists, in the kernel's order. The exit list makes verdicts, the exclude list takes
    /// them back; the others say nothing about system calls.
    pub fn compile(rules: &[Rule]) -> Self {
        let exit: Vec<&Rule> = on_list(rules, FilterList::EXIT);
        let exclude = compile_exclude(&on_list(rules, FilterList::EXCLUDE));
        let mut mirror = Self {
            plans: vec![[Plan::NONE; 2]; SYSCALL_NUMBERS as usize],
            conditions: Vec::new(),
            keys: exit
                .iter()
                .map(|rule| rule.keys().map(Into::into).collect())
                .collect(),
            overflowed: 0,
        };
        // Many calls are named by the same rules: they share a program.
        let mut programs = HashMap::new();
        for (index, arch) in arches().into_iter().enumerate() {
            let Some(arch) = arch else { continue };
            for syscall in 0..SYSCALL_NUMBERS {
                let mut program: Vec<Compiled> = exit
                    .iter()
                    .enumerate()
                    .filter(|(_, rule)| rule.names_syscall(syscall))
                    .filter_map(|(place, rule)| compile_exit(rule, place, arch, syscall))
                    .collect();
                if !program.iter().any(|rule| rule.action == Action::Always) {
                    continue;
                }
                program.splice(0..0, exclude.iter().cloned());
                let mut plan = calls::plan(arch, syscall);
                plan.flags |= asks(&program);
                plan.start = *programs
                    .entry(program)
                    .or_insert_with_key(|program| mirror.add(program));
                mirror.overflowed += u32::from(plan.start == 0);
                mirror.plans[syscall as usize][index] = plan;
            }
        }
        mirror
    }

    /// Whether the programs watch `syscall` of `arch` at all.
    pub fn covers(&self, arch: Arch, syscall: u32) -> bool {
        self.start(arch, syscall) != NO_PROGRAM
    }

    /// Judges a call by what is known of it.
    pub fn judge(&self, arch: Arch, syscall: u32, facts: &Facts) -> Judgement {
        let start = self.start(arch, syscall);
        if start == NO_PROGRAM {
            return Judgement {
                verdict: None,
                rule: None,
            };
        }
        let mut facts = *facts;
        let judgement = collector_ebpf::judge(&List(&self.conditions), start, &mut facts);
        Judgement {
            verdict: verdict(judgement.ruling),
            rule: rule_number(judgement.rule),
        }
    }

    /// How many rules the exit list has.
    pub fn exit_rules(&self) -> usize {
        self.keys.len()
    }

    /// The keys of the exit list's rule at place `rule`; none where it has none, or there is no such rule.
    pub fn keys(&self, rule: u16) -> &[Box<[u8]>] {
        self.keys.get(usize::from(rule)).map_or(&[], Vec::as_slice)
    }

    /// How many system calls have more rules than fit, so that all they get is *maybe*.
    pub fn overflowed(&self) -> u32 {
        self.overflowed
    }

    /// What to do by system call number and arch.
    pub(crate) fn plans(&self) -> &[[Plan; 2]] {
        &self.plans
    }

    /// The conditions all plans refer to.
    pub(crate) fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn start(&self, arch: Arch, syscall: u32) -> u16 {
        let index = arches().into_iter().position(|known| known == Some(arch));
        match (index, self.plans.get(syscall as usize)) {
            (Some(index), Some(plans)) => plans[index].start,
            _ => NO_PROGRAM,
        }
    }

    /// Appends a program and returns where it starts.
    fn add(&mut self, program: &[Compiled]) -> u16 {
        if self.conditions.is_empty() {
            // At 0: what stands for every program that does not fit.
            self.conditions.push(Condition {
                value: 1,
                next_rule: NO_PROGRAM,
                rule: MANY_RULES,
                fact: Fact::Unjudged as u8,
                comparison: Comparison::EQUAL.0,
                flags: Condition::LAST | Condition::ALWAYS,
                padding: 0,
            });
        }
        let length: usize = program.iter().map(|rule| rule.tests.len()).sum();
        if self.conditions.len() + length > MAX_CONDITIONS as usize {
            return 0;
        }
        let start = self.conditions.len() as u16;
        for (place, rule) in program.iter().enumerate() {
            let next = self.conditions.len() + rule.tests.len();
            let next_rule = if place + 1 == program.len() {
                NO_PROGRAM
            } else {
                next as u16
            };
            for (index, test) in rule.tests.iter().enumerate() {
                let mut flags = 0;
                if index + 1 == rule.tests.len() {
                    flags |= Condition::LAST;
                }
                if rule.action == Action::Always {
                    flags |= Condition::ALWAYS;
                }
                if test.groups == Groups::Count {
                    flags |= Condition::GROUPS;
                }
                self.conditions.push(Condition {
                    value: test.value,
                    next_rule,
                    rule: rule.number,
                    fact: test.fact as u8,
                    comparison: test.comparison.0,
                    flags,
                    padding: 0,
                });
            }
        }
        start
    }
}

/// The facts of a call that has been observed. What the observation does not carry stays unknown.
pub fn facts_of(observation: &Observation) -> Facts {
    let mut facts = Facts::default();
    let who = &observation.credentials;
    for (fact, value) in [
        (Fact::One, 1),
        (Fact::Pid, observation.tgid),
        (Fact::Ppid, observation.ppid),
        (Fact::Uid, who.uid),
        (Fact::Gid, who.gid),
        (Fact::Suid, who.suid),
        (Fact::Sgid, who.sgid),
        (Fact::Euid, who.euid),
        (Fact::Egid, who.egid),
        (Fact::Fsuid, who.fsuid),
        (Fact::Fsgid, who.fsgid),
        (Fact::Auid, who.auid),
        (Fact::AuidSet, u32::from(who.auid != u32::MAX)),
        (Fact::Session, who.session),
    ] {
        facts.set(fact, value);
    }
    let [a0, a1, a2, a3, a4, a5] = observation.args;
    facts.set_args(&[a0, a1, a2, a3, a4, a5, 0, 0]);
    match observation.result {
        Some(result) => facts.set_result(result),
        None => facts.impossible = Fact::RESULT,
    }
    facts
}

/// What a ruling is called outside.
pub(crate) fn verdict(ruling: Ruling) -> Option<Verdict> {
    match ruling {
        Ruling::NO => None,
        Ruling::YES => Some(Verdict::Inferred),
        _ => Some(Verdict::Maybe),
    }
}

/// A rule's number as it travels.
pub(crate) fn rule_number(rule: u16) -> Option<u16> {
    (rule < MANY_RULES).then_some(rule)
}

/// The arches a program can be for, in the order of a plan.
fn arches() -> [Option<Arch>; 2] {
    [Some(Arch::NATIVE), Arch::COMPAT]
}

fn on_list(rules: &[Rule], list: FilterList) -> Vec<&Rule> {
    rules.iter().filter(|rule| rule.list == list).collect()
}

/// [`Conditions`] in a vector.
struct List<'a>(&'a [Condition]);

impl Conditions for List<'_> {
    fn at(&self, index: u32) -> Option<&Condition> {
        self.0.get(index as usize)
    }
}

/// A rule as tests that must all hold; never empty.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Compiled {
    action: Action,
    number: u16,
    tests: Vec<Test>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Test {
    fact: Fact,
    comparison: Comparison,
    value: u32,
    groups: Groups,
}

/// Whether supplementary groups count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Groups {
    Count,
    DoNot,
}

/// A condition once the call is known.
enum Known {
    True,
    False,
    Open(Test),
}

const UNJUDGED: Test = Test {
    fact: Fact::Unjudged,
    comparison: Comparison::EQUAL,
    value: 1,
    groups: Groups::DoNot,
};

const CERTAIN: Test = Test {
    fact: Fact::One,
    comparison: Comparison::EQUAL,
    value: 1,
    groups: Groups::DoNot,
};

/// Which facts beyond the usual ones a program compares: the BPF programs do not read the others.
fn asks(program: &[Compiled]) -> u16 {
    program
        .iter()
        .flat_map(|rule| &rule.tests)
        .fold(0, |flags, test| match test.fact {
            Fact::Auid | Fact::AuidSet | Fact::Session => flags | Plan::ASKS_LOGIN,
            Fact::Personality => flags | Plan::ASKS_PERSONALITY,
            _ => flags,
        })
}

/// What is left of a rule for one call; none where it cannot match.
fn compile_exit(rule: &Rule, place: usize, arch: Arch, syscall: u32) -> Option<Compiled> {
    let mut tests = Vec::with_capacity(rule.conditions.len());
    for condition in &rule.conditions {
        match compile_condition(condition, arch, syscall) {
            Known::True => {}
            Known::False => return None,
            Known::Open(test) => tests.push(test),
        }
    }
    Some(finish(
        rule.action,
        u16::try_from(place).unwrap_or(MANY_RULES),
        tests,
    ))
}

/// Puts the tests that decide before those that cannot: all must hold, so their order is free.
fn finish(action: Action, number: u16, mut tests: Vec<Test>) -> Compiled {
    tests.sort_by_key(|test| test.fact == Fact::Unjudged);
    tests.dedup();
    if tests.is_empty() {
        tests.push(CERTAIN);
    }
    Compiled {
        action,
        number,
        tests,
    }
}

fn compile_condition(condition: &rules::Condition, arch: Arch, syscall: u32) -> Known {
    let value = condition.value;
    let Some(comparison) = comparison(condition.operator) else {
        // kernel/auditfilter.c audit_comparator: an operator it does not know never holds.
        return Known::False;
    };
    let test = |fact| {
        Known::Open(Test {
            fact,
            comparison,
            value,
            groups: Groups::DoNot,
        })
    };
    match condition.field {
        Field::FILTERKEY => Known::True,
        Field::ARCH => known(compare(arch.0, comparison, value)),
        Field::PID => test(Fact::Pid),
        Field::PPID => test(Fact::Ppid),
        Field::PERS => test(Fact::Personality),
        Field::SESSIONID => test(Fact::Session),
        Field::LOGINUID_SET => test(Fact::AuidSet),
        Field::EXIT => test(Fact::Exit),
        Field::ARG0 => test(Fact::Arg0),
        Field::ARG1 => test(Fact::Arg1),
        Field::ARG2 => test(Fact::Arg2),
        Field::ARG3 => test(Fact::Arg3),
        // The kernel keeps 1 for success and 2 for failure, and compares with the one the rule's value stands for.
        Field::SUCCESS => Known::Open(Test {
            fact: Fact::Success,
            comparison,
            value: if value != 0 { 1 } else { 2 },
            groups: Groups::DoNot,
        }),
        Field::PERM => permission(calls::permission_test(arch, syscall), comparison, value),
        // Fields of the other lists, which audit_filter_rules does not know: they never hold.
        Field::MSGTYPE | Field::FSTYPE => Known::False,
        Field::WATCH
        | Field::DIR
        | Field::INODE
        | Field::DEVMAJOR
        | Field::DEVMINOR
        | Field::FILETYPE
        | Field::OBJ_UID
        | Field::OBJ_GID
            if calls::names_no_file(arch, syscall) && comparison != Comparison::NOT_EQUAL =>
        {
            Known::False
        }
        field => match identity(field, value) {
            // audit_uid_comparator and audit_gid_comparator know no bit operators.
            Some(_) if matches!(comparison, Comparison::BIT_MASK | Comparison::BIT_TEST) => {
                Known::False
            }
            Some((fact, value)) => Known::Open(Test {
                fact,
                comparison,
                value,
                groups: if matches!(field, Field::GID | Field::EGID)
                    && matches!(comparison, Comparison::EQUAL | Comparison::NOT_EQUAL)
                {
                    Groups::Count
                } else {
                    Groups::DoNot
                },
            }),
            None => Known::Open(UNJUDGED),
        },
    }
}

/// Users and groups.
fn identity(field: Field, value: u32) -> Option<(Fact, u32)> {
    Some(match field {
        Field::UID => (Fact::Uid, value),
        Field::EUID => (Fact::Euid, value),
        Field::SUID => (Fact::Suid, value),
        Field::FSUID => (Fact::Fsuid, value),
        Field::GID => (Fact::Gid, value),
        Field::EGID => (Fact::Egid, value),
        Field::SGID => (Fact::Sgid, value),
        Field::FSGID => (Fact::Fsgid, value),
        // kernel/auditfilter.c audit_data_to_entry takes auid=-1 for `loginuid_set=0`, whatever the operator.
        Field::LOGINUID if value == u32::MAX => (Fact::AuidSet, 0),
        Field::LOGINUID => (Fact::Auid, value),
        _ => return None,
    })
}

fn permission(test: PermissionTest, comparison: Comparison, value: u32) -> Known {
    let negated = comparison == Comparison::NOT_EQUAL;
    match test {
        PermissionTest::Fixed(asked) => known((asked & value != 0) != negated),
        // A test for *no* common bit has no comparison of its own.
        _ if negated => Known::Open(UNJUDGED),
        PermissionTest::OpenFlags1 | PermissionTest::OpenFlags2 => Known::Open(Test {
            fact: if test == PermissionTest::OpenFlags1 {
                Fact::OpenAccess1
            } else {
                Fact::OpenAccess2
            },
            comparison: Comparison::BIT_MASK,
            value,
            groups: Groups::DoNot,
        }),
        PermissionTest::Unknown => Known::Open(UNJUDGED),
    }
}

/// The exclude list as rules `never` before all others (kernel/auditfilter.c `audit_filter`): where one drops the
/// SYSCALL record, the event does not happen.
fn compile_exclude(rules: &[&Rule]) -> Vec<Compiled> {
    let mut compiled = Vec::new();
    // The kernel stops at a field it does not know there, if it gets as far as that field.
    let mut after_unknown = false;
    'rules: for rule in rules {
        let mut tests = Vec::new();
        let mut unknown = false;
        for condition in &rule.conditions {
            let Some(comparison) = comparison(condition.operator) else {
                continue 'rules;
            };
            let fact = match condition.field {
                Field::MSGTYPE if compare(SYSCALL_RECORD, comparison, condition.value) => continue,
                Field::MSGTYPE => continue 'rules,
                Field::PID => Some((Fact::Pid, condition.value)),
                Field::LOGINUID_SET => Some((Fact::AuidSet, condition.value)),
                Field::UID | Field::GID | Field::LOGINUID => {
                    identity(condition.field, condition.value)
                }
                Field::EXE
                | Field::SUBJ_USER
                | Field::SUBJ_ROLE
                | Field::SUBJ_TYPE
                | Field::SUBJ_SEN
                | Field::SUBJ_CLR => None,
                _ => {
                    unknown = true;
                    continue;
                }
            };
            tests.push(fact.map_or(UNJUDGED, |(fact, value)| Test {
                fact,
                comparison,
                value,
                groups: Groups::DoNot,
            }));
        }
        if unknown {
            after_unknown = true;
            continue;
        }
        if after_unknown {
            tests.push(UNJUDGED);
        }
        compiled.push(finish(Action::Never, MANY_RULES, tests));
    }
    compiled
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::EQUAL => Comparison::EQUAL,
        Operator::NOT_EQUAL => Comparison::NOT_EQUAL,
        Operator::LESS => Comparison::LESS,
        Operator::GREATER => Comparison::GREATER,
        Operator::LESS_OR_EQUAL => Comparison::LESS_OR_EQUAL,
        Operator::GREATER_OR_EQUAL => Comparison::GREATER_OR_EQUAL,
        Operator::BIT_MASK => Comparison::BIT_MASK,
        Operator::BIT_TEST => Comparison::BIT_TEST,
        _ => return None,
    })
}

/// `audit_comparator` where the left-hand side is known already.
fn compare(left: u32, comparison: Comparison, right: u32) -> bool {
    match comparison {
        Comparison::EQUAL => left == right,
        Comparison::NOT_EQUAL => left != right,
        Comparison::LESS => left < right,
        Comparison::GREATER => left > right,
        Comparison::LESS_OR_EQUAL => left <= right,
        Comparison::GREATER_OR_EQUAL => left >= right,
        Comparison::BIT_MASK => left & right != 0,
        Comparison::BIT_TEST => left & right == right,
        _ => false,
    }
}

fn known(holds: bool) -> Known {
    if holds { Known::True } else { Known::False }
}
