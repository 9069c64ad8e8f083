//! The file that a call's result names: what audit tells of it, where it stands, and what stands above it.
//!
//! Read at the exit through the task's table of open files. Another thread may have closed or replaced the descriptor
//! by then; the kernel keeps no trace of the file that was there before.

use collector_ebpf::{FileFacts, LINEAGE, StringKind, string_flags};

use crate::draft::{
    HEADER, Label, cursor, end, grow, no_room, open, place, seal, unreadable, within,
};
use crate::kernel::{pointer, read};
use crate::maps::{Scratch, offset};
use crate::walk;

/// `O_ACCMODE` without `O_RDONLY`: the file was opened for writing, so its directory may be part of the event too.
const WRITES: u32 = 3;

/// What is told of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Itself, its directory where that may be part of the event, its path.
    Itself,
    /// And what stands above it.
    Lineage,
}

/// Appends what is known of the file behind `descriptor`.
#[inline(always)]
pub(crate) fn push(scratch: *mut Scratch, task: u64, descriptor: u64, fs: u64, depth: Depth) {
    let file = file_of(task, descriptor);
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
    push_file(scratch, StringKind::Opened as u64, file, inode);
    let flags: u32 = read(file, offset!(file_flags));
    let mode: u32 = read(file, offset!(file_mode));
    if flags & WRITES | mode & FileFacts::CREATED != 0 {
        let parent = pointer(dentry, offset!(dentry_parent));
        let inode = pointer(parent, offset!(dentry_inode));
        push_file(scratch, StringKind::Opened as u64 | 1 << 8, 0, inode);
    }
    walk::push(scratch, StringKind::OpenedPath as u64, path, fs);
    if depth == Depth::Lineage {
        push_lineage(scratch, dentry);
    }
}

/// Appends the [`FileFacts`] of the executable of `mm`.
#[inline(always)]
pub(crate) fn push_exe(scratch: *mut Scratch, file: u64) {
    let inode = pointer(file, offset!(file_inode));
    push_file(scratch, StringKind::ExeFile as u64, 0, inode);
}

/// The file of a descriptor, or 0.
#[inline(always)]
fn file_of(task: u64, descriptor: u64) -> u64 {
    let table = pointer(pointer(task, offset!(task_files)), offset!(files_fdt));
    if descriptor >= u64::from(read::<u32>(table, offset!(fdt_max_fds))) {
        return 0;
    }
    pointer(pointer(table, offset!(fdt_fd)) + descriptor * 8, 0)
}

/// Appends the [`FileFacts`] of `inode`, and of the open file `file` where that is not 0. `label` is the kind, and the
/// argument above eight bits.
#[inline(never)]
fn push_file(scratch: *mut Scratch, label: u64, file: u64, inode: u64) {
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
    let [uid, gid]: [u32; 2] = read(inode, offset!(inode_uid));
    let mut facts = FileFacts {
        inode: read(inode, offset!(inode_ino)),
        magic: read(block, offset!(sb_magic)),
        dev: read(block, offset!(sb_dev)),
        rdev: read(inode, offset!(inode_rdev)),
        uid,
        gid,
        mode: u32::from(read::<u16>(inode, offset!(inode_mode))),
        open_flags: 0,
        open_mode: 0,
        padding: 0,
    };
    if file != 0 {
        facts.open_flags = read(file, offset!(file_flags));
        facts.open_mode = read(file, offset!(file_mode));
    }
    // SAFETY: `within` left room for it.
    unsafe {
        place(scratch, at + HEADER)
            .cast::<FileFacts>()
            .write_unaligned(facts);
    }
    grow(scratch, size_of::<FileFacts>() as u64);
    seal(scratch, label, 0);
}

/// Appends the inode numbers from `dentry` up to the root of its file system, as kernel/auditsc.c `handle_path` passes
/// them: mounts do not count.
#[inline(never)]
fn push_lineage(scratch: *mut Scratch, dentry: u64) {
    let label = Label {
        kind: StringKind::Lineage as u8,
        argument: 0,
    };
    let mut dentry = dentry;
    let mut flags = string_flags::TRUNCATED;
    open(scratch);
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
