//! `audit-collector message`: a message of user space into the log.

use super::CommandError;
use crate::audit::client::{Client, UserMessage};
use crate::audit::record::RecordType;
use crate::cli::EXIT_OK;

/// Sends a message that the kernel writes as a USER record. While auditing is off it accepts and drops it.
///
/// # Errors
/// Where the text cannot be sent whole, or the kernel refuses.
pub fn run(text: &[u8]) -> Result<u8, CommandError> {
    let message = UserMessage::new(RecordType::USER, text)?;
    Client::connect()?.user_message(&message)?;
    Ok(EXIT_OK)
}
