//! What is worth waking somebody for, or a look by day.
//!
//! Owns the conditions. Each is an alert, has a runbook of its name in `dashboards/runbooks`; those of a host make up
//! its health in the overview.

use super::growth::of_late;
use super::thresholds::{
    BACKLOG_NEAR_LIMIT, BACKLOG_PANIC_RISK, CANARY_LATE, SINK_STALLED, STATUS_STALE,
};

/// Who is to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// Somebody is woken.
    Critical,
    /// Somebody looks at it by day.
    Warning,
}

impl Severity {
    /// The value of the label `severity`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }

    /// In the recorded health: the greater, the worse.
    pub(super) const fn level(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Warning => 1,
        }
    }
}

/// One alert.
pub(super) struct Alert {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// How long the condition must hold, in Prometheus' notation; none where once is enough.
    pub(super) lasting: Option<&'static str>,
    /// Has a sample where the condition holds, with the labels cluster, job and instance of the host; of a fleet's, with the first two.
    pub(super) expr: String,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
}

/// Those that no host is named in.
pub(super) fn fleet_alerts() -> Vec<Alert> {
    let scraped =
        |offset: &str| format!(r#"count by (cluster, job) (up{{job="audit-collector"}}{offset})"#);
    vec![Alert {
        name: "AuditHostsVanished",
        severity: Severity::Critical,
        lasting: Some("10m"),
        // Of a host alone nobody can tell whether it was taken out of service.
        expr: format!(
            "({} unless 2 * {} >= {}) or absent(up{{job=\"audit-collector\"}})",
            scraped(" offset 1h"),
            scraped(""),
            scraped(" offset 1h")
        ),
        summary: "Prometheus no longer scrapes the audit collectors{{ with $labels.cluster }} of {{ . }}{{ end }}",
        description: "Of the hosts that it was told to scrape an hour ago, more than half are gone from its configuration, or there are none \
            at all: no other alert can fire for them.",
    }]
}

/// Every alert of a host, the worst first.
pub(super) fn host_alerts() -> Vec<Alert> {
    use Severity::{Critical, Warning};
    vec![
        Alert {
            name: "AuditCollectorDown",
            severity: Critical,
            lasting: Some("5m"),
            expr: r#"up{job="audit-collector"} == 0"#.to_owned(),
            summary: "No audit collector answers on {{ $labels.instance }}",
            description: "Nobody accounts for this host's audit events. Does it run (`pgrep -a audit-collector`)? `audit-collector doctor` on the host \
                says what it lacks.",
        },
        Alert {
            name: "AuditEventsUnrecovered",
            severity: Critical,
            lasting: None,
            expr: of_late("audit_collector_crosscheck_events_total{outcome=\"unrecovered\"}", "verdict, outcome"),
            summary: "Audit events of {{ $labels.instance }} are lost for good",
            description: "The kernel stamped {{ $value | humanize }} events within five minutes that neither the audit stream nor \
                eBPF has. Loss forensics shows the cause; the loss lines of the stream say which serials and when.",
        },
        Alert {
            name: "AuditRecordsLost",
            severity: Critical,
            lasting: None,
            expr: format!(
                "{} and on (cluster, job, instance) (max without (level) (audit_collector_witness_level) == 0)",
                of_late("audit_collector_kernel_lost_records_total", "")
            ),
            summary: "The kernel of {{ $labels.instance }} loses audit records, and nothing tells of which events",
            description: "{{ $value | humanize }} records within five minutes. For most of them the kernel draws no serial, so that without the eBPF \
                witness this number is all there is: no event is known to be missing, and none is given back.",
        },
        Alert {
            name: "AuditDisabled",
            severity: Critical,
            lasting: Some("2m"),
            expr: "audit_collector_kernel_enabled == 0".to_owned(),
            summary: "Auditing is switched off on {{ $labels.instance }}",
            description: "The kernel reports no system calls at all. `audit-collector status` shows it; \
                `audit-collector set --enabled 1` switches it on.",
        },
        Alert {
            name: "AuditDaemonPidTaken",
            severity: Critical,
            lasting: Some("1m"),
            expr: "audit_collector_kernel_daemon_is_self == 0 and on (cluster, job, instance) \
                audit_collector_host_info{source=\"daemon\"}"
                .to_owned(),
            summary: "The kernel of {{ $labels.instance }} no longer sends audit records to the collector",
            description: "Another process is the audit daemon in its place, or none is: `audit-collector status` shows its pid. \
                What happens meanwhile is known from eBPF alone.",
        },
        Alert {
            name: "AuditPanicRisk",
            severity: Critical,
            lasting: None,
            expr: format!(
                "audit_collector_kernel_failure_mode == 2 and on (cluster, job, instance) \
                 instance:audit_collector_kernel_backlog_peak:ratio > {BACKLOG_PANIC_RISK}"
            ),
            summary: "{{ $labels.instance }} panics if its audit queue fills up, and it is filling up",
            description: "The failure mode is 2 (panic), and within the last minute the queue was more than half full. \
                `audit-collector set --failure printk` on the host takes the danger away.",
        },
        Alert {
            name: "AuditSinkStalled",
            severity: Critical,
            lasting: Some("5m"),
            expr: format!(
                "(time() - audit_collector_sink_oldest_pending_timestamp_seconds > {SINK_STALLED}) and \
                 audit_collector_sink_oldest_pending_timestamp_seconds > 0 or audit_collector_sink_up == 0"
            ),
            summary: "The sink {{ $labels.sink }} of {{ $labels.instance }} takes no events",
            description: "They wait in its queue until that is full, and are dropped from then on.",
        },
        Alert {
            name: "AuditSinkDropping",
            severity: Critical,
            lasting: None,
            expr: of_late("audit_collector_sink_dropped_events_total", "reason"),
            summary: "Events of {{ $labels.instance }} do not reach the sink {{ $labels.sink }}",
            description: "{{ $value | humanize }} events within five minutes were given up on for this sink. They were collected; they \
                are not in what this sink holds.",
        },
        Alert {
            name: "AuditCanaryLate",
            severity: Critical,
            // Right after auditing was switched on, the last one is as old as that was off.
            lasting: Some("2m"),
            expr: format!(
                "time() - audit_collector_canary_last_success_timestamp_seconds > {CANARY_LATE} + 2 * \
                 audit_collector_canary_interval_seconds and on (cluster, job, instance) \
                 (audit_collector_canary_sent_total > 0 and audit_collector_kernel_enabled > 0)"
            ),
            summary: "What {{ $labels.instance }} is made to report does not come through",
            description: "The collector writes a record into the audit subsystem each minute, or as often as `canary_interval_s` says, and has not \
                seen one again for {{ $value | humanizeDuration }}.",
        },
        Alert {
            name: "AuditEventsBackfilled",
            severity: Warning,
            // Three times the range: what went on for a moment has long left it then.
            lasting: Some("15m"),
            expr: "sum without (verdict, outcome) (increase(audit_collector_crosscheck_events_total{outcome=\"backfilled\"}[5m])) > 0"
                .to_owned(),
            summary: "The kernel of {{ $labels.instance }} keeps losing audit events",
            description: "For a quarter of an hour now there is no end of it: {{ $value | humanize }} events within the last five minutes came back \
                from eBPF, without what eBPF does not see. Loss forensics shows the cause.",
        },
        Alert {
            name: "AuditBacklogNearLimit",
            severity: Warning,
            lasting: Some("5m"),
            expr: format!("instance:audit_collector_kernel_backlog_peak:ratio > {BACKLOG_NEAR_LIMIT}"),
            summary: "The kernel's audit queue of {{ $labels.instance }} is nearly full",
            description: "In each of the last five minutes, at its fullest, it was near its limit, in the last one at \
                {{ $value | humanizePercentage }}. Once it is full the kernel makes programs wait, or drops \
                records.",
        },
        Alert {
            name: "AuditNotEnforced",
            severity: Warning,
            lasting: Some("15m"),
            expr: "sum without (list) (audit_collector_rules_loaded) == 0".to_owned(),
            summary: "The kernel of {{ $labels.instance }} has no audit rules",
            description: "Auditing without rules reports no system calls. `audit-collector rules check /etc/audit/rules.d` and \
                `audit-collector rules load /etc/audit/rules.d` on the host.",
        },
        Alert {
            name: "AuditRulesDrifted",
            severity: Warning,
            lasting: Some("5m"),
            expr: "audit_collector_rules_in_sync == 0".to_owned(),
            summary: "The audit rules of {{ $labels.instance }} are not the configured ones",
            description: "Somebody changed them, or the kernel refuses one. The `rules_drifted` lines of the stream and \
                `audit-collector rules diff /etc/audit/rules.d` name what differs.",
        },
        Alert {
            name: "AuditWitnessAbsent",
            severity: Warning,
            lasting: Some("5m"),
            expr: "max without (level) (audit_collector_witness_level) == 0 or \
                min without (program) (audit_collector_ebpf_program_attached) == 0"
                .to_owned(),
            summary: "Nothing cross-checks the audit events of {{ $labels.instance }}, or not all of them",
            description: "The eBPF witness, or one of its programs, is not attached. Without it what the kernel drops before it draws a serial is a number and no event, and nothing is \
                given back. `audit-collector doctor` says what it lacks.",
        },
        Alert {
            name: "AuditWitnessDropping",
            severity: Warning,
            lasting: Some("5m"),
            expr: "sum without (ringbuf, reason) (increase(audit_collector_ebpf_ringbuf_dropped_events_total{ringbuf=\"observations\"}[5m])) > 0"
                .to_owned(),
            summary: "The eBPF witness of {{ $labels.instance }} misses calls",
            description: "{{ $value | humanize }} observations within five minutes did not come through: whether the audit stream is \
                complete is uncertain for that time. A larger ring (`ebpf_ring_bytes`) or fewer rules help.",
        },
        Alert {
            name: "AuditStatusStale",
            severity: Warning,
            lasting: Some("1m"),
            expr: format!("time() - audit_collector_kernel_status_last_success_timestamp_seconds > {STATUS_STALE}"),
            summary: "The kernel of {{ $labels.instance }} does not tell its audit status",
            description: "The last answer is {{ $value | humanizeDuration }} old, so the figures of the kernel's queue and of what it \
                lost are too. `audit_collector_kernel_status_errors_total` says what it answers.",
        },
        Alert {
            name: "AuditConfigRefused",
            severity: Warning,
            lasting: None,
            expr: "audit_collector_config_last_reload_successful == 0".to_owned(),
            summary: "{{ $labels.instance }} runs on its former configuration",
            description: "The new one was refused; the collector's log says where and why.",
        },
    ]
}
