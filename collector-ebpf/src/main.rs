//! The BPF programs: the syscall witness on the tracepoints sys_enter and sys_exit, and where the kernel allows it the
//! hooks on its audit code.
//!
//! One file per hook; what the hooks share (maps, the task's identity, path walking, sending) has a file per noun.
//! Built for the BPF target only; on the host this is an empty program, so that checks run over the whole workspace.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod arguments;
#[cfg(target_arch = "bpf")]
mod audit_free;
#[cfg(target_arch = "bpf")]
mod audit_log_exit;
#[cfg(target_arch = "bpf")]
mod audit_log_lost;
#[cfg(target_arch = "bpf")]
mod audit_log_uring;
#[cfg(target_arch = "bpf")]
mod conclusion;
#[cfg(target_arch = "bpf")]
mod draft;
#[cfg(target_arch = "bpf")]
mod judging;
#[cfg(target_arch = "bpf")]
mod kauditd_hold_skb;
#[cfg(target_arch = "bpf")]
mod kauditd_retry_skb;
#[cfg(target_arch = "bpf")]
mod kauditd_send_multicast_skb;
#[cfg(target_arch = "bpf")]
mod kept;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod label;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod mirror;
#[cfg(target_arch = "bpf")]
mod netlink_overrun;
#[cfg(target_arch = "bpf")]
mod noted;
#[cfg(target_arch = "bpf")]
mod opened;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod send;
#[cfg(target_arch = "bpf")]
mod sys_enter;
#[cfg(target_arch = "bpf")]
mod sys_exit;
#[cfg(target_arch = "bpf")]
mod walk;
#[cfg(target_arch = "bpf")]
mod written;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives some helpers to GPL-compatible programs only, and knows no other spelling of two licences.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
