//! `fentry` of `kauditd_hold_skb()` (kernel/audit.c): there is no daemon to take a record, which is to be kept for the next
//! one. Where there is no room for it, `audit_log_lost` tells so next; where the kernel was booted without `audit=1` it keeps
//! none, and says nothing. One that the daemon did not take though it was tried again goes behind those that are not even tried.
//!
//! Minimum kernel: 5.5 (fentry); the ring makes that 5.8.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use collector_ebpf::TextReason;

use crate::maps::holds_records;
use crate::mirror::{self, Delivery};

/// `-EAGAIN`
const NOT_TAKEN: i32 = -11;

#[fentry(function = "kauditd_hold_skb")]
fn kauditd_hold_skb(context: FEntryContext) -> i32 {
    let skb = context.arg::<u64>(0);
    mirror::put_aside(skb);
    // What no daemon took has reached a multicast socket before.
    if mirror::delivery() == Some(Delivery::Unicast) {
        if !holds_records() {
            mirror::tell(TextReason::NotHeld, Some(skb));
        } else if context.arg::<i32>(1) == NOT_TAKEN {
            mirror::tell(TextReason::PutBehind, Some(skb));
        }
    }
    0
}
