//! One line in the making.
//!
//! Owns what options mean together: which need a list before them, which end the line, what a rule is made of in the
//! end. What a field takes is in `condition`. It goes on after a fault where what follows can still be judged.

use std::mem;
use std::ops::Range;

use super::calls::{call_name, call_names, call_number, is_never_reported};
use super::commands;
use super::condition;
use super::fault::{Fault, shown};
use super::fields::KEY_LIMIT;
use super::host::Host;
use super::number::Number;
use super::options::{Found, Options, Switch};
use super::watch;
use super::words::Word;
use super::{Directive, Line};
use crate::audit::arch::Arch;
use crate::audit::rules::{
    Action, Condition, Field, FilterList, KEY_SEPARATOR, Operator, Permissions, Placement, Rule,
    SYSCALL_LIMIT,
};
use crate::audit::status::StatusField;

/// Most faults of a line that are reported.
const FAULT_LIMIT: usize = 32;

/// Most conditions of a rule. The kernel takes 64, auditctl one less.
const CONDITION_LIMIT: usize = 63;

/// Numbers of system calls from this on stand for classes of calls.
const CLASSES: u32 = SYSCALL_LIMIT - 16;

/// The longest wait for room in the backlog the kernel takes, in jiffies: 600 s at its fastest clock of 1000 Hz.
const BACKLOG_WAIT_TIME_MAX: u32 = 600_000;

/// A line in the making.
pub(super) struct Reading<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) machine: Arch,
    pub(super) line: Line,
    faults: Vec<Fault>,
    /// What ends the line, if it was met.
    ended_by: Option<String>,
    /// Whether there was a `-a` or the like, even a wrong one.
    targeted: bool,
    target: Option<Target>,
    /// The rule so far; its list and action are the target's.
    pub(super) rule: Rule,
    /// The place of each condition.
    pub(super) places: Vec<Range<usize>>,
    keys: Vec<u8>,
    key_place: Option<Range<usize>>,
    /// The architecture whose system calls are meant.
    pub(super) arch: Option<Arch>,
    syscalls_at: Option<Range<usize>>,
    /// Whether there is something a key can be put on: a system call, a watch, an executable, a file system.
    pub(super) takes_key: bool,
}

/// What is to be done with the rule.
#[derive(Clone, Copy)]
struct Target {
    list: FilterList,
    action: Action,
    /// None to delete it.
    placement: Option<Placement>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(host: &'a dyn Host, machine: Arch) -> Self {
        Self {
            host,
            machine,
            line: Line::default(),
            faults: Vec::new(),
            ended_by: None,
            targeted: false,
            target: None,
            rule: Rule::always_exit(),
            places: Vec::new(),
            keys: Vec::new(),
            key_place: None,
            arch: None,
            syscalls_at: None,
            takes_key: false,
        }
    }

    pub(super) fn read(mut self, words: &[Word]) -> Result<Line, Vec<Fault>> {
        if let Some(directives) = commands::whole_line(words) {
            self.line.directives = directives;
            return Ok(self.line);
        }
        for found in Options::new(words) {
            match found {
                Ok(found) => self.option(&found, words),
                Err(fault) => self.fault(fault),
            }
        }
        self.finish();
        if self.faults.is_empty() {
            Ok(self.line)
        } else {
            Err(self.faults)
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULT_LIMIT {
            self.faults.push(fault);
        }
    }

    pub(super) fn warn(&mut self, warning: Fault) {
        if self.line.warnings.len() < FAULT_LIMIT {
            self.line.warnings.push(warning);
        }
    }

    /// The list of the rule, where it is known by now.
    pub(super) fn list(&self) -> Option<FilterList> {
        self.target.map(|target| target.list)
    }

    /// Whether the list stood before; a fault at `span` if not.
    pub(super) fn has_list(&mut self, span: &Range<usize>, option: &str) -> bool {
        if !self.targeted {
            let what = format!("`{option}` needs a list before it");
            self.fault(Fault::new(span.clone(), what).suggest("begin with `-a always,exit`"));
        }
        self.targeted
    }

    pub(super) fn has_syscalls(&self) -> bool {
        self.syscalls_at.is_some()
    }

    fn option(&mut self, found: &Found, words: &[Word]) {
        let Found { span, value, .. } = found;
        if let Some(end) = &self.ended_by {
            let what = format!("nothing can follow `{end}`");
            return self.fault(Fault::new(span.clone(), what));
        }
        match found.option {
            Switch::Append => self.target(found, Some(Placement::Last)),
            Switch::Insert => self.target(found, Some(Placement::First)),
            Switch::Delete => self.target(found, None),
            Switch::Watch => self.watch(found, Some(Placement::Last)),
            Switch::Unwatch => self.watch(found, None),
            Switch::Syscall => self.syscalls(value),
            Switch::Field => self.field(value),
            Switch::Compare => self.compare(value),
            Switch::Permissions => self.permissions(found),
            Switch::Key => {
                if !self.takes_key || !self.targeted {
                    let what = "`-k` needs a watch, a system call, an executable or a file system before it";
                    self.fault(Fault::new(span.clone(), what));
                    self.takes_key = true;
                }
                self.key(value.span(), &value.text);
            }
            Switch::Enabled => self.choice(StatusField::Enabled, value),
            Switch::Failure => self.choice(StatusField::Failure, value),
            Switch::Backlog => self.setting(StatusField::BacklogLimit, value, u32::MAX),
            Switch::Rate => self.setting(StatusField::RateLimit, value, u32::MAX),
            Switch::BacklogWaitTime => {
                self.setting(StatusField::BacklogWaitTime, value, BACKLOG_WAIT_TIME_MAX);
            }
            _ => self.command(found, words),
        }
    }

    /// Options that end a line.
    fn command(&mut self, found: &Found, words: &[Word]) {
        if self.targeted {
            let what = "this cannot be on one line with a rule, which would not be added";
            self.fault(Fault::new(found.span.clone(), what));
        }
        match commands::command(found, words) {
            Ok(directive) => self.line.directives.push(directive),
            Err(fault) => self.fault(fault),
        }
        self.ended_by = Some(shown(&words[found.index].text));
    }

    /// `-a`, `-A`, `-d`
    fn target(&mut self, found: &Found, placement: Option<Placement>) {
        let Found { span, value, .. } = found;
        if mem::replace(&mut self.targeted, true) {
            return self.fault(Fault::new(
                span.clone(),
                "one line can ask for one rule only",
            ));
        }
        match list_and_action(value) {
            Ok((FilterList::TASK, _)) if self.has_syscalls() && placement.is_some() => {
                let what = "rules of the list `task` name no system calls";
                self.fault(Fault::new(value.span(), what));
            }
            Ok((list, action)) => {
                self.target = Some(Target {
                    list,
                    action,
                    placement,
                });
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// `-w`, `-W`
    fn watch(&mut self, found: &Found, placement: Option<Placement>) {
        let Found { span, value, .. } = found;
        if mem::replace(&mut self.targeted, true) {
            return self.fault(Fault::new(
                span.clone(),
                "one line can ask for one rule only",
            ));
        }
        self.target = Some(Target {
            list: FilterList::EXIT,
            action: Action::Always,
            placement,
        });
        self.syscalls_at = Some(span.clone());
        self.takes_key = true;
        self.rule.syscalls = Rule::always_exit().all_syscalls().syscalls;
        match watch::watched(value, self.host) {
            Ok(watched) => {
                let (field, path) = watched.condition();
                self.push_text(field, Operator::EQUAL, path, value.span());
                self.push(
                    Field::PERM,
                    Operator::EQUAL,
                    Permissions::ALL.0,
                    value.span(),
                );
                self.warn_of_pattern(value.span(), &value.text);
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// `-p`
    fn permissions(&mut self, found: &Found) {
        let Found { span, value, .. } = found;
        if !self.targeted {
            let what = "`-p` needs a watch before it";
            return self.fault(Fault::new(span.clone(), what));
        }
        let permissions = match condition::permissions(value.span(), &value.text) {
            Ok(permissions) => permissions,
            Err(fault) => return self.fault(fault),
        };
        self.takes_key = true;
        let mut held = false;
        for condition in &mut self.rule.conditions {
            if condition.field == Field::PERM {
                condition.value = permissions.0;
                held = true;
            }
        }
        if self.rule.conditions.is_empty() && self.faults.is_empty() {
            let what = "`-p` needs a watch or a field before it";
            self.fault(Fault::new(span.clone(), what));
        } else if !held {
            self.push(Field::PERM, Operator::EQUAL, permissions.0, value.span());
        }
    }

    /// `-S`
    fn syscalls(&mut self, value: &Word) {
        let list = self.list().unwrap_or(FilterList::EXIT);
        if !matches!(list, FilterList::EXIT | FilterList::URING_EXIT) {
            let what = format!("rules of the list `{}` name no system calls", list.name());
            self.fault(Fault::new(value.span(), what));
            self.takes_key = true;
            return;
        }
        let without_arch = self.arch.is_none() && self.targeted && list == FilterList::EXIT;
        let arch = *self.arch.get_or_insert(self.machine);
        self.syscalls_at = Some(value.span());
        self.takes_key = true;
        let mut differs = None;
        let mut empty = true;
        let mut at = 0;
        for name in value.text.split(|byte| *byte == b',') {
            let span = value.span_of(at..at + name.len());
            at += name.len() + 1;
            if name.is_empty() {
                continue;
            }
            empty = false;
            if name == b"all" {
                self.rule.syscalls = Rule::always_exit().all_syscalls().syscalls;
                continue;
            }
            if let Some(number) = self.syscall(list, arch, name, span.clone()) {
                self.rule.set_syscall(number);
                let named = call_name(list, arch, number)
                    .filter(|_| !name[0].is_ascii_digit())
                    .filter(|_| without_arch && differs.is_none());
                if let (Some(named), Some(other)) = (named, arch.compat()) {
                    // Either name will do where auditctl has another one than the kernel.
                    let name = String::from_utf8_lossy(name);
                    let numbers = [named, &*name].map(|name| call_number(list, other, name));
                    if !numbers.contains(&Some(number)) {
                        differs = Some((span, name.into_owned(), numbers[0].or(numbers[1]), other));
                    }
                }
            }
        }
        if empty {
            self.fault(Fault::new(value.span(), "`-S` names no system call"));
        }
        if let Some((span, name, number, other)) = differs
            && !self.rule.names_all_syscalls()
        {
            let number = match number {
                Some(number) => format!("has another number, {number},"),
                None => "is not a system call".to_owned(),
            };
            let other = other.name().unwrap_or("the other architecture");
            let what = format!(
                "without an architecture the rule holds for {other} too, where `{name}` {number}"
            );
            let what = what.trim_end_matches(',');
            let suggestion = "put `-F arch=b64` or `-F arch=b32` before `-S`";
            self.warn(Fault::new(span, what).suggest(suggestion));
        }
    }

    fn syscall(
        &mut self,
        list: FilterList,
        arch: Arch,
        name: &[u8],
        span: Range<usize>,
    ) -> Option<u32> {
        let text = String::from_utf8_lossy(name);
        if let Some(number) = call_number(list, arch, &text) {
            if list == FilterList::URING_EXIT && is_never_reported(number) {
                let what = format!("the kernel never reports the operation `{text}`");
                self.warn(Fault::new(span, what));
            }
            return Some(number);
        }
        let Some(number) = Number::read(name).filter(|number| number.value >= 0) else {
            self.fault(unknown_call(list, arch, &text, name, span));
            return None;
        };
        self.warn_of_rest(number, name, &span);
        let number = number.in_32_bits().filter(|number| *number < SYSCALL_LIMIT);
        match number {
            None => {
                let what = format!("a rule names system calls below {SYSCALL_LIMIT} only");
                self.fault(Fault::new(span, what));
            }
            Some(CLASSES..) => {
                let what = "a number this high stands for a class of system calls";
                self.warn(Fault::new(span, what));
            }
            Some(_) => {}
        }
        number
    }

    /// `-k`, `-F key=`
    pub(super) fn key(&mut self, span: Range<usize>, key: &[u8]) {
        if key.contains(&KEY_SEPARATOR) {
            let what = "the byte 1 in a key separates two keys";
            self.warn(Fault::new(span.clone(), what));
        }
        if let [quote @ (b'"' | b'\''), .., last] = key
            && quote == last
        {
            let what = "the quotes become part of the key";
            self.warn(Fault::new(span.clone(), what));
        }
        if !self.keys.is_empty() {
            self.keys.push(KEY_SEPARATOR);
        }
        self.keys.extend(key);
        if self.keys.len() > KEY_LIMIT {
            // Not again for each further key.
            if self.keys.len() - key.len() <= KEY_LIMIT + 1 {
                let what = format!("the keys of a rule take more than {KEY_LIMIT} bytes");
                self.fault(Fault::new(span.clone(), what));
            }
        }
        if self.keys.is_empty() {
            self.warn(Fault::new(span.clone(), "an empty key is no key"));
        }
        self.key_place.get_or_insert(span);
    }

    fn choice(&mut self, field: StatusField, value: &Word) {
        let name = field.name();
        match value.text.as_slice() {
            [digit @ b'0'..=b'2'] => self.line.directives.push(Directive::Set {
                field,
                value: u32::from(digit - b'0'),
            }),
            text => {
                let what = format!("`{name}` is 0, 1 or 2, not `{}`", shown(text));
                self.fault(Fault::new(value.span(), what));
            }
        }
    }

    fn setting(&mut self, field: StatusField, value: &Word, max: u32) {
        let name = field.name();
        let number = Number::read(&value.text).filter(|number| number.value >= 0);
        let Some(number) = number else {
            let what = format!("`{name}` is a number, not `{}`", shown(&value.text));
            return self.fault(Fault::new(value.span(), what));
        };
        self.warn_of_rest(number, &value.text, &value.span());
        match number.in_32_bits().filter(|value| *value <= max) {
            Some(value) => self.line.directives.push(Directive::Set { field, value }),
            None => {
                let what = format!("`{name}` is at most {max}");
                self.fault(Fault::new(value.span(), what));
            }
        }
    }

    /// Warns of what follows a number, which auditctl does not look at.
    pub(super) fn warn_of_rest(&mut self, number: Number, text: &[u8], span: &Range<usize>) {
        if number.length < text.len() {
            let read = shown(&text[..number.length]);
            let what = format!("only `{read}` of `{}` is read", shown(text));
            self.warn(Fault::new(span.clone(), what));
        }
    }

    /// Warns of what looks like a pattern or a relative path; the kernel has neither.
    pub(super) fn warn_of_pattern(&mut self, span: Range<usize>, path: &[u8]) {
        if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
            let what = "`..` is not resolved: the kernel compares names as they are";
            self.warn(Fault::new(span.clone(), what));
        }
        if path.iter().any(|byte| matches!(byte, b'*' | b'?')) {
            let what = "`*` and `?` are taken for themselves: there are no patterns in rules";
            self.warn(Fault::new(span, what));
        }
    }

    pub(super) fn push(
        &mut self,
        field: Field,
        operator: Operator,
        value: u32,
        span: Range<usize>,
    ) {
        self.push_condition(
            Condition {
                field,
                operator,
                value,
                string: None,
            },
            span,
        );
    }

    pub(super) fn push_text(
        &mut self,
        field: Field,
        operator: Operator,
        text: &[u8],
        span: Range<usize>,
    ) {
        self.push_condition(
            Condition {
                field,
                operator,
                value: u32::try_from(text.len()).unwrap_or(u32::MAX),
                string: Some(text.into()),
            },
            span,
        );
    }

    fn push_condition(&mut self, condition: Condition, span: Range<usize>) {
        if self.rule.conditions.len() < CONDITION_LIMIT {
            self.rule.conditions.push(condition);
            self.places.push(span);
        } else if self.places.len() == CONDITION_LIMIT {
            // Once, not again for each further one.
            self.places.push(span.clone());
            let what = format!("a rule has at most {CONDITION_LIMIT} fields, its key included");
            self.fault(Fault::new(span, what));
        }
    }

    fn finish(&mut self) {
        if !self.targeted {
            if let Some(span) = self.syscalls_at.take() {
                self.has_list(&span, "-S");
            }
            return;
        }
        if !self.keys.is_empty()
            && let Some(span) = self.key_place.take()
        {
            let keys = mem::take(&mut self.keys);
            self.judge_list(Field::FILTERKEY, &span);
            self.judge_key(&span);
            self.push_text(Field::FILTERKEY, Operator::EQUAL, &keys, span);
        }
        let Some(target) = self.target else { return };
        let mut rule = mem::replace(&mut self.rule, Rule::always_exit());
        for fault in refusals(&rule, &self.places) {
            self.fault(fault);
        }
        rule.list = target.list;
        rule.action = target.action;
        if !self.has_syscalls() && target.list != FilterList::TASK {
            rule = rule.all_syscalls();
        }
        self.line.directives.push(match target.placement {
            Some(placement) => Directive::Add { rule, placement },
            None => Directive::Delete { rule },
        });
    }
}

/// What every kernel refuses about the conditions of a rule together (kernel/auditfilter.c `audit_data_to_entry`,
/// `audit_to_watch`, `audit_make_tree`, `audit_to_inode`).
fn refusals(rule: &Rule, places: &[Range<usize>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut met = [None; 3];
    for (condition, place) in rule.conditions.iter().zip(places) {
        let (group, what) = match condition.field {
            Field::FILTERKEY => (0, "keys in two ways: with `=` and with another operator"),
            Field::EXE => (1, "a rule has one `exe` at most"),
            Field::WATCH | Field::DIR | Field::INODE => {
                (2, "a rule has one of `path`, `dir` and `inode` at most")
            }
            _ => continue,
        };
        if met[group].replace(condition.field).is_some() {
            faults.push(Fault::new(place.clone(), what));
        }
    }
    faults
}

/// `list,action` or `action,list`.
fn list_and_action(value: &Word) -> Result<(FilterList, Action), Fault> {
    let mut parts = value.text.split(|byte| *byte == b',');
    let (Some(first), Some(second), None) = (parts.next(), parts.next(), parts.next()) else {
        let what = format!("`{}` is not a list and an action", shown(&value.text));
        return Err(Fault::new(value.span(), what).suggest("write `always,exit`"));
    };
    let (mut list, mut action) = (None, None);
    let mut at = 0;
    for part in [first, second] {
        let span = value.span_of(at..at + part.len());
        at += part.len() + 1;
        let twice = match part {
            b"always" => action.replace(Action::Always).is_some(),
            b"never" => action.replace(Action::Never).is_some(),
            b"possible" => {
                let fault = Fault::new(span, "there is no action `possible` any more");
                return Err(fault.suggest("write `always`"));
            }
            b"entry" => {
                let fault = Fault::new(span, "there is no list `entry` any more");
                return Err(fault.suggest("write `exit`"));
            }
            _ => {
                let name = String::from_utf8_lossy(part);
                let Some(found) = LISTS.into_iter().find(|list| list.name() == name) else {
                    let what = format!("`{}` is neither a list nor an action", shown(part));
                    let names = LISTS.into_iter().map(FilterList::name);
                    let known = names.chain(["always", "never"]);
                    return Err(Fault::new(span, what).suggest_name(&name, known));
                };
                list.replace(found).is_some()
            }
        };
        if twice {
            let what = "a list and an action are needed, not two of one kind";
            return Err(Fault::new(value.span(), what));
        }
    }
    match (list, action) {
        (Some(list), Some(action)) => Ok((list, action)),
        _ => Err(Fault::new(value.span(), "a list and an action are needed")),
    }
}

const LISTS: [FilterList; 6] = [
    FilterList::TASK,
    FilterList::EXIT,
    FilterList::USER,
    FilterList::EXCLUDE,
    FilterList::FILESYSTEM,
    FilterList::URING_EXIT,
];

fn unknown_call(
    list: FilterList,
    arch: Arch,
    text: &str,
    name: &[u8],
    span: Range<usize>,
) -> Fault {
    if list == FilterList::URING_EXIT {
        let what = format!("there is no io_uring operation `{}`", shown(name));
        return Fault::new(span, what).suggest_name(text, call_names(list, arch));
    }
    let of = arch.name().unwrap_or("this architecture");
    let what = format!("{of} has no system call `{}`", shown(name));
    let fault = Fault::new(span, what);
    if !Arch::WITH_SYSCALLS.contains(&arch) {
        return fault.suggest("its system calls are known by number only");
    }
    let mut others = Arch::WITH_SYSCALLS.into_iter();
    match others.find(|other| call_number(list, *other, text).is_some()) {
        Some(other) => fault.suggest(format!("it is one of {}", other.name().unwrap_or_default())),
        None => fault.suggest_name(text, call_names(list, arch)),
    }
}
