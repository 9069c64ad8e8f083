//! `audit-collector message`: a message of user space into the log.
//!
//! Owns the fields such a message has. They are those of auditctl's `-m`, which is what readers of the log expect.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;

use nix::unistd;

use super::CommandError;
use crate::audit::client::{Client, UserMessage};
use crate::audit::record::RecordType;
use crate::cli::EXIT_OK;

/// Sends a message that the kernel writes as a USER record. While auditing is off it accepts and drops it.
///
/// # Errors
/// Where the text cannot be sent whole, or the kernel refuses.
pub fn run(text: &[u8]) -> Result<u8, CommandError> {
    // What is said of the text is about the text as given.
    UserMessage::new(RecordType::USER, text)?;
    let text = fields(text);
    let message = UserMessage::new(RecordType::USER, &text)?;
    Client::connect()?.user_message(&message)?;
    Ok(EXIT_OK)
}

/// The message with who sends it and from where.
pub(super) fn fields(text: &[u8]) -> Vec<u8> {
    let exe = fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut all = b"text=".to_vec();
    all.extend_from_slice(text);
    all.extend_from_slice(b" exe=");
    all.extend(untrusted(exe.as_os_str().as_bytes()));
    let (terminal, host) = match terminal() {
        Some(terminal) => (terminal, unistd::gethostname().ok()),
        None => (b"?".to_vec(), None),
    };
    let host = host.map_or(b"?".to_vec(), |host| host.as_bytes().to_vec());
    all.extend_from_slice(b" hostname=");
    all.extend(host);
    all.extend_from_slice(b" addr=? terminal=");
    all.extend(terminal);
    all.extend_from_slice(b" res=success");
    all
}

/// The terminal on standard input, such as `pts/0`.
fn terminal() -> Option<Vec<u8>> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let path = fs::read_link("/proc/self/fd/0").ok()?;
    let name = path.strip_prefix("/dev").ok()?;
    Some(name.as_os_str().as_bytes().to_vec())
}

/// As the kernel writes strings it does not trust: in quotes, or in hex where they could be misread
/// (kernel/audit.c `audit_log_n_untrustedstring`).
fn untrusted(text: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"';
    if text.iter().all(is_plain) {
        [b"\"", text, b"\""].concat()
    } else {
        let hex = text
            .iter()
            .flat_map(|byte| format!("{byte:02X}").into_bytes());
        hex.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_fields_readers_expect() {
        let text = String::from_utf8(fields(b"hello world")).unwrap();
        assert!(text.starts_with("text=hello world exe=\"/"), "{text}");
        assert!(text.contains(" addr=? terminal="), "{text}");
        assert!(text.ends_with(" res=success"), "{text}");
    }

    #[test]
    fn a_program_in_an_odd_place_is_written_in_hex() {
        assert_eq!(untrusted(b"/bin/a"), b"\"/bin/a\"");
        assert_eq!(untrusted(b"/a b"), b"2F612062");
    }
}
