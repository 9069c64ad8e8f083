//! What the audit context holds for the records of a call: kept when the kernel writes them, sent at the call's end.
//!
//! In between the kernel empties the context. A map keeps it rather than the sample itself being sent early, so that there
//! is one sample of a call, and one place that judges it.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use collector_ebpf::{
    ContextFacts, KEPT_BYTES, KEPT_NAMES, KEPT_TEXT, Kept, NameEntry, NotingLayout, StringKind,
    flags, string_flags,
};

use crate::draft::{HEADER, Label, at_most, begin, cursor, grow, open, place, seal, within};
use crate::kernel::{pointer, read};
use crate::maps::{REPORT, Scratch};
use crate::send::count;

/// By the address of the task, from the end of its event's records to the end of its call. Its size is set at load time.
#[map]
pub(crate) static KEPT: HashMap<u64, Kept> = HashMap::with_max_entries(1024, 0);

/// Offsets in this kernel's structures.
#[unsafe(no_mangle)]
static NOTING_LAYOUT: NotingLayout = NotingLayout {
    known: 0,
    title_length: 0,
    title: 0,
    name_count: 0,
    names: 0,
    kind: 0,
    special: 0,
    descriptors: 0,
    aux: 0,
    aux_pids: 0,
    target: 0,
    target_comm: 0,
    name_list: 0,
    name_text: 0,
    name_length: 0,
    name_hidden: 0,
    name_inode: 0,
    name_permitted: 0,
    name_effective: 0,
    name_root: 0,
    name_version: 0,
    name_role: 0,
    filename_text: 0,
    padding: 0,
};

/// One offset of [`NOTING_LAYOUT`].
macro_rules! noting {
    ($field:ident) => {
        // SAFETY: a field of a static; volatile because the loader puts in the truth.
        unsafe { core::ptr::read_volatile(&raw const $crate::kept::NOTING_LAYOUT.$field) }
    };
}

/// Where the strings begin: behind the count of bytes in use.
const FIRST: u64 = 8;

/// Keeps what `audit`, the context of `task`, holds now. For audit_log_exit.
#[inline(always)]
pub(crate) fn keep(scratch: *mut Scratch, task: u64, audit: u64) {
    if noting!(known) == 0 {
        return;
    }
    begin(scratch);
    // SAFETY: a valid map element that only the calling program uses.
    unsafe { (&raw mut (*scratch).cursor).write_volatile(FIRST) };
    push_context(scratch, audit);
    // When a task ends its context is gone before the sample is made; otherwise this says the same again.
    push_title(scratch, audit);
    let head = audit + u64::from(noting!(names));
    let mut at = pointer(head, 0);
    for index in 0..KEPT_NAMES {
        if at == head || at == 0 {
            break;
        }
        push_name(scratch, at - u64::from(noting!(name_list)), index as u64);
        at = pointer(at, 0);
    }
    // SAFETY: the area is longer than what is kept, and begins with room for the count.
    let inserted = unsafe {
        let kept = place(scratch, 0);
        kept.cast::<u64>().write_unaligned(cursor(scratch));
        KEPT.insert(&task, &*kept.cast::<Kept>(), 0)
    };
    if inserted.is_err() {
        // The call's sample is sent without this.
        count(REPORT, |counters| counters.kept_full += 1);
    }
}

/// Appends to the sample what was kept of the call whose report is in it.
#[inline(never)]
pub(crate) fn push(scratch: *mut Scratch, task: u64) {
    // SAFETY: a valid map element.
    let reported =
        unsafe { (&raw const (*scratch).sample.flags).read_volatile() } & flags::REPORTED;
    let Some(kept) = KEPT.get_ptr(&task) else {
        return;
    };
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let length = unsafe { (*kept).length } - FIRST;
    if reported != 0
        && let Some(length) = at_most(KEPT_BYTES as u64 - FIRST, length)
        && let Some(at) = within(cursor(scratch), KEPT_BYTES as u64)
    {
        // SAFETY: `within` left room for all that is kept.
        unsafe {
            bpf_probe_read_kernel(
                place(scratch, at).cast(),
                length as u32,
                (&raw const (*kept).strings).cast(),
            );
            (&raw mut (*scratch).cursor).write_volatile(at + length);
        }
    }
    let _ = KEPT.remove(&task);
}

#[inline(never)]
fn push_context(scratch: *mut Scratch, audit: u64) {
    let label = Label {
        kind: StringKind::Context as u8,
        argument: 0,
    };
    let Some(at) = within(cursor(scratch), size_of::<ContextFacts>() as u64) else {
        return;
    };
    let mut bits = 0;
    if pointer(audit, noting!(aux)) != 0 {
        bits |= ContextFacts::AUX;
    }
    if pointer(audit, noting!(aux_pids)) != 0 {
        bits |= ContextFacts::AUX_PIDS;
    }
    open(scratch);
    let facts = ContextFacts {
        names: read(audit, noting!(name_count)),
        kind: read(audit, noting!(kind)),
        descriptors: read(audit, noting!(descriptors)),
        special: read(audit, noting!(special)),
        target: read(audit, noting!(target)),
        target_comm: read(audit, noting!(target_comm)),
        flags: bits,
        padding: 0,
    };
    // SAFETY: `within` left room for it.
    unsafe {
        place(scratch, at + HEADER)
            .cast::<ContextFacts>()
            .write_unaligned(facts);
    }
    grow(scratch, size_of::<ContextFacts>() as u64);
    seal(scratch, label, 0);
}

/// Appends the `struct audit_names` at `name`, if there is room for it among what is kept.
#[inline(never)]
fn push_name(scratch: *mut Scratch, name: u64, index: u64) {
    const ROOM: u64 = (size_of::<NameEntry>() + KEPT_TEXT) as u64;
    let label = Label {
        kind: StringKind::Name as u8,
        argument: index as u8,
    };
    let Some(at) = at_most(KEPT_BYTES as u64 - HEADER - ROOM, cursor(scratch)) else {
        return;
    };
    open(scratch);
    let [low, high, dev, mode, uid, gid, rdev]: [u32; 7] = read(name, noting!(name_inode));
    let [permitted, inheritable]: [u64; 2] = read(name, noting!(name_permitted));
    let filename = pointer(name, noting!(name_text));
    let entry = NameEntry {
        inode: u64::from(high) << 32 | u64::from(low),
        permitted,
        inheritable,
        dev,
        mode: mode & 0xffff,
        uid,
        gid,
        rdev,
        printed: read(name, noting!(name_length)),
        version: read(name, noting!(name_version)),
        root: read(name, noting!(name_root)),
        effective: u8::from(read::<u8>(name, noting!(name_effective)) & 1 != 0),
        role: read(name, noting!(name_role)),
        hidden: read(name, noting!(name_hidden)),
        named: u8::from(filename != 0),
        padding: 0,
    };
    let text = pointer(filename, noting!(filename_text));
    // SAFETY: there is room for the entry and the longest text.
    let length = unsafe {
        place(scratch, at + HEADER)
            .cast::<NameEntry>()
            .write_unaligned(entry);
        grow(scratch, size_of::<NameEntry>() as u64);
        bpf_probe_read_kernel_str(
            place(scratch, at + HEADER + size_of::<NameEntry>() as u64).cast(),
            KEPT_TEXT as u32,
            text as *const _,
        )
    };
    let flags = if length >= KEPT_TEXT as i64 {
        string_flags::TRUNCATED
    } else {
        0
    };
    if filename != 0
        && let Some(length) = at_most(KEPT_TEXT as u64, length as u64)
        && length > 0
    {
        grow(scratch, length - 1);
    }
    seal(scratch, label, flags);
}

/// Appends the title that the audit context keeps, if it does: of a task's first event, and printed ever after
/// (kernel/auditsc.c `audit_log_proctitle`). Whether it did.
#[inline(never)]
pub(crate) fn push_title(scratch: *mut Scratch, audit: u64) -> bool {
    const TITLE: u64 = collector_ebpf::TITLE_BYTES as u64;
    let label = Label {
        kind: StringKind::Title as u8,
        argument: 0,
    };
    if noting!(known) == 0 || audit == 0 {
        return false;
    }
    let title = pointer(audit, noting!(title));
    let length: u32 = read(audit, noting!(title_length));
    if title == 0 {
        return false;
    }
    let Some(length) = at_most(TITLE, u64::from(length)) else {
        return false;
    };
    let Some(at) = within(cursor(scratch), TITLE) else {
        return false;
    };
    open(scratch);
    // SAFETY: `within` left room for a whole title; the helper checks the address itself.
    let failed = unsafe {
        bpf_probe_read_kernel(
            place(scratch, at + HEADER).cast(),
            length as u32,
            title as *const _,
        )
    };
    if failed != 0 {
        return false;
    }
    grow(scratch, length);
    seal(scratch, label, string_flags::KEPT);
    true
}
