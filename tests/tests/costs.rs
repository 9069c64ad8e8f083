//! What the witness costs the process that makes a call, and kauditd.
//!
//! `cargo xtask vm --count-instructions costs` measures it in instructions, which no other load of the machine changes;
//! anywhere else the figures are times, and say little.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::requirement::{self, Requirement, counts_instructions};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::rules::{Field, Operator, Rule};
use collector::audit::socket::{Batch, EventSocket, Received};
use collector::audit::status::StatusChange;
use collector::probe::hooks::Level;
use collector::probe::load::{Witness, WitnessConfig};
use collector::probe::mirror::Mirror;
use collector::probe::texts::TextMirror;

const UID: u32 = 60_075;
const OTHER: u32 = 60_076;

/// The witness in the ways it can be used; none for no witness.
const WITNESSES: [(&str, Option<(Level, TextMirror)>); 5] = [
    ("no witness", None),
    ("syscalls", Some((Level::Syscalls, TextMirror::Off))),
    (
        "audit-hooks, mirror off",
        Some((Level::AuditHooks, TextMirror::Off)),
    ),
    (
        "audit-hooks, mirror lost",
        Some((Level::AuditHooks, TextMirror::Lost)),
    ),
    (
        "audit-hooks, mirror all",
        Some((Level::AuditHooks, TextMirror::All)),
    ),
];

/// What the kernel is asked to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Calls that nobody makes.
    AnotherUser,
    /// openat of another file than the one that is opened.
    AnotherFile,
    /// Each openat.
    EachCall,
}

impl Asked {
    const ALL: [Self; 3] = [Self::AnotherUser, Self::AnotherFile, Self::EachCall];

    fn rule(self) -> Rule {
        let of = |uid| rule_for(uid, Arch::NATIVE, &["openat"], "costs");
        match self {
            Self::AnotherUser => of(OTHER),
            Self::AnotherFile => of(UID).text(Field::WATCH, Operator::EQUAL, &b"/etc/passwd"[..]),
            Self::EachCall => of(UID),
        }
    }

    fn reported(self, calls: u32) -> u64 {
        match self {
            Self::EachCall => u64::from(calls),
            Self::AnotherUser | Self::AnotherFile => 0,
        }
    }
}

/// In ns per openat and close, which are instructions where these are counted.
#[derive(Clone, Copy, Debug)]
struct Cost {
    caller: u64,
    kauditd: u64,
}

/// How many calls are made for each figure: enough that a tick of the clock in between makes no difference.
fn calls() -> u32 {
    if counts_instructions() { 10_000 } else { 500 }
}

/// The CPU time that kauditd has had, in ns.
fn kauditd() -> u64 {
    let is_kauditd = |folder: &PathBuf| {
        fs::read_to_string(folder.join("comm")).is_ok_and(|name| name == "kauditd\n")
    };
    let tasks = fs::read_dir("/proc").unwrap().flatten();
    let folder = tasks.map(|task| task.path()).find(is_kauditd).unwrap();
    let times = fs::read_to_string(folder.join("schedstat")).unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

/// Reads until the kernel has no more records; how many openat it reported.
fn drain(guard: &mut AuditGuard, socket: &mut EventSocket) -> u64 {
    let mut batch = Batch::new();
    let mut reported = 0;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(200) {
        match socket.receive(&mut batch, Batch::MAX_DATAGRAMS).unwrap() {
            Received::Datagrams(_) => {
                last = Instant::now();
                let own = |payload: &[u8]| payload.windows(5).any(|word| word == b"costs");
                reported += batch
                    .iter()
                    .filter(|datagram| own(datagram.payload))
                    .count() as u64;
            }
            Received::Overrun => panic!("records were lost at the socket"),
            Received::Empty => {
                if guard.status().unwrap().backlog > 0 {
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    reported
}

fn measure(asked: Option<Asked>, guard: &mut AuditGuard, socket: &mut EventSocket) -> Cost {
    let lost = guard.status().unwrap().lost;
    drain(guard, socket);
    let before = kauditd();
    let count = calls().to_string();
    let report = workload::run(UID, &["open", "--count", &count]).unwrap();
    assert_eq!(report.calls, u64::from(calls()));
    let reported = drain(guard, socket);
    let expected = asked.map_or(0, |asked| asked.reported(calls()));
    // Those of its start are reported too.
    assert!(
        (expected..=expected + expected.min(40)).contains(&reported),
        "{reported}"
    );
    assert_eq!(guard.status().unwrap().lost, lost);
    Cost {
        caller: report.cpu_ns / report.calls,
        kauditd: (kauditd() - before) / report.calls,
    }
}

/// Every way of using the witness under every rule; a table of what a call costs whom.
#[test]
fn what_the_witness_costs_is_told_per_call() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::FunctionTracing,
    ]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let mut socket = EventSocket::multicast(Some(128 << 20)).unwrap();
    let ample = |enabled| StatusChange {
        enabled: Some(enabled),
        rate_limit: Some(0),
        backlog_limit: Some(0),
        ..StatusChange::default()
    };
    guard.set(&ample(1)).unwrap();
    let unit = if counts_instructions() {
        "instructions"
    } else {
        "ns"
    };
    println!("{unit} per openat and close: of the caller, of kauditd");
    guard.set(&ample(0)).unwrap();
    let off = measure(None, &mut guard, &mut socket);
    println!("auditing off: {} {}", off.caller, off.kauditd);
    guard.set(&ample(1)).unwrap();
    for (name, how) in WITNESSES {
        let mut witness = how.map(|(level, text_mirror)| {
            let witness = Witness::load(&WitnessConfig {
                level,
                text_mirror,
                ring_bytes: 128 << 20,
                text_ring_bytes: 64 << 20,
                ..WitnessConfig::default()
            })
            .unwrap();
            assert_eq!(witness.level(), level);
            witness
        });
        for (asked, generation) in Asked::ALL.into_iter().zip(1..) {
            guard.add_rule(&asked.rule()).unwrap();
            if let Some(witness) = &mut witness {
                let mirror = Mirror::compile(&[asked.rule()]);
                witness.set_rules(&mirror, generation).unwrap();
                witness.attach().unwrap();
            }
            let cost = measure(Some(asked), &mut guard, &mut socket);
            println!("{name}, {asked:?}: {} {}", cost.caller, cost.kauditd);
            guard.delete_rule(&asked.rule()).unwrap();
            if let Some(witness) = &mut witness {
                witness.detach().unwrap();
                let counters = witness.counters().unwrap();
                assert_eq!((counters.ring_full, counters.in_flight_full), (0, 0));
                // Linux 7.2 may leave out runs.
                let missed: u64 = (witness.programs().iter())
                    .map(|program| program.missed_runs)
                    .sum();
                let expected = match asked {
                    Asked::AnotherUser => 0,
                    Asked::AnotherFile | Asked::EachCall => u64::from(calls()),
                };
                assert!(counters.submitted + missed >= expected, "{counters:?}");
            }
        }
    }
}
