//! What the programs do about each system call, as user space lays it down.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// System call numbers a rule's mask can name (`AUDIT_BITMASK_SIZE` words of 32 bits).
pub const SYSCALL_NUMBERS: u32 = 2048;
/// [`Plan::start`] of a call that no rule reports.
pub const NO_PROGRAM: u16 = u16::MAX;

/// Which of the two buffers of rules is in force, and which generation that is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct Active {
    /// 0 or 1.
    pub buffer: u32,
    /// Counts the refreshes.
    pub generation: u32,
}

/// What to do about one system call of one arch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Plan {
    /// The first condition of its rules, or [`NO_PROGRAM`].
    pub start: u16,
    /// See the constants.
    pub flags: u16,
    /// The arguments that are paths, each plus one; 0 is none.
    pub paths: [u8; 2],
    /// The argument that points to a `struct sockaddr`, plus one; 0 is none.
    pub sockaddr: u8,
    /// The argument that holds its length, plus one.
    pub sockaddr_length: u8,
}

impl Plan {
    /// The call does not come back (exit, exit_group): sampled at its entry.
    pub const NO_RETURN: u16 = 1;
    /// The call replaces the program: on success its argument vector is read from the new memory.
    pub const EXEC: u16 = 2;
    /// The call may change uids, gids or groups, so they say nothing at its entry.
    pub const CHANGES_IDS: u16 = 4;
    /// The call may change login uid, session or personality.
    pub const CHANGES_LOGIN: u16 = 8;
    /// The call changes the working directory; audit records the old one.
    pub const CHANGES_CWD: u16 = 16;
    /// `sockaddr` names a `struct msghdr` that holds address and length.
    pub const MESSAGE: u16 = 32;
    /// The call is socketcall(2), which hides its arguments behind a pointer.
    pub const SOCKETCALL: u16 = 64;
    /// A rule asks for login uid or session.
    pub const ASKS_LOGIN: u16 = 128;
    /// A rule asks for the personality.
    pub const ASKS_PERSONALITY: u16 = 256;
    /// The call puts other registers in place of those it was made with, and -1 in place of its number
    /// (rt_sigreturn): its exit does not say which call it is of.
    pub const RESTORES_REGISTERS: u16 = 512;
    /// The call's result is a descriptor of a file that it found by name.
    pub const OPENS: u16 = 1024;
    /// A rule asks about files: where they stand, and what stands above them.
    pub const ASKS_FILES: u16 = 2048;
    /// A rule asks for the executable.
    pub const ASKS_EXE: u16 = 4096;
    /// A rule asks for supplementary groups.
    pub const ASKS_GROUPS: u16 = 8192;

    /// The call is about the file behind its first argument.
    pub const TAKES_FILE: u16 = 1 << 14;
    /// There are rules of the task list.
    pub const ASKS_STATE: u16 = 1 << 15;

    /// Nothing to do.
    pub const NONE: Self = Self {
        start: NO_PROGRAM,
        flags: 0,
        paths: [0; 2],
        sockaddr: 0,
        sockaddr_length: 0,
    };
}

/// Both buffers' plans for one system call number, by buffer and then by arch (0: the machine's own, 1: its 32-bit
/// one). Together in one map element, so that an exit finds with one look-up whether its entry may be in flight,
/// also when the rules changed in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Plans {
    /// `[buffer][arch]`
    pub plans: [[Plan; 2]; 2],
}

impl Plans {
    /// Nothing to do in either buffer.
    pub const NONE: Self = Self {
        plans: [[Plan::NONE; 2]; 2],
    };
}

const _: () = assert!(size_of::<Plans>() == 32);
