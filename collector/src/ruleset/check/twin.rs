//! Rules for 64-bit programs that leave 32-bit programs out.

use super::Finding;
use super::shadow::implies;
use crate::audit::arch::Arch;
use crate::audit::rules::{Action, Field, FilterList, Rule};
use crate::ruleset::wanted::Wanted;

/// Most pairs of rules that are compared.
const PAIRS: usize = 16 << 20;

/// Most system calls that are named.
const NAMES: usize = 5;

pub(super) fn find(wanted: &Wanted, findings: &mut Vec<Finding>) {
    let rules: Vec<_> = wanted
        .asked()
        .filter(|(rule, _)| rule.list == FilterList::EXIT && rule.action == Action::Always)
        .collect();
    let others: Vec<&Rule> = rules
        .iter()
        .map(|(rule, _)| *rule)
        .filter(|rule| compat_of(rule).is_none())
        .collect();
    let looked_at = PAIRS / others.len().max(1);
    if let Some((_, asked)) = rules.get(looked_at) {
        let what =
            "from here on, rules that leave out 32-bit programs are not found: too many rules";
        findings.push(Finding::warning(&asked.source, what.into()));
    }
    for (rule, asked) in rules.into_iter().take(looked_at) {
        let Some(compat) = compat_of(rule) else {
            continue;
        };
        let twins: Vec<&Rule> = others
            .iter()
            .copied()
            .filter(|other| is_for(other, compat) && is_as_wide(other, rule))
            .collect();
        let missing = missing(rule, compat, &twins);
        if !missing.is_empty() {
            let what = format!("leaves out 32-bit programs, which can call {missing} too");
            let better = "add the same line with `-F arch=b32`";
            findings.push(Finding::warning(&asked.source, what).suggest(better));
        }
    }
}

/// The 32-bit architecture that programs can have where the rule is for the 64-bit one.
fn compat_of(rule: &Rule) -> Option<Arch> {
    match rule.arch_condition()? {
        Arch::X86_64 => Some(Arch::I386),
        Arch::AARCH64 => Some(Arch::ARM),
        _ => None,
    }
}

fn is_for(rule: &Rule, arch: Arch) -> bool {
    rule.arch_condition().is_none_or(|other| other == arch)
}

/// Whether `other` matches whatever `rule` matches, but for architecture and system calls.
fn is_as_wide(other: &Rule, rule: &Rule) -> bool {
    other
        .conditions
        .iter()
        .filter(|condition| !matches!(condition.field, Field::ARCH | Field::FILTERKEY))
        .all(|wider| rule.conditions.iter().any(|narrow| implies(narrow, wider)))
}

/// The calls of `rule` that `compat` has and no twin names; empty for none.
fn missing(rule: &Rule, compat: Arch, twins: &[&Rule]) -> String {
    let named = |number| twins.iter().any(|twin| twin.names_syscall(number));
    if rule.names_all_syscalls() {
        let covered = twins.iter().any(|twin| twin.names_all_syscalls());
        return if covered { "" } else { "all of these" }.into();
    }
    let arch = rule.arch_condition().unwrap_or(Arch::NATIVE);
    let calls: Vec<&str> = rule
        .syscall_numbers()
        .filter_map(|number| arch.syscall_name(number))
        .filter(|name| {
            compat
                .syscall_number(name)
                .is_some_and(|number| !named(number))
        })
        .collect();
    let mut text = calls[..calls.len().min(NAMES)].join(", ");
    if calls.len() > NAMES {
        text.push_str(&format!(" and {} more", calls.len() - NAMES));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::Operator;

    fn opens(arch: Arch, calls: &[&str]) -> Rule {
        Rule::always_exit()
            .arch(arch)
            .syscalls(arch, calls)
            .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
    }

    #[test]
    fn calls_without_a_twin_are_named() {
        let rule = opens(Arch::X86_64, &["open", "openat", "unlink"]);
        let twin = |calls: &[&str]| opens(Arch::I386, calls).key("other");
        let names = |twins: &[&Rule]| missing(&rule, Arch::I386, twins);
        assert_eq!(names(&[]), "open, unlink, openat");
        assert_eq!(names(&[&twin(&["open", "unlink"])]), "openat");
        // Two rules together can be the twin.
        assert_eq!(names(&[&twin(&["open", "unlink"]), &twin(&["openat"])]), "");
        assert!(is_as_wide(&twin(&["open"]), &rule));
        let narrower = twin(&["open"]).condition(Field::SUCCESS, Operator::EQUAL, 1);
        assert!(!is_as_wide(&narrower, &rule));
    }
}
