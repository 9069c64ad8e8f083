//! Names of architectures, system calls and errors.

use syscalls::{Errno, aarch64, arm, riscv64, x86, x86_64};

/// Set in the call number of an x32 program (arch/x86/include/uapi/asm/unistd.h `__X32_SYSCALL_BIT`).
const X32: u32 = 0x4000_0000;

/// From here on x32 has calls of its own, which have no name here.
const X32_OWN: u32 = 512;

/// The name of an `AUDIT_ARCH_*` (include/uapi/linux/audit.h), as `uname -m` has it.
pub const fn arch_name(arch: u32) -> Option<&'static str> {
    Some(match arch {
        0xc000_003e => "x86_64",
        0x4000_0003 => "i386",
        0xc000_00b7 => "aarch64",
        0x4000_0028 => "arm",
        0x0000_0028 => "armeb",
        0xc000_00f3 => "riscv64",
        0x4000_00f3 => "riscv32",
        0x8000_0016 => "s390x",
        0x0000_0016 => "s390",
        0xc000_0015 => "ppc64le",
        0x8000_0015 => "ppc64",
        0x0000_0014 => "ppc",
        0xc000_0102 => "loongarch64",
        _ => return None,
    })
}

/// The name of call `number` on `arch`.
pub fn syscall_name(arch: u32, number: u32) -> Option<&'static str> {
    let id = number as usize;
    match arch_name(arch)? {
        "x86_64" if number & X32 != 0 => {
            let number = number & !X32;
            if number >= X32_OWN {
                return None;
            }
            x86_64::Sysno::new(number as usize).map(|call| call.name())
        }
        "x86_64" => x86_64::Sysno::new(id).map(|call| call.name()),
        "i386" => x86::Sysno::new(id).map(|call| call.name()),
        "aarch64" => aarch64::Sysno::new(id).map(|call| call.name()),
        "arm" => arm::Sysno::new(id).map(|call| call.name()),
        "riscv64" => riscv64::Sysno::new(id).map(|call| call.name()),
        _ => None,
    }
}

/// Whether a call's result is an error (include/linux/err.h `IS_ERR_VALUE`).
pub const fn is_error(result: i64) -> bool {
    -4095 <= result && result < 0
}

/// The name of the error a call's result says.
pub fn errno_name(result: i64) -> Option<&'static str> {
    if !is_error(result) {
        return None;
    }
    Errno::new(i32::try_from(-result).ok()?).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_by_their_own_architecture() {
        assert_eq!(syscall_name(0xc000_003e, 257), Some("openat"));
        assert_eq!(syscall_name(0x4000_0003, 5), Some("open"));
        assert_eq!(syscall_name(0xc000_00b7, 56), Some("openat"));
        assert_eq!(syscall_name(0xc000_003e, X32 | 257), Some("openat"));
        assert_eq!(syscall_name(0xc000_003e, X32 | 520), None);
        assert_eq!(syscall_name(0xc000_003e, 9_999), None);
        assert_eq!(syscall_name(7, 1), None);
    }

    #[test]
    fn only_results_in_the_error_range_are_errors() {
        assert_eq!(errno_name(-13), Some("EACCES"));
        assert_eq!(errno_name(-4_096), None);
        assert_eq!(errno_name(3), None);
        assert_eq!(errno_name(i64::MIN), None);
    }
}
