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
        Self {
            tgid: observation.tgid,
            arch: observation.arch,
            syscall: observation.syscall,
            args: [a0, a1, a2, a3],
            result: observation.result,
        }
    }

    /// The key of a SYSCALL record.
    pub fn of_record(fields: &SyscallFields) -> Self {
        Self {
            tgid: fields.pid,
            arch: fields.arch,
            syscall: fields.syscall,
            args: fields.args,
            result: fields.exit,
        }
    }
}
