//! What the collector serves on the real kernel: every family of the table, the canary's way, events by rule key.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::bpf_stats::BpfStats;
use audit_collector_tests::exposition::Samples;
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::{promtool, wait, workload};
use collector::audit::arch::Arch;
use collector::audit::privilege::Capability;

const SOON: Duration = Duration::from_secs(20);

fn wait_until(collector: &Collector, what: &str, is: impl Fn(&Samples) -> bool) -> Samples {
    let once_it_is = || Some(collector.metrics().unwrap()).filter(|told| is(told));
    let missing = || format!("{what}: {}", collector.stderr());
    wait::for_some(requirement::patience(SOON), once_it_is, missing)
}

#[test]
fn every_family_is_served_and_the_canary_comes_through() {
    let needs = [
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Capability(Capability::AuditWrite),
        Requirement::Program(promtool::PROGRAM),
    ];
    if !requirement::met(&needs) {
        return;
    }
    let uid = 60_071;
    let mut guard = AuditGuard::take().unwrap();
    let _stats = BpfStats::on().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.rules");
    let key = &format!("{KEY}-metrics");
    let text = format!("-a always,exit -F arch=b64 -S openat -F uid={uid} -k {key}\n");
    fs::write(&file, text).unwrap();
    let collector = Collector::start(&[
        "--mode=daemon",
        "--canary",
        "--canary-interval-s=1",
        "--metrics-rule-keys=1",
        "--rules-remove-at-exit",
        &format!("--rules={}", file.display()),
    ])
    .unwrap();
    let metrics = wait_until(&collector, "a key is there at zero", |metrics| {
        metrics.sum("rule_events_total", &[("key", key)]).is_some()
    });
    assert_eq!(metrics.count("rule_events_total", &[("key", key)]), 0);
    assert_eq!(metrics.count("rule_events_total", &[("key", "other")]), 0);

    workload::run(uid, &["open", "--count", "50"]).unwrap();
    let other = rule_for(uid, Arch::NATIVE, &["execve"], "metrics-other");
    guard.add_rule(&other).unwrap();
    wait_until(&collector, "another rule", |metrics| {
        let changed = metrics.sum("rules_last_change_timestamp_seconds", &[]);
        changed.is_some() && metrics.count("rules_loaded", &[("list", "exit")]) >= 2
    });
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
    assert!(metrics.count("ebpf_program_runs_total", &[("program", "sys_enter")]) >= 50);
    let cost = metrics.sum(
        "ebpf_program_run_seconds_total",
        &[("program", "sys_enter")],
    );
    assert!(cost.is_some_and(|seconds| seconds > 0.0), "{cost:?}");
    assert!(metrics.count("ebpf_map_entries", &[("map", "conditions")]) > 0);
    assert_eq!(metrics.count("rules_in_sync", &[]), 1);
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
        // Not where the length of a jiffy is unknown.
        .filter(|name| !served.contains(name) && *name != "kernel_backlog_wait_seconds_total")
        .collect();
    assert!(absent.is_empty(), "not served: {absent:?}");
    promtool::check_metrics(&text).unwrap();

    let finished = collector.stop().unwrap();
    let canaries = String::from_utf8_lossy(&finished.output)
        .matches("op=audit-collector-canary")
        .count();
    assert!(canaries >= 3, "{canaries} in the stream");
    guard.check_restored(&[other]).unwrap();
}
