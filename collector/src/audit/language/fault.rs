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
