//! What an event lacks, in the words of the stream's `missing`.

use smallvec::SmallVec;

use super::Parts;
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::RecordType;
use crate::event::Event;
use crate::event::lacking::{Announced, lacking, lacks_foreign_record};
use crate::probe::names;
use crate::probe::observation::{Captured, Observation, PathArgument};

/// What an event lacks.
pub(super) type Missing = SmallVec<[&'static str; 8]>;

impl Parts<'_> {
    /// What the kernel would have said and neither witness does, and the records an event lacks. Whether a CWD or
    /// PROCTITLE record is missing cannot be told: rules often exclude them.
    pub(super) fn missing(&self, event: &Event) -> Missing {
        let mut missing = Missing::new();
        match &event.audit {
            Some(audit) => self.missing_records(audit, &event.excluded, &mut missing),
            None => {
                missing.push("records");
                if event.rule_keys.is_none() && event.observation.is_some() {
                    missing.push("keys");
                }
                self.not_recovered(&mut missing);
            }
        }
        let lacks_foreign = |seen: &Observation| match &event.audit {
            Some(audit) => lacks_foreign_record(audit, seen),
            None => seen.has_foreign_record(),
        };
        if self.observation.is_some_and(lacks_foreign) {
            missing.push("record:other");
        }
        missing
    }

    fn missing_records(&self, audit: &AuditEvent, excluded: &[RecordType], missing: &mut Missing) {
        if audit.completion == Completion::Late {
            missing.push("records");
            return;
        }
        let announced = self.call.as_ref().map(|call| Announced {
            arch: call.arch,
            syscall: call.syscall,
            items: call.items as usize,
            success: call.success == Some(true),
        });
        let lacks = lacking(audit, self.observation, announced.as_ref(), |of| {
            excluded.contains(&of)
        });
        missing.extend(lacks.into_iter().map(|of| match of {
            RecordType::EOE => "record:EOE",
            RecordType::SYSCALL => "record:SYSCALL",
            RecordType::URINGOP => "record:URINGOP",
            RecordType::PATH => "record:PATH",
            RecordType::SOCKADDR => "record:SOCKADDR",
            RecordType::EXECVE => "record:EXECVE",
            _ => "records",
        }));
        if self.execve.is_some_and(|execve| !execve.complete) {
            missing.push("process.argv");
        }
    }

    fn not_recovered(&self, missing: &mut Missing) {
        let Some(seen) = self.observation else {
            return;
        };
        if seen.title.value().is_none() {
            missing.push("process.title");
        }
        let opened = usize::from(seen.opened.is_some());
        if seen.paths.len() > opened {
            missing.push("paths.inode");
        }
        if opened == 1 && !names::of(seen).directories_known {
            missing.push("paths.parent");
        }
        for (value, unreadable, truncated) in [
            (&seen.tty, "process.tty", "process.tty:truncated"),
            (&seen.exe, "process.exe", "process.exe:truncated"),
            (&seen.cwd, "process.cwd", "process.cwd:truncated"),
            (&seen.argv, "process.argv", "process.argv:truncated"),
            (&seen.sockaddr, "socket", "socket:truncated"),
        ] {
            missing.extend(gap(value, unreadable, truncated));
        }
        // Only what the caller's pointers point to can be late.
        if let Captured::Late(_) = seen.sockaddr {
            missing.push("socket:late");
        }
        let paths = seen.paths.iter();
        let mut gaps: Vec<_> = paths
            .filter_map(|path| gap(&path.path, "paths.name", "paths.name:truncated"))
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        missing.extend(gaps);
        let is_late = |path: &PathArgument| matches!(path.path, Captured::Late(_));
        if seen.paths.iter().any(is_late) {
            missing.push("paths.name:late");
        }
    }
}

fn gap<T>(
    value: &Captured<T>,
    unreadable: &'static str,
    truncated: &'static str,
) -> Option<&'static str> {
    match value {
        Captured::Absent | Captured::Whole(_) | Captured::Late(_) => None,
        Captured::Unreadable => Some(unreadable),
        Captured::Truncated(_) => Some(truncated),
    }
}
