//! The words of a line.
//!
//! Owns how auditctl splits a line of a rule file: at spaces only, with `\ ` for a space in a word and `\\` for a
//! backslash. Quotes and tabs mean nothing. Bound: [`LINE_LIMIT`].

use std::ops::Range;

use super::fault::Fault;

/// Most bytes of a line of a rule file. auditctl takes what is longer for several lines.
pub const LINE_LIMIT: usize = 6143;

/// Most bytes of a command line, spaces between its words included.
pub const ARGUMENTS_LIMIT: usize = 128 << 10;

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it says, without the backslashes that escaped a space or a backslash.
    pub text: Vec<u8>,
    /// Its place in the line, in bytes. On a command line, words count as joined by single spaces.
    pub at: usize,
    /// How many bytes of the line it takes.
    pub length: usize,
}

impl Word {
    /// Its place in the line.
    pub fn span(&self) -> Range<usize> {
        self.at..self.at + self.length
    }

    /// The place of a part of its text; the whole word where backslashes were taken out of it.
    pub(super) fn span_of(&self, part: Range<usize>) -> Range<usize> {
        if self.text.len() == self.length {
            self.at + part.start..self.at + part.end
        } else {
            self.span()
        }
    }

    /// The word from byte `start` of its text on. What is before must be without backslashes.
    pub(super) fn from(&self, start: usize) -> Self {
        Self {
            text: self.text[start..].to_vec(),
            at: self.at + start,
            length: self.length - start,
        }
    }
}

/// The words of a line of a rule file; none for a comment or a line with nothing on it.
///
/// # Errors
/// Where it is longer than [`LINE_LIMIT`] or has a NUL byte.
pub fn words(line: &[u8]) -> Result<Vec<Word>, Fault> {
    if line.len() > LINE_LIMIT {
        let what = format!("the line is longer than {LINE_LIMIT} bytes");
        return Err(Fault::new(LINE_LIMIT..line.len(), what));
    }
    if let Some(at) = memchr::memchr(0, line) {
        return Err(Fault::new(at..at + 1, "a NUL byte"));
    }
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<Word> = None;
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        if byte == b' ' {
            words.extend(open.take());
            at += 1;
            continue;
        }
        let (text, taken) = match (byte, line.get(at + 1)) {
            (b'\\', Some(&escaped @ (b' ' | b'\\'))) => (&[escaped][..], 2),
            // A backslash before anything else is itself, and so is what comes after it.
            (b'\\', Some(_)) => (&line[at..at + 2], 2),
            _ => (&line[at..=at], 1),
        };
        let word = open.get_or_insert(Word {
            text: Vec::new(),
            at,
            length: 0,
        });
        word.text.extend(text);
        word.length += taken;
        at += taken;
    }
    words.extend(open);
    if words.first().is_some_and(|word| word.text[0] == b'#') {
        words.clear();
    }
    Ok(words)
}

/// The words of a command line.
pub(super) fn arguments(arguments: &[impl AsRef<[u8]>]) -> Result<Vec<Word>, Fault> {
    let mut at = 0;
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let text = argument.as_ref();
        if at + text.len() > ARGUMENTS_LIMIT {
            let what = format!("the arguments are longer than {ARGUMENTS_LIMIT} bytes");
            return Err(Fault::new(at..at + text.len(), what));
        }
        if let Some(nul) = memchr::memchr(0, text) {
            return Err(Fault::new(at + nul..at + nul + 1, "a NUL byte"));
        }
        words.push(Word {
            text: text.to_vec(),
            at,
            length: text.len(),
        });
        at += text.len() + 1;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).unwrap();
        let text = |word: Word| String::from_utf8(word.text).unwrap();
        words.into_iter().map(text).collect()
    }

    #[test]
    fn words_end_at_spaces_only() {
        assert_eq!(texts("  -a  always,exit "), ["-a", "always,exit"]);
        assert_eq!(texts("-e\t1"), ["-e\t1"]);
        assert_eq!(texts("-k \"a b\""), ["-k", "\"a", "b\""]);
        assert_eq!(texts("   "), [""; 0]);
        assert_eq!(texts(""), [""; 0]);
    }

    #[test]
    fn a_comment_is_a_line_of_its_own() {
        assert_eq!(texts("# -D"), [""; 0]);
        assert_eq!(texts("   #-D"), [""; 0]);
        assert_eq!(texts("-D # all"), ["-D", "#", "all"]);
    }

    #[test]
    fn a_backslash_escapes_a_space_and_itself() {
        assert_eq!(texts(r"-w /a\ b"), ["-w", "/a b"]);
        assert_eq!(texts(r"-w /a\\ b"), ["-w", r"/a\", "b"]);
        assert_eq!(texts(r"-w /a\\\ b"), ["-w", r"/a\ b"]);
        assert_eq!(texts(r"-k a\n\"), ["-k", r"a\n\"]);
    }

    #[test]
    fn words_know_their_place() {
        let line = br"  -k a\ b c";
        let words = words(line).unwrap();
        let places: Vec<_> = words.iter().map(|word| &line[word.span()]).collect();
        assert_eq!(places, [&b"-k"[..], br"a\ b", b"c"]);
        assert_eq!(words[0].span_of(1..2), 3..4);
        assert_eq!(words[1].span_of(1..2), 5..9);
    }

    #[test]
    fn what_cannot_be_a_line_is_refused() {
        assert_eq!(words(&[b'a'; LINE_LIMIT]).unwrap().len(), 1);
        assert!(words(&[b'a'; LINE_LIMIT + 1]).is_err());
        assert_eq!(words(b"-k a\0b").unwrap_err().span, 4..5);
        assert!(arguments(&[vec![b'a'; ARGUMENTS_LIMIT + 1]]).is_err());
        assert_eq!(arguments(&["-k", "a\0"]).unwrap_err().span, 4..5);
    }
}
