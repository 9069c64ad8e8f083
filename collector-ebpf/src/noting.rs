//! What the kernel noted for the records of a call, as the hooks on the audit code find it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offsets that only the kernel's own records need: where one is missing the programs do without all of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NotingLayout {
    /// 1 where the others are known.
    pub known: u32,
    /// `audit_context.proctitle.len`
    pub title_length: u32,
    /// `audit_context.proctitle.value`
    pub title: u32,
    /// `audit_context.name_count`
    pub name_count: u32,
    /// `audit_context.names_list`: a `struct list_head`
    pub names: u32,
    /// `audit_context.type`
    pub kind: u32,
    /// The union behind it, where each kind keeps what is its own
    pub special: u32,
    /// `audit_context.fds`
    pub descriptors: u32,
    /// `audit_context.aux`
    pub aux: u32,
    /// `audit_context.aux_pids`
    pub aux_pids: u32,
    /// `audit_context.target_pid`, followed by auid, uid and session
    pub target: u32,
    /// `audit_context.target_comm`
    pub target_comm: u32,
    /// `audit_names.list`
    pub name_list: u32,
    /// `audit_names.name`
    pub name_text: u32,
    /// `audit_names.name_len`
    pub name_length: u32,
    /// `audit_names.hidden`
    pub name_hidden: u32,
    /// `audit_names.ino`, followed by dev, mode, uid, gid and rdev
    pub name_inode: u32,
    /// `audit_names.fcap.permitted`, followed by the inheritable ones
    pub name_permitted: u32,
    /// `audit_names.fcap.fE`
    pub name_effective: u32,
    /// `audit_names.fcap.rootid`
    pub name_root: u32,
    /// `audit_names.fcap_ver`
    pub name_version: u32,
    /// `audit_names.type`
    pub name_role: u32,
    /// `filename.name`
    pub filename_text: u32,
    /// Zero.
    pub padding: u32,
}

/// What a record needs of the audit context beside names: the first string that is kept.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ContextFacts {
    /// `name_count`
    pub names: u32,
    /// `type`: the type of the record that only some calls have, 0 for none.
    pub kind: u32,
    /// `fds`; the first is negative where there are none.
    pub descriptors: [i32; 2],
    /// The beginning of what that kind keeps.
    pub special: [u64; 4],
    /// `target_pid`, auid, uid and session of the process a signal went to; the first is 0 where there is none.
    pub target: [u32; 4],
    /// Its name.
    pub target_comm: [u8; 16],
    /// See the constants.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}

impl ContextFacts {
    /// There are records of capabilities gained by a program.
    pub const AUX: u32 = 1;
    /// More than one process was the target.
    pub const AUX_PIDS: u32 = 2;
}

/// One entry of `names_list` (`struct audit_names` of kernel/audit.h). The text of its name follows, where it has one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NameEntry {
    /// `ino`; all ones where no file was found.
    pub inode: u64,
    /// `fcap.permitted`
    pub permitted: u64,
    /// `fcap.inheritable`
    pub inheritable: u64,
    /// `dev`: major above 20 bits of minor.
    pub dev: u32,
    /// `mode`
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `rdev`
    pub rdev: u32,
    /// `name_len`: how many bytes of the name are printed, -1 for all; 0 is the working directory.
    pub printed: i32,
    /// `fcap_ver`; all ones where the capabilities were not looked at.
    pub version: u32,
    /// `fcap.rootid`
    pub root: u32,
    /// `fcap.fE`
    pub effective: u8,
    /// `type`
    pub role: u8,
    /// `hidden`: it has no record.
    pub hidden: u8,
    /// 1 where it has a name.
    pub named: u8,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<NotingLayout>() == 24 * 4);
const _: () = assert!(size_of::<ContextFacts>() == 88);
const _: () = assert!(size_of::<NameEntry>() == 64);

/// The most names that are kept of a call.
pub const KEPT_NAMES: usize = 12;
/// The most bytes of a name's text that are kept, with a NUL.
pub const KEPT_TEXT: usize = 512;
/// Bytes of all that is kept of a call.
pub const KEPT_BYTES: usize = 4096;

/// One value of the map `KEPT`: strings of a sample to be, from the moment the kernel writes an event to the call's end, when
/// the audit context holds them no more.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Kept {
    /// Bytes in use, these eight included.
    pub length: u64,
    /// The strings, each behind its header.
    pub strings: [u8; KEPT_BYTES - 8],
}

const _: () = assert!(size_of::<Kept>() == KEPT_BYTES);

/// Where AppArmor keeps the label of a task; all zeros where it does not label tasks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct LabelLayout {
    /// The address of `apparmor_blob_sizes`.
    pub blobs: u64,
    /// `lsm_blob_sizes.lbs_cred`
    pub blobs_cred: u32,
    /// `cred.security`
    pub cred_security: u32,
    /// `aa_label.hname`
    pub label_name: u32,
    /// `aa_label.size`
    pub label_size: u32,
    /// `aa_label.vec`
    pub label_profiles: u32,
    /// `aa_profile.ns`
    pub profile_namespace: u32,
    /// `aa_ns.parent`
    pub namespace_parent: u32,
    /// Zero.
    pub padding: u32,
}

impl LabelLayout {
    /// The most bytes of a label that are told, with a NUL.
    pub const NAME_BYTES: usize = 256;
}

const _: () = assert!(size_of::<LabelLayout>() == 40);
