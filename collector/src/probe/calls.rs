//! What each system call takes and may change, by name.
//!
//! Owns the tables; knows nothing of rules or maps. Names are those of the `syscalls` crate, which are the kernel's, so
//! that one table serves every arch.

use collector_ebpf::Plan;

use crate::audit::arch::Arch;

/// What the programs should read for `syscall` of `arch`; `start` is left open.
pub fn plan(arch: Arch, syscall: u32) -> Plan {
    let mut plan = Plan::NONE;
    let Some(name) = arch.syscall_name(syscall) else {
        return plan;
    };
    plan.paths = path_arguments(arch, name);
    (plan.sockaddr, plan.sockaddr_length) = match name {
        "connect" | "bind" => (2, 3),
        "sendto" => (5, 6),
        "sendmsg" | "socketcall" => (2, 0),
        _ => (0, 0),
    };
    plan.flags =
        match name {
            "exit" | "exit_group" => Plan::NO_RETURN,
            "open" | "openat" | "openat2" | "creat" => Plan::OPENS,
            "execve" | "execveat" => Plan::EXEC | Plan::CHANGES_IDS | Plan::CHANGES_LOGIN,
            "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid"
            | "setfsuid" | "setfsgid" | "setgroups" | "setuid32" | "setgid32" | "setreuid32"
            | "setregid32" | "setresuid32" | "setresgid32" | "setfsuid32" | "setfsgid32"
            | "setgroups32" => Plan::CHANGES_IDS,
            // /proc/self/loginuid is written like any file.
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile"
            | "sendfile64" | "splice" | "copy_file_range" | "io_uring_enter" | "io_submit"
            | "personality" => Plan::CHANGES_LOGIN,
            "chdir" => Plan::CHANGES_CWD,
            // The last two end a return probe and an entry probe of user space (arch/x86/kernel/uprobes.c).
            "rt_sigreturn" | "sigreturn" | "uretprobe" | "uprobe" => Plan::RESTORES_REGISTERS,
            "sendmsg" => Plan::MESSAGE,
            "socketcall" => Plan::SOCKETCALL,
            name if takes_file(name) => Plan::TAKES_FILE,
            _ => 0,
        };
    plan
}

/// The arguments that are paths, each plus one.
fn path_arguments(arch: Arch, name: &str) -> [u8; 2] {
    match name {
        "open" | "creat" | "access" | "chdir" | "chroot" | "mkdir" | "rmdir" | "unlink"
        | "readlink" | "chmod" | "chown" | "lchown" | "chown32" | "lchown32" | "truncate"
        | "truncate64" | "stat" | "lstat" | "stat64" | "lstat64" | "oldstat" | "oldlstat"
        | "statfs" | "statfs64" | "mknod" | "utime" | "utimes" | "acct" | "swapon" | "swapoff"
        | "umount" | "umount2" | "execve" | "uselib" | "setxattr" | "lsetxattr" | "getxattr"
        | "lgetxattr" | "listxattr" | "llistxattr" | "removexattr" | "lremovexattr" | "mq_open"
        | "mq_unlink" => [1, 0],
        "rename" | "link" | "symlink" | "pivot_root" | "mount" => [1, 2],
        "symlinkat" => [1, 3],
        "openat" | "openat2" | "mkdirat" | "mknodat" | "fchownat" | "futimesat" | "newfstatat"
        | "fstatat64" | "unlinkat" | "readlinkat" | "fchmodat" | "fchmodat2" | "faccessat"
        | "faccessat2" | "utimensat" | "utimensat_time64" | "statx" | "name_to_handle_at"
        | "execveat" | "inotify_add_watch" | "quotactl" | "open_tree" | "open_tree_attr"
        | "fspick" | "mount_setattr" | "setxattrat" | "getxattrat" | "listxattrat"
        | "removexattrat" | "file_getattr" | "file_setattr" => [2, 0],
        "renameat" | "renameat2" | "linkat" | "move_mount" => [2, 4],
        // A 64-bit mask takes two registers on 32-bit machines.
        "fanotify_mark" if arch.0 & 0x8000_0000 == 0 => [6, 0],
        "fanotify_mark" => [5, 0],
        _ => [0, 0],
    }
}

/// How the kernel decides `-F perm=` for a call (kernel/auditsc.c `audit_match_perm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionTest {
    /// It asks for these `AUDIT_PERM_*`, whatever its arguments.
    Fixed(u32),
    /// By the open flags in the second argument.
    OpenFlags1,
    /// By the open flags in the third argument.
    OpenFlags2,
    /// By something that is not at hand, or differently from kernel to kernel.
    Unknown,
}

const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const READ: u32 = 4;
const ATTRIBUTES: u32 = 8;

/// The test for `syscall` of `arch`, from the classes of include/asm-generic/audit_{read,write,dir_write,change_attr}.h.
pub fn permission_test(arch: Arch, syscall: u32) -> PermissionTest {
    let Some(name) = arch.syscall_name(syscall) else {
        return PermissionTest::Unknown;
    };
    PermissionTest::Fixed(match name {
        "open" => return PermissionTest::OpenFlags1,
        "openat" => return PermissionTest::OpenFlags2,
        // Flags in the caller's memory; classes that came with later kernels.
        "openat2" | "socketcall" | "fchmodat2" | "setxattrat" | "getxattrat" | "listxattrat"
        | "removexattrat" | "file_getattr" | "file_setattr" => return PermissionTest::Unknown,
        "execve" | "execveat" => EXECUTE,
        "rename" | "mkdir" | "rmdir" | "creat" | "unlink" | "symlink" | "mknod" | "mkdirat"
        | "mknodat" | "unlinkat" | "renameat" | "renameat2" | "symlinkat" | "acct" | "swapon"
        | "truncate" | "truncate64" | "ftruncate" | "ftruncate64" | "bind" | "fallocate" => WRITE,
        "link" | "linkat" => WRITE | ATTRIBUTES,
        "quotactl" => READ | WRITE,
        "readlink" | "readlinkat" | "listxattr" | "llistxattr" | "flistxattr" | "getxattr"
        | "lgetxattr" | "fgetxattr" => READ,
        "chmod" | "fchmod" | "chown" | "lchown" | "fchown" | "setxattr" | "lsetxattr"
        | "fsetxattr" | "removexattr" | "lremovexattr" | "fremovexattr" | "fchownat"
        | "fchmodat" | "chown32" | "fchown32" | "lchown32" => ATTRIBUTES,
        _ => 0,
    })
}

/// Which files a call notes, and in which order (fs/namei.c, fs/open.c, fs/xattr.c; 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noting {
    /// None.
    Nothing,
    /// What its path leads to.
    Lookup,
    /// The file behind its first argument.
    File,
    /// The directory and what is removed from it.
    Remove,
    /// The directory and what is made in it.
    Make,
    /// The text of the link, the directory and the link.
    Symlink,
    /// The file, the directory and the new name.
    Link,
    /// Both directories, what is renamed, what it takes the place of, and the new name.
    Rename,
    /// As its flags and its path have it.
    Open,
    /// It is not known.
    Unknown,
}

/// Which files `syscall` of `arch` notes.
pub fn noting(arch: Arch, syscall: u32) -> Noting {
    if names_no_file(arch, syscall) {
        return Noting::Nothing;
    }
    match arch.syscall_name(syscall) {
        Some("open" | "openat" | "openat2" | "creat") => Noting::Open,
        Some(
            "access" | "faccessat" | "faccessat2" | "stat" | "lstat" | "stat64" | "lstat64"
            | "newfstatat" | "fstatat64" | "statx" | "statfs" | "statfs64" | "readlink"
            | "readlinkat" | "chdir" | "chroot" | "chmod" | "fchmodat" | "fchmodat2" | "chown"
            | "lchown" | "chown32" | "lchown32" | "fchownat" | "truncate" | "truncate64" | "utime"
            | "utimes" | "futimesat" | "utimensat" | "utimensat_time64" | "setxattr" | "lsetxattr"
            | "getxattr" | "lgetxattr" | "listxattr" | "llistxattr" | "removexattr"
            | "lremovexattr",
        ) => Noting::Lookup,
        Some(name) if takes_file(name) => Noting::File,
        Some("unlink" | "unlinkat" | "rmdir") => Noting::Remove,
        Some("mkdir" | "mkdirat" | "mknod" | "mknodat") => Noting::Make,
        Some("symlink" | "symlinkat") => Noting::Symlink,
        Some("link" | "linkat") => Noting::Link,
        Some("rename" | "renameat" | "renameat2") => Noting::Rename,
        _ => Noting::Unknown,
    }
}

/// Whether the kernel notes the file behind the call's first argument (`audit_file`).
fn takes_file(name: &str) -> bool {
    matches!(
        name,
        "fchmod"
            | "fchown"
            | "fchown32"
            | "fsetxattr"
            | "fgetxattr"
            | "flistxattr"
            | "fremovexattr"
    )
}

/// Whether the call surely names no file, so that rules about files cannot match it. Only calls that are made very
/// often are listed; for the others such a rule stays *maybe*.
pub fn names_no_file(arch: Arch, syscall: u32) -> bool {
    matches!(
        arch.syscall_name(syscall),
        Some(
            "read"
                | "write"
                | "readv"
                | "writev"
                | "pread64"
                | "pwrite64"
                | "lseek"
                | "_llseek"
                | "mmap"
                | "mmap2"
                | "munmap"
                | "mremap"
                | "mprotect"
                | "madvise"
                | "brk"
                | "futex"
                | "futex_time64"
                | "poll"
                | "ppoll"
                | "select"
                | "_newselect"
                | "pselect6"
                | "epoll_wait"
                | "epoll_pwait"
                | "epoll_pwait2"
                | "epoll_ctl"
                | "nanosleep"
                | "clock_nanosleep"
                | "clock_gettime"
                | "gettimeofday"
                | "time"
                | "getpid"
                | "gettid"
                | "getppid"
                | "getuid"
                | "geteuid"
                | "getgid"
                | "getegid"
                | "getrandom"
                | "getrusage"
                | "rt_sigaction"
                | "rt_sigprocmask"
                | "rt_sigreturn"
                | "sched_yield"
                | "recvfrom"
                | "recvmsg"
                | "pipe"
                | "pipe2"
                | "wait4"
                | "waitid"
                | "set_robust_list"
                | "rseq"
                | "exit"
                | "exit_group"
                | "close"
                | "dup"
                | "dup2"
                | "dup3"
                | "fcntl"
                | "fstat"
                | "fstat64"
                | "getdents"
                | "getdents64"
                | "fsync"
                | "fdatasync"
                | "ftruncate"
                | "ftruncate64"
                | "fallocate"
                | "fchdir"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(arch: Arch, name: &str) -> Plan {
        plan(arch, arch.syscall_number(name).unwrap())
    }

    #[test]
    fn one_table_serves_every_arch() {
        for arch in [Arch::X86_64, Arch::I386, Arch::AARCH64, Arch::ARM] {
            assert_eq!(plan_of(arch, "openat").paths, [2, 0], "{arch}");
            assert_eq!(plan_of(arch, "renameat2").paths, [2, 4], "{arch}");
            assert_eq!(plan_of(arch, "connect").sockaddr, 2, "{arch}");
            assert_eq!(plan_of(arch, "exit_group").flags, Plan::NO_RETURN, "{arch}");
            assert_ne!(plan_of(arch, "execve").flags & Plan::EXEC, 0, "{arch}");
            let restoring = plan_of(arch, "rt_sigreturn").flags;
            assert_eq!(restoring, Plan::RESTORES_REGISTERS, "{arch}");
        }
        assert_eq!(plan_of(Arch::X86_64, "fanotify_mark").paths, [5, 0]);
        assert_eq!(plan_of(Arch::I386, "fanotify_mark").paths, [6, 0]);
        assert_eq!(plan_of(Arch::I386, "socketcall").flags, Plan::SOCKETCALL);
        assert_eq!(plan(Arch::X86_64, 2047), Plan::NONE);
    }

    #[test]
    fn permissions_follow_the_kernels_classes() {
        let test = |name| permission_test(Arch::X86_64, Arch::X86_64.syscall_number(name).unwrap());
        assert_eq!(test("openat"), PermissionTest::OpenFlags2);
        assert_eq!(test("unlink"), PermissionTest::Fixed(WRITE));
        assert_eq!(test("execve"), PermissionTest::Fixed(EXECUTE));
        assert_eq!(test("getppid"), PermissionTest::Fixed(0));
        assert_eq!(test("openat2"), PermissionTest::Unknown);
    }
}
