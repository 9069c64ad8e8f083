//! Sending the texts of records behind the kernel's audit queue.
//!
//! kauditd is one thread, and takes one record at a time out of the queue. So what it has in hand is what the functions
//! that tell of a loss without naming the record are about.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns, bpf_probe_read_kernel};
use collector_ebpf::{TEXT_BYTES, TextHeader, TextMirror, TextReason};

use crate::kernel::{pointer, read};
use crate::maps::{
    CONTROL, IN_HAND, TEXT_COUNTS, TEXT_SCRATCH, TEXTS, offset, queue_offset, text_mirror,
};
use crate::send::NO_WAKEUP;

/// The element of kauditd in [`IN_HAND`] and [`TEXT_SCRATCH`].
const KAUDITD: u32 = 0;
/// The element of another task, of which there is one at a time (`audit_ctl_lock`).
const OTHER: u32 = 1;
/// `NLMSG_HDRLEN`: the record's type stands in the header, the text behind it.
const NETLINK_HEADER: u32 = 16;
const TYPE_OFFSET: u32 = 4;

/// How records reach the collector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// As the daemon.
    Unicast,
    /// By the multicast socket with this cookie.
    Multicast(u64),
}

/// How records reach the collector, as it says.
#[inline(always)]
pub(crate) fn delivery() -> Option<Delivery> {
    let control = CONTROL.get(0)?;
    Some(match control.socket {
        0 => Delivery::Unicast,
        cookie => Delivery::Multicast(cookie),
    })
}

/// kauditd takes `skb` out of the queue.
#[inline(always)]
pub(crate) fn take_out(skb: u64) {
    put(KAUDITD, task(), skb);
}

/// The running task is about to put `skb` aside or to give it up.
#[inline(always)]
pub(crate) fn put_aside(skb: u64) {
    let task = task();
    put(place_of(task), task, skb);
}

/// The record that the running task has in hand, if it has one.
#[inline(always)]
pub(crate) fn in_hand() -> Option<u64> {
    let task = task();
    holds(place_of(task), task)
}

#[inline(always)]
fn task() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() }
}

/// The element of `task`. Of those that come here only kauditd is a thread of the kernel, and has no memory of its own.
#[inline(always)]
fn place_of(task: u64) -> u32 {
    if pointer(task, offset!(task_mm)) == 0 {
        KAUDITD
    } else {
        OTHER
    }
}

#[inline(always)]
fn holds(place: u32, task: u64) -> Option<u64> {
    let hand = IN_HAND.get(place)?;
    (hand.task == task).then_some(hand.skb)
}

#[inline(always)]
fn put(place: u32, task: u64, skb: u64) {
    if let Some(hand) = IN_HAND.get_ptr_mut(place) {
        // SAFETY: a valid element, which one task at a time writes; a reader takes it only where it holds its own task.
        unsafe {
            (*hand).task = task;
            (*hand).skb = skb;
        }
    }
}

/// Counts what happened to `skb`, and sends its text where texts are asked for. Without an address there is none to send.
#[inline(always)]
pub(crate) fn tell(reason: TextReason, skb: Option<u64>) {
    let Some(counters) = TEXT_COUNTS.get_ptr_mut(reason as u32) else {
        return;
    };
    // SAFETY: this CPU's own element, of a reason that one program tells of; the kernel does not run a program on a CPU where
    // a run of it has been preempted.
    let counters = unsafe { &mut *counters };
    counters.seen += 1;
    if text_mirror() == TextMirror::Off as u32 {
        return;
    }
    let place = place_of(task());
    let Some(length) = skb.and_then(|skb| draft(place, reason, skb)) else {
        counters.unreadable += 1;
        return;
    };
    if !submit(place) {
        counters.ring_full += 1;
        return;
    }
    counters.submitted += 1;
    counters.submitted_bytes += (length + 8 + 7) & !7;
}

/// Puts header and text together, and says how long they are.
#[inline(always)]
fn draft(place: u32, reason: TextReason, skb: u64) -> Option<u64> {
    let scratch = TEXT_SCRATCH.get_ptr_mut(place)?;
    let data = pointer(skb, queue_offset!(skb_data));
    let length: u32 = read(skb, queue_offset!(skb_len));
    let whole = length.checked_sub(NETLINK_HEADER)?;
    let kept = (whole as usize).min(TEXT_BYTES);
    // SAFETY: this CPU's own element, of a place that one task at a time has: whoever preempts this run, kauditd or another,
    // has the other. The helper checks the address itself, and `kept` is no more than there is room for.
    unsafe {
        (*scratch).header = TextHeader {
            length: (size_of::<TextHeader>() + kept) as u32,
            fixed: size_of::<TextHeader>() as u16,
            version: TextHeader::VERSION,
            reason: reason as u8,
            taken_ns: bpf_ktime_get_ns(),
            whole,
            record_type: read(data, TYPE_OFFSET),
            padding: 0,
        };
        let text = (&raw mut (*scratch).text).cast();
        let from = data + u64::from(NETLINK_HEADER);
        if bpf_probe_read_kernel(text, kept as u32, from as *const _) != 0 {
            return None;
        }
        Some(u64::from((*scratch).header.length))
    }
}

/// Sends what [`draft`] put together in the same place. The reader is not woken: it looks before it takes in what came by the socket.
#[inline(always)]
fn submit(place: u32) -> bool {
    let Some(scratch) = TEXT_SCRATCH.get_ptr_mut(place) else {
        return false;
    };
    // SAFETY: this CPU's own element, as in `draft`. The length is read anew, because the verifier takes what it loads from a map for any
    // number and bounds it once; the header and the text behind it are one piece.
    unsafe {
        let length = (&raw const (*scratch).header.length).read_volatile() as usize;
        let length = length.min(size_of::<TextHeader>() + TEXT_BYTES);
        let text = core::slice::from_raw_parts(scratch.cast::<u8>(), length);
        TEXTS.output::<[u8]>(text, NO_WAKEUP).is_ok()
    }
}
