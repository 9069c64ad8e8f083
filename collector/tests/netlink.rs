//! The audit sockets and requests against the running kernel.
//!
//! Each test holds the machine-wide lock while it changes anything, filters by a uid and a key of its own, and leaves
//! the audit state as it was. Where the kernel or the privileges are missing a test says which; under CI it fails.

#![expect(
    clippy::unwrap_used,
    reason = "clippy does not take the helpers of tests for tests"
)]

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use collector::audit::arch::Arch;
use collector::audit::client::{Client, ClientError};
use collector::audit::message::{Datagram, Kind};
use collector::audit::privilege::{Capability, Privileges};
use collector::audit::rules::{self, Field, Operator, Permissions, Placement, Rule, Watched};
use collector::audit::settings::{Loaded, Restore, Settings};
use collector::audit::socket::{Batch, EventSocket, Grant, Received};
use collector::audit::status::{TickRate, WrappingTotal};
use collector::command::doctor::Diagnosis;
use nix::fcntl::{Flock, FlockArg};

/// A uid nobody else uses.
const UID: u32 = 64_021;
const KEY: &str = "audit-collector-netlink-test";
/// Set for the child that claims the audit pid beside us.
const SECOND_CLAIMER: &str = "AUDIT_COLLECTOR_SECOND_CLAIMER";

/// The machine's audit state, ours alone while this lives.
struct Machine {
    restore: Restore,
    _lock: Flock<File>,
}

impl Machine {
    /// Takes the lock; none where this machine cannot run the test, after having said why.
    fn take() -> Option<Self> {
        // First, as another test may be the audit daemon now.
        let path = "/run/lock/audit-collector.lock";
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .unwrap();
        if let Err(missing) = prerequisites() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "this test cannot run: {missing}"
            );
            not_run(&missing.to_string());
            return None;
        }
        let restore = Restore::begin(Client::connect().unwrap()).unwrap();
        Some(Self {
            restore,
            _lock: lock,
        })
    }

    /// Auditing on, with room for a burst that waits rather than loses.
    fn enable(&mut self) {
        let settings = Settings {
            enabled: Some(1),
            rate_limit: Some(0),
            backlog_limit: Some(8192),
            failure: Some(0),
            ..Settings::default()
        };
        self.restore.apply(&settings).unwrap();
    }

    fn add(&mut self, rule: &Rule) {
        let loaded = self.restore.add_rule(rule, Placement::Last).unwrap();
        assert_eq!(loaded, Loaded::Added);
    }

    fn rules_with_our_key(&mut self) -> Vec<Rule> {
        let mut rules = self.restore.client().rules().unwrap();
        rules.retain(|rule| rule.keys().any(|key| key == KEY.as_bytes()));
        rules
    }

    fn finish(self) {
        let restoration = self.restore.restore();
        assert!(restoration.is_complete(), "{restoration:?}");
        assert!(restoration.changed_by_others.is_empty(), "{restoration:?}");
    }
}

/// Says why the running test cannot run, here and in the file that `cargo xtask test` reads.
fn not_run(missing: &str) {
    eprintln!("not run: {missing}");
    if let Some(report) = std::env::var_os("AUDIT_COLLECTOR_COULD_NOT_RUN") {
        let thread = std::thread::current();
        let line = format!("{}\t{missing}\n", thread.name().unwrap_or("a test"));
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(report)
            .unwrap();
        std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
    }
}

fn prerequisites() -> Result<(), String> {
    let privileges = Privileges::of_this_process().map_err(|error| error.to_string())?;
    for capability in [
        Capability::AuditControl,
        Capability::AuditRead,
        Capability::NetAdmin,
    ] {
        if !privileges.has(capability) {
            return Err(format!("{} is missing", capability.name()));
        }
    }
    let status = Client::connect().and_then(|mut client| client.status());
    match status {
        Ok(status) if status.pid != 0 => Err(format!("process {} is the audit daemon", status.pid)),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn openat_rule() -> Rule {
    Rule::always_exit()
        .arch(Arch::NATIVE)
        .syscalls(Arch::NATIVE, &["openat"])
        .condition(Field::UID, Operator::EQUAL, UID)
        .key(KEY)
}

/// Opens a file `count` times as our uid.
fn open_files(count: usize) {
    let script = format!("i=0; while [ $i -lt {count} ]; do : < /dev/null; i=$((i+1)); done");
    let status = Command::new("/bin/sh")
        .args(["-c", &script])
        .uid(UID)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Reads until `enough` says so or ten seconds have passed; returns the texts of the records and the overruns.
fn read_records(
    socket: &mut EventSocket,
    mut enough: impl FnMut(&[String]) -> bool,
) -> (Vec<String>, usize) {
    let mut batch = Batch::new();
    let (mut records, mut overruns) = (Vec::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match socket.receive(&mut batch, usize::MAX).unwrap() {
            Received::Empty if enough(&records) => break,
            Received::Empty => std::thread::sleep(Duration::from_millis(2)),
            Received::Overrun => overruns += 1,
            Received::Datagrams(count) => {
                assert_eq!(count, batch.len());
                records.extend(batch.iter().filter_map(|datagram| record_text(&datagram)));
            }
        }
    }
    (records, overruns)
}

fn record_text(datagram: &Datagram<'_>) -> Option<String> {
    assert!(!datagram.truncated());
    if datagram.kind() != Kind::Record {
        return None;
    }
    let text = String::from_utf8_lossy(datagram.payload).into_owned();
    assert!(text.starts_with("audit("), "{text}");
    Some(format!("type={} {text}", datagram.message_type))
}

/// SYSCALL records of our uid.
fn ours(records: &[String]) -> usize {
    let uid = format!(" uid={UID} ");
    records
        .iter()
        .filter(|record| record.starts_with("type=1300 ") && record.contains(&uid))
        .count()
}

fn auditctl(argument: &str) -> Option<String> {
    let output: Output = Command::new("auditctl").arg(argument).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn status_is_what_auditctl_says() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let status = machine.restore.client().status().unwrap();
    assert!(status.feature_bitmap.is_some());
    let hz = TickRate::of_kernel().unwrap();
    assert!(hz.duration(status.backlog_wait_time.unwrap().into()) <= Duration::from_secs(600));
    let features = machine.restore.client().features().unwrap();
    assert_eq!(features.version, 1);
    if let Some(text) = auditctl("-s") {
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
    machine.finish();
}

#[test]
fn settings_are_made_and_put_back() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let before = *machine.restore.before();
    let wanted = Settings {
        rate_limit: Some(before.rate_limit + 17),
        backlog_limit: Some(before.backlog_limit + 3),
        backlog_wait_time: before.backlog_wait_time.map(|jiffies| jiffies / 2 + 1),
        failure: Some(before.failure),
        ..Settings::default()
    };
    machine.restore.apply(&wanted).unwrap();
    let status = machine.restore.client().status().unwrap();
    assert_eq!(Some(status.rate_limit), wanted.rate_limit);
    assert_eq!(Some(status.backlog_limit), wanted.backlog_limit);
    assert_eq!(status.backlog_wait_time, wanted.backlog_wait_time);

    // What somebody else sets meanwhile stays theirs.
    let other = before.backlog_limit + 4;
    let mut client = Client::connect().unwrap();
    let by_other = Settings {
        backlog_limit: Some(other),
        ..Settings::default()
    };
    client.set(&by_other).unwrap();
    let Machine { restore, _lock } = machine;
    let restoration = restore.restore();
    assert!(restoration.is_complete());
    assert_eq!(restoration.settings.len(), 2, "{restoration:?}");
    assert_eq!(restoration.changed_by_others.len(), 1, "{restoration:?}");
    let after = client.status().unwrap();
    assert_eq!(after.backlog_limit, other);
    let put_back = Settings {
        backlog_limit: Some(before.backlog_limit),
        ..Settings::default()
    };
    client.set(&put_back).unwrap();
    let after = client.status().unwrap();
    assert_eq!(after.rate_limit, before.rate_limit);
    assert_eq!(after.backlog_wait_time, before.backlog_wait_time);

    let error = client
        .set(&Settings {
            backlog_wait_time: Some(u32::MAX),
            ..Settings::default()
        })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("set backlog_wait_time to 4294967295"),
        "{error}"
    );
    assert_eq!(error.label(), "refused");
}

#[test]
fn dropping_puts_back_as_well() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let Machine { mut restore, _lock } = machine;
    let before = *restore.before();
    restore
        .apply(&Settings {
            rate_limit: Some(before.rate_limit + 5),
            ..Settings::default()
        })
        .unwrap();
    restore.add_rule(&openat_rule(), Placement::Last).unwrap();
    drop(restore);
    let mut client = Client::connect().unwrap();
    assert_eq!(client.status().unwrap().rate_limit, before.rate_limit);
    assert!(!client.rules().unwrap().contains(&openat_rule()));
}

#[test]
fn rules_are_listed_as_they_were_added_and_deleted() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let uid = |rule: Rule| rule.condition(Field::UID, Operator::EQUAL, UID).key(KEY);
    let added = [
        openat_rule(),
        uid(Rule::watch(
            Watched::Directory(b"/etc"),
            Permissions::WRITE.and(Permissions::ATTRIBUTES),
        )),
        uid(Rule::watch(
            Watched::Path(b"/etc/hostname"),
            Permissions::READ,
        )),
        uid(Rule::always_exit()
            .arch(Arch::NATIVE)
            .syscalls(Arch::NATIVE, &["connect", "execve"])
            .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
            .condition(Field::EXIT, Operator::LESS, -1_i32 as u32)
            .condition(Field::ARG0, Operator::BIT_TEST, 0x10)
            .condition(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 1)
            .text(Field::EXE, Operator::EQUAL, "/bin/sh")),
    ];
    for rule in &added {
        machine.add(rule);
    }
    assert_eq!(machine.rules_with_our_key(), added);
    let printed = auditctl("-l").unwrap_or_default();
    for rule in &added {
        let line = rule.to_string();
        assert!(
            printed.is_empty() || printed.lines().any(|printed| printed == line),
            "auditctl prints\n{printed}\nand we {line}"
        );
    }
    assert_eq!(
        machine
            .restore
            .add_rule(&added[0], Placement::Last)
            .unwrap(),
        Loaded::Existed
    );
    let error = machine.restore.client().add_rule(&added[0]).unwrap_err();
    assert!(matches!(error, ClientError::RuleExists { .. }), "{error}");

    machine.restore.client().delete_rule(&added[0]).unwrap();
    let error = machine.restore.client().delete_rule(&added[0]).unwrap_err();
    assert!(matches!(error, ClientError::NoSuchRule { .. }), "{error}");
    assert_eq!(machine.rules_with_our_key(), added[1..]);

    let refused = Rule::always_exit()
        .condition(Field(9999), Operator::EQUAL, 1)
        .key(KEY);
    let error = machine.restore.client().add_rule(&refused).unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::RuleRefused {
                errno: libc::EINVAL,
                ..
            }
        ),
        "{error}"
    );

    let Machine { restore, _lock } = machine;
    let restoration = restore.restore();
    assert!(restoration.is_complete(), "{restoration:?}");
    assert_eq!(restoration.rules, 3);
    let left = Client::connect().unwrap().rules().unwrap();
    assert!(
        left.iter()
            .all(|rule| rule.keys().all(|key| key != KEY.as_bytes()))
    );
}

#[test]
fn a_long_list_of_rules_comes_whole() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let rules: Vec<_> = (0..150)
        .map(|pid| openat_rule().condition(Field::PPID, Operator::EQUAL, 1_000_000 + pid))
        .collect();
    for rule in &rules {
        machine.add(rule);
    }
    assert_eq!(machine.rules_with_our_key(), rules);
    machine.finish();
}

#[test]
fn an_answer_that_comes_too_late_is_kept_apart_from_the_next() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let mut client = Client::connect().unwrap().with_timeout(Duration::ZERO);
    let timed_out = (0..1000).find_map(|_| client.status().err()).unwrap();
    assert_eq!(timed_out.label(), "timeout", "{timed_out}");
    let mut client = client.with_timeout(Duration::from_secs(5));
    assert_eq!(client.status().unwrap().pid, 0);
    assert_eq!(client.rules().unwrap().len(), client.rules().unwrap().len());
    let late: Vec<_> = client.take_unrelated().collect();
    assert!(!late.is_empty());
    // Answers to AUDIT_GET, nothing else.
    assert!(
        late.iter()
            .all(|message| message.message_type == 1000 || message.message_type == 2)
    );
    machine.finish();
}

#[test]
fn a_batch_takes_no_more_than_asked() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    machine.enable();
    machine.add(&openat_rule());
    open_files(100);
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
    machine.finish();
}

#[test]
fn the_kernel_accepts_the_example_rules() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    // With our uid, so that nothing on the machine is audited by this test.
    let rules: Vec<_> = rules::example_rules(KEY)
        .into_iter()
        .map(|rule| rule.condition(Field::UID, Operator::EQUAL, UID))
        .collect();
    for rule in &rules {
        machine.add(rule);
    }
    assert_eq!(machine.rules_with_our_key(), rules);
    machine.finish();
}

#[test]
fn multicast_receives_what_a_rule_reports() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(8 << 20)).unwrap();
    assert_eq!(socket.receive_buffer().grant, Grant::Full);
    machine.enable();
    machine.add(&openat_rule());
    open_files(300);
    let (records, overruns) = read_records(&mut socket, |records| ours(records) >= 300);
    assert!(
        ours(&records) >= 300,
        "{} of {}",
        ours(&records),
        records.len()
    );
    assert_eq!(overruns, 0);
    let key = format!("key=\"{KEY}\"");
    assert!(records.iter().any(|record| record.contains(&key)));
    let counts = socket.counts();
    assert_eq!(
        (counts.malformed, counts.foreign, counts.truncated),
        (0, 0, 0)
    );
    assert!(counts.datagrams >= records.len() as u64);
    assert_eq!(socket.meminfo().unwrap().drops, 0);
    machine.finish();
}

#[test]
fn an_overrun_is_reported_and_the_socket_lives_on() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(4096)).unwrap();
    machine.enable();
    machine.add(&openat_rule());
    open_files(200);
    let lost = machine.restore.client().status().unwrap().lost;
    // The kernel's queue must be empty before we read, else reading makes room.
    let empty = Instant::now() + Duration::from_secs(5);
    while machine.restore.client().status().unwrap().backlog > 0 && Instant::now() < empty {}
    let drops = socket.meminfo().unwrap().drops;
    let (records, overruns) = read_records(&mut socket, |_| true);
    assert!(overruns >= 1);
    assert!(drops > 100, "{drops}");
    assert!(records.len() < 100, "{}", records.len());
    assert_eq!(socket.counts().overruns, overruns as u64);
    // The kernel does not count these.
    assert_eq!(machine.restore.client().status().unwrap().lost, lost);

    open_files(1);
    let (records, _) = read_records(&mut socket, |records| !records.is_empty());
    assert!(!records.is_empty());
    machine.finish();
}

#[test]
fn a_datagram_of_another_process_is_skipped() {
    let Some(machine) = Machine::take() else {
        return;
    };
    let mut socket = EventSocket::unicast(None).unwrap();
    let address = netlink_port(&socket);
    let mut other = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
    other.bind_auto().unwrap();
    let mut forged = vec![0; 16];
    forged[4] = 0x14;
    forged[5] = 0x05;
    forged.extend(b"audit(1.000:1): forged");
    other.send_to(&forged, &address, 0).unwrap();
    let mut batch = Batch::new();
    let received = socket.receive(&mut batch, 8).unwrap();
    assert_eq!(received, Received::Datagrams(0));
    assert_eq!(socket.counts().foreign, 1);
    assert_eq!(socket.receive(&mut batch, 8).unwrap(), Received::Empty);
    machine.finish();
}

/// The address of `socket`, from the kernel's own list: the port of a second netlink socket is not the pid.
fn netlink_port(socket: &EventSocket) -> netlink_sys::SocketAddr {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .unwrap()
        .ino()
        .to_string();
    let table = std::fs::read_to_string("/proc/net/netlink").unwrap();
    let line = table
        .lines()
        .find(|line| line.split_whitespace().last() == Some(&inode))
        .unwrap();
    let port = line.split_whitespace().nth(2).unwrap().parse().unwrap();
    netlink_sys::SocketAddr::new(port, 0)
}

#[test]
fn the_pid_is_claimed_refused_to_others_and_released() {
    if std::env::var_os(SECOND_CLAIMER).is_some() {
        let mut socket = EventSocket::unicast(None).unwrap();
        match socket.claim() {
            Err(error @ ClientError::PidHeld { .. }) => println!("refused: {error}"),
            other => println!("not refused: {other:?}"),
        }
        return;
    }
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let mut socket = EventSocket::unicast(Some(1 << 20)).unwrap();
    socket.claim().unwrap();
    let pid = std::process::id();
    assert_eq!(machine.restore.client().status().unwrap().pid, pid);

    machine.enable();
    machine.add(&openat_rule());
    open_files(50);
    let (records, _) = read_records(&mut socket, |records| ours(records) >= 50);
    assert!(ours(&records) >= 50, "{}", ours(&records));
    assert_eq!(socket.counts().truncated, 0);

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("the_pid_is_claimed_refused_to_others_and_released")
        .env(SECOND_CLAIMER, "1")
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
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
    assert_eq!(machine.restore.client().status().unwrap().pid, 0);

    socket.claim().unwrap();
    drop(socket);
    assert_eq!(machine.restore.client().status().unwrap().pid, 0);
    machine.finish();
}

#[test]
fn a_reset_of_lost_returns_what_it_was() {
    let Some(mut machine) = Machine::take() else {
        return;
    };
    let client = machine.restore.client();
    let mut total = WrappingTotal::default();
    total.observe(client.status().unwrap().lost);
    let old = client.reset_lost().unwrap();
    total.observe_reset(old);
    assert_eq!(client.status().unwrap().lost, 0);
    assert_eq!(total.resets(), 1);
    machine.finish();
}

#[test]
fn without_the_capability_the_error_names_it() {
    if std::env::var_os("AUDIT_COLLECTOR_UNPRIVILEGED").is_some() {
        let error = Client::connect().unwrap().status().unwrap_err();
        println!("status: {} ({})", error, error.label());
        println!("multicast: {}", EventSocket::multicast(None).unwrap_err());
        let diagnosis = Diagnosis::make();
        println!("doctor: {}\n{}", diagnosis.exit_code(), diagnosis.text());
        return;
    }
    if prerequisites().is_err() {
        not_run("this process cannot change to another uid or reach audit");
        return;
    }
    let binary = std::env::current_exe().unwrap();
    // The build folder may not be open to others, so the child gets a copy in a place that is.
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let copy = folder.path().join("netlink-test");
    std::fs::copy(binary, &copy).unwrap();
    let child = Command::new(copy)
        .args(["--exact", "--nocapture"])
        .arg("without_the_capability_the_error_names_it")
        .env("AUDIT_COLLECTOR_UNPRIVILEGED", "1")
        .uid(UID)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        said.contains(
            "status: cannot read the audit status: CAP_AUDIT_CONTROL is missing (permission)"
        ),
        "{said}"
    );
    assert!(said.contains("CAP_AUDIT_READ is missing"), "{said}");
    assert!(said.contains("doctor: 77\n"), "{said}");
    assert!(
        said.contains("prevents  CAP_AUDIT_CONTROL    missing"),
        "{said}"
    );
}
