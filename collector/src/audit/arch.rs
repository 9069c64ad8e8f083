//! Architectures as audit numbers them, and the names of their system calls.
//!
//! Owns the `AUDIT_ARCH_*` numbers (include/uapi/linux/audit.h) of the architectures the collector knows, and the way
//! from a system call's number to its name and back. No I/O.

use std::fmt;

use syscalls::{aarch64, arm, riscv64, x86, x86_64};

/// An `AUDIT_ARCH_*` number; any value is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arch(pub u32);

impl Arch {
    /// 64-bit x86.
    pub const X86_64: Self = Self(0xC000_003E);
    /// 32-bit x86.
    pub const I386: Self = Self(0x4000_0003);
    /// 64-bit Arm.
    pub const AARCH64: Self = Self(0xC000_00B7);
    /// 32-bit Arm.
    pub const ARM: Self = Self(0x4000_0028);
    /// 64-bit RISC-V.
    pub const RISCV64: Self = Self(0xC000_00F3);

    /// The architecture of this program: `b64` in auditctl's words.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::AARCH64
    } else if cfg!(target_arch = "riscv64") {
        Self::RISCV64
    } else if cfg!(target_arch = "arm") {
        Self::ARM
    } else if cfg!(target_arch = "x86") {
        Self::I386
    } else {
        Self::X86_64
    };

    /// The 32-bit architecture whose programs a kernel of [`Arch::NATIVE`] may run: `b32` in auditctl's words.
    pub const COMPAT: Option<Self> = match Self::NATIVE {
        Self::X86_64 => Some(Self::I386),
        Self::AARCH64 => Some(Self::ARM),
        _ => None,
    };

    /// The name in the kernel's own words; none for architectures not known here.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::AARCH64 => "aarch64",
            Self::ARM => "arm",
            Self::RISCV64 => "riscv64",
            _ => return None,
        })
    }

    /// The name of system call `number`; none where the architecture or the number is not known.
    pub fn syscall_name(self, number: u32) -> Option<&'static str> {
        let number = number as usize;
        match self {
            Self::X86_64 => x86_64::Sysno::new(number).map(|call| call.name()),
            Self::I386 => x86::Sysno::new(number).map(|call| call.name()),
            Self::AARCH64 => aarch64::Sysno::new(number).map(|call| call.name()),
            Self::ARM => arm::Sysno::new(number).map(|call| call.name()),
            Self::RISCV64 => riscv64::Sysno::new(number).map(|call| call.name()),
            _ => None,
        }
    }

    /// The number of the system call `name`; none where the architecture has no such call or is not known.
    pub fn syscall_number(self, name: &str) -> Option<u32> {
        Some(match self {
            Self::X86_64 => name.parse::<x86_64::Sysno>().ok()? as u32,
            Self::I386 => name.parse::<x86::Sysno>().ok()? as u32,
            Self::AARCH64 => name.parse::<aarch64::Sysno>().ok()? as u32,
            Self::ARM => name.parse::<arm::Sysno>().ok()? as u32,
            Self::RISCV64 => name.parse::<riscv64::Sysno>().ok()? as u32,
            _ => return None,
        })
    }
}

impl fmt::Display for Arch {
    /// As auditctl reads it: `b64` and `b32` for what this machine runs, else the name, else the number. auditctl itself
    /// prints `b64` and `b32` for others' architectures too, which it would read as its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            _ if *self == Self::NATIVE => f.write_str(if self.0 & 0x8000_0000 == 0 {
                "b32"
            } else {
                "b64"
            }),
            _ if Some(*self) == Self::COMPAT => f.write_str("b32"),
            Some(name) => f.write_str(name),
            None => write!(f, "{:#X}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_have_names_and_numbers() {
        for (arch, number) in [
            (Arch::X86_64, 59),
            (Arch::I386, 11),
            (Arch::AARCH64, 221),
            (Arch::ARM, 11),
            (Arch::RISCV64, 221),
        ] {
            assert_eq!(arch.syscall_number("execve"), Some(number), "{arch}");
            assert_eq!(arch.syscall_name(number), Some("execve"), "{arch}");
        }
        assert_eq!(Arch::X86_64.syscall_name(2047), None);
        assert_eq!(Arch(1).syscall_name(1), None);
        assert_eq!(Arch::AARCH64.syscall_number("open"), None);
    }
}
