//! Why a command that talks to the kernel about rules and settings failed.

use std::io;

use crate::audit::client::{ClientError, UserMessageError};
use crate::cli;
use crate::ruleset::{LoadError, ReadError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The kernel refused, or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Rule files could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Rule files were not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Rule files were not loaded for the sake of a line that has been shown.
    #[error("{}", .0.outcome())]
    Line(LoadError),
    /// The words given are no rule.
    #[error("{0}")]
    Words(String),
    /// The message cannot be sent.
    #[error(transparent)]
    Message(#[from] UserMessageError),
    /// The answer could not be written.
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl CommandError {
    /// The exit code of a command that fails so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) if error.is_refusal() => cli::EXIT_CANNOT_RUN,
            Self::Load(error) | Self::Line(error) if error.is_refusal() => cli::EXIT_CANNOT_RUN,
            Self::Words(_) | Self::Message(_) => cli::EXIT_USAGE,
            _ => cli::EXIT_FAILURE,
        }
    }
}
