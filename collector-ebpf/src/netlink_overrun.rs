//! `fentry` of `netlink_overrun()` (net/netlink/af_netlink.c), which the kernel calls for each message that a socket has no room
//! for. Ours is known by its cookie (`SO_COOKIE`), which no other socket has or ever had.
//!
//! Minimum kernel: 5.5 (fentry); the ring makes that 5.8.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use collector_ebpf::TextReason;

use crate::kernel::read;
use crate::maps::queue_offset;
use crate::mirror::{self, Delivery};

#[fentry(function = "netlink_overrun")]
fn netlink_overrun(context: FEntryContext) -> i32 {
    let cookie: u64 = read(context.arg::<u64>(0), queue_offset!(sock_cookie));
    // A socket that nobody asked for its cookie has 0, which is none of ours.
    if mirror::delivery() == Some(Delivery::Multicast(cookie)) {
        mirror::tell(TextReason::SocketOverrun, mirror::in_hand());
    }
    0
}
