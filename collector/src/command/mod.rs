//! Commands that answer a question, or change something, and end. Each takes where to write and in which format, and
//! knows nothing of the command line; `control` leads from there to the commands that change rules and settings.

pub mod auditctl;
pub mod control;
pub mod doctor;
mod error;
mod held_signals;
pub mod message;
pub mod replay;
pub mod rules;
pub mod set;
pub mod status;
pub mod verify;

pub use error::CommandError;
pub use held_signals::release as release_signals;

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for a person.
    #[default]
    Text,
    /// One JSON object.
    Json,
}
