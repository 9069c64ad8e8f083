//! Dashboard *Loss forensics*: from a cause to the hosts, the rules and the time.

use super::expression::{highest, increase, mean, metric, rate, series};
use super::grafana::{
    Board, NONE_PER_SECOND_MILD, NOT_ONE, NOT_ONE_MILD, Opening, Panel, RED, Row, Steps, Unit,
    YELLOW,
};
use super::host::annotations;
use super::thresholds::{BACKLOG_NEAR_LIMIT, BACKLOG_PANIC_RISK};

const BACKLOG: Steps = &[(BACKLOG_PANIC_RISK, YELLOW), (BACKLOG_NEAR_LIMIT, RED)];
/// A day of every cause of a thousand hosts is more than Prometheus takes into a query: here they are by outcome alone, and there only
/// where something is lost.
const MISSING: &str = "audit_collector_crosscheck_events_total";
const LOST: &str = r#"outcome=~"backfilled|unrecovered""#;
const MISSING_BY_CAUSE: &str = "instance_cause:audit_collector_missing_events:rate5m";

pub(super) fn board() -> Board {
    Board {
        path: "dashboards/losses.json",
        uid: "audit-collector-losses",
        title: "Audit collector / Loss forensics",
        description: "From a cause of loss to the hosts, the rules and the time.",
        since: "now-24h",
        opening: Opening::Fleet,
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
    let grown = increase(&series(MISSING, &format!("outcome=\"{outcome}\"")));
    format!("round(sum({grown}))")
}

fn how_much() -> Vec<Panel> {
    vec![
        Panel::once(
            "Lost for good",
            "Within the chosen time. The loss lines of the stream name first and last serial and time of each hole.",
        )
        .steps(NOT_ONE)
        .query(total("unrecovered"), "events"),
        Panel::once(
            "Given back",
            "Within the chosen time: in the stream with outcome `backfilled`.",
        )
        .steps(NOT_ONE_MILD)
        .query(total("backfilled"), "events"),
        Panel::once(
            "Expected",
            "Within the chosen time, to compare with.",
        )
        .query(
            format!("round(sum({}))", increase(&metric("crosscheck_expected_events_total"))),
            "events",
        ),
        Panel::once(
            "Hosts concerned",
            "Hosts whose audit stream lacked anything within the chosen time.",
        )
        .steps(NOT_ONE_MILD)
        .query(
            format!(
                "sum((sum by (cluster, job, instance) ({})) > bool 0)",
                increase(&series(MISSING, LOST))
            ),
            "hosts",
        ),
    ]
}

fn why() -> Vec<Panel> {
    vec![
        Panel::bars(
            "By cause",
            "Events missing from the audit stream, the mean over the chosen time. Each cause has its remedy in the runbook of \
             AuditEventsBackfilled.",
            Unit::PerSecond,
        )
        .query(
            format!("{} > 0", mean(&format!("sum by (cause) ({})", series(MISSING_BY_CAUSE, "")))),
            "{{cause}}",
        ),
        Panel::bars(
            "By host",
            "The twenty that lost most within the chosen time.",
            Unit::Count,
        )
        .query(
            format!("topk(20, round(sum by (instance) ({})) > 0)", increase(&series(MISSING, LOST))),
            "{{instance}}",
        ),
        Panel::bars(
            "Events by rule key",
            "Which rules the hosts are busy with, the mean over the chosen time: what floods the queue is at the top. Narrow that rule, or \
             exclude what it need not see.",
            Unit::PerSecond,
        )
        .query(
            format!("topk(20, {} > 0)", mean(&by_key())),
            "{{key}}",
        ),
        Panel::areas(
            "Missing events over time, by cause",
            "A single spike has a reason of its own (a backup, a build); a level line is a limit that is too low.",
            Unit::PerSecond,
        )
        .query(
            format!("sum by (cause) ({})", series(MISSING_BY_CAUSE, "")),
            "{{cause}}",
        )
        .sized(12, 8),
        Panel::areas(
            "Missing events over time, by host",
            "The ten that lose most. Hosts that lose at the same time share a cause.",
            Unit::PerSecond,
        )
        .query(
            highest(10, &format!("sum by (instance) ({})", series(MISSING_BY_CAUSE, ""))),
            "{{instance}}",
        )
        .sized(12, 8),
    ]
}

fn by_key() -> String {
    format!("sum by (key) ({})", rate(&metric("rule_events_total")))
}

/// Of all hosts those that stand out.
fn beside() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Rule keys over time",
            "The ten busiest. The key that rises with the loss is the one that causes it. Calls and users: `audit-collector status` on the host.",
            Unit::PerSecond,
        )
        .query(highest(10, &by_key()), "{{key}}"),
        Panel::lines(
            "The kernel's queue, of its limit",
            "The ten fullest, each at its peak within the last minute, of one look each second: what is over sooner is seen by chance.",
            Unit::Ratio,
        )
        .steps(BACKLOG)
        .query(
            highest(10, &series("instance:audit_collector_kernel_backlog_peak:ratio", "")),
            "{{instance}}",
        ),
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
            "The ten hosts that drop most. While eBPF drops, holes without a serial go unseen.",
            Unit::PerSecond,
        )
        .steps(NONE_PER_SECOND_MILD)
        .query(
            highest(
                10,
                &format!(
                    "sum by (instance, reason) ({}) > 0",
                    rate(&metric("ebpf_ringbuf_dropped_events_total"))
                ),
            ),
            "{{instance}} {{reason}}",
        ),
        Panel::lines(
            "Programs waiting for the queue",
            "Seconds of waiting per second, of the ten hosts that wait most. Hosts that wait lose less and work slower.",
            Unit::Seconds,
        )
        .query(
            highest(10, &rate(&metric("kernel_backlog_wait_seconds_total"))),
            "{{instance}}",
        ),
        Panel::lines(
            "The collector's own processor time",
            "Cores in use, of the ten busiest. A collector that is at its limit loses at its socket and its queues.",
            Unit::Cores,
        )
        .query(highest(10, &rate(&series("process_cpu_seconds_total", ""))), "{{instance}}"),
    ]
}
