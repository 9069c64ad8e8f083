//! What lasts until the next boot: the locked configuration, locked features, tasks older than auditing.
//!
//! `cargo xtask vm` gives each test here a kernel of its own; on any other kernel each says that it needs one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use audit_collector_tests::audit_state::rule_for;
use audit_collector_tests::process::{Collector, run_to_end};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::stream::tally;
use audit_collector_tests::workload::{self, Held};
use collector::audit::arch::Arch;
use collector::audit::client::{Client, ClientError};
use collector::audit::feature::{Feature, FeatureLock, FeatureState};
use collector::audit::rules::Placement;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;

const NEEDED: [Requirement; 2] = [Requirement::Disposable, Requirement::AuditControl];

#[test]
fn a_locked_configuration_takes_no_setting_and_no_rule() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let mut client = Client::connect().unwrap();
    let loaded = rule_for(60_071, Arch::NATIVE, &["openat"], "locked");
    let other = rule_for(60_072, Arch::NATIVE, &["openat"], "locked");
    client.add_rule(&loaded).unwrap();
    let before = client.status().unwrap();
    client
        .set(&StatusChange {
            enabled: Some(2),
            ..StatusChange::default()
        })
        .unwrap();

    let nothing = StatusChange::default();
    let wait = before.backlog_wait_time.unwrap();
    for change in [
        StatusChange {
            enabled: Some(0),
            ..nothing
        },
        StatusChange {
            enabled: Some(1),
            ..nothing
        },
        // What is so already is refused as well.
        StatusChange {
            enabled: Some(2),
            ..nothing
        },
        StatusChange {
            failure: Some(0),
            ..nothing
        },
        StatusChange {
            rate_limit: Some(before.rate_limit + 1),
            ..nothing
        },
        StatusChange {
            backlog_limit: Some(before.backlog_limit + 1),
            ..nothing
        },
        StatusChange {
            backlog_wait_time: Some(wait + 1),
            ..nothing
        },
    ] {
        locked(client.set(&change));
    }
    locked(client.add_rule(&other));
    locked(client.add_rule_at(&other, Placement::First));
    locked(client.add_rule(&loaded));
    locked(client.delete_rule(&loaded));
    locked(client.delete_rule(&other));
    locked(client.trim());
    locked(client.make_equivalent(Path::new("/tmp"), Path::new("/run")));

    let after = client.status().unwrap();
    assert_eq!(after.enabled, 2);
    assert_eq!(
        (after.failure, after.rate_limit, after.backlog_limit),
        (before.failure, before.rate_limit, before.backlog_limit)
    );
    assert_eq!(after.backlog_wait_time, before.backlog_wait_time);
    assert_eq!(client.rules().unwrap(), [loaded]);
}

#[test]
fn a_locked_configuration_leaves_counters_daemon_and_features_alone() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let mut client = Client::connect().unwrap();
    client
        .set(&StatusChange {
            enabled: Some(2),
            ..StatusChange::default()
        })
        .unwrap();

    client.reset_lost().unwrap();
    client.reset_backlog_wait_time_actual().unwrap();
    let mut socket = EventSocket::unicast(None).unwrap();
    socket.claim().unwrap();
    assert_eq!(client.status().unwrap().pid, std::process::id());
    socket.release().unwrap();
    assert_eq!(client.status().unwrap().pid, 0);
    client
        .set_feature(
            Feature::OnlyUnsetLoginuid,
            FeatureState::On,
            FeatureLock::Open,
        )
        .unwrap();
    let features = client.features().unwrap();
    assert!(features.is_on(Feature::OnlyUnsetLoginuid));
}

#[test]
fn a_locked_feature_stays_as_it_is() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let mut client = Client::connect().unwrap();
    let (immutable, unset) = (Feature::LoginuidImmutable, Feature::OnlyUnsetLoginuid);
    client
        .set_feature(immutable, FeatureState::On, FeatureLock::Locked)
        .unwrap();
    let features = client.features().unwrap();
    assert!(features.is_on(immutable) && features.is_locked(immutable));

    let refused = client.set_feature(immutable, FeatureState::Off, FeatureLock::Open);
    assert!(
        matches!(refused, Err(ClientError::FeatureLocked { feature, .. }) if feature == immutable),
        "{refused:?}"
    );
    // Setting it as it is changes nothing, and does not unlock it.
    client
        .set_feature(immutable, FeatureState::On, FeatureLock::Open)
        .unwrap();
    assert!(client.features().unwrap().is_locked(immutable));

    client
        .set_feature(unset, FeatureState::On, FeatureLock::Open)
        .unwrap();
    client
        .set_feature(unset, FeatureState::Off, FeatureLock::Open)
        .unwrap();
    let features = client.features().unwrap();
    assert!(!features.is_on(unset) && !features.is_locked(unset));
}

/// A task that was there before auditing was first switched on has no audit context (kernel/auditsc.c `audit_alloc`), and the
/// kernel never reports its calls.
#[test]
fn a_task_older_than_auditing_is_given_back() {
    let needed = [&NEEDED[..], &[Requirement::Ebpf]].concat();
    if !requirement::met(&needed) {
        return;
    }
    let uid = 60_075;
    let count = ["open", "--count", "200"];
    let older = Held::start(uid, &count).unwrap();
    let mut client = Client::connect().unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "older");
    client.add_rule(&rule).unwrap();
    assert_eq!(client.status().unwrap().enabled, 0);
    let flags = [
        "--mode=daemon",
        "--enable",
        "--ebpf=on",
        "--backlog-limit=65536",
    ];
    let mut collector = Collector::start(&flags).unwrap();
    older.go().finish().unwrap();
    let newer = ["open", "--first", "201", "--count", "100"];
    workload::run(uid, &newer).unwrap();
    let metrics = collector
        .settle(300, patience(Duration::from_secs(60)))
        .unwrap();
    let no_context = [("cause", "no_context"), ("outcome", "backfilled")];
    let missing = metrics.count("crosscheck_missing_events_total", &no_context);
    let stream = collector.stop().unwrap().stream;
    let outcomes = tally(stream.events_of(uid), |event| {
        (
            event.argument(3) > Some(200),
            event.outcome(),
            event.cause(),
        )
    });
    // The children of a process without a context get one, so the workload of its own is a newer task only where its parent
    // was born of one that is: this test's process is as old as the first.
    println!("{outcomes:?}");
    assert_eq!(outcomes[&(false, "backfilled", Some("no_context"))], 200);
    assert_eq!(outcomes[&(true, "matched", None)], 100);
    assert_eq!(missing, 200);
    assert_eq!(stream.losses(), BTreeMap::new());
}

/// Fails unless the kernel refused because of the lock.
fn locked(outcome: Result<(), ClientError>) {
    assert!(
        matches!(outcome, Err(ClientError::Locked { .. })),
        "{outcome:?}"
    );
}

#[test]
fn rule_files_that_lock_are_loaded_whole_and_once() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rules").display().to_string();
    let line = |uid: u32| format!("-a always,exit -F arch=b64 -S openat -F uid={uid} -k locked\n");
    // What locks comes first in the file, and is done last.
    fs::write(&path, format!("-e 2\n-D\n{}-b 999\n", line(60_073))).unwrap();
    let run = |arguments: &[&str]| run_to_end(arguments, Duration::from_secs(60)).unwrap();
    let ended = run(&["rules", "load", &path]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("loaded 1 of 1 rule "),
        "{}",
        ended.stdout
    );
    let mut client = Client::connect().unwrap();
    let (status, rules) = (client.status().unwrap(), client.rules().unwrap());
    assert_eq!((status.enabled, status.backlog_limit), (2, 999));

    // A start that finds everything as it asks for has nothing to do.
    let ended = run(&["rules", "load", &path]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    fs::write(&path, format!("-D\n{}{}", line(60_073), line(60_074))).unwrap();
    let ended = run(&["rules", "load", &path]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended
            .stderr
            .contains("nothing was loaded: the audit configuration is locked"),
        "{}",
        ended.stderr
    );
    let ended = run(&["set", "--backlog-limit", "5"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("locked until the next reboot"),
        "{}",
        ended.stderr
    );

    // auditctl says so, and ends well.
    for arguments in [
        ["auditctl", "-R", &path].as_slice(),
        &["auditctl", "-a", "always,exit", "-F", "uid=60074"],
        &["auditctl", "-d", "always,exit", "-F", "uid=60074"],
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("locked"),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
    assert_eq!(client.rules().unwrap(), rules);
}
