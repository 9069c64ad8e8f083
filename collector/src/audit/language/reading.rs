//! One line in the making.
//!
//! Owns what options mean together: which need a list before them, which end the line, what a rule is made of in the
//! end. What a field takes is in `condition`. It goes on after a fault where what follows can still be judged.

use std::mem;
use std::ops::Range;

use super::commands;
use super::condition;
use super::fault::{Fault, shown};
use super::fields::KEY_LIMIT;
use super::host::Host;
use super::number::Number;
use super::options::{Found, Options, Switch};
use super::target::list_and_action;
use super::watch;
use super::words::Word;
use super::{Directive, Line};
use crate::audit::arch::Arch;
use crate::audit::rules::{
    Action, Condition, Field, FilterList, KEY_SEPARATOR, Operator, Permissions, Placement, Rule,
};
use crate::audit::status::StatusField;

/// Most faults of a line that are reported.
const FAULT_LIMIT: usize = 32;

/// Most conditions of a rule. The kernel takes 64, auditctl one less.
const CONDITION_LIMIT: usize = 63;

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
    pub(super) targeted: bool,
    target: Option<Target>,
    /// The rule so far; its list and action are the target's.
    pub(super) rule: Rule,
    /// The place of each condition.
    pub(super) places: Vec<Range<usize>>,
    keys: Vec<u8>,
    key_place: Option<Range<usize>>,
    /// The architecture whose system calls are meant.
    pub(super) arch: Option<Arch>,
    pub(super) syscalls_at: Option<Range<usize>>,
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
            if self.is_hopeless() {
                break;
            }
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

    /// Whether there are so many faults or conditions that the rest of the line is not worth the time.
    pub(super) fn is_hopeless(&self) -> bool {
        self.faults.len() == FAULT_LIMIT || self.places.len() > CONDITION_LIMIT
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

    /// Whether a rule is to be added, as far as is known by now.
    pub(super) fn adds(&self) -> bool {
        self.target.is_some_and(|target| target.placement.is_some())
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
