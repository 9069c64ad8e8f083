//! `struct audit_tty_status`: what is recorded of what a process's users type.

use crate::audit::message::u32_at;

/// Whether what is typed on terminals is recorded, for one process. Children inherit it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TtyStatus {
    /// Whether it is.
    pub enabled: bool,
    /// Whether what is typed while a terminal does not echo, such as passwords, is recorded as well. The kernel keeps
    /// this also while `enabled` is false.
    pub log_passwd: bool,
}

impl TtyStatus {
    /// Reads the payload of an `AUDIT_TTY_GET` reply; none where it is too short. Kernels before Linux 3.10 have only
    /// `enabled`.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        Some(Self {
            enabled: u32_at(payload, 0)? != 0,
            log_passwd: u32_at(payload, 4).is_some_and(|word| word != 0),
        })
    }

    pub(super) fn encode(self) -> [u8; 8] {
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&u32::from(self.enabled).to_ne_bytes());
        payload[4..].copy_from_slice(&u32::from(self.log_passwd).to_ne_bytes());
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_words_survive_and_a_short_reply_is_read_as_far_as_it_goes() {
        for (enabled, log_passwd) in [(false, false), (true, false), (false, true), (true, true)] {
            let status = TtyStatus {
                enabled,
                log_passwd,
            };
            assert_eq!(TtyStatus::decode(&status.encode()), Some(status));
        }
        let oldest = TtyStatus::decode(&1_u32.to_ne_bytes()).unwrap();
        assert!(oldest.enabled && !oldest.log_passwd);
        assert_eq!(TtyStatus::decode(&[1, 0, 0]), None);
    }
}
