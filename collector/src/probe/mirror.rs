//! The loaded audit rules, compiled into what the BPF programs evaluate.
//!
//! Owns the way from `struct audit_rule_data` to [`Condition`]s, which [`program`] lays out, with the semantics of kernel/auditsc.c
//! `audit_filter_rules` (6.12); must not know maps or the kernel at hand. The evaluator is
//! [`collector_ebpf::judge`], the same in the BPF programs and here. A field that neither can judge makes its rule
//! *maybe*; nothing is guessed.
//!
//! Bounds: [`MAX_CONDITIONS`](collector_ebpf::MAX_CONDITIONS) conditions in all, [`MAX_STEPS`](collector_ebpf::MAX_STEPS) per call; what does not fit
//! is *maybe*.

use std::collections::HashMap;

use collector_ebpf::{
    Condition, Conditions, Fact, Facts, NO_PROGRAM, Plan, Ruling, SYSCALL_NUMBERS, TaskState,
};

use crate::audit::arch::Arch;
use crate::audit::record::RecordType;
use crate::audit::rules::{Action, FilterList, Keys, Rule};
use crate::byte_string::ByteString;
use crate::probe::calls;
use crate::probe::compile::{self, Compiled};
use crate::probe::observation::{Observation, Verdict};
use crate::probe::places::Places;
use crate::probe::program;
use crate::probe::settle::{self, Settled};

/// In place of a rule's number where a program did not fit.
pub(super) const MANY_RULES: u16 = u16::MAX - 1;

/// One set of rules in compiled form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// By system call number: the plan of [`Arch::NATIVE`] and of [`Arch::COMPAT`].
    plans: Vec<[Plan; 2]>,
    conditions: Vec<Condition>,
    /// The keys of the exit list's rules, in its order.
    keys: Vec<Keys>,
    /// System calls whose rules did not fit.
    overflowed: u32,
    /// The rules themselves, to settle what the programs leave open.
    rules: Vec<Rule>,
    /// Whether there are any on the exclude list.
    excluding: bool,
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
    /// Compiles the rules of all lists, in the kernel's order. The task and the exit list make verdicts, the exclude list
    /// takes them back; the others say nothing about system calls.
    pub fn compile(rules: &[Rule]) -> Self {
        let exit: Vec<&Rule> = on_list(rules, FilterList::EXIT);
        let mut before = compile::exclude(&on_list(rules, FilterList::EXCLUDE));
        before.extend(compile::task(&on_list(rules, FilterList::TASK)));
        let task_reports = on_list(rules, FilterList::TASK)
            .iter()
            .any(|rule| rule.action == Action::Always);
        let mut mirror = Self {
            plans: vec![[Plan::NONE; 2]; SYSCALL_NUMBERS as usize],
            conditions: Vec::new(),
            keys: exit
                .iter()
                .map(|rule| rule.keys().map(Into::into).collect())
                .collect(),
            overflowed: 0,
            rules: rules.to_vec(),
            excluding: rules.iter().any(|rule| rule.list == FilterList::EXCLUDE),
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
                    .filter_map(|(place, rule)| compile::exit(rule, place, arch, syscall))
                    .collect();
                if !task_reports && !program.iter().any(|rule| rule.action == Action::Always) {
                    continue;
                }
                program.splice(0..0, before.iter().cloned());
                let mut plan = calls::plan(arch, syscall);
                plan.flags |= compile::asks(&program);
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
        let mut facts = *facts;
        let judgement = collector_ebpf::judge(&List(&self.conditions), start, &mut facts);
        Judgement {
            verdict: verdict(judgement.ruling),
            rule: rule_number(judgement.rule),
        }
    }

    /// Settles a call that the programs could not judge, with all that is known of it.
    pub fn settle(&self, seen: &Observation, places: &Places) -> Settled {
        settle::settle(&self.rules, seen, places)
    }

    /// Whether the exclude list surely drops the record of this type from the event of an observed call.
    pub fn excludes(&self, seen: &Observation, places: &Places, record_type: RecordType) -> bool {
        self.excluding && settle::excludes(&self.rules, seen, places, u32::from(record_type.0))
    }

    /// How many rules the exit list has.
    pub fn exit_rules(&self) -> usize {
        self.keys.len()
    }

    /// The keys of the exit list's rule at place `rule`; none where it has none, or there is no such rule.
    pub fn keys(&self, rule: u16) -> &[ByteString] {
        self.keys.get(usize::from(rule)).map_or(&[], Keys::as_slice)
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
            let perhaps = compile::perhaps(MANY_RULES);
            self.conditions
                .extend(program::lay_out(&[perhaps], 0).unwrap_or_default());
        }
        let start = self.conditions.len();
        match program::lay_out(program, start) {
            Some(conditions) => {
                self.conditions.extend(conditions);
                start as u16
            }
            None => 0,
        }
    }
}

/// The facts of a call that has been observed. What the observation does not carry stays unknown.
pub fn facts_of(observation: &Observation) -> Facts {
    let mut facts = Facts::default();
    let who = &observation.credentials;
    let state = if !observation.audit_context {
        TaskState::NoContext
    } else if observation.task_always {
        TaskState::Record
    } else {
        TaskState::Build
    };
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
        (Fact::Personality, observation.personality),
        (Fact::TaskState, state as u32),
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

#[cfg(test)]
mod tests {
    use collector_ebpf::MAX_CONDITIONS;

    use super::*;
    use crate::audit::rules::{Field, Operator, Permissions, Watched};

    const ARCH: Arch = Arch::NATIVE;

    fn openat() -> u32 {
        ARCH.syscall_number("openat").unwrap()
    }

    fn exit() -> Rule {
        Rule::always_exit().arch(ARCH).syscalls(ARCH, &["openat"])
    }

    fn never(mut rule: Rule) -> Rule {
        rule.action = Action::Never;
        rule
    }

    fn excluding() -> Rule {
        Rule::new(FilterList::EXCLUDE, Action::Always)
    }

    /// An openat(…, O_RDWR) by uid 5, gid 6, auid 1000 that failed with ENOENT.
    fn facts() -> Facts {
        let mut facts = Facts::default();
        for (fact, value) in [
            (Fact::One, 1),
            (Fact::Pid, 100),
            (Fact::Ppid, 50),
            (Fact::Uid, 5),
            (Fact::Gid, 6),
            (Fact::Egid, 6),
            (Fact::Auid, 1000),
            (Fact::AuidSet, 1),
            (Fact::TaskState, TaskState::Build as u32),
        ] {
            facts.set(fact, value);
        }
        facts.set_args(&[u64::MAX, 0x7fff_0000_1234, 2, 0o644, 0, 0, 0, 0]);
        facts.set_result(-2);
        facts
    }

    fn judge_as(rules: &[Rule], name: &str) -> (Option<Verdict>, Option<u16>) {
        let syscall = ARCH.syscall_number(name).unwrap();
        let judgement = Mirror::compile(rules).judge(ARCH, syscall, &facts());
        (judgement.verdict, judgement.rule)
    }

    fn judge(rules: &[Rule]) -> (Option<Verdict>, Option<u16>) {
        judge_as(rules, "openat")
    }

    const YES: Option<Verdict> = Some(Verdict::Inferred);
    const MAYBE: Option<Verdict> = Some(Verdict::Maybe);

    #[test]
    fn only_calls_that_a_rule_always_names_are_covered() {
        let only_never = Mirror::compile(&[never(exit())]);
        let mirror = Mirror::compile(&[exit()]);
        for syscall in 0..SYSCALL_NUMBERS {
            assert_eq!(
                mirror.covers(ARCH, syscall),
                syscall == openat(),
                "{syscall}"
            );
            assert!(!only_never.covers(ARCH, syscall));
            assert!(Arch::COMPAT.is_none_or(|compat| !mirror.covers(compat, syscall)));
        }
        assert!(!mirror.covers(ARCH, openat() | 0x4000_0000));
        assert!(!mirror.covers(Arch(1), openat()));
    }

    #[test]
    fn a_rule_without_arch_is_for_both() {
        let mut rule = Rule::always_exit();
        rule.set_syscall(5);
        let mirror = Mirror::compile(&[rule]);
        assert!(mirror.covers(ARCH, 5));
        assert!(Arch::COMPAT.is_none_or(|compat| mirror.covers(compat, 5)));
    }

    #[test]
    fn fields_compare_as_in_the_kernel() {
        let errno = -2_i32 as u32;
        for (field, operator, value, holds) in [
            (Field::UID, Operator::EQUAL, 5, true),
            (Field::UID, Operator::LESS, 5, false),
            (Field::PPID, Operator::NOT_EQUAL, 50, false),
            (Field::EXIT, Operator::EQUAL, errno, true),
            (Field::EXIT, Operator::LESS, 0, false),
            (Field::EXIT, Operator::GREATER, 0, true),
            (Field::SUCCESS, Operator::EQUAL, 0, true),
            (Field::SUCCESS, Operator::EQUAL, 1, false),
            (Field::SUCCESS, Operator::NOT_EQUAL, 7, true),
            (Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000, true),
            (Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX, true),
            (Field::LOGINUID, Operator::EQUAL, u32::MAX, false),
            (Field::LOGINUID_SET, Operator::EQUAL, 1, true),
            // The upper half of an argument does not count.
            (Field::ARG1, Operator::EQUAL, 0x1234, true),
            (Field::ARG2, Operator::BIT_MASK, 3, true),
            (Field::ARG2, Operator::BIT_TEST, 3, false),
            (Field::GID, Operator::EQUAL, 6, true),
            (Field::GID, Operator::NOT_EQUAL, 6, false),
            // Users and groups know no bit operators.
            (Field::UID, Operator::BIT_TEST, 5, false),
            (Field::PERM, Operator::EQUAL, Permissions::WRITE.0, true),
            (Field::PERM, Operator::EQUAL, Permissions::EXECUTE.0, false),
            (Field::MSGTYPE, Operator::EQUAL, 1300, false),
        ] {
            let rule = exit().condition(field, operator, value).key("k");
            let expected = if holds { (YES, Some(0)) } else { (None, None) };
            assert_eq!(judge(&[rule]), expected, "{field:?} {operator:?} {value}");
        }
    }

    #[test]
    fn fields_out_of_reach_are_maybe_and_nothing_else() {
        for field in [Field::DIR, Field::WATCH, Field::EXE, Field::SUBJ_TYPE] {
            let rule = exit().text(field, Operator::EQUAL, "/x");
            assert_eq!(
                judge(std::slice::from_ref(&rule)),
                (MAYBE, Some(0)),
                "{field:?}"
            );
            let other = rule.condition(Field::UID, Operator::EQUAL, 9);
            assert_eq!(judge(&[other]), (None, None), "{field:?}");
        }
        // Supplementary groups are not at hand.
        let group = exit().condition(Field::GID, Operator::EQUAL, 99);
        assert_eq!(judge(&[group]), (MAYBE, Some(0)));
    }

    #[test]
    fn a_watch_reaches_the_calls_that_may_do_what_it_asks_about() {
        let watch = [Rule::watch(Watched::Directory(b"/etc"), Permissions::WRITE)];
        assert_eq!(judge_as(&watch, "openat").0, MAYBE);
        assert_eq!(judge_as(&watch, "unlinkat").0, MAYBE);
        assert_eq!(judge_as(&watch, "openat2").0, MAYBE);
        for name in ["read", "getppid", "fchmodat", "execve"] {
            assert_eq!(judge_as(&watch, name).0, None, "{name}");
        }
    }

    #[test]
    fn the_exclude_list_takes_verdicts_back() {
        let msgtype = |number| excluding().condition(Field::MSGTYPE, Operator::EQUAL, number);
        assert_eq!(judge(&[exit(), msgtype(1300)]), (None, None));
        assert_eq!(judge(&[exit(), msgtype(1307)]), (YES, Some(0)));
        let by_uid = excluding().condition(Field::UID, Operator::EQUAL, 5);
        assert_eq!(judge(&[exit(), by_uid]), (None, None));
        let by_exe = excluding().text(Field::EXE, Operator::EQUAL, "/x");
        assert_eq!(judge(&[exit(), by_exe]), (MAYBE, None));
        // A field that list does not know ends the kernel's walk, so that what follows may not count.
        let odd = excluding().condition(Field::EUID, Operator::EQUAL, 5);
        assert_eq!(judge(&[exit(), odd.clone()]), (YES, Some(0)));
        assert_eq!(judge(&[exit(), odd.clone(), msgtype(1300)]), (MAYBE, None));
        // Also where a later field of that rule would not hold; not where an earlier one does not.
        let other_type = odd.condition(Field::MSGTYPE, Operator::EQUAL, 1307);
        assert_eq!(judge(&[exit(), other_type, msgtype(1300)]), (MAYBE, None));
        let not_reached = msgtype(1307).condition(Field::EUID, Operator::EQUAL, 5);
        assert_eq!(judge(&[exit(), not_reached, msgtype(1300)]), (None, None));
        // Nothing of a rule without fields can hold.
        assert_eq!(judge(&[exit(), excluding()]), (YES, Some(0)));
    }

    #[test]
    fn the_task_list_comes_before_the_exit_list() {
        let task = |action| Rule::new(FilterList::TASK, action);
        let of_user = |action| task(action).condition(Field::UID, Operator::EQUAL, 5);
        let as_state = |rules: &[Rule], name: &str, state: TaskState| {
            let mut facts = facts();
            facts.set(Fact::TaskState, state as u32);
            let syscall = ARCH.syscall_number(name).unwrap();
            Mirror::compile(rules).judge(ARCH, syscall, &facts).verdict
        };
        let (build, record, none) = (TaskState::Build, TaskState::Record, TaskState::NoContext);
        let always = [of_user(Action::Always), never(exit())];
        for name in ["openat", "getppid"] {
            assert_eq!(as_state(&always, name, record), YES);
            assert_eq!(as_state(&always, name, build), None);
            assert_eq!(as_state(&always, name, none), None);
        }
        let of_all = [task(Action::Never).key("k"), exit()];
        assert_eq!(as_state(&of_all, "openat", none), None);
        assert_eq!(as_state(&of_all, "openat", build), YES);
        // Whose ids they were that it was tried on is not known.
        let of_some = [of_user(Action::Never), exit()];
        assert_eq!(as_state(&of_some, "openat", none), MAYBE);
        assert_eq!(as_state(&of_some, "openat", build), YES);
        // Without rules of that list a task without a context is one that something went wrong with.
        assert_eq!(as_state(&[exit()], "openat", none), YES);
    }

    #[test]
    fn places_count_within_the_exit_list_only() {
        let rules = [
            Rule::new(FilterList::TASK, Action::Never),
            exit().condition(Field::UID, Operator::EQUAL, 9),
            excluding().condition(Field::MSGTYPE, Operator::EQUAL, 1),
            exit(),
        ];
        assert_eq!(judge(&rules), (YES, Some(1)));
        assert_eq!(Mirror::compile(&rules).exit_rules(), 2);
    }

    #[test]
    fn the_same_rules_share_one_program() {
        let all = Mirror::compile(&[Rule::always_exit().all_syscalls()]);
        // Those of all programs that do not fit, and those of the rule.
        assert_eq!(all.conditions().len(), 2 + 2);
    }

    #[test]
    fn rules_beyond_the_room_are_maybe_not_forgotten() {
        let rules: Vec<Rule> = (0..MAX_CONDITIONS)
            .map(|uid| exit().condition(Field::UID, Operator::EQUAL, 1_000_000 + uid))
            .collect();
        let mirror = Mirror::compile(&rules);
        assert_eq!(mirror.overflowed(), 1);
        assert!(mirror.conditions().len() <= MAX_CONDITIONS as usize);
        let judgement = mirror.judge(ARCH, openat(), &facts());
        assert_eq!((judgement.verdict, judgement.rule), (MAYBE, None));
        for (index, condition) in mirror.conditions().iter().enumerate() {
            let forward = |target| usize::from(target) > index;
            let goes_on = forward(condition.otherwise) && forward(condition.in_doubt);
            assert!(
                goes_on || *condition == Condition::END,
                "{index}: {condition:?}"
            );
        }
    }
}
