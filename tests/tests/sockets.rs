//! The sockets that records arrive on, against the running kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use audit_collector_tests::address::address_of;
use audit_collector_tests::again;
use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::listener::listen;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::client::ClientError;
use collector::audit::message::Kind;
use collector::audit::privilege::Capability;
use collector::audit::rules::Rule;
use collector::audit::socket::{Batch, EventSocket, Grant, Received};

const UID: u32 = 64_021;

fn take() -> Option<AuditGuard> {
    requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Capability(Capability::AuditRead),
        Requirement::Capability(Capability::NetAdmin),
    ])
    .then(|| AuditGuard::take().unwrap())
}

fn rule() -> Rule {
    rule_for(UID, Arch::NATIVE, &["openat"], "sockets")
}

/// Opens a file `count` times as our user.
fn open_files(count: usize) {
    workload::run(UID, &["open", "--count", &count.to_string()]).unwrap();
}

#[test]
fn multicast_receives_what_a_rule_reports() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    assert_eq!(socket.receive_buffer().grant, Grant::Full);
    guard.enable().unwrap();
    guard.add_rule(&rule()).unwrap();
    open_files(300);
    let heard = listen(&mut socket, |heard| heard.calls_of(UID) >= 300).unwrap();
    assert!(heard.calls_of(UID) >= 300, "{}", heard.calls_of(UID));
    assert_eq!(heard.overruns, 0);
    assert!(heard.says("key=\"audit-collector-test-sockets\""));
    let counts = socket.counts();
    assert_eq!(
        (counts.malformed, counts.foreign, counts.truncated),
        (0, 0, 0)
    );
    assert!(counts.datagrams >= heard.records.len() as u64);
    assert_eq!(socket.meminfo().unwrap().drops, 0);
}

#[test]
fn a_batch_takes_no_more_than_asked() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    guard.enable().unwrap();
    guard.add_rule(&rule()).unwrap();
    open_files(200);
    let mut batch = Batch::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut reads, mut datagrams) = (0, 0);
    while datagrams < 500 && Instant::now() < deadline {
        match socket.receive(&mut batch, 7).unwrap() {
            Received::Datagrams(count) => {
                assert!((1..=7).contains(&count));
                (reads, datagrams) = (reads + 1, datagrams + count);
            }
            Received::Empty => std::thread::sleep(Duration::from_millis(1)),
            Received::Overrun => panic!("8 MiB do not overrun"),
        }
    }
    assert!(datagrams >= 500);
    assert!(reads >= datagrams / 7);
}

#[test]
fn an_overrun_is_reported_and_the_socket_lives_on() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(4096)).unwrap();
    guard.enable().unwrap();
    guard.add_rule(&rule()).unwrap();
    open_files(200);
    let lost = guard.status().unwrap().lost;
    // The kernel's queue must be empty before we read, else reading makes room.
    let empty = Instant::now() + Duration::from_secs(5);
    while guard.status().unwrap().backlog > 0 && Instant::now() < empty {}
    let drops = socket.meminfo().unwrap().drops;
    let heard = listen(&mut socket, |_| true).unwrap();
    assert!(heard.overruns >= 1);
    assert!(drops > 100, "{drops}");
    assert!(heard.records.len() < 100, "{}", heard.records.len());
    assert_eq!(socket.counts().overruns, heard.overruns as u64);
    // The kernel does not count these.
    assert_eq!(guard.status().unwrap().lost, lost);

    open_files(1);
    let heard = listen(&mut socket, |heard| !heard.records.is_empty()).unwrap();
    assert!(!heard.records.is_empty());
}

#[test]
fn a_datagram_of_another_process_is_skipped() {
    if !requirement::met(&[Requirement::Capability(Capability::NetAdmin)]) {
        return;
    }
    let mut socket = EventSocket::unicast(None).unwrap();
    let mut other = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
    other.bind_auto().unwrap();
    let mut forged = vec![0; 16];
    forged[4] = 0x14;
    forged[5] = 0x05;
    forged.extend(b"audit(1.000:1): forged");
    other
        .send_to(&forged, &address_of(&socket).unwrap(), 0)
        .unwrap();
    let mut batch = Batch::new();
    let received = socket.receive(&mut batch, 8).unwrap();
    assert_eq!(received, Received::Datagrams(0));
    assert_eq!(socket.counts().foreign, 1);
    assert_eq!(socket.receive(&mut batch, 8).unwrap(), Received::Empty);
}

#[test]
fn the_pid_is_claimed_refused_to_others_and_released() {
    if again::is_child() {
        match EventSocket::unicast(None).unwrap().claim() {
            Err(error @ ClientError::PidHeld { .. }) => println!("refused: {error}"),
            other => panic!("not refused: {other:?}"),
        }
        return;
    }
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::unicast(Some(1 << 20)).unwrap();
    socket.claim().unwrap();
    let pid = std::process::id();
    assert_eq!(guard.status().unwrap().pid, pid);

    guard.enable().unwrap();
    guard.add_rule(&rule()).unwrap();
    open_files(50);
    let heard = listen(&mut socket, |heard| heard.calls_of(UID) >= 50).unwrap();
    assert!(heard.calls_of(UID) >= 50, "{}", heard.calls_of(UID));
    assert_eq!(socket.counts().truncated, 0);

    let said = again::beside("the_pid_is_claimed_refused_to_others_and_released").unwrap();
    let expected = format!("refused: cannot claim the audit pid: process {pid} holds it");
    assert!(said.contains(&expected), "{said}");
    // The kernel asked us whether we live.
    let mut batch = Batch::new();
    let mut asked = None;
    while let Received::Datagrams(_) = socket.receive(&mut batch, 64).unwrap() {
        asked = batch
            .iter()
            .find_map(|datagram| match datagram.kind() {
                Kind::Replace { pid } => pid,
                _ => None,
            })
            .or(asked);
    }
    assert!(asked.is_some_and(|asked| asked != pid), "{asked:?}");

    socket.release().unwrap();
    assert_eq!(guard.status().unwrap().pid, 0);

    socket.claim().unwrap();
    drop(socket);
    assert_eq!(guard.status().unwrap().pid, 0);
}
