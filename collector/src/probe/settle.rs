//! Settling what the BPF programs left open: the whole rules, over all that is known of an observed call.
//!
//! Owns the kernel's semantics where they need more than numbers (kernel/auditsc.c `audit_filter_rules`,
//! `audit_filter_inodes`; kernel/auditfilter.c `audit_filter`; 6.12): files, executables, addresses, groups. Three-valued:
//! what is not known exactly leaves the call open. Does no I/O; what paths stand for comes as [`Places`].

use collector_ebpf::{Comparison, Fact, Facts};

use crate::audit::arch::Arch;
use crate::audit::rules::{Action, Condition, Field, FilterList, Operator, Rule};
use crate::probe::calls::{self, PermissionTest};
use crate::probe::compile::{self, SYSCALL_RECORD, compare, comparison, identity};
use crate::probe::files::{self, Three, Watched};
use crate::probe::mirror::{MANY_RULES, facts_of};
use crate::probe::names::{self, Name, Names};
use crate::probe::observation::{Captured, FileInode, Observation};
use crate::probe::places::{Found, Identity, Places};

/// What became of a *maybe*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The kernel reports the call, by the exit rule at this place; beyond all places, by the task list.
    Reported(u16),
    /// It does not.
    NotReported,
    /// It cannot be told.
    Open,
}

/// Judges `seen` by `rules` (of all lists, in the kernel's order).
pub fn settle(rules: &[Rule], seen: &Observation, places: &Places) -> Settled {
    let call = Call {
        seen,
        places,
        facts: facts_of(seen),
        names: names_of(rules, seen, places),
    };
    let excluded = call.excluded(rules, SYSCALL_RECORD);
    if excluded == Three::Yes {
        return Settled::NotReported;
    }
    let settled = match call.task(rules) {
        Some(settled) => settled,
        None => call.exit(rules),
    };
    match settled {
        Settled::Reported(_) if excluded == Three::Unknown => Settled::Open,
        settled => settled,
    }
}

/// Whether the exclude list surely drops the record of this type from the event of an observed call.
pub(super) fn excludes(
    rules: &[Rule],
    seen: &Observation,
    places: &Places,
    record_type: u32,
) -> bool {
    let call = Call {
        seen,
        places,
        facts: facts_of(seen),
        names: None,
    };
    call.excluded(rules, record_type) == Three::Yes
}

/// The files audit noted, unless rules of the list `filesystem` kept some from it.
fn names_of(rules: &[Rule], seen: &Observation, places: &Places) -> Option<Names> {
    let hidden = rules.iter().any(|rule| rule.list == FilterList::FILESYSTEM);
    let mut names = (!hidden).then(|| names::of(seen))?;
    // What was opened tells its file system by itself.
    if seen.opened.is_none() {
        let plain = |inode: &FileInode| places.is_plain(inode.dev);
        names.complete &= names.known.iter().filter_map(Name::found).all(plain);
    }
    Some(names)
}

/// All that is known of a call.
struct Call<'a> {
    seen: &'a Observation,
    places: &'a Places,
    facts: Facts,
    /// None where nothing can be said about them.
    names: Option<Names>,
}

impl Call<'_> {
    /// What the task list makes of the call, where it leaves nothing to the exit list; see [`compile::task`].
    fn task(&self, rules: &[Rule]) -> Option<Settled> {
        if self.seen.task_always {
            return Some(Settled::Reported(MANY_RULES));
        }
        let mut never = rules
            .iter()
            .filter(|rule| rule.list == FilterList::TASK && rule.action == Action::Never)
            .filter(|_| !self.seen.audit_context)
            .peekable();
        never.peek()?;
        Some(if never.any(compile::is_of_all_tasks) {
            Settled::NotReported
        } else {
            // What it said then turned on what the task was then.
            match self.exit(rules) {
                Settled::Reported(_) => Settled::Open,
                settled => settled,
            }
        })
    }

    fn exit(&self, rules: &[Rule]) -> Settled {
        let exit: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.list == FilterList::EXIT)
            .collect();
        let (mut perhaps_always, mut perhaps_never) = (false, false);
        for (place, rule) in (0..).zip(&exit) {
            let holds = self.holds(rule);
            if holds == Three::Yes
                && self.another_may_come_first(rule, &exit[usize::from(place) + 1..])
            {
                return Settled::Open;
            }
            match (holds, rule.action) {
                (Three::No, _) => {}
                (Three::Yes, Action::Always) if perhaps_never => return Settled::Open,
                (Three::Yes, Action::Always) => return Settled::Reported(place),
                (Three::Yes, Action::Never) if perhaps_always => return Settled::Open,
                (Three::Yes, Action::Never) => return Settled::NotReported,
                (Three::Unknown, Action::Always) => perhaps_always = true,
                (Three::Unknown, Action::Never) => perhaps_never = true,
            }
        }
        if perhaps_always {
            Settled::Open
        } else {
            Settled::NotReported
        }
    }

    /// Whether one of the `later` rules may decide in place of `rule`, which holds, and say otherwise.
    ///
    /// Rules on inodes have lists of their own, walked one file after the other until one holds that is earlier in the
    /// whole list than what held before. That comes to the order of the whole list, but for rules on different files, and
    /// for watches, whose place in those lists changes as their file does.
    fn another_may_come_first(&self, rule: &Rule, later: &[&Rule]) -> bool {
        let one_file = self
            .names
            .as_ref()
            .is_some_and(|names| names.complete && names.known.len() == 1);
        let stays = |rule: &Rule| one_file && !files::is_watch(rule);
        files::is_of_inode(rule)
            && later.iter().any(|other| {
                files::is_of_inode(other)
                    && other.action != rule.action
                    && !(stays(rule) && stays(other))
                    && self.holds(other) != Three::No
            })
    }

    /// Whether a rule of the exit list holds.
    fn holds(&self, rule: &Rule) -> Three {
        if !rule.names_syscall(self.seen.syscall) {
            return Three::No;
        }
        if !files::is_of_inode(rule) {
            return self.all(rule, None);
        }
        let Some(names) = &self.names else {
            return self.without_files(rule);
        };
        let mut holds = if names.complete {
            Three::No
        } else {
            self.without_files(rule)
        };
        for name in &names.known {
            holds = holds.or(self.holds_for(rule, name, names).at_best(name.certain));
        }
        holds
    }

    /// A rule on a file of which nothing is known.
    fn without_files(&self, rule: &Rule) -> Three {
        rule.conditions
            .iter()
            .filter(|condition| !files::is_about_files(condition.field))
            .map(|condition| self.condition(condition, None))
            .fold(Three::Unknown, Three::and)
    }

    /// Whether a rule that is kept by inode holds for one file.
    fn holds_for(&self, rule: &Rule, name: &Name, names: &Names) -> Three {
        let taken_away = rule.conditions.iter().any(|condition| {
            condition.field == Field::WATCH
                && self.watched(condition, name, names) == Watched::TakenAway
        });
        let no_result = |condition: &Condition| {
            taken_away && matches!(condition.field, Field::EXIT | Field::SUCCESS)
        };
        if rule.conditions.iter().any(no_result) {
            return Three::No;
        }
        self.all(rule, Some(name))
    }

    fn all(&self, rule: &Rule, name: Option<&Name>) -> Three {
        rule.conditions
            .iter()
            .map(|condition| self.condition(condition, name))
            .fold(Three::Yes, Three::and)
    }

    fn condition(&self, condition: &Condition, name: Option<&Name>) -> Three {
        let Some(comparison) = comparison(condition.operator) else {
            return Three::No;
        };
        let value = condition.value;
        let negated = condition.operator == Operator::NOT_EQUAL;
        let number = |fact| self.number(fact, comparison, value);
        match condition.field {
            Field::FILTERKEY => Three::Yes,
            Field::MSGTYPE | Field::FSTYPE => Three::No,
            Field::ARCH => compare(self.seen.arch, comparison, value).into(),
            Field::PID => number(Fact::Pid),
            Field::PPID => number(Fact::Ppid),
            Field::PERS => number(Fact::Personality),
            Field::SESSIONID => number(Fact::Session),
            Field::LOGINUID_SET => number(Fact::AuidSet),
            Field::EXIT => number(Fact::Exit),
            Field::ARG0 => number(Fact::Arg0),
            Field::ARG1 => number(Fact::Arg1),
            Field::ARG2 => number(Fact::Arg2),
            Field::ARG3 => number(Fact::Arg3),
            Field::SUCCESS => {
                let wanted = if value != 0 { 1 } else { 2 };
                self.number(Fact::Success, comparison, wanted)
            }
            Field::PERM => self.permission(value).negated_if(negated),
            Field::EXE => self.executable(condition).negated_if(negated),
            Field::SADDR_FAM => self.address_family(comparison, value),
            Field::DIR => self.directory(condition).negated_if(negated),
            Field::WATCH => match (name, &self.names) {
                (Some(name), Some(names)) => match self.watched(condition, name, names) {
                    Watched::AtTheEnd(holds) => holds.negated_if(negated),
                    Watched::TakenAway => Three::from(!negated),
                },
                _ => Three::No,
            },
            Field::FIELD_COMPARE => self.compare_fields(value, comparison, name),
            Field::INODE
            | Field::DEVMAJOR
            | Field::DEVMINOR
            | Field::OBJ_UID
            | Field::OBJ_GID
            | Field::FILETYPE => {
                // The type alone is looked for among all files, whichever the rule is tried on.
                let name = name.filter(|_| condition.field != Field::FILETYPE);
                let holds = |name: &Name| files::compare_file(condition, comparison, name);
                let any = match name {
                    Some(name) => holds(name).into(),
                    None => self.any_file(holds),
                };
                any.negated_if(negated && condition.field == Field::FILETYPE)
            }
            field => match identity(field, value) {
                Some(_) if is_of_bits(comparison) => Three::No,
                Some((fact, value)) => {
                    let primary = self.number(fact, comparison, value);
                    if matches!(field, Field::GID | Field::EGID) {
                        self.groups(primary, condition.operator, value)
                    } else {
                        primary
                    }
                }
                None => Three::Unknown,
            },
        }
    }

    fn number(&self, fact: Fact, comparison: Comparison, value: u32) -> Three {
        if self.facts.impossible & fact.bit() != 0 {
            Three::No
        } else if self.facts.known & fact.bit() == 0 {
            Three::Unknown
        } else {
            compare(self.facts.values[fact as usize], comparison, value).into()
        }
    }

    /// Supplementary groups count where the primary one did not decide.
    fn groups(&self, primary: Three, operator: Operator, group: u32) -> Three {
        let negated = match operator {
            Operator::EQUAL => false,
            Operator::NOT_EQUAL => true,
            _ => return primary,
        };
        if negated {
            primary.and(self.has_group(group).negated_if(true))
        } else {
            primary.or(self.has_group(group))
        }
    }

    fn has_group(&self, group: u32) -> Three {
        match &self.seen.groups {
            Captured::Whole(groups) | Captured::Late(groups) => groups.contains(&group).into(),
            Captured::Truncated(groups) if groups.contains(&group) => Three::Yes,
            _ => Three::Unknown,
        }
    }

    /// kernel/auditsc.c `audit_match_perm`
    fn permission(&self, asked: u32) -> Three {
        let by_flags = |fact| self.number(fact, Comparison::BIT_MASK, asked);
        match calls::permission_test(Arch(self.seen.arch), self.seen.syscall) {
            PermissionTest::Fixed(access) => (access & asked != 0).into(),
            PermissionTest::OpenFlags1 => by_flags(Fact::OpenAccess1),
            PermissionTest::OpenFlags2 => by_flags(Fact::OpenAccess2),
            PermissionTest::Unknown => Three::Unknown,
        }
    }

    /// kernel/audit_watch.c `audit_exe_compare`
    fn executable(&self, condition: &Condition) -> Three {
        let path = condition.string.as_deref().unwrap_or_default();
        let (from, to) = (self.seen.entry, self.seen.taken);
        match (&self.seen.exe_inode, self.places.during(path, from, to)) {
            (None, _) | (_, Found::Unknown) => Three::Unknown,
            (Some(_), Found::Nothing) => Three::No,
            (Some(exe), Found::File(file)) => (Identity::of(exe) == file).into(),
        }
    }

    /// `ctx->sockaddr`, which net/socket.c `move_addr_to_kernel` sets.
    fn address_family(&self, comparison: Comparison, family: u32) -> Three {
        let arch = Arch(self.seen.arch);
        if calls::plan(arch, self.seen.syscall).sockaddr == 0 {
            // What a thread does for its io_uring counts as its own.
            let hidden = matches!(
                arch.syscall_name(self.seen.syscall),
                None | Some("sendmmsg" | "io_uring_enter" | "setsockopt" | "getsockopt")
            );
            return if hidden { Three::Unknown } else { Three::No };
        }
        if !self.seen.reached_its_address() {
            return Three::Unknown;
        }
        match &self.seen.sockaddr {
            Captured::Absent => Three::No,
            Captured::Whole(address) | Captured::Late(address) if address.len() >= 2 => {
                let seen = u16::from_ne_bytes([address[0], address[1]]);
                compare(u32::from(seen), comparison, family).into()
            }
            _ => Three::Unknown,
        }
    }

    /// Whether any file that was noted satisfies `holds`.
    fn any_file(&self, holds: impl Fn(&Name) -> bool) -> Three {
        let Some(names) = &self.names else {
            return Three::Unknown;
        };
        let rest = if names.complete {
            Three::No
        } else {
            Three::Unknown
        };
        names.known.iter().fold(rest, |any, name| {
            any.or(Three::from(holds(name)).at_best(name.certain))
        })
    }

    fn watched(&self, condition: &Condition, name: &Name, names: &Names) -> Watched {
        let path = condition.string.as_deref().unwrap_or_default();
        files::watched(path, name, names, self.seen, self.places)
    }

    fn directory(&self, condition: &Condition) -> Three {
        let path = condition.string.as_deref().unwrap_or_default();
        let Some(names) = &self.names else {
            return Three::Unknown;
        };
        let rest = if names.complete {
            Three::No
        } else {
            Three::Unknown
        };
        names.known.iter().fold(rest, |any, name| {
            let below = files::below(path, name, self.seen, self.places);
            any.or(below.at_best(name.certain))
        })
    }

    /// kernel/auditsc.c `audit_field_compare`
    fn compare_fields(&self, which: u32, comparison: Comparison, name: Option<&Name>) -> Three {
        use Fact::{Auid, Egid, Euid, Fsgid, Fsuid, Gid, Sgid, Suid, Uid};
        if is_of_bits(comparison) {
            return Three::No;
        }
        let value = |fact: Fact| self.facts.values[fact as usize];
        let with_owner = |fact| {
            let holds = |name: &Name| compare(value(fact), comparison, name.inode.uid);
            self.any_file_or(name, holds)
        };
        let with_group = |fact| {
            let holds = |name: &Name| compare(value(fact), comparison, name.inode.gid);
            self.any_file_or(name, holds)
        };
        let both = |left, right| Three::from(compare(value(left), comparison, value(right)));
        match which {
            1 => with_owner(Uid),
            2 => with_group(Gid),
            3 => with_owner(Euid),
            4 => with_group(Egid),
            5 => with_owner(Auid),
            6 => with_owner(Suid),
            7 => with_group(Sgid),
            8 => with_owner(Fsuid),
            9 => with_group(Fsgid),
            10 => both(Uid, Auid),
            11 => both(Uid, Euid),
            12 => both(Uid, Fsuid),
            13 => both(Uid, Suid),
            14 => both(Auid, Fsuid),
            15 => both(Auid, Suid),
            16 => both(Auid, Euid),
            17 => both(Euid, Suid),
            18 => both(Euid, Fsuid),
            19 => both(Suid, Fsuid),
            20 => both(Gid, Egid),
            21 => both(Gid, Fsgid),
            22 => both(Gid, Sgid),
            23 => both(Egid, Fsgid),
            24 => both(Egid, Sgid),
            25 => both(Sgid, Fsgid),
            _ => Three::Unknown,
        }
    }

    /// The file a rule is tried on, and then all of them.
    fn any_file_or(&self, name: Option<&Name>, holds: impl Fn(&Name) -> bool) -> Three {
        let own = name.map_or(Three::No, |name| holds(name).into());
        own.or(self.any_file(holds))
    }

    /// Whether the exclude list drops a record. Without the SYSCALL record there is no event.
    fn excluded(&self, rules: &[Rule], record_type: u32) -> Three {
        let mut perhaps = Three::No;
        for rule in rules.iter().filter(|rule| rule.list == FilterList::EXCLUDE) {
            // Without a field there is nothing that could hold.
            let mut holds = if rule.conditions.is_empty() {
                Three::No
            } else {
                Three::Yes
            };
            for condition in &rule.conditions {
                let Some(field) = self.exclude_condition(condition, record_type) else {
                    // The kernel ends its walk here, if it got as far as this.
                    return if holds == Three::Yes {
                        perhaps
                    } else {
                        Three::Unknown
                    };
                };
                holds = holds.and(field);
                if holds == Three::No {
                    break;
                }
            }
            match holds {
                // Whatever came before it would drop the record too.
                Three::Yes => return Three::Yes,
                Three::Unknown => perhaps = Three::Unknown,
                Three::No => {}
            }
        }
        perhaps
    }

    /// None for a field that list does not know.
    fn exclude_condition(&self, condition: &Condition, record_type: u32) -> Option<Three> {
        let Some(comparison) = comparison(condition.operator) else {
            return Some(Three::No);
        };
        Some(match condition.field {
            Field::MSGTYPE => compare(record_type, comparison, condition.value).into(),
            Field::GID => {
                let (fact, value) = identity(Field::GID, condition.value)?;
                self.number(fact, comparison, value)
            }
            Field::PID | Field::UID | Field::LOGINUID | Field::LOGINUID_SET | Field::EXE => {
                self.condition(condition, None)
            }
            Field::SUBJ_USER
            | Field::SUBJ_ROLE
            | Field::SUBJ_TYPE
            | Field::SUBJ_SEN
            | Field::SUBJ_CLR => Three::Unknown,
            _ => return None,
        })
    }
}

/// Users and groups know no bit operators (`audit_uid_comparator`).
const fn is_of_bits(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::BIT_MASK | Comparison::BIT_TEST)
}

#[cfg(test)]
mod tests;
