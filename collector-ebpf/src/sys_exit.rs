//! `tp_btf/sys_exit`: judges the calls that sys_enter remembered, and sends those that the rules report.
//!
//! An exit without an entry is no error: a forked child's first return, a call begun before attaching, one that
//! seccomp or ptrace skipped.
//!
//! Minimum kernel: 5.8 (BPF_MAP_TYPE_RINGBUF; tp_btf is 5.5, bpf_probe_read_user 5.5, bounded loops 5.3).

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use collector_ebpf::{InFlight, NO_PROGRAM, Plan, Ruling, SYSCALL_NUMBERS};

use crate::maps::{CONTROL, EXIT, IN_FLIGHT, PLANS, SCRATCH, active};
use crate::send::{Outcome, count, send};
use crate::{judging, registers};

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(context: BtfTracePointContext) -> i32 {
    try_sys_exit(&context);
    0
}

#[inline(always)]
fn try_sys_exit(context: &BtfTracePointContext) -> Option<()> {
    let regs: *const u64 = context.arg(0);
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
    // Otherwise it is left over from a call whose exit was missed.
    if is_exit_of(call, number, regs) {
        let result: i64 = context.arg(1);
        judge_and_send(context, call, task, result);
    }
    // Only now: another CPU may take the element for a call of its own as soon as it is free.
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

#[inline(always)]
fn judge_and_send(
    context: &BtfTracePointContext,
    call: *const InFlight,
    task: u64,
    result: i64,
) -> Option<()> {
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let in_flight = unsafe { &*call };
    let active = active(CONTROL.get(0)?);
    let buffer = active.buffer & 1;
    let arch = usize::from(in_flight.arch & 0x8000_0000 == 0);
    let plans = PLANS.get(in_flight.syscall)?.plans[buffer as usize];
    let plan = if arch == 0 { plans[0] } else { plans[1] };
    // The rules were changed during the call, and the new ones do not name it.
    if plan.start == NO_PROGRAM {
        return None;
    }
    let scratch = SCRATCH.get_ptr_mut(EXIT)?;
    // SAFETY: this program's own element on this CPU. The result goes through it for the reason given at
    // `judging::flags`.
    let (facts, own_plan, own_result) = unsafe {
        (*scratch).program = EXIT;
        (*scratch).in_flight.plan = plan;
        let own_result = &raw mut (*scratch).sample.result;
        own_result.write_volatile(result);
        let own_plan = &raw const (*scratch).in_flight.plan;
        (&mut (*scratch).facts, own_plan, own_result)
    };
    judging::gather(facts, task, &in_flight.args, own_plan);
    judging::gather_rest(facts, task);
    // SAFETY: as above.
    facts.set_result(unsafe { own_result.read_volatile() });
    let judgement = judging::ruling(buffer, plan.start, facts);
    if judgement.ruling == Ruling::NO {
        return None;
    }
    let outcome = Outcome {
        judgement,
        generation: active.generation,
        // SAFETY: as above.
        result: Some(unsafe { own_result.read_volatile() }),
    };
    send(context, scratch, call, task, outcome);
    None
}
