//! Netlink messages of the audit protocol as bytes: the header, what a datagram is, how a request is laid out.
//!
//! Owns the numbers of include/uapi/linux/netlink.h and the command numbers of include/uapi/linux/audit.h. No I/O.
//! One message fills one datagram, and its length is what was received: the length in the header of an event record
//! sent by unicast counts the payload only (kernel/audit.c `audit_log_end`), so it is never used.

use crate::clock::KtimeNs;

/// Length of `struct nlmsghdr`.
pub const HEADER_LENGTH: usize = 16;

/// `NLMSG_ERROR`: an acknowledgement or a refusal.
pub const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a list.
pub const NLMSG_DONE: u16 = 3;
/// First type that is not netlink's own (`NLMSG_MIN_TYPE`).
const NLMSG_MIN_TYPE: u16 = 16;

pub(super) const AUDIT_GET: u16 = 1000;
pub(super) const AUDIT_SET: u16 = 1001;
pub(super) const AUDIT_SIGNAL_INFO: u16 = 1010;
pub(super) const AUDIT_ADD_RULE: u16 = 1011;
pub(super) const AUDIT_DEL_RULE: u16 = 1012;
pub(super) const AUDIT_LIST_RULES: u16 = 1013;
pub(super) const AUDIT_TRIM: u16 = 1014;
pub(super) const AUDIT_MAKE_EQUIV: u16 = 1015;
pub(super) const AUDIT_TTY_GET: u16 = 1016;
pub(super) const AUDIT_TTY_SET: u16 = 1017;
pub(super) const AUDIT_SET_FEATURE: u16 = 1018;
pub(super) const AUDIT_GET_FEATURE: u16 = 1019;
/// `AUDIT_REPLACE`: the kernel asks the registered daemon whether it lives.
pub(super) const AUDIT_REPLACE: u16 = 1329;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An audit record; its payload is `audit(sec.ms:serial): …`.
    Record,
    /// The kernel tested whether this daemon lives, because process `pid` wanted its place (`AUDIT_REPLACE`).
    Replace {
        /// Who asked, as seen from the initial pid namespace; none where the message is too short to say.
        pid: Option<u32>,
    },
    /// An acknowledgement (`error` 0) or refusal (`error` a negative errno); resets of counters acknowledge with the
    /// old value as a positive number.
    Acknowledgement {
        /// `struct nlmsgerr.error`; none where the message is too short to hold it.
        error: Option<i32>,
    },
    /// The end of a list.
    Done,
    /// An answer to a request: status, rule, features and the like.
    Reply,
    /// Another message of netlink itself (`NLMSG_NOOP`, `NLMSG_OVERRUN`, unknown ones).
    Control,
}

/// One datagram as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The type in the header.
    pub message_type: u16,
    /// The sequence number in the header; 0 for records.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
    /// Header and payload.
    pub raw: &'a [u8],
    /// When it was read; datagrams read by one system call share the time of its return.
    pub arrived: KtimeNs,
    /// Its length as sent; above `raw.len()` where the read buffer was too small (MSG_TRUNC).
    pub length: usize,
}

impl<'a> Datagram<'a> {
    /// Takes a datagram apart; none where it is shorter than a header. `length` is its length as sent.
    pub fn parse(raw: &'a [u8], length: usize, arrived: KtimeNs) -> Option<Self> {
        let (header, payload) = raw.split_at_checked(HEADER_LENGTH)?;
        Some(Self {
            message_type: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload,
            raw,
            arrived,
            length,
        })
    }

    /// Whether the read buffer cut it.
    pub fn truncated(&self) -> bool {
        self.length > self.raw.len()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.message_type {
            NLMSG_ERROR => Kind::Acknowledgement {
                error: u32_at(self.payload, 0).map(|error| error as i32),
            },
            NLMSG_DONE => Kind::Done,
            0..NLMSG_MIN_TYPE => Kind::Control,
            AUDIT_REPLACE => Kind::Replace {
                pid: u32_at(self.payload, 0),
            },
            // 1005 AUDIT_USER and 1006 AUDIT_LOGIN are records; the other numbers below 1100 are commands.
            1000..=1004 | 1007..=1019 => Kind::Reply,
            _ => Kind::Record,
        }
    }
}

/// A request that asks for an acknowledgement, ready to be sent.
pub(super) fn request(message_type: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEADER_LENGTH + payload.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The kernel fills in our port from the socket.
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(payload);
    bytes
}

/// The number at `offset`; none where the bytes end before it does.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(message_type: u16, claimed_length: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = request(message_type, 7, payload);
        bytes[..4].copy_from_slice(&claimed_length.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_length_in_the_header_is_not_trusted() {
        for claimed in [0, 3, 16, 19, 1_000_000] {
            let raw = datagram(1300, claimed, b"abc");
            let parsed = Datagram::parse(&raw, raw.len(), KtimeNs(1)).unwrap();
            assert_eq!(parsed.payload, b"abc");
            assert_eq!(parsed.sequence, 7);
            assert_eq!(parsed.kind(), Kind::Record);
            assert!(!parsed.truncated());
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let refused = datagram(NLMSG_ERROR, 20, &(-17_i32).to_ne_bytes());
        let kind = |raw: &[u8]| Datagram::parse(raw, raw.len(), KtimeNs(0)).unwrap().kind();
        assert_eq!(kind(&refused), Kind::Acknowledgement { error: Some(-17) });
        assert_eq!(
            kind(&datagram(NLMSG_ERROR, 20, &[1, 2])),
            Kind::Acknowledgement { error: None }
        );
        assert_eq!(
            kind(&datagram(AUDIT_REPLACE, 20, &9_u32.to_ne_bytes())),
            Kind::Replace { pid: Some(9) }
        );
        assert_eq!(kind(&datagram(NLMSG_DONE, 16, b"")), Kind::Done);
        assert_eq!(kind(&datagram(4, 16, b"")), Kind::Control);
        assert_eq!(kind(&datagram(AUDIT_LIST_RULES, 16, b"")), Kind::Reply);
        for record in [1005, 1006, 1100, 1300, 1320, 1335, 2100, u16::MAX] {
            assert_eq!(kind(&datagram(record, 16, b"")), Kind::Record);
        }
    }

    #[test]
    fn shorter_than_a_header_is_refused() {
        assert_eq!(Datagram::parse(&[0; 15], 15, KtimeNs(0)), None);
        assert!(Datagram::parse(&[0; 16], 16, KtimeNs(0)).is_some());
    }
}
