//! System calls exactly as written, for the workload and for virtual machines; with [`crate::ring`]'s the only unsafe code of this crate.
//!
//! The workload must make the calls it counts and no others, so it goes round the C library and std where these would
//! open files or retry.

use std::ffi::{CStr, c_char};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;
use std::{io, ptr};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Sets the wall clock ahead. Only where nobody else goes by it.
///
/// # Errors
/// The errno.
pub fn step_clock_forward(by: Duration) -> io::Result<()> {
    step_clock(by.as_secs() as i64)
}

/// Sets the wall clock back. Only where nobody else goes by it.
///
/// # Errors
/// The errno.
pub fn step_clock_back(by: Duration) -> io::Result<()> {
    step_clock(-(by.as_secs() as i64))
}

fn step_clock(seconds: i64) -> io::Result<()> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which lives for the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    time.tv_sec += seconds;
    // SAFETY: the kernel reads one timespec, which lives for the call.
    if unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The CPU time of this process so far, in user and in kernel mode.
///
/// # Errors
/// The errno.
pub fn cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which lives for the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The current directory as a folder's descriptor.
pub const AT_FDCWD: i32 = libc::AT_FDCWD;

/// `openat(2)` for reading, with `mode`, which the kernel ignores without O_CREAT but both witnesses report.
///
/// # Errors
/// The errno.
pub fn openat(folder: i32, path: &CStr, mode: u32) -> io::Result<i32> {
    openat_for(folder, path, libc::O_RDONLY | libc::O_CLOEXEC, mode)
}

/// `openat(2)` with these flags and this mode; the C library's leaves out the mode of a file that is not created.
///
/// # Errors
/// The errno.
pub fn openat_for(folder: i32, path: &CStr, flags: i32, mode: u32) -> io::Result<i32> {
    // SAFETY: `path` is a NUL-terminated string that outlives the call; the other arguments are integers.
    let result = unsafe { libc::syscall(libc::SYS_openat, folder, path.as_ptr(), flags, mode) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// Any call whose arguments are integers, or addresses of strings with a NUL at their end.
///
/// # Errors
/// The errno.
pub fn call(number: i64, arguments: [u64; 5]) -> io::Result<i64> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the callers pass calls that write nowhere but to memory that they keep for that, and addresses of strings
    // that they keep.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, 0_u64) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// `close(2)` of a descriptor that [`openat`] returned.
pub fn close(descriptor: i32) {
    // SAFETY: takes an integer; the caller got it from `openat` and nobody else owns it.
    unsafe { libc::syscall(libc::SYS_close, descriptor) };
}

/// Calls of which the kernel reads strings and bytes that the caller gives, and writes nothing of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum Reading {
    Openat,
    Unlinkat,
    Renameat2,
    Mkdirat,
    Fchmodat,
    Linkat,
    Symlinkat,
    Truncate,
    Connect,
    Kill,
}

impl Reading {
    /// The call's name.
    pub fn name(self) -> &'static str {
        self.number_and_name().1
    }

    fn number_and_name(self) -> (libc::c_long, &'static str) {
        match self {
            Self::Openat => (libc::SYS_openat, "openat"),
            Self::Unlinkat => (libc::SYS_unlinkat, "unlinkat"),
            Self::Renameat2 => (libc::SYS_renameat2, "renameat2"),
            Self::Mkdirat => (libc::SYS_mkdirat, "mkdirat"),
            Self::Fchmodat => (libc::SYS_fchmodat, "fchmodat"),
            Self::Linkat => (libc::SYS_linkat, "linkat"),
            Self::Symlinkat => (libc::SYS_symlinkat, "symlinkat"),
            Self::Truncate => (libc::SYS_truncate, "truncate"),
            Self::Connect => (libc::SYS_connect, "connect"),
            Self::Kill => (libc::SYS_kill, "kill"),
        }
    }
}

/// An argument of such a call.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// A number, a descriptor or flags.
    Number(u64),
    /// A string's address.
    Text(&'a CStr),
    /// Bytes' address, which the next argument must be the length of.
    Bytes(&'a [u8]),
}

impl Argument<'_> {
    fn value(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Text(text) => text.as_ptr() as u64,
            Self::Bytes(bytes) => bytes.as_ptr() as u64,
        }
    }
}

/// Makes the call; what the kernel got, and what it returned, which is the errno, negative, where it failed. Arguments that are not
/// given are 0.
///
/// # Panics
/// Where bytes are not followed by their length.
pub fn make(call: Reading, arguments: &[Argument<'_>]) -> ([u64; 4], i64) {
    let mut args = [0; 6];
    for (index, argument) in arguments.iter().enumerate() {
        args[index] = argument.value();
        if let Argument::Bytes(bytes) = argument {
            assert_eq!(arguments[index + 1].value(), bytes.len() as u64);
        }
    }
    let [a0, a1, a2, a3, a4, a5] = args;
    // SAFETY: these calls read NUL-terminated strings and, for connect, as many bytes as the argument behind them says; both
    // outlive the call. They write none of our memory.
    let result = unsafe { libc::syscall(call.number_and_name().0, a0, a1, a2, a3, a4, a5) };
    ([a0, a1, a2, a3], returned(result))
}

/// `execve(2)` with an empty environment, of a program that is not there.
pub fn execute_nothing(path: &CStr, argv: &[&CStr]) -> ([u64; 4], i64) {
    let argv = pointers(argv);
    let (path, argv, envp) = (path.as_ptr(), argv.as_ptr(), [ptr::null::<c_char>()]);
    // SAFETY: a NUL-terminated string and two arrays that end with a null pointer, which outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_execve, path, argv, envp.as_ptr(), 0) };
    (
        [path as u64, argv as u64, envp.as_ptr() as u64, 0],
        returned(result),
    )
}

/// Runs a program with an empty environment in a process of its own and waits for its end: the process, what the kernel got
/// for arguments of `execve(2)`, and whether the program ended with status 0. Threads may do so at the same time.
///
/// # Errors
/// Where the kernel refuses another process.
pub fn execute(path: &CStr, argv: &[&CStr]) -> io::Result<(u32, [u64; 4], bool)> {
    let argv = pointers(argv);
    let (path, argv, envp) = (path.as_ptr(), argv.as_ptr(), [ptr::null::<c_char>()]);
    let envp = envp.as_ptr();
    // SAFETY: the child makes two system calls and touches nothing else, so that no lock can matter which another thread
    // held; path, argv and envp are as execve wants them and live on in the child's copy.
    let child = unsafe {
        match libc::fork() {
            0 => {
                libc::syscall(libc::SYS_execve, path, argv, envp, 0);
                libc::_exit(127)
            }
            child => child,
        }
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let status = loop {
        match waitpid(nix::unistd::Pid::from_raw(child), None) {
            Err(nix::errno::Errno::EINTR) => {}
            status => break status?,
        }
    };
    let succeeded = matches!(status, WaitStatus::Exited(_, 0));
    Ok((
        child as u32,
        [path as u64, argv as u64, envp as u64, 0],
        succeeded,
    ))
}

fn pointers(texts: &[&CStr]) -> Vec<*const c_char> {
    let texts = texts.iter().map(|text| text.as_ptr());
    texts.chain([ptr::null()]).collect()
}

/// What a call returned, as the kernel did.
fn returned(result: libc::c_long) -> i64 {
    match result {
        -1 => -i64::from(
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default(),
        ),
        result => result,
    }
}

/// Runs `child` in a forked process, which then ends with status 0, or 1 where it panicked; returns the child's pid.
///
/// # Errors
/// Where the kernel refuses another process.
pub fn in_child(child: impl FnOnce() + std::panic::UnwindSafe) -> io::Result<u32> {
    // SAFETY: the workload has one thread when it forks, so no lock can be held by a thread the child does not have.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw() as u32),
        ForkResult::Child => {
            let status = i32::from(std::panic::catch_unwind(child).is_err());
            // SAFETY: ends the process at once; the parent's buffers must not be flushed a second time here.
            unsafe { libc::_exit(status) }
        }
    }
}

/// A duplicate of descriptor `number` of process `pid`: `pidfd_getfd(2)`, since Linux 5.6. Needs what ptrace needs.
///
/// # Errors
/// The errno.
pub fn descriptor_of(pid: u32, number: i32) -> io::Result<OwnedFd> {
    let owned = |descriptor: i64| -> io::Result<OwnedFd> {
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned it as a new descriptor, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
    };
    // SAFETY: takes integers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: takes integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Sets `NETLINK_NO_ENOBUFS`: the socket is not told of what it has no room for.
///
/// # Errors
/// The errno.
pub fn hide_overruns(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int.
    unsafe { set_option(socket, libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, &on) }
}

/// Has the kernel throw away whatever comes for the socket, as it does with what a filter refuses.
///
/// # Errors
/// The errno.
pub fn refuse_everything(socket: &OwnedFd) -> io::Result<()> {
    // Of each datagram 0 bytes are to be kept.
    let mut code = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: the option is a sock_fprog, which points to as many instructions as it says.
    unsafe { set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program) }
}

/// Ends [`refuse_everything`].
///
/// # Errors
/// The errno.
pub fn take_everything(socket: &OwnedFd) -> io::Result<()> {
    let ignored: libc::c_int = 0;
    // SAFETY: the option is an int.
    unsafe { set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &ignored) }
}

/// Sets a socket's option.
///
/// # Safety
/// The option must be a `T`, and what that points to be valid.
unsafe fn set_option<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads one `T`, whose size is given, and the caller sees to what it points to.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for all children; true where each ended with status 0.
pub fn all_children_succeeded() -> bool {
    let mut succeeded = true;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(_, 0)) => {}
            Ok(_) => succeeded = false,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return succeeded,
        }
    }
}

/// Switches the interface `lo` on, which a kernel that has just started has off.
///
/// # Errors
/// The errno.
pub fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: all zeros are a valid ifreq: integers, arrays and a pointer that this request does not read.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which `request` is, and keeps no pointer to it.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `int 0x80` makes a 32-bit call, tried with getppid in a child: without the kernel's support it is a fault.
pub fn compat_calls_work() -> bool {
    compat::work()
}

#[cfg(target_arch = "x86_64")]
pub use compat::{getppid as compat_getppid, openat as compat_openat};

#[cfg(target_arch = "x86_64")]
mod compat {
    use std::arch::asm;
    use std::ffi::CStr;
    use std::process::{Command, Stdio};
    use std::{io, ptr};

    /// `openat(2)` with `mode` by the 32-bit way in, number 295 of the i386 table.
    ///
    /// # Errors
    /// The errno, or why there is no memory that 32 bits reach.
    pub fn openat(path: &CStr, mode: u32) -> io::Result<i32> {
        let low = LowMemory::holding(path)?;
        // SAFETY: the path lies NUL-terminated in `low`, which outlives the call; the others are integers.
        let result = unsafe { call(295, [libc::AT_FDCWD as u32, low.address(), 0, mode]) };
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        Ok(result)
    }

    pub(super) fn work() -> bool {
        // A copy of the workload tries it: where the kernel lacks the entry, the fault ends that process only.
        Command::new(crate::built_folder().join("workload"))
            .args(["compat", "--count", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// getppid, number 64 of the i386 table.
    pub fn getppid() -> i32 {
        // SAFETY: takes no arguments and touches no memory.
        unsafe { call(64, [0; 4]) }
    }

    /// A call through `int 0x80`.
    ///
    /// # Safety
    /// As the call itself demands; addresses must point to memory that stays valid for its time.
    unsafe fn call(number: u32, arguments: [u32; 4]) -> i32 {
        let result: i32;
        // SAFETY: rbx, which the compiler keeps for itself, is put back; the kernel changes r8 to r11 at most, which
        // are declared, and nothing of memory but what the caller answers for.
        unsafe {
            asm!(
                "xchg {first:r}, rbx",
                "int 0x80",
                "xchg {first:r}, rbx",
                first = inout(reg) u64::from(arguments[0]) => _,
                inlateout("eax") number => result,
                in("ecx") arguments[1],
                in("edx") arguments[2],
                in("esi") arguments[3],
                out("r8") _,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        result
    }

    /// A page below 4 GiB.
    struct LowMemory(*mut libc::c_void);

    impl LowMemory {
        const LENGTH: usize = 4096;

        fn holding(text: &CStr) -> io::Result<Self> {
            let bytes = text.to_bytes_with_nul();
            if bytes.len() > Self::LENGTH {
                return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
            }
            // SAFETY: a new anonymous mapping takes nobody's memory.
            let memory = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    Self::LENGTH,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                    -1,
                    0,
                )
            };
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the page was just mapped for writing and is at least as long as `bytes`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len()) };
            Ok(Self(memory))
        }

        fn address(&self) -> u32 {
            u32::try_from(self.0 as usize).expect("MAP_32BIT maps below 2 GiB")
        }
    }

    impl Drop for LowMemory {
        fn drop(&mut self) {
            // SAFETY: the page was mapped by `holding` and is not used any more.
            unsafe { libc::munmap(self.0, Self::LENGTH) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod compat {
    pub(super) fn work() -> bool {
        false
    }
}
