//! One sample in the ring: a fixed part, then strings one after the other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::report::Report;

/// The version of [`Sample`] and what follows it.
pub const VERSION: u8 = 1;

/// Room for the strings of one sample, each with its [`StringHeader`].
pub const AREA_BYTES: usize = 30 * 1024;

/// The fixed part. The strings begin at `fixed` bytes from the start and end at `length`; each is a [`StringHeader`]
/// and its bytes, padded to a multiple of eight.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sample {
    /// Bytes of the whole sample.
    pub length: u32,
    /// Bytes of the fixed part: a reader accepts more than it knows and refuses less.
    pub fixed: u16,
    /// [`VERSION`]
    pub version: u8,
    /// 1: a system call. Others are for hooks to come.
    pub kind: u8,
    /// Unique on this CPU: the lowest three bits tell the program (0: sys_enter, 1: sys_exit, 2: audit_log_exit,
    /// 3: audit_free, 4: audit_log_uring), the others are its count of samples attempted here, from 1.
    pub sequence: u64,
    /// `CLOCK_MONOTONIC` at the entry.
    pub entry_ns: u64,
    /// `CLOCK_MONOTONIC` when the sample was taken.
    pub taken_ns: u64,
    /// All six arguments as the registers held them at the entry.
    pub args: [u64; 6],
    /// The result as the tracepoint gives it; meaningless without [`flags::RESULT`].
    pub result: i64,
    /// Where the sample was taken.
    pub cpu: u32,
    /// See [`flags`].
    pub flags: u32,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    /// System call number; with [`flags::OPERATION`] the io_uring operation's.
    pub syscall: u32,
    /// Which set of rules was judged against.
    pub generation: u32,
    /// The rule's place in the exit list, or [`crate::NO_RULE`].
    pub rule: u16,
    /// [`crate::Ruling`] as a number.
    pub ruling: u8,
    /// Zero.
    pub padding: u8,
    /// Login session.
    pub session: u32,
    /// Login uid.
    pub auid: u32,
    /// uid, gid, suid, sgid, euid, egid, fsuid, fsgid: the order of the kernel's `struct cred`.
    pub ids: [u32; 8],
    /// Personality; 0 is Linux's own.
    pub personality: u32,
    /// Task name with its NUL.
    pub comm: [u8; 16],
    /// The kernel's decision; zeros without [`flags::REPORTED`].
    pub report: Report,
}

const _: () = assert!(size_of::<Sample>() == 216);
const _: () = assert!(core::mem::offset_of!(Sample, result) == 80);
const _: () = assert!(core::mem::offset_of!(Sample, rule) == 120);
const _: () = assert!(core::mem::offset_of!(Sample, comm) == 168);

/// Bits of [`Sample::flags`].
pub mod flags {
    /// The call returned, and `result` is what.
    pub const RESULT: u32 = 1;
    /// The task had an audit context when the sample was taken.
    pub const AUDIT_CONTEXT: u32 = 2;
    /// The kernel decided to report the call, and `report` is what became of that.
    pub const REPORTED: u32 = 4;
    /// The call was seen at its end only: of the arguments the first four are known, and its entry is not.
    pub const END_ONLY: u32 = 8;
    /// The task list has every call of the task reported; known only where there are rules of that list.
    pub const TASK_ALWAYS: u32 = 16;
    /// No call, but an io_uring operation. The first argument is how many names the audit context held.
    pub const OPERATION: u32 = 1 << 9;
    /// An operation that ran inside a call, whose event its record is part of.
    pub const IN_CALL: u32 = 1 << 10;
    /// The kernel labels tasks, and names a task's label in what it writes of it.
    pub const LABELS: u32 = 1 << 8;
}

/// What stands before each string.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StringHeader {
    /// Bytes that follow, without padding.
    pub length: u16,
    /// [`StringKind`] as a number; a reader skips those it does not know.
    pub kind: u8,
    /// The argument the string belongs to, where it belongs to one.
    pub argument: u8,
    /// See [`string_flags`].
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<StringHeader>() == 8);

/// Bits of [`StringHeader::flags`].
pub mod string_flags {
    /// The value was longer than what is here.
    pub const TRUNCATED: u8 = 1;
    /// The value could not be read; nothing is here.
    pub const UNREADABLE: u8 = 2;
    /// A path as names from the last to the first, each with its NUL, without the root.
    pub const COMPONENTS: u8 = 4;
    /// The file has been removed from its directory; the kernel appends ` (deleted)`.
    pub const DELETED: u8 = 8;
    /// The file has no place in any directory (a memfd); the kernel prints `/name (deleted)`.
    pub const DETACHED: u8 = 16;
    /// The value was read at the exit: it may have changed since the kernel read it.
    pub const LATE: u8 = 32;
    /// The title is the one that the audit context keeps, already trimmed.
    pub const KEPT: u8 = 64;
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StringKind {
    /// A path argument, without the NUL.
    Path = 1,
    /// The bytes of a `struct sockaddr` argument.
    Sockaddr = 2,
    /// The argument vector, each string with its NUL.
    Argv = 3,
    /// The executable.
    Exe = 4,
    /// The working directory.
    Cwd = 5,
    /// The controlling terminal.
    Tty = 6,
    /// A [`FileFacts`]: argument 0 is the file that the call's result names, argument 1 its directory.
    Opened = 7,
    /// Where the file that the call's result names stands.
    OpenedPath = 8,
    /// Inode numbers, eight bytes each: that file's own, then of each directory above it up to the root of its file
    /// system.
    Lineage = 9,
    /// A [`FileFacts`]: the executable.
    ExeFile = 10,
    /// The beginning of the argument vector, as `proctitle=` has it.
    Title = 11,
    /// Supplementary groups, four bytes each.
    Groups = 12,
    /// [`NOTED_NAMES`] times [`NameFacts`]: the files that the kernel noted for the call, and behind them what is left
    /// there of calls before.
    Noted = 13,
    /// Eight bytes each: a device, then inode numbers as in a [`Lineage`](Self::Lineage). Of a directory where a path
    /// of the call begins, or of the file that the call is about.
    Standing = 14,
    /// The keys of the rule behind the event, as the kernel keeps them: each but the first behind a 0x01.
    Key = 35,
    /// A [`ContextFacts`](crate::ContextFacts).
    Context = 32,
    /// A [`NameEntry`](crate::NameEntry) and the text of its name; the argument is its place in the list.
    Name = 33,
    /// The label that a security module has on the task.
    Subject = 34,
}

/// What audit tells of a file (kernel/auditsc.c `audit_copy_inode`), and what else is asked of it here.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FileFacts {
    /// `i_ino`
    pub inode: u64,
    /// `i_sb->s_magic`: the type of file system.
    pub magic: u64,
    /// `i_sb->s_dev`: major above 20 bits of minor.
    pub dev: u32,
    /// `i_rdev`, in the same form.
    pub rdev: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `i_mode`
    pub mode: u32,
    /// `f_flags` of an open file.
    pub open_flags: u32,
    /// `f_mode` of an open file.
    pub open_mode: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<FileFacts>() == 48);

impl FileFacts {
    /// `FMODE_CREATED` of include/linux/fs.h, in [`Self::open_mode`]: the call created the file.
    pub const CREATED: u32 = 0x10_0000;
}

/// One file that audit noted for a call (`struct audit_names` in kernel/audit.h).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct NameFacts {
    /// `ino`; all ones where no file was found.
    pub inode: u64,
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
    /// `type`: `AUDIT_TYPE_*` of include/linux/audit.h.
    pub role: u8,
    /// The first of the entries that have the same name, counted from 1; 0 without a name.
    pub name: u8,
    /// 1 where the entry is not what it was when the call began.
    pub changed: u8,
    /// Zero.
    pub padding: u8,
}

const _: () = assert!(size_of::<NameFacts>() == 32);

/// How many names a context has room for (`AUDIT_NAMES` in kernel/audit.h).
pub const NOTED_NAMES: usize = 5;
/// How many inode numbers a lineage has at most.
pub const LINEAGE: usize = 32;
/// How many supplementary groups are told.
pub const GROUPS: usize = 64;
/// How much of an argument vector `proctitle=` has (`MAX_PROCTITLE_AUDIT_LEN` in kernel/audit.h).
pub const TITLE_BYTES: usize = 128;
