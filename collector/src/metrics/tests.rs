use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::family::{PREFIX, ROWS, TABLE};
use super::*;
use crate::account::{Canary, Ebpf, ProgramRuns, RuleEvents, Sink, Socket};
use crate::audit::status::KernelStatus;
use crate::clock::TimeMs;
use crate::event::{Cause, Outcome};
use crate::probe::hooks::Level;
use crate::probe::observation::Verdict;

fn full() -> Account {
    let mut account = Account::default();
    account.input.source = "daemon";
    account.input.records = 12;
    account.kernel.status = Some(KernelStatus {
        enabled: 1,
        backlog_limit: 64,
        ..KernelStatus::default()
    });
    account.kernel.last_success = Some(TimeMs(1_700_000_000_250));
    account.kernel.backlog_peak = 60;
    account.kernel.lost = 4_294_967_300;
    account.kernel.errors.insert("timeout", 2);
    account.losses.insert(Cause::RateLimit, 9);
    account.ebpf = Some(Ebpf {
        programs: [("sys_enter", true)].into(),
        runs: [(
            "sys_enter",
            ProgramRuns {
                runs: 3,
                time: Duration::from_millis(1),
            },
        )]
        .into(),
        missed_runs: [("sys_enter", 0)].into(),
        read: [("sys_exit", 3)].into(),
        maps: [("in_flight", (2, 16_384))].into(),
        ..Ebpf::default()
    });
    account
        .crosscheck
        .settled
        .insert((Verdict::Inferred, Outcome::Backfilled), 5);
    account
        .crosscheck
        .by_cause
        .insert((Outcome::Backfilled, Cause::RateLimit), 5);
    account.crosscheck.maybe_settled_yes = 6;
    account.level = Some(Level::Syscalls);
    account.sockets.insert("events", Socket::default());
    account.kernel.backlog_wait = Some(Duration::ZERO);
    account.canary = Some(Canary {
        interval: Duration::from_secs(300),
        sent: 2,
        received: 1,
        last_success: TimeMs(1_000),
        ..Canary::default()
    });
    account.rule_events = RuleEvents::new(1);
    account.rule_events.count(b"etc-write");
    account.rule_events.count(b"a \"quoted\" key");
    account.rules_loaded.insert("exit", 3);
    account.rules_changed = Some(TimeMs(1));
    account.rules_in_sync = Some(false);
    account.rules_reloads.insert("done", 2);
    account.kernel.daemon_is_self = Some(true);
    account.sinks.insert(
        "stdout".to_owned(),
        Sink {
            last_success: Some(TimeMs(1_500)),
            ..Sink::default()
        },
    );
    account.merge_latency.observe(Duration::from_millis(2));
    account.merge_latency.observe(Duration::from_secs(61));
    account
}

fn text(account: &Account) -> String {
    let state = LoadState::default();
    state.loaded();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let text = Metrics::new(Arc::new(state)).render(account).unwrap();
    String::from_utf8(text).unwrap()
}

fn families(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect()
}

#[test]
fn exactly_the_families_of_the_table_are_served() {
    let text = text(&full());
    let served: BTreeSet<&str> = families(&text)
        .into_iter()
        .filter(|name| !name.starts_with("process_"))
        .collect();
    let wanted: BTreeSet<&str> = ROWS.keys().copied().collect();
    assert_eq!(served, wanted);
}

#[test]
fn types_and_help_are_those_of_the_table() {
    let text = text(&full());
    for line in TABLE.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), 4, "{line}");
        let header = format!(
            "# HELP {0} {2}\n# TYPE {0} {1}\n{0}",
            cells[0],
            cells[1],
            cells[3].replace('\\', "\\\\"),
        );
        assert!(text.contains(&header), "{header}");
    }
}

#[test]
fn closed_sets_are_there_at_zero() {
    let text = text(&Account {
        sinks: [("file".to_owned(), Sink::default())].into(),
        ebpf: Some(Ebpf::default()),
        ..Account::default()
    });
    for sample in [
        "lost_records_total{stage=\"kernel\",cause=\"backlog_limit\"} 0",
        "lost_records_total{stage=\"sink\",cause=\"sink_error\"} 0",
        "crosscheck_events_total{verdict=\"exact\",outcome=\"unrecovered\"} 0",
        "crosscheck_pending_events{source=\"ebpf\"} 0",
        "crosscheck_missing_events_total{stage=\"kernel\",cause=\"no_context\",outcome=\"unrecovered\"} 0",
        "crosscheck_maybe_events_total{result=\"found_not_reported\"} 0",
        "witness_level{level=\"audit-hooks\"} 0",
        "events_incomplete_total{reason=\"evicted\"} 0",
        "netlink_overruns_total{socket=\"events\"} 0",
        "ebpf_ringbuf_dropped_events_total{ringbuf=\"observations\",reason=\"ring_full\"} 0",
        "sink_dropped_events_total{sink=\"file\",reason=\"queue_full\"} 0",
        "kernel_status_errors_total{error=\"timeout\"} 0",
        "merge_wait_seconds_bucket{le=\"+Inf\"} 0",
    ] {
        let line = format!("\n{PREFIX}{sample}\n");
        assert!(text.contains(&line), "{sample} is not in\n{text}");
    }
    let causes = text
        .lines()
        .filter(|line| line.contains("lost_records_total{stage"))
        .count();
    assert_eq!(causes, Cause::ALL.len());
}

#[test]
fn numbers_are_the_account_s() {
    let text = text(&full());
    for sample in [
        "kernel_lost_records_total 4294967300",
        "kernel_status_last_success_timestamp_seconds 1700000000.25",
        "kernel_status_errors_total{error=\"timeout\"} 2",
        "records_received_total{source=\"daemon\"} 12",
        "lost_records_total{stage=\"kernel\",cause=\"rate_limit\"} 9",
        "crosscheck_events_total{verdict=\"inferred\",outcome=\"backfilled\"} 5",
        "crosscheck_missing_events_total{stage=\"kernel\",cause=\"rate_limit\",outcome=\"backfilled\"} 5",
        "crosscheck_maybe_events_total{result=\"found_reported\"} 6",
        "witness_level{level=\"syscalls\"} 1",
        "rules_loaded{list=\"exit\"} 3",
        "rules_loaded{list=\"user\"} 0",
        "rules_in_sync 0",
        "rule_events_total{key=\"etc-write\"} 1",
        "rule_events_total{key=\"other\"} 1",
        "kernel_backlog_peak_records 60",
        "canary_received_total 1",
        "canary_interval_seconds 300",
        "ebpf_map_entries{map=\"in_flight\"} 2",
        "config_last_reload_successful 1",
        "rules_reloads_total{result=\"done\"} 2",
        "rules_reloads_total{result=\"failed\"} 0",
        "kernel_daemon_is_self 1",
        "merge_latency_seconds_bucket{le=\"0.001\"} 0",
        "merge_latency_seconds_bucket{le=\"0.0025\"} 1",
        "merge_latency_seconds_bucket{le=\"60\"} 1",
        "merge_latency_seconds_bucket{le=\"+Inf\"} 2",
        "merge_latency_seconds_count 2",
    ] {
        let line = format!("\n{PREFIX}{sample}\n");
        assert!(text.contains(&line), "{sample} is not in\n{text}");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let text = text(&Account::default());
    for name in [
        "kernel_enabled",
        "ebpf_",
        "rules_",
        "canary_",
        "kernel_backlog_wait",
        "kernel_daemon",
        "sink_up",
        "netlink_receive_buffer",
    ] {
        assert!(!text.contains(&format!("{PREFIX}{name}")), "{name}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let spawned = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            let needed = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!needed, "cannot run {promtool}: {error}");
            eprintln!("not run: {promtool}: {error}");
            return;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text(&full()).as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn a_scrape_of_a_busy_collector_is_small_and_soon_made() {
    let mut account = full();
    account.rule_events = RuleEvents::new(32);
    for key in 0..100 {
        account
            .rule_events
            .count(format!("a-key-of-some-length-{key}").as_bytes());
    }
    for sink in ["file", "stdout", "network"] {
        account.sinks.insert(sink.to_owned(), Sink::default());
    }
    let metrics = Metrics::new(Arc::default());
    let took = (0..15).map(|_| {
        let began = std::time::Instant::now();
        let text = metrics.render(&account).unwrap();
        (began.elapsed(), text.len())
    });
    let mut took: Vec<_> = took.collect();
    took.sort();
    let (median, length) = took[took.len() / 2];
    println!("{length} bytes, rendered in {median:?}");
    // What gzip makes of it is a sixth; tests/tests/web.rs measures both over HTTP.
    assert!(length < 128 << 10, "{length}");
    assert!(median < Duration::from_millis(5), "{median:?}");
}
