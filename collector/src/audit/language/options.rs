//! The options of a line, as getopt_long(3) finds them.
//!
//! Owns which options there are and which take a value: `-k key`, `-kkey`, `--opt value`, `--opt=value`, and long
//! names cut short. Knows nothing of what they mean.

use std::iter::Enumerate;
use std::ops::Range;
use std::slice::Iter;

use super::fault::{Fault, shown};
use super::words::Word;

/// One option.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Which.
    pub option: Switch,
    /// Its place, without its value.
    pub span: Range<usize>,
    /// Its value; empty for one that takes none.
    pub value: Word,
    /// The place of its word among the words of the line.
    pub index: usize,
}

macro_rules! options {
    ($($option:ident = $name:literal $($takes:ident)?,)*) => {
        /// Which option.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Switch {
            $($option,)*
        }

        const OPTIONS: &[(Switch, &str, bool)] = &[$((Switch::$option, $name, options!(@ $($takes)?)),)*];
    };
    (@ value) => { true };
    (@) => { false };
}

options! {
    Append = "a" value,
    Insert = "A" value,
    Backlog = "b" value,
    Continue = "c",
    Compare = "C" value,
    Delete = "d" value,
    DeleteAll = "D",
    Enabled = "e" value,
    Failure = "f" value,
    Field = "F" value,
    Help = "h",
    Ignore = "i",
    Key = "k" value,
    List = "l",
    Message = "m" value,
    Permissions = "p" value,
    Equivalent = "q" value,
    Rate = "r" value,
    Read = "R" value,
    Status = "s",
    Syscall = "S" value,
    Trim = "t",
    Version = "v",
    Watch = "w" value,
    Unwatch = "W" value,
    BacklogWaitTime = "backlog_wait_time" value,
    LoginuidImmutable = "loginuid-immutable",
    ResetLost = "reset-lost",
    ResetWaitTime = "reset_backlog_wait_time_actual",
    Signal = "signal" value,
}

/// The options of `words` in order, and the words that belong to none as faults.
pub(super) struct Options<'a> {
    words: Enumerate<Iter<'a, Word>>,
    /// A word with more short options in it, from this byte on.
    rest: Option<(usize, &'a Word, usize)>,
    ended: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(words: &'a [Word]) -> Self {
        Self {
            words: words.iter().enumerate(),
            rest: None,
            ended: false,
        }
    }

    fn short(&mut self, index: usize, word: &'a Word, at: usize) -> Result<Found, Fault> {
        let span = word.span_of(at..at + 1);
        let letter = &word.text[at..=at];
        let is_last = at + 1 == word.text.len();
        let known = OPTIONS
            .iter()
            .find(|(_, name, _)| name.as_bytes() == letter);
        let Some((option, name, takes_value)) = known else {
            return Err(Fault::new(
                span,
                format!("there is no option `-{}`", shown(letter)),
            ));
        };
        if !takes_value && !is_last {
            self.rest = Some((index, word, at + 1));
        }
        let value = match takes_value {
            true if is_last => self.next_word(&format!("-{name}"), span.clone())?,
            true => word.from(at + 1),
            false => word.from(word.text.len()),
        };
        Ok(Found {
            option: *option,
            span,
            value,
            index,
        })
    }

    fn long(&mut self, index: usize, word: &'a Word) -> Result<Found, Fault> {
        let equals = memchr::memchr(b'=', &word.text);
        let end = equals.unwrap_or(word.text.len());
        let (name, span) = (&word.text[2..end], word.span_of(0..end));
        let long = || OPTIONS.iter().filter(|(_, known, _)| known.len() > 1);
        let exact = long().find(|(_, known, _)| known.as_bytes() == name);
        let mut like = long().filter(|(_, known, _)| known.as_bytes().starts_with(name));
        let (option, name, takes_value) = match (exact, like.next(), like.next()) {
            (Some(option), ..) | (None, Some(option), None) => option,
            (None, found, _) => {
                let what = match found {
                    Some(_) => format!("`--{}` is short for several options", shown(name)),
                    None => format!("there is no option `--{}`", shown(name)),
                };
                let names = long().map(|(_, known, _)| *known);
                return Err(
                    Fault::new(span, what).suggest_name(&String::from_utf8_lossy(name), names)
                );
            }
        };
        let value = match (takes_value, equals) {
            (true, Some(equals)) => word.from(equals + 1),
            (true, None) => self.next_word(&format!("--{name}"), span.clone())?,
            (false, Some(_)) => {
                return Err(Fault::new(
                    word.span(),
                    format!("`--{name}` takes no value"),
                ));
            }
            (false, None) => word.from(word.text.len()),
        };
        Ok(Found {
            option: *option,
            span,
            value,
            index,
        })
    }

    fn next_word(&mut self, name: &str, span: Range<usize>) -> Result<Word, Fault> {
        match self.words.next() {
            Some((_, word)) => Ok(word.clone()),
            None => Err(Fault::new(span, format!("`{name}` needs a value"))),
        }
    }
}

impl Iterator for Options<'_> {
    type Item = Result<Found, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((index, word, at)) = self.rest.take() {
            return Some(self.short(index, word, at));
        }
        let (index, word) = self.words.next()?;
        Some(match word.text.as_slice() {
            b"--" if !self.ended => {
                self.ended = true;
                return self.next();
            }
            [b'-', b'-', _, ..] if !self.ended => self.long(index, word),
            [b'-', _, ..] if !self.ended => self.short(index, word, 1),
            text => {
                if text.starts_with(b"#") {
                    // Meant as a comment: what follows would only be faults of their own.
                    self.words = [].iter().enumerate();
                }
                Err(not_an_option(word.span(), text))
            }
        })
    }
}

fn not_an_option(span: Range<usize>, text: &[u8]) -> Fault {
    let fault = Fault::new(span, format!("`{}` belongs to no option", shown(text)));
    match text {
        [b'#', ..] => fault.suggest("a comment takes a line of its own"),
        [0xef, 0xbb, 0xbf, ..] => fault.suggest("save the file without a byte order mark"),
        _ if text.contains(&b'\t') => fault.suggest("words are separated by spaces, not by tabs"),
        _ if text.ends_with(b"\r") => fault.suggest("lines end with a line feed only"),
        _ if text.iter().any(|byte| matches!(byte, b'"' | b'\'')) => {
            fault.suggest("quotes mean nothing in a rule file; write `\\ ` for a space")
        }
        _ => fault,
    }
}
