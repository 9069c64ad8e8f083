//! The status, and its counters.

use std::process::Command;
use std::time::{Duration, Instant};

use audit_collector_tests::requirement;
use audit_collector_tests::workload;
use collector::audit::client::{Client, ClientError};
use collector::audit::socket::EventSocket;
use collector::audit::status::{StatusChange, TickRate, WrappingTotal};

use crate::{UID, rule, take};

#[test]
fn status_is_what_auditctl_says() {
    let Some(mut guard) = take() else {
        return;
    };
    let status = guard.status().unwrap();
    assert!(status.feature_bitmap.is_some());
    let hz = TickRate::of_kernel().unwrap();
    assert!(hz.duration(status.backlog_wait_time.unwrap().into()) <= Duration::from_secs(600));
    // The settings are compared with another program's reading where there is one.
    let Some(auditctl) = requirement::find_program("auditctl") else {
        return;
    };
    let output = Command::new(auditctl).arg("-s").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!(value("enabled"), status.enabled);
    assert_eq!(value("failure"), status.failure);
    assert_eq!(value("rate_limit"), status.rate_limit);
    assert_eq!(value("backlog_limit"), status.backlog_limit);
    assert_eq!(value("lost"), status.lost);
    assert_eq!(
        value("backlog_wait_time"),
        status.backlog_wait_time.unwrap()
    );
}

#[test]
fn a_value_the_kernel_does_not_accept_is_named() {
    let Some(mut guard) = take() else {
        return;
    };
    for (change, said) in [
        (
            StatusChange {
                backlog_wait_time: Some(u32::MAX),
                ..StatusChange::default()
            },
            "cannot set backlog_wait_time to 4294967295: the kernel does not accept it",
        ),
        (
            StatusChange {
                failure: Some(3),
                ..StatusChange::default()
            },
            "cannot set failure to 3: the kernel does not accept it",
        ),
        (
            StatusChange {
                enabled: Some(3),
                ..StatusChange::default()
            },
            "cannot set enabled to 3: the kernel does not accept it",
        ),
    ] {
        let error = guard.client().set(&change).unwrap_err();
        assert!(matches!(error, ClientError::Invalid { .. }), "{error:?}");
        assert_eq!(error.to_string(), said);
        assert_eq!(error.label(), "refused");
    }
}

#[test]
fn a_reset_of_lost_returns_what_it_was() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut total = WrappingTotal::default();
    total.observe(guard.status().unwrap().lost);
    let old = guard.client().reset_lost().unwrap();
    total.observe_reset(old);
    assert_eq!(guard.status().unwrap().lost, 0);
    assert_eq!(total.resets(), 1);
}

#[test]
fn a_reset_of_the_time_waited_returns_what_it_was() {
    let Some(mut guard) = take() else {
        return;
    };
    // A daemon that does not read makes the kernel's queue full, and then each call waits for two ticks.
    let mut daemon = EventSocket::unicast(Some(0)).unwrap();
    daemon.claim().unwrap();
    guard.enable().unwrap();
    guard
        .set(&StatusChange {
            backlog_limit: Some(2),
            backlog_wait_time: Some(2),
            ..StatusChange::default()
        })
        .unwrap();
    guard.add_rule(&rule()).unwrap();
    workload::run(UID, &["open", "--count", "50"]).unwrap();
    daemon.release().unwrap();
    wait_for_an_empty_queue(guard.client());

    let waited = guard.status().unwrap().backlog_wait_time_actual.unwrap();
    assert!(waited > 0);
    let old = guard.client().reset_backlog_wait_time_actual().unwrap();
    // Our own request may have made somebody wait.
    assert!((waited..waited + 100).contains(&old), "{waited}, {old}");
    let left = guard.status().unwrap().backlog_wait_time_actual.unwrap();
    assert!(left < waited, "{left} of {waited}");
}

fn wait_for_an_empty_queue(client: &mut Client) {
    let began = Instant::now();
    while client.status().unwrap().backlog > 0 && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
}
