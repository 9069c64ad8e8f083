//! Reading memory: the kernel's at offsets from [`crate::maps::LAYOUT`], and the caller's.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user,
};

use crate::maps::typed;

/// The current task, as [`load`] takes it. As a key of a map take what `bpf_get_current_task` returns: what a helper was
/// given the address of has lost its type.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: helpers without arguments.
    unsafe {
        if typed() {
            bpf_get_current_task_btf() as u64
        } else {
            bpf_get_current_task()
        }
    }
}

/// The member at `base + offset`, or zeros, as [`read`], but by a plain load, which takes a tenth of the time: for what is
/// reached from [`current`] by members that are pointers, each loaded by this, so that the verifier knows its type. One member
/// at a time; and null stays null.
#[inline(always)]
pub(crate) fn load<T: Copy>(base: u64, offset: u32) -> T {
    if typed() {
        // SAFETY: the verifier knows `base` for a pointer to a structure of the kernel with this member, and the kernel
        // gives zeros where it leads nowhere.
        unsafe { ((base + u64::from(offset)) as *const T).read_volatile() }
    } else {
        read(base, offset)
    }
}

/// The value at `base + offset`, or zeros: reading never faults, and where the kernel's pointers hold it never fails.
///
/// The helper's own result is not looked at. It fills the value with zeros when it fails, and a branch here would
/// double what the verifier has to follow at every read.
#[inline(always)]
pub(crate) fn read<T: Copy>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let address = base + u64::from(offset);
    // SAFETY: the helper checks the address itself, and writes size_of::<T>() bytes of plain data in any case.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// The same in the caller's memory.
#[inline(always)]
pub(crate) fn read_user<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `read`.
    unsafe {
        bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// The pointer at `base + offset`.
#[inline(always)]
pub(crate) fn pointer(base: u64, offset: u32) -> u64 {
    read::<u64>(base, offset)
}
