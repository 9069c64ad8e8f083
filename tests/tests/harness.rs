//! The harness itself: what it puts back, and that the workload makes the calls it counts and no others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::event::Records;
use collector::audit::parse::netlink_record;
use collector::audit::record::{Record, RecordType};
use collector::audit::socket::{Batch, EventSocket, Received};
use collector::audit::status::StatusChange;

#[test]
fn state_is_back_after_a_panic() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let before = guard.status().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let rule = rule_for(60_001, Arch::NATIVE, &["openat"], "panic");
        guard.add_rule(&rule).unwrap();
        guard
            .set(&StatusChange {
                rate_limit: Some(before.rate_limit + 1_000_000),
                backlog_limit: Some(before.backlog_limit + 1),
                ..StatusChange::default()
            })
            .unwrap();
        assert!(guard.check_restored(&[]).is_err());
        panic!("on purpose");
    }));
    assert!(outcome.is_err());
    AuditGuard::take().unwrap().check_restored(&[]).unwrap();
    let after = AuditGuard::take().unwrap().status().unwrap();
    assert_eq!(
        (after.rate_limit, after.backlog_limit),
        (before.rate_limit, before.backlog_limit)
    );
}

#[test]
fn the_kernel_reports_as_many_calls_as_the_workload_counts() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::CompatCalls]) {
        return;
    }
    let uid = 60_002;
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(
            uid,
            Arch::X86_64,
            &["openat", "execve", "connect"],
            "count",
        ))
        .unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::I386, &["openat", "getppid"], "count"))
        .unwrap();
    guard
        .set(&StatusChange {
            enabled: Some(1),
            rate_limit: Some(0),
            backlog_limit: Some(8192),
            ..StatusChange::default()
        })
        .unwrap();
    let commands: [(&[&str], &str); 6] = [
        (&["open", "--count", "50"], "openat"),
        (&["open", "--processes", "2", "--count", "25"], "openat"),
        (&["threads", "--threads", "4", "--count", "10"], "openat"),
        (&["forks", "--count", "20"], "openat"),
        (&["paths"], "openat"),
        (&["connect"], "connect"),
    ];
    for (command, name) in commands {
        let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
        let report = workload::run(uid, command).unwrap();
        let calls = calls_of(uid, &mut socket, &mut guard);
        let number = Arch::X86_64.syscall_number(name).unwrap().to_string();
        assert_eq!(calls.len() as u64, report.calls, "{command:?}");
        for call in &calls {
            assert_eq!(field(&call, "syscall"), number, "{command:?}");
        }
        if name == "openat" && command[0] != "forks" && command[0] != "paths" {
            let distinct: BTreeSet<_> = calls.iter().map(|call| field(&call, "a3")).collect();
            assert_eq!(distinct.len(), calls.len(), "{command:?}");
        }
    }
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    workload::run(uid, &["compat", "--count", "3"]).unwrap();
    let calls = calls_of(uid, &mut socket, &mut guard);
    let arch = format!("{:x}", Arch::I386.0);
    assert!(calls.iter().all(|call| field(&call, "arch") == arch));
    let numbers: Vec<_> = calls.iter().map(|call| field(&call, "syscall")).collect();
    assert_eq!(numbers, ["64", "295", "295", "295"]);
    // Programs it starts open libraries, so only the calls the command is about can be counted.
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    let report = workload::run(uid, &["exec"]).unwrap();
    let execve = Arch::X86_64.syscall_number("execve").unwrap().to_string();
    let calls = calls_of(uid, &mut socket, &mut guard);
    let started = calls.iter().filter(|call| field(call, "syscall") == execve);
    assert_eq!(started.count() as u64, report.calls);
}

/// The SYSCALL records of user `uid` that come until the kernel has none in its queue, and for half a second after the last of them.
fn calls_of(uid: u32, socket: &mut EventSocket, guard: &mut AuditGuard) -> Records {
    let mut batch = Batch::new();
    let mut calls = Records::default();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        match socket.receive(&mut batch, Batch::MAX_DATAGRAMS).unwrap() {
            Received::Datagrams(_) => {}
            other => {
                assert!(!matches!(other, Received::Overrun), "lost records");
                if guard.status().unwrap().backlog > 0 {
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
        }
        for datagram in batch.iter() {
            let record = netlink_record(datagram.message_type, datagram.payload).unwrap();
            if record.record_type == RecordType::SYSCALL && field(&record, "uid") == uid.to_string()
            {
                calls.push(&record);
                last = Instant::now();
            }
        }
    }
    calls
}

fn field(record: &Record<'_>, name: &str) -> String {
    let value = record.field(name.as_bytes()).unwrap();
    String::from_utf8_lossy(value.raw()).into_owned()
}
