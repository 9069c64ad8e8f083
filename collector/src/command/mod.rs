//! Commands that answer a question and end. Each takes where to write and in which format, and knows nothing of the
//! command line.

pub mod doctor;
pub mod replay;
pub mod status;

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for a person.
    #[default]
    Text,
    /// One JSON object.
    Json,
}
