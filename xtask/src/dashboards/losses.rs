//! Dashboard *Loss forensics*: from a cause to the hosts, the rules and the time.

use super::expression::{increase, metric, metric_with, rate, series};
use super::grafana::{Board, NOT_ONE, NOT_ONE_MILD, Panel, RED, Row, Steps, Unit, YELLOW};
use super::host::annotations;
use super::thresholds::{BACKLOG_NEAR_LIMIT, BACKLOG_PANIC_RISK};

const BACKLOG: Steps = &[(BACKLOG_PANIC_RISK, YELLOW), (BACKLOG_NEAR_LIMIT, RED)];
const MISSING: &str = "crosscheck_missing_events_total";

pub(super) fn board() -> Board {
    Board {
        path: "dashboards/losses.json",
        uid: "audit-collector-losses",
        title: "Audit collector / Loss forensics",
        description: "From a cause of loss to the hosts, the rules and the time.",
        since: "now-24h",
        annotations: annotations(),
        rows: vec![
            Row {
                title: "How much",
                panels: how_much(),
            },
            Row {
                title: "Why, where and when",
                panels: why(),
            },
            Row {
                title: "What goes with it",
                panels: beside(),
            },
        ],
    }
}

fn total(outcome: &str) -> String {
    let grown = increase(&metric_with(MISSING, &format!("outcome=\"{outcome}\"")));
    format!("sum({grown}) or vector(0)")
}

fn how_much() -> Vec<Panel> {
    vec![
        Panel::number(
            "Lost for good",
            "Within the chosen time. The loss lines of the stream name first and last serial and time of each hole.",
            Unit::Count,
        )
        .steps(NOT_ONE)
        .query(total("unrecovered"), "events"),
        Panel::number(
            "Given back",
            "Within the chosen time: in the stream with outcome `backfilled`.",
            Unit::Count,
        )
        .steps(NOT_ONE_MILD)
        .query(total("backfilled"), "events"),
        Panel::number(
            "Expected",
            "Within the chosen time, to compare with.",
            Unit::Count,
        )
        .query(
            format!("sum({})", increase(&metric("crosscheck_expected_events_total"))),
            "events",
        ),
        Panel::number(
            "Hosts concerned",
            "Hosts whose audit stream lacked anything within the chosen time.",
            Unit::Count,
        )
        .steps(NOT_ONE_MILD)
        .query(
            format!(
                "count(sum by (cluster, job, instance) ({}) > 0) or vector(0)",
                increase(&metric(MISSING))
            ),
            "hosts",
        ),
    ]
}

fn why() -> Vec<Panel> {
    vec![
        Panel::bars(
            "By cause and stage",
            "Events missing from the audit stream within the chosen time. Each cause has its remedy in the runbook of AuditEventsBackfilled.",
            Unit::Count,
        )
        .query(
            format!("sum by (stage, cause) ({}) > 0", increase(&metric(MISSING))),
            "{{stage}}: {{cause}}",
        ),
        Panel::bars(
            "By host",
            "The twenty that lost most within the chosen time.",
            Unit::Count,
        )
        .query(
            format!("topk(20, sum by (instance) ({}) > 0)", increase(&metric(MISSING))),
            "{{instance}}",
        ),
        Panel::bars(
            "Events by rule key",
            "Which rules the hosts are busy with: what floods the queue is at the top. Narrow that rule, or exclude what it need not see.",
            Unit::Count,
        )
        .query(
            format!("topk(20, sum by (key) ({}) > 0)", increase(&metric("rule_events_total"))),
            "{{key}}",
        ),
        Panel::areas(
            "Missing events over time, by cause",
            "A single spike has a reason of its own (a backup, a build); a level line is a limit that is too low.",
            Unit::PerSecond,
        )
        .query(
            format!("sum by (cause) ({}) > 0", rate(&metric(MISSING))),
            "{{cause}}",
        )
        .sized(12, 8),
        Panel::areas(
            "Missing events over time, by host",
            "The ten that lose most. Hosts that lose at the same time share a cause.",
            Unit::PerSecond,
        )
        .query(
            format!("topk(10, sum by (instance) ({}) > 0)", rate(&metric(MISSING))),
            "{{instance}}",
        )
        .sized(12, 8),
    ]
}

fn beside() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Rule keys over time",
            "The ten busiest. The key that rises with the loss is the one that causes it. Calls and users: `audit-collector status` on the host.",
            Unit::PerSecond,
        )
        .query(
            format!("topk(10, sum by (key) ({}))", rate(&metric("rule_events_total"))),
            "{{key}}",
        ),
        Panel::lines(
            "The kernel's queue, of its limit",
            "Losses with an empty queue are not of the backlog limit.",
            Unit::Ratio,
        )
        .steps(BACKLOG)
        .query(series("instance:audit_collector_kernel_backlog:ratio", ""), "{{instance}}"),
        Panel::lines(
            "Records lost in all, by cause",
            "As counted where they were lost: the kernel's own count, the socket's drops, our queues and sinks.",
            Unit::PerSecond,
        )
        .query(
            format!(
                "sum by (stage, cause) ({}) > 0",
                rate(&metric("lost_records_total"))
            ),
            "{{stage}}: {{cause}}",
        ),
        Panel::lines(
            "Records given back to the byte, by cause",
            "What was lost behind the kernel's queue and came from a copy taken there (`ebpf_text_mirror`), at level audit-hooks.",
            Unit::PerSecond,
        )
        .query(
            format!(
                "sum by (stage, cause) ({}) > 0",
                rate(&metric("recovered_records_total"))
            ),
            "{{stage}}: {{cause}}",
        ),
        Panel::lines(
            "Observations dropped",
            "While eBPF drops, holes without a serial go unseen.",
            Unit::PerSecond,
        )
        .steps(NOT_ONE_MILD)
        .query(
            format!(
                "sum by (instance, reason) ({}) > 0",
                rate(&metric("ebpf_ringbuf_dropped_events_total"))
            ),
            "{{instance}} {{reason}}",
        ),
        Panel::lines(
            "Programs waiting for the queue",
            "Seconds of waiting per second. Hosts that wait lose less and work slower.",
            Unit::Seconds,
        )
        .query(rate(&metric("kernel_backlog_wait_seconds_total")), "{{instance}}"),
        Panel::lines(
            "The collector's own processor time",
            "Cores in use. A collector that is at its limit loses at its socket and its queues.",
            Unit::Cores,
        )
        .query(rate(&series("process_cpu_seconds_total", "")), "{{instance}}"),
    ]
}
