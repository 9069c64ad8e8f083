//! A storm that the kernel cannot keep up with, under rules that the BPF programs cannot judge: what the collector
//! settles by itself is given back whole, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::built_folder;
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::{Event, tally};
use collector::audit::arch::Arch;
use collector::audit::rules::{Field, Operator, Permissions, Rule, Watched};
use serde_json::json;

/// How long the last event may take to come out.
const TIME: Duration = Duration::from_secs(60);
const PROCESSES: u32 = 2;
const COUNT: u32 = 4_000;

/// Runs `storms`, each a program that opens a path over and over, and returns what came out by outcome: every call of
/// the first storm exactly once, and none of the others.
fn run(uid: u32, rule: &Rule, storms: &[(&Path, &Path)]) -> BTreeMap<String, u64> {
    let mut guard = AuditGuard::take().unwrap();
    guard.add_rule(rule).unwrap();
    let waits = [
        "--mode=daemon",
        "--enable",
        "--rate-limit=0",
        "--backlog-limit=64",
        "--backlog-wait-time=0",
        "--reassembly-timeout-ms=500",
        "--reorder-window-ms=1000",
    ];
    let collector = Collector::start(&waits).unwrap();
    // The kernel's own decision, where it can be seen, needs no settling.
    let verdict = if collector.stream().watches_kernel() {
        "exact"
    } else {
        "inferred"
    };
    let running: Vec<_> = storms
        .iter()
        .map(|(program, path)| {
            Command::new(program)
                .args(["--uid", &uid.to_string(), "open"])
                .args(["--processes", &PROCESSES.to_string()])
                .args(["--count", &COUNT.to_string(), "--path"])
                .arg(path)
                .output()
                .unwrap()
        })
        .collect();
    for output in running {
        assert!(output.status.success(), "{output:?}");
    }
    let expected: BTreeSet<u64> = (0..u64::from(PROCESSES))
        .flat_map(|maker| (1..=u64::from(COUNT)).map(move |call| (maker << 24) | call))
        .collect();
    let began = Instant::now();
    let finished = loop {
        let n_events = collector.stream().events_of(uid).len();
        if n_events >= expected.len() || began.elapsed() > patience(TIME) {
            // What would come after the last expected one comes in this time.
            std::thread::sleep(patience(Duration::from_secs(3)));
            break collector.stop().unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(finished.stream.broken.is_empty());
    let events = finished.stream.events_of(uid);
    let wanted = storms[0].1.to_str().unwrap();
    let mut found = BTreeSet::new();
    for event in &events {
        let paths = event.0["paths"].as_array();
        let name = paths.and_then(|paths| paths.first()?["name"].as_str());
        assert_eq!(name, Some(wanted), "{}", event.0);
        let number = event.argument(3).unwrap();
        assert!(found.insert(number), "came out twice: {}", event.0);
    }
    assert_eq!(found.len(), expected.len(), "{}", finished.stderr);
    assert_eq!(found, expected);
    let outcomes = tally(events.iter().copied(), |event: Event<'_>| {
        event.outcome().to_owned()
    });
    println!("{rule}\n{outcomes:?}");
    for event in &events {
        if event.outcome() == "backfilled" {
            assert_eq!(event.0["verdict"], verdict, "{}", event.0);
            assert_eq!(event.0["keys"][0], KEY, "{}", event.0);
            assert_eq!(event.0["missing"], json!(["records"]), "{}", event.0);
            assert!(event.0["paths"][0]["inode"].is_u64(), "{}", event.0);
        }
    }
    outcomes
}

/// A folder that any user may read, with a file `in/a` and a file `out/a`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["in", "out"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("a"), name).unwrap();
    }
    folder
}

fn own(rule: Rule, uid: u32) -> Rule {
    rule.condition(Field::UID, Operator::EQUAL, uid).key(KEY)
}

#[test]
fn a_storm_below_a_watched_directory_is_given_back() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Ebpf]) {
        return;
    }
    let uid = 60_045;
    let folder = folder();
    let watched = folder.path().join("in");
    let rule = Rule::watch(
        Watched::Directory(watched.as_os_str().as_bytes()),
        Permissions::READ.and(Permissions::WRITE),
    );
    let program = built_folder().join("workload");
    let inside = folder.path().join("in/a");
    let outside = folder.path().join("out/a");
    let outcomes = run(
        uid,
        &own(rule, uid),
        &[(&program, &inside), (&program, &outside)],
    );
    assert!(outcomes["backfilled"] > 100, "{outcomes:?}");
}

#[test]
fn a_storm_of_one_executable_is_given_back() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Ebpf]) {
        return;
    }
    let uid = 60_046;
    let folder = folder();
    let program = built_folder().join("workload");
    let other = folder.path().join("program");
    std::fs::copy(&program, &other).unwrap();
    let rule = Rule::always_exit()
        .arch(Arch::NATIVE)
        .syscalls(Arch::NATIVE, &["openat"])
        .text(Field::EXE, Operator::EQUAL, other.as_os_str().as_bytes());
    let path = folder.path().join("in/a");
    let elsewhere = folder.path().join("out/a");
    let outcomes = run(
        uid,
        &own(rule, uid),
        &[(&other, &path), (&program, &elsewhere)],
    );
    assert!(outcomes["backfilled"] > 100, "{outcomes:?}");
}
