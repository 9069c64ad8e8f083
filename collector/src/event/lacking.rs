//! Which of the kernel's records a call's event lacks.

use smallvec::SmallVec;

use crate::audit::arch::Arch;
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::{Record, RecordType};
use crate::audit::records::items_of_call;
use crate::audit::types::Standing;
use crate::probe::observation::{Extent, Observation};

/// What an event's SYSCALL record says of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The architecture, as AUDIT_ARCH_*.
    pub arch: u32,
    /// The call's number there.
    pub syscall: u32,
    /// How many names the kernel had noted.
    pub items: usize,
    /// Whether the call succeeded.
    pub success: bool,
}

impl Announced {
    /// What `record`, the SYSCALL record of an observed call, says.
    pub fn of(record: Record<'_>, seen: &Observation) -> Self {
        let items = items_of_call(record);
        Self {
            arch: seen.arch,
            syscall: seen.syscall,
            items: items.unwrap_or_default() as usize,
            success: seen.result.is_some_and(|result| result >= 0),
        }
    }
}

/// Types of records, each once.
pub type Lacks = SmallVec<[RecordType; 6]>;

/// The types of records of which there are fewer than the SYSCALL record (`announced`, none where that is lacking itself) or the
/// observation tell of, and which no rule keeps out. Empty for an event of no call, and for records that came after their
/// event. Whether CWD or PROCTITLE is lacking cannot be told: rules often exclude them in a way that is not known here.
pub fn lacking(
    audit: &AuditEvent,
    seen: Option<&Observation>,
    announced: Option<&Announced>,
    is_excluded: impl Fn(RecordType) -> bool,
) -> Lacks {
    let count = |wanted| {
        let is_one = |record: &Record<'_>| record.record_type == wanted;
        audit.records.iter().filter(is_one).count()
    };
    let inside = |record: Record<'_>| record.record_type.standing() == Standing::Inside;
    let of_a_call = seen.is_some() || audit.records.iter().any(inside);
    if !of_a_call || audit.completion == Completion::Late {
        return Lacks::new();
    }
    let ended = match audit.completion {
        Completion::Eoe | Completion::Standalone => true,
        // Operations inside a call have no end of their own.
        _ => seen.is_some_and(|seen| seen.extent == Extent::InCall),
    };
    let is_call = seen.map_or_else(|| count(RecordType::URINGOP) == 0, Observation::is_call);
    let operations = seen.map_or(0, |seen| seen.operations.len());
    let named = announced.map_or(0, |call| call.items.saturating_sub(hidden_names(call)));
    let addresses = usize::from(announced.is_some() && seen.is_some_and(has_address));
    let lacks = [
        (RecordType::EOE, !ended),
        (
            RecordType::SYSCALL,
            is_call && count(RecordType::SYSCALL) == 0,
        ),
        (RecordType::URINGOP, count(RecordType::URINGOP) < operations),
        (RecordType::PATH, count(RecordType::PATH) < named),
        (
            RecordType::SOCKADDR,
            count(RecordType::SOCKADDR) < addresses,
        ),
        (
            RecordType::EXECVE,
            announced.is_some_and(is_exec) && count(RecordType::EXECVE) == 0,
        ),
    ];
    // A rule that excludes SYSCALL leaves nothing of an event (kernel/auditsc.c `audit_log_exit`).
    let stays = |of: RecordType| of == RecordType::SYSCALL || !is_excluded(of);
    let lacks = lacks.into_iter().filter(|(of, lacks)| *lacks && stays(*of));
    lacks.map(|(of, _)| of).collect()
}

/// Whether another part of the kernel wrote a record of the event that is not here: LOGIN, CONFIG_CHANGE, BPF and the like. A part that
/// came late does not tell, as it may have come before.
pub fn lacks_foreign_record(audit: &AuditEvent, seen: &Observation) -> bool {
    // Up to Linux 5.17 the kernel wrote those of the clock while the call went on (kernel/audit.c `audit_ntp_log`).
    let of_the_clock = [RecordType::TIME_INJOFFSET, RecordType::TIME_ADJNTPVAL];
    let is_foreign = |record: Record<'_>| {
        let of = record.record_type;
        of.standing() == Standing::Either || of_the_clock.contains(&of)
    };
    let late = audit.completion == Completion::Late;
    seen.has_foreign_record() && !late && !audit.records.iter().any(is_foreign)
}

/// Names that are counted and have no record: the directory of message queues (ipc/mqueue.c, `AUDIT_INODE_HIDDEN`).
fn hidden_names(call: &Announced) -> usize {
    let name = Arch(call.arch).syscall_name(call.syscall);
    usize::from(matches!(name, Some("mq_open" | "mq_unlink")))
}

fn is_exec(call: &Announced) -> bool {
    let name = || Arch(call.arch).syscall_name(call.syscall);
    call.success && matches!(name(), Some("execve" | "execveat"))
}

/// Whether the kernel surely noted a socket address.
fn has_address(seen: &Observation) -> bool {
    seen.sockaddr.whole().is_some() && seen.reached_its_address()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;
    use crate::audit::record::{Serial, Stamp};
    use crate::clock::{KtimeNs, TimeMs};
    use crate::output::testing;
    use crate::probe::observation::{Captured, Report};

    fn event(records: &[(u16, &'static str)], completion: Completion) -> AuditEvent {
        let record = |(of, body): &(u16, &'static str)| Record {
            body: body.as_bytes(),
            ..netlink_record(*of, b"audit(1700000000.000:5): ").unwrap()
        };
        AuditEvent {
            stamp: Stamp {
                time: TimeMs(1_700_000_000_000),
                serial: Serial(5),
            },
            records: records.iter().map(record).collect(),
            completion,
            first_read: KtimeNs(0),
            completed: KtimeNs(0),
            mirrored: None,
        }
    }

    fn of_call(name: &str, items: usize) -> Announced {
        Announced {
            arch: Arch::X86_64.0,
            syscall: Arch::X86_64.syscall_number(name).unwrap(),
            items,
            success: true,
        }
    }

    fn connecting(result: i64) -> Observation {
        Observation {
            result: Some(result),
            sockaddr: Captured::Whole(b"\x01\0/run/x".as_slice().into()),
            ..testing::observation()
        }
    }

    #[test]
    fn an_address_that_the_kernel_took_and_that_is_in_no_record_is_lacking() {
        let call = of_call("connect", 0);
        let bare = event(&[(1300, "items=0")], Completion::Eoe);
        let lacks = |audit: &AuditEvent, seen: &Observation| {
            lacking(audit, Some(seen), Some(&call), |_| false).to_vec()
        };
        assert_eq!(lacks(&bare, &connecting(0)), [RecordType::SOCKADDR]);
        let refused = connecting(-111);
        assert_eq!(lacks(&bare, &refused), [RecordType::SOCKADDR]);
        let no_socket = connecting(-88);
        assert_eq!(lacks(&bare, &no_socket), [], "it may not have been read");
        let whole = event(
            &[(1300, "items=0"), (1306, "saddr=01002F72756E2F78")],
            Completion::Eoe,
        );
        assert_eq!(lacks(&whole, &connecting(0)), []);
        let excluded = |of| of == RecordType::SOCKADDR;
        assert_eq!(
            lacking(&bare, Some(&connecting(0)), Some(&call), excluded).to_vec(),
            []
        );
        assert!(lacking(&bare, None, Some(&call), |_| false).is_empty());
    }

    #[test]
    fn the_directory_of_message_queues_has_no_record() {
        let path = (1302, "item=0 name=\"queue\"");
        let opened = event(&[(1300, ""), path], Completion::Eoe);
        let lacks = |call| lacking(&opened, None, Some(&call), |_| false).to_vec();
        assert_eq!(lacks(of_call("mq_open", 2)), []);
        assert_eq!(lacks(of_call("mq_open", 3)), [RecordType::PATH]);
        assert_eq!(lacks(of_call("openat", 2)), [RecordType::PATH]);
        assert_eq!(lacks(of_call("execve", 1)), [RecordType::EXECVE]);
    }

    #[test]
    fn without_an_end_or_a_beginning_nothing_is_guessed_of_the_rest() {
        let rest = event(&[(1307, "cwd=\"/\"")], Completion::Timeout);
        let lacks = lacking(&rest, Some(&connecting(0)), None, |_| false);
        assert_eq!(lacks.to_vec(), [RecordType::EOE, RecordType::SYSCALL]);
        let message = event(&[(1112, "pid=1")], Completion::Standalone);
        assert!(lacking(&message, None, None, |_| false).is_empty());
        let late = event(&[(1307, "cwd=\"/\"")], Completion::Late);
        assert!(lacking(&late, Some(&connecting(0)), None, |_| false).is_empty());
    }

    #[test]
    fn a_record_that_another_part_of_the_kernel_wrote_is_lacking_where_none_is_there() {
        let mut seen = testing::observation();
        seen.report = Some(Report {
            time: TimeMs(1_700_000_000_000),
            serial: Some(Serial(5)),
            lost_records: 0,
            first_lost: None,
            preceded: true,
        });
        let own = [(1300, "items=0"), (1307, "cwd=\"/\"")];
        let lacks = |of: u16, completion| {
            let records = [&own[..], &[(of, "op=x")]].concat();
            lacks_foreign_record(&event(&records, completion), &seen)
        };
        assert!(lacks(1327, Completion::Eoe), "PROCTITLE is the call's own");
        assert!(!lacks(1327, Completion::Late), "it may have come before");
        for foreign in [1006, 1305, 1334, 1332, 1333] {
            assert!(!lacks(foreign, Completion::Eoe), "{foreign}");
        }
        seen.report = None;
        let bare = event(&own, Completion::Eoe);
        assert!(!lacks_foreign_record(&bare, &seen));
    }
}
