//! The sinks.

use super::family::{Families, Number};
use crate::account::{Account, Sink};

const SINK_DROP_REASONS: [&str; 3] = ["queue_full", "write_error", "deadline"];
const SINK_ERROR_KINDS: [&str; 3] = ["disk_full", "closed", "other"];

pub(super) fn add(families: &mut Families, account: &Account) {
    for (name, figures) in &account.sinks {
        sink(families, name, figures);
    }
}

fn sink(families: &mut Families, name: &str, sink: &Sink) {
    for (family, value) in [
        ("sink_handed_over_events_total", sink.handed_over),
        ("sink_delivered_events_total", sink.delivered),
        ("sink_delivered_bytes_total", sink.delivered_bytes),
        ("sink_retries_total", sink.retries),
        ("sink_up", u64::from(sink.up)),
        ("sink_queue_events", sink.queued),
        ("sink_queue_bytes", sink.queued_bytes),
        ("sink_queue_capacity_bytes", sink.queue_capacity_bytes),
    ] {
        families.set(family, &[name], Number(value));
    }
    families.counts(
        "sink_dropped_events_total",
        &[name],
        &SINK_DROP_REASONS,
        &sink.dropped,
    );
    families.counts(
        "sink_errors_total",
        &[name],
        &SINK_ERROR_KINDS,
        &sink.errors,
    );
    families.set(
        "sink_oldest_pending_timestamp_seconds",
        &[name],
        sink.oldest_pending.unwrap_or_default(),
    );
    if let Some(at) = sink.last_success {
        families.set("sink_last_success_timestamp_seconds", &[name], at);
    }
    families.histogram(
        "sink_delivery_duration_seconds",
        &[name],
        &sink.delivery_duration,
    );
}
