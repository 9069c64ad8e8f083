//! The system calls of a rule: `-S`.
//!
//! Owns which calls are meant, and the warning where they are others on the machine's 32-bit architecture.

use std::ops::Range;

use super::calls::{call_name, call_names, call_number, is_never_reported};
use super::fault::{Fault, shown};
use super::number::Number;
use super::reading::Reading;
use super::words::Word;
use crate::audit::arch::Arch;
use crate::audit::rules::{FilterList, Rule, SYSCALL_LIMIT};

/// Numbers from this on stand for classes of calls. The kernel replaces them by the calls of the class, so that the rule
/// it lists is not the one it was given.
const CALL_LIMIT: u32 = SYSCALL_LIMIT - 16;

impl Reading<'_> {
    /// `-S`
    pub(super) fn syscalls(&mut self, value: &Word) {
        let list = self.list().unwrap_or(FilterList::EXIT);
        if !matches!(list, FilterList::EXIT | FilterList::URING_EXIT) {
            let what = format!("rules of the list `{}` name no system calls", list.name());
            self.fault(Fault::new(value.span(), what));
            self.takes_key = true;
            return;
        }
        if self.rule.names_all_syscalls() && value.text != b"all" {
            let what = "the rule is for every system call already";
            self.warn(Fault::new(value.span(), what));
        }
        let without_arch = self.arch.is_none() && self.adds() && list == FilterList::EXIT;
        let arch = *self.arch.get_or_insert(self.machine);
        self.syscalls_at = Some(value.span());
        self.takes_key = true;
        let mut differs = None;
        let mut at = 0;
        for name in value.text.split(|byte| *byte == b',') {
            let span = value.span_of(at..at + name.len());
            at += name.len() + 1;
            match name {
                b"" => {}
                b"all" => self.rule.syscalls = Rule::always_exit().all_syscalls().syscalls,
                _ if self.is_hopeless() => break,
                _ => {
                    let Some(number) = self.syscall(list, arch, name, span.clone()) else {
                        continue;
                    };
                    self.rule.set_syscall(number);
                    if without_arch && differs.is_none() {
                        differs = elsewhere(arch, name, number).map(|what| (span, what));
                    }
                }
            }
        }
        if value.text.iter().all(|byte| *byte == b',') {
            self.fault(Fault::new(value.span(), "`-S` names no system call"));
        }
        if let Some((span, what)) = differs
            && !self.rule.names_all_syscalls()
        {
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
        let number = number.in_32_bits().filter(|number| *number < CALL_LIMIT);
        if number.is_none() {
            let what = format!("a rule names system calls below {CALL_LIMIT} only");
            self.fault(Fault::new(span, what));
        }
        number
    }
}

/// What is different about a call on the machine's 32-bit architecture, of which a rule without an architecture holds
/// too.
fn elsewhere(arch: Arch, name: &[u8], number: u32) -> Option<String> {
    let other = arch.compat()?;
    let other_name = other.name()?;
    let named = call_name(FilterList::EXIT, arch, number)?;
    let name = String::from_utf8_lossy(name);
    // A number means the same number everywhere. Of two names of a call, either will do.
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let numbers = [named, &*name].map(|name| call_number(FilterList::EXIT, other, name));
    let what = match numbers[0].or(numbers[1]) {
        _ if numbers.contains(&Some(number)) => return None,
        Some(other) => format!("`{named}` is number {other}"),
        None => format!("there is no `{named}`"),
    };
    Some(format!(
        "without an architecture the rule holds for {other_name} too, where {what}"
    ))
}

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
