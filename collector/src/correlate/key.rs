//! What identifies a system call to both witnesses when the observation carries no serial.

use crate::audit::records::SyscallFields;
use crate::probe::observation::Observation;

/// The part of a call that a SYSCALL record and an observation both carry. Two calls with equal keys within one clock
/// tick are twins: which record belongs to which cannot be told and does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatchKey {
    tgid: u32,
    arch: u32,
    syscall: u32,
    args: [u64; 4],
    result: Option<i64>,
}

impl MatchKey {
    /// The key of an observation.
    pub fn of_observation(observation: &Observation) -> Self {
        let [a0, a1, a2, a3, ..] = observation.args;
        let args = [a0, a1, a2, a3];
        Self {
            tgid: observation.tgid,
            arch: observation.arch,
            syscall: observation.syscall,
            args: of_width(observation.arch, args),
            result: observation.result,
        }
    }

    /// The key of a SYSCALL record.
    pub fn of_record(fields: &SyscallFields<'_>) -> Self {
        Self {
            tgid: fields.pid,
            arch: fields.arch,
            syscall: fields.syscall,
            args: of_width(fields.arch, fields.args),
            result: fields.exit,
        }
    }
}

/// `__AUDIT_ARCH_64BIT` of include/uapi/linux/audit.h.
const ARCH_64BIT: u32 = 0x8000_0000;

/// A 32-bit call takes the low halves of its registers. What a 64-bit program leaves in the high ones with `int 0x80` is in
/// the record, but no part of the call.
fn of_width(arch: u32, args: [u64; 4]) -> [u64; 4] {
    match arch & ARCH_64BIT {
        0 => args.map(|argument| argument & u64::from(u32::MAX)),
        _ => args,
    }
}
