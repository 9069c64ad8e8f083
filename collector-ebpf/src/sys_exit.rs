//! `tp_btf/sys_exit`: judges the calls that sys_enter remembered, and sends those that the rules report.
//!
//! An exit without an entry is no error: a forked child's first return, a call begun before attaching, one that
//! seccomp or ptrace skipped.
//!
//! Minimum kernel: 5.8 (BPF_MAP_TYPE_RINGBUF; tp_btf is 5.5, bpf_probe_read_user 5.5, bounded loops 5.3).

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use collector_ebpf::{InFlight, NO_PROGRAM, Ruling, SYSCALL_NUMBERS};

use crate::maps::{CONTROL, IN_FLIGHT, PLANS, SCRATCH, SCRATCH_EXIT};
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
    if number >= u64::from(SYSCALL_NUMBERS) {
        return None;
    }
    let plans = PLANS.get(number as u32)?;
    let [[a, b], [c, d]] = &plans.plans;
    if a.start == NO_PROGRAM
        && b.start == NO_PROGRAM
        && c.start == NO_PROGRAM
        && d.start == NO_PROGRAM
    {
        return None;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(call) = IN_FLIGHT.get_ptr(&task) else {
        count(|counters| counters.without_entry += 1);
        return None;
    };
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    if u64::from(unsafe { (*call).syscall }) != number {
        // Left over from a time when the programs were detached.
        let _ = IN_FLIGHT.remove(&task);
        return None;
    }
    let result: i64 = context.arg(1);
    judge_and_send(context, call, task, result);
    // Only now: another CPU may take the element for a call of its own as soon as it is free.
    let _ = IN_FLIGHT.remove(&task);
    None
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
    let active = CONTROL.get(0)?.active;
    let buffer = active.buffer & 1;
    let arch = usize::from(in_flight.arch & 0x8000_0000 == 0);
    let plans = PLANS.get(in_flight.syscall)?.plans[buffer as usize];
    let plan = if arch == 0 { plans[0] } else { plans[1] };
    // The rules were changed during the call, and the new ones do not name it.
    if plan.start == NO_PROGRAM {
        return None;
    }
    let scratch = SCRATCH.get_ptr_mut(SCRATCH_EXIT)?;
    // SAFETY: this program's own element on this CPU. The result goes through it for the reason given at
    // `judging::flags`.
    let (facts, own_plan, own_result) = unsafe {
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
