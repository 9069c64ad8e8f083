//! Dashboard *Fleet overview*: which hosts lose audit events, why, and whether they came back.

use super::expression::{highest, metric, metric_with, series};
use super::grafana::{
    Board, Column, HOST_KEY, Meanings, NOT_ONE, NOT_ONE_MILD, Opening, PLAIN, Panel, RED, Row,
    Steps, Unit, Word, YELLOW,
};
use super::rules::RUNBOOKS;
use super::thresholds::{BACKLOG_NEAR_LIMIT, BACKLOG_PANIC_RISK};

pub(super) const UID: &str = "audit-collector-fleet";

const HEALTH: Meanings = &[
    ("0", "good", "green"),
    ("1", "look", YELLOW),
    ("2", "act", RED),
];
const LEVEL: Meanings = &[
    ("0", "none", YELLOW),
    ("1", "syscalls", "green"),
    ("2", "audit-hooks", "green"),
];
const YES: Meanings = &[
    ("0", "no", RED),
    ("1", "yes", "green"),
    ("2", "locked", "green"),
];
const BACKLOG: Steps = &[(BACKLOG_PANIC_RISK, YELLOW), (BACKLOG_NEAR_LIMIT, RED)];

pub(super) fn board() -> Board {
    Board {
        path: "dashboards/fleet.json",
        uid: UID,
        title: "Audit collector / Fleet overview",
        description: "Which hosts lose audit events, why, and whether they came back.",
        since: "now-6h",
        opening: Opening::Fleet,
        annotations: Vec::new(),
        rows: vec![
            Row {
                title: "Now",
                panels: now(),
            },
            Row {
                title: "Hosts",
                panels: vec![hosts()],
            },
            Row {
                title: "What is lost",
                panels: losses(),
            },
        ],
    }
}

const HEALTH_RECORD: &str = "instance:audit_collector_health:severity";

/// Of each host, as far as `matchers` let it through.
fn worst(matchers: &str) -> String {
    let health = series(HEALTH_RECORD, matchers);
    format!("max by (cluster, job, instance) ({health})")
}

/// How many hosts are of this health. Nothing, rather than none, where no host is scraped.
fn health(level: u8) -> String {
    format!("sum({} == bool {level})", worst(""))
}

fn missing(outcome: &str) -> String {
    series(
        "instance_outcome:audit_collector_missing_events:increase1h",
        &format!("outcome=\"{outcome}\""),
    )
}

fn now() -> Vec<Panel> {
    vec![
        Panel::once(
            "Hosts",
            "Hosts that Prometheus is told to scrape a collector of. Compare with your inventory: a host that is in no scrape is not \
             watched by anybody.",
        )
        .query(format!("count({}) or vector(0)", worst("")), "hosts")
        .sized(3, 4),
        Panel::once(
            "Not answering",
            "Hosts whose collector is down or cannot be reached. Nobody accounts for their events: the runbook of AuditCollectorDown.",
        )
        .steps(NOT_ONE)
        .query(
            format!(
                "count({}) or 0 * count({})",
                worst(r#"reason="AuditCollectorDown""#),
                worst("")
            ),
            "hosts",
        )
        .sized(3, 4),
        Panel::once(
            "Hosts to act on",
            "Hosts with a critical alert's condition. They are first in the table below; each reason has a runbook.",
        )
        .steps(NOT_ONE)
        .query(health(2), "hosts")
        .sized(3, 4),
        Panel::once(
            "Hosts to look at",
            "Hosts with a warning's condition and nothing worse. By day.",
        )
        .steps(NOT_ONE_MILD)
        .query(health(1), "hosts")
        .sized(3, 4),
        Panel::number(
            "Lost for good, last hour",
            "Events that neither the audit stream nor eBPF has. Anything but 0 is a hole in the evidence: open Loss forensics.",
            Unit::Count,
        )
        .steps(NOT_ONE)
        .query(format!("sum({})", missing("unrecovered")), "events"),
        Panel::number(
            "Given back, last hour",
            "Events the kernel lost and eBPF gave back. Nothing is missing, but a host that needs this is set up too tightly.",
            Unit::Count,
        )
        .steps(NOT_ONE_MILD)
        .query(format!("sum({})", missing("backfilled")), "events"),
        Panel::number(
            "Events expected",
            "Events the kernels should have reported, per second, over all chosen hosts.",
            Unit::PerSecond,
        )
        .query(
            format!("sum({})", series("instance:audit_collector_expected_events:rate5m", "")),
            "events",
        ),
        Panel::bars(
            "Hosts, by what is wrong",
            "Each reason is an alert's name and has a runbook; a host may have several. Many hosts with one reason have one cause: mend that \
             first.",
            Unit::Count,
        )
        .query(
            format!("count by (reason) ({})", series(HEALTH_RECORD, r#"reason!="""#)),
            "{{reason}}",
        )
        .sized(24, 7),
    ]
}

/// `expr` with a label that tells its host from any other: instances of two clusters may have one name.
fn keyed(expr: &str) -> String {
    format!(r#"label_join({expr}, "{HOST_KEY}", "/", "cluster", "job", "instance")"#)
}

fn hosts() -> Panel {
    let column = |title, expr: String, unit, steps, meanings| Column {
        title,
        expr: format!("max by ({HOST_KEY}) ({})", keyed(&expr)),
        unit,
        steps,
        meanings,
    };
    // Keeps the labels, of which two have columns.
    let health = Column {
        title: "Health",
        expr: format!(
            "topk by ({HOST_KEY}) (1, {})",
            keyed(&series(HEALTH_RECORD, ""))
        ),
        unit: Unit::Words,
        steps: PLAIN,
        meanings: HEALTH,
    };
    let words = vec![
        Word {
            title: "Worst reason",
            label: "reason",
            link: Some(("Its runbook", format!("{RUNBOOKS}/${{__value.raw}}.md"))),
        },
        Word {
            title: "Cluster",
            label: "cluster",
            link: None,
        },
        Word {
            title: "Job",
            label: "job",
            link: None,
        },
    ];
    let level = format!(
        "{} or 2 * {}",
        metric_with("witness_level", r#"level="syscalls""#) + " == 1",
        metric_with("witness_level", r#"level="audit-hooks""#),
    );
    Panel::hosts(
        "Every host, the worst first",
        "A row per host; click its name for everything about it, and the reason for its runbook. Act on red, look at yellow.",
        words,
        vec![
            health,
            column(
                "Lost for good, 1 h",
                missing("unrecovered"),
                Unit::Count,
                NOT_ONE,
                &[],
            ),
            column(
                "Given back, 1 h",
                missing("backfilled"),
                Unit::Count,
                NOT_ONE_MILD,
                &[],
            ),
            column(
                "Expected per s",
                series("instance:audit_collector_expected_events:rate5m", ""),
                Unit::PerSecond,
                PLAIN,
                &[],
            ),
            column(
                "Kernel queue, peak",
                series("instance:audit_collector_kernel_backlog_peak:ratio", ""),
                Unit::Ratio,
                BACKLOG,
                &[],
            ),
            column(
                "Auditing",
                metric("kernel_enabled"),
                Unit::Words,
                PLAIN,
                YES,
            ),
            column(
                "Rules as configured",
                metric("rules_in_sync"),
                Unit::Words,
                PLAIN,
                YES,
            ),
            column("Witness", level, Unit::Words, PLAIN, LEVEL),
            column(
                "Sink queue",
                series("instance:audit_collector_sink_queue:ratio", ""),
                Unit::Ratio,
                BACKLOG,
                &[],
            ),
            column(
                "Sinks down",
                format!(
                    "count by (cluster, job, instance) ({} == 0) or 0 * group by (cluster, job, instance) ({})",
                    metric("sink_up"),
                    metric("sink_up")
                ),
                Unit::Count,
                NOT_ONE,
                &[],
            ),
        ],
    )
}

fn losses() -> Vec<Panel> {
    vec![
        Panel::areas(
            "Events the audit stream did not have, by cause",
            "Over all chosen hosts. Open Loss forensics for which hosts, keys and calls.",
            Unit::PerSecond,
        )
        .query(
            format!(
                "sum by (cause) ({})",
                series("instance_cause:audit_collector_missing_events:rate5m", "")
            ),
            "{{cause}}",
        )
        .sized(12, 8),
        Panel::lines(
            "The ten hosts that lose most, and why",
            "Events per second that the audit stream of each did not have, given back or not; the ten greatest of all hosts and causes. The \
             runbook of AuditEventsBackfilled says what helps against each.",
            Unit::PerSecond,
        )
        .query(
            highest(
                10,
                &series("instance_cause:audit_collector_missing_events:rate5m", ""),
            ),
            "{{instance}} {{cause}}",
        )
        .sized(12, 8),
        Panel::lines(
            "Share captured",
            "Of the events that the kernels should have reported, those that came or were given back; 100 % is the promise. The worst host and \
             the mean of all that have a witness: of others nobody knows what should have come.",
            Unit::Ratio,
        )
        .query(
            format!("min({})", series("instance:audit_collector_captured_events:ratio_increase1h", "")),
            "worst host",
        )
        .query(
            format!("avg({})", series("instance:audit_collector_captured_events:ratio_increase1h", "")),
            "mean",
        )
        .sized(12, 8),
        Panel::lines(
            "Expected events, by job",
            "Load on the audit system of the fleet. A fall without a reason is as telling as a rise.",
            Unit::PerSecond,
        )
        .query(
            format!(
                "sum by (cluster, job) ({})",
                series("instance:audit_collector_expected_events:rate5m", "")
            ),
            "{{cluster}} {{job}}",
        )
        .sized(12, 8),
    ]
}
