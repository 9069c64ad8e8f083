//! The account, as `audit-collector status` shows it while a storm is lost: what it breaks down adds up, agrees with
//! `/metrics` at every moment, and comes from whichever collectors run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::balance::{Balance, losses_told_otherwise};
use audit_collector_tests::process::{Collector, Watcher, run_to_end};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::{wait, workload};
use collector::audit::arch::Arch;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

const NEEDED: [Requirement; 3] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
];

const STORM: [&str; 7] = [
    "--mode=daemon",
    "--enable",
    "--rate-limit=0",
    "--backlog-limit=64",
    "--backlog-wait-time=0",
    "--reassembly-timeout-ms=500",
    "--reorder-window-ms=1000",
];

fn ask(folder: &Path, more: &[&str]) -> String {
    let folder = format!("--account-folder={}", folder.display());
    let arguments: Vec<&str> = ["status", folder.as_str()]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let ended = run_to_end(&arguments, patience(Duration::from_secs(10))).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

fn accounts(folder: &Path) -> Vec<Value> {
    let status: Value = serde_json::from_str(&ask(folder, &["--json"])).unwrap();
    assert!(status["backlog_limit"].is_u64(), "{status}");
    status["collectors"].as_array().unwrap().clone()
}

fn sum(account: &Value, table: &str, of: &str) -> u64 {
    let table = &account[table];
    let rows = table["rows"].as_array().unwrap().iter();
    rows.chain([&table["other"], &table["unknown"]])
        .map(|counts| counts[of].as_u64().unwrap())
        .sum()
}

/// Every breakdown adds up to the totals, and these to what was expected.
fn check_sums(account: &Value) {
    let events = |name: &str| account["events"][name].as_u64().unwrap();
    let parts = ["matched", "backfilled", "unrecovered", "withdrawn"];
    let settled: u64 = parts.map(events).iter().sum();
    assert_eq!(events("expected"), settled + events("pending"), "{account}");
    for table in ["keys", "syscalls", "uids"] {
        for part in parts {
            assert_eq!(sum(account, table, part), events(part), "{table} {account}");
        }
        assert_eq!(
            sum(account, table, "expected"),
            settled,
            "{table} {account}"
        );
    }
    let causes = account["causes"].as_array().unwrap();
    for part in ["backfilled", "unrecovered"] {
        let of_causes: u64 = causes.iter().map(|row| row[part].as_u64().unwrap()).sum();
        assert_eq!(of_causes, events(part), "{account}");
    }
}

#[test]
fn a_storm_is_accounted_for_by_cause_key_call_and_user_at_every_moment() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let (uid, calls) = (60_121, 20_000_u64);
    let folder = TempDir::new().unwrap();
    let mut guard = AuditGuard::take().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "status-storm");
    guard.add_rule(&rule).unwrap();
    let account_folder = format!("--account-folder={}", folder.path().display());
    let arguments: Vec<&str> = STORM
        .iter()
        .copied()
        .chain([account_folder.as_str()])
        .collect();
    let mut collector = Collector::start(&arguments).unwrap();

    let arguments = ["open", "--processes", "2", "--count", "10000"];
    let load = workload::start(uid, &arguments).unwrap();
    let load = thread::spawn(move || load.finish().unwrap());
    let mut scrapes = 0;
    let mut before = Balance::default();
    while !load.is_finished() || scrapes < 20 {
        // Each scrape is checked for every identity of the account.
        let balance = Balance::of_metrics(&collector.metrics().unwrap());
        assert!(
            balance.settled() >= before.settled(),
            "{balance} after {before}"
        );
        before = balance;
        if scrapes % 5 == 0 {
            let accounts = accounts(folder.path());
            assert_eq!(accounts.len(), 1);
            check_sums(&accounts[0]);
        }
        scrapes += 1;
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(load.join().unwrap().calls, calls);
    let metrics = collector
        .settle(calls, patience(Duration::from_secs(60)))
        .unwrap();
    let balance = Balance::of_metrics(&metrics);
    println!("{balance} in {scrapes} scrapes");
    assert!(balance.backfilled > 1_000, "{balance}");

    // Nothing is under way any more: what was sent has been read.
    let ebpf = |name: &str| metrics.count(name, &[]);
    assert_eq!(
        ebpf("ebpf_attempted_events_total"),
        ebpf("ebpf_submitted_events_total")
    );
    assert_eq!(
        ebpf("ebpf_submitted_events_total"),
        ebpf("ebpf_events_total")
    );

    let account = accounts(folder.path()).remove(0);
    check_sums(&account);
    assert_eq!(account["collector"]["pid"], collector.pid());
    let first = |table: &str| account[table]["rows"][0].clone();
    let (key, call, user) = (first("keys"), first("syscalls"), first("uids"));
    let rule_key = format!("{KEY}-status-storm");
    assert_eq!(key["key"], rule_key);
    assert_eq!(call["name"], "openat");
    assert_eq!(user["uid"], uid);
    for row in [&key, &call, &user] {
        assert_eq!(row["expected"], calls, "{row}");
        assert_eq!(row["matched"], balance.matched, "{row}");
        assert_eq!(row["backfilled"], balance.backfilled, "{row}");
    }
    let causes = account["causes"].as_array().unwrap();
    let cause = &causes[0];
    assert_eq!(cause["cause"], "backlog_limit", "{causes:?}");
    assert_eq!(cause["backfilled"], balance.backfilled, "{causes:?}");
    let text = ask(folder.path(), &[]);
    for wanted in ["kernel: backlog_limit", &rule_key, "openat", "60121"] {
        let is_row = |line: &str| line.starts_with(&format!("{wanted} "));
        assert!(text.lines().any(is_row), "{wanted} in\n{text}");
    }

    let finished = collector.stop().unwrap();
    assert_eq!(losses_told_otherwise(&finished.stream, &metrics), [""; 0]);
    let losses: Vec<_> = finished.stream.losses_of("backlog_limit").collect();
    assert!(
        (2..=40).contains(&losses.len()),
        "one line or two a second: {losses:#?}"
    );
    for loss in &losses {
        assert!(
            loss["span"][0].is_string() && loss["span"][1].is_string(),
            "{loss}"
        );
        // No serial was consumed, so that it is told between which they were refused.
        assert!(
            loss["serials"].is_null() && loss["between"].is_array(),
            "{loss}"
        );
    }
    // Nothing need have come after it.
    let known = losses.iter().any(|loss| loss["between"][0].is_u64());
    assert!(known, "{losses:#?}");
    assert!(ask(folder.path(), &[]).contains("\nno collector runs ("));
}

#[test]
fn two_collectors_are_shown_side_by_side_and_one_that_was_killed_is_not() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let folder = TempDir::new().unwrap();
    let account_folder = format!("--account-folder={}", folder.path().display());
    let start = |mode| Collector::start(&[mode, "--ebpf=off", &account_folder]).unwrap();
    let daemon = start("--mode=daemon");
    let mut killed = start("--mode=multicast");
    let sources = || -> Vec<String> {
        let accounts = accounts(folder.path());
        let mut sources: Vec<_> = accounts
            .iter()
            .map(|account| account["source"].as_str().unwrap().to_owned())
            .collect();
        sources.sort_unstable();
        sources
    };
    assert_eq!(sources(), ["daemon", "multicast"]);
    killed.end_with(Signal::SIGKILL).unwrap();
    assert_eq!(sources(), ["daemon"]);
    let sockets = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(sockets(), 2, "the socket of a killed process stays");
    let after = start("--mode=multicast");
    assert_eq!(sockets(), 2, "the next one takes it away");
    assert_eq!(sources(), ["daemon", "multicast"]);
    after.stop().unwrap();
    daemon.stop().unwrap();
    assert_eq!(sockets(), 0);
}

#[test]
fn watching_goes_on_while_collectors_come_and_go() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let folder = TempDir::new().unwrap();
    let account_folder = format!("--account-folder={}", folder.path().display());
    let watcher = Watcher::start(&["status", "--watch=1", "--json", &account_folder]).unwrap();
    let sees = |collectors: usize| {
        let seen = || {
            let line = watcher.last_line()?;
            let status: Value = serde_json::from_str(&line).ok()?;
            Some(status["collectors"].as_array()?.len())
        };
        let limit = patience(Duration::from_secs(10));
        wait::until(
            limit,
            || seen() == Some(collectors),
            || format!("{collectors} awaited: {:?}", watcher.last_line()),
        );
    };
    sees(0);
    for _ in 0..2 {
        let collector =
            Collector::start(&["--mode=daemon", "--ebpf=off", &account_folder]).unwrap();
        sees(1);
        collector.stop().unwrap();
        sees(0);
    }
}

/// This kernel refuses function tracing, and the others are in virtual machines: what each allows is what is told.
#[test]
fn the_level_is_told_by_doctor_by_the_metrics_and_by_the_first_line() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let ended = run_to_end(&["doctor", "--json"], patience(Duration::from_secs(20))).unwrap();
    let diagnosis: Value = serde_json::from_str(&ended.stdout).unwrap();
    let level = diagnosis["level"].as_str().unwrap();
    let wanted = match Requirement::FunctionTracing.missing() {
        None => "audit-hooks",
        Some(_) => "syscalls",
    };
    assert_eq!(level, wanted);
    let text = run_to_end(&["doctor"], patience(Duration::from_secs(20))).unwrap();
    assert!(
        text.stdout
            .ends_with(&format!("with the eBPF witness at level {level}\n"))
    );

    let folder = TempDir::new().unwrap();
    let account_folder = format!("--account-folder={}", folder.path().display());
    let mut collector = Collector::start(&["--mode=daemon", &account_folder]).unwrap();
    collector.wait_until_ready().unwrap();
    let metrics = collector.metrics().unwrap();
    for known in ["syscalls", "audit-hooks"] {
        let told = metrics.count("witness_level", &[("level", known)]);
        assert_eq!(told, u64::from(known == level), "{known}");
    }
    assert_eq!(accounts(folder.path())[0]["level"], level);
    let stream = collector.stop().unwrap().stream;
    let message = stream.states("started").next().unwrap()["message"]
        .as_str()
        .unwrap();
    assert!(message.contains(&format!("at level {level}")), "{message}");
    let reason = message.contains("(not audit-hooks: ");
    assert_eq!(reason, level == "syscalls", "{message}");
}
