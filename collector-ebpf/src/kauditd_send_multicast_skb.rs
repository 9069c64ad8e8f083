//! `fentry` of `kauditd_send_multicast_skb()` (kernel/audit.c), which kauditd calls for every record that it takes out of the
//! queue, in order, whether anybody listens or not.
//!
//! Minimum kernel: 5.5 (fentry); the ring makes that 5.8.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use collector_ebpf::{TextMirror, TextReason};

use crate::maps::text_mirror;
use crate::mirror;

#[fentry(function = "kauditd_send_multicast_skb")]
fn kauditd_send_multicast_skb(context: FEntryContext) -> i32 {
    let skb = context.arg::<u64>(0);
    mirror::take_out(skb);
    if text_mirror() == TextMirror::All as u32 {
        mirror::tell(TextReason::Queued, Some(skb));
    }
    0
}
