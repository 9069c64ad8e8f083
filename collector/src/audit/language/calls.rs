//! Names of what `-S` can name: system calls per architecture, and operations of io_uring.
//!
//! Owns the way between names and numbers in auditctl's words, where they differ from the kernel's. Names are those of
//! libaudit 3.0.9; what is newer has the kernel's name. No I/O.

use crate::audit::arch::Arch;
use crate::audit::rules::{FilterList, SYSCALL_LIMIT};

/// The name of call `number` on a list; none where it has none, or the architecture is not known.
pub fn call_name(list: FilterList, arch: Arch, number: u32) -> Option<&'static str> {
    if list == FilterList::URING_EXIT {
        return IO_URING_OPERATIONS.get(number as usize).copied();
    }
    let differs = |other: &&Other| other.arch == arch && other.number == number;
    match OTHER_NAMES.iter().find(differs) {
        Some(other) => Some(other.name),
        None if is_32_bit_only(arch, number) => None,
        None => arch.syscall_name(number),
    }
}

/// The number of the call `name` on a list, whatever its case. Where libaudit has another name than the kernel, either
/// will do.
pub fn call_number(list: FilterList, arch: Arch, name: &str) -> Option<u32> {
    let name = name.to_ascii_lowercase();
    if list == FilterList::URING_EXIT {
        let number = IO_URING_OPERATIONS
            .iter()
            .position(|operation| *operation == name)?;
        return u32::try_from(number).ok();
    }
    OTHER_NAMES
        .iter()
        .chain(&SECOND_NAMES)
        .find(|other| other.arch == arch && other.name == name)
        .map(|other| other.number)
        .or_else(|| arch.syscall_number(&name))
        .filter(|number| !is_32_bit_only(arch, *number))
}

/// Every name a call of a list goes by.
pub fn call_names(list: FilterList, arch: Arch) -> Box<dyn Iterator<Item = &'static str>> {
    if list == FilterList::URING_EXIT {
        return Box::new(IO_URING_OPERATIONS.into_iter());
    }
    let others = OTHER_NAMES.iter().chain(&SECOND_NAMES);
    Box::new(
        others
            .filter(move |other| other.arch == arch)
            .map(|other| other.name)
            .chain((0..SYSCALL_LIMIT).filter_map(move |number| arch.syscall_name(number))),
    )
}

/// Whether the kernel reports no io_uring operation `number` on any list (`audit_skip` of io_uring/opdef.c, the same in
/// Linux 6.1 to 7.2).
pub fn is_never_reported(number: u32) -> bool {
    matches!(number, 0..=8 | 11 | 12 | 14 | 20..=24 | 26 | 27 | 29..=33 | 45 | 47)
}

struct Other {
    arch: Arch,
    number: u32,
    name: &'static str,
}

const fn other(arch: Arch, number: u32, name: &'static str) -> Other {
    Other { arch, number, name }
}

/// Where libaudit's tables name a call otherwise than the kernel, or the kernel no longer names it.
const OTHER_NAMES: [Other; 28] = [
    other(Arch::X86_64, 17, "pread"),
    other(Arch::X86_64, 18, "pwrite"),
    other(Arch::I386, 17, "break"),
    other(Arch::I386, 283, "sys_kexec_load"),
    other(Arch::I386, 423, "sched_rr_get_interval64"),
    other(Arch::AARCH64, 61, "getdents"),
    other(Arch::AARCH64, 67, "pread"),
    other(Arch::AARCH64, 68, "pwrite"),
    other(Arch::AARCH64, 79, "newfstatat"),
    other(Arch::AARCH64, 80, "newfstat"),
    other(Arch::ARM, 13, "time"),
    other(Arch::ARM, 22, "umount"),
    other(Arch::ARM, 25, "stime"),
    other(Arch::ARM, 27, "alarm"),
    other(Arch::ARM, 30, "utime"),
    other(Arch::ARM, 76, "getrlimit"),
    other(Arch::ARM, 82, "select"),
    other(Arch::ARM, 89, "readdir"),
    other(Arch::ARM, 90, "mmap"),
    other(Arch::ARM, 102, "socketcall"),
    other(Arch::ARM, 113, "syscall"),
    other(Arch::ARM, 117, "ipc"),
    other(Arch::ARM, 140, "llseek"),
    other(Arch::ARM, 142, "newselect"),
    other(Arch::ARM, 149, "sysctl"),
    other(Arch::ARM, 270, "fadvise64_64"),
    other(Arch::ARM, 341, "sync_file_range"),
    other(Arch::ARM, 423, "sched_rr_get_interval64"),
];

/// What libaudit reads but does not write.
const SECOND_NAMES: [Other; 1] = [other(Arch::I386, 219, "madvise1")];

/// Calls with 64-bit times, which only 32-bit architectures have: asm-generic/unistd.h leaves their numbers free on others.
fn is_32_bit_only(arch: Arch, number: u32) -> bool {
    matches!(arch, Arch::AARCH64 | Arch::RISCV64) && matches!(number, 403..=423)
}

/// `enum io_uring_op` of include/uapi/linux/io_uring.h up to Linux 6.18, by number.
const IO_URING_OPERATIONS: [&str; 63] = [
    "nop",
    "readv",
    "writev",
    "fsync",
    "read_fixed",
    "write_fixed",
    "poll_add",
    "poll_remove",
    "sync_file_range",
    "sendmsg",
    "recvmsg",
    "timeout",
    "timeout_remove",
    "accept",
    "async_cancel",
    "link_timeout",
    "connect",
    "fallocate",
    "openat",
    "close",
    "files_update",
    "statx",
    "read",
    "write",
    "fadvise",
    "madvise",
    "send",
    "recv",
    "openat2",
    "epoll_ctl",
    "splice",
    "provide_buffers",
    "remove_buffers",
    "tee",
    "shutdown",
    "renameat",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "msg_ring",
    "fsetxattr",
    "setxattr",
    "fgetxattr",
    "getxattr",
    "socket",
    "uring_cmd",
    "send_zc",
    "sendmsg_zc",
    "read_multishot",
    "waitid",
    "futex_wait",
    "futex_wake",
    "futex_waitv",
    "fixed_fd_install",
    "ftruncate",
    "bind",
    "listen",
    "recv_zc",
    "epoll_wait",
    "readv_fixed",
    "writev_fixed",
    "pipe",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_auditctl_prints_and_lead_back() {
        for arch in [
            Arch::X86_64,
            Arch::I386,
            Arch::AARCH64,
            Arch::ARM,
            Arch::RISCV64,
        ] {
            for number in 0..2048 {
                if let Some(name) = call_name(FilterList::EXIT, arch, number) {
                    assert_eq!(call_number(FilterList::EXIT, arch, name), Some(number));
                    assert!(
                        name.bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    );
                }
            }
        }
        let number = |arch, name| call_number(FilterList::EXIT, arch, name);
        assert_eq!(call_name(FilterList::EXIT, Arch::X86_64, 17), Some("pread"));
        assert_eq!(number(Arch::X86_64, "pread64"), Some(17));
        assert_eq!(number(Arch::I386, "madvise1"), Some(219));
        assert_eq!(number(Arch::AARCH64, "clock_gettime64"), None);
        assert_eq!(number(Arch::ARM, "clock_gettime64"), Some(403));
        assert_eq!(number(Arch::X86_64, "all"), None);
    }

    #[test]
    fn operations_of_io_uring_are_numbered_apart() {
        let list = FilterList::URING_EXIT;
        for (number, name) in [(0, "nop"), (18, "openat"), (48, "sendmsg_zc"), (62, "pipe")] {
            assert_eq!(call_name(list, Arch::X86_64, number), Some(name));
            assert_eq!(call_number(list, Arch::X86_64, name), Some(number));
        }
        assert_eq!(call_name(list, Arch::X86_64, 63), None);
        assert_eq!(call_number(list, Arch::X86_64, "execve"), None);
        let reported: Vec<_> = (0..49)
            .filter(|number| !is_never_reported(*number))
            .filter_map(|number| call_name(list, Arch::X86_64, number))
            .collect();
        assert!(reported.contains(&"openat") && reported.contains(&"uring_cmd"));
        assert!(!reported.contains(&"read") && !reported.contains(&"socket"));
    }
}
