//! An event that the kernel is writing: what the audit context behind it says (kernel/audit.h `struct audit_context`).
//!
//! The context is whole only while one of the functions that write runs; what is needed later goes into the task's note.

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
};
use aya_ebpf::programs::FExitContext;
use collector_ebpf::{
    Judgement, KEY_BYTES, NO_RULE, Note, Plan, Ruling, SYSCALL_NUMBERS, StringKind, flags,
};

use crate::conclusion::take_down;
use crate::draft::{
    HEADER, Label, at_most, cursor, grow, no_room, open, place, seal, unreadable, within,
};
use crate::kernel::{pointer, read};
use crate::maps::{CONTROL, NOTES, PLANS, SCRATCH, Scratch, active, context_offset};
use crate::send::{Outcome, send};
use crate::{judging, registers};

/// `AUDIT_CTX_SYSCALL` of kernel/audit.h: the context is a call's.
pub(crate) const SYSCALL: u32 = 1;
/// `sizeof(struct sockaddr_storage)`.
const SOCKADDR_BYTES: u64 = 128;

/// A note to begin with. Not a constant, which would take most of a program's stack.
pub(crate) static NOTHING: Note = Note::EMPTY;

/// Puts serial, stamp and key of the event into its note.
///
/// # Safety
/// `note` is an element of this task's.
#[inline(always)]
pub(crate) unsafe fn note_down(note: *mut Note, audit: u64) {
    let [seconds, nanoseconds]: [u64; 2] = read(audit, context_offset!(ctime));
    let serial: u32 = read(audit, context_offset!(serial));
    let key = pointer(audit, context_offset!(filterkey));
    // SAFETY: as the caller promises; the helper checks the key's address itself, which is null where there is none.
    unsafe {
        let report = &mut (*note).report;
        report.serial = serial;
        report.stamp_sec = seconds;
        report.stamp_nsec = nanoseconds as u32;
        let length = bpf_probe_read_kernel_str(
            (&raw mut (*note).key).cast(),
            KEY_BYTES as u32,
            key as *const _,
        );
        (*note).key_length = if length > 0 { length as u64 - 1 } else { 0 };
    }
}

/// What a sample of the event at hand is to be.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    /// The element of the program in `SCRATCH` and `COUNTERS`.
    pub(crate) program: u32,
    pub(crate) task: u64,
    /// The audit context.
    pub(crate) audit: u64,
    pub(crate) note: *const Note,
    /// What `Sample::flags` begins with.
    pub(crate) flags: u32,
}

/// Sends a sample from the audit context.
///
/// # Safety
/// The program is the calling one, and the note an element of this task's.
#[inline(always)]
pub(crate) unsafe fn send_written(context: &FExitContext, written: Written) -> Option<()> {
    let Written {
        program,
        task,
        audit,
        note,
        flags: bits,
    } = written;
    let active = active(CONTROL.get(0)?);
    let scratch = SCRATCH.get_ptr_mut(program)?;
    // SAFETY: as the caller promises; the flags are read back for the reason given at `take_down`.
    let (facts, call, bits) = unsafe {
        (*scratch).program = program;
        take_down(scratch, Some(note), bits);
        (
            &mut (*scratch).facts,
            &mut (*scratch).in_flight,
            (&raw const (*scratch).sample.flags).read_volatile(),
        )
    };
    let operation = bits & flags::OPERATION != 0;
    call.arch = read(audit, context_offset!(arch));
    let args: [u64; 4] = read(audit, context_offset!(argv));
    for index in 0..8 {
        call.args[index] = if index < 4 { args[index] } else { 0 };
    }
    call.syscall = read(audit, context_offset!(major));
    if operation {
        call.syscall = read(audit, context_offset!(uring_op));
        call.args[0] = u64::from(read::<u32>(audit, context_offset!(name_count)));
    }
    // SAFETY: a helper without arguments.
    call.entry_ns = unsafe { bpf_ktime_get_ns() };
    call.slots[0].flags = 0;
    call.slots[1].flags = 0;
    call.plan = Plan::NONE;
    if !operation && call.syscall < SYSCALL_NUMBERS {
        let plans = PLANS.get(call.syscall)?.plans[(active.buffer & 1) as usize];
        call.plan = if call.arch == registers::ARCHES[0] {
            plans[0]
        } else {
            plans[1]
        };
    }
    judging::gather(facts, &call.args, &raw const call.plan);
    judging::gather_rest(facts);
    let returned = read::<u32>(audit, context_offset!(return_valid)) != 0;
    let outcome = Outcome {
        judgement: Judgement {
            ruling: Ruling::NO,
            rule: NO_RULE,
        },
        generation: active.generation,
        result: returned.then(|| read(audit, context_offset!(return_code))),
        audit: Some(audit),
    };
    send(context, scratch, call, task, outcome);
    None
}

/// Appends the key of the event that the sample's report is of.
#[inline(never)]
pub(crate) fn push_key(scratch: *mut Scratch, task: u64) {
    // SAFETY: the calling program's own element.
    let bits = unsafe { (&raw const (*scratch).sample.flags).read_volatile() };
    if bits & flags::REPORTED == 0 {
        return;
    }
    let Some(note) = NOTES.get_ptr(&task) else {
        return;
    };
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let (length, key) = unsafe { ((*note).key_length, &raw const (*note).key) };
    // Before the bound: the compiler would make one comparison of both, of a difference that bounds nothing.
    if length == 0 {
        return;
    }
    let Some(length) = at_most(KEY_BYTES as u64, length) else {
        return;
    };
    let label = Label {
        kind: StringKind::Key as u8,
        argument: 0,
    };
    let Some(at) = within(cursor(scratch), KEY_BYTES as u64) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for the longest key, and `length` is at most as long.
    unsafe {
        bpf_probe_read_kernel(
            place(scratch, at + HEADER).cast(),
            length as u32,
            key.cast(),
        );
    }
    grow(scratch, length);
    seal(scratch, label, 0);
}

/// Appends the socket address as the event has it.
#[inline(never)]
pub(crate) fn push_sockaddr(scratch: *mut Scratch, audit: u64) {
    let address = pointer(audit, context_offset!(sockaddr));
    let whole: u64 = read(audit, context_offset!(sockaddr_len));
    if address == 0 || whole == 0 {
        return;
    }
    let label = Label {
        kind: StringKind::Sockaddr as u8,
        argument: 0,
    };
    let length = at_most(SOCKADDR_BYTES, whole).unwrap_or(SOCKADDR_BYTES);
    let Some(at) = within(cursor(scratch), SOCKADDR_BYTES) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    // SAFETY: `within` left room for the longest address; the helper checks the kernel's own.
    let failed = unsafe {
        bpf_probe_read_kernel(
            place(scratch, at + HEADER).cast(),
            length as u32,
            address as *const _,
        )
    };
    if failed != 0 {
        unreadable(scratch, label);
        return;
    }
    grow(scratch, length);
    seal(scratch, label, 0);
}
