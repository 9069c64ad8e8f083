//! The registers a call was made with, by machine. `struct pt_regs` is the same in every kernel and configuration of
//! one machine, so these offsets are constants (arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h).

use crate::kernel::read;
use crate::maps::offset;

/// `AUDIT_ARCH_*` of the machine's own calls and of its 32-bit ones (include/uapi/linux/audit.h).
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) const ARCHES: [u32; 2] = [0xC000_003E, 0x4000_0003];
/// `AUDIT_ARCH_*` of the machine's own calls and of its 32-bit ones (include/uapi/linux/audit.h).
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) const ARCHES: [u32; 2] = [0xC000_00B7, 0x4000_0028];

/// `TS_COMPAT` of thread_info.status on x86, as in syscall_get_arch().
#[cfg(bpf_target_arch = "x86_64")]
const COMPAT: u32 = 0x2;
/// `_TIF_32BIT` of thread_info.flags on arm64, as in is_compat_task().
#[cfg(bpf_target_arch = "aarch64")]
const COMPAT: u32 = 1 << 22;

/// 0 for a call of the machine's own arch, 1 for a 32-bit one.
#[inline(always)]
pub(crate) fn arch_index(task: u64) -> usize {
    usize::from(read::<u32>(task, offset!(task_compat)) & COMPAT != 0)
}

/// The number of the call that is about to return. Arguments say nothing about it at that point.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn number_at_exit(regs: u64) -> u64 {
    read::<u64>(regs, 15 * 8)
}

/// The number of the call that is about to return.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn number_at_exit(regs: u64) -> u64 {
    u64::from(read::<u32>(regs, 35 * 8))
}

/// The six arguments at the entry, and two zeros.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn arguments(regs: u64, arch: usize) -> [u64; 8] {
    // bp bx r11 r10 r9 r8 ax cx dx si di, from r15 r14 r13 r12 at the start.
    let [bp, bx, _r11, r10, r9, r8, _ax, cx, dx, si, di] = read::<[u64; 11]>(regs, 4 * 8);
    if arch == 0 {
        [di, si, dx, r10, r8, r9, 0, 0]
    } else {
        [bx, cx, dx, si, di, bp, 0, 0].map(|register| register & 0xffff_ffff)
    }
}

/// The six arguments at the entry, and two zeros.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn arguments(regs: u64, arch: usize) -> [u64; 8] {
    let [x0, x1, x2, x3, x4, x5] = read::<[u64; 6]>(regs, 0);
    let registers = [x0, x1, x2, x3, x4, x5, 0, 0];
    if arch == 0 {
        registers
    } else {
        registers.map(|register| register & 0xffff_ffff)
    }
}
