//! `tp_btf/sys_enter`: remembers the calls that the rules may report.
//!
//! Why this kind of program (medians on 6.18, a map look-up each at entry and exit, getppid at 203 ns without): plain
//! tracepoint +234 ns, and it needs tracefs; raw tracepoint +151 ns; tp_btf with plain loads of registers +126 ns.
//!
//! On kernels that can preempt this kind (seen on 7.2: include/trace/bpf_probe.h no longer keeps the task on the CPU), the
//! runs of other tasks on that CPU are skipped meanwhile, so there the same is a plain tracepoint, which runs with
//! preemption off (include/trace/perf.h).
//!
//! Minimum kernel: 5.8 (BPF_MAP_TYPE_RINGBUF; tp_btf is 5.5, bpf_probe_read_user 5.5, bounded loops 5.3); plain: 5.15
//! (bpf_task_pt_regs).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use aya_log_ebpf::warn;
use collector_ebpf::{Fact, NO_PROGRAM, Plan, Ruling, SYSCALL_NUMBERS};

use crate::conclusion::take_down;
use crate::kernel::{current, load};
use crate::maps::{CONTROL, ENTER, IN_FLIGHT, PLANS, SCRATCH, active, exempt, hooks, offset};
use crate::send::{Outcome, count, send};
use crate::{arguments, judging, noted, registers};

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(context: BtfTracePointContext) -> i32 {
    try_sys_enter(&context, context.arg(0), context.arg(1));
    0
}

#[tracepoint(category = "raw_syscalls", name = "sys_enter")]
fn sys_enter_plain(context: TracePointContext) -> u32 {
    let number = registers::plain_argument(&context, 0);
    try_sys_enter(&context, registers::of_this_task(), number);
    0
}

#[inline(always)]
fn try_sys_enter(context: &impl EbpfContext, regs: *const u64, number: u64) -> Option<()> {
    // Rules cannot name higher numbers, which takes x32 calls (bit 30) out too; a skipped call has number -1.
    if number >= u64::from(SYSCALL_NUMBERS) {
        return None;
    }
    let control = CONTROL.get(0)?;
    let active = active(control);
    let buffer = active.buffer & 1;
    let plans = PLANS.get(number as u32)?.plans[buffer as usize];
    if plans[0].start == NO_PROGRAM && plans[1].start == NO_PROGRAM {
        return None;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let arch = registers::arch_index();
    let plan = if arch == 0 { plans[0] } else { plans[1] };
    if plan.start == NO_PROGRAM || exempt(control) {
        return None;
    }
    let scratch = SCRATCH.get_ptr_mut(ENTER)?;
    // SAFETY: this program's own element on this CPU.
    let (facts, call) = unsafe {
        (*scratch).program = ENTER;
        (&mut (*scratch).facts, &mut (*scratch).in_flight)
    };
    call.plan = plan;
    call.arch = registers::ARCHES[arch & 1];
    call.syscall = number as u32;
    call.args = registers::arguments(regs, arch);
    judging::gather(facts, &call.args, &raw const call.plan);
    if returns(&raw const call.plan) {
        judging::forget_what_may_change(facts, &raw const call.plan);
    } else {
        judging::gather_rest(facts);
        facts.impossible = Fact::RESULT;
    }
    let judgement = judging::ruling(buffer, plan.start, facts);
    if judgement.ruling == Ruling::NO {
        return None;
    }
    // SAFETY: a helper without arguments.
    call.entry_ns = unsafe { bpf_ktime_get_ns() };
    let ends_later = returns(&raw const call.plan) || ends_in_audit_free();
    if ends_later {
        arguments::capture(scratch);
        if remembers_names(&raw const call.plan) {
            noted::remember(scratch, task);
        }
        if IN_FLIGHT.insert(&task, &*call, 0).is_err() {
            count(ENTER, |counters| {
                counters.attempted += 1;
                counters.in_flight_full += 1;
            });
            warn!(context, "too many calls in flight, call {} lost", number);
        }
        return None;
    }
    // SAFETY: this program's own element on this CPU.
    unsafe { take_down(scratch, None, 0) };
    let outcome = Outcome {
        judgement,
        generation: active.generation,
        result: None,
        audit: None,
    };
    send(context, scratch, call, task, outcome);
    None
}

/// Whether what is in the audit context before the call tells what it noted. What a call opened tells that by itself.
#[inline(always)]
fn remembers_names(plan: *const Plan) -> bool {
    judging::flags(plan) & (Plan::ASKS_FILES | Plan::OPENS) == Plan::ASKS_FILES
}

#[inline(always)]
fn returns(plan: *const Plan) -> bool {
    judging::flags(plan) & Plan::NO_RETURN == 0
}

/// Whether audit_free will see the end of a call that does not return.
#[inline(always)]
fn ends_in_audit_free() -> bool {
    hooks() && load::<u64>(current(), offset!(task_audit_context)) != 0
}
