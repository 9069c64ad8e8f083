//! The file that a call's result names: what audit tells of it, where it stands, and what stands above it.
//!
//! Read at the exit through the task's table of open files. Another thread may have closed or replaced the descriptor
//! by then; the kernel keeps no trace of the file that was there before.

use collector_ebpf::{FileFacts, InFlight, LINEAGE, Plan, Slot, StringKind, string_flags};

use crate::draft::{
    HEADER, Label, cursor, end, grow, no_room, open, place, seal, unreadable, within,
};
use crate::kernel::{current, load, pointer, read};
use crate::maps::{Scratch, offset};
use crate::walk;

/// `O_ACCMODE` without `O_RDONLY`: the file was opened for writing, so its directory may be part of the event too.
const WRITES: u32 = 3;

/// What is told of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What a PATH record has, and its path where the call created it: the kernel's records then depend on that.
    Records,
    /// And what rules ask: what stands above it, and also the path of a file that was there but could have been created.
    Rules,
}

/// Appends what is known of the file behind `descriptor`.
#[inline(always)]
pub(crate) fn push(scratch: *mut Scratch, descriptor: u64, fs: u64, depth: Depth) {
    let file = file_of(descriptor);
    let path = file + u64::from(offset!(file_path));
    // A `struct path` is the pointers `mnt` and `dentry`.
    let dentry = pointer(path, 8);
    // The kernel's `d_backing_inode()`, which is where audit looks.
    let inode = pointer(dentry, offset!(dentry_inode));
    if file == 0 || inode == 0 {
        let label = Label {
            kind: StringKind::Opened as u8,
            argument: 0,
        };
        unreadable(scratch, label);
        return;
    }
    let flags: u32 = read(file, offset!(file_flags));
    let mode: u32 = read(file, offset!(file_mode));
    push_file(
        scratch,
        StringKind::Opened as u64,
        u64::from(mode) << 32 | u64::from(flags),
        inode,
    );
    let writes = flags & WRITES | mode & FileFacts::CREATED != 0;
    if writes {
        let parent = pointer(dentry, offset!(dentry_parent));
        let inode = pointer(parent, offset!(dentry_inode));
        push_file(scratch, StringKind::Opened as u64 | 1 << 8, 0, inode);
    }
    if mode & FileFacts::CREATED != 0 || writes && depth == Depth::Rules {
        walk::push(scratch, StringKind::OpenedPath as u64, path, fs);
    }
    if depth == Depth::Rules {
        push_lineage(scratch, dentry, StringKind::Lineage as u64);
    }
}

/// Appends what stands above the directories where the paths of a call begin, or above the file it is about: what the
/// kernel noted may be among that.
#[inline(always)]
pub(crate) fn push_standing(scratch: *mut Scratch, in_flight: *const InFlight, fs: u64, exe: u64) {
    // SAFETY: a valid map element.
    let (plan, args) = unsafe { ((*in_flight).plan, &(*in_flight).args) };
    if plan.flags & Plan::TAKES_FILE != 0 {
        push_standing_of(scratch, file_of(args[0] & 0xffff_ffff), 0);
        return;
    }
    if plan.flags & Plan::EXEC != 0 {
        push_standing_of(scratch, exe, 0);
    }
    for which in 0..2 {
        let argument = plan.paths[which];
        // SAFETY: as above.
        let slot = unsafe { &raw const (*in_flight).slots[which] };
        if argument != 0 && !is_absolute(slot) {
            // The descriptor of a directory comes before the path; what is none of a file is not looked at.
            let descriptor = if argument > 1 {
                args[usize::from(argument.wrapping_sub(2) & 7)] & 0xffff_ffff
            } else {
                u64::MAX
            };
            push_standing_of(scratch, file_of(descriptor), fs);
        }
    }
}

/// Appends where `file` stands; where there is none, the working directory of `fs`.
#[inline(never)]
fn push_standing_of(scratch: *mut Scratch, file: u64, fs: u64) {
    let path = if file != 0 {
        file + u64::from(offset!(file_path))
    } else {
        fs + u64::from(offset!(fs_pwd))
    };
    if file != 0 || fs != 0 {
        push_lineage(scratch, pointer(path, 8), StringKind::Standing as u64);
    }
}

/// Whether the path kept at the entry begins at the root.
#[inline(always)]
fn is_absolute(slot: *const Slot) -> bool {
    // SAFETY: in a valid map element.
    unsafe { (*slot).flags & Slot::FILLED != 0 && (*slot).bytes[0] == b'/' }
}

/// Appends the [`FileFacts`] of the executable of `mm`.
#[inline(always)]
pub(crate) fn push_exe(scratch: *mut Scratch, file: u64) {
    let inode = pointer(file, offset!(file_inode));
    push_file(scratch, StringKind::ExeFile as u64, 0, inode);
}

/// The file of a descriptor, or 0.
#[inline(always)]
fn file_of(descriptor: u64) -> u64 {
    let files: u64 = load(current(), offset!(task_files));
    let table: u64 = load(files, offset!(files_fdt));
    if descriptor >= u64::from(load::<u32>(table, offset!(fdt_max_fds))) {
        return 0;
    }
    pointer(load::<u64>(table, offset!(fdt_fd)) + descriptor * 8, 0)
}

/// Appends the [`FileFacts`] of `inode`. `label` is the kind, and the argument above eight bits; `how` is the `f_flags` of
/// an open file, and its `f_mode` above 32 bits.
#[inline(never)]
fn push_file(scratch: *mut Scratch, label: u64, how: u64, inode: u64) {
    let label = Label {
        kind: label as u8,
        argument: (label >> 8) as u8,
    };
    if inode == 0 {
        unreadable(scratch, label);
        return;
    }
    let Some(at) = within(cursor(scratch), size_of::<FileFacts>() as u64) else {
        no_room(scratch, label);
        return;
    };
    open(scratch);
    let block = pointer(inode, offset!(inode_sb));
    let [mode, uid, gid] = mode_and_owner(inode);
    let facts = FileFacts {
        inode: read(inode, offset!(inode_ino)),
        magic: read(block, offset!(sb_magic)),
        dev: read(block, offset!(sb_dev)),
        rdev: read(inode, offset!(inode_rdev)),
        uid,
        gid,
        mode,
        open_flags: how as u32,
        open_mode: (how >> 32) as u32,
        padding: 0,
    };
    // SAFETY: `within` left room for it.
    unsafe {
        place(scratch, at + HEADER)
            .cast::<FileFacts>()
            .write_unaligned(facts);
    }
    grow(scratch, size_of::<FileFacts>() as u64);
    seal(scratch, label, 0);
}

/// `i_mode`, `i_uid` and `i_gid`. In every kernel so far they stand close enough for one read.
#[inline(always)]
fn mode_and_owner(inode: u64) -> [u32; 3] {
    if offset!(inode_uid) == offset!(inode_mode) + 4 {
        let [mode, uid, gid]: [u32; 3] = read(inode, offset!(inode_mode));
        [mode & 0xffff, uid, gid]
    } else {
        let [uid, gid]: [u32; 2] = read(inode, offset!(inode_uid));
        let mode: u16 = read(inode, offset!(inode_mode));
        [u32::from(mode), uid, gid]
    }
}

/// Appends the inode numbers from `dentry` up to the root of its file system, as kernel/auditsc.c `handle_path` passes
/// them: mounts do not count. A `kind` of [`StringKind::Standing`] has the device before them.
#[inline(never)]
fn push_lineage(scratch: *mut Scratch, dentry: u64, kind: u64) {
    let label = Label {
        kind: kind as u8,
        argument: 0,
    };
    let mut dentry = dentry;
    let mut flags = string_flags::TRUNCATED;
    open(scratch);
    if kind == StringKind::Standing as u64
        && let Some(at) = within(end(scratch), 8)
    {
        let block = pointer(pointer(dentry, offset!(dentry_inode)), offset!(inode_sb));
        let dev: u32 = read(block, offset!(sb_dev));
        // SAFETY: as below.
        unsafe {
            place(scratch, at)
                .cast::<u64>()
                .write_unaligned(u64::from(dev));
        }
        grow(scratch, 8);
    }
    for _ in 0..LINEAGE {
        let Some(at) = within(end(scratch), 8) else {
            break;
        };
        let inode = pointer(dentry, offset!(dentry_inode));
        let number: u64 = read(inode, offset!(inode_ino));
        // SAFETY: `within` left room for a header and more than eight bytes.
        unsafe { place(scratch, at).cast::<u64>().write_unaligned(number) };
        grow(scratch, 8);
        let parent = pointer(dentry, offset!(dentry_parent));
        if parent == dentry || inode == 0 {
            flags &= !string_flags::TRUNCATED;
            break;
        }
        dentry = parent;
    }
    seal(scratch, label, flags);
}
