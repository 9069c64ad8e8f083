//! BPF programs.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        macros::{map, raw_tracepoint},
        maps::PerCpuArray,
        programs::RawTracePointContext,
    };

    #[map]
    static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(4, 0);

    #[raw_tracepoint(tracepoint = "sys_enter")]
    fn sys_enter(_ctx: RawTracePointContext) -> i32 {
        if let Some(counter) = COUNTERS.get_ptr_mut(0) {
            // SAFETY: a per-CPU slot; nobody else writes it while this program runs.
            unsafe { *counter += 1 };
        }
        0
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
