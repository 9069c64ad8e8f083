//! Where the running kernel keeps what the programs read.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offsets in bytes, read from the kernel's BTF at load time and given to the programs as a read-only global, so that
/// the verifier sees constants. They differ by configuration within one kernel version.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Layout {
    /// `task_struct.thread_info.status` on x86, `.flags` elsewhere: tells a 32-bit call.
    pub task_compat: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.loginuid`
    pub task_loginuid: u32,
    /// `task_struct.sessionid`
    pub task_sessionid: u32,
    /// `task_struct.personality`
    pub task_personality: u32,
    /// `task_struct.audit_context`
    pub task_audit_context: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.fs`
    pub task_fs: u32,
    /// `cred.uid`, followed by gid, suid, sgid, euid, egid, fsuid and fsgid
    pub cred_uid: u32,
    /// `signal_struct.tty`
    pub signal_tty: u32,
    /// `tty_struct.name`
    pub tty_name: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `file.f_path`: a `struct path`, which is the pointers `mnt` and `dentry`
    pub file_path: u32,
    /// `fs_struct.pwd`
    pub fs_pwd: u32,
    /// `fs_struct.root`
    pub fs_root: u32,
    /// `dentry.d_parent`
    pub dentry_parent: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `dentry.d_hash.pprev`: null once the name is gone from the directory
    pub dentry_hash_pprev: u32,
    /// `vfsmount.mnt_root`
    pub vfsmount_root: u32,
    /// `mount.mnt`
    pub mount_mnt: u32,
    /// `mount.mnt_parent`
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`
    pub mount_mountpoint: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdt_max_fds: u32,
    /// `fdtable.fd`
    pub fdt_fd: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.f_mode`
    pub file_mode: u32,
    /// `file.f_flags`
    pub file_flags: u32,
    /// `dentry.d_inode`
    pub dentry_inode: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_uid`, followed by i_gid
    pub inode_uid: u32,
    /// `inode.i_rdev`
    pub inode_rdev: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `super_block.s_dev`
    pub sb_dev: u32,
    /// `super_block.s_magic`
    pub sb_magic: u32,
    /// `cred.group_info`
    pub cred_group_info: u32,
    /// `group_info.ngroups`
    pub group_info_ngroups: u32,
    /// `group_info.gid`
    pub group_info_gid: u32,
    /// `audit_context.state`: what the task list said when the task was made
    pub audit_state: u32,
    /// `audit_context.preallocated_names`
    pub audit_names: u32,
    /// The size of one of them (`struct audit_names`)
    pub names_size: u32,
    /// `audit_names.name`
    pub names_name: u32,
    /// `audit_names.ino`, followed by dev, mode, uid, gid and rdev
    pub names_ino: u32,
    /// `audit_names.type`
    pub names_type: u32,
}

const _: () = assert!(size_of::<Layout>() == 51 * 4);

/// Offsets in `struct audit_context`, which only the hooks on the audit code read: a kernel that lacks one of them still
/// has the other programs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ContextLayout {
    /// `context`, and `in_syscall` before Linux 5.16: 1 is a system call, 2 an io_uring operation
    pub kind: u32,
    /// `stamp.serial`, and `serial` before Linux 6.18
    pub serial: u32,
    /// `stamp.ctime`, and `ctime` before Linux 6.18: seconds and nanoseconds of eight bytes each
    pub ctime: u32,
    /// `major`
    pub major: u32,
    /// `argv`: four words
    pub argv: u32,
    /// `return_code`
    pub return_code: u32,
    /// `return_valid`: 0 where the call does not return
    pub return_valid: u32,
    /// `arch`
    pub arch: u32,
    /// `pwd`: a `struct path`
    pub pwd: u32,
    /// `filterkey`
    pub filterkey: u32,
    /// `sockaddr`: a pointer
    pub sockaddr: u32,
    /// `sockaddr_len`, of eight bytes
    pub sockaddr_len: u32,
    /// `name_count`
    pub name_count: u32,
    /// `uring_op`; 0, and never read, before Linux 5.16
    pub uring_op: u32,
}

const _: () = assert!(size_of::<ContextLayout>() == 14 * 4);

/// Offsets that only the hooks behind the audit queue need.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct QueueLayout {
    /// `sk_buff.data`
    pub skb_data: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// `sock.sk_cookie`, which is `__sk_common.skc_cookie`
    pub sock_cookie: u32,
}

const _: () = assert!(size_of::<QueueLayout>() == 3 * 4);
