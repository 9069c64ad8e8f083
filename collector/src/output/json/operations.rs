//! What io_uring did: `operations`.

use crate::audit::arch::Arch;
use crate::audit::event::Records;
use crate::audit::language::calls::call_name;
use crate::audit::records::UringFields;
use crate::audit::rules::FilterList;
use crate::output::abi::errno_name;
use crate::output::json::writer::Object;
use crate::probe::observation::Observation;

/// Who told of the operations of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Their records, or nobody as there were none.
    Audit,
    /// eBPF: not all of them had a record that came.
    Ebpf,
}

/// Adds the operations, if there are any.
pub(super) fn write(
    records: &Records,
    seen: Option<&Observation>,
    line: &mut Object<'_>,
) -> Source {
    let told: Vec<_> = records
        .iter()
        .filter_map(UringFields::from_record)
        .map(|fields| (fields.operation, fields.success, fields.exit))
        .collect();
    let seen: Vec<_> = seen
        .into_iter()
        .flat_map(|seen| &seen.operations)
        .map(|operation| {
            let result = operation.result;
            // kernel/auditsc.c: `audit_uring_exit(!ret, ret)`.
            let success = result.map(|result| result == 0);
            (operation.number, success, result)
        })
        .collect();
    let (operations, source) = if seen.len() > told.len() {
        (seen, Source::Ebpf)
    } else {
        (told, Source::Audit)
    };
    if operations.is_empty() {
        return source;
    }
    line.array("operations", |array| {
        for (number, success, exit) in operations {
            array.object(|object| {
                let name = call_name(FilterList::URING_EXIT, Arch::NATIVE, number);
                object.optional("name", name);
                object.number("number", number);
                match success {
                    Some(success) => object.boolean("success", success),
                    None => object.null("success"),
                }
                match exit {
                    Some(exit) => object.number("exit", exit),
                    None => object.null("exit"),
                }
                let errno = exit.filter(|_| success == Some(false)).and_then(errno_name);
                object.optional("errno", errno);
            });
        }
    });
    source
}
