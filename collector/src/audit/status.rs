//! The kernel's audit status, `struct audit_status` of include/uapi/linux/audit.h.

/// The eleven fields of `struct audit_status`, in the kernel's units. A field is none where the kernel's reply was
/// too short to hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStatus {
    /// 0 disabled, 1 enabled, 2 enabled and locked until reboot.
    pub enabled: u32,
    /// What the kernel does when it loses a record: 0 nothing, 1 printk, 2 panic.
    pub failure: u32,
    /// Process id of the registered audit daemon as seen from our pid namespace, 0 for none.
    pub pid: u32,
    /// Records per second, 0 for no limit.
    pub rate_limit: u32,
    /// Records the queue may hold, 0 for no limit.
    pub backlog_limit: u32,
    /// Records lost since boot or the last reset, modulo 2³².
    pub lost: u32,
    /// Records in the queue now.
    pub backlog: u32,
    /// `AUDIT_FEATURE_BITMAP_*`.
    pub feature_bitmap: Option<u32>,
    /// Longest time a task waits for room in the queue, in jiffies.
    pub backlog_wait_time: Option<u32>,
    /// Sum of the times tasks have waited, in jiffies, modulo 2³².
    pub backlog_wait_time_actual: Option<u32>,
}
