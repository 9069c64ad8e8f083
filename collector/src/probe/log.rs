//! What the BPF programs log, on its way to `tracing`.

/// Hands aya-log's records on as `tracing` events of the target `ebpf`.
pub(super) struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let message = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "ebpf", "{message}"),
            log::Level::Warn => tracing::warn!(target: "ebpf", "{message}"),
            log::Level::Info => tracing::info!(target: "ebpf", "{message}"),
            log::Level::Debug => tracing::debug!(target: "ebpf", "{message}"),
            log::Level::Trace => tracing::trace!(target: "ebpf", "{message}"),
        }
    }

    fn flush(&self) {}
}
