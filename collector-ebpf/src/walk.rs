//! Paths of files, by walking from the name up to the task's root, as `d_path()` does (fs/d_path.c).
//!
//! The names come out from the last to the first; the collector turns them round. bpf_d_path() would be simpler, but
//! is allowed in a few hooks only.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use collector_ebpf::string_flags;

use crate::draft::{HEADER, Label, cursor, end, grow, open, place, seal, unreadable, within};
use crate::kernel::{pointer, read};
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
    let label = Label {
        kind: kind as u8,
        argument: 0,
    };
    let [root_vfsmount, root_dentry]: [u64; 2] = read(fs, offset!(fs_root));
    let [mut vfsmount, mut dentry]: [u64; 2] = read(path, 0);
    if dentry == 0 || vfsmount == 0 {
        unreadable(scratch, label);
        return;
    }
    let mut flags = string_flags::COMPONENTS | string_flags::TRUNCATED;
    let mut mount_root = pointer(vfsmount, offset!(vfsmount_root));
    if dentry != mount_root && pointer(dentry, offset!(dentry_hash_pprev)) == 0 {
        flags |= string_flags::DELETED;
    }
    open(scratch);
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
        let Some(at) = within(end(scratch), NAME_BYTES) else {
            break;
        };
        let [parent, name] = parent_and_name(dentry);
        // SAFETY: `within` left room for the longest name; the helper checks `name` itself.
        let length = unsafe {
            bpf_probe_read_kernel_str(
                place(scratch, at).cast(),
                NAME_BYTES as u32,
                name as *const _,
            )
        };
        if length <= 0 || at - cursor(scratch) - HEADER + length as u64 > PATH_BYTES {
            break;
        }
        grow(scratch, length as u64);
        if parent == dentry {
            // Neither the root of its mount nor below anything: a memfd or the like.
            flags &= !(string_flags::TRUNCATED | string_flags::DELETED);
            flags |= string_flags::DETACHED;
            break;
        }
        dentry = parent;
    }
    seal(scratch, label, flags);
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
