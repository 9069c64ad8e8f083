//! Answers that do not come, come late, or are crowded out.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::address::address_of;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::client::{Client, ClientError};
use collector::audit::privilege::Capability;
use collector::audit::rules::{Field, Operator};
use collector::audit::status::StatusChange;

use crate::{rule, sys, take};

const AUDIT_GET: u16 = 1000;
const NLMSG_DONE: u16 = 3;

/// How long these clients wait.
const TIMEOUT: Duration = Duration::from_millis(200);

/// The time a busy machine may take on top.
const SLACK: Duration = Duration::from_secs(20);

fn client() -> Client {
    Client::connect().unwrap().with_timeout(TIMEOUT)
}

fn timed_out<T>(result: Result<T, ClientError>, began: Instant) {
    let took = began.elapsed();
    match result {
        Err(ClientError::TimedOut { after: TIMEOUT, .. }) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("answered"),
    }
    assert!((TIMEOUT..TIMEOUT + SLACK).contains(&took), "{took:?}");
}

#[test]
fn an_answer_that_never_comes_is_waited_for_no_longer_than_asked() {
    let Some(_guard) = take() else {
        return;
    };
    let mut client = client();
    // Nothing at all, then the acknowledgement without the answer.
    for withheld in [None, Some(AUDIT_GET)] {
        sys::withhold(&client, withheld);
        let began = Instant::now();
        timed_out(client.status(), began);
        sys::let_through(&client);
        client.status().unwrap();
    }
    // A list without its end.
    sys::withhold(&client, Some(NLMSG_DONE));
    let began = Instant::now();
    timed_out(client.rules(), began);
    sys::let_through(&client);
    client.rules().unwrap();
}

#[test]
fn a_change_whose_answer_never_comes_may_have_been_made() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut client = client();
    let rate_limit = guard.status().unwrap().rate_limit + 1_000_000;
    let change = StatusChange {
        rate_limit: Some(rate_limit),
        ..StatusChange::default()
    };
    sys::withhold(&client, None);
    let began = Instant::now();
    timed_out(client.set(&change), began);
    assert_eq!(guard.status().unwrap().rate_limit, rate_limit);
}

#[test]
fn an_answer_that_comes_too_late_is_kept_apart_from_the_next() {
    let Some(_guard) = take() else {
        return;
    };
    // The kernel answers AUDIT_GET from a thread of its own, so that without waiting the answer is missed sooner or
    // later. When that thread gets to run, and whether before those of later requests, is anybody's guess.
    let mut client = Client::connect().unwrap().with_timeout(Duration::ZERO);
    let began = Instant::now();
    let error = loop {
        match client.status() {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < SLACK, "every answer came at once"),
        }
    };
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    let mut client = client.with_timeout(SLACK);
    let mut late = Vec::new();
    let began = Instant::now();
    while late.is_empty() && began.elapsed() < SLACK {
        client.status().unwrap();
        client.rules().unwrap();
        late.extend(client.take_unrelated());
    }
    // The answer to one AUDIT_GET, nothing else.
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(late[0].message_type, AUDIT_GET);
}

#[test]
fn a_full_buffer_is_no_hindrance_to_the_next_request() {
    let Some(mut guard) = take() else {
        return;
    };
    for parent in 1_000_000..1_000_005 {
        let rule = rule().condition(Field::PPID, Operator::EQUAL, parent);
        guard.add_rule(&rule).unwrap();
    }
    let mut client = Client::connect().unwrap();
    sys::shrink_receive_buffer(&client);
    // A list that nobody reads: with each of its messages the kernel waits 100 ms for room, then throws it away.
    let list_rules = [16, 0x0001_03f5, 7777, 0].map(u32::to_ne_bytes).concat();
    File::from(client.as_fd().try_clone_to_owned().unwrap())
        .write_all(&list_rules)
        .unwrap();
    thread::sleep(Duration::from_secs(2));
    client.trim().unwrap();
    let waited: Vec<_> = client.take_unrelated().collect();
    assert!(!waited.is_empty());
    assert!(waited.iter().all(|message| message.sequence == 7777));
}

#[test]
fn answers_crowded_out_by_others_are_told_from_late_ones() {
    if !requirement::met(&[Requirement::Capability(Capability::NetAdmin)]) {
        return;
    }
    let Some(_guard) = take() else {
        return;
    };
    let mut client = client();
    sys::shrink_receive_buffer(&client);
    let address = address_of(&client).unwrap();
    let stop = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        scope.spawn(|| {
            let mut other =
                netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
            other.bind_auto().unwrap();
            // Looks like an acknowledgement to every request to come, but is not the kernel's.
            let mut forged = [20_u32, 2, 1, 0, 0].map(u32::to_ne_bytes).concat();
            while !stop.load(Ordering::Relaxed) {
                for sequence in 1..200_u32 {
                    forged[8..12].copy_from_slice(&sequence.to_ne_bytes());
                    // Full most of the time.
                    let _ = other.send_to(&forged, &address, libc::MSG_DONTWAIT);
                }
            }
        });
        let began = Instant::now();
        let mut lost = None;
        while lost.is_none() && began.elapsed() < SLACK {
            let asked = Instant::now();
            let result = client.status();
            assert!(asked.elapsed() < TIMEOUT * 2 + SLACK);
            match result {
                Err(error @ ClientError::AnswerLost { .. }) => lost = Some(error),
                Err(ClientError::TimedOut { .. }) | Ok(_) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        lost
    });
    assert!(lost.is_some(), "a full buffer lost no answer");
    client.with_timeout(SLACK).status().unwrap();
}
