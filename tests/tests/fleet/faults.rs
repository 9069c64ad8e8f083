//! What may be wrong with a host, how it shows in what its collector serves, and which alerts are to tell it.

/// A fault.
pub(super) struct Fault {
    pub(super) what: &'static str,
    /// The alerts that it is a reason for.
    pub(super) reasons: &'static [&'static str],
    /// What it changes; nothing where there is no answer at all.
    pub(super) changes: &'static [Change],
    pub(super) lasting: Lasting,
}

/// When a fault was there, in seconds before the fleet began.
#[derive(Clone, Copy)]
pub(super) enum Lasting {
    Since(f64),
    Between(f64, f64),
}

/// Of all series of this name (without `audit_collector_`) that have these labels, the value.
pub(super) type Change = (&'static str, &'static [(&'static str, &'static str)], How);

#[derive(Clone, Copy)]
pub(super) enum How {
    /// Is this.
    Is(f64),
    /// Grows besides by so much per second, more or less by the host.
    Grows(f64),
    /// Is a moment so many seconds ago.
    Age(f64),
}

use How::{Age, Grows, Is};
use Lasting::{Between, Since};

const MISSING: &str = "crosscheck_missing_events_total";
const CHECKED: &str = "crosscheck_events_total";
const EXPECTED: Change = ("crosscheck_expected_events_total", &[], Grows(LOSS));
/// Events per second.
const LOSS: f64 = 2.0;
/// Two hours ago: the host's hour of losses is full.
const LONG: Lasting = Since(7_200.0);

/// The changes of a loss, which keep the account's identities.
macro_rules! loss {
    ($stage:literal, $cause:literal, $outcome:literal) => {
        &[
            (
                MISSING,
                &[("stage", $stage), ("cause", $cause), ("outcome", $outcome)],
                Grows(LOSS),
            ),
            (
                CHECKED,
                &[("verdict", "inferred"), ("outcome", $outcome)],
                Grows(LOSS),
            ),
            EXPECTED,
            (
                "lost_records_total",
                &[("stage", $stage), ("cause", $cause)],
                Grows(LOSS),
            ),
        ]
    };
}

const fn fault(
    what: &'static str,
    reasons: &'static [&'static str],
    changes: &'static [Change],
) -> Fault {
    Fault {
        what,
        reasons,
        changes,
        lasting: LONG,
    }
}

/// Everything that an alert is there for.
pub(super) static FAULTS: [Fault; 23] = [
    fault(
        "lost in the kernel's queue and given back",
        &["AuditEventsBackfilled"],
        loss!("kernel", "backlog_limit", "backfilled"),
    ),
    fault(
        "lost by the rate limit and given back",
        &["AuditEventsBackfilled"],
        loss!("kernel", "rate_limit", "backfilled"),
    ),
    fault(
        "lost in the kernel's queue for good",
        &["AuditEventsUnrecovered"],
        loss!("kernel", "backlog_limit", "unrecovered"),
    ),
    fault(
        "lost in the socket for good",
        &["AuditEventsUnrecovered"],
        loss!("netlink", "socket_overrun", "unrecovered"),
    ),
    fault(
        "lost in the collector for good",
        &["AuditEventsUnrecovered"],
        loss!("collector", "queue_full", "unrecovered"),
    ),
    fault(
        "lost for good, nobody knows why",
        &["AuditEventsUnrecovered"],
        loss!("kernel", "unknown", "unrecovered"),
    ),
    fault("down", &["AuditCollectorDown"], &[]),
    fault(
        "auditing off",
        &["AuditDisabled"],
        &[("kernel_enabled", &[], Is(0.0))],
    ),
    fault(
        "displaced",
        &["AuditDaemonPidTaken"],
        &[("kernel_daemon_is_self", &[], Is(0.0))],
    ),
    fault(
        "near a panic",
        &["AuditPanicRisk"],
        &[
            ("kernel_failure_mode", &[], Is(2.0)),
            ("kernel_backlog_limit_records", &[], Is(8_192.0)),
            ("kernel_backlog_records", &[], Is(0.0)),
            ("kernel_backlog_peak_records", &[], Is(5_000.0)),
        ],
    ),
    fault(
        "sink stalled",
        &["AuditSinkStalled"],
        &[
            ("sink_up", &[], Is(0.0)),
            ("sink_oldest_pending_timestamp_seconds", &[], Age(1_000.0)),
            ("sink_queue_capacity_bytes", &[], Is(1e6)),
            ("sink_queue_bytes", &[], Is(9e5)),
        ],
    ),
    fault(
        "sink too slow",
        &["AuditSinkDropping"],
        &[
            (
                "sink_dropped_events_total",
                &[("reason", "queue_full")],
                Grows(LOSS),
            ),
            ("sink_handed_over_events_total", &[], Grows(LOSS)),
            (
                "lost_records_total",
                &[("stage", "sink"), ("cause", "sink_error")],
                Grows(LOSS),
            ),
        ],
    ),
    fault(
        "canary gone",
        &["AuditCanaryLate"],
        &[("canary_last_success_timestamp_seconds", &[], Age(900.0))],
    ),
    fault(
        "queue nearly full",
        &["AuditBacklogNearLimit"],
        &[
            ("kernel_backlog_limit_records", &[], Is(8_192.0)),
            ("kernel_backlog_records", &[], Is(0.0)),
            ("kernel_backlog_peak_records", &[], Is(7_900.0)),
        ],
    ),
    fault(
        "rules gone",
        &["AuditNotEnforced", "AuditRulesDrifted"],
        &[
            ("rules_loaded", &[], Is(0.0)),
            ("rules_in_sync", &[], Is(0.0)),
        ],
    ),
    fault(
        "rules changed",
        &["AuditRulesDrifted"],
        &[("rules_in_sync", &[], Is(0.0))],
    ),
    fault(
        "no witness",
        &["AuditWitnessAbsent"],
        &[
            ("witness_level", &[], Is(0.0)),
            ("ebpf_program_attached", &[], Is(0.0)),
        ],
    ),
    fault(
        "one program of the witness taken off",
        &["AuditWitnessAbsent"],
        &[("ebpf_program_attached", &[("program", "sys_exit")], Is(0.0))],
    ),
    fault(
        "no witness, and the kernel loses records",
        &["AuditWitnessAbsent", "AuditRecordsLost"],
        &[
            ("witness_level", &[], Is(0.0)),
            ("ebpf_program_attached", &[], Is(0.0)),
            ("kernel_lost_records_total", &[], Grows(LOSS)),
        ],
    ),
    fault(
        "ring too small",
        &["AuditWitnessDropping"],
        &[
            (
                "ebpf_ringbuf_dropped_events_total",
                &[("ringbuf", "observations"), ("reason", "ring_full")],
                Grows(LOSS),
            ),
            ("ebpf_attempted_events_total", &[], Grows(LOSS)),
            ("crosscheck_uncertain", &[], Is(1.0)),
        ],
    ),
    fault(
        "status stale",
        &["AuditStatusStale"],
        &[
            (
                "kernel_status_last_success_timestamp_seconds",
                &[],
                Age(600.0),
            ),
            (
                "kernel_status_errors_total",
                &[("error", "timeout")],
                Grows(1.0),
            ),
        ],
    ),
    fault(
        "configuration refused",
        &["AuditConfigRefused"],
        &[("config_last_reload_successful", &[], Is(0.0))],
    ),
    Fault {
        what: "lost events for good for two hours, which are over for three",
        reasons: &[],
        changes: loss!("kernel", "backlog_limit", "unrecovered"),
        lasting: Between(18_000.0, 10_800.0),
    },
];
