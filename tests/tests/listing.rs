//! Rules that no line of auditctl makes but the kernel holds: they too are printed as `auditctl -l` prints them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::auditctl;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::arch::Arch;
use collector::audit::rules::{Action, Field, FilterList, Operator, Rule};

const EQUALITIES: [Operator; 2] = [Operator::EQUAL, Operator::NOT_EQUAL];

const COMPARISONS: [Operator; 6] = [
    Operator::EQUAL,
    Operator::NOT_EQUAL,
    Operator::LESS,
    Operator::GREATER,
    Operator::LESS_OR_EQUAL,
    Operator::GREATER_OR_EQUAL,
];

const ALL_OPERATORS: [Operator; 8] = [
    Operator::EQUAL,
    Operator::NOT_EQUAL,
    Operator::LESS,
    Operator::GREATER,
    Operator::LESS_OR_EQUAL,
    Operator::GREATER_OR_EQUAL,
    Operator::BIT_MASK,
    Operator::BIT_TEST,
];

/// Numbers that are negative, unset, an error, a type of record or of file, a file system.
const NUMBERS: [u32; 24] = [
    0,
    1,
    2,
    3,
    8,
    13,
    1000,
    1107,
    1300,
    1307,
    1399,
    0o100_644,
    0x6462_6720,
    0x7472_6163,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_f000,
    0xffff_ff38,
    0xffff_ff7b,
    0xffff_ffdd,
    0xffff_fff3,
    0xffff_fffe,
    0xffff_ffff,
    0xdead_beef,
];

/// A stream of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A rule that differs from all others by its first conditions, which also keep it from being a watch.
fn rule(numbers: &mut Numbers, index: u32) -> Rule {
    let list = numbers.of(&[
        FilterList::EXIT,
        FilterList::EXIT,
        FilterList::EXIT,
        FilterList::TASK,
        FilterList::USER,
        FilterList::EXCLUDE,
    ]);
    let action = numbers.of(&[Action::Never, Action::Always]);
    let mut rule = Rule::new(list, action);
    if list == FilterList::EXIT {
        // What has no architecture, auditctl prints in the names of the rule before.
        let arch = numbers.of(&[Arch::X86_64, Arch::I386, Arch(0x1234_abcd)]);
        rule = rule.condition(Field::ARCH, numbers.of(&EQUALITIES), arch.0);
        if numbers.below(4) == 0 {
            rule = rule.all_syscalls();
        }
        for _ in 0..numbers.below(6) {
            // Calls that auditctl 3.0.9 has names for.
            rule.set_syscall(u32::try_from(numbers.below(335)).unwrap());
        }
        rule.set_syscall(u32::try_from(500 + numbers.below(1500)).unwrap());
    }
    rule = rule
        .condition(Field::UID, Operator::EQUAL, 60_321)
        .condition(Field::PID, Operator::EQUAL, index);
    for _ in 0..numbers.below(6) {
        rule = with_condition(numbers, rule);
    }
    if numbers.below(2) == 0 {
        rule = rule.key(numbers.of(&["one", "one\x01two", "=\"'\\n", "über", "a\x01\x01b\x01"]));
    }
    rule
}

fn with_condition(numbers: &mut Numbers, rule: Rule) -> Rule {
    let number = numbers.of(&NUMBERS);
    if rule.list == FilterList::EXCLUDE || rule.list == FilterList::USER {
        let field = numbers.of(&[Field::MSGTYPE, Field::GID, Field::PID, Field::LOGINUID]);
        return rule.condition(field, numbers.of(&COMPARISONS), number);
    }
    match numbers.below(6) {
        0 => {
            let field = numbers.of(&[Field::ARG0, Field::ARG3, Field::PERS, Field::DEVMINOR]);
            rule.condition(field, numbers.of(&ALL_OPERATORS), number)
        }
        1 => {
            let value = u32::try_from(1 + numbers.below(25)).unwrap();
            rule.condition(Field::FIELD_COMPARE, numbers.of(&EQUALITIES), value)
        }
        2 => {
            let field = numbers.of(&[Field::SUBJ_USER, Field::OBJ_TYPE, Field::OBJ_ROLE]);
            rule.text(field, numbers.of(&EQUALITIES), "label")
        }
        3 => {
            let value = u32::try_from(numbers.below(16)).unwrap();
            let value = numbers.of(&[value << 12, 0o100_000]);
            rule.condition(Field::FILETYPE, numbers.of(&EQUALITIES), value)
        }
        4 => rule.condition(Field::PERM, Operator::EQUAL, number & 15),
        _ => {
            let field = numbers.of(&[
                Field::EXIT,
                Field::SUCCESS,
                Field::PPID,
                Field::DEVMAJOR,
                Field::SESSIONID,
                Field::LOGINUID,
                Field::OBJ_UID,
                Field::FSGID,
                Field::EUID,
            ]);
            rule.condition(field, numbers.of(&COMPARISONS), number)
        }
    }
}

#[test]
fn any_rule_the_kernel_takes_is_printed_as_auditctl_prints_it() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let before: HashSet<Rule> = guard.rules().unwrap().into_iter().collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let taken = (0..400)
        .filter(|index| guard.add_rule(&rule(&mut numbers, *index)).is_ok())
        .count();
    assert!(taken > 150, "the kernel took {taken} rules only");
    let rules = guard.rules().unwrap();
    let theirs = auditctl::list().unwrap();
    assert_eq!(rules.len(), theirs.len());
    for (rule, theirs) in rules.iter().zip(&theirs) {
        if !before.contains(rule) {
            assert_eq!(rule.to_string(), String::from_utf8_lossy(theirs));
        }
    }
}

#[test]
fn what_auditctl_misprints_is_printed_as_it_is() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return;
    }
    let exit = || Rule::always_exit().condition(Field::UID, Operator::EQUAL, 60_321);
    let start = "-a always,exit -F uid=60321";
    let mut operation = Rule::new(FilterList::URING_EXIT, Action::Always).condition(
        Field::UID,
        Operator::EQUAL,
        60_321,
    );
    operation.set_syscall(18);
    let cases = [
        (
            exit().key("k\n-D\x1b[2J"),
            format!(r"{start} -F key=k\x0a-D\x1b[2J"),
            format!("{start} -F key=k\n-D\x1b[2J"),
        ),
        (
            exit().text(Field::SUBJ_USER, Operator::EQUAL, b"\xffa b"),
            format!(r"{start} -F subj_user=\xffa\ b"),
            format!("{start} -F subj_user=\u{fffd}a b"),
        ),
        (
            exit().condition(Field::LOGINUID_SET, Operator::EQUAL, 1),
            format!("{start} -F loginuid_set=1"),
            format!("{start} f24=1"),
        ),
        (
            exit().condition(Field::FIELD_COMPARE, Operator::EQUAL, 26),
            format!("{start} -F field_compare=26"),
            start.into(),
        ),
        (
            operation,
            "-a always,io_uring -S openat -F uid=60321".into(),
            "-a always,(null) -S pwrite -F uid=60321".into(),
        ),
    ];
    for (rule, ours, theirs) in cases {
        let mut guard = AuditGuard::take_quiet().unwrap();
        guard.add_rule(&rule).unwrap();
        let listed = auditctl::list().unwrap().join(&b'\n');
        let listed = String::from_utf8_lossy(&listed);
        assert!(listed.contains(&theirs), "{listed}");
        let loaded = guard.rules().unwrap();
        assert!(loaded.iter().any(|rule| rule.to_string() == ours), "{ours}");
    }
}
