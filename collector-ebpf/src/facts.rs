//! What a rule can compare of a call.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::judge::Walk;

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fact {
    /// Always 1.
    One,
    /// What cannot be judged here.
    Unjudged,
    /// Process.
    Pid,
    /// Parent process.
    Ppid,
    /// `cred.uid`; this and the seven that follow stand in the kernel's order.
    Uid,
    /// `cred.gid`
    Gid,
    /// `cred.suid`
    Suid,
    /// `cred.sgid`
    Sgid,
    /// `cred.euid`
    Euid,
    /// `cred.egid`
    Egid,
    /// `cred.fsuid`
    Fsuid,
    /// `cred.fsgid`
    Fsgid,
    /// Login uid.
    Auid,
    /// 1 where the login uid is set.
    AuidSet,
    /// Login session.
    Session,
    /// Personality.
    Personality,
    /// The result, restart codes as -EINTR.
    Exit,
    /// 1 for success, 2 for failure (`AUDITSC_SUCCESS`, `AUDITSC_FAILURE`).
    Success,
    /// First argument.
    Arg0,
    /// Second argument.
    Arg1,
    /// Third argument.
    Arg2,
    /// Fourth argument.
    Arg3,
    /// The `AUDIT_PERM_*` bits that the open flags in the second argument ask for (open).
    OpenAccess1,
    /// The same of the third argument (openat).
    OpenAccess2,
    /// What the task list said when the task was made: see [`TaskState`].
    TaskState,
}

/// Values of [`Fact::TaskState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TaskState {
    /// It decides about nothing (`AUDIT_STATE_BUILD` of kernel/audit.h).
    Build = 1,
    /// Every call is reported (`AUDIT_STATE_RECORD`).
    Record = 2,
    /// The task has no audit context, so that none is.
    NoContext = 3,
}

impl Fact {
    /// This fact's bit in [`Facts::known`] and [`Facts::impossible`].
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Facts that calls with [`Plan::CHANGES_IDS`](crate::Plan::CHANGES_IDS) may change.
    pub const IDS: u32 = Self::Uid.bit()
        | Self::Gid.bit()
        | Self::Suid.bit()
        | Self::Sgid.bit()
        | Self::Euid.bit()
        | Self::Egid.bit()
        | Self::Fsuid.bit()
        | Self::Fsgid.bit();
    /// Facts that calls with [`Plan::CHANGES_LOGIN`](crate::Plan::CHANGES_LOGIN) may change.
    pub const LOGIN: u32 =
        Self::Auid.bit() | Self::AuidSet.bit() | Self::Session.bit() | Self::Personality.bit();
    /// Facts that exist only once the call has returned.
    pub const RESULT: u32 = Self::Exit.bit() | Self::Success.bit();
    /// All facts that can be judged at all.
    pub const ALL: u32 = ((1 << (Self::TaskState as u32 + 1)) - 1) & !Self::Unjudged.bit();
}

/// What is known about a call.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Facts {
    /// By [`Fact`].
    pub values: [u32; 32],
    /// Bits of the facts that are known.
    pub known: u32,
    /// Bits of the facts the call will never have; comparing them is false, whatever the operator.
    pub impossible: u32,
    /// Where [`judge`](crate::judge()) keeps what it knows so far.
    pub walk: Walk,
}

impl Facts {
    /// Sets a known fact.
    #[inline(always)]
    pub fn set(&mut self, fact: Fact, value: u32) {
        self.values[fact as usize] = value;
        self.known |= fact.bit();
    }

    /// Sets what follows from a result. Restart codes are told as -EINTR and success is anything but an errno
    /// (`audit_return_fixup` in kernel/auditsc.c, `is_syscall_success` in asm/ptrace.h).
    #[inline(always)]
    pub fn set_result(&mut self, result: i64) {
        self.set(Fact::Exit, audited_result(result) as u32);
        self.set(
            Fact::Success,
            if (-4095..0).contains(&result) { 2 } else { 1 },
        );
    }

    /// Sets what follows from the arguments (six, and two that are never used).
    #[inline(always)]
    pub fn set_args(&mut self, args: &[u64; 8]) {
        self.set(Fact::Arg0, args[0] as u32);
        self.set(Fact::Arg1, args[1] as u32);
        self.set(Fact::Arg2, args[2] as u32);
        self.set(Fact::Arg3, args[3] as u32);
        self.set(Fact::OpenAccess1, open_access(args[1]));
        self.set(Fact::OpenAccess2, open_access(args[2]));
    }
}

/// The result as an audit record prints it.
pub const fn audited_result(result: i64) -> i64 {
    // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND and ERESTART_RESTARTBLOCK, but not ENOIOCTLCMD among them.
    if result <= -512 && result >= -516 && result != -515 {
        -4
    } else {
        result
    }
}

/// `ACC_MODE` of include/linux/fs.h: read is 4, write is 2, as in `AUDIT_PERM_READ` and `AUDIT_PERM_WRITE`.
#[inline(always)]
const fn open_access(flags: u64) -> u32 {
    (0x6624 >> ((flags as u32 & 3) * 4)) & 0xf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_read_as_audit_prints_them() {
        for (result, printed, success) in [
            (3, 3, 1),
            (-2, -2, 2),
            (-512, -4, 2),
            (-516, -4, 2),
            (-515, -515, 2),
            (-4095, -4095, 2),
            (-4096, -4096, 1),
        ] {
            let mut facts = Facts::default();
            facts.set_result(result);
            assert_eq!(facts.values[Fact::Exit as usize], printed as u32);
            assert_eq!(facts.values[Fact::Success as usize], success, "{result}");
        }
    }

    #[test]
    fn open_flags_ask_for_read_write_or_both() {
        assert_eq!([0, 1, 2, 3].map(open_access), [4, 2, 6, 6]);
        assert_eq!(open_access(0o2000000), 4);
    }
}
