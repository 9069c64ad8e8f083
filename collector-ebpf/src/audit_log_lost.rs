//! `fentry` of `audit_log_lost()` (kernel/audit.c), which the kernel calls for each record it gives up, with the reason.
//!
//! Minimum kernel: 5.5 (fentry).

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::{macros::fentry, programs::FEntryContext};
use collector_ebpf::{LossReason, TextReason};

use crate::kernel::read;
use crate::maps::{LOST, NOTES};
use crate::mirror::{self, Delivery};

#[fentry(function = "audit_log_lost")]
fn audit_log_lost(context: FEntryContext) -> i32 {
    try_audit_log_lost(&context);
    0
}

#[inline(always)]
fn try_audit_log_lost(context: &FEntryContext) -> Option<()> {
    let reason = LossReason::of_message(read(context.arg::<u64>(0), 0));
    let total = LOST.get_ptr_mut(reason as u32)?;
    // SAFETY: this CPU's own element.
    unsafe { *total += 1 };
    let behind_the_queue = match reason {
        LossReason::RetryOverflow => Some(TextReason::RetryOverflow),
        LossReason::HoldOverflow => Some(TextReason::HoldOverflow),
        _ => None,
    };
    if let Some(reason) = behind_the_queue {
        // What the daemon did not take has reached a multicast socket before.
        if mirror::delivery() == Some(Delivery::Unicast) {
            mirror::tell(reason, mirror::in_hand());
        }
        return None;
    }
    // Without a note the record is not of a call, or of one that the kernel had not decided to report yet.
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let note = NOTES.get_ptr_mut(&task)?;
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let report = unsafe { &mut (*note).report };
    let lost = report.lost.get_mut(reason as usize)?;
    *lost = lost.saturating_add(1);
    if report.first_lost == 0 {
        report.first_lost = reason as u8 + 1;
    }
    None
}
