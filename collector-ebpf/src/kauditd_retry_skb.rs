//! `fentry` of `kauditd_retry_skb()` (kernel/audit.c): the daemon did not take a record, which is to be sent again. Where there
//! is no room for it, `audit_log_lost` tells so next.
//!
//! Minimum kernel: 5.5 (fentry).

use aya_ebpf::{macros::fentry, programs::FEntryContext};

use crate::mirror;

#[fentry(function = "kauditd_retry_skb")]
fn kauditd_retry_skb(context: FEntryContext) -> i32 {
    mirror::put_aside(context.arg::<u64>(0));
    0
}
