//! The conditions of a rule: `-F field operator value` and `-C field operator field`.
//!
//! Owns how a condition is written and what its value means. Which lists and operators a field is for is in `fields`.

use std::ops::Range;

use super::comparisons::comparison_number;
use super::errno::{ERRORS, error_number};
use super::families::{FAMILY_LIMIT, family_names, family_number};
use super::fault::{Fault, shown};
use super::fields::{Kind, field_named, field_names, kind, lists, operators};
use super::filesystems::{FILE_TYPES, FILESYSTEMS, number_in};
use super::number::Number;
use super::reading::Reading;
use super::words::Word;
use crate::audit::arch::Arch;
use crate::audit::record::RecordType;
use crate::audit::rules::{Field, FilterList, Operator, Permissions};

/// A condition in parts.
struct Parts<'a> {
    left: &'a [u8],
    left_span: Range<usize>,
    operator: Operator,
    operator_span: Range<usize>,
    right: &'a [u8],
    right_span: Range<usize>,
}

impl<'a> Parts<'a> {
    /// Splits at the first of the operators that stands anywhere in the text.
    fn of(word: &'a Word, operators: &[Operator]) -> Option<Self> {
        let text = word.text.as_slice();
        let (start, operator, length) = operators.iter().find_map(|operator| {
            let name = operator.to_string();
            let start = memchr::memmem::find(text, name.as_bytes())?;
            Some((start, *operator, name.len()))
        })?;
        let end = start + length;
        Some(Self {
            left: &text[..start],
            left_span: word.span_of(0..start),
            operator,
            operator_span: word.span_of(start..end),
            right: &text[end..],
            right_span: word.span_of(end..text.len()),
        })
    }
}

/// Operators in the order in which auditctl looks for them.
const OPERATORS: [Operator; 8] = [
    Operator::NOT_EQUAL,
    Operator::GREATER_OR_EQUAL,
    Operator::LESS_OR_EQUAL,
    Operator::BIT_TEST,
    Operator::EQUAL,
    Operator::GREATER,
    Operator::LESS,
    Operator::BIT_MASK,
];

impl Reading<'_> {
    /// `-F`
    pub(super) fn field(&mut self, word: &Word) {
        self.has_list(&word.span(), "-F");
        if let Some(key) = word.text.strip_prefix(b"key=") {
            return self.key(word.span_of(4..word.text.len()), key);
        }
        let Some(parts) = Parts::of(word, &OPERATORS) else {
            let what = format!("no operator in `{}`", shown(&word.text));
            return self.fault(Fault::new(word.span(), what).suggest("write `field=value`"));
        };
        let Some(field) = self.named_field(parts.left, &parts.left_span, word) else {
            return;
        };
        if parts.right.is_empty() {
            let what = format!("no value in `{}`", shown(&word.text));
            return self.fault(Fault::new(word.span(), what));
        }
        self.judge_list(field, &parts.left_span);
        self.judge_operator(field, parts.operator, &parts.operator_span);
        if field == Field::FILTERKEY {
            self.judge_key(&word.span());
        }
        if field == Field::ARCH && self.has_syscalls() {
            let fault = Fault::new(word.span(), "the architecture must come before `-S`");
            self.fault(fault);
        }
        match self.value(field, &parts) {
            Ok(Value::Number(value)) => {
                self.judge_value(field, value, &parts);
                self.push(field, parts.operator, value, word.span());
            }
            Ok(Value::Text) => {
                self.judge_text(field, &parts);
                self.push_text(field, parts.operator, parts.right, word.span());
            }
            Err(fault) => self.fault(fault),
        }
        self.takes_key |= matches!(
            field,
            Field::PERM | Field::WATCH | Field::DIR | Field::EXE | Field::FSTYPE
        );
    }

    /// `-C`
    pub(super) fn compare(&mut self, word: &Word) {
        self.has_list(&word.span(), "-C");
        let Some(parts) = Parts::of(word, &[Operator::NOT_EQUAL, Operator::EQUAL]) else {
            let what = format!("neither `=` nor `!=` in `{}`", shown(&word.text));
            return self.fault(Fault::new(word.span(), what));
        };
        let left = self.named_field(parts.left, &parts.left_span, word);
        let right = self.named_field(parts.right, &parts.right_span, word);
        if let Some(list) = self.list()
            && !matches!(list, FilterList::EXIT | FilterList::URING_EXIT)
        {
            let what = "`-C` can be used on the lists exit and io_uring only";
            self.fault(Fault::new(word.span(), what));
        }
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        match comparison_number(left, right) {
            Some(number) => self.push(Field::FIELD_COMPARE, parts.operator, number, word.span()),
            None => {
                let what = format!("`{}` is no comparison the kernel makes", shown(&word.text));
                self.fault(Fault::new(word.span(), what));
            }
        }
    }

    fn named_field(&mut self, name: &[u8], span: &Range<usize>, word: &Word) -> Option<Field> {
        if name.is_empty() {
            let what = format!("no field in `{}`", shown(&word.text));
            self.fault(Fault::new(word.span(), what));
            return None;
        }
        let text = String::from_utf8_lossy(name);
        let field = field_named(&text);
        if field.is_none() {
            let what = format!("there is no field `{}`", shown(name));
            self.fault(Fault::new(span.clone(), what).suggest_name(&text, field_names()));
        }
        field
    }

    /// Whether a field is for the list of the rule.
    pub(super) fn judge_list(&mut self, field: Field, span: &Range<usize>) {
        let Some(list) = self.list() else { return };
        let lists = lists(field);
        if lists.contains(&list) {
            return;
        }
        let names: Vec<_> = lists.iter().map(|list| list.name()).collect();
        let what = format!(
            "`{}` cannot be used on the list {}, only on {}",
            field.name().unwrap_or_default(),
            list.name(),
            names.join(", ")
        );
        self.fault(Fault::new(span.clone(), what));
    }

    fn judge_operator(&mut self, field: Field, operator: Operator, span: &Range<usize>) {
        let operators = operators(field);
        if operators.contains(&operator) {
            return;
        }
        let names: Vec<_> = operators.iter().map(|o| format!("`{o}`")).collect();
        let what = format!(
            "`{}` does not take `{operator}`, only {}",
            field.name().unwrap_or_default(),
            names.join(" ")
        );
        self.fault(Fault::new(span.clone(), what));
    }

    /// Whether there is something the rule's key can be put on.
    pub(super) fn judge_key(&mut self, span: &Range<usize>) {
        if !self.takes_key {
            let what =
                "a key needs a system call, a watch, an executable or a file system in the rule";
            self.fault(Fault::new(span.clone(), what));
        }
    }

    /// What every kernel refuses of a field's value or can never match, and what is hardly meant.
    fn judge_value(&mut self, field: Field, value: u32, parts: &Parts<'_>) {
        let is_equality = matches!(parts.operator, Operator::EQUAL | Operator::NOT_EQUAL);
        let refused = match (kind(field), value) {
            (Kind::User, u32::MAX) if field == Field::LOGINUID && is_equality => None,
            (Kind::User, u32::MAX) if field == Field::LOGINUID => {
                Some("`unset` can be compared with `=` and `!=` only".to_owned())
            }
            (Kind::User | Kind::Group, u32::MAX) => {
                Some(format!("{value} is no id, and the kernel refuses it"))
            }
            (Kind::Number(max), _) if value > max => Some(format!("the value is at most {max}")),
            (Kind::FileType, _) if value & !libc::S_IFMT != 0 => {
                Some("the value has bits that are not of a file type".to_owned())
            }
            _ => None,
        };
        if let Some(what) = refused {
            self.fault(Fault::new(parts.right_span.clone(), what));
        }
        let is_error = (1..=133).contains(&value) && !parts.right[0].is_ascii_digit();
        if field == Field::EXIT && is_error && parts.operator == Operator::EQUAL {
            let what = "calls that fail return the error's number negated";
            let fault = Fault::new(parts.right_span.clone(), what);
            self.warn(fault.suggest(format!("did you mean `exit=-{}`?", shown(parts.right))));
        }
    }

    /// What every kernel refuses of a path (`audit_to_watch`, `audit_make_tree`, `audit_alloc_mark`).
    fn judge_text(&mut self, field: Field, parts: &Parts<'_>) {
        if !matches!(field, Field::WATCH | Field::DIR | Field::EXE) {
            return;
        }
        let span = || parts.right_span.clone();
        let name = field.name().unwrap_or_default();
        if !parts.right.starts_with(b"/") {
            let what = format!("the path of `{name}` begins with `/`");
            self.fault(Fault::new(span(), what));
        } else if field != Field::DIR && parts.right.ends_with(b"/") {
            let what = format!("the path of `{name}` does not end with `/`");
            self.fault(Fault::new(span(), what));
        }
        self.warn_of_pattern(span(), parts.right);
    }

    fn value(&mut self, field: Field, parts: &Parts<'_>) -> Result<Value, Fault> {
        let (text, span) = (parts.right, &parts.right_span);
        let name = String::from_utf8_lossy(text);
        let unknown = |what: &str| {
            let what = format!("there is no {what} `{}`", shown(text));
            Fault::new(span.clone(), what)
        };
        let number =
            match Number::read(text) {
                // These have no numbers, or read them in their own way.
                _ if matches!(kind(field), Kind::Arch | Kind::Permissions | Kind::Text(_)) => None,
                None => None,
                Some(number) => {
                    self.warn_of_rest(number, text, span);
                    Some(number.in_32_bits().ok_or_else(|| {
                        Fault::new(span.clone(), "the number has no room in 32 bits")
                    })?)
                }
            };
        let found = match kind(field) {
            Kind::Text(limit) if text.len() > limit => {
                let what = format!("the value is longer than {limit} bytes");
                return Err(Fault::new(span.clone(), what));
            }
            Kind::Text(_) => return Ok(Value::Text),
            Kind::Arch => {
                let arch = architecture(text, self.machine).ok_or_else(|| {
                    unknown("architecture").suggest_name(&name, Arch::names().chain(["b64", "b32"]))
                })?;
                self.arch = Some(arch);
                Some(arch.0)
            }
            Kind::Permissions => Some(permissions(span.clone(), text)?.0),
            _ if number.is_some() => number,
            Kind::User | Kind::Session if text == b"unset" => Some(u32::MAX),
            Kind::User => Some(self.host.user_id(&name).ok_or_else(|| unknown("user"))?),
            Kind::Group => Some(self.host.group_id(&name).ok_or_else(|| unknown("group"))?),
            Kind::Result => {
                let unsigned = name.strip_prefix('-').unwrap_or(&name);
                let error = error_number(unsigned).ok_or_else(|| {
                    unknown("error").suggest_name(unsigned, ERRORS.iter().map(|(name, _)| *name))
                })?;
                let is_negative = unsigned.len() < name.len();
                Some(if is_negative { -error } else { error }.cast_unsigned())
            }
            Kind::MessageType => {
                let named = RecordType::from_name(name.to_ascii_uppercase().as_bytes());
                let named = named.filter(|named| named.0 > 0).ok_or_else(|| {
                    let names = RecordType::NAMED.iter().filter_map(|named| named.name());
                    unknown("record type").suggest_name(&name, names)
                })?;
                Some(u32::from(named.0))
            }
            Kind::FileType => Some(number_in(&FILE_TYPES, &name).ok_or_else(|| {
                unknown("file type").suggest_name(&name, FILE_TYPES.map(|(name, _)| name))
            })?),
            Kind::Filesystem => Some(number_in(&FILESYSTEMS, &name).ok_or_else(|| {
                unknown("name of a file system").suggest("write its magic number, see statfs(2)")
            })?),
            Kind::Family => Some(
                family_number(&name)
                    .ok_or_else(|| unknown("address family").suggest_name(&name, family_names()))?,
            ),
            Kind::Session | Kind::Number(_) => None,
        };
        let value = found.ok_or_else(|| {
            let field = field.name().unwrap_or_default();
            let what = format!("`{field}` is compared with a number, not `{}`", shown(text));
            let fault = Fault::new(span.clone(), what);
            match text {
                b"yes" | b"true" => fault.suggest("write 1"),
                b"no" | b"false" => fault.suggest("write 0"),
                _ => fault,
            }
        })?;
        if matches!(kind(field), Kind::Family) && value >= FAMILY_LIMIT {
            let what = format!("address families have numbers below {FAMILY_LIMIT}");
            return Err(Fault::new(span.clone(), what));
        }
        if matches!(kind(field), Kind::Filesystem) && value == u32::MAX {
            return Err(unknown("file system"));
        }
        Ok(Value::Number(value))
    }
}

enum Value {
    Number(u32),
    Text,
}

/// An architecture: `b64`, `b32`, a name, or a number; one without a digit in front is hexadecimal.
fn architecture(text: &[u8], machine: Arch) -> Option<Arch> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    if let Some(number) = Number::read(text.as_bytes()).filter(|number| number.value >= 0) {
        let number = number.in_32_bits().map(Arch)?;
        return number.name().map(|_| number);
    }
    match text.as_str() {
        "b64" => Some(machine).filter(|machine| machine.is_64_bit()),
        "b32" if machine.is_64_bit() => machine.compat(),
        "b32" => Some(machine),
        name => Arch::named(name).or_else(|| {
            let number = u32::from_str_radix(name, 16).map(Arch).ok()?;
            number.name().map(|_| number)
        }),
    }
}

/// Of `rwxa` one to four letters, in any order and case.
pub(super) fn permissions(span: Range<usize>, text: &[u8]) -> Result<Permissions, Fault> {
    if !(1..=4).contains(&text.len()) {
        return Err(Fault::new(
            span,
            "permissions are one to four letters of `rwxa`",
        ));
    }
    text.iter()
        .try_fold(Permissions(0), |permissions, letter| {
            Some(permissions.and(match letter.to_ascii_lowercase() {
                b'r' => Permissions::READ,
                b'w' => Permissions::WRITE,
                b'x' => Permissions::EXECUTE,
                b'a' => Permissions::ATTRIBUTES,
                _ => return None,
            }))
        })
        .ok_or_else(|| Fault::new(span, "permissions are of the letters `rwxa`"))
}
