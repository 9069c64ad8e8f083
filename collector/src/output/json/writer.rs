//! Writes JSON objects and arrays straight into a buffer.
//!
//! Bytes become text under one rule: `"name"` holds the bytes as text, with U+FFFD for what is not UTF-8, and only where
//! that lost something `"name_hex"` beside it holds all of them. Control characters are escaped as JSON wants, so
//! that a line never holds a raw line end.

use std::fmt::Display;
use std::io::Write as _;

use crate::{digits, lanes};

/// An object under construction; [`Object::end`] closes it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// The place for a value under `name`, which must be plain ASCII.
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        self.begin_key(name);
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// The place for a value under `name` and `suffix`.
    fn suffixed_key(&mut self, name: &str, suffix: &str) -> &mut Vec<u8> {
        self.begin_key(name);
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn begin_key(&mut self, name: &str) {
        let begin: &[u8] = if self.empty { b"\"" } else { b",\"" };
        self.empty = false;
        self.out.extend_from_slice(begin);
        self.out.extend_from_slice(name.as_bytes());
    }

    pub(super) fn null(&mut self, name: &str) {
        self.key(name).extend_from_slice(b"null");
    }

    pub(super) fn number(&mut self, name: &str, number: impl itoa::Integer) {
        digits::decimal(self.key(name), number);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        let text = if value { "true" } else { "false" };
        self.key(name).extend_from_slice(text.as_bytes());
    }

    pub(super) fn string(&mut self, name: &str, text: &str) {
        write_string(self.key(name), text);
    }

    /// A string, or null.
    pub(super) fn optional(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.string(name, text),
            None => self.null(name),
        }
    }

    /// Text that needs no escaping, such as a number or a time.
    pub(super) fn plain(&mut self, name: &str, text: impl Display) {
        let out = self.key(name);
        out.push(b'"');
        display(out, text);
        out.push(b'"');
    }

    /// Text that needs no escaping, as `write` appends it.
    pub(super) fn written(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.key(name);
        out.push(b'"');
        write(out);
        out.push(b'"');
    }

    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.suffixed_bytes(name, "", bytes);
    }

    /// The same, under `name` and `suffix`.
    pub(super) fn suffixed_bytes(&mut self, name: &str, suffix: &str, bytes: &[u8]) {
        let out = self.suffixed_key(name, suffix);
        match std::str::from_utf8(bytes) {
            Ok(text) => write_string(out, text),
            Err(_) => {
                write_lossy(out, bytes);
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(suffix.as_bytes());
                out.extend_from_slice(b"_hex\":");
                write_hex(out, bytes);
            }
        }
    }

    /// All bytes as hex and nothing else.
    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        write_hex(self.key(name), bytes);
    }

    /// A list of byte strings, null for one that is not known. The list of the hex forms has null where the text is exact.
    pub(super) fn byte_list<'b>(
        &mut self,
        name: &str,
        list: impl Iterator<Item = Option<&'b [u8]>> + Clone,
    ) {
        let mut exact = true;
        self.array(name, |array| {
            for bytes in list.clone() {
                let out = array.next();
                match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
                    Some(Ok(text)) => write_string(out, text),
                    Some(Err(bytes)) => {
                        exact = false;
                        write_lossy(out, bytes);
                    }
                    None => out.extend_from_slice(b"null"),
                }
            }
        });
        if !exact {
            fill_array(self.suffixed_key(name, "_hex"), |array| {
                for bytes in list {
                    let out = array.next();
                    match bytes.filter(|bytes| std::str::from_utf8(bytes).is_err()) {
                        Some(bytes) => write_hex(out, bytes),
                        None => out.extend_from_slice(b"null"),
                    }
                }
            });
        }
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(self.key(name));
        fill(&mut object);
        object.end();
    }

    pub(super) fn array(&mut self, name: &str, fill: impl FnOnce(&mut Array<'_>)) {
        fill_array(self.key(name), fill);
    }
}

fn fill_array(out: &mut Vec<u8>, fill: impl FnOnce(&mut Array<'_>)) {
    out.push(b'[');
    fill(&mut Array { out, empty: true });
    out.push(b']');
}

/// An array under construction.
pub(super) struct Array<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl Array<'_> {
    /// The place for the next value.
    fn next(&mut self) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out
    }

    pub(super) fn string(&mut self, text: &str) {
        write_string(self.next(), text);
    }

    pub(super) fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.next();
        out.push(b'"');
        write(out);
        out.push(b'"');
    }

    /// A number, or null.
    pub(super) fn number(&mut self, number: Option<u32>) {
        let out = self.next();
        match number {
            Some(number) => digits::decimal(out, number),
            None => out.extend_from_slice(b"null"),
        }
    }

    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        let mut object = Object::begin(self.next());
        fill(&mut object);
        object.end();
    }
}

fn display(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing to a vector cannot fail");
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    append_escaped(out, text);
    out.push(b'"');
}

/// As [`String::from_utf8_lossy`] has it.
fn write_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        append_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn append_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = position_to_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte is that cannot stand in a JSON string as it is (RFC 8259, section 7).
fn position_to_escape(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = lanes::below(word, 0x20) | lanes::equal(word, b'"') | lanes::equal(word, b'\\');
        if found != 0 {
            return Some(index * 8 + lanes::first(found));
        }
    }
    let at = rest.iter().position(|byte| must_be_escaped(*byte))?;
    Some(text.len() - rest.len() + at)
}

const fn must_be_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            out.extend_from_slice(b"\\u");
            return digits::hex(out, byte.into(), 4);
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.reserve(bytes.len() * 2 + 2);
    out.push(b'"');
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(fill: impl FnOnce(&mut Object<'_>)) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        fill(&mut object);
        object.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bytes_are_text_and_hex_only_where_text_loses_something() {
        assert_eq!(
            written(|o| o.bytes("a", b"x\n\"\0")),
            r#"{"a":"x\n\"\u0000"}"#
        );
        assert_eq!(
            written(|o| o.bytes("a", b"x\xff")),
            "{\"a\":\"x\u{fffd}\",\"a_hex\":\"78FF\"}"
        );
    }

    #[test]
    fn a_list_has_hex_only_for_what_is_not_text() {
        let list: [Option<&[u8]>; 3] = [Some(b"a"), None, Some(b"\xfe")];
        assert_eq!(
            written(|o| o.byte_list("l", list.into_iter())),
            "{\"l\":[\"a\",null,\"\u{fffd}\"],\"l_hex\":[null,null,\"FE\"]}"
        );
        assert_eq!(
            written(|o| o.byte_list("l", list[..2].iter().copied())),
            r#"{"l":["a",null]}"#
        );
    }

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(
            text in prop_oneof!["[ -~]{0,40}", "[\"\\\\a\u{0}-\u{ff}]{0,40}", any::<String>()],
        ) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn what_is_not_text_is_written_as_the_standard_library_replaces_it(
            bytes in prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), "[a\u{e9}\u{20ac}\u{1f600}]{0,9}".prop_map(|text| {
                text.into_bytes().into_iter().skip(1).step_by(2).collect()
            })],
        ) {
            let (mut lossy, mut string) = (Vec::new(), Vec::new());
            write_lossy(&mut lossy, &bytes);
            write_string(&mut string, &String::from_utf8_lossy(&bytes));
            prop_assert_eq!(lossy, string);
        }
    }

    #[test]
    fn nesting_keeps_its_commas() {
        let text = written(|o| {
            o.number("a", 1);
            o.object("b", |o| {
                o.null("c");
                o.boolean("d", true);
            });
            o.array("e", |a| {
                a.number(Some(1));
                a.object(|_| ());
                a.written(|out| out.push(b'2'));
                a.number(None);
            });
        });
        assert_eq!(
            text,
            r#"{"a":1,"b":{"c":null,"d":true},"e":[1,{},"2",null]}"#
        );
    }
}
