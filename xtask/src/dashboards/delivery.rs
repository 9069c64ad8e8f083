//! Dashboard *Cost and delivery*: what the collector costs its hosts, and whether the sinks take what it hands them.

use super::expression::{highest, lowest, metric, quantile, rate, series};
use super::grafana::{
    Board, Meanings, NONE_PER_SECOND, Opening, Panel, RED, Row, Steps, Unit, YELLOW,
};
use super::host::annotations;
use super::thresholds::{SINK_QUEUE_NEAR_LIMIT, SINK_STALLED};

/// Lines of a panel: of a fleet those that stand out, of a few hosts all.
const SHOWN: u8 = 20;

const UP: Meanings = &[("0", "down", RED), ("1", "up", "green")];
const QUEUE: Steps = &[(0.5, YELLOW), (SINK_QUEUE_NEAR_LIMIT, RED)];
const STALLED: Steps = &[(SINK_STALLED, RED)];

pub(super) fn board() -> Board {
    Board {
        path: "dashboards/delivery.json",
        uid: "audit-collector-delivery",
        title: "Audit collector / Cost and delivery",
        description: "What the collector costs its hosts, and whether the sinks take what it hands them. Panels by host show the twenty that stand out.",
        since: "now-6h",
        opening: Opening::Fleet,
        annotations: annotations(),
        rows: vec![
            Row {
                title: "Delivery",
                panels: delivery(),
            },
            Row {
                title: "Cost: the process",
                panels: process(),
            },
            Row {
                title: "Cost: the BPF programs (needs kernel.bpf_stats_enabled)",
                panels: programs(),
            },
        ],
    }
}

/// Of all chosen hosts together.
fn by_sink(name: &str) -> String {
    format!("sum by (sink) ({})", rate(&metric(name)))
}

fn delivery() -> Vec<Panel> {
    vec![
        Panel::timeline(
            "Sinks",
            "Whether the last delivery succeeded. Down: see the errors below and the collector's log.",
            UP,
        )
        .query(lowest(SHOWN, &metric("sink_up")), "{{instance}} {{sink}}")
        .sized(24, 5),
        Panel::lines(
            "Events handed over and delivered",
            "Over all chosen hosts. They part by what is queued and dropped.",
            Unit::PerSecond,
        )
        .query(by_sink("sink_handed_over_events_total"), "{{sink}} handed over")
        .query(by_sink("sink_delivered_events_total"), "{{sink}} delivered"),
        Panel::lines(
            "Bytes delivered",
            "What a host costs behind the sink.",
            Unit::BytesPerSecond,
        )
        .query(highest(SHOWN, &rate(&metric("sink_delivered_bytes_total"))), "{{instance}} {{sink}}"),
        Panel::lines(
            "Events dropped",
            "Collected, and not in this sink. queue_full: it is too slow, or its queue too small (`sink_queue_bytes`).",
            Unit::PerSecond,
        )
        .steps(NONE_PER_SECOND)
        .query(highest(SHOWN, &rate(&metric("sink_dropped_events_total"))), "{{instance}} {{sink}} {{reason}}"),
        Panel::lines(
            "Queue, of its capacity",
            "A full queue drops. It fills while the sink is down or slow.",
            Unit::Ratio,
        )
        .steps(QUEUE)
        .query(
            highest(
                SHOWN,
                &format!("{} / {}", metric("sink_queue_bytes"), metric("sink_queue_capacity_bytes")),
            ),
            "{{instance}} {{sink}}",
        ),
        Panel::lines(
            "Events queued",
            "The same in events; compare with the bytes to see what a queue of that size holds.",
            Unit::Count,
        )
        .query(highest(SHOWN, &metric("sink_queue_events")), "{{instance}} {{sink}}"),
        Panel::lines(
            "Age of the oldest event not delivered",
            "Grows while a sink takes nothing; above five minutes the alert AuditSinkStalled fires.",
            Unit::Seconds,
        )
        .steps(STALLED)
        .query(
            highest(
                SHOWN,
                &format!(
                    "(time() - {0}) and {0} > 0 or 0 * {0}",
                    metric("sink_oldest_pending_timestamp_seconds")
                ),
            ),
            "{{instance}} {{sink}}",
        ),
        Panel::lines(
            "Errors and retries",
            "By kind; disk_full and closed are for you to mend.",
            Unit::PerSecond,
        )
        .query(highest(SHOWN, &rate(&metric("sink_errors_total"))), "{{instance}} {{sink}} {{kind}}")
        .query(highest(SHOWN, &rate(&metric("sink_retries_total"))), "{{instance}} {{sink}} retries"),
        Panel::lines(
            "Time of one delivery",
            "The slowest one in a hundred. A sink near a second will not keep up with a storm.",
            Unit::Seconds,
        )
        .query(
            highest(
                SHOWN,
                &quantile("0.99", "sink_delivery_duration_seconds", "instance, sink"),
            ),
            "{{instance}} {{sink}} p99",
        ),
        Panel::lines(
            "Since the last delivery",
            "Of a sink for which events wait; 0 where none do, as on a host where nothing happens. Minutes are too long.",
            Unit::Seconds,
        )
        .steps(STALLED)
        .query(
            highest(
                SHOWN,
                &format!(
                    "(time() - {0}) and {1} > 0 or 0 * {0}",
                    metric("sink_last_success_timestamp_seconds"),
                    metric("sink_oldest_pending_timestamp_seconds")
                ),
            ),
            "{{instance}} {{sink}}",
        ),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Processor time",
            "Cores that the collector uses, user and system.",
            Unit::Cores,
        )
        .query(
            highest(SHOWN, &rate(&series("process_cpu_seconds_total", ""))),
            "{{instance}}",
        ),
        Panel::lines(
            "Memory",
            "Resident, without the eBPF ring, which the kernel holds.",
            Unit::Bytes,
        )
        .query(highest(SHOWN, &series("process_resident_memory_bytes", "")), "{{instance}}"),
        Panel::lines(
            "Processor time per 1,000 events",
            "What one event costs; compare hosts and versions by this.",
            Unit::Seconds,
        )
        .query(
            highest(
                SHOWN,
                &format!(
                    "1000 * {} / on (cluster, job, instance) ({} > 0)",
                    rate(&series("process_cpu_seconds_total", "")),
                    rate(&metric("events_merged_total"))
                ),
            ),
            "{{instance}}",
        ),
        Panel::lines("Open files", "And how many may be open; one per sink, socket and scrape is usual.", Unit::Count)
            .query(highest(SHOWN, &series("process_open_fds", "")), "{{instance}} open")
            .query(format!("min({})", series("process_max_fds", "")), "lowest limit"),
        Panel::lines(
            "Threads",
            "Should not grow; if it does, please report it.",
            Unit::Count,
        )
        .query(highest(SHOWN, &series("process_threads", "")), "{{instance}}"),
        Panel::lines(
            "Runtime: workers busy",
            "Cores that its workers use, and how many there are. At its limit, everything waits for it: scrapes, sockets, events.",
            Unit::Cores,
        )
        .query(highest(SHOWN, &rate(&metric("runtime_busy_seconds_total"))), "{{instance}} busy")
        .query(format!("min({})", metric("runtime_workers")), "fewest workers"),
        Panel::lines(
            "Runtime: tasks",
            "Alive, and waiting for a worker. Waiting ones that stay are a fault of ours: please report it.",
            Unit::Count,
        )
        .query(highest(SHOWN, &metric("runtime_tasks")), "{{instance}} alive")
        .query(highest(SHOWN, &metric("runtime_queued_tasks")), "{{instance}} waiting"),
        Panel::lines(
            "Address space",
            "Of the process, the mapped ring included.",
            Unit::Bytes,
        )
        .query(highest(SHOWN, &series("process_virtual_memory_bytes", "")), "{{instance}}"),
    ]
}

fn programs() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Runs of the BPF programs",
            "Every system call of the host runs the one at its entry.",
            Unit::PerSecond,
        )
        .query(highest(SHOWN, &rate(&metric("ebpf_program_runs_total"))), "{{instance}} {{program}}"),
        Panel::lines(
            "Time in the BPF programs",
            "Seconds per second, over all processors: what the witness costs the host.",
            Unit::Seconds,
        )
        .query(highest(SHOWN, &rate(&metric("ebpf_program_run_seconds_total"))), "{{instance}} {{program}}"),
        Panel::lines(
            "Time of one run",
            "Mean. It grows with the number of rules that name a call, and with what a sample holds.",
            Unit::Seconds,
        )
        .query(
            highest(
                SHOWN,
                &format!(
                    "{} / ({} > 0)",
                    rate(&metric("ebpf_program_run_seconds_total")),
                    rate(&metric("ebpf_program_runs_total"))
                ),
            ),
            "{{instance}} {{program}}",
        ),
    ]
}
