//! What the collector serves on the real kernel: every family of the table, the canary's way, events by rule key.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::privilege::Capability;

/// What the kernel may have no cause to tell while the test runs.
const MAY_BE_ABSENT: [&str; 6] = [
    // Only where `kernel.bpf_stats_enabled` is on.
    "ebpf_program_runs_total",
    "ebpf_program_run_seconds_total",
    // Only where rules are configured.
    "rules_in_sync",
    "rules_reloads_total",
    // Only once they change.
    "rules_last_change_timestamp_seconds",
    // Not before 5.16, and not where the length of a jiffy is unknown.
    "kernel_backlog_wait_seconds_total",
];

const SOON: Duration = Duration::from_secs(20);

fn wait_until(collector: &Collector, what: &str, is: impl Fn(&Samples) -> bool) -> Samples {
    let began = Instant::now();
    loop {
        let metrics = collector.metrics().unwrap();
        if is(&metrics) {
            return metrics;
        }
        assert!(
            began.elapsed() < requirement::patience(SOON),
            "{what}: {}",
            collector.stderr()
        );
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn every_family_is_served_and_the_canary_comes_through() {
    let needs = [
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Capability(Capability::AuditWrite),
        Requirement::Program("promtool"),
    ];
    if !requirement::met(&needs) {
        return;
    }
    let uid = 60_071;
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "metrics");
    guard.add_rule(&rule).unwrap();
    let key = rule.keys().next().unwrap();
    let key = std::str::from_utf8(key).unwrap();
    let collector = Collector::start(&[
        "--mode=daemon",
        "--canary",
        "--canary-interval-s=1",
        "--metrics-rule-keys=1",
    ])
    .unwrap();
    let metrics = wait_until(&collector, "a key is there at zero", |metrics| {
        metrics.sum("rule_events_total", &[("key", key)]).is_some()
    });
    assert_eq!(metrics.count("rule_events_total", &[("key", key)]), 0);
    assert_eq!(metrics.count("rule_events_total", &[("key", "other")]), 0);

    workload::run(uid, &["open", "--count", "50"]).unwrap();
    let metrics = wait_until(&collector, "the canary", |metrics| {
        metrics.count("canary_received_total", &[]) >= 3
            && metrics.count("rule_events_total", &[("key", key)]) >= 50
    });
    assert_eq!(metrics.count("rule_events_total", &[("key", key)]), 50);
    assert_eq!(
        metrics.count("netlink_dropped_records_total", &[("socket", "control")]),
        0
    );
    assert!(metrics.count("netlink_receive_buffer_bytes", &[("socket", "control")]) > 0);
    let (seconds, n) = (
        metrics.sum("canary_latency_seconds_sum", &[]).unwrap(),
        metrics.sum("canary_latency_seconds_count", &[]).unwrap(),
    );
    println!(
        "{n} canaries came through in {:.1} ms each",
        seconds * 1_000.0 / n
    );

    let text = collector.get("/metrics").unwrap().body;
    let served: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("# TYPE audit_collector_")?
                .split(' ')
                .next()
        })
        .collect();
    let absent: Vec<_> = include_str!("../../collector/metrics.tsv")
        .lines()
        .filter_map(|line| line.strip_prefix("audit_collector_")?.split('\t').next())
        .filter(|name| !served.contains(name) && !MAY_BE_ABSENT.contains(name))
        .collect();
    assert!(absent.is_empty(), "not served: {absent:?}");
    let promtool = requirement::find_program("promtool").unwrap();
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );

    let finished = collector.stop().unwrap();
    let canaries = String::from_utf8_lossy(&finished.output)
        .matches("op=audit-collector-canary")
        .count();
    assert!(canaries >= 3, "{canaries} in the stream");
    guard.check_restored(&[rule]).unwrap();
}
