//! One eBPF sample about one system call, decoded.
//!
//! Owns the domain type. Strings are bytes as they stood in the caller's memory or the kernel's.

use std::time::Duration;

use collector_ebpf::{LossReason, NOTED_NAMES};
use smallvec::SmallVec;

use crate::audit::record::{Serial, Stamp};
use crate::audit::rules::{KEY_SEPARATOR, Keys};
use crate::byte_string::ByteString;
use crate::clock::{KtimeNs, TimeMs};
use crate::probe::notes::Notes;

/// A value the BPF program tried to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Captured<T> {
    /// The call has no such value.
    #[default]
    Absent,
    /// The whole value.
    Whole(T),
    /// The whole value, but from the end of the call, because it was not in memory at its entry or did not fit: if
    /// another thread of the caller wrote there meanwhile, it is not what the kernel read.
    Late(T),
    /// The beginning of a value longer than the sample has room for.
    Truncated(T),
    /// The memory could not be read.
    Unreadable,
}

impl<T> Captured<T> {
    /// The value, whole or not.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Whole(value) | Self::Late(value) | Self::Truncated(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// What `change` makes of the value; unreadable where it makes nothing of it.
    pub fn and_then<U>(self, change: impl FnOnce(T) -> Option<U>) -> Captured<U> {
        let (value, kind): (T, fn(U) -> Captured<U>) = match self {
            Self::Absent => return Captured::Absent,
            Self::Unreadable => return Captured::Unreadable,
            Self::Whole(value) => (value, Captured::Whole),
            Self::Late(value) => (value, Captured::Late),
            Self::Truncated(value) => (value, Captured::Truncated),
        };
        change(value).map_or(Captured::Unreadable, kind)
    }

    /// The value if it is whole, late or not.
    pub fn whole(&self) -> Option<&T> {
        match self {
            Self::Whole(value) | Self::Late(value) => Some(value),
            _ => None,
        }
    }
}

/// What the mirror of the loaded rules says about a call, or what the kernel's own decision said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Read from the kernel's own decision.
    Exact,
    /// The mirror of the loaded rules says the kernel should report the call.
    Inferred,
    /// A rule that the mirror cannot judge might report the call.
    Maybe,
}

impl Verdict {
    /// Every verdict, for metrics created at zero.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Inferred, Self::Maybe];

    /// The name in metrics and in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Inferred => "inferred",
            Self::Maybe => "maybe",
        }
    }
}

/// The identities a SYSCALL record prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Login uid, `u32::MAX` where unset.
    pub auid: u32,
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// File-system user.
    pub fsuid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// File-system group.
    pub fsgid: u32,
    /// Login session, `u32::MAX` where unset.
    pub session: u32,
}

/// A path the call named, by the index of the argument that held it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathArgument {
    /// 0 to 5.
    pub argument: u8,
    /// The bytes as the caller gave them, without the NUL.
    pub path: Captured<ByteString>,
}

/// A file as audit tells of it in a PATH record (kernel/auditsc.c `audit_copy_inode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInode {
    /// Its number.
    pub number: u64,
    /// Major and minor number of the file system's device.
    pub dev: (u32, u32),
    /// The device it stands for, where it is a device.
    pub rdev: (u32, u32),
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The type of file system (include/uapi/linux/magic.h).
    pub magic: u64,
}

/// The file that a call opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedFile {
    /// Itself.
    pub inode: FileInode,
    /// The directory it stands in; only where the file was created, or opened for writing.
    pub directory: Option<FileInode>,
    /// Whether this call created it.
    pub created: bool,
    /// Its `f_flags`: what the caller asked for, less `O_CREAT`, `O_EXCL`, `O_NOCTTY` and `O_TRUNC`.
    pub flags: u32,
    /// Where it stands, as seen from the task's root; only where it was created, or was
    /// opened for writing and a rule asks about files.
    pub path: Captured<ByteString>,
    /// The inode numbers from the file's own up to the root of its file system; only where a rule asks about files.
    pub lineage: Captured<Box<[u64]>>,
}

/// What a file is to a call (`AUDIT_TYPE_*` of include/linux/audit.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was named, and not found.
    Unknown,
    /// It was looked up.
    Normal,
    /// It is the directory of what was to be found, created or removed.
    Parent,
    /// It was to be removed.
    Delete,
    /// It was to be created.
    Create,
}

impl Role {
    /// `nametype=` of a PATH record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Normal => "NORMAL",
            Self::Parent => "PARENT",
            Self::Delete => "DELETE",
            Self::Create => "CREATE",
        }
    }
}

/// An entry among the files that the kernel notes for a call, as it was found in the task's audit context after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedName {
    /// What it is to the call.
    pub role: Role,
    /// The file; its type of file system is not told.
    pub inode: FileInode,
    /// The path that the call named it by, by the first entry that has the same; none where it belongs to no path.
    pub name: Option<u8>,
    /// Whether the entry is not what it was before the call; not told of calls that open files.
    pub changed: bool,
}

/// Where a directory or a file stood during the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Major and minor number of the file system's device.
    pub dev: (u32, u32),
    /// The inode numbers from its own up to the root of its file system.
    pub lineage: Captured<Box<[u64]>>,
}

/// The kernel's own decision to report a call, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The time in the event's stamp.
    pub time: TimeMs,
    /// The serial in it; none where the kernel refused the event before it drew one.
    pub serial: Option<Serial>,
    /// Records that the kernel gave up while it wrote the event.
    pub lost_records: u32,
    /// Why it gave up the first of them.
    pub first_lost: Option<LossReason>,
    /// Whether a record of another part of the kernel, or of an io_uring operation inside the call, came before all that the kernel
    /// writes of a call.
    pub preceded: bool,
}

impl Report {
    /// The stamp of the event's records; none where the kernel drew no serial for them.
    pub fn stamp(&self) -> Option<Stamp> {
        let time = self.time;
        self.serial.map(|serial| Stamp { time, serial })
    }
}

/// What was seen of a call, or in place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its end: `entry` is not known and stands for `taken`, and of `args` the last two are not known.
    EndOnly,
    /// No call: an io_uring operation with an event of its own. Number, arguments and result are in
    /// [`Observation::operations`], and those of the call are zeros.
    Operation,
    /// io_uring operations inside a call, whose own observation has not come, or will not.
    InCall,
}

/// One io_uring operation of which the kernel wrote a URINGOP record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `IORING_OP_*` of include/uapi/linux/io_uring.h.
    pub number: u32,
    /// What issuing it returned, which is not what its completion says; none where its task ended first.
    pub result: Option<i64>,
    /// How many names the audit context held by then: those of the call and of all its operations so far.
    pub items: u32,
    /// Process.
    pub tgid: u32,
    /// Parent process.
    pub ppid: u32,
    /// As whom it was done.
    pub credentials: Credentials,
    /// The keys of the rule behind it; see [`Observation::key`].
    pub key: Captured<ByteString>,
    /// What became of its record.
    pub report: Report,
}

/// One system call as the BPF programs saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Unique within one load of the BPF programs, together with `sequence`: where the sample was taken.
    pub cpu: u16,
    /// Eight times the program's count of samples on `cpu`, from 1, plus the program's own number.
    pub sequence: u64,
    /// Bytes of its samples, by which the memory it takes is bounded.
    pub n_bytes: usize,
    /// When the call entered.
    pub entry: KtimeNs,
    /// When the sample was taken: the call's exit, or its entry for calls that never return.
    pub taken: KtimeNs,
    /// Process, as the audit record's `pid=`.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// System call number in that arch.
    pub syscall: u32,
    /// All six arguments as the registers held them.
    pub args: [u64; 6],
    /// The result as the audit record prints it (restart codes read as -EINTR); none for calls that never return.
    pub result: Option<i64>,
    /// Who made the call, as of `taken`.
    pub credentials: Credentials,
    /// Whether the task had an audit context; without one the kernel never reports its calls.
    pub audit_context: bool,
    /// Whether the task list has every call of the task reported; told only where there are rules of that list.
    pub task_always: bool,
    /// Personality, 0 for Linux's own.
    pub personality: u32,
    /// The label of a security module, as `subj=`; absent where the kernel labels no tasks.
    pub subject: Captured<ByteString>,
    /// Controlling terminal, as `tty=`; absent where the process has none.
    pub tty: Captured<ByteString>,
    /// Task name, at most 15 bytes.
    pub comm: ByteString,
    /// The executable's path within its mount namespace.
    pub exe: Captured<ByteString>,
    /// The executable itself; only where a rule asks for it.
    pub exe_inode: Option<FileInode>,
    /// The beginning of the argument vector as `proctitle=` has it; absent where that cannot be told.
    pub title: Captured<ByteString>,
    /// Supplementary groups; only where a rule asks for them.
    pub groups: Captured<Box<[u32]>>,
    /// The working directory.
    pub cwd: Captured<ByteString>,
    /// Path arguments in argument order.
    pub paths: SmallVec<[PathArgument; 2]>,
    /// The argument vector of a successful execve: the strings joined by NUL.
    pub argv: Captured<ByteString>,
    /// The socket address argument, as bytes of `struct sockaddr`.
    pub sockaddr: Captured<ByteString>,
    /// The file that the result names.
    pub opened: Option<OpenedFile>,
    /// What the kernel noted for the records of the call; only where that was seen.
    pub notes: Option<Box<Notes>>,
    /// The first files that the kernel noted, and behind them what calls before left in their places; only where a rule
    /// asks about files.
    pub noted: Option<Box<[Option<NotedName>; NOTED_NAMES]>>,
    /// Where the directories stand in which the call's paths begin, or the file that the call is about; only where a rule
    /// asks about files.
    pub standing: Vec<Standing>,
    /// What the rule mirror said.
    pub verdict: Verdict,
    /// The rule behind the verdict: its place in the exit list as of `rules_generation`.
    pub rule: Option<u16>,
    /// Which set of rules was judged against; counts the refreshes.
    pub rules_generation: u32,
    /// The kernel's own decision; none where it took none, or nobody was there to see it.
    pub report: Option<Report>,
    /// The keys of the rule by which the kernel decided, each but the first behind a 0x01; only with a report, and
    /// absent where that is of no rule with a key.
    pub key: Captured<ByteString>,
    /// io_uring operations whose records are part of the event, in their order.
    pub operations: Vec<Operation>,
    /// What was seen of the call.
    pub extent: Extent,
}

impl Observation {
    /// Whether it is of a call, and not of io_uring operations alone.
    pub fn is_call(&self) -> bool {
        matches!(self.extent, Extent::Whole | Extent::EndOnly)
    }

    /// Whether the event has a record that another part of the kernel wrote (LOGIN, CONFIG_CHANGE, BPF …), which no program sees.
    /// Beside io_uring operations inside the call it cannot be told.
    pub fn has_foreign_record(&self) -> bool {
        let explained = self.is_call() && !self.operations.is_empty();
        !explained && self.report.is_some_and(|report| report.preceded)
    }

    /// The arguments that are known.
    pub fn arguments(&self) -> &[u64] {
        match self.extent {
            Extent::Whole => &self.args,
            Extent::EndOnly => &self.args[..4],
            Extent::Operation | Extent::InCall => &[],
        }
    }

    /// Whether the call surely got as far as the socket address it has, where it has one: which check comes first differs from
    /// kernel to kernel (net/socket.c).
    pub fn reached_its_address(&self) -> bool {
        const EBADF: i64 = -9;
        const EFAULT: i64 = -14;
        const EINVAL: i64 = -22;
        const ENOTSOCK: i64 = -88;
        let early = matches!(self.result, None | Some(EBADF | EFAULT | EINVAL | ENOTSOCK));
        !early
    }

    /// The keys in [`Self::key`], apart.
    pub fn keys(&self) -> Keys {
        let joined = self.key.value().into_iter();
        joined
            .flat_map(|joined| joined.split(|byte| *byte == KEY_SEPARATOR))
            .filter(|key| !key.is_empty())
            .map(Into::into)
            .collect()
    }

    /// How long the call took; none for calls that never return, and where the entry was not seen.
    pub fn duration(&self) -> Option<Duration> {
        let known = self.extent == Extent::Whole && self.result.is_some();
        known.then(|| self.taken.since(self.entry))
    }
}

// docs/memory.md counts on it: so many may wait.
const _: () = assert!(size_of::<Observation>() <= 1_200);
