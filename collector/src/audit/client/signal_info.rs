//! `struct audit_sig_info`: who sent the audit daemon a signal.

use crate::audit::message::u32_at;

/// Who last sent the audit daemon SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 (kernel/audit.c `audit_signal_info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// The sender's login user, or its user where it had no login; none where nobody has sent one since boot.
    pub uid: Option<u32>,
    /// The sender's process id as seen from the initial pid namespace; none where nobody has sent one since boot.
    pub pid: Option<u32>,
    /// The sender's security context, as the kernel's security module writes it; empty without one.
    pub context: Box<[u8]>,
}

impl SignalInfo {
    /// Reads the payload of an `AUDIT_SIGNAL_INFO` reply; none where it is too short.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let some = |word: u32| (word != u32::MAX).then_some(word);
        let context = payload.get(8..)?;
        // A message is filled up to a multiple of four bytes, and some modules end the context with a NUL.
        let padding = context.iter().rev().take_while(|byte| **byte == 0).count();
        Some(Self {
            uid: some(u32_at(payload, 0)?),
            pid: some(u32_at(payload, 4)?),
            context: context[..context.len() - padding].into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sender_and_context_are_read_without_the_padding() {
        let mut payload = [1000_u32, 4711].map(u32::to_ne_bytes).concat();
        let plain = SignalInfo::decode(&payload).unwrap();
        assert_eq!((plain.uid, plain.pid), (Some(1000), Some(4711)));
        assert!(plain.context.is_empty());
        payload.extend(b"unconfined\0\0");
        let labelled = SignalInfo::decode(&payload).unwrap();
        assert_eq!(*labelled.context, *b"unconfined");
        assert_eq!(SignalInfo::decode(&payload[..7]), None);
    }

    #[test]
    fn before_the_first_signal_there_is_nobody() {
        let nobody = SignalInfo::decode(&[0xff; 8]).unwrap();
        assert_eq!((nobody.uid, nobody.pid), (None, None));
    }
}
