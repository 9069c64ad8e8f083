//! Paths of files, by walking from the name up to the task's root, as `d_path()` does (fs/d_path.c).
//!
//! The names come out from the last to the first; the collector turns them round. bpf_d_path() would be simpler, but
//! is allowed in a few hooks only.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use collector_ebpf::string_flags;

use crate::draft::{HEADER, Label, cursor, end, grow, open, place, seal, unreadable, within};
use crate::kernel::{load, pointer, read};
use crate::maps::{Scratch, offset};

/// Names and mounts passed on one path; a longer one is marked as truncated.
const MAX_STEPS: u32 = 64;
/// The longest name with its NUL (NAME_MAX of include/uapi/linux/limits.h).
const NAME_BYTES: u64 = 256;
/// Names with their NULs on one path, as long as the kernel itself prints paths (PATH_MAX); a longer one is marked as
/// truncated. Whoever nests directories deeper must not take the room of the strings that follow.
const PATH_BYTES: u64 = 4096;

/// Appends a path to the strings.
///
/// `path` is the address of a `struct path` in the kernel, `fs` that of the task's `struct fs_struct`, whose root is
/// where printed paths begin. A function of its own (not inlined) because the code grows with every copy.
#[inline(never)]
pub(crate) fn push(scratch: *mut Scratch, kind: u64, path: u64, fs: u64) {
    let root = read(fs, offset!(fs_root));
    let [vfsmount, dentry]: [u64; 2] = read(path, 0);
    if dentry == 0 || vfsmount == 0 {
        unreadable(scratch, label(kind));
        return;
    }
    let mount_root = pointer(vfsmount, offset!(vfsmount_root));
    let unhashed = pointer(dentry, offset!(dentry_hash_pprev)) == 0;
    let flags = begun(dentry != mount_root && unhashed);
    open(scratch);
    let at = Place { vfsmount, dentry };
    ascend(scratch, kind, at, root, flags);
}

/// The same where the verifier knows the types of `path` and `fs` (see [`load`]); as far as the path is within one mount, which
/// most are to their end, it is walked without calls of helpers but for the names.
#[inline(never)]
pub(crate) fn push_typed(scratch: *mut Scratch, kind: u64, path: u64, fs: u64) {
    let root_vfsmount: u64 = load(fs, offset!(fs_root));
    let root_dentry: u64 = load(fs, offset!(fs_root) + 8);
    let vfsmount: u64 = load(path, 0);
    let mut dentry: u64 = load(path, 8);
    if dentry == 0 || vfsmount == 0 {
        unreadable(scratch, label(kind));
        return;
    }
    let mount_root: u64 = load(vfsmount, offset!(vfsmount_root));
    let unhashed = load::<u64>(dentry, offset!(dentry_hash_pprev)) == 0;
    let flags = begun(dentry != mount_root && unhashed);
    open(scratch);
    for _ in 0..MAX_STEPS {
        let parent: u64 = load(dentry, offset!(dentry_parent));
        if dentry == mount_root || dentry == root_dentry || dentry == parent {
            let at = Place { vfsmount, dentry };
            ascend(scratch, kind, at, [root_vfsmount, root_dentry], flags);
            return;
        }
        let name: u64 = load(dentry, offset!(dentry_name));
        if !push_name(scratch, name) {
            break;
        }
        dentry = parent;
    }
    seal(scratch, label(kind), flags);
}

/// How far a walk has come.
#[derive(Clone, Copy)]
struct Place {
    vfsmount: u64,
    dentry: u64,
}

/// Walks from `at` to the root, a vfsmount and a dentry, and completes the string.
#[inline(always)]
fn ascend(scratch: *mut Scratch, kind: u64, at: Place, root: [u64; 2], flags: u8) {
    let [root_vfsmount, root_dentry] = root;
    let Place {
        mut vfsmount,
        mut dentry,
    } = at;
    let mut flags = flags;
    let mut mount_root = pointer(vfsmount, offset!(vfsmount_root));
    for _ in 0..MAX_STEPS {
        if dentry == root_dentry && vfsmount == root_vfsmount {
            flags &= !string_flags::TRUNCATED;
            break;
        }
        if dentry == mount_root {
            let mount = vfsmount - u64::from(offset!(mount_mnt));
            let parent = pointer(mount, offset!(mount_parent));
            if parent == mount {
                flags &= !string_flags::TRUNCATED;
                break;
            }
            dentry = pointer(mount, offset!(mount_mountpoint));
            vfsmount = parent + u64::from(offset!(mount_mnt));
            mount_root = pointer(vfsmount, offset!(vfsmount_root));
            continue;
        }
        let [parent, name] = parent_and_name(dentry);
        if !push_name(scratch, name) {
            break;
        }
        if parent == dentry {
            // Neither the root of its mount nor below anything: a memfd or the like.
            flags &= !(string_flags::TRUNCATED | string_flags::DELETED);
            flags |= string_flags::DETACHED;
            break;
        }
        dentry = parent;
    }
    seal(scratch, label(kind), flags);
}

#[inline(always)]
fn label(kind: u64) -> Label {
    Label {
        kind: kind as u8,
        argument: 0,
    }
}

/// The flags of a string whose end has not been reached.
#[inline(always)]
fn begun(deleted: bool) -> u8 {
    let flags = string_flags::COMPONENTS | string_flags::TRUNCATED;
    if deleted {
        flags | string_flags::DELETED
    } else {
        flags
    }
}

/// Appends the name at the address `name` to the string at hand; false where there is no room for it.
#[inline(always)]
fn push_name(scratch: *mut Scratch, name: u64) -> bool {
    let Some(at) = within(end(scratch), NAME_BYTES) else {
        return false;
    };
    // SAFETY: `within` left room for the longest name; the helper checks `name` itself.
    let length = unsafe {
        bpf_probe_read_kernel_str(
            place(scratch, at).cast(),
            NAME_BYTES as u32,
            name as *const _,
        )
    };
    if length <= 0 || at - cursor(scratch) - HEADER + length as u64 > PATH_BYTES {
        return false;
    }
    grow(scratch, length as u64);
    true
}

/// `d_parent` and `d_name.name`. In every kernel so far they stand close enough for one read.
#[inline(always)]
fn parent_and_name(dentry: u64) -> [u64; 2] {
    if offset!(dentry_name) == offset!(dentry_parent) + 16 {
        let [parent, _hash, name]: [u64; 3] = read(dentry, offset!(dentry_parent));
        [parent, name]
    } else {
        [
            pointer(dentry, offset!(dentry_parent)),
            pointer(dentry, offset!(dentry_name)),
        ]
    }
}
