//! The lines of rule files, understood.

use std::path::Path;
use std::sync::Arc;

use super::order::Arranged;
use super::place::{Place, SourceLine};
use super::source::{self, ReadError, Trust};
use crate::audit::language::{Directive, Fault, Line};

/// What happens when a line is wrong, or the kernel refuses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnError {
    /// Everything is put back as it was.
    #[default]
    Restore,
    /// `-c`: the rest is loaded, and the load counts as failed.
    Continue,
    /// `-i`: the rest is loaded, and the load counts as done.
    Ignore,
}

/// One line with what it asks for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The line.
    pub source: Arc<SourceLine>,
    /// What it asks for, or what is wrong with it.
    pub line: Result<Line, Vec<Fault>>,
    /// What happens where it fails: what the lines before it say.
    pub on_error: OnError,
}

/// Rule files, read and understood.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    entries: Vec<Entry>,
    replaced: Vec<(SourceLine, Place)>,
}

impl RuleSet {
    /// Reads files and folders and understands each line as `parse` does. A line that is wrong is no error here.
    ///
    /// # Errors
    /// Where something cannot be read, is out of bounds, or must not be trusted.
    pub fn read(
        paths: &[impl AsRef<Path>],
        trust: Trust,
        parse: impl Fn(&[u8]) -> Result<Line, Vec<Fault>>,
    ) -> Result<Self, ReadError> {
        Ok(Self::understand(source::read(paths, trust)?, parse))
    }

    pub(super) fn understand(
        arranged: Arranged,
        parse: impl Fn(&[u8]) -> Result<Line, Vec<Fault>>,
    ) -> Self {
        let mut on_error = OnError::default();
        let entries = arranged
            .lines
            .into_iter()
            .map(|source| {
                let line = line_end(&source).and_then(|()| parse(&source.text));
                for directive in line.iter().flat_map(|line| &line.directives) {
                    match directive {
                        Directive::ContinueOnErrors => on_error = OnError::Continue,
                        // `-c` implies it, and stays.
                        Directive::IgnoreErrors => on_error = on_error.max_lenient(),
                        _ => {}
                    }
                }
                Entry {
                    source: Arc::new(source),
                    line,
                    on_error,
                }
            })
            .collect();
        Self {
            entries,
            replaced: arranged.replaced,
        }
    }

    /// The lines in the order they are loaded in.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Lines that do not count because a later one, at the place given, stands in for them.
    pub fn replaced(&self) -> &[(SourceLine, Place)] {
        &self.replaced
    }

    /// What is wrong, line by line.
    pub fn faults(&self) -> impl Iterator<Item = (&Entry, &Fault)> {
        self.entries.iter().flat_map(|entry| {
            let faults = entry.line.as_ref().err();
            faults
                .into_iter()
                .flatten()
                .map(move |fault| (entry, fault))
        })
    }

    /// The same lines, each asking for what `each` makes of what it asks for, in the order of the files.
    #[must_use]
    pub fn map(mut self, mut each: impl FnMut(Directive) -> Option<Directive>) -> Self {
        for line in self.entries.iter_mut().flat_map(|entry| &mut entry.line) {
            let directives = std::mem::take(&mut line.directives);
            line.directives = directives.into_iter().filter_map(&mut each).collect();
        }
        self
    }

    /// The same files under another rule for errors, for lines that say nothing stronger.
    #[must_use]
    pub fn with_on_error(mut self, on_error: OnError) -> Self {
        for entry in &mut self.entries {
            if entry.on_error == OnError::Restore {
                entry.on_error = on_error;
            }
        }
        self
    }
}

impl OnError {
    const fn max_lenient(self) -> Self {
        match self {
            Self::Continue => Self::Continue,
            _ => Self::Ignore,
        }
    }
}

/// Refuses the line ends of other systems: auditctl takes them for part of the last word.
fn line_end(source: &SourceLine) -> Result<(), Vec<Fault>> {
    let length = source.text.len();
    match source.text.ends_with(b"\r") {
        true => Err(vec![Fault {
            span: length - 1..length,
            what: "the line ends in a carriage return, which would be part of its last word".into(),
            suggestion: Some("save the file with Unix line ends".into()),
        }]),
        false => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::rules::{Placement, Rule};
    use crate::audit::status::StatusField;

    /// A language of its own, so that what is tested here does not depend on auditctl's: words, one per directive.
    pub(in crate::ruleset) fn set(text: &str) -> RuleSet {
        let lines = (1..)
            .zip(text.lines())
            .map(|(line, text)| SourceLine {
                place: Place {
                    file: Path::new("a.rules").into(),
                    line,
                },
                text: text.as_bytes().into(),
            })
            .collect();
        let arranged = Arranged {
            lines,
            replaced: Vec::new(),
        };
        RuleSet::understand(arranged, |text| {
            let text = std::str::from_utf8(text).unwrap();
            let directives = text.split(' ').map(directive).collect::<Result<_, _>>()?;
            Ok(Line {
                directives,
                warnings: Vec::new(),
            })
        })
    }

    pub(in crate::ruleset) fn rule(key: &str) -> Rule {
        Rule::always_exit().key(key)
    }

    fn directive(word: &str) -> Result<Directive, Vec<Fault>> {
        let (what, key) = word.split_at(1);
        Ok(match what {
            "a" | "A" => Directive::Add {
                rule: rule(key),
                placement: if what == "a" {
                    Placement::Last
                } else {
                    Placement::First
                },
            },
            "d" => Directive::Delete { rule: rule(key) },
            "D" => Directive::DeleteAll {
                key: (!key.is_empty()).then(|| key.as_bytes().into()),
            },
            "b" | "e" => Directive::Set {
                field: if what == "b" {
                    StatusField::BacklogLimit
                } else {
                    StatusField::Enabled
                },
                value: key.parse().unwrap(),
            },
            "c" => Directive::ContinueOnErrors,
            "i" => Directive::IgnoreErrors,
            "s" => Directive::Status,
            _ => {
                return Err(vec![Fault {
                    span: 0..word.len(),
                    what: format!("unknown {word}"),
                    suggestion: None,
                }]);
            }
        })
    }

    #[test]
    fn what_happens_on_errors_is_what_the_lines_before_say() {
        let on_error = |text: &str| -> Vec<OnError> {
            set(text)
                .entries()
                .iter()
                .map(|entry| entry.on_error)
                .collect()
        };
        use OnError::{Continue, Ignore, Restore};
        assert_eq!(
            on_error("?\ni\n?\nc\n?\ni"),
            [Restore, Ignore, Ignore, Continue, Continue, Continue]
        );
        let other = set("?\ni\n?").with_on_error(Continue);
        assert_eq!(other.entries()[0].on_error, Continue);
        assert_eq!(other.entries()[2].on_error, Ignore);
    }

    #[test]
    fn line_ends_of_other_systems_are_faults() {
        let set = set("a1\na2\r\na3\r");
        let lines: Vec<_> = set
            .faults()
            .map(|(entry, _)| entry.source.place.line)
            .collect();
        assert_eq!(lines, [3]);
    }
}
