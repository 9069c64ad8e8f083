//! Which files audit notes for a call (`names_list` in kernel/audit.h), as far as an observation tells.
//!
//! Owns what fs/namei.c, fs/open.c and fs/xattr.c tell audit about files (6.12); must not know rules. What the kernel
//! noted is read from the task's audit context after the call, where entries of calls before may stand behind those of
//! this one: how many are this one's follows from the call, its result, and what differs from before. Where that was not
//! read, what a call opened tells something.

use smallvec::{SmallVec, smallvec};

use crate::audit::arch::Arch;
use crate::probe::calls::{self, Noting};
use crate::probe::observation::{Captured, Extent, FileInode, NotedName, Observation, OpenedFile};

pub use crate::probe::observation::Role;

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The file.
    pub inode: FileInode,
    /// What it is to the call.
    pub role: Role,
    /// Whether it is surely on the list.
    pub certain: bool,
    /// The path of the call that it belongs to, by the first entry that has the same. A directory that belongs to none was
    /// not looked up, and nothing above it counts.
    pub name: Option<u8>,
}

impl Name {
    /// The number in place of that of a file which was not found (`AUDIT_INO_UNSET`).
    pub const NO_INODE: u64 = u64::MAX;

    /// The file, where one was found.
    pub fn found(&self) -> Option<&FileInode> {
        Some(&self.inode).filter(|inode| inode.number != Self::NO_INODE)
    }
}

/// Entries of the list: most calls have no more than a file and the directory it stands in.
pub type Entries = SmallVec<[Name; 2]>;

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Entries in the kernel's order.
    pub known: Entries,
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
    // What io_uring did names files of its own, and no call did where there was none.
    if !seen.operations.is_empty() {
        return Names::default();
    }
    if calls::names_no_file(arch, seen.syscall) {
        return Names {
            known: SmallVec::new(),
            complete: true,
            directories_known: true,
        };
    }
    let noted = seen
        .noted
        .as_deref()
        .and_then(|noted| of_noted(seen, noted));
    noted.unwrap_or_else(|| match &seen.opened {
        Some(opened) => of_opened(seen, opened),
        None => Names::default(),
    })
}

/// How many entries of the list are the call's.
struct Share {
    /// So many surely.
    least: usize,
    /// No more than so many.
    most: usize,
}

/// More than there is room for.
const MANY: usize = usize::MAX;

/// The list from what was found in the audit context; none where that is not the call's.
fn of_noted(seen: &Observation, noted: &[Option<NotedName>]) -> Option<Names> {
    let noting = calls::noting(Arch(seen.arch), seen.syscall);
    let opens = noting == Noting::Open;
    // The programs keep no earlier state of calls that open files.
    let changed = if opens || seen.extent != Extent::Whole {
        0
    } else {
        let changed = |name: &Option<NotedName>| name.is_some_and(|name| name.changed);
        noted.iter().rposition(changed).map_or(0, |last| last + 1)
    };
    let mut share = share(seen, noted, noting);
    let as_expected = changed <= share.most;
    share.least = share.least.max(changed);
    let mut known: Entries = noted
        .iter()
        .take(share.most.max(changed))
        .enumerate()
        .filter_map(|(place, name)| {
            name.map(|name| Name {
                inode: name.inode,
                role: name.role,
                certain: place < share.least,
                name: name.name,
            })
        })
        .collect();
    let mut complete = as_expected && (share.most <= noted.len() || noted.last() == Some(&None));
    if let Some(opened) = &seen.opened {
        // What was opened is among them, or this is left of another call.
        let itself = |name: &&mut Name| {
            matches!(name.role, Role::Normal | Role::Create)
                && (name.inode.number, name.inode.dev) == (opened.inode.number, opened.inode.dev)
        };
        let name = known.iter_mut().find(itself)?;
        name.certain = true;
        name.inode.magic = opened.inode.magic;
        complete &= opens_nothing_else(opened);
    }
    Some(Names {
        directories_known: complete,
        known,
        complete,
    })
}

fn share(seen: &Observation, noted: &[Option<NotedName>], noting: Noting) -> Share {
    let exactly = |count| Share {
        least: count,
        most: count,
    };
    let succeeded = seen.result.is_some_and(|result| result >= 0);
    // The same text twice is one entry (`__audit_reusename`).
    let pointers = (seen.paths.first(), seen.paths.get(1));
    let one_text = matches!(pointers, (Some(one), Some(other))
        if seen.args[usize::from(one.argument & 3)] == seen.args[usize::from(other.argument & 3)]);
    let named = seen.paths.iter().all(|path| {
        let whole = path.path.whole();
        whole.is_some_and(|path| !path.is_empty() && path.len() < 4096)
    });
    // An error that comes of looking for a file: the paths have been read.
    let looked = named && (succeeded || seen.result.is_some_and(is_of_lookup));
    let texts = if looked && !one_text {
        seen.paths.len()
    } else {
        0
    };
    match noting {
        Noting::Nothing => exactly(0),
        _ if one_text => Share {
            least: 0,
            most: MANY,
        },
        Noting::Lookup if looked => exactly(1),
        Noting::File if succeeded => exactly(1),
        Noting::Lookup | Noting::File => Share { least: 0, most: 1 },
        Noting::Remove | Noting::Make if succeeded && looked => exactly(2),
        Noting::Remove | Noting::Make => Share {
            least: texts,
            most: 2,
        },
        Noting::Symlink | Noting::Link if succeeded && looked => exactly(3),
        Noting::Symlink | Noting::Link => Share {
            least: texts,
            most: 3,
        },
        // Two names of one file are left alone, which is a success too.
        Noting::Rename if seen.args[4] == 0 || !exchanges(seen) => Share {
            least: texts,
            most: 5,
        },
        Noting::Open => share_of_open(seen, noted, looked),
        Noting::Rename | Noting::Unknown => Share {
            least: 0,
            most: MANY,
        },
    }
}

/// Whether renameat2 was asked for more than a new name.
fn exchanges(seen: &Observation) -> bool {
    const RENAME_NOREPLACE: u64 = 1;
    Arch(seen.arch).syscall_name(seen.syscall) == Some("renameat2")
        && seen.args[4] & !RENAME_NOREPLACE != 0
}

/// The directory is noted where the file was not in the kernel's cache, or was created; through links several may be.
fn share_of_open(seen: &Observation, noted: &[Option<NotedName>], looked: bool) -> Share {
    let least = usize::from(looked);
    let asked = open_flags(seen);
    let creating = asked.is_none_or(|asked| asked & O_CREAT != 0);
    let first = noted.first().copied().flatten().map(|name| name.role);
    if !creating || (looked && matches!(first, Some(Role::Normal | Role::Unknown))) {
        return Share { least, most: 1 };
    }
    let follows = asked.is_none_or(|asked| asked & (O_EXCL | no_follow(Arch(seen.arch))) == 0);
    match &seen.opened {
        Some(opened) if !follows || leads_straight(seen, opened) => Share { least: 2, most: 2 },
        None if !follows => Share { least, most: 2 },
        _ => Share { least, most: MANY },
    }
}

/// Whether a call fails so only after its paths were read.
const fn is_of_lookup(result: i64) -> bool {
    const ENOENT: i64 = -2;
    const EACCES: i64 = -13;
    const EEXIST: i64 = -17;
    const ENOTDIR: i64 = -20;
    const EISDIR: i64 = -21;
    const EROFS: i64 = -30;
    const ENOTEMPTY: i64 = -39;
    const ELOOP: i64 = -40;
    matches!(
        result,
        ENOENT | EACCES | EEXIST | ENOTDIR | EISDIR | EROFS | ENOTEMPTY | ELOOP
    )
}

fn of_opened(seen: &Observation, opened: &OpenedFile) -> Names {
    let asked = open_flags(seen);
    let plain = opens_nothing_else(opened);
    let role = if opened.created {
        Role::Create
    } else {
        Role::Normal
    };
    let mut names = Names {
        known: smallvec![Name {
            inode: opened.inode,
            role,
            certain: true,
            name: Some(0),
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
            name: Some(0),
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

/// Whether the kernel does nothing else for opening the file.
fn opens_nothing_else(opened: &OpenedFile) -> bool {
    let plain_file = PLAIN_TYPES.contains(&(opened.inode.mode & TYPE));
    let flags = u64::from(opened.flags);
    let plain_system = is_plain(opened.inode.magic)
        || opened.inode.magic == OVERLAY && flags & O_WRITES == 0 && !opened.created;
    plain_file && plain_system && flags & TMPFILE == 0
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
