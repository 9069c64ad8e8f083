//! Dashboard *Host detail*: the way of the events of one host, from the kernel to the sinks.

use super::expression::{metric, metric_with, quantile, rate, series};
use super::grafana::{
    ANNOTATION_STEP, Annotation, Board, Meanings, NONE_PER_SECOND, NONE_PER_SECOND_MILD, Opening,
    Panel, RED, Row, Steps, Unit, YELLOW,
};
use super::thresholds::{
    BACKLOG_NEAR_LIMIT, BACKLOG_PANIC_RISK, CANARY_LATE, LATENCY_HIGH, RING_NEAR_LIMIT,
    STATUS_STALE,
};

pub(super) const UID: &str = "audit-collector-host";

const ENABLED: Meanings = &[
    ("0", "off", RED),
    ("1", "on", "green"),
    ("2", "on, locked", "green"),
];
const FAILURE: Meanings = &[
    ("0", "silent", YELLOW),
    ("1", "printk", "green"),
    ("2", "panic", YELLOW),
];
const YES: Meanings = &[("0", "no", RED), ("1", "yes", "green")];
/// Right or wrong by what the collector was told to be.
const SELF: Meanings = &[("0", "no", "text"), ("1", "yes", "green")];
const CONFIG: Meanings = &[("0", "refused", YELLOW), ("1", "accepted", "green")];
const REASONS: Meanings = &[
    ("0", "good", "green"),
    ("1", "look", YELLOW),
    ("2", "act", RED),
];
const BACKLOG: Steps = &[(BACKLOG_PANIC_RISK, YELLOW), (BACKLOG_NEAR_LIMIT, RED)];
const RING: Steps = &[(RING_NEAR_LIMIT, RED)];
const STALE: Steps = &[(STATUS_STALE, RED)];
const LATENCY: Steps = &[(LATENCY_HIGH, YELLOW)];

/// What happened to a host's set-up, for its graphs. By the time that the host tells: what a series shows first is no change of it.
pub(super) fn annotations() -> Vec<Annotation> {
    let lately = |time: String| format!("{time} > time() - {}", 2 * ANNOTATION_STEP);
    vec![
        Annotation {
            name: "rules changed",
            expr: lately(metric("rules_last_change_timestamp_seconds")),
            colour: "blue",
        },
        Annotation {
            name: "collector started",
            expr: lately(series("process_start_time_seconds", "")),
            colour: "purple",
        },
    ]
}

pub(super) fn board() -> Board {
    Board {
        path: "dashboards/host.json",
        uid: UID,
        title: "Audit collector / Host detail",
        description: "The way of one host's audit events, from the kernel to the sinks.",
        since: "now-3h",
        opening: Opening::OneHost,
        annotations: annotations(),
        rows: vec![
            Row {
                title: "State",
                panels: state(),
            },
            Row {
                title: "Kernel",
                panels: kernel(),
            },
            Row {
                title: "Records and events",
                panels: assembly(),
            },
            Row {
                title: "Cross-check",
                panels: crosscheck(),
            },
            Row {
                title: "eBPF witness",
                panels: witness(),
            },
        ],
    }
}

fn state() -> Vec<Panel> {
    vec![
        Panel::timeline(
            "Health, by reason",
            "Each reason is an alert's name and has a runbook. `act` means now, `look` means by day.",
            REASONS,
        )
        .query(
            series("instance:audit_collector_health:severity", r#"reason!="""#),
            "{{instance}} {{reason}}",
        )
        .sized(24, 5),
        Panel::number(
            "Auditing",
            "The kernel's `enabled` flag. Off: it reports no system calls; `audit-collector set --enabled 1`.",
            Unit::Words,
        )
        .meanings(ENABLED)
        .query(metric("kernel_enabled"), "{{instance}}"),
        Panel::number(
            "On failure",
            "What the kernel does when it loses a record. Panic stops the host when the queue is full.",
            Unit::Words,
        )
        .meanings(FAILURE)
        .query(metric("kernel_failure_mode"), "{{instance}}"),
        Panel::number(
            "A daemon is registered",
            "Without one the kernel keeps records in its hold queue, and then drops them.",
            Unit::Words,
        )
        .meanings(YES)
        .query(metric("kernel_daemon_connected"), "{{instance}}"),
        Panel::number(
            "The daemon is the collector",
            "`no` is right beside auditd (multicast); in mode daemon it means that another process took its place.",
            Unit::Words,
        )
        .meanings(SELF)
        .query(metric("kernel_daemon_is_self"), "{{instance}}"),
        Panel::number(
            "Rules as configured",
            "Absent where none are configured. `audit-collector rules diff /etc/audit/rules.d` names what differs.",
            Unit::Words,
        )
        .meanings(YES)
        .query(metric("rules_in_sync"), "{{instance}}"),
        Panel::number(
            "Rules last changed",
            "A change you did not make is worth a question; the stream says what changed.",
            Unit::Age,
        )
        .query(
            format!("1000 * {}", metric("rules_last_change_timestamp_seconds")),
            "{{instance}}",
        ),
        Panel::lines(
            "Rules in the kernel, by list",
            "A fall to 0 means that somebody deleted them.",
            Unit::Count,
        )
        .query(metric("rules_loaded"), "{{instance}} {{list}}"),
        Panel::lines(
            "Rules put back, by result",
            "Each is a drift from the configured rules. `failed` is what the kernel refused: see the stream.",
            Unit::PerSecond,
        )
        .query(rate(&metric("rules_reloads_total")), "{{instance}} {{result}}"),
        Panel::lines(
            "Canary: age of the last one seen",
            "A record that the collector writes into the audit subsystem each minute (`canary_interval_s`), where that is switched on. Above its \
             bound: nothing comes through, see the runbook of AuditCanaryLate.",
            Unit::Seconds,
        )
        .query(
            format!("time() - {}", metric("canary_last_success_timestamp_seconds")),
            "{{instance}} age",
        )
        .query(
            format!("{CANARY_LATE} + 2 * {}", metric("canary_interval_seconds")),
            "{{instance}} bound",
        ),
        Panel::lines(
            "Canaries sent and seen",
            "Where seen falls behind sent, records get lost between the kernel and the sinks.",
            Unit::PerSecond,
        )
        .query(rate(&metric("canary_sent_total")), "{{instance}} sent")
        .query(rate(&metric("canary_received_total")), "{{instance}} seen"),
        Panel::lines(
            "Canary: from the kernel to the sinks",
            "How long it takes one to come through. As long as the longest window that is set is usual beside losses only.",
            Unit::Seconds,
        )
        .steps(LATENCY)
        .query(quantile("0.99", "canary_latency_seconds", "instance"), "{{instance}} p99"),
        Panel::lines(
            "Version and source",
            "Which collector and which kernel; more than one line per host within the range means an upgrade.",
            Unit::Count,
        )
        .query(metric("build_info"), "{{instance}} {{version}} {{revision}}")
        .query(metric("host_info"), "{{instance}} {{kernel_release}} {{source}}"),
        Panel::timeline(
            "Configuration",
            "Refused: the last one that was read is wrong, and the former goes on; the log says why.",
            CONFIG,
        )
        .query(metric("config_last_reload_successful"), "{{instance}}"),
        Panel::lines(
            "Age of the configuration",
            "Since one was accepted last. Old is right where nothing was changed since; one you did not make is worth a question.",
            Unit::Seconds,
        )
        .query(
            format!("time() - {}", metric("config_last_reload_success_timestamp_seconds")),
            "{{instance}}",
        ),
    ]
}

fn kernel() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Queue, of its limit",
            "Records waiting in the kernel, the peak within the last minute. Near the limit it makes programs wait or drops records: raise \
             `backlog_limit`, or audit less.",
            Unit::Ratio,
        )
        .steps(BACKLOG)
        .query(series("instance:audit_collector_kernel_backlog_peak:ratio", ""), "{{instance}}"),
        Panel::lines(
            "Queue",
            "The same in records: the peak, at the moment of the scrape, and the limit (`backlog_limit`).",
            Unit::Count,
        )
        .query(metric("kernel_backlog_peak_records"), "{{instance}} peak")
        .query(metric("kernel_backlog_records"), "{{instance}} now")
        .query(metric("kernel_backlog_limit_records"), "{{instance}} limit"),
        Panel::lines(
            "Records lost, as the kernel counts",
            "Neither an upper nor a lower bound of what is missing: compare with the cross-check below.",
            Unit::PerSecond,
        )
        .steps(NONE_PER_SECOND_MILD)
        .query(rate(&metric("kernel_lost_records_total")), "{{instance}}"),
        Panel::lines(
            "Programs waiting for the queue",
            "Seconds that programs were blocked, per second. Each is paid by the host's work: `backlog_wait_time` bounds it.",
            Unit::Seconds,
        )
        .query(rate(&metric("kernel_backlog_wait_seconds_total")), "{{instance}}"),
        Panel::lines(
            "Rate limit",
            "Records per second above which the kernel drops; 0 is none, which is what you want.",
            Unit::Count,
        )
        .query(metric("kernel_rate_limit_records"), "{{instance}}"),
        Panel::lines(
            "Age of the kernel's status",
            "It is read every second. Old figures above mean nothing; the errors beside say why.",
            Unit::Seconds,
        )
        .steps(STALE)
        .query(
            format!("time() - {}", metric("kernel_status_last_success_timestamp_seconds")),
            "{{instance}}",
        ),
        Panel::lines(
            "Failed reads of the status",
            "By error; `audit-collector doctor` on the host tells what is missing.",
            Unit::PerSecond,
        )
        .query(rate(&metric("kernel_status_errors_total")), "{{instance}} {{error}}"),
        Panel::lines(
            "Counter of lost records reset",
            "Somebody ran `auditctl --reset-lost`, or it wrapped; the account goes on.",
            Unit::Count,
        )
        .query(metric("kernel_lost_resets_total"), "{{instance}}"),
        Panel::lines(
            "Socket: overruns and drops",
            "On multicast each is a loss (raise `receive_buffer_bytes`); on unicast it is congestion.",
            Unit::PerSecond,
        )
        .query(rate(&metric("netlink_overruns_total")), "{{instance}} {{socket}} overruns")
        .query(rate(&metric("netlink_dropped_records_total")), "{{instance}} {{socket}} drops"),
        Panel::lines(
            "Socket: bytes waiting",
            "In the receive buffer, and its size. A buffer that fills up means that the collector gets too little of the processor.",
            Unit::Bytes,
        )
        .query(metric("netlink_receive_queue_bytes"), "{{instance}} {{socket}} waiting")
        .query(metric("netlink_receive_buffer_bytes"), "{{instance}} {{socket}} size"),
    ]
}

fn assembly() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Records received and parsed",
            "They must be the same but for what is malformed.",
            Unit::PerSecond,
        )
        .query(rate(&metric("records_received_total")), "{{instance}} received ({{source}})")
        .query(rate(&metric("records_parsed_total")), "{{instance}} parsed"),
        Panel::lines(
            "Bytes received",
            "What the kernel sends; with the panel beside, the mean size of a record.",
            Unit::BytesPerSecond,
        )
        .query(rate(&metric("received_bytes_total")), "{{instance}}"),
        Panel::lines(
            "Records that could not be parsed",
            "Each is a fault of ours or of the kernel: the log holds the first; please report it.",
            Unit::PerSecond,
        )
        .steps(NONE_PER_SECOND)
        .query(rate(&metric("records_malformed_total")), "{{instance}}"),
        Panel::lines(
            "Events assembled",
            "Begun, and handed on. They part only by what is pending.",
            Unit::PerSecond,
        )
        .query(rate(&metric("events_begun_total")), "{{instance}} begun")
        .query(rate(&metric("events_merged_total")), "{{instance}} handed on"),
        Panel::lines(
            "Incomplete events and late records",
            "Their end did not come in time, or there were too many at once. Usual beside losses; else raise `reassembly_timeout_ms`.",
            Unit::PerSecond,
        )
        .query(rate(&metric("events_incomplete_total")), "{{instance}} {{reason}}")
        .query(rate(&metric("events_late_records_total")), "{{instance}} late"),
        Panel::lines(
            "Events being assembled",
            "And how many may be at once; above that the oldest is handed on as it is.",
            Unit::Count,
        )
        .query(metric("events_pending"), "{{instance}} pending")
        .query(metric("events_pending_limit"), "{{instance}} limit"),
        Panel::lines(
            "Holes in the serials",
            "Serials the kernel drew that no record came with. What eBPF gave back is not among the missing.",
            Unit::PerSecond,
        )
        .query(rate(&metric("serial_gaps_total")), "{{instance}} gaps")
        .query(rate(&metric("serial_missing_total")), "{{instance}} missing"),
        Panel::lines(
            "From the call to the sinks",
            "How old events are when they are handed on, and how long they waited for their other records.",
            Unit::Seconds,
        )
        .steps(LATENCY)
        .query(quantile("0.99", "merge_latency_seconds", "instance"), "{{instance}} latency p99")
        .query(quantile("0.5", "merge_latency_seconds", "instance"), "{{instance}} latency p50")
        .query(quantile("0.99", "merge_wait_seconds", "instance"), "{{instance}} wait p99"),
        Panel::heatmap(
            "Latency",
            "The same as a whole. A second band far above the first is what a full window or a slow daemon beside looks like.",
            Unit::Seconds,
        )
        .query(
            format!("sum by (le) ({})", rate(&metric("merge_latency_seconds_bucket"))),
            "{{le}}",
        ),
    ]
}

fn crosscheck() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Expected events, by what became of them",
            "Matched: both witnesses have it. Backfilled: only eBPF. Unrecovered: neither. Audit only: eBPF should have seen it.",
            Unit::PerSecond,
        )
        .query(
            format!("sum by (instance, outcome) ({})", rate(&metric("crosscheck_events_total"))),
            "{{instance}} {{outcome}}",
        ),
        Panel::lines(
            "Expected, and why so",
            "Exact: the kernel's own decision. Inferred: the rules say so.",
            Unit::PerSecond,
        )
        .query(rate(&metric("crosscheck_expected_events_total")), "{{instance}} expected")
        .query(
            format!("sum by (instance, verdict) ({})", rate(&metric("crosscheck_events_total"))),
            "{{instance}} {{verdict}}",
        ),
        Panel::lines(
            "Missing from the audit stream, by cause",
            "Whether given back or not. The runbook of AuditEventsBackfilled says what helps against each.",
            Unit::PerSecond,
        )
        .query(
            format!(
                "sum by (instance, cause) ({}) > 0",
                rate(&metric("crosscheck_missing_events_total"))
            ),
            "{{instance}} {{cause}}",
        ),
        Panel::lines(
            "Waiting for their counterpart",
            "Events that only one witness has reported yet. Steady growth means that one of the two is behind.",
            Unit::Count,
        )
        .query(metric("crosscheck_pending_events"), "{{instance}} {{source}}"),
        Panel::lines(
            "Calls the programs could not judge",
            "By what came of it. `unconfirmed` are not known to be missing; they never alarm.",
            Unit::PerSecond,
        )
        .query(rate(&metric("crosscheck_maybe_events_total")), "{{instance}} {{result}}"),
        Panel::lines(
            "Outside the account",
            "Withdrawn: the rules turned out not to ask for it. Unwatched: no program of ours could have seen it. Superseded: it came after it \
             had been given back.",
            Unit::PerSecond,
        )
        .query(rate(&metric("crosscheck_withdrawn_events_total")), "{{instance}} withdrawn")
        .query(rate(&metric("crosscheck_unwatched_events_total")), "{{instance}} unwatched")
        .query(rate(&metric("crosscheck_superseded_events_total")), "{{instance}} superseded"),
        Panel::timeline(
            "Certainty",
            "While observations are lost, what only the audit stream has, and what neither has, is uncertain. The row below says what was lost.",
            &[("0", "certain", "green"), ("1", "uncertain", YELLOW)],
        )
        .query(metric("crosscheck_uncertain"), "{{instance}}"),
        Panel::lines(
            "Trust in what is given back",
            "Of matched events, rebuilt from eBPF alone and compared with the kernel's: the share of fields that are wrong, and of those \
             declared unknown. Wrong should be 0; `audit-collector verify` shows which field it is.",
            Unit::Ratio,
        )
        .query(share("mismatch"), "{{instance}} wrong")
        .query(share("unknown"), "{{instance}} unknown"),
        Panel::lines(
            "Events compared",
            "A small sample of those matched, see `verify` in the config file. None: the figures beside mean nothing.",
            Unit::PerSecond,
        )
        .query(rate(&metric("verified_events_total")), "{{instance}}"),
    ]
}

/// Of the fields compared, the share that are `what`.
fn share(what: &str) -> String {
    let sum = |name: &str| format!("sum by (instance) ({})", rate(&metric(name)));
    let (part, whole) = (
        sum(&format!("field_{what}_total")),
        sum("field_compared_total"),
    );
    format!("{part} / ({whole} > 0)")
}

fn witness() -> Vec<Panel> {
    vec![
        Panel::timeline(
            "Level",
            "audit-hooks: each verdict is the kernel's own. syscalls: the rules are mirrored. Neither: nothing is cross-checked.",
            &[("0", "no", "text"), ("1", "yes", "green")],
        )
        .query(metric("witness_level"), "{{instance}} {{level}}"),
        Panel::timeline(
            "Programs attached",
            "One that is detached sees nothing; `audit-collector doctor` says why.",
            YES,
        )
        .query(metric("ebpf_program_attached"), "{{instance}} {{program}}"),
        Panel::lines(
            "Observations",
            "Meant to be sent, sent, and read, by program. What lies between is in the ring or was dropped.",
            Unit::PerSecond,
        )
        .query(rate(&metric("ebpf_attempted_events_total")), "{{instance}} attempted")
        .query(rate(&metric("ebpf_submitted_events_total")), "{{instance}} sent")
        .query(rate(&metric("ebpf_events_total")), "{{instance}} read ({{program}})"),
        Panel::lines(
            "Observations dropped",
            "For that time it is uncertain whether the audit stream is complete. ring_full: raise `ebpf_ring_bytes`, or give the collector more of \
             the processor.",
            Unit::PerSecond,
        )
        .steps(NONE_PER_SECOND_MILD)
        .query(
            rate(&metric("ebpf_ringbuf_dropped_events_total")),
            "{{instance}} {{ringbuf}} {{reason}}",
        ),
        Panel::lines(
            "Ring, of its size",
            "Peak within the last minute, and now.",
            Unit::Ratio,
        )
        .steps(RING)
        .query(
            format!(
                "{} / {}",
                metric("ebpf_ringbuf_used_peak_bytes"),
                metric("ebpf_ringbuf_size_bytes")
            ),
            "{{instance}} {{ringbuf}} peak",
        )
        .query(
            format!("{} / {}", metric("ebpf_ringbuf_used_bytes"), metric("ebpf_ringbuf_size_bytes")),
            "{{instance}} {{ringbuf}} now",
        ),
        Panel::lines(
            "Maps, of their capacity",
            "A full map of calls in flight means more threads in audited calls than it holds.",
            Unit::Ratio,
        )
        .steps(RING)
        .query(
            format!("{} / {}", metric("ebpf_map_entries"), metric("ebpf_map_max_entries")),
            "{{instance}} {{map}}",
        ),
        Panel::lines(
            "Runs skipped, updates failed",
            "Runs that the kernel skipped because the program was running already, and entries that found no room.",
            Unit::PerSecond,
        )
        .query(rate(&metric("ebpf_program_missed_runs_total")), "{{instance}} {{program}} skipped")
        .query(rate(&metric("ebpf_map_update_errors_total")), "{{instance}} {{map}} no room"),
        Panel::lines(
            "Loss before the core, by stage and cause",
            "Records, events or observations lost on the way, as each stage counts them.",
            Unit::PerSecond,
        )
        .query(
            rate(&metric_with("lost_records_total", r#"stage!="kernel""#)),
            "{{instance}} {{stage}} {{cause}}",
        ),
    ]
}
