//! The tokio runtime on which sockets are read, events are merged and HTTP is served.

use std::time::Duration;

use super::family::{Families, Number};

/// Nothing outside a runtime.
pub(super) fn add(families: &mut Families) {
    let Ok(handle) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let metrics = handle.metrics();
    let workers = metrics.num_workers();
    let busy: Duration = (0..workers)
        .map(|worker| metrics.worker_total_busy_duration(worker))
        .sum();
    for (name, value) in [
        ("runtime_workers", workers),
        ("runtime_tasks", metrics.num_alive_tasks()),
        ("runtime_queued_tasks", metrics.global_queue_depth()),
    ] {
        families.set(name, &[], Number(value as u64));
    }
    families.set("runtime_busy_seconds_total", &[], busy.as_secs_f64());
}
