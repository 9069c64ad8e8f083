//! The strings of a sample in the making.
//!
//! Where the next string goes is kept in map memory, not in a variable. The verifier follows the possible values of a
//! variable along every path through the programs, and each string and each name in a path would multiply them; what
//! it loads from a map it takes for any number, bounds it once before each access, and is done. All limits together
//! (two paths, an argument vector of twice that, executable and working directory, a terminal) are smaller than the
//! area, so that the bounds cut nothing off; if they ever did, the sample would say so.

use collector_ebpf::{AREA_BYTES, StringHeader, string_flags};

use crate::maps::Scratch;

/// Bytes of a [`StringHeader`].
pub(crate) const HEADER: u64 = size_of::<StringHeader>() as u64;

/// What a string is, before its length is known.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    /// `StringKind` as a number.
    pub(crate) kind: u8,
    pub(crate) argument: u8,
}

/// Begins the strings of a sample.
#[inline(always)]
pub(crate) fn begin(scratch: *mut Scratch) {
    // SAFETY: a valid map element that only the calling program uses; so in the functions below.
    unsafe { (&raw mut (*scratch).cursor).write_volatile(0) };
}

/// Where the next string begins.
#[inline(always)]
pub(crate) fn cursor(scratch: *const Scratch) -> u64 {
    // SAFETY: as in `begin`.
    unsafe { (&raw const (*scratch).cursor).read_volatile() }
}

/// Where the next part of the string at hand goes.
#[inline(always)]
pub(crate) fn end(scratch: *const Scratch) -> u64 {
    // SAFETY: as in `begin`.
    unsafe { (&raw const (*scratch).end).read_volatile() }
}

/// Begins a string, behind the room for its header.
#[inline(always)]
pub(crate) fn open(scratch: *mut Scratch) {
    // SAFETY: as in `begin`.
    unsafe { (&raw mut (*scratch).end).write_volatile(cursor(scratch) + HEADER) };
}

/// Notes that `length` more bytes of the string at hand are in place.
#[inline(always)]
pub(crate) fn grow(scratch: *mut Scratch, length: u64) {
    // SAFETY: as in `begin`.
    unsafe { (&raw mut (*scratch).end).write_volatile(end(scratch) + length) };
}

/// Writes the header of the string at hand, and moves on behind its bytes.
#[inline(always)]
pub(crate) fn seal(scratch: *mut Scratch, label: Label, flags: u8) {
    let end = end(scratch);
    let Some(start) = within(cursor(scratch), 0) else {
        return;
    };
    let header = StringHeader {
        length: (end - start - HEADER) as u16,
        kind: label.kind,
        argument: label.argument,
        flags,
        padding: [0; 3],
    };
    // SAFETY: `within` left room for a header; for the cursor as in `begin`.
    unsafe {
        place(scratch, start)
            .cast::<StringHeader>()
            .write_unaligned(header);
        (&raw mut (*scratch).cursor).write_volatile((end + 7) & !7);
    }
}

/// Notes a string that could not be read.
#[inline(always)]
pub(crate) fn unreadable(scratch: *mut Scratch, label: Label) {
    // SAFETY: as in `begin`.
    let program = unsafe { (*scratch).program };
    crate::send::count(program, |counters| counters.unreadable += 1);
    open(scratch);
    seal(scratch, label, string_flags::UNREADABLE);
}

/// Notes a string that there is no room for.
#[inline(always)]
pub(crate) fn no_room(scratch: *mut Scratch, label: Label) {
    open(scratch);
    seal(scratch, label, string_flags::TRUNCATED);
}

/// `at` if a header and `room` bytes fit behind it.
#[inline(always)]
pub(crate) fn within(at: u64, room: u64) -> Option<u64> {
    at_most(AREA_BYTES as u64 - HEADER - room, at)
}

/// `value` if it is at most `limit`, in a form the verifier understands.
#[inline(always)]
pub(crate) fn at_most(limit: u64, value: u64) -> Option<u64> {
    let mut value = value;
    // SAFETY: copies a register onto itself. The compiler then compares the very register that is used afterwards,
    // and not some copy or difference of it whose bounds would say nothing to the verifier.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack)) };
    if value > limit {
        return None;
    }
    Some(value)
}

/// The place `at` bytes into the area.
///
/// # Safety
/// `at` is what [`within`] returned, or at most the header and the room it was asked for behind that.
#[inline(always)]
pub(crate) unsafe fn place(scratch: *mut Scratch, at: u64) -> *mut u8 {
    // SAFETY: within the area, as the caller promises.
    unsafe { (&raw mut (*scratch).area).cast::<u8>().add(at as usize) }
}
