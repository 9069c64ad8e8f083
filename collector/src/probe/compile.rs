//! One audit rule as the tests that are left of it once arch and system call are known.
//!
//! Semantics as in kernel/auditsc.c `audit_filter_rules` and kernel/auditfilter.c `audit_filter` (6.12).

use collector_ebpf::{Comparison, Fact, Plan, TaskState};

use crate::audit::arch::Arch;
use crate::audit::rules::{self, Action, Field, Operator, Permissions, Rule};
use crate::probe::calls::{self, PermissionTest};
use crate::probe::files;
use crate::probe::mirror::MANY_RULES;

/// The record type whose loss loses the event (kernel/auditsc.c `audit_log_exit`).
pub(super) const SYSCALL_RECORD: u32 = 1300;

/// A rule as tests that must all hold; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Compiled {
    pub(super) action: Action,
    pub(super) number: u16,
    pub(super) tests: Vec<Test>,
    /// What the collector needs to settle the tests that cannot be judged: flags of a [`Plan`].
    asks: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub(super) fact: Fact,
    pub(super) comparison: Comparison,
    pub(super) value: u32,
    pub(super) groups: Groups,
}

/// Whether supplementary groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Groups {
    Count,
    DoNot,
}

/// A condition once the call is known.
enum Known {
    True,
    False,
    Open(Test),
}

pub(super) const UNJUDGED: Test = Test {
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
pub(super) fn asks(program: &[Compiled]) -> u16 {
    let to_settle = program.iter().fold(0, |flags, rule| flags | rule.asks);
    program
        .iter()
        .flat_map(|rule| &rule.tests)
        .fold(to_settle, |flags, test| match test.fact {
            Fact::Auid | Fact::AuidSet | Fact::Session => flags | Plan::ASKS_LOGIN,
            Fact::Personality => flags | Plan::ASKS_PERSONALITY,
            Fact::TaskState => flags | Plan::ASKS_STATE,
            _ => flags,
        })
}

/// What the collector needs to settle a comparison that the programs cannot judge, or not always.
const fn asks_to_settle(field: Field) -> u16 {
    match field {
        Field::EXE => Plan::ASKS_EXE,
        field if files::is_about_files(field) => Plan::ASKS_FILES,
        Field::GID | Field::EGID => Plan::ASKS_GROUPS,
        _ => 0,
    }
}

/// What is left of a rule of the exit list for one call; none where it cannot match.
pub(super) fn exit(rule: &Rule, place: usize, arch: Arch, syscall: u32) -> Option<Compiled> {
    let mut tests = Vec::with_capacity(rule.conditions.len());
    let mut asks = 0;
    for condition in &rule.conditions {
        match compile_condition(condition, arch, syscall) {
            Known::True => {}
            Known::False => return None,
            Known::Open(test) => {
                asks |= asks_to_settle(condition.field);
                tests.push(test);
            }
        }
    }
    let number = u16::try_from(place).unwrap_or(MANY_RULES);
    Some(finish(rule.action, number, tests, asks))
}

/// A rule `always` that no call can be judged by.
pub(super) fn perhaps(number: u16) -> Compiled {
    finish(Action::Always, number, vec![UNJUDGED], 0)
}

/// Puts the tests that decide before those that cannot: all must hold, so their order is free.
pub(super) fn finish(action: Action, number: u16, mut tests: Vec<Test>, asks: u16) -> Compiled {
    tests.sort_by_key(|test| test.fact == Fact::Unjudged);
    tests.dedup();
    if tests.is_empty() {
        tests.push(CERTAIN);
    }
    Compiled {
        action,
        number,
        tests,
        asks,
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
pub(super) fn identity(field: Field, value: u32) -> Option<(Fact, u32)> {
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

/// What open flags can ask for (`ACC_MODE` of include/linux/fs.h), of the `AUDIT_PERM_*` bits.
const OPEN_MAY_ASK: u32 = Permissions::READ.0 | Permissions::WRITE.0;

fn permission(test: PermissionTest, comparison: Comparison, value: u32) -> Known {
    let negated = comparison == Comparison::NOT_EQUAL;
    match test {
        PermissionTest::Fixed(asked) => known((asked & value != 0) != negated),
        // A test for *no* common bit has no comparison of its own.
        _ if negated => Known::Open(UNJUDGED),
        PermissionTest::OpenFlags1 | PermissionTest::OpenFlags2 if value & OPEN_MAY_ASK == 0 => {
            Known::False
        }
        PermissionTest::OpenFlags1 | PermissionTest::OpenFlags2 => Known::Open(Test {
            fact: if test == PermissionTest::OpenFlags1 {
                Fact::OpenAccess1
            } else {
                Fact::OpenAccess2
            },
            comparison: Comparison::BIT_MASK,
            // Without the others more rules ask the same.
            value: value & OPEN_MAY_ASK,
            groups: Groups::DoNot,
        }),
        PermissionTest::Unknown => Known::Open(UNJUDGED),
    }
}

/// The exclude list as rules `never` before all others (kernel/auditfilter.c `audit_filter`): where one drops the
/// SYSCALL record, the event does not happen.
pub(super) fn exclude(rules: &[&Rule]) -> Vec<Compiled> {
    let mut compiled = Vec::new();
    // The kernel goes through a rule's fields in order until one does not hold, and at one that it does not know there
    // it ends the walk through the whole list. Whether it gets as far as that is not followed.
    let mut after_unknown = false;
    'rules: for rule in rules {
        // Without a field there is nothing that could hold.
        if rule.conditions.is_empty() {
            continue;
        }
        let mut tests = Vec::new();
        let mut asks = 0;
        for condition in &rule.conditions {
            if condition.field == Field::EXE {
                asks = Plan::ASKS_EXE;
            }
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
                    after_unknown = true;
                    continue 'rules;
                }
            };
            tests.push(fact.map_or(UNJUDGED, |(fact, value)| Test {
                fact,
                comparison,
                value,
                groups: Groups::DoNot,
            }));
        }
        if after_unknown {
            tests.push(UNJUDGED);
        }
        compiled.push(finish(Action::Never, MANY_RULES, tests, asks));
    }
    compiled
}

/// The task list as rules before those of the exit list. What it said of a task when that was made is in its audit context
/// (kernel/auditsc.c `audit_alloc`): where it said `always` the exit list is not asked any more, and where it said `never`
/// there is no context. There is none either for tasks older than auditing, and whose ids a rule was tried on then is not
/// known now.
pub(super) fn task(rules: &[&Rule]) -> Vec<Compiled> {
    let of_state = |state: TaskState| Test {
        fact: Fact::TaskState,
        comparison: Comparison::EQUAL,
        value: state as u32,
        groups: Groups::DoNot,
    };
    rules
        .iter()
        .map(|rule| {
            let tests = match rule.action {
                Action::Always => vec![of_state(TaskState::Record)],
                Action::Never if is_of_all_tasks(rule) => vec![of_state(TaskState::NoContext)],
                Action::Never => vec![of_state(TaskState::NoContext), UNJUDGED],
            };
            finish(rule.action, MANY_RULES, tests, 0)
        })
        .collect()
}

/// Whether a rule of the task list is of whatever task is made.
pub(super) fn is_of_all_tasks(rule: &Rule) -> bool {
    let key = |condition: &rules::Condition| condition.field == Field::FILTERKEY;
    rule.conditions.iter().all(key)
}

pub(super) fn comparison(operator: Operator) -> Option<Comparison> {
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
pub(super) fn compare(left: u32, comparison: Comparison, right: u32) -> bool {
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
