//! What lasts until the next boot: the locked configuration and locked features.
//!
//! `cargo xtask vm` gives each test here a kernel of its own; on any other kernel each says that it needs one.

use std::path::Path;

use audit_collector_tests::audit_state::rule_for;
use audit_collector_tests::requirement::{self, Requirement};
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

/// Fails unless the kernel refused because of the lock.
fn locked(outcome: Result<(), ClientError>) {
    assert!(
        matches!(outcome, Err(ClientError::Locked { .. })),
        "{outcome:?}"
    );
}
