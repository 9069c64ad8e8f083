//! Records of user space: which types a process may write, and what text the kernel takes whole.

use crate::audit::record::RecordType;

/// A message for the audit log, checked. The kernel writes it between `msg='` and `'`, as it is, behind who sent it;
/// the text of `USER_TTY` it writes in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserMessage<'a> {
    message_type: RecordType,
    text: &'a [u8],
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserMessageError {
    /// Records of this type come from the kernel or the daemon only.
    #[error(
        "records of type {} are not for user space, which has 1005, 1100 to 1199 and 2100 to 2999",
        message_type.0
    )]
    NotUserType {
        /// The type.
        message_type: RecordType,
    },
    /// There is no text. The kernel refuses that.
    #[error("a message needs a text")]
    Empty,
    /// The kernel would write only the beginning.
    #[error(
        "the text is {length} bytes long, and the kernel writes at most {}",
        UserMessage::TEXT_LIMIT
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A control character, which would end the text (NUL), part the log line in two (newline) or pass for what the
    /// daemon adds (0x1d).
    #[error("byte {at} of the text is the control character {byte:#04x}")]
    ControlCharacter {
        /// Which.
        byte: u8,
        /// Where, from 0.
        at: usize,
    },
}

impl<'a> UserMessage<'a> {
    /// Most bytes of text the kernel writes (`AUDIT_MESSAGE_TEXT_MAX`).
    pub const TEXT_LIMIT: usize = 8560;

    /// A message of that type. The text may contain quotes: the kernel does not escape them.
    ///
    /// # Errors
    /// Where the type is not one of user space, or the kernel would not write the text whole and on one line.
    pub fn new(message_type: RecordType, text: &'a [u8]) -> Result<Self, UserMessageError> {
        if !matches!(message_type.0, 1005 | 1100..=1199 | 2100..=2999) {
            return Err(UserMessageError::NotUserType { message_type });
        }
        if text.is_empty() {
            return Err(UserMessageError::Empty);
        }
        let length = text.len();
        if length > Self::TEXT_LIMIT {
            return Err(UserMessageError::TooLong { length });
        }
        let control = text.iter().position(u8::is_ascii_control);
        match control {
            Some(at) if message_type != RecordType::USER_TTY => {
                Err(UserMessageError::ControlCharacter { byte: text[at], at })
            }
            _ => Ok(Self { message_type, text }),
        }
    }

    /// Its type.
    pub const fn message_type(&self) -> RecordType {
        self.message_type
    }

    /// Its text.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// The payload of the request. The kernel puts a NUL on the last byte.
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.text, &[0]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: RecordType = RecordType::USER;

    #[test]
    fn only_types_of_user_space_are_sent() {
        for allowed in [1005, 1100, 1199, 2100, 2999] {
            assert!(UserMessage::new(RecordType(allowed), b"x").is_ok());
        }
        // Among these are the requests: 1011 would add a rule.
        for refused in [
            0,
            1000,
            1004,
            1006,
            1011,
            1099,
            1200,
            1300,
            2099,
            3000,
            u16::MAX,
        ] {
            let message_type = RecordType(refused);
            assert_eq!(
                UserMessage::new(message_type, b"x"),
                Err(UserMessageError::NotUserType { message_type })
            );
        }
    }

    #[test]
    fn what_the_kernel_would_cut_or_break_is_refused() {
        let error = |text: &[u8]| UserMessage::new(USER, text).unwrap_err();
        assert_eq!(error(b""), UserMessageError::Empty);
        assert_eq!(
            error(&[b'a'; 8561]),
            UserMessageError::TooLong { length: 8561 }
        );
        for byte in [0, b'\n', b'\t', 0x1d, 0x7f] {
            assert_eq!(
                error(&[b'a', byte]),
                UserMessageError::ControlCharacter { byte, at: 1 }
            );
        }
    }

    #[test]
    fn the_text_is_sent_with_a_nul_behind_it() {
        let longest = [b'a'; UserMessage::TEXT_LIMIT];
        let message = UserMessage::new(USER, &longest).unwrap();
        assert_eq!(message.encode().len(), 8561);
        assert_eq!(message.encode().last(), Some(&0));
        let text = "it's “ä”".as_bytes();
        assert_eq!(UserMessage::new(USER, text).unwrap().text(), text);
    }

    #[test]
    fn what_was_typed_may_be_any_bytes() {
        assert!(UserMessage::new(RecordType::USER_TTY, b"ls\r\n").is_ok());
    }
}
