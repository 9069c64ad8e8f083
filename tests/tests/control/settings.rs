//! Changing settings and rules for a while: what is put back, and what others changed meanwhile.

use collector::audit::client::Client;
use collector::audit::rules::Placement;
use collector::audit::settings::{Loaded, Restore, Settings};

use crate::{rule, take};

#[test]
fn settings_are_made_and_put_back() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut restore = Restore::begin(Client::connect().unwrap()).unwrap();
    let before = *restore.before();
    let wanted = Settings {
        rate_limit: Some(before.rate_limit + 17),
        backlog_limit: Some(before.backlog_limit + 3),
        backlog_wait_time: before.backlog_wait_time.map(|jiffies| jiffies / 2 + 1),
        failure: Some(before.failure),
        ..Settings::default()
    };
    restore.apply(&wanted).unwrap();
    let status = guard.status().unwrap();
    assert_eq!(Some(status.rate_limit), wanted.rate_limit);
    assert_eq!(Some(status.backlog_limit), wanted.backlog_limit);
    assert_eq!(status.backlog_wait_time, wanted.backlog_wait_time);

    // What somebody else sets meanwhile stays theirs.
    let by_other = Settings {
        backlog_limit: Some(before.backlog_limit + 4),
        ..Settings::default()
    };
    guard.set(&by_other).unwrap();
    let restoration = restore.restore();
    assert!(restoration.is_complete());
    assert_eq!(restoration.settings.len(), 2, "{restoration:?}");
    assert_eq!(restoration.changed_by_others.len(), 1, "{restoration:?}");
    let after = guard.status().unwrap();
    assert_eq!(Some(after.backlog_limit), by_other.backlog_limit);
    assert_eq!(after.rate_limit, before.rate_limit);
    assert_eq!(after.backlog_wait_time, before.backlog_wait_time);
}

#[test]
fn rules_are_added_once_and_removed() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut restore = Restore::begin(Client::connect().unwrap()).unwrap();
    assert_eq!(
        restore.add_rule(&rule(), Placement::Last).unwrap(),
        Loaded::Added
    );
    assert_eq!(
        restore.add_rule(&rule(), Placement::Last).unwrap(),
        Loaded::Existed
    );
    let restoration = restore.restore();
    assert!(restoration.is_complete(), "{restoration:?}");
    assert_eq!(restoration.rules, 1);
    guard.check_restored(&[]).unwrap();
}

#[test]
fn dropping_puts_back_as_well() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut restore = Restore::begin(Client::connect().unwrap()).unwrap();
    restore
        .apply(&Settings {
            rate_limit: Some(restore.before().rate_limit + 5),
            ..Settings::default()
        })
        .unwrap();
    restore.add_rule(&rule(), Placement::Last).unwrap();
    assert!(guard.check_restored(&[]).is_err());
    drop(restore);
    guard.check_restored(&[]).unwrap();
}
