//! One eBPF sample about one system call, decoded.
//!
//! Owns the domain type. Strings are bytes as they stood in the caller's memory or the kernel's.

use crate::clock::KtimeNs;

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
    pub path: Captured<Box<[u8]>>,
}

/// One system call as the tracepoint programs saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Unique within one load of the BPF programs, together with `sequence`: where the sample was taken.
    pub cpu: u16,
    /// Twice the program's count of samples on `cpu`, from 1, plus 0 at the entry and 1 at the exit.
    pub sequence: u64,
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
    /// Controlling terminal, as `tty=`; absent where the process has none.
    pub tty: Captured<Box<[u8]>>,
    /// Task name, at most 15 bytes.
    pub comm: Box<[u8]>,
    /// The executable's path within its mount namespace.
    pub exe: Captured<Box<[u8]>>,
    /// The working directory.
    pub cwd: Captured<Box<[u8]>>,
    /// Path arguments in argument order.
    pub paths: Vec<PathArgument>,
    /// The argument vector of a successful execve: the strings joined by NUL.
    pub argv: Captured<Box<[u8]>>,
    /// The socket address argument, as bytes of `struct sockaddr`.
    pub sockaddr: Captured<Box<[u8]>>,
    /// What the rule mirror said.
    pub verdict: Verdict,
    /// The rule behind the verdict: its place in the exit list as of `rules_generation`.
    pub rule: Option<u16>,
    /// Which set of rules was judged against; counts the refreshes.
    pub rules_generation: u32,
}
