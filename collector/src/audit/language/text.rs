//! Strings of rules as words of auditctl's language.
//!
//! Owns how bytes from a rule are written so that they stay one word on one line and act on no terminal. A space is
//! written `\ ` and a backslash before one `\\`, as auditctl reads them in rule files; what cannot be printed is
//! written `\xNN`, which is for people only: auditctl has no way to write it.

use std::fmt::{self, Write as _};

/// A string of a rule: a path, a key, a label.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let mut characters = chunk.valid().chars().peekable();
            while let Some(character) = characters.next() {
                match character {
                    ' ' => f.write_str("\\ ")?,
                    '\\' if matches!(characters.peek(), None | Some(' ' | '\\')) => {
                        f.write_str("\\\\")?;
                    }
                    _ if is_printable(character) => f.write_char(character)?,
                    _ => {
                        let mut bytes = [0; 4];
                        write_bytes(f, character.encode_utf8(&mut bytes).as_bytes())?;
                    }
                }
            }
            write_bytes(f, chunk.invalid())?;
        }
        Ok(())
    }
}

/// Whether a character is shown as itself. Control characters are not, nor are those that change the direction of
/// text, join with what is before them or leave no mark.
fn is_printable(character: char) -> bool {
    matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        Text(bytes).to_string()
    }

    #[test]
    fn readable_text_is_left_as_it_is() {
        for readable in ["/etc/passwd", "über-Größe", r#"a"b'c"#, r"C:\dir", "#-k=,"] {
            assert_eq!(text(readable.as_bytes()), readable);
        }
    }

    #[test]
    fn a_space_does_not_end_the_word() {
        assert_eq!(text(b"/a b"), r"/a\ b");
        assert_eq!(text(br"/a\ b"), r"/a\\\ b");
        assert_eq!(text(br"/a\"), r"/a\\");
        assert_eq!(text(br"a\\b"), r"a\\\b");
    }

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(
            text(b"a\n-D\r\t\x1b[2J\x7f\xff\0"),
            r"a\x0a-D\x0d\x09\x1b[2J\x7f\xff\x00"
        );
        assert_eq!(text("\u{202e}x\u{85}".as_bytes()), r"\xe2\x80\xaex\xc2\x85");
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_word_on_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = text(&bytes);
            prop_assert!(!text.chars().any(char::is_control));
            for (at, _) in text.match_indices(' ') {
                prop_assert_eq!(&text[at - 1..at], "\\");
            }
        }
    }
}
