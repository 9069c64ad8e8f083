//! What is wrong with a line of auditctl's language.

use std::ops::Range;

/// One fault of a line, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", suggestion.as_deref().map(|better| format!("; {better}")).unwrap_or_default())]
pub struct Fault {
    /// The bytes of the line that are wrong. On a command line, its words count as joined by single spaces.
    pub span: Range<usize>,
    /// What is wrong. Bytes of the line in it are escaped.
    pub what: String,
    /// What would be right, where that can be said.
    pub suggestion: Option<String>,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, what: impl Into<String>) -> Self {
        Self {
            span,
            what: what.into(),
            suggestion: None,
        }
    }

    /// With what would be right.
    pub(super) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self {
            suggestion: Some(suggestion.into()),
            ..self
        }
    }

    /// With the name among `known` that `name` is most like, if it is like any.
    pub(super) fn suggest_name(
        self,
        name: &str,
        known: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        match nearest(name, known) {
            Some(better) => self.suggest(format!("did you mean `{better}`?")),
            None => self,
        }
    }
}

/// Most bytes of a word that a message repeats, and of a name that is looked for among like ones.
const SHOWN: usize = 64;

/// Bytes of a line as a message shows them.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => format!("{}…", start.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn nearest(name: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    if name.len() > SHOWN {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // One slip in three letters is a likely one.
    let likely = (name.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|known| {
            (
                strsim::osa_distance(&name, &known.to_ascii_lowercase()),
                known,
            )
        })
        .filter(|(distance, _)| *distance <= likely)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["open", "openat", "close"];
        assert_eq!(nearest("opneat", known), Some("openat"));
        assert_eq!(nearest("OPENATT", known), Some("openat"));
        assert_eq!(nearest("connect", known), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest(&"open".repeat(100), known), None);
    }

    #[test]
    fn what_is_shown_is_short_and_readable() {
        assert_eq!(shown(b"a\n\xff"), r"a\n\xff");
        assert_eq!(shown(&[b'a'; 65]).chars().count(), 65);
        assert_eq!(shown(&[b'a'; 64]), "a".repeat(64));
    }

    #[test]
    fn a_fault_says_what_would_be_right() {
        let fault = Fault::new(0..1, "unknown field `udi`").suggest_name("udi", ["uid", "gid"]);
        assert_eq!(
            fault.to_string(),
            "unknown field `udi`; did you mean `uid`?"
        );
    }
}
