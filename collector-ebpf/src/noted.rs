//! The files that the kernel noted for a call.
//!
//! They are in the task's audit context (`preallocated_names` in kernel/audit.h). At the end of a call the kernel empties
//! the list, but leaves what was in it where it stood, until a later call of the task writes over it. So at the exit the
//! first entries are the call's, and the others may be left of calls before; what differs from the entry is the call's.
//! More files than there is room for are elsewhere, and not told.

use collector_ebpf::{InFlight, NOTED_NAMES, NameFacts, StringKind};

use crate::draft::{HEADER, Label, cursor, grow, no_room, open, place, seal, within};
use crate::kernel::{pointer, read};
use crate::maps::{Scratch, offset};

/// Keeps what is there before the call.
#[inline(never)]
pub(crate) fn remember(scratch: *mut Scratch, task: u64) {
    let context = pointer(task, offset!(task_audit_context));
    // SAFETY: a valid map element that only the calling program uses.
    let names = unsafe { &mut (*scratch).in_flight.names };
    for index in 0..NOTED_NAMES {
        names[index] = name(context, index);
    }
}

/// Appends what is there after it.
#[inline(never)]
pub(crate) fn push(scratch: *mut Scratch, in_flight: *const InFlight, task: u64) {
    const BYTES: u64 = (NOTED_NAMES * size_of::<NameFacts>()) as u64;
    let label = Label {
        kind: StringKind::Noted as u8,
        argument: 0,
    };
    let context = pointer(task, offset!(task_audit_context));
    if context == 0 {
        return;
    }
    let Some(at) = within(cursor(scratch), BYTES) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    for index in 0..NOTED_NAMES {
        compare(scratch, in_flight, context, at, index);
    }
    grow(scratch, BYTES);
    seal(scratch, label, 0);
}

/// Writes the entry `index` at its place behind `at`, and says in it whether it is new and which one has its name. A function
/// of its own, and pointers in the map: the stack, which callers and callees share, is too small for more on Linux 6.1.
#[inline(never)]
fn compare(scratch: *mut Scratch, in_flight: *const InFlight, context: u64, at: u64, index: usize) {
    let mut name = name(context, index);
    // SAFETY: valid map elements, the one of the calling program's own; `index` is below the lengths of both arrays.
    let (before, pointers) = unsafe {
        (
            &(*in_flight).names[index],
            (&raw mut (*scratch).name_pointers).cast::<u64>(),
        )
    };
    let difference = name.inode ^ before.inode
        | u64::from(name.dev ^ before.dev)
        | u64::from(name.mode ^ before.mode)
        | u64::from(name.uid ^ before.uid)
        | u64::from(name.gid ^ before.gid)
        | u64::from(name.rdev ^ before.rdev)
        | u64::from(name.role ^ before.role);
    name.changed = is_set(difference) as u8;
    let pointer = pointer(at_entry(context, index), offset!(names_name));
    // SAFETY: as above.
    unsafe { pointers.add(index).write_volatile(pointer) };
    let mut same = index as u64 + 1;
    for earlier in (0..index).rev() {
        // SAFETY: as above.
        let other = unsafe { pointers.add(earlier).read_volatile() };
        let equal = 1 - is_set(other ^ pointer);
        same = same * (1 - equal) + (earlier as u64 + 1) * equal;
    }
    name.name = (same * is_set(pointer)) as u8;
    // SAFETY: `within` left room for all of them.
    unsafe {
        place(scratch, at + HEADER)
            .cast::<NameFacts>()
            .add(index)
            .write_unaligned(name);
    }
}

/// 1 for anything but 0, without a branch, which would be another path for the verifier.
#[inline(always)]
fn is_set(value: u64) -> u64 {
    (value | value.wrapping_neg()) >> 63
}

/// The entry `index` of a context, without what only [`push`] tells.
#[inline(always)]
fn name(context: u64, index: usize) -> NameFacts {
    let at = at_entry(context, index);
    let [low, high, dev, mode, uid, gid, rdev]: [u32; 7] = read(at, offset!(names_ino));
    NameFacts {
        inode: u64::from(high) << 32 | u64::from(low),
        dev,
        mode: mode & 0xffff,
        uid,
        gid,
        rdev,
        role: read(at, offset!(names_type)),
        name: 0,
        changed: 0,
        padding: 0,
    }
}

/// Where the entry is.
#[inline(always)]
fn at_entry(context: u64, index: usize) -> u64 {
    context + u64::from(offset!(audit_names)) + index as u64 * u64::from(offset!(names_size))
}
