//! `tp_btf/sys_exit`: judges the calls that sys_enter remembered, and sends those that the rules report.
//!
//! An exit without an entry is no error: a forked child's first return, a call begun before attaching, one that
//! seccomp or ptrace skipped.
//!
//! Minimum kernel: 5.8 (BPF_MAP_TYPE_RINGBUF; tp_btf is 5.5, bpf_probe_read_user 5.5, bounded loops 5.3).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use collector_ebpf::{InFlight, NO_PROGRAM, Plan, SYSCALL_NUMBERS};

use crate::conclusion::{Ending, conclude, note_of};
use crate::maps::{EXIT, IN_FLIGHT, NOTES, PLANS, hooks};
use crate::send::count;
use crate::{judging, registers};

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(context: BtfTracePointContext) -> i32 {
    try_sys_exit(&context, context.arg(0), context.arg(1));
    0
}

/// For kernels that can preempt the other kind; see [`crate::sys_enter`].
#[tracepoint(category = "raw_syscalls", name = "sys_exit")]
fn sys_exit_plain(context: TracePointContext) -> u32 {
    let result = registers::plain_argument(&context, 1).cast_signed();
    try_sys_exit(&context, registers::of_this_task(), result);
    0
}

#[inline(always)]
fn try_sys_exit(context: &impl EbpfContext, regs: *const u64, result: i64) -> Option<()> {
    let number = registers::number_at_exit(regs);
    // Any other number may be the -1 that a return from a signal handler leaves there.
    let named = number < u64::from(SYSCALL_NUMBERS);
    if named {
        let plans = PLANS.get(number as u32)?;
        let [[a, b], [c, d]] = &plans.plans;
        if a.start == NO_PROGRAM
            && b.start == NO_PROGRAM
            && c.start == NO_PROGRAM
            && d.start == NO_PROGRAM
        {
            return None;
        }
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(call) = IN_FLIGHT.get_ptr(&task) else {
        if named {
            count(EXIT, |counters| counters.without_entry += 1);
        }
        return None;
    };
    let note = if hooks() { note_of(call, task) } else { None };
    // Otherwise it is left over from a call whose exit was missed.
    if note.is_some() || is_exit_of(call, number, regs) {
        let ending = Ending {
            program: EXIT,
            task,
            result: Some(result),
            note,
            flags: 0,
        };
        conclude(context, call, ending);
    }
    // Only now: another CPU may take the elements for a call of its own as soon as they are free.
    if note.is_some() {
        let _ = NOTES.remove(&task);
    }
    let _ = IN_FLIGHT.remove(&task);
    None
}

/// Whether the exit at hand, of call `number`, is the one of `call`.
#[inline(always)]
fn is_exit_of(call: *const InFlight, number: u64, regs: *const u64) -> bool {
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let (flags, syscall, arch, args) = unsafe {
        (
            judging::flags(&raw const (*call).plan),
            (*call).syscall,
            (&raw const (*call).arch).read_volatile(),
            &(*call).args,
        )
    };
    if flags & Plan::RESTORES_REGISTERS != 0 {
        return number >= u64::from(SYSCALL_NUMBERS) || number == u64::from(syscall);
    }
    if number != u64::from(syscall) {
        return false;
    }
    if flags & Plan::EXEC != 0 {
        return true;
    }
    let now = registers::arguments_at_exit(regs, usize::from(arch & 0x8000_0000 == 0));
    // All at once: a branch for each would be so many paths for the verifier.
    let mut difference = 0;
    for index in 0..6 {
        difference |= now[index] ^ args[index];
    }
    difference == 0
}
