//! The records that the kernel would have written of a call, from what eBPF saw of it.
//!
//! Owns the form of an event (kernel/auditsc.c `audit_log_exit`): which records it has, in which order, with which fields,
//! written as the kernel writes them, and of each value where it is from. What is not known stands as `?` and is
//! listed, and never becomes a plausible default. Does no I/O and knows no format of ours. Bounded by the sample, which is
//! at most 32 KiB: text doubles where it becomes hex.

mod execve;
mod path;
mod record;
mod special;
mod uring;

pub use record::{Field, RebuiltRecord, Source};

use crate::audit::record::RecordType;
use crate::byte_string::ByteString;
use crate::output::abi::is_error;
use crate::probe::observation::{Captured, Extent, Observation};

/// An event as the kernel would have written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its records in the kernel's order, EOE included.
    pub records: Vec<RebuiltRecord>,
    /// Types of which it may have records that are not here, or more than are here.
    pub unknown: Vec<RecordType>,
    /// Whether it has a record of another part of the kernel besides, of which nothing is known.
    pub has_foreign_record: bool,
}

/// The records of `seen`. `keys` are those of the rule that asks for the event, none where it is not known which rule that is.
pub fn rebuild(seen: &Observation, keys: Option<&[ByteString]>) -> Rebuilt {
    let mut rebuilt = Rebuilt {
        records: uring::records(seen).collect(),
        unknown: Vec::new(),
        has_foreign_record: seen.has_foreign_record(),
    };
    // Of operations inside a call the rest is the call's.
    if seen.extent == Extent::InCall {
        return rebuilt;
    }
    let files = path::files(seen);
    if seen.is_call() {
        rebuilt.records.push(syscall(seen, keys, &files));
    }
    special::push(seen, &mut rebuilt);
    match files.any {
        Some(false) => {}
        Some(true) => rebuilt.records.push(cwd(seen)),
        None => rebuilt.unknown.push(RecordType::CWD),
    }
    for (item, entry) in files.entries.iter().enumerate() {
        let item = files.complete.then_some(item);
        rebuilt.records.push(entry.record(item));
    }
    if !files.complete {
        rebuilt.unknown.push(RecordType::PATH);
    }
    if seen.is_call() {
        rebuilt.records.push(title(seen));
    }
    rebuilt.records.push(RebuiltRecord::new(RecordType::EOE));
    rebuilt
}

/// `audit_log_exit` itself, `audit_log_task_info` and `audit_log_key`.
fn syscall(seen: &Observation, keys: Option<&[ByteString]>, files: &path::Files) -> RebuiltRecord {
    let mut record = RebuiltRecord::new(RecordType::SYSCALL);
    record.plain("arch", Source::Registers, format_args!("{:x}", seen.arch));
    record.plain("syscall", Source::Registers, seen.syscall);
    if seen.personality != 0 {
        let personality = format_args!("{:x}", seen.personality);
        record.plain("per", Source::Task, personality);
    }
    if let Some(result) = seen.result {
        let success = if is_error(result) { "no" } else { "yes" };
        record.plain("success", Source::Registers, success);
        record.plain("exit", Source::Registers, result);
    }
    let arguments = seen.args.iter().zip(["a0", "a1", "a2", "a3"]);
    for (argument, name) in arguments {
        record.plain(name, Source::Registers, format_args!("{argument:x}"));
    }
    match (&seen.notes, files.complete) {
        (Some(notes), _) => record.plain("items", Source::Context, notes.n_names),
        (None, true) => record.plain("items", Source::Derived, files.entries.len()),
        (None, false) => record.unknown("items"),
    }
    let ids = &seen.credentials;
    for (name, id) in [
        ("ppid", seen.ppid),
        ("pid", seen.tgid),
        ("auid", ids.auid),
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
    match &seen.tty {
        Captured::Whole(tty) => record.raw("tty", Source::Task, tty),
        Captured::Absent => record.raw("tty", Source::Task, b"(none)"),
        _ => record.unknown("tty"),
    }
    record.plain("ses", Source::Task, ids.session);
    record.untrusted("comm", Source::Task, &seen.comm);
    record.captured("exe", Source::Task, &seen.exe, "(null)");
    subject(&mut record, &seen.subject);
    if seen.report.is_some() {
        key(&mut record, Source::Context, kernel_key(&seen.key));
    } else {
        // Several keys are one string to the kernel, as auditctl joins them.
        let joined = keys.map(|keys| keys.join(&[0x01][..]));
        key(&mut record, Source::Rules, joined.as_deref());
    }
    record
}

/// `audit_log_task_context`
fn subject(record: &mut RebuiltRecord, subject: &Captured<ByteString>) {
    match subject {
        // The kernel labels no tasks.
        Captured::Absent => {}
        Captured::Whole(subject) => record.raw("subj", Source::Task, subject),
        _ => record.unknown("subj"),
    }
}

/// The kernel's own key, as [`key`] takes it.
fn kernel_key(key: &Captured<ByteString>) -> Option<&[u8]> {
    match key {
        Captured::Absent => Some(b""),
        key => key.whole().map(|key| &**key),
    }
}

/// `audit_log_key`; an empty one stands for none.
fn key(record: &mut RebuiltRecord, source: Source, key: Option<&[u8]>) {
    match key {
        Some(b"") => record.plain("key", source, "(null)"),
        Some(key) => record.untrusted("key", source, key),
        None => record.unknown("key"),
    }
}

fn cwd(seen: &Observation) -> RebuiltRecord {
    let mut record = RebuiltRecord::new(RecordType::CWD);
    match &seen.cwd {
        Captured::Absent => record.unknown("cwd"),
        cwd => record.captured("cwd", Source::Task, cwd, "?"),
    }
    record
}

fn title(seen: &Observation) -> RebuiltRecord {
    let mut record = RebuiltRecord::new(RecordType::PROCTITLE);
    match &seen.title {
        // It cannot be told.
        Captured::Absent => record.unknown("proctitle"),
        title => record.captured("proctitle", Source::Task, title, "?"),
    }
    record
}

impl Rebuilt {
    /// The records of one type.
    pub fn of_type(&self, record_type: RecordType) -> impl Iterator<Item = &RebuiltRecord> {
        self.records
            .iter()
            .filter(move |record| record.record_type == record_type)
    }

    /// Whether the event may have other records of this type than are here.
    pub fn may_have(&self, record_type: RecordType) -> bool {
        self.unknown.contains(&record_type)
    }

    /// Whether all of it is known.
    pub fn is_complete(&self) -> bool {
        let known =
            |record: &RebuiltRecord| record.fields.iter().all(|field| field.source.is_some());
        let all_here = self.unknown.is_empty() && !self.has_foreign_record;
        all_here && self.records.iter().all(known)
    }
}

/// Whether the entry of the call was seen, and with it all its arguments.
fn entry_seen(seen: &Observation) -> bool {
    seen.extent == Extent::Whole
}

#[cfg(test)]
mod tests;
