//! The label that AppArmor has on a task, as `subj=` prints it.
//!
//! A label of one profile in the first namespace is printed as its name; others are put together in ways that are left to
//! the kernel (security/apparmor/label.c `aa_label_snxprint`), and are not known here.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use collector_ebpf::{LabelLayout, StringKind, string_flags};

use crate::draft::{HEADER, Label, cursor, grow, open, place, seal, within};
use crate::kernel::{pointer, read};
use crate::maps::Scratch;

/// Offsets in this kernel's structures.
#[unsafe(no_mangle)]
static LABEL_LAYOUT: LabelLayout = LabelLayout {
    blobs: 0,
    blobs_cred: 0,
    cred_security: 0,
    label_name: 0,
    label_size: 0,
    label_profiles: 0,
    profile_namespace: 0,
    namespace_parent: 0,
    padding: 0,
};

/// One offset of [`LABEL_LAYOUT`].
macro_rules! label {
    ($field:ident) => {
        // SAFETY: a field of a static; volatile because the loader puts in the truth.
        unsafe { core::ptr::read_volatile(&raw const LABEL_LAYOUT.$field) }
    };
}

/// Appends the label of who has the credentials `cred`.
#[inline(never)]
pub(crate) fn push(scratch: *mut Scratch, cred: u64) {
    const NAME: u64 = LabelLayout::NAME_BYTES as u64;
    let string = Label {
        kind: StringKind::Subject as u8,
        argument: 0,
    };
    let blobs = label!(blobs);
    if blobs == 0 {
        return;
    }
    let at: u32 = read(blobs, label!(blobs_cred));
    let subject = pointer(pointer(cred, label!(cred_security)), at);
    let size: u32 = read(subject, label!(label_size));
    let profile = pointer(subject, label!(label_profiles));
    let namespace = pointer(profile, label!(profile_namespace));
    let parent = pointer(namespace, label!(namespace_parent));
    if subject == 0 || size != 1 || namespace == 0 || parent != 0 {
        return;
    }
    let Some(at) = within(cursor(scratch), NAME) else {
        return;
    };
    open(scratch);
    let name = pointer(subject, label!(label_name));
    // SAFETY: `within` left room for it; the helper checks the address itself.
    let length = unsafe {
        bpf_probe_read_kernel_str(
            place(scratch, at + HEADER).cast(),
            NAME as u32,
            name as *const _,
        )
    };
    if length <= 1 {
        return;
    }
    grow(scratch, length as u64 - 1);
    let flags = if length == NAME as i64 {
        string_flags::TRUNCATED
    } else {
        0
    };
    seal(scratch, string, flags);
}
