//! `fexit` of `__audit_free()` (kernel/auditsc.c): the end of calls that do not return, as sys_exit is of the others.
//!
//! The kernel judges exit and exit_group here, when the task gives its audit context back, and not at an exit.
//!
//! Minimum kernel: 5.5 (fexit); the ring makes that 5.8.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::{macros::fexit, programs::FExitContext};
use collector_ebpf::{Plan, flags};

use crate::conclusion::{Ending, conclude, note_of};
use crate::judging;
use crate::kept::KEPT;
use crate::maps::{FREE, IN_FLIGHT, NOTES};

#[fexit(function = "__audit_free")]
fn audit_free(context: FExitContext) -> i32 {
    try_audit_free(&context);
    0
}

#[inline(always)]
fn try_audit_free(context: &FExitContext) -> Option<()> {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    // A fork that failed gives back the context of the child, which was never in a call.
    if context.arg::<u64>(0) != task {
        return None;
    }
    if let Some(call) = IN_FLIGHT.get_ptr(&task) {
        // SAFETY: the element stays this task's until it is removed, and this task is here.
        let plan = unsafe { &raw const (*call).plan };
        if judging::flags(plan) & Plan::NO_RETURN != 0 {
            let ending = Ending {
                program: FREE,
                task,
                result: None,
                note: note_of(call, task),
                // It had one until now.
                flags: flags::AUDIT_CONTEXT,
            };
            conclude(context, call, ending);
        }
        let _ = IN_FLIGHT.remove(&task);
    }
    let _ = NOTES.remove(&task);
    // Left where the run at the end of a call was skipped.
    let _ = KEPT.remove(&task);
    None
}
