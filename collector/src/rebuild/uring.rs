//! URINGOP records: what io_uring did, in place of a call or inside one (kernel/auditsc.c `audit_log_uring`).

use super::record::{RebuiltRecord, Source};
use super::{kernel_key, key};
use crate::audit::record::RecordType;
use crate::byte_string::ByteString;
use crate::probe::observation::{Captured, Observation, Operation};

/// The records of the operations of `seen`.
pub(super) fn records(seen: &Observation) -> impl Iterator<Item = RebuiltRecord> {
    seen.operations
        .iter()
        .map(|operation| record(operation, &seen.subject))
}

fn record(operation: &Operation, subject: &Captured<ByteString>) -> RebuiltRecord {
    let mut record = RebuiltRecord::new(RecordType::URINGOP);
    record.plain("uring_op", Source::Context, operation.number);
    if let Some(result) = operation.result {
        let success = if result == 0 { "yes" } else { "no" };
        record.plain("success", Source::Context, success);
        record.plain("exit", Source::Context, result);
    }
    record.plain("items", Source::Context, operation.items);
    let ids = &operation.credentials;
    for (name, id) in [
        ("ppid", operation.ppid),
        ("pid", operation.tgid),
        ("uid", ids.uid),
        ("gid", ids.gid),
        ("euid", ids.euid),
        ("suid", ids.suid),
        ("fsuid", ids.fsuid),
        ("egid", ids.egid),
        ("sgid", ids.sgid),
        ("fsgid", ids.fsgid),
    ] {
        record.plain(name, Source::Task, id);
    }
    super::subject(&mut record, subject);
    key(&mut record, Source::Context, kernel_key(&operation.key));
    record
}
