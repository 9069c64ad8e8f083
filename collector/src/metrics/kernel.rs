//! The kernel's own figures, as last polled.

use super::family::{Families, Number};
use crate::account::Account;
use crate::audit::client::ClientError;

pub(super) fn add(families: &mut Families, account: &Account) {
    let kernel = &account.kernel;
    if let Some(status) = &kernel.status {
        let gauges = [
            ("kernel_enabled", status.enabled),
            ("kernel_failure_mode", status.failure),
            ("kernel_daemon_connected", u32::from(status.pid != 0)),
            ("kernel_backlog_records", status.backlog),
            ("kernel_backlog_limit_records", status.backlog_limit),
            ("kernel_rate_limit_records", status.rate_limit),
        ];
        for (name, value) in gauges {
            families.set(name, &[], value);
        }
        let peak = Number(kernel.backlog_peak);
        families.set("kernel_backlog_peak_records", &[], peak);
    }
    if let Some(is_self) = kernel.daemon_is_self {
        families.set("kernel_daemon_is_self", &[], u32::from(is_self));
    }
    if let Some(wait) = kernel.backlog_wait {
        families.set("kernel_backlog_wait_seconds_total", &[], wait.as_secs_f64());
    }
    families.set("kernel_lost_records_total", &[], Number(kernel.lost));
    families.set("kernel_lost_resets_total", &[], Number(kernel.lost_resets));
    if let Some(at) = kernel.last_success {
        families.set("kernel_status_last_success_timestamp_seconds", &[], at);
    }
    families.counts(
        "kernel_status_errors_total",
        &[],
        &ClientError::LABELS,
        &kernel.errors,
    );
}
