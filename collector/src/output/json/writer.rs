//! Writes JSON objects and arrays straight into a buffer.
//!
//! Bytes become text under one rule: `"name"` holds the bytes as text, with U+FFFD for what is not UTF-8, and only where
//! that lost something `"name_hex"` beside it holds all of them. Control characters are escaped as JSON wants, so
//! that a line never holds a raw line end.

use std::fmt::Display;
use std::io::Write as _;

use crate::digits;

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
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
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
        match std::str::from_utf8(bytes) {
            Ok(text) => self.string(name, text),
            Err(_) => {
                self.string(name, &String::from_utf8_lossy(bytes));
                self.hex(&format!("{name}_hex"), bytes);
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
                        write_string(out, &String::from_utf8_lossy(bytes));
                    }
                    None => out.extend_from_slice(b"null"),
                }
            }
        });
        if !exact {
            self.array(&format!("{name}_hex"), |array| {
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
        let out = self.key(name);
        out.push(b'[');
        fill(&mut Array { out, empty: true });
        self.out.push(b']');
    }
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
    let mut rest = text.as_bytes();
    while let Some(at) = position_to_escape(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Where the first byte is that cannot stand in a JSON string as it is (RFC 8259, section 7).
fn position_to_escape(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    /// Sets the top bit of each byte that is zero; of those in front of the first zero byte it is exact (Mycroft).
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & TOPS
    }
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let found = control | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
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
