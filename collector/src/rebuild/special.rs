//! The records that only some calls have (kernel/auditsc.c `show_special` and what stands around it).

use super::record::{RebuiltRecord, Source};
use super::{Rebuilt, entry_seen, execve};
use crate::audit::arch::Arch;
use crate::audit::record::RecordType;
use crate::probe::notes::{Notes, Target};
use crate::probe::observation::{Captured, Observation};

/// `MAP_ANONYMOUS`, the same on every machine this runs on.
const MAP_ANONYMOUS: u64 = 0x20;

/// Adds those of `seen`.
pub(super) fn push(seen: &Observation, rebuilt: &mut Rebuilt) {
    if let Some(notes) = &seen.notes {
        noted(seen, notes, rebuilt);
        return;
    }
    let name = Arch(seen.arch).syscall_name(seen.syscall).unwrap_or("?");
    let succeeded = seen.result.is_none_or(|result| result >= 0);
    match name {
        "execve" | "execveat" => {
            // A program whose file gives capabilities, or of another user, has one more record.
            rebuilt.unknown.push(RecordType::BPRM_FCAPS);
            if seen.result == Some(0) {
                let (records, whole) = execve::records(&seen.argv);
                rebuilt.records.extend(records);
                if !whole {
                    rebuilt.unknown.push(RecordType::EXECVE);
                }
            } else {
                // The kernel notes the arguments as soon as it has found out how to start the program.
                rebuilt.unknown.push(RecordType::EXECVE);
            }
        }
        "mmap" | "mmap2" => mmap(seen, name, rebuilt),
        _ => rebuilt.unknown.extend(unknown(name, succeeded)),
    }
    if seen.sockaddr == Captured::Absent || seen.reached_its_address() {
        sockaddr(seen, rebuilt);
    } else {
        rebuilt.unknown.push(RecordType::SOCKADDR);
    }
}

/// Those that the kernel noted.
fn noted(seen: &Observation, notes: &Notes, rebuilt: &mut Rebuilt) {
    if notes.gained {
        rebuilt.unknown.push(RecordType::BPRM_FCAPS);
    }
    let [first, second, third, _] = notes.special;
    let mut record = RebuiltRecord::new(notes.kind.unwrap_or(RecordType::EOE));
    match notes.kind {
        None => {}
        Some(RecordType::EXECVE) if seen.result == Some(0) => {
            let (records, whole) = execve::records(&seen.argv);
            rebuilt.records.extend(records);
            if !whole {
                rebuilt.unknown.push(RecordType::EXECVE);
            }
        }
        Some(RecordType::MMAP) => {
            record.plain("fd", Source::Context, first as i32);
            let flags = format_args!("0x{:x}", first >> 32);
            record.plain("flags", Source::Context, flags);
            rebuilt.records.push(record);
        }
        Some(RecordType::OPENAT2) => {
            record.plain("oflag", Source::Context, format_args!("0{first:o}"));
            record.plain("mode", Source::Context, format_args!("0{second:o}"));
            record.plain("resolve", Source::Context, format_args!("0x{third:x}"));
            rebuilt.records.push(record);
        }
        Some(kind) => rebuilt.unknown.push(kind),
    }
    if let Some([one, other]) = notes.descriptors {
        let mut record = RebuiltRecord::new(RecordType::FD_PAIR);
        record.plain("fd0", Source::Context, one);
        record.plain("fd1", Source::Context, other);
        rebuilt.records.push(record);
    }
    sockaddr(seen, rebuilt);
    if notes.more_targets {
        rebuilt.unknown.push(RecordType::OBJ_PID);
    } else if let Some(target) = &notes.target {
        rebuilt.records.push(target_record(seen, target));
    }
}

/// kernel/auditsc.c `audit_log_pid_context`
fn target_record(seen: &Observation, target: &Target) -> RebuiltRecord {
    let mut record = RebuiltRecord::new(RecordType::OBJ_PID);
    for (name, value) in [
        ("opid", target.pid),
        ("oauid", target.auid),
        ("ouid", target.uid),
        ("oses", target.session),
    ] {
        record.plain(name, Source::Context, value.cast_signed());
    }
    if seen.subject != Captured::Absent {
        record.unknown("obj");
    }
    record.untrusted("ocomm", Source::Context, &target.comm);
    record
}

/// Record types that calls of this name have, and of which nothing is known here (callers of the `__audit_*` functions of
/// kernel/auditsc.c, Linux 6.12).
fn unknown(name: &str, succeeded: bool) -> &'static [RecordType] {
    match name {
        "pipe" | "pipe2" | "socketpair" if succeeded => &[RecordType::FD_PAIR],
        "openat2" => &[RecordType::OPENAT2],
        "capset" if succeeded => &[RecordType::CAPSET],
        "init_module" | "finit_module" | "delete_module" => &[RecordType::KERN_MODULE],
        "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "ptrace"
        | "pidfd_send_signal" => &[RecordType::OBJ_PID],
        "socketcall" => &[RecordType::SOCKETCALL],
        "msgctl" | "semctl" | "shmctl" | "msgget" | "semget" | "shmget" | "msgsnd" | "msgrcv"
        | "semop" | "semtimedop" | "shmat" | "ipc" => &[RecordType::IPC, RecordType::IPC_SET_PERM],
        "mq_open" => &[RecordType::MQ_OPEN],
        "mq_timedsend" | "mq_timedreceive" | "mq_timedsend_time64" | "mq_timedreceive_time64" => {
            &[RecordType::MQ_SENDRECV]
        }
        "mq_notify" => &[RecordType::MQ_NOTIFY],
        "mq_getsetattr" => &[RecordType::MQ_GETSETATTR],
        "adjtimex" | "clock_adjtime" | "clock_adjtime64" | "settimeofday" | "clock_settime"
        | "clock_settime64" | "stime" => &[RecordType::TIME_ADJNTPVAL, RecordType::TIME_INJOFFSET],
        _ => &[],
    }
}

/// mm/mmap.c `ksys_mmap_pgoff` notes descriptor and flags of what is not anonymous, before it looks at them.
fn mmap(seen: &Observation, name: &str, rebuilt: &mut Rebuilt) {
    // i386's mmap has its arguments in memory.
    let in_memory = name == "mmap" && Arch(seen.arch) == Arch::I386;
    if in_memory || seen.args[3] & MAP_ANONYMOUS == 0 && !entry_seen(seen) {
        rebuilt.unknown.push(RecordType::MMAP);
        return;
    }
    let [_, _, _, flags, descriptor, _] = seen.args;
    if flags & MAP_ANONYMOUS != 0 {
        return;
    }
    let mut record = RebuiltRecord::new(RecordType::MMAP);
    record.plain("fd", Source::Registers, descriptor as i32);
    record.plain(
        "flags",
        Source::Registers,
        format_args!("0x{:x}", flags as u32),
    );
    rebuilt.records.push(record);
}

fn sockaddr(seen: &Observation, rebuilt: &mut Rebuilt) {
    let mut record = RebuiltRecord::new(RecordType::SOCKADDR);
    match &seen.sockaddr {
        Captured::Absent => return,
        Captured::Whole(address) => record.hex("saddr", Source::Memory, address),
        Captured::Late(address) => record.hex("saddr", Source::MemoryLate, address),
        Captured::Truncated(_) | Captured::Unreadable => {
            rebuilt.unknown.push(RecordType::SOCKADDR);
            return;
        }
    }
    rebuilt.records.push(record);
}
