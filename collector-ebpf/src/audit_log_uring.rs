//! `fentry` and `fexit` of `audit_log_uring()` (kernel/auditsc.c), which writes the record of an io_uring operation.
//!
//! An operation in a context of its own is seen by [`crate::audit_log_exit`], which writes the rest of its event. One
//! inside a call has its record in the call's event, which is written when that call ends; its sample is sent from here.
//!
//! Minimum kernel: 5.16 (io_uring is audited).

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use aya_log_ebpf::warn;
use collector_ebpf::flags;

use crate::kernel::read;
use crate::maps::{CONTROL, NOTES, OPERATION, OPERATION_BEGUN, context_offset, exempt};
use crate::send::count;
use crate::written::{self, NOTHING, SYSCALL, Written};

#[fentry(function = "audit_log_uring")]
fn audit_log_uring_begun(context: FEntryContext) -> i32 {
    try_audit_log_uring_begun(&context);
    0
}

#[inline(always)]
fn try_audit_log_uring_begun(context: &FEntryContext) -> Option<()> {
    let audit = context.arg::<u64>(0);
    if read::<u32>(audit, context_offset!(kind)) != SYSCALL || exempt(CONTROL.get(0)?) {
        return None;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    if NOTES.insert(&task, &NOTHING, 0).is_err() {
        count(OPERATION_BEGUN, |counters| {
            counters.attempted += 1;
            counters.in_flight_full += 1;
        });
        warn!(context, "too many events being written, one lost");
    }
    None
}

#[fexit(function = "audit_log_uring")]
fn audit_log_uring(context: FExitContext) -> i32 {
    try_audit_log_uring(&context);
    0
}

#[inline(always)]
fn try_audit_log_uring(context: &FExitContext) -> Option<()> {
    let audit = context.arg::<u64>(0);
    if read::<u32>(audit, context_offset!(kind)) != SYSCALL {
        return None;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let note = NOTES.get_ptr_mut(&task)?;
    let written = Written {
        program: OPERATION,
        task,
        audit,
        note,
        flags: flags::END_ONLY | flags::OPERATION | flags::IN_CALL,
    };
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    unsafe {
        written::note_down(note, audit);
        written::send_written(context, written);
    }
    let _ = NOTES.remove(&task);
    None
}
