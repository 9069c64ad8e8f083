//! `fentry` of `kauditd_hold_skb()` (kernel/audit.c): there is no daemon to take a record, which is to be kept for the next
//! one. Where there is no room for it, `audit_log_lost` tells so next; where the kernel was booted without `audit=1` it keeps
//! none, and says nothing.
//!
//! Minimum kernel: 5.5 (fentry); the ring makes that 5.8.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use collector_ebpf::TextReason;

use crate::maps::holds_records;
use crate::mirror::{self, Delivery};

#[fentry(function = "kauditd_hold_skb")]
fn kauditd_hold_skb(context: FEntryContext) -> i32 {
    let skb = context.arg::<u64>(0);
    mirror::put_aside(skb);
    // What no daemon took has reached a multicast socket before.
    if !holds_records() && mirror::delivery() == Some(Delivery::Unicast) {
        mirror::tell(TextReason::NotHeld, Some(skb));
    }
    0
}
