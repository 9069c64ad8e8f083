//! The account as Prometheus text.
//!
//! Names, types, labels and help come from `metrics.tsv`, the one table of all metrics. Every combination of labels whose
//! values are closed sets is there from the first scrape, at zero, so that `increase()` sees the first loss. Nothing is
//! counted here: what is served is a copy of the [`Account`], so that metrics, account line and ledger say the same.
//! A family without a value (status never read, no eBPF) is left out rather than served as a guess.

mod process;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily,
    MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use crate::account::{Account, Ebpf, Histogram, Sink, Socket};
use crate::audit::client::ClientError;
use crate::clock::TimeMs;
use crate::event::{Cause, Outcome};
use crate::probe::observation::Verdict;

/// The Content-Type of [`Metrics::render`]; Prometheus 3 refuses a scrape without one it knows.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The table of all metrics of the project.
const TABLE: &str = include_str!("../metrics.tsv");

const PREFIX: &str = "audit_collector_";

/// The one ring buffer there is.
const RINGBUF: &str = "observations";

const SOCKETS: [&str; 2] = ["events", "control"];
const RULE_LISTS: [&str; 6] = ["user", "task", "exit", "exclude", "filesystem", "io_uring"];
const RULE_RELOADS: [&str; 2] = ["done", "failed"];
const EBPF_DROP_REASONS: [&str; 5] = [
    "ring_full",
    "in_flight_full",
    "missed_run",
    "undecodable",
    "queue_full",
];
const EBPF_UPDATED_MAPS: [&str; 4] = ["in_flight", "conditions", "plans", "control"];
const SINK_DROP_REASONS: [&str; 3] = ["queue_full", "write_error", "deadline"];
const SINK_ERROR_KINDS: [&str; 3] = ["disk_full", "closed", "other"];

/// A row of the table.
#[derive(Debug)]
struct Row {
    kind: MetricType,
    labels: Vec<&'static str>,
    help: &'static str,
}

static ROWS: LazyLock<BTreeMap<&'static str, Row>> = LazyLock::new(|| {
    TABLE
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let (name, kind, labels, help) =
                (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
            let kind = match kind {
                "counter" => MetricType::COUNTER,
                "histogram" => MetricType::HISTOGRAM,
                _ => MetricType::GAUGE,
            };
            let labels = labels
                .split(',')
                .filter(|label| !label.is_empty())
                .collect();
            Some((name, Row { kind, labels, help }))
        })
        .collect()
});

/// What does not change while the collector runs.
#[derive(Clone, Debug)]
pub struct Metrics {
    kernel_release: String,
    arch: String,
}

impl Metrics {
    /// Asks the kernel for its release and architecture.
    pub fn new() -> Self {
        let name = nix::sys::utsname::uname().ok();
        let text = |field: Option<&std::ffi::OsStr>| {
            field.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
        };
        Self {
            kernel_release: text(name.as_ref().map(|name| name.release())),
            arch: text(name.as_ref().map(|name| name.machine())),
        }
    }

    /// The account, and this process, in the text format 0.0.4.
    pub fn render(&self, account: &Account) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = Families::default();
        self.info(&mut families, account);
        kernel(&mut families, account);
        losses(&mut families, account);
        assembly(&mut families, account);
        for name in SOCKETS {
            netlink(&mut families, name, account.sockets.get(name));
        }
        if let Some(figures) = &account.ebpf {
            ebpf(&mut families, figures);
        }
        crosscheck(&mut families, account);
        for (name, figures) in &account.sinks {
            sink(&mut families, name, figures);
        }
        rules(&mut families, account);
        let mut families = families.finish();
        families.extend(process::families());
        let mut text = Vec::with_capacity(32 << 10);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn info(&self, families: &mut Families, account: &Account) {
        families.set(
            "build_info",
            &[
                env!("CARGO_PKG_VERSION"),
                option_env!("AUDIT_COLLECTOR_REVISION").unwrap_or("unknown"),
                env!("AUDIT_COLLECTOR_RUSTC"),
                env!("AUDIT_COLLECTOR_TARGET"),
            ],
            1,
        );
        let labels = [
            self.kernel_release.as_str(),
            self.arch.as_str(),
            account.input.source,
        ];
        families.set("host_info", &labels, 1);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn kernel(families: &mut Families, account: &Account) {
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
    }
    if let Some(is_self) = kernel.daemon_is_self {
        families.set("kernel_daemon_is_self", &[], u32::from(is_self));
    }
    families.set(
        "kernel_backlog_wait_seconds_total",
        &[],
        kernel.backlog_wait.as_secs_f64(),
    );
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

fn losses(families: &mut Families, account: &Account) {
    for cause in Cause::ALL {
        let lost = account.losses.get(&cause).copied().unwrap_or_default();
        let labels = [cause.stage().name(), cause.name()];
        families.set("lost_records_total", &labels, Number(lost));
    }
    families.set("serial_gaps_total", &[], Number(account.serials.gaps));
    families.set("serial_missing_total", &[], Number(account.serials.missing));
}

fn assembly(families: &mut Families, account: &Account) {
    let input = &account.input;
    for (name, value) in [
        ("records_received_total", input.records),
        ("received_bytes_total", input.bytes),
        ("records_malformed_total", input.malformed),
    ] {
        families.set(name, &[input.source], Number(value));
    }
    let assembly = &account.assembly;
    let passed_on = assembly.completed
        + assembly.standalone
        + assembly.timed_out
        + assembly.evicted
        + assembly.flushed;
    families.set("events_merged_total", &[], Number(passed_on));
    for (reason, value) in [
        ("timeout", assembly.timed_out),
        ("evicted", assembly.evicted),
        ("flushed", assembly.flushed),
    ] {
        families.set("events_incomplete_total", &[reason], Number(value));
    }
    for (name, value) in [
        ("events_late_records_total", assembly.late_records),
        ("events_pending", assembly.pending),
        ("events_pending_limit", assembly.pending_limit),
    ] {
        families.set(name, &[], Number(value));
    }
}

fn netlink(families: &mut Families, name: &str, socket: Option<&Socket>) {
    let counted = socket.copied().unwrap_or_default();
    families.set("netlink_overruns_total", &[name], Number(counted.overruns));
    families.set(
        "netlink_dropped_records_total",
        &[name],
        Number(counted.drops),
    );
    if let Some(socket) = socket {
        families.set(
            "netlink_receive_buffer_bytes",
            &[name],
            Number(socket.receive_buffer),
        );
        families.set(
            "netlink_receive_queue_bytes",
            &[name],
            Number(socket.queued),
        );
    }
}

fn ebpf(families: &mut Families, ebpf: &Ebpf) {
    for (program, attached) in &ebpf.programs {
        families.set("ebpf_program_attached", &[program], u32::from(*attached));
    }
    for (program, runs) in &ebpf.runs {
        families.set("ebpf_program_runs_total", &[program], Number(runs.runs));
        families.set(
            "ebpf_program_run_seconds_total",
            &[program],
            runs.time.as_secs_f64(),
        );
    }
    families.counts(
        "ebpf_program_missed_runs_total",
        &[],
        &[],
        &ebpf.missed_runs,
    );
    families.counts("ebpf_events_total", &[], &[], &ebpf.read);
    families.counts(
        "ebpf_ringbuf_dropped_events_total",
        &[RINGBUF],
        &EBPF_DROP_REASONS,
        &ebpf.dropped,
    );
    for (name, value) in [
        ("ebpf_ringbuf_size_bytes", ebpf.ring_size),
        ("ebpf_ringbuf_used_bytes", ebpf.ring_used),
        ("ebpf_ringbuf_used_peak_bytes", ebpf.ring_used_peak),
    ] {
        families.set(name, &[RINGBUF], Number(value));
    }
    for (map, (entries, capacity)) in &ebpf.maps {
        if let Some(entries) = entries {
            families.set("ebpf_map_entries", &[map], Number(*entries));
        }
        families.set("ebpf_map_max_entries", &[map], Number(*capacity));
    }
    families.counts(
        "ebpf_map_update_errors_total",
        &[],
        &EBPF_UPDATED_MAPS,
        &ebpf.map_update_errors,
    );
}

fn crosscheck(families: &mut Families, account: &Account) {
    let crosscheck = &account.crosscheck;
    // Of a `maybe` it is not known that the event was expected.
    for verdict in [Verdict::Exact, Verdict::Inferred] {
        for outcome in Outcome::ALL {
            let settled = crosscheck.settled.get(&(verdict, outcome));
            families.set(
                "crosscheck_events_total",
                &[verdict.name(), outcome.name()],
                Number(settled.copied().unwrap_or_default()),
            );
        }
    }
    for (source, pending) in [
        ("audit", crosscheck.pending_events),
        ("ebpf", crosscheck.pending_observations),
    ] {
        families.set("crosscheck_pending_events", &[source], Number(pending));
    }
    families.histogram("merge_latency_seconds", &[], &account.merge_latency);
    families.histogram("merge_wait_seconds", &[], &account.merge_wait);
}

fn sink(families: &mut Families, name: &str, sink: &Sink) {
    for (family, value) in [
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

fn rules(families: &mut Families, account: &Account) {
    // Rules that were never read are not "no rules".
    if !account.rules_loaded.is_empty() {
        families.counts("rules_loaded", &[], &RULE_LISTS, &account.rules_loaded);
    }
    // Where no rules are configured there is nothing to be in sync with.
    if let Some(in_sync) = account.rules_in_sync {
        families.set("rules_in_sync", &[], u32::from(in_sync));
        families.counts(
            "rules_reloads_total",
            &[],
            &RULE_RELOADS,
            &account.rules_reloads,
        );
    }
    if let Some(at) = account.rules_changed {
        families.set("rules_last_change_timestamp_seconds", &[], at);
    }
}

/// A count; above 2⁵³ the format itself is no longer exact.
struct Number(u64);

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        number.0 as Self
    }
}

impl From<TimeMs> for f64 {
    fn from(time: TimeMs) -> Self {
        time.0 as Self / 1_000.0
    }
}

/// Families in the making, in the order of their first sample.
#[derive(Default)]
struct Families {
    families: Vec<MetricFamily>,
    places: BTreeMap<&'static str, usize>,
}

impl Families {
    fn set(&mut self, name: &'static str, labels: &[&str], value: impl Into<f64>) {
        let value = value.into();
        self.add(name, labels, |kind, metric| match kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        });
    }

    /// One sample for each of `known` and of what else was counted; the value's label comes last.
    fn counts(
        &mut self,
        name: &'static str,
        labels: &[&str],
        known: &[&str],
        counted: &BTreeMap<&'static str, u64>,
    ) {
        let others = counted.keys().filter(|key| !known.contains(*key));
        for last in known.iter().chain(others) {
            let labels: Vec<&str> = labels.iter().copied().chain([*last]).collect();
            let count = counted.get(last).copied().unwrap_or_default();
            self.set(name, &labels, Number(count));
        }
    }

    fn histogram(&mut self, name: &'static str, labels: &[&str], histogram: &Histogram) {
        let mut total = 0;
        let buckets = Histogram::BOUNDS
            .iter()
            .zip(&histogram.counts)
            .map(|(bound, count)| {
                total += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(total);
                bucket
            });
        let mut proto = HistogramProto::default();
        proto.set_bucket(buckets.collect());
        proto.set_sample_count(histogram.counts.iter().sum());
        proto.set_sample_sum(histogram.sum);
        self.add(name, labels, |_, metric| metric.set_histogram(proto));
    }

    fn add(
        &mut self,
        name: &'static str,
        labels: &[&str],
        value: impl FnOnce(MetricType, &mut Metric),
    ) {
        let full_name = format!("{PREFIX}{name}");
        let row = ROWS
            .get(full_name.as_str())
            .expect("a test renders every family, so each name used here is in metrics.tsv");
        let place = *self.places.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(full_name);
            family.set_help(row.help.to_owned());
            family.set_field_type(row.kind);
            self.families.push(family);
            self.families.len() - 1
        });
        debug_assert_eq!(row.labels.len(), labels.len(), "{name}");
        let labels = row.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        value(row.kind, &mut metric);
        self.families[place].mut_metric().push(metric);
    }

    fn finish(self) -> Vec<MetricFamily> {
        self.families
    }
}

#[cfg(test)]
mod tests;
