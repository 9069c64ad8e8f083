//! What the BPF programs and the collector share: the ABI of the ring and of the maps, and the one evaluator of
//! compiled audit rules that both run.
//!
//! Owns layouts and pure code; must not know aya, the kernel's memory or any I/O. Every structure is `repr(C)` of
//! fixed-width integers without implicit padding, and has its size asserted, so that both builds agree on it.

#![cfg_attr(not(test), no_std)]

mod condition;
mod counters;
mod facts;
mod in_flight;
mod judge;
mod layout;
mod noting;
mod plan;
mod report;
mod sample;
mod text;

pub use condition::{Action, Comparison, Condition, MAX_CONDITIONS, NO_RULE};
pub use counters::Counters;
pub use facts::{Fact, Facts, TaskState, audited_result};
pub use in_flight::{InFlight, SLOT_BYTES, Slot};
pub use judge::{Conditions, Judgement, MAX_STEPS, Ruling, Walk, judge};
pub use layout::{ContextLayout, Layout, QueueLayout};
pub use noting::{
    ContextFacts, KEPT_BYTES, KEPT_NAMES, KEPT_TEXT, Kept, LabelLayout, NameEntry, NotingLayout,
};
pub use plan::{Active, NO_PROGRAM, Plan, Plans, SYSCALL_NUMBERS};
pub use report::{KEY_BYTES, LossReason, Note, Report};
pub use sample::{
    AREA_BYTES, FileFacts, GROUPS, LINEAGE, NOTED_NAMES, NameFacts, Sample, StringHeader,
    StringKind, TITLE_BYTES, VERSION, flags, string_flags,
};
pub use text::{InHand, TEXT_BYTES, TextCounters, TextHeader, TextMirror, TextReason};

/// How many processes can be exempt from observation beside our own.
pub const EXEMPT_PROCESSES: usize = 4;

/// What the programs look at first on every call; one element of the map `CONTROL`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// Which rules are in force. Eight bytes on an eight-byte boundary, so that a program never sees half of it.
    pub active: Active,
    /// Processes that are never audited (the registered audit daemon, kernel/audit.c `auditd_test_task`); 0 is none.
    pub exempt: [u32; EXEMPT_PROCESSES],
    /// The cookie of our multicast socket (`SO_COOKIE`); 0 where we are the daemon.
    pub socket: u64,
}

const _: () = assert!(size_of::<Control>() == 32);
