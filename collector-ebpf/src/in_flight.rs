//! A call between its entry and its exit.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::plan::Plan;
use crate::sample::{NOTED_NAMES, NameFacts};

/// Bytes of a string argument kept from the entry. Longer ones are read again at the exit.
pub const SLOT_BYTES: usize = 256;

/// One value of the map `IN_FLIGHT`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InFlight {
    /// `bpf_ktime_get_ns()` at the entry.
    pub entry_ns: u64,
    /// All six arguments, and two that are zero, so that an argument's number needs no more than a mask.
    pub args: [u64; 8],
    /// `AUDIT_ARCH_*` at the entry: execve may change the task's.
    pub arch: u32,
    /// System call number.
    pub syscall: u32,
    /// What the rules in force at the entry said to read.
    pub plan: Plan,
    /// What was read at the entry: the first two path arguments, or the socket address, or (second slot) the old
    /// working directory.
    pub slots: [Slot; 2],
    /// What calls before left in the task's audit context; only where the plan says so.
    pub names: [NameFacts; NOTED_NAMES],
}

/// A string read at the entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// Bytes in use.
    pub length: u32,
    /// 0 where nothing is here: it could not be read, or is longer than [`SLOT_BYTES`]. Otherwise
    /// [`Slot::FILLED`] and the `string_flags` of what is here.
    pub flags: u32,
    /// The bytes.
    pub bytes: [u8; SLOT_BYTES],
}

impl Slot {
    /// Something is here.
    pub const FILLED: u32 = 0x100;
}

const _: () = assert!(size_of::<Slot>() == 8 + SLOT_BYTES);
const _: () = assert!(size_of::<InFlight>() == 248 + 2 * size_of::<Slot>());
