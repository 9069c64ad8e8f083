//! From where on a value is worth a look or a page: the same for panels and alerts.

/// Share of `backlog_limit` that a queue should not fill for long.
pub(super) const BACKLOG_NEAR_LIMIT: f64 = 0.8;
/// The same where the kernel panics on a full queue.
pub(super) const BACKLOG_PANIC_RISK: f64 = 0.5;
/// Share of a sink's queue.
pub(super) const SINK_QUEUE_NEAR_LIMIT: f64 = 0.8;
/// Age in seconds of the kernel's status, which is read every second.
pub(super) const STATUS_STALE: f64 = 60.0;
/// Seconds that a canary may be late, beside twice the time between two of them.
pub(super) const CANARY_LATE: f64 = 60.0;
/// Age in seconds of the oldest event that a sink has not acknowledged.
pub(super) const SINK_STALLED: f64 = 300.0;
/// Share of the ring of the eBPF programs.
pub(super) const RING_NEAR_LIMIT: f64 = 0.8;
/// Seconds from a call to its line in the sink.
pub(super) const LATENCY_HIGH: f64 = 5.0;
