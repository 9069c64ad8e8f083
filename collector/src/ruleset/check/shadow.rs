//! Rules that can never match, because one before them matches all they match.

use super::Finding;
use crate::audit::rules::{Action, Condition, Field, FilterList, Permissions, Rule};
use crate::ruleset::wanted::{Asked, Wanted, lists};

/// Most rules of one list that are compared with each other, since every pair is.
const RULES: usize = 4_096;

pub(super) fn find(wanted: &Wanted, findings: &mut Vec<Finding>) {
    for list in lists(wanted.asked().map(|(rule, _)| rule)) {
        let mut on_list = wanted.asked().filter(|(rule, _)| rule.list == list);
        let rules: Vec<(&Rule, &Asked)> = on_list.by_ref().take(RULES).collect();
        if let Some((_, asked)) = on_list.next() {
            let what = format!(
                "from here on, rules that can never match are not found: more than {RULES} on one list"
            );
            findings.push(Finding::warning(&asked.source, what));
        }
        for (index, (rule, asked)) in rules.iter().enumerate() {
            if let Some((first, by)) = rules[..index].iter().find(|(first, _)| covers(first, rule))
            {
                let place = &by.source.place;
                let what = match first.action {
                    Action::Never => {
                        format!("can never match: {place} says never to all of it, and comes first")
                    }
                    Action::Always => format!(
                        "can never match: {place} comes first and matches all of it, so its key is what events carry"
                    ),
                };
                findings.push(Finding::warning(&asked.source, what));
            }
        }
    }
}

/// Whether `first` certainly matches all that `rule`, on the same list, matches. The conditions of a rule must all
/// hold, so it is enough that each condition of `first` is one of `rule`'s, or wider.
fn covers(first: &Rule, rule: &Rule) -> bool {
    // Only these lists look at the system calls.
    let looks_at_calls = matches!(rule.list, FilterList::EXIT | FilterList::URING_EXIT);
    let mut calls = first.syscalls.iter().zip(&rule.syscalls);
    (!looks_at_calls || calls.all(|(first, rule)| rule & !first == 0))
        && first
            .conditions
            .iter()
            .filter(|condition| condition.field != Field::FILTERKEY)
            .all(|wider| rule.conditions.iter().any(|narrow| implies(narrow, wider)))
}

/// Whether whatever satisfies `narrow` satisfies `wider`.
pub(super) fn implies(narrow: &Condition, wider: &Condition) -> bool {
    narrow == wider
        || (narrow.field == Field::PERM
            && wider.field == Field::PERM
            && narrow.operator == wider.operator
            && narrow.operator == crate::audit::rules::Operator::EQUAL
            // One kind of access is enough.
            && Permissions(wider.value).and(Permissions(narrow.value)).0 == wider.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::arch::Arch;
    use crate::audit::rules::{Operator, Watched};

    #[test]
    fn only_what_is_certain_counts_as_covered() {
        let opens = Rule::always_exit()
            .arch(Arch::X86_64)
            .syscalls(Arch::X86_64, &["open", "openat"]);
        let user = opens
            .clone()
            .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000);
        let failed = user
            .clone()
            .condition(Field::EXIT, Operator::EQUAL, -13_i32 as u32);
        assert!(covers(&opens.clone().key("a"), &failed.clone().key("b")));
        assert!(covers(&user, &failed));
        assert!(!covers(&failed, &user));
        let other = Rule::always_exit()
            .arch(Arch::X86_64)
            .syscalls(Arch::X86_64, &["openat", "unlink"]);
        assert!(!covers(&opens, &other));
        // The numbers alone are not the calls: another architecture has others under them.
        assert!(!covers(&opens, &opens_of(Arch::I386)));
        let etc = |permissions| Rule::watch(Watched::Directory(b"/etc"), permissions);
        let both = Permissions::WRITE.and(Permissions::ATTRIBUTES);
        assert!(covers(&etc(both), &etc(Permissions::WRITE)));
        assert!(!covers(&etc(Permissions::WRITE), &etc(both)));
    }

    fn opens_of(arch: Arch) -> Rule {
        let mut rule = Rule::always_exit().arch(arch);
        rule.syscalls = Rule::always_exit()
            .syscalls(Arch::X86_64, &["open"])
            .syscalls;
        rule
    }

    #[test]
    fn system_calls_do_not_matter_where_the_kernel_does_not_look_at_them() {
        let exclude = |rule: Rule| rule.condition(Field::MSGTYPE, Operator::EQUAL, 1100);
        let one = exclude(Rule::new(FilterList::EXCLUDE, Action::Always));
        let other = exclude(Rule::new(FilterList::EXCLUDE, Action::Always).all_syscalls());
        assert!(covers(&one, &other) && covers(&other, &one));
    }
}
