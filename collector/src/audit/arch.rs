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
    /// 64-bit PowerPC, big endian.
    pub const PPC64: Self = Self(0x8000_0015);
    /// 64-bit PowerPC, little endian.
    pub const PPC64LE: Self = Self(0xC000_0015);
    /// 32-bit PowerPC.
    pub const PPC: Self = Self(0x0000_0014);
    /// 64-bit S/390.
    pub const S390X: Self = Self(0x8000_0016);
    /// 31-bit S/390.
    pub const S390: Self = Self(0x0000_0016);

    /// The architectures whose system calls are known by name.
    pub const WITH_SYSCALLS: [Self; 5] = [
        Self::X86_64,
        Self::I386,
        Self::AARCH64,
        Self::ARM,
        Self::RISCV64,
    ];

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
    pub const COMPAT: Option<Self> = Self::NATIVE.compat();

    /// The 32-bit architecture whose programs a kernel of this 64-bit one may run.
    pub const fn compat(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::I386),
            Self::AARCH64 => Some(Self::ARM),
            Self::PPC64 => Some(Self::PPC),
            Self::S390X => Some(Self::S390),
            _ => None,
        }
    }

    /// Whether its words have 64 bits (`__AUDIT_ARCH_64BIT`).
    pub const fn is_64_bit(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }

    /// The name in the kernel's own words; none for architectures not known here.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::AARCH64 => "aarch64",
            Self::ARM => "arm",
            Self::RISCV64 => "riscv64",
            Self::PPC64 => "ppc64",
            Self::PPC64LE => "ppc64le",
            Self::PPC => "ppc",
            Self::S390X => "s390x",
            Self::S390 => "s390",
            _ => return None,
        })
    }

    /// The architecture of a name in the kernel's words or uname(1)'s, in lower case.
    pub fn named(name: &str) -> Option<Self> {
        let named = |(known, _): &&(&str, Self)| *known == name;
        NAMES.iter().find(named).map(|(_, arch)| *arch)
    }

    /// Every name of an architecture.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
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

const NAMES: [(&str, Arch); 19] = [
    ("x86_64", Arch::X86_64),
    ("i386", Arch::I386),
    ("i486", Arch::I386),
    ("i586", Arch::I386),
    ("i686", Arch::I386),
    ("aarch64", Arch::AARCH64),
    ("armv8l", Arch::AARCH64),
    ("arm", Arch::ARM),
    ("armeb", Arch::ARM),
    ("armv5tejl", Arch::ARM),
    ("armv5tel", Arch::ARM),
    ("armv6l", Arch::ARM),
    ("armv7l", Arch::ARM),
    ("riscv64", Arch::RISCV64),
    ("ppc64", Arch::PPC64),
    ("ppc64le", Arch::PPC64LE),
    ("ppc", Arch::PPC),
    ("s390x", Arch::S390X),
    ("s390", Arch::S390),
];

impl fmt::Display for Arch {
    /// As auditctl reads it: `b64` and `b32` for what this machine runs, else the name, else the number. auditctl itself
    /// prints `b64` and `b32` for others' architectures too, which it would read as its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            _ if *self == Self::NATIVE => f.write_str(if self.is_64_bit() { "b64" } else { "b32" }),
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
        for arch in Arch::WITH_SYSCALLS {
            assert!(arch.syscall_number("openat").is_some(), "{arch}");
        }
    }

    #[test]
    fn every_name_leads_to_an_architecture_with_a_name() {
        assert_eq!(Arch::named("i686"), Some(Arch::I386));
        assert_eq!(Arch::named("amd64"), None);
        for name in Arch::names() {
            let arch = Arch::named(name).unwrap();
            assert_eq!(Arch::named(arch.name().unwrap()), Some(arch));
        }
        assert_eq!(Arch::X86_64.compat(), Some(Arch::I386));
        assert!(Arch::S390X.is_64_bit() && !Arch::ARM.is_64_bit());
    }
}
