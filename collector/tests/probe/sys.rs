//! System calls of single threads; the only unsafe code of these tests.

use std::ffi::CStr;
use std::io;

/// Makes the calling thread, and no other, run as `uid`. std and libc would change all threads of the process.
pub(crate) fn become_user(uid: u32) {
    // SAFETY: takes integers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    assert_eq!(
        result,
        0,
        "setresuid({uid}): {}",
        io::Error::last_os_error()
    );
}

/// Gives the calling thread a working directory of its own.
pub(crate) fn own_directory() {
    // SAFETY: takes an integer.
    let result = unsafe { libc::unshare(libc::CLONE_FS) };
    assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
}

/// openat(2) exactly as given, with no other call around it.
pub(crate) fn openat(folder: i32, path: &CStr, flags: i32) -> i64 {
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_openat, folder, path.as_ptr(), flags) };
    if result < 0 {
        return -i64::from(
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default(),
        );
    }
    close(result as i32);
    result
}

/// renameat2(2), whatever it answers.
pub(crate) fn renameat2(old: &CStr, new: &CStr) {
    // SAFETY: the paths are NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            old.as_ptr(),
            libc::AT_FDCWD,
            new.as_ptr(),
            0,
        )
    };
}

/// openat(2) of a path in memory that is not there.
pub(crate) fn openat_nowhere() {
    // SAFETY: the kernel answers EFAULT.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, 8, 0) };
}

/// openat(2) of a path on a page that has never been touched: mapped from a file, not yet in this process's memory.
pub(crate) fn openat_untouched(file: &std::fs::File) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: a new mapping takes nobody's memory; it is only ever read, by the kernel, and is unmapped at the end.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(page, libc::MAP_FAILED);
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, page, libc::O_RDONLY);
        libc::munmap(page, 4096);
    }
}

pub(crate) fn close(descriptor: i32) {
    // SAFETY: takes an integer; the descriptor is one of `openat` that nobody else has.
    unsafe { libc::syscall(libc::SYS_close, descriptor) };
}

pub(crate) fn tid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Sends SIGURG to the calling thread, whose handler returns by rt_sigreturn(2).
pub(crate) fn take_a_signal() {
    extern "C" fn handler(_signal: i32) {}
    // SAFETY: the handler does nothing; nobody else in this process uses SIGURG; the signal is for this thread only.
    unsafe {
        libc::signal(libc::SIGURG, handler as *const () as libc::sighandler_t);
        libc::syscall(
            libc::SYS_tgkill,
            libc::getpid(),
            libc::syscall(libc::SYS_gettid),
            libc::SIGURG,
        );
    }
}

/// getppid by `int 0x80`, number 64 of the i386 table.
#[cfg(target_arch = "x86_64")]
pub(crate) fn compat_getppid() -> i32 {
    let result: i32;
    // SAFETY: takes no arguments and touches no memory; the registers the kernel may change are declared.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 64 => result,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    result
}
