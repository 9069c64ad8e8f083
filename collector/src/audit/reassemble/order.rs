//! The order of an event's records where they came by two ways.
//!
//! Each way keeps the kernel's order, but nothing tells how one lies to the other. The kernel writes the records of a call in a
//! fixed order (kernel/auditsc.c `audit_log_exit`), behind those that arose during the call.

use crate::audit::event::Records;
use crate::audit::fields::Value;
use crate::audit::record::{Provenance, Record, RecordType};
use crate::audit::types::Standing;

/// Puts the records into the kernel's order, where they came by two ways and the order of their types is known.
pub(super) fn restore(records: &mut Records) {
    let by_stream = |record: Record<'_>| record.provenance == Provenance::Stream;
    let mixed = records.iter().any(by_stream) && !records.iter().all(by_stream);
    if mixed && records.iter().all(|record| rank(&record).is_some()) {
        records.sort_by_key(rank);
    }
}

/// The place of a record by its type, and of a PATH by its item; none where the type's place is not known.
fn rank(record: &Record<'_>) -> Option<(u8, u64)> {
    let place = match record.record_type {
        RecordType::SYSCALL | RecordType::URINGOP => 1,
        RecordType::EXECVE => 3,
        RecordType::SOCKADDR => 4,
        RecordType::CWD => 6,
        RecordType::PATH => {
            let item = record.field(b"item").and_then(Value::as_u64);
            return Some((7, item.unwrap_or_default()));
        }
        RecordType::PROCTITLE => 8,
        // MAC_TASK_CONTEXTS and MAC_OBJ_CONTEXTS stand behind whichever record they are about.
        RecordType(1420 | 1421) => return None,
        other if other.standing() == Standing::Either => 0,
        _ => return None,
    };
    Some((place, 0))
}
