//! What a call's pointers point to: paths, socket addresses, the argument vector.
//!
//! Read at the entry, because the caller may overwrite it during the call; read again at the exit where it was not in
//! memory at the entry (these programs cannot wait for a page, the kernel's own reading brings it in) or did not fit.

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use collector_ebpf::{
    GROUPS, InFlight, Plan, SLOT_BYTES, Slot, StringHeader, StringKind, TITLE_BYTES, string_flags,
};

use crate::draft::{
    HEADER, Label, at_most, begin, cursor, end, grow, no_room, open, place, seal, unreadable,
    within,
};
use crate::kernel::{current, load, pointer, read, read_user};
use crate::maps::{Scratch, offset};
use crate::walk;

/// The longest path a call takes, with its NUL (PATH_MAX).
const PATH_BYTES: u64 = 4096;
/// `sizeof(struct sockaddr_storage)`: the kernel refuses longer addresses.
const SOCKADDR_BYTES: u64 = 128;
/// What is read of an argument vector.
const ARGV_BYTES: u64 = 8192;
/// How much of it at a time, so that one missing page does not cost all of it.
const ARGV_CHUNK: u64 = 1024;
/// The longest name of a terminal with its NUL (`tty_struct.name`).
const TTY_BYTES: u64 = 64;
/// `SYS_BIND`, `SYS_CONNECT`, `SYS_SENDTO`, `SYS_SENDMSG` of include/uapi/linux/net.h, as socketcall(2) takes them.
const SOCKETCALL_BIND: u64 = 2;
const SOCKETCALL_CONNECT: u64 = 3;
const SOCKETCALL_SENDTO: u64 = 11;
const SOCKETCALL_SENDMSG: u64 = 16;

/// Fills the slots at the entry.
#[inline(always)]
pub(crate) fn capture(scratch: *mut Scratch) {
    // SAFETY: `scratch` is a valid map element that only this program uses.
    let in_flight = unsafe { &mut (*scratch).in_flight };
    let plan = in_flight.plan;
    in_flight.slots[0].flags = 0;
    in_flight.slots[1].flags = 0;
    if plan.paths[0] != 0 {
        let path = argument(in_flight, plan.paths[0]);
        capture_path(&mut in_flight.slots[0], path);
        if plan.paths[1] != 0 {
            let path = argument(in_flight, plan.paths[1]);
            capture_path(&mut in_flight.slots[1], path);
        } else if plan.flags & Plan::CHANGES_CWD != 0 {
            capture_cwd(scratch);
        }
    } else if plan.sockaddr != 0 {
        let (address, length) = socket_address(in_flight);
        if address != 0
            && length > 0
            && let Some(length) = at_most(SOCKADDR_BYTES, length)
        {
            let slot = &mut in_flight.slots[0];
            // SAFETY: the slot is longer than a socket address; the helper checks the caller's address itself.
            let failed = unsafe {
                bpf_probe_read_user(
                    slot.bytes.as_mut_ptr().cast(),
                    length as u32,
                    address as *const _,
                )
            };
            if failed == 0 {
                slot.length = length as u32;
                slot.flags = Slot::FILLED;
            }
        }
    } else if plan.flags & Plan::CHANGES_CWD != 0 {
        capture_cwd(scratch);
    }
}

/// The argument `plus_one - 1`.
#[inline(always)]
fn argument(in_flight: &InFlight, plus_one: u8) -> u64 {
    in_flight.args[usize::from(plus_one.wrapping_sub(1) & 7)]
}

#[inline(always)]
fn capture_path(slot: &mut Slot, path: u64) {
    if path == 0 {
        return;
    }
    // SAFETY: as long as the slot; the helper checks the caller's address itself.
    let length = unsafe {
        bpf_probe_read_user_str(
            slot.bytes.as_mut_ptr().cast(),
            SLOT_BYTES as u32,
            path as *const _,
        )
    };
    // A full slot may be the beginning of something longer.
    if (0..SLOT_BYTES as i64).contains(&length) {
        slot.length = without_nul(length) as u32;
        slot.flags = Slot::FILLED;
    }
}

/// The length of a string that bpf_probe_read_user_str copied, which counts the NUL; older kernels (6.1 and 6.12) do not
/// where the string is empty (mm/maccess.c `strncpy_from_user_nofault`).
#[inline(always)]
fn without_nul(length: i64) -> u64 {
    if length == 0 { 0 } else { length as u64 - 1 }
}

#[inline(always)]
fn capture_cwd(scratch: *mut Scratch) {
    let fs: u64 = load(current(), offset!(task_fs));
    begin(scratch);
    walk::push_typed(
        scratch,
        StringKind::Cwd as u64,
        fs + u64::from(offset!(fs_pwd)),
        fs,
    );
    // SAFETY: the area begins with the header that `push` wrote; what is copied is as long as the slot.
    unsafe {
        let header = place(scratch, 0).cast::<StringHeader>().read_unaligned();
        if header.flags & string_flags::UNREADABLE != 0 {
            return;
        }
        let slot = &mut (*scratch).in_flight.slots[1];
        bpf_probe_read_kernel(
            slot.bytes.as_mut_ptr().cast(),
            SLOT_BYTES as u32,
            place(scratch, HEADER).cast(),
        );
        slot.flags = Slot::FILLED | u32::from(header.flags);
        slot.length = u32::from(header.length);
        if slot.length > SLOT_BYTES as u32 {
            slot.length = SLOT_BYTES as u32;
            slot.flags |= u32::from(string_flags::TRUNCATED);
        }
    }
}

/// Address and length of the socket address the call names, (0, 0) where it names none.
#[inline(always)]
fn socket_address(in_flight: &InFlight) -> (u64, u64) {
    let plan = in_flight.plan;
    let compat = in_flight.arch & 0x8000_0000 == 0;
    if plan.flags & Plan::SOCKETCALL != 0 {
        let hidden: [u32; 6] = read_user(in_flight.args[1]);
        return match in_flight.args[0] {
            SOCKETCALL_BIND | SOCKETCALL_CONNECT => (u64::from(hidden[1]), u64::from(hidden[2])),
            SOCKETCALL_SENDTO => (u64::from(hidden[4]), u64::from(hidden[5])),
            SOCKETCALL_SENDMSG => message_address(u64::from(hidden[1]), compat),
            _ => (0, 0),
        };
    }
    let first = argument(in_flight, plan.sockaddr);
    if plan.flags & Plan::MESSAGE != 0 {
        message_address(first, compat)
    } else {
        (
            first,
            argument(in_flight, plan.sockaddr_length) & 0xffff_ffff,
        )
    }
}

/// `msg_name` and `msg_namelen` of a `struct msghdr`.
#[inline(always)]
fn message_address(message: u64, compat: bool) -> (u64, u64) {
    if compat {
        let [name, length]: [u32; 2] = read_user(message);
        (u64::from(name), u64::from(length))
    } else {
        let [name, length]: [u64; 2] = read_user(message);
        (name, length & 0xffff_ffff)
    }
}

/// Appends the path arguments.
#[inline(always)]
pub(crate) fn push_paths(scratch: *mut Scratch, in_flight: *const InFlight) {
    // SAFETY: a valid map element.
    let plan = unsafe { (*in_flight).plan };
    if plan.paths[0] != 0 {
        push_path(scratch, u64::from(plan.paths[0]), in_flight, 0);
    }
    if plan.paths[1] != 0 {
        push_path(scratch, u64::from(plan.paths[1]), in_flight, 1);
    }
}

/// Appends the path argument `plus_one - 1`, kept in slot number `slot`.
#[inline(never)]
fn push_path(scratch: *mut Scratch, plus_one: u64, in_flight: *const InFlight, slot: u64) {
    let label = Label {
        kind: StringKind::Path as u8,
        argument: (plus_one as u8).wrapping_sub(1) & 7,
    };
    // SAFETY: a valid map element; there are two slots.
    let (slot, path) = unsafe {
        (
            (&raw const (*in_flight).slots)
                .cast::<Slot>()
                .add((slot & 1) as usize),
            (*in_flight).args[usize::from(label.argument)],
        )
    };
    let Some(at) = within(cursor(scratch), PATH_BYTES) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for the longest path, which is longer than a slot.
    unsafe {
        let target = place(scratch, at + HEADER);
        if (*slot).flags & Slot::FILLED != 0 {
            let length = u64::from((*slot).length) & (SLOT_BYTES as u64 - 1);
            bpf_probe_read_kernel(
                target.cast(),
                length as u32,
                (&raw const (*slot).bytes).cast(),
            );
            grow(scratch, length);
            seal(scratch, label, 0);
            return;
        }
        // A null pointer where a path may be left out; the kernel reads none then.
        if path == 0 {
            return;
        }
        let length = bpf_probe_read_user_str(target.cast(), PATH_BYTES as u32, path as *const _);
        if length < 0 {
            unreadable(scratch, label);
            return;
        }
        // The helper ends what it cut off with a NUL too; the kernel refuses such a path with ENAMETOOLONG.
        let flags = if length == PATH_BYTES as i64 {
            string_flags::LATE | string_flags::TRUNCATED
        } else {
            string_flags::LATE
        };
        grow(scratch, without_nul(length));
        seal(scratch, label, flags);
    }
}

/// Appends the socket address.
#[inline(always)]
pub(crate) fn push_sockaddr(scratch: *mut Scratch, in_flight: *const InFlight) {
    // SAFETY: a valid map element.
    let in_flight = unsafe { &*in_flight };
    if in_flight.plan.sockaddr == 0 {
        return;
    }
    let slot = &in_flight.slots[0];
    let kept = slot.flags & Slot::FILLED != 0;
    let (address, length) = if kept {
        (0, u64::from(slot.length))
    } else {
        socket_address(in_flight)
    };
    // The kernel takes no longer address; of length zero it makes no record (net/socket.c move_addr_to_kernel).
    if length == 0 || (address == 0 && !kept) {
        return;
    }
    let Some(length) = at_most(SOCKADDR_BYTES, length) else {
        return;
    };
    let label = Label {
        kind: StringKind::Sockaddr as u8,
        argument: in_flight.plan.sockaddr - 1,
    };
    let Some(at) = within(cursor(scratch), SOCKADDR_BYTES) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for the longest address.
    let failed = unsafe {
        let target = place(scratch, at + HEADER);
        if kept {
            bpf_probe_read_kernel(target.cast(), length as u32, slot.bytes.as_ptr().cast())
        } else {
            bpf_probe_read_user(target.cast(), length as u32, address as *const _)
        }
    };
    if failed != 0 {
        unreadable(scratch, label);
        return;
    }
    grow(scratch, length);
    seal(scratch, label, if kept { 0 } else { string_flags::LATE });
}

/// Appends the argument vector from the memory of a program that has just been started, where the kernel's EXECVE
/// record takes it from too (kernel/auditsc.c `audit_log_execve_info`).
#[inline(never)]
pub(crate) fn push_argv(scratch: *mut Scratch, mm: u64) {
    let label = Label {
        kind: StringKind::Argv as u8,
        argument: 0,
    };
    let first: u64 = load(mm, offset!(mm_arg_start));
    let whole = load::<u64>(mm, offset!(mm_arg_end)).wrapping_sub(first);
    if mm == 0 || first == 0 || whole == 0 || whole > 1 << 40 {
        unreadable(scratch, label);
        return;
    }
    open(scratch);
    for _ in 0..ARGV_BYTES / ARGV_CHUNK {
        let end = end(scratch);
        let done = end - cursor(scratch) - HEADER;
        let left = whole - done;
        let chunk = if left < ARGV_CHUNK { left } else { ARGV_CHUNK };
        let Some(chunk) = at_most(ARGV_CHUNK, chunk) else {
            break;
        };
        if chunk == 0 {
            break;
        }
        let Some(at) = within(end, ARGV_CHUNK) else {
            break;
        };
        // SAFETY: `within` left room for a chunk; the helper checks the address itself.
        let failed = unsafe {
            bpf_probe_read_user(
                place(scratch, at).cast(),
                chunk as u32,
                (first + done) as *const _,
            )
        };
        if failed != 0 {
            break;
        }
        grow(scratch, chunk);
    }
    let done = end(scratch) - cursor(scratch) - HEADER;
    if done == 0 {
        unreadable(scratch, label);
    } else if done < whole {
        seal(scratch, label, string_flags::TRUNCATED);
    } else {
        seal(scratch, label, 0);
    }
}

/// Appends the name of the controlling terminal, if there is one (kernel/audit.c `audit_get_tty`).
#[inline(always)]
pub(crate) fn push_tty(scratch: *mut Scratch) {
    let signal: u64 = load(current(), offset!(task_signal));
    let tty: u64 = load(signal, offset!(signal_tty));
    if tty == 0 {
        return;
    }
    let label = Label {
        kind: StringKind::Tty as u8,
        argument: 0,
    };
    let Some(at) = within(cursor(scratch), TTY_BYTES) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    let name = tty + u64::from(offset!(tty_name));
    // SAFETY: `within` left room for a whole name; the helper checks the address itself.
    let length = unsafe {
        bpf_probe_read_kernel_str(
            place(scratch, at + HEADER).cast(),
            TTY_BYTES as u32,
            name as *const _,
        )
    };
    if length <= 0 {
        unreadable(scratch, label);
        return;
    }
    grow(scratch, length as u64 - 1);
    seal(scratch, label, 0);
}

/// Appends the working directory as it was at the entry.
#[inline(always)]
pub(crate) fn push_old_cwd(scratch: *mut Scratch, in_flight: *const InFlight) {
    let label = Label {
        kind: StringKind::Cwd as u8,
        argument: 0,
    };
    // SAFETY: a valid map element.
    let slot = unsafe { &(*in_flight).slots[1] };
    if slot.flags & Slot::FILLED == 0 {
        unreadable(scratch, label);
        return;
    }
    let Some(at) = within(cursor(scratch), SLOT_BYTES as u64) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for a slot.
    unsafe {
        bpf_probe_read_kernel(
            place(scratch, at + HEADER).cast(),
            SLOT_BYTES as u32,
            slot.bytes.as_ptr().cast(),
        );
    }
    grow(scratch, u64::from(slot.length));
    seal(scratch, label, slot.flags as u8);
}

/// Appends the supplementary groups (kernel/groups.c `groups_search`).
#[inline(never)]
pub(crate) fn push_groups(scratch: *mut Scratch, task: u64) {
    let label = Label {
        kind: StringKind::Groups as u8,
        argument: 0,
    };
    let cred = pointer(task, offset!(task_cred));
    let groups = pointer(cred, offset!(cred_group_info));
    let whole: u32 = read(groups, offset!(group_info_ngroups));
    let length = u64::from(whole) * 4;
    let (length, flags) = match at_most(GROUPS as u64 * 4, length) {
        Some(length) => (length, 0),
        None => (GROUPS as u64 * 4, string_flags::TRUNCATED),
    };
    let Some(at) = within(cursor(scratch), GROUPS as u64 * 4) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    let first = groups + u64::from(offset!(group_info_gid));
    // SAFETY: `within` left room for so many groups; the helper checks the address itself.
    let failed = unsafe {
        bpf_probe_read_kernel(
            place(scratch, at + HEADER).cast(),
            length as u32,
            first as *const _,
        )
    };
    if groups == 0 || failed != 0 {
        unreadable(scratch, label);
        return;
    }
    grow(scratch, length);
    seal(scratch, label, flags);
}

/// Appends the beginning of the argument vector as it is in memory now, which is what the kernel prints as the
/// process's title (kernel/auditsc.c `audit_log_proctitle`).
#[inline(never)]
pub(crate) fn push_title(scratch: *mut Scratch, mm: u64) {
    let label = Label {
        kind: StringKind::Title as u8,
        argument: 0,
    };
    let first: u64 = load(mm, offset!(mm_arg_start));
    let whole = load::<u64>(mm, offset!(mm_arg_end)).wrapping_sub(first);
    if mm == 0 || first == 0 || whole == 0 || whole > 1 << 40 {
        unreadable(scratch, label);
        return;
    }
    let length = at_most(TITLE_BYTES as u64, whole).unwrap_or(TITLE_BYTES as u64);
    let Some(at) = within(cursor(scratch), TITLE_BYTES as u64) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for a whole title; the helper checks the address itself.
    let failed = unsafe {
        bpf_probe_read_user(
            place(scratch, at + HEADER).cast(),
            length as u32,
            first as *const _,
        )
    };
    if failed != 0 {
        unreadable(scratch, label);
        return;
    }
    grow(scratch, length);
    seal(scratch, label, 0);
}
