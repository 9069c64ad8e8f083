//! Which files audit notes for a call (`names_list` in kernel/audit.h), as far as an observation tells.
//!
//! Owns what fs/namei.c and fs/open.c tell audit about opening a file (6.12); must not know rules. Only the calls that
//! leave a file descriptor are known: of the others the list is unknown, and says so.

use crate::audit::arch::Arch;
use crate::probe::calls;
use crate::probe::observation::{Captured, FileInode, Observation, OpenedFile};

/// What a file is to a call (`AUDIT_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was looked up.
    Normal,
    /// It is the directory of what was to be found or created.
    Parent,
    /// It was created.
    Create,
}

impl Role {
    /// `nametype=` of a PATH record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Parent => "PARENT",
            Self::Create => "CREATE",
        }
    }
}

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The file.
    pub inode: FileInode,
    /// What it is to the call.
    pub role: Role,
    /// Whether it is surely on the list.
    pub certain: bool,
}

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Entries in the kernel's order.
    pub known: Vec<Name>,
    /// Whether there are no others.
    pub complete: bool,
    /// Whether it is known which directories are on it, although there may be other entries.
    pub directories_known: bool,
}

/// Open flags as include/uapi/asm-generic/fcntl.h has them; the same on every machine this runs on.
const O_WRITES: u64 = 0o3;
const O_CREAT: u64 = 0o100;
const O_EXCL: u64 = 0o200;
/// `__O_TMPFILE`
const TMPFILE: u64 = 0o20_000_000;

/// `O_NOFOLLOW`, which arm machines number otherwise (arch/arm64/include/uapi/asm/fcntl.h).
const fn no_follow(arch: Arch) -> u64 {
    if matches!(arch, Arch::AARCH64 | Arch::ARM) {
        0o100_000
    } else {
        0o400_000
    }
}

const AT_FDCWD: u32 = -100_i32 as u32;

/// `S_IFMT` and the types whose opening does nothing else: a terminal multiplexer, for one, creates a file in another place.
const TYPE: u16 = 0o170_000;
const PLAIN_TYPES: [u16; 4] = [0o100_000, 0o040_000, 0o010_000, 0o120_000];

/// `OVERLAYFS_SUPER_MAGIC`: opened for writing, it creates files elsewhere under the same call.
const OVERLAY: u64 = 0x794c_7630;
/// File systems that open a file without passing through another one (include/uapi/linux/magic.h), and whose numbers
/// are those that stat(2) tells.
const PLAIN_FILE_SYSTEMS: [u64; 9] = [
    0xef53,      // ext2 to ext4
    0x5846_5342, // xfs
    0xf2f5_2010, // f2fs
    0x0102_1994, // tmpfs, also devtmpfs
    0x8584_58f6, // ramfs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x9fa0,      // proc
    0x6265_6572, // sysfs
];

/// Whether a file system is known to number its files as stat(2) tells, and to do nothing else when one is opened.
pub(super) fn is_plain(magic: u64) -> bool {
    PLAIN_FILE_SYSTEMS.contains(&magic)
}

/// The list for `seen`.
pub fn of(seen: &Observation) -> Names {
    let arch = Arch(seen.arch);
    if calls::names_no_file(arch, seen.syscall) {
        return Names {
            known: Vec::new(),
            complete: true,
            directories_known: true,
        };
    }
    match &seen.opened {
        Some(opened) => of_opened(seen, opened),
        None => Names::default(),
    }
}

fn of_opened(seen: &Observation, opened: &OpenedFile) -> Names {
    let asked = open_flags(seen);
    let plain_file = PLAIN_TYPES.contains(&(opened.inode.mode & TYPE));
    let flags = u64::from(opened.flags);
    let plain_system = is_plain(opened.inode.magic)
        || opened.inode.magic == OVERLAY && flags & O_WRITES == 0 && !opened.created;
    let plain = plain_file && plain_system && flags & TMPFILE == 0;
    let role = if opened.created {
        Role::Create
    } else {
        Role::Normal
    };
    let mut names = Names {
        known: vec![Name {
            inode: opened.inode,
            role,
            certain: true,
        }],
        complete: false,
        directories_known: false,
    };
    // Looking for a place to create a file in notes each directory that a link at the end of the path led through, the
    // last of them only where the file was not in the kernel's cache.
    let creating = asked.is_none_or(|asked| asked & O_CREAT != 0);
    if !creating {
        names.complete = plain;
        names.directories_known = true;
        return names;
    }
    let follows = asked.is_none_or(|asked| asked & (O_EXCL | no_follow(Arch(seen.arch))) == 0);
    if let Some(directory) = opened.directory {
        let parent = Name {
            inode: directory,
            role: Role::Parent,
            certain: opened.created,
        };
        names.known.insert(0, parent);
        names.complete = plain && (!follows || leads_straight(seen, opened));
        names.directories_known = names.complete && parent.certain;
    }
    names
}

/// Whether the call does nothing with its path but look it up, whole: then what is not found is noted by name only.
pub fn only_looks_up(seen: &Observation) -> bool {
    let Some(name) = Arch(seen.arch).syscall_name(seen.syscall) else {
        return false;
    };
    match name {
        "open" | "openat" | "creat" => open_flags(seen).is_some_and(|asked| asked & O_CREAT == 0),
        "access" | "faccessat" | "faccessat2" | "stat" | "lstat" | "stat64" | "lstat64"
        | "newfstatat" | "fstatat64" | "statx" | "statfs" | "statfs64" | "readlink"
        | "readlinkat" | "chdir" | "chmod" | "fchmodat" | "chown" | "lchown" | "chown32"
        | "lchown32" | "fchownat" | "truncate" | "truncate64" | "execve" => true,
        _ => false,
    }
}

/// The open flags in the call's arguments; none where they are in memory (openat2).
fn open_flags(seen: &Observation) -> Option<u64> {
    const CREAT: u64 = O_CREAT | 0o1 | 0o1000;
    match Arch(seen.arch).syscall_name(seen.syscall)? {
        "open" => Some(seen.args[1]),
        "openat" => Some(seen.args[2]),
        "creat" => Some(CREAT),
        _ => None,
    }
}

/// Whether the path that the call named is, taken by its letters, the one where the file stands: then no link at its end
/// led elsewhere.
fn leads_straight(seen: &Observation, opened: &OpenedFile) -> bool {
    let Some(named) = seen.paths.first().and_then(|path| path.path.whole()) else {
        return false;
    };
    let Captured::Whole(stands) = &opened.path else {
        return false;
    };
    let takes_directory = seen.paths[0].argument == 1;
    let mut from: &[u8] = &[];
    if !named.starts_with(b"/") {
        if takes_directory && seen.args[0] as u32 != AT_FDCWD {
            return false;
        }
        let Captured::Whole(cwd) = &seen.cwd else {
            return false;
        };
        from = cwd;
    }
    let names = |path| components(path).filter(|name| *name != b".");
    !components(named).any(|name| name == b"..")
        && names(from).chain(names(named)).eq(components(stands))
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
}

/// What a PATH record of a directory has for a name: the path as far as its last slash, or else the working directory
/// (kernel/auditfilter.c `parent_len`, kernel/auditsc.c `audit_log_name`).
pub fn directory_part(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let slash = path[..end].iter().rposition(|byte| *byte == b'/')?;
    Some(&path[..=slash])
}
