//! Writes JSON objects and arrays straight into a buffer.
//!
//! Bytes become text under one rule: `"name"` holds the bytes as text, with U+FFFD for what is not UTF-8, and only where
//! that lost something `"name_hex"` beside it holds all of them. Control characters are escaped as JSON wants, so
//! that a line never holds a raw line end.

use std::fmt::Display;
use std::io::Write as _;

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

    pub(super) fn number(&mut self, name: &str, number: impl Into<i128>) {
        display(self.key(name), number.into());
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        display(self.key(name), value);
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
                match bytes.map(String::from_utf8_lossy) {
                    Some(text) => {
                        exact &= matches!(text, std::borrow::Cow::Borrowed(_));
                        write_string(out, &text);
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

    pub(super) fn plain(&mut self, text: impl Display) {
        let out = self.next();
        out.push(b'"');
        display(out, text);
        out.push(b'"');
    }

    /// A number, or null.
    pub(super) fn number(&mut self, number: Option<u32>) {
        let out = self.next();
        match number {
            Some(number) => display(out, number),
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
    serde_json::to_writer(out, text)
        .expect("a string is always JSON, and writing to a vector cannot fail");
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
                a.plain(2);
                a.number(None);
            });
        });
        assert_eq!(
            text,
            r#"{"a":1,"b":{"c":null,"d":true},"e":[1,{},"2",null]}"#
        );
    }
}
