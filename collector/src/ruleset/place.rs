//! Where a line of a rule file stands.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// A line's place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: u32,
}

/// `file:line`, with what a terminal must not see escaped.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            printable(self.file.as_os_str().as_bytes()),
            self.line
        )
    }
}

/// One line of a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Where it stands.
    pub place: Place,
    /// The line without its end.
    pub text: Box<[u8]>,
}

impl SourceLine {
    /// The line as a terminal may see it.
    pub fn printable(&self) -> String {
        printable(&self.text)
    }

    /// How many characters of [`SourceLine::printable`] the first `bytes` bytes take.
    pub fn width(&self, bytes: usize) -> usize {
        printable(&self.text[..bytes.min(self.text.len())])
            .chars()
            .count()
    }
}

/// `bytes` as text a terminal may see: control characters and what is no UTF-8 are escaped, a tab is a blank.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push(' '),
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

/// Characters that change how the rest of a line is shown: marks of direction, and those without width.
const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_escaped() {
        let line = SourceLine {
            place: Place {
                file: Path::new("/etc/a\x1b[2J.rules").into(),
                line: 3,
            },
            text: b"-k\t\x1b]0;x\x07 \xc3\xa9 \xff \xe2\x80\xae"
                .as_slice()
                .into(),
        };
        assert_eq!(line.place.to_string(), "/etc/a\\u{1b}[2J.rules:3");
        assert_eq!(line.printable(), "-k \\u{1b}]0;x\\u{7} é \\xff \\u{202e}");
        assert_eq!(line.width(3), 3);
        assert_eq!(line.width(4), 9);
        assert_eq!(line.width(1000), line.printable().chars().count());
    }
}
