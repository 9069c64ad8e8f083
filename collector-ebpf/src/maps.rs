//! The maps and the read-only globals of the programs.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use collector_ebpf::{
    AREA_BYTES, Active, Condition, ContextLayout, Control, Counters, Facts, InFlight, InHand,
    Layout, LossReason, MAX_CONDITIONS, NOTED_NAMES, Note, Plans, QueueLayout, SYSCALL_NUMBERS,
    Sample, TEXT_BYTES, TextCounters, TextHeader, TextReason,
};

/// Samples on their way to the collector. Its size is set at load time.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Which rules are in force, and who is exempt.
#[map]
pub(crate) static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// By system call number.
#[map]
pub(crate) static PLANS: Array<Plans> = Array::with_max_entries(SYSCALL_NUMBERS, 0);

/// Both buffers' conditions, one after the other.
#[map]
pub(crate) static CONDITIONS: Array<Condition> = Array::with_max_entries(2 * MAX_CONDITIONS, 0);

/// Calls between entry and exit, by the address of the task: execve in a thread changes its tid, never its address.
/// Its size is set at load time.
#[map]
pub(crate) static IN_FLIGHT: HashMap<u64, InFlight> = HashMap::with_max_entries(8192, 0);

/// Events that are being written or whose call ends next, by the address of the task. Its size is set at load time.
#[map]
pub(crate) static NOTES: HashMap<u64, Note> = HashMap::with_max_entries(8192, 0);

/// Records the kernel has given up, by [`LossReason`].
#[map]
pub(crate) static LOST: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(LossReason::COUNT as u32, 0);

/// Texts of records on their way to the collector. Its size is set at load time.
#[map]
pub(crate) static TEXTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// What happened to records behind the queue, by [`TextReason`].
#[map]
pub(crate) static TEXT_COUNTS: PerCpuArray<TextCounters> =
    PerCpuArray::with_max_entries(TextReason::COUNT as u32, 0);

/// A text in the making, of kauditd and of another task, as with [`IN_HAND`].
#[map]
pub(crate) static TEXT_SCRATCH: PerCpuArray<TextScratch> = PerCpuArray::with_max_entries(2, 0);

/// The records in hand, of kauditd and of another task.
#[map]
pub(crate) static IN_HAND: Array<InHand> = Array::with_max_entries(2, 0);

/// One element per program, also of those that only count. How many of them there are is set at load time.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(7, 0);

/// One element per program that sends, so that on kernels where these may be preempted an entry does not spoil an exit.
/// How many of them there are is set at load time.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(5, 0);

/// What is too large for the stack of 512 bytes. A per-CPU element can have 32 KiB.
#[repr(C)]
pub(crate) struct Scratch {
    /// Where the next string begins in `area`.
    pub(crate) cursor: u64,
    /// Where the next part of the string at hand goes.
    pub(crate) end: u64,
    /// Whose it is: [`ENTER`], [`EXIT`], [`REPORT`], [`FREE`] or [`OPERATION`].
    pub(crate) program: u32,
    pub(crate) facts: Facts,
    pub(crate) in_flight: InFlight,
    /// Where the names are of the files that a call noted, while they are compared with each other.
    pub(crate) name_pointers: [u64; NOTED_NAMES],
    pub(crate) sample: Sample,
    pub(crate) area: [u8; AREA_BYTES],
}

const _: () = assert!(size_of::<Scratch>() <= 32 * 1024);

/// A text with its header.
#[repr(C)]
pub(crate) struct TextScratch {
    pub(crate) header: TextHeader,
    pub(crate) text: [u8; TEXT_BYTES],
}

const _: () = assert!(size_of::<TextScratch>() <= 32 * 1024);

/// The element of sys_enter in [`SCRATCH`] and [`COUNTERS`].
pub(crate) const ENTER: u32 = 0;
/// The element of sys_exit.
pub(crate) const EXIT: u32 = 1;
/// The element of audit_log_exit.
pub(crate) const REPORT: u32 = 2;
/// The element of audit_free.
pub(crate) const FREE: u32 = 3;
/// The element of audit_log_uring.
pub(crate) const OPERATION: u32 = 4;
/// The element of audit_log_exit_begun in [`COUNTERS`].
pub(crate) const REPORT_BEGUN: u32 = 5;
/// The element of audit_log_uring_begun in [`COUNTERS`].
pub(crate) const OPERATION_BEGUN: u32 = 6;

/// Offsets in this kernel's structures.
#[unsafe(no_mangle)]
pub(crate) static LAYOUT: Layout = Layout {
    task_compat: 0,
    task_cred: 0,
    task_real_parent: 0,
    task_tgid: 0,
    task_loginuid: 0,
    task_sessionid: 0,
    task_personality: 0,
    task_audit_context: 0,
    task_signal: 0,
    task_mm: 0,
    task_fs: 0,
    cred_uid: 0,
    signal_tty: 0,
    tty_name: 0,
    mm_exe_file: 0,
    mm_arg_start: 0,
    mm_arg_end: 0,
    file_path: 0,
    fs_pwd: 0,
    fs_root: 0,
    dentry_parent: 0,
    dentry_name: 0,
    dentry_hash_pprev: 0,
    vfsmount_root: 0,
    mount_mnt: 0,
    mount_parent: 0,
    mount_mountpoint: 0,
    task_files: 0,
    files_fdt: 0,
    fdt_max_fds: 0,
    fdt_fd: 0,
    file_inode: 0,
    file_mode: 0,
    file_flags: 0,
    dentry_inode: 0,
    inode_mode: 0,
    inode_uid: 0,
    inode_rdev: 0,
    inode_sb: 0,
    inode_ino: 0,
    sb_dev: 0,
    sb_magic: 0,
    cred_group_info: 0,
    group_info_ngroups: 0,
    group_info_gid: 0,
    audit_state: 0,
    audit_names: 0,
    names_size: 0,
    names_name: 0,
    names_ino: 0,
    names_type: 0,
};

/// Offsets in `struct audit_context`.
#[unsafe(no_mangle)]
pub(crate) static CONTEXT_LAYOUT: ContextLayout = ContextLayout {
    kind: 0,
    serial: 0,
    ctime: 0,
    major: 0,
    argv: 0,
    return_code: 0,
    return_valid: 0,
    arch: 0,
    pwd: 0,
    filterkey: 0,
    sockaddr: 0,
    sockaddr_len: 0,
    name_count: 0,
    uring_op: 0,
};

/// Offsets behind the audit queue.
#[unsafe(no_mangle)]
pub(crate) static QUEUE_LAYOUT: QueueLayout = QueueLayout {
    skb_data: 0,
    skb_len: 0,
    sock_cookie: 0,
};

/// Which texts are sent: a [`TextMirror`](collector_ebpf::TextMirror).
#[unsafe(no_mangle)]
pub(crate) static TEXT_MIRROR: u32 = 0;

/// 1 where the kernel was booted with `audit=1`, and so keeps records while there is no daemon (`audit_default`).
#[unsafe(no_mangle)]
pub(crate) static HOLDS_RECORDS: u32 = 0;

/// 1 where the hooks on the audit code are attached before the tracepoints. The verifier knows the value, so that
/// where it is 0 nothing of what hangs on it is left in the programs.
#[unsafe(no_mangle)]
pub(crate) static HOOKS: u32 = 0;

/// 1 where the verifier lets programs follow pointers by their types (bpf_get_current_task_btf, since 5.11).
#[unsafe(no_mangle)]
pub(crate) static TYPED: u32 = 0;

/// 1 where the kernel labels tasks.
#[unsafe(no_mangle)]
pub(crate) static LABELS: u32 = 0;

/// Our own process, which would otherwise report on its own reporting.
#[unsafe(no_mangle)]
pub(crate) static OWN_TGID: u32 = 0;

/// One offset of [`LAYOUT`]. Volatile, because the compiler sees zeros and the loader puts in the truth.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of a static; any bit pattern is a number.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::LAYOUT.$field) }
    };
}
pub(crate) use offset;

/// One offset of [`CONTEXT_LAYOUT`].
macro_rules! context_offset {
    ($field:ident) => {
        // SAFETY: as in `offset`.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::CONTEXT_LAYOUT.$field) }
    };
}
pub(crate) use context_offset;

/// One offset of [`QUEUE_LAYOUT`].
macro_rules! queue_offset {
    ($field:ident) => {
        // SAFETY: as in `offset`.
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::QUEUE_LAYOUT.$field) }
    };
}
pub(crate) use queue_offset;

/// [`TEXT_MIRROR`] as loaded.
#[inline(always)]
pub(crate) fn text_mirror() -> u32 {
    // SAFETY: a static; volatile for the reason given at `offset`.
    unsafe { core::ptr::read_volatile(&raw const TEXT_MIRROR) }
}

/// [`HOLDS_RECORDS`] as loaded.
#[inline(always)]
pub(crate) fn holds_records() -> bool {
    // SAFETY: a static; volatile for the reason given at `offset`.
    unsafe { core::ptr::read_volatile(&raw const HOLDS_RECORDS) != 0 }
}

/// [`HOOKS`] as loaded.
#[inline(always)]
pub(crate) fn hooks() -> bool {
    // SAFETY: a static; volatile for the reason given at `offset`.
    unsafe { core::ptr::read_volatile(&raw const HOOKS) != 0 }
}

/// [`TYPED`] as loaded. The verifier drops the way that is not taken.
#[inline(always)]
pub(crate) fn typed() -> bool {
    // SAFETY: as in `hooks`.
    unsafe { core::ptr::read_volatile(&raw const TYPED) != 0 }
}

/// [`LABELS`] as loaded.
#[inline(always)]
pub(crate) fn labels() -> bool {
    // SAFETY: as in `hooks`.
    unsafe { core::ptr::read_volatile(&raw const LABELS) != 0 }
}

/// Which rules are in force. One load: with two, the buffer of one set could come with the generation of the next.
#[inline(always)]
pub(crate) fn active(control: &Control) -> Active {
    // SAFETY: eight bytes on an eight-byte boundary of a valid map element.
    let word = unsafe { (&raw const control.active).cast::<u64>().read_volatile() };
    // The programs are built for little-endian machines only.
    Active {
        buffer: word as u32,
        generation: (word >> 32) as u32,
    }
}

/// [`OWN_TGID`] as loaded.
#[inline(always)]
fn own_tgid() -> u32 {
    // SAFETY: a static; volatile for the reason given at `offset`.
    unsafe { core::ptr::read_volatile(&raw const OWN_TGID) }
}

/// Whether the process is our own or one the kernel never audits.
#[inline(always)]
pub(crate) fn exempt(control: &Control) -> bool {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    tgid == own_tgid() || control.exempt.contains(&tgid)
}
