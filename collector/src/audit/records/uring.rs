//! The record of an io_uring operation.

use super::yes_or_no;
use crate::audit::record::{Record, RecordType};

/// A URINGOP record, but for what it says of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringFields {
    /// `IORING_OP_*` of include/uapi/linux/io_uring.h.
    pub operation: u32,
    /// Whether issuing it succeeded; none where the task ended in it.
    pub success: Option<bool>,
    /// What issuing it returned, which is not what its completion says; none where the task ended in it.
    pub exit: Option<i64>,
    /// How many objects were named by then: by the call and all its operations so far, or by this one alone.
    pub items: u32,
}

impl UringFields {
    /// Reads a URINGOP record.
    pub fn from_record(record: Record<'_>) -> Option<Self> {
        if record.record_type != RecordType::URINGOP {
            return None;
        }
        let number = |name: &[u8]| record.field(name)?.as_u64()?.try_into().ok();
        Some(Self {
            operation: number(b"uring_op")?,
            success: record.field(b"success").and_then(yes_or_no),
            exit: record.field(b"exit").and_then(|value| value.as_i64()),
            items: number(b"items")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;

    #[test]
    fn an_operation_says_what_it_was_and_what_issuing_it_returned() {
        let read = |body: &str| {
            let text = format!("audit(1700000000.000:7): {body}");
            UringFields::from_record(netlink_record(1336, text.as_bytes()).unwrap())
        };
        let fields = read(
            "uring_op=18 success=no exit=-11 items=1 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 key=(null)",
        );
        let expected = UringFields {
            operation: 18,
            success: Some(false),
            exit: Some(-11),
            items: 1,
        };
        assert_eq!(fields, Some(expected));
        let ended = read("uring_op=16 items=0 ppid=1 pid=2").unwrap();
        assert_eq!((ended.success, ended.exit), (None, None));
        assert_eq!(read("items=0 ppid=1 pid=2"), None);
    }
}
