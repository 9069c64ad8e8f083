//! `fentry` and `fexit` of `audit_log_exit()`, which the kernel calls where it has decided to report a call, and in
//! which it writes the event's records (kernel/auditsc.c).
//!
//! At the entry a note is begun, which says whether another record came first, and in which audit_log_lost counts the
//! records given up meanwhile. At the exit the context
//! is still whole: serial and stamp go into the note. Where the call is in flight, sys_exit runs next, finds the note
//! and sends the one sample. Where it is not (a rule of the task list or another part of the kernel forced the event,
//! or the call began before it was watched), and where io_uring did something in place of a call, the sample is sent
//! from here, from what the context holds.
//!
//! Minimum kernel: 5.5 (fentry and fexit); the ring makes that 5.8.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use aya_log_ebpf::warn;
use collector_ebpf::{InFlight, NO_PROGRAM, Plan, flags};

use crate::kernel::{pointer, read};
use crate::maps::{
    CONTROL, IN_FLIGHT, NOTES, PLANS, REPORT, REPORT_BEGUN, SCRATCH, context_offset, exempt, offset,
};
use crate::send::count;
use crate::written::{self, NOTHING, SYSCALL, Written};
use crate::{judging, kept};

#[fentry(function = "audit_log_exit")]
fn audit_log_exit_begun(context: FEntryContext) -> i32 {
    try_audit_log_exit_begun(&context);
    0
}

#[inline(always)]
fn try_audit_log_exit_begun(context: &FEntryContext) -> Option<()> {
    if exempt(CONTROL.get(0)?) {
        return None;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    if NOTES.insert(&task, &NOTHING, 0).is_err() {
        count(REPORT_BEGUN, |counters| {
            counters.attempted += 1;
            counters.in_flight_full += 1;
        });
        warn!(context, "too many events being written, one lost");
        return None;
    }
    // Another part of the kernel has written a record in this context, and by that made the kernel report the call.
    let audit = pointer(task, offset!(task_audit_context));
    if read::<u32>(audit, context_offset!(serial)) != 0 {
        let note = NOTES.get_ptr_mut(&task)?;
        // SAFETY: the element stays this task's until it is removed, and this task is here.
        unsafe { (*note).report.preceded = 1 };
    }
    None
}

#[fexit(function = "audit_log_exit")]
fn audit_log_exit(context: FExitContext) -> i32 {
    try_audit_log_exit(&context);
    0
}

#[inline(always)]
fn try_audit_log_exit(context: &FExitContext) -> Option<()> {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let note = NOTES.get_ptr_mut(&task)?;
    let audit = pointer(task, offset!(task_audit_context));
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    unsafe { written::note_down(note, audit) };
    kept::keep(SCRATCH.get_ptr_mut(REPORT)?, task, audit);
    let is_call = read::<u32>(audit, context_offset!(kind)) == SYSCALL;
    if is_call
        && let Some(call) = IN_FLIGHT.get_ptr(&task)
        && ends_next(call, audit)
    {
        // SAFETY: both elements are this task's.
        unsafe { (*note).entry_ns = (*call).entry_ns };
        return None;
    }
    let written = Written {
        program: REPORT,
        task,
        audit,
        note,
        flags: if is_call {
            flags::END_ONLY
        } else {
            flags::END_ONLY | flags::OPERATION
        },
    };
    // SAFETY: as above, and this is the program.
    unsafe { written::send_written(context, written) };
    let _ = NOTES.remove(&task);
    None
}

/// Whether `call` is the one the context is of, and the program at its end will look at it.
#[inline(always)]
fn ends_next(call: *const InFlight, audit: u64) -> bool {
    let syscall: u32 = read(audit, context_offset!(major));
    let arch: u32 = read(audit, context_offset!(arch));
    let args: [u64; 4] = read(audit, context_offset!(argv));
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let call = unsafe { &*call };
    // The arguments of a 32-bit call are in the lower halves.
    let mask = if arch & 0x8000_0000 == 0 {
        0xffff_ffff
    } else {
        u64::MAX
    };
    let mut difference = u64::from(call.arch ^ arch) | u64::from(call.syscall ^ syscall);
    for index in 0..4 {
        difference |= (call.args[index] ^ args[index]) & mask;
    }
    if difference != 0 {
        return false;
    }
    if judging::flags(&raw const call.plan) & Plan::NO_RETURN != 0 {
        return true;
    }
    let Some(plans) = PLANS.get(syscall) else {
        return false;
    };
    let [[a, b], [c, d]] = &plans.plans;
    a.start != NO_PROGRAM || b.start != NO_PROGRAM || c.start != NO_PROGRAM || d.start != NO_PROGRAM
}
