//! The registers a call was made with, by machine. `struct pt_regs` is the same in every kernel and configuration of
//! one machine, so these offsets are constants (arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::programs::TracePointContext;

use crate::kernel::{current, load};
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
pub(crate) fn arch_index() -> usize {
    usize::from(load::<u32>(current(), offset!(task_compat)) & COMPAT != 0)
}

/// The registers of the current task's system call, as the tracepoints of the other kind hand them over.
#[inline(always)]
pub(crate) fn of_this_task() -> *const u64 {
    // SAFETY: the helpers take no pointer but the current task's, which the first returns.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u64 }
}

/// Argument `place` of a plain tracepoint of `raw_syscalls`, all of whose arguments are 8 bytes long and follow 8 bytes
/// that all tracepoints have (events/raw_syscalls/sys_enter/format in tracefs): the number, then the arguments or the
/// result.
#[inline(always)]
pub(crate) fn plain_argument(context: &TracePointContext, place: usize) -> u64 {
    // SAFETY: the context is as long as the tracepoint's arguments, which the verifier checks.
    unsafe {
        context
            .as_ptr()
            .cast::<u64>()
            .add(1 + place)
            .read_volatile()
    }
}

/// A register, `place` words into the `struct pt_regs` of a tracepoint's first argument. The verifier knows the type
/// of that pointer, so this is a plain load and no call of a helper.
#[inline(always)]
fn word(regs: *const u64, place: usize) -> u64 {
    // SAFETY: the kernel's tracepoint gives the registers of the current task, which outlive the program's run;
    // volatile, so that each load stays a load of one register as the verifier wants them.
    unsafe { regs.add(place).read_volatile() }
}

/// The number of the call that is about to return: `orig_ax`.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn number_at_exit(regs: *const u64) -> u64 {
    word(regs, 15)
}

/// The number of the call that is about to return: `syscallno`, 32 bits wide.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn number_at_exit(regs: *const u64) -> u64 {
    // SAFETY: as in `word`.
    u64::from(unsafe { regs.cast::<u32>().add(70).read_volatile() })
}

/// The six arguments at the entry, and two zeros.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn arguments(regs: *const u64, arch: usize) -> [u64; 8] {
    let (di, si, dx) = (word(regs, 14), word(regs, 13), word(regs, 12));
    if arch == 0 {
        let (r10, r8, r9) = (word(regs, 7), word(regs, 9), word(regs, 8));
        [di, si, dx, r10, r8, r9, 0, 0]
    } else {
        let (bx, cx, bp) = (word(regs, 5), word(regs, 11), word(regs, 4));
        [bx, cx, dx, si, di, bp, 0, 0].map(|register| register & 0xffff_ffff)
    }
}

/// The same registers at the exit.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn arguments_at_exit(regs: *const u64, arch: usize) -> [u64; 8] {
    arguments(regs, arch)
}

/// The same registers at the exit: the result took the place of the first, which `orig_x0` keeps.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn arguments_at_exit(regs: *const u64, arch: usize) -> [u64; 8] {
    let mut arguments = arguments(regs, arch);
    let first = word(regs, 34);
    arguments[0] = if arch == 0 {
        first
    } else {
        first & 0xffff_ffff
    };
    arguments
}

/// The six arguments at the entry, and two zeros.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn arguments(regs: *const u64, arch: usize) -> [u64; 8] {
    let mut registers = [0; 8];
    for (place, register) in registers.iter_mut().take(6).enumerate() {
        *register = word(regs, place);
    }
    if arch == 0 {
        registers
    } else {
        registers.map(|register| register & 0xffff_ffff)
    }
}
