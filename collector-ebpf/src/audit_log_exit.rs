//! `fentry` and `fexit` of `audit_log_exit()`, which the kernel calls where it has decided to report a call, and in
//! which it writes the event's records (kernel/auditsc.c).
//!
//! At the entry a note is begun, in which audit_log_lost counts the records given up meanwhile. At the exit the context
//! is still whole: serial and stamp go into the note. Where the call is in flight, sys_exit runs next, finds the note
//! and sends the one sample. Where it is not (a rule of the task list or another part of the kernel forced the event,
//! or the call began before it was watched), the sample is sent from here, from what the context holds.
//!
//! Minimum kernel: 5.5 (fentry and fexit); the ring makes that 5.8.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns};
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use aya_log_ebpf::warn;
use collector_ebpf::{
    InFlight, Judgement, NO_PROGRAM, NO_RULE, Note, Plan, Ruling, SYSCALL_NUMBERS, flags,
};

use crate::conclusion::take_down;
use crate::kernel::{pointer, read};
use crate::maps::{
    CONTROL, IN_FLIGHT, NOTES, PLANS, REPORT, SCRATCH, active, context_offset, exempt, offset,
};
use crate::send::{Outcome, count, send};
use crate::{judging, kept, registers};

/// `AUDIT_CTX_SYSCALL` of kernel/audit.h.
const SYSCALL: u32 = 1;

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
    if NOTES.insert(&task, &Note::default(), 0).is_err() {
        count(REPORT, |counters| {
            counters.attempted += 1;
            counters.in_flight_full += 1;
        });
        warn!(context, "too many events being written, one lost");
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
    let [seconds, nanoseconds]: [u64; 2] = read(audit, context_offset!(ctime));
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let report = unsafe { &mut (*note).report };
    report.serial = read(audit, context_offset!(serial));
    report.stamp_sec = seconds;
    report.stamp_nsec = nanoseconds as u32;
    let kind: u32 = read(audit, context_offset!(kind));
    if kind != SYSCALL {
        // What io_uring does in place of a call is no call.
        let _ = NOTES.remove(&task);
        return None;
    }
    let scratch = SCRATCH.get_ptr_mut(REPORT)?;
    kept::keep(scratch, task, audit);
    let syscall: u32 = read(audit, context_offset!(major));
    if let Some(call) = IN_FLIGHT.get_ptr(&task)
        && ends_next(call, audit, syscall)
    {
        // SAFETY: both elements are this task's.
        unsafe { (*note).entry_ns = (*call).entry_ns };
        return None;
    }
    send_from(context, note, task, audit);
    let _ = NOTES.remove(&task);
    None
}

/// Whether `call` is the one the context is of, and the program at its end will look at it.
#[inline(always)]
fn ends_next(call: *const InFlight, audit: u64, syscall: u32) -> bool {
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

/// Sends a sample from the audit context.
#[inline(always)]
fn send_from(context: &FExitContext, note: *const Note, task: u64, audit: u64) -> Option<()> {
    let active = active(CONTROL.get(0)?);
    let scratch = SCRATCH.get_ptr_mut(REPORT)?;
    // SAFETY: this program's own element on this CPU, and an element of this task's.
    let (facts, call) = unsafe {
        (*scratch).program = REPORT;
        take_down(scratch, Some(note), flags::END_ONLY);
        (&mut (*scratch).facts, &mut (*scratch).in_flight)
    };
    call.arch = read(audit, context_offset!(arch));
    call.syscall = read(audit, context_offset!(major));
    let args: [u64; 4] = read(audit, context_offset!(argv));
    for index in 0..8 {
        call.args[index] = if index < 4 { args[index] } else { 0 };
    }
    // SAFETY: a helper without arguments.
    call.entry_ns = unsafe { bpf_ktime_get_ns() };
    call.slots[0].flags = 0;
    call.slots[1].flags = 0;
    call.plan = Plan::NONE;
    if call.syscall < SYSCALL_NUMBERS {
        let plans = PLANS.get(call.syscall)?.plans[(active.buffer & 1) as usize];
        call.plan = if call.arch == registers::ARCHES[0] {
            plans[0]
        } else {
            plans[1]
        };
    }
    judging::gather(facts, task, &call.args, &raw const call.plan);
    judging::gather_rest(facts, task);
    let returned = read::<u32>(audit, context_offset!(return_valid)) != 0;
    let outcome = Outcome {
        judgement: Judgement {
            ruling: Ruling::NO,
            rule: NO_RULE,
        },
        generation: active.generation,
        result: returned.then(|| read(audit, context_offset!(return_code))),
        cwd: Some(audit + u64::from(context_offset!(pwd))),
    };
    send(context, scratch, call, task, outcome);
    None
}
