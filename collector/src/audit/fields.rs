//! The name=value fields of a record body.
//!
//! Owns the inner form of bodies: bare, quoted and nested values, the kernel's hex encoding of untrusted strings, and
//! numbers. Knows nothing of what single record types mean; that is [`crate::audit::records`]. Borrows from the
//! record, allocates only to decode hex into memory of its own, never panics on any bytes.

use std::borrow::Cow;

use crate::audit::record::{Record, RecordType};
use crate::lanes;

/// The name of a field as a number, by which many names are told apart at once: its bytes, the last one lowest. 0, which is no
/// name's, for what is longer than eight bytes. NUL bytes in front do not show, but [`Fields`] has no name with one.
pub const fn name_number(name: &[u8]) -> u64 {
    if name.len() > 8 {
        return 0;
    }
    let mut number = 0;
    let mut at = 0;
    while at < name.len() {
        number = number << 8 | name[at] as u64;
        at += 1;
    }
    number
}

/// One field of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef<'a> {
    /// What stands before the `=`.
    pub name: &'a [u8],
    /// What stands behind it.
    pub value: Value<'a>,
}

/// A value as it was written, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Up to the next white space: a number, a word, hex, `(null)`.
    Bare(&'a [u8]),
    /// In double quotes. The kernel writes a string so only where it needs no escaping.
    Quoted(&'a [u8]),
    /// In single quotes: the text of a message from user space, see [`Value::fields`].
    SingleQuoted(&'a [u8]),
    /// Behind a quote that nothing closes: the record was cut.
    Unterminated(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes as written, without quotes and not decoded.
    pub const fn raw(self) -> &'a [u8] {
        match self {
            Self::Bare(raw)
            | Self::Quoted(raw)
            | Self::SingleQuoted(raw)
            | Self::Unterminated(raw) => raw,
        }
    }

    /// The value as a decimal number.
    pub fn as_u64(self) -> Option<u64> {
        number::<10>(self)
    }

    /// The value as a decimal number with an optional sign.
    pub fn as_i64(self) -> Option<i64> {
        let Self::Bare(raw) = self else { return None };
        match raw.strip_prefix(b"-") {
            Some(digits) => {
                let magnitude = Self::Bare(digits).as_u64()?;
                0i64.checked_sub_unsigned(magnitude)
            }
            None => self.as_u64()?.try_into().ok(),
        }
    }

    /// The value as a hexadecimal number, with or without `0x`.
    pub fn as_hex_u64(self) -> Option<u64> {
        match self {
            Self::Bare(raw) => number::<16>(Self::Bare(raw.strip_prefix(b"0x").unwrap_or(raw))),
            _ => None,
        }
    }

    /// The value as an octal number, the form of `mode=`.
    pub fn as_octal_u64(self) -> Option<u64> {
        number::<8>(self)
    }

    /// The value as a user, group or session id. Some kernels and tools print the unset id as -1.
    pub fn as_id(self) -> Option<u32> {
        match self {
            Self::Bare(b"-1") => Some(u32::MAX),
            _ => self.as_u64()?.try_into().ok(),
        }
    }

    /// The fields inside the value: those of `msg='op=login res=success'`. What they say is what the sending
    /// process claims; the kernel vouches only for the fields beside `msg`.
    pub fn fields(self) -> Fields<'a> {
        Fields { rest: self.raw() }
    }
}

/// The fields of a body, in order. Words without `=` (`avc:  denied  { read } for`) are passed over.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields in `text`.
    pub const fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = FieldRef<'a>;

    fn next(&mut self) -> Option<FieldRef<'a>> {
        loop {
            let start = self.rest.iter().position(|byte| !is_space(*byte))?;
            let word = &self.rest[start..];
            let end = position(word, &ENDS_NAME);
            if word.get(end) != Some(&b'=') || end == 0 {
                // A word, or a value without a name: neither is a field.
                self.rest = &word[(end + 1).min(word.len())..];
                continue;
            }
            let name = &word[..end];
            let (value, rest) = take_value(name, &word[end + 1..]);
            self.rest = rest;
            return Some(FieldRef { name, value });
        }
    }
}

impl<'a> Record<'a> {
    /// The fields of the body. Those inside `msg='…'` are not among them: see [`Record::message_fields`].
    pub const fn fields(&self) -> Fields<'a> {
        Fields::new(self.body)
    }

    /// The first field called `name`.
    pub fn field(&self, name: &[u8]) -> Option<Value<'a>> {
        find(self.fields(), name)
    }

    /// The first string called `name`, decoded; none too where it says `(null)` or the like.
    pub fn decoded(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.text(name).map(Text::decode)
    }

    /// The first string called `name`; none too where it says `(null)` or the like.
    pub fn text(&self, name: &[u8]) -> Option<Text<'a>> {
        let value = self.field(name)?;
        if self.record_type == RecordType::SYSCALL && is_argument(name) {
            return Some(Text::Plain(value.raw()));
        }
        Text::of(name, value)
    }

    /// The fields inside `msg='…'` of a message from user space; see [`Value::fields`] on how far to trust them.
    pub fn message_fields(&self) -> Fields<'a> {
        match self.field(b"msg") {
            Some(message @ (Value::SingleQuoted(_) | Value::Unterminated(_))) => message.fields(),
            _ => Fields::new(b""),
        }
    }

    /// The fields auditd added (`ARCH=x86_64 UID="root"`); none in a record that is not enriched.
    pub fn enrichment_fields(&self) -> Fields<'a> {
        Fields::new(self.enrichment.unwrap_or_default())
    }
}

/// A string as it was written.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// What it says.
    Plain(&'a [u8]),
    /// Hex of what it says; what is not pairs of the digits the kernel uses says itself.
    Hex(&'a [u8]),
}

impl<'a> Text<'a> {
    /// The string that `value` is, where the field is called `name`: see [`decode_untrusted`].
    pub fn of(name: &[u8], value: Value<'a>) -> Option<Self> {
        if is_untrusted(name) {
            Self::untrusted(value)
        } else {
            Self::trusted(value)
        }
    }

    /// The string that `value` is in a field of strings that the kernel does not trust.
    pub fn untrusted(value: Value<'a>) -> Option<Self> {
        match Self::trusted(value)? {
            Self::Plain(raw) if matches!(value, Value::Bare(_)) => Some(Self::Hex(raw)),
            text => Some(text),
        }
    }

    /// The string that `value` is in any other field.
    pub fn trusted(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Bare(b"(null)" | b"(none)") => None,
            value => Some(Self::Plain(value.raw())),
        }
    }

    /// What it says.
    pub fn decode(self) -> Cow<'a, [u8]> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Hex(text) => decode_hex(text).map_or(Cow::Borrowed(text), Cow::Owned),
        }
    }

    /// What it says; `buffer` is what it is decoded into where that is needed.
    pub fn decode_into<'b>(self, buffer: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Plain(text) => text,
            Self::Hex(text) => {
                buffer.clear();
                if append_decoded(text, buffer) {
                    buffer
                } else {
                    text
                }
            }
        }
    }

    /// Appends what it says.
    pub fn append(self, out: &mut Vec<u8>) {
        match self {
            Self::Hex(text) if append_decoded(text, out) => {}
            Self::Plain(text) | Self::Hex(text) => out.extend_from_slice(text),
        }
    }
}

impl PartialEq for Text<'_> {
    /// Whether both say the same.
    fn eq(&self, other: &Self) -> bool {
        self.decode() == other.decode()
    }
}

impl Eq for Text<'_> {}

/// The string the kernel meant: it writes strings it does not trust in double quotes or, where they hold a space, a quote,
/// a control character or a byte above 0x7e, as upper-case hex (kernel/audit.c `audit_log_n_untrustedstring`).
///
/// A bare value is taken for hex only where `name` is that of a string; `a0` and its like are strings in EXECVE records
/// only, so leave the SYSCALL record's to [`Value::as_hex_u64`]. None for `(null)` and `(none)`.
pub fn decode_untrusted<'a>(name: &[u8], value: Value<'a>) -> Option<Cow<'a, [u8]>> {
    Text::of(name, value).map(Text::decode)
}

/// Whether `text` is pairs of the digits the kernel uses.
pub fn is_hex(text: &[u8]) -> bool {
    text.len().is_multiple_of(2) && text.iter().all(|digit| HEX[usize::from(*digit)] < 16)
}

/// The bytes `text` is the hex of; none where it is not pairs of the digits the kernel uses (`0-9A-F`).
pub fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    append_decoded(text, &mut bytes).then_some(bytes)
}

/// Appends the bytes `text` is the hex of; false, and nothing, where it is none.
fn append_decoded(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (pairs, []) = text.as_chunks::<2>() else {
        return false;
    };
    let begin = out.len();
    let mut all = 0;
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (HEX[usize::from(*high)], HEX[usize::from(*low)]);
        all |= high | low;
        high << 4 | low
    }));
    if all >= 16 {
        out.truncate(begin);
    }
    all < 16
}

/// The values of the hex digits that the kernel uses for strings, 0xff for what is none.
const HEX: [u8; 256] = values([0xff; 256], b"0123456789ABCDEF");

/// The values of the digits of numbers, 0xff for what is none.
const DIGITS: [u8; 256] = values(HEX, b"0123456789abcdef");

const fn values(mut values: [u8; 256], digits: &[u8; 16]) -> [u8; 256] {
    let mut value = 0;
    while value < 16 {
        values[digits[value as usize] as usize] = value;
        value += 1;
    }
    values
}

/// Whether fields called `name` hold strings that may be hex.
fn is_untrusted(name: &[u8]) -> bool {
    matches!(
        name,
        b"acct"
            | b"cmd"
            | b"comm"
            | b"cwd"
            | b"data"
            | b"device"
            | b"dir"
            | b"exe"
            | b"file"
            | b"grp"
            | b"invalid_context"
            | b"key"
            | b"module"
            | b"name"
            | b"ocomm"
            | b"path"
            | b"proctitle"
            | b"profile"
            | b"root_dir"
            | b"saddr"
            | b"sw"
            | b"vm"
            | b"watch"
    ) || is_argument(name)
}

/// `a0`, `a17`, `a1[3]`: an argument of EXECVE, or (the first four) of SYSCALL.
fn is_argument(name: &[u8]) -> bool {
    name.strip_prefix(b"a")
        .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit) && !rest.ends_with(b"len"))
}

fn find<'a>(mut fields: Fields<'a>, name: &[u8]) -> Option<Value<'a>> {
    fields
        .find(|field| field.name == name)
        .map(|field| field.value)
}

const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0
}

/// Whether a byte ends the name of a field.
const ENDS_NAME: [bool; 256] = {
    let mut ends = ENDS_BARE;
    ends[b'=' as usize] = true;
    ends
};

/// Whether a byte ends a value without quotes.
const ENDS_BARE: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        ends[byte] = is_space(byte as u8);
        byte += 1;
    }
    ends
};

/// Where the first byte is that `ends` has, which are spaces and perhaps `=`; else the length.
fn position(text: &[u8], ends: &[bool; 256]) -> usize {
    let mut at = 0;
    while let Some(word) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        at += lanes::first(lanes::below(word, b' ' + 1) | lanes::equal(word, b'='));
        // Other control characters, and `=` in a value.
        while text.get(at).is_some_and(|byte| is_special(*byte)) {
            if ends[usize::from(text[at])] {
                return at;
            }
            at += 1;
        }
    }
    let rest = text[at..].iter();
    at + rest.take_while(|byte| !ends[usize::from(**byte)]).count()
}

/// Whether a byte may be one that ends something.
const fn is_special(byte: u8) -> bool {
    byte <= b' ' || byte == b'='
}

/// The value `text` begins with, and what follows it.
fn take_value<'a>(name: &[u8], text: &'a [u8]) -> (Value<'a>, &'a [u8]) {
    match text.first() {
        Some(b'"') => {
            let inner = &text[1..];
            match memchr::memchr(b'"', inner) {
                Some(end) => (Value::Quoted(&inner[..end]), &inner[end + 1..]),
                None => (Value::Unterminated(inner), &[]),
            }
        }
        Some(b'\'') => {
            let inner = &text[1..];
            // The kernel puts the text of a message last and does not escape quotes in it, so the last one closes it.
            let end = match name {
                b"msg" => memchr::memrchr(b'\'', inner),
                _ => memchr::memchr(b'\'', inner),
            };
            match end {
                Some(end) => (Value::SingleQuoted(&inner[..end]), &inner[end + 1..]),
                None => (Value::Unterminated(inner), &[]),
            }
        }
        _ => {
            let end = position(text, &ENDS_BARE);
            (Value::Bare(&text[..end]), &text[end..])
        }
    }
}

fn number<const RADIX: u8>(value: Value<'_>) -> Option<u64> {
    let Value::Bare(raw) = value else { return None };
    if raw.is_empty() {
        return None;
    }
    raw.iter().try_fold(0u64, |number, &byte| {
        let digit = DIGITS[usize::from(byte)];
        if digit >= RADIX {
            return None;
        }
        number
            .checked_mul(u64::from(RADIX))?
            .checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;
    use proptest::prelude::*;

    fn record(record_type: RecordType, body: &str) -> Record<'_> {
        Record {
            body: body.as_bytes(),
            ..netlink_record(record_type.0, b"audit(1.000:1): ").unwrap()
        }
    }

    fn all(body: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Fields::new(body.as_bytes())
            .map(|field| (text(field.name), text(field.value.raw())))
            .collect()
    }

    #[test]
    fn words_between_the_fields_of_an_avc_are_passed_over() {
        let fields = all(
            "avc:  denied  { read write } for  pid=12 comm=\"ls\" name=\"a=b\" dev=\"sda1\" tclass=file permissive=0",
        );
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["pid", "comm", "name", "dev", "tclass", "permissive"]
        );
        assert_eq!(fields[2].1, "a=b");
    }

    #[test]
    fn a_message_from_user_space_cannot_speak_for_the_kernel() {
        let record = record(
            RecordType::USER_LOGIN,
            "pid=7 uid=0 auid=1000 ses=3 msg='op=login pid=1 acct=\"it's\" res=failed'",
        );
        let names: Vec<_> = record.fields().map(|field| field.name.to_vec()).collect();
        assert_eq!(
            names,
            [&b"pid"[..], b"uid", b"auid", b"ses", b"msg"].map(<[u8]>::to_vec)
        );
        assert_eq!(record.field(b"pid").and_then(Value::as_u64), Some(7));
        assert_eq!(record.field(b"res"), None);
        assert_eq!(
            find(record.message_fields(), b"acct"),
            Some(Value::Quoted(b"it's"))
        );
        assert_eq!(
            find(record.message_fields(), b"res"),
            Some(Value::Bare(b"failed"))
        );
    }

    #[test]
    fn a_cut_record_shows_that_it_was() {
        let record = record(RecordType::CWD, "item=1 cwd=\"/var/lib");
        assert_eq!(record.field(b"cwd"), Some(Value::Unterminated(b"/var/lib")));
    }

    #[test]
    fn numbers_are_read_in_their_own_base_and_never_wrap() {
        assert_eq!(Value::Bare(b"-13").as_i64(), Some(-13));
        assert_eq!(
            Value::Bare(b"-9223372036854775808").as_i64(),
            Some(i64::MIN)
        );
        assert_eq!(Value::Bare(b"-9223372036854775809").as_i64(), None);
        assert_eq!(Value::Bare(b"--1").as_i64(), None);
        assert_eq!(
            Value::Bare(b"18446744073709551615").as_u64(),
            Some(u64::MAX)
        );
        assert_eq!(Value::Bare(b"18446744073709551616").as_u64(), None);
        assert_eq!(Value::Bare(b"").as_u64(), None);
        assert_eq!(Value::Bare(b"c000003e").as_hex_u64(), Some(0xc000_003e));
        assert_eq!(Value::Bare(b"0x7ffc").as_hex_u64(), Some(0x7ffc));
        assert_eq!(Value::Bare(b"0100644").as_octal_u64(), Some(0o100_644));
        assert_eq!(Value::Quoted(b"1").as_u64(), None);
        assert_eq!(Value::Bare(b"-1").as_id(), Some(u32::MAX));
        assert_eq!(Value::Bare(b"4294967296").as_id(), None);
    }

    #[test]
    fn strings_are_decoded_by_name() {
        let decode =
            |name: &str, value| decode_untrusted(name.as_bytes(), value).map(Cow::into_owned);
        let bare = Value::Bare(b"2F746D702F6120FF");
        assert_eq!(decode("name", bare), Some(b"/tmp/a \xff".to_vec()));
        assert_eq!(decode("a12", bare), Some(b"/tmp/a \xff".to_vec()));
        assert_eq!(decode("a12[0]", bare), Some(b"/tmp/a \xff".to_vec()));
        assert_eq!(
            decode("a1_len", Value::Bare(b"9000")),
            Some(b"9000".to_vec())
        );
        assert_eq!(
            decode("inode", Value::Bare(b"1234")),
            Some(b"1234".to_vec())
        );
        assert_eq!(
            decode("comm", Value::Quoted(b"4142")),
            Some(b"4142".to_vec())
        );
        assert_eq!(decode("comm", Value::Bare(b"414")), Some(b"414".to_vec()));
        assert_eq!(decode("comm", Value::Bare(b"4a")), Some(b"4a".to_vec()));
        assert_eq!(decode("name", Value::Bare(b"(null)")), None);
        assert_eq!(decode("tty", Value::Bare(b"(none)")), None);
        assert_eq!(
            decode("name", Value::Quoted(b"(null)")),
            Some(b"(null)".to_vec())
        );
    }

    #[test]
    fn the_arguments_of_a_system_call_are_numbers_and_not_strings() {
        let call = record(RecordType::SYSCALL, "a0=41 a1=4142");
        assert_eq!(call.decoded(b"a1").as_deref(), Some(&b"4142"[..]));
        let execve = record(RecordType::EXECVE, "argc=2 a0=\"x\" a1=4142");
        assert_eq!(execve.decoded(b"a1").as_deref(), Some(&b"AB"[..]));
    }

    proptest! {
        #[test]
        fn the_end_of_a_name_or_value_is_the_first_byte_that_ends_it(
            text in proptest::collection::vec(prop_oneof![4 => b'a'..b'e', 1 => any::<u8>(), 1 => 0..0x22_u8, 1 => Just(b'=')], 0..40),
        ) {
            for ends in [&ENDS_NAME, &ENDS_BARE] {
                let first = text.iter().position(|byte| ends[usize::from(*byte)]);
                prop_assert_eq!(position(&text, ends), first.unwrap_or(text.len()));
            }
        }

        #[test]
        fn no_bytes_panic_and_all_fields_lie_in_the_text(text in proptest::collection::vec(
            prop_oneof![Just(b'='), Just(b' '), Just(b'"'), Just(b'\''), Just(0), any::<u8>()], 0..200,
        )) {
            let mut end = 0;
            for field in Fields::new(&text) {
                prop_assert!(!field.name.is_empty());
                // Else `\0uid` would pass for `uid`, as a number ([`name_number`]).
                prop_assert!(!field.name.contains(&0));
                let start = field.name.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(start >= end);
                end = start + field.name.len() + 1 + field.value.raw().len();
                prop_assert!(end <= text.len());
                let _ = decode_untrusted(field.name, field.value);
                let _ = (field.value.as_i64(), field.value.as_hex_u64(), field.value.as_octal_u64());
            }
        }
    }
}
