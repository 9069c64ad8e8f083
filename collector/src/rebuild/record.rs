//! A record in the making: the kernel's own text, and of each value where it is from.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;
use std::ops::Range;

use crate::audit::record::RecordType;
use crate::byte_string::ByteString;
use crate::probe::observation::Captured;

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The call's number, arguments and result, as the processor's registers held them.
    Registers,
    /// What the kernel knows of the task, at the call's end.
    Task,
    /// The caller's memory at the call's entry, which the kernel read too.
    Memory,
    /// The caller's memory at the call's end: another thread may have written there since the kernel read it.
    MemoryLate,
    /// The file that the call's result names, as the kernel holds it.
    File,
    /// The kernel's own notes for the record (`struct audit_context`).
    Context,
    /// The rule behind the verdict.
    Rules,
    /// It follows from the others.
    Derived,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 8] = [
        Self::Registers,
        Self::Task,
        Self::Memory,
        Self::MemoryLate,
        Self::File,
        Self::Context,
        Self::Rules,
        Self::Derived,
    ];

    /// The name in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Task => "task",
            Self::Memory => "memory",
            Self::MemoryLate => "memory_late",
            Self::File => "file",
            Self::Context => "context",
            Self::Rules => "rules",
            Self::Derived => "derived",
        }
    }
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Where its value is from; none where it is not known.
    pub source: Option<Source>,
    value: Range<usize>,
}

/// One record as the kernel would have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltRecord {
    /// Its type.
    pub record_type: RecordType,
    /// The text behind the stamp, with `?` for each value that is not known.
    pub body: Vec<u8>,
    /// Its fields, in the order of the text.
    pub fields: Vec<Field>,
}

impl RebuiltRecord {
    /// An empty one.
    pub(super) const fn new(record_type: RecordType) -> Self {
        Self {
            record_type,
            body: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// The text of the value of `field`, with its quotes.
    pub fn text(&self, field: &Field) -> &[u8] {
        &self.body[field.value.clone()]
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn push(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        source: Option<Source>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let name = name.into();
        // Of the parts of one long argument list the later ones begin with a space too.
        if !self.body.is_empty() {
            self.body.push(b' ');
        }
        self.body.extend_from_slice(name.as_bytes());
        self.body.push(b'=');
        let start = self.body.len();
        write(&mut self.body);
        self.fields.push(Field {
            name,
            source,
            value: start..self.body.len(),
        });
    }

    /// A value that needs no quotes.
    pub(super) fn plain(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        source: Source,
        value: impl Display,
    ) {
        self.push(name, Some(source), |body| {
            write!(body, "{value}").expect("writing to a vector cannot fail");
        });
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, name: &'static str, source: Source, bytes: &[u8]) {
        self.push(name, Some(source), |body| body.extend_from_slice(bytes));
    }

    /// A value that is not known.
    pub(super) fn unknown(&mut self, name: impl Into<Cow<'static, str>>) {
        self.push(name, None, |body| body.push(b'?'));
    }

    /// A string somebody else chose, by the rules of kernel/audit.c `audit_log_n_untrustedstring`.
    pub(super) fn untrusted(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        source: Source,
        bytes: &[u8],
    ) {
        if needs_hex(bytes) {
            self.hex(name, source, bytes);
        } else {
            self.quoted(name, source, bytes);
        }
    }

    /// Bytes in quotes.
    pub(super) fn quoted(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        source: Source,
        bytes: &[u8],
    ) {
        self.push(name, Some(source), |body| {
            body.push(b'"');
            body.extend_from_slice(bytes);
            body.push(b'"');
        });
    }

    /// Bytes as hex.
    pub(super) fn hex(&mut self, name: impl Into<Cow<'static, str>>, source: Source, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        self.push(name, Some(source), |body| {
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            body.extend(digits.map(|digit| DIGITS[usize::from(digit)]));
        });
    }

    /// A string of the sample; `absent` is what the kernel writes where there is none. What was cut is not known: its
    /// beginning is not what the kernel would have written.
    pub(super) fn captured(
        &mut self,
        name: &'static str,
        source: Source,
        value: &Captured<ByteString>,
        absent: &str,
    ) {
        match value {
            Captured::Absent => self.plain(name, source, absent),
            Captured::Whole(bytes) => self.untrusted(name, source, bytes),
            Captured::Late(bytes) => self.untrusted(name, Source::MemoryLate, bytes),
            Captured::Truncated(_) | Captured::Unreadable => self.unknown(name),
        }
    }
}

/// kernel/audit.c `audit_string_contains_control`
pub(super) fn needs_hex(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|byte| *byte == b'"' || *byte < 0x21 || *byte > 0x7e)
}
