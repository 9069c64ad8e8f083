//! The eBPF witness on the real kernel.
//!
//! Audit itself stays untouched: the rules are given to the mirror only. Each test has a uid of its own, which one of
//! its threads takes on, so that tests can run side by side. Where BPF cannot be loaded a test says why; with
//! `CI=true` that is a failure.

#![expect(
    clippy::unwrap_used,
    reason = "a test's failure; clippy does not know the helpers for parts of tests"
)]

mod counts;
mod sys;

use std::ffi::{CStr, CString, OsStr};
use std::net::{Ipv6Addr, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::audit::arch::Arch;
use collector::audit::rules::{Field, Operator, Rule};
use collector::byte_string::ByteString;
use collector::probe::decode::decode;
use collector::probe::load::{LogLevel, Reads, Witness, WitnessConfig, WitnessError};
use collector::probe::mirror::{Mirror, facts_of};
use collector::probe::observation::{Captured, Observation, Verdict};
use collector::probe::ring::Ring;

struct Probe {
    witness: Witness,
    ring: Ring,
    mirror: Mirror,
}

/// No process has it: the tests watch themselves.
const NOBODY: u32 = u32::MAX;

fn config() -> WitnessConfig {
    WitnessConfig {
        ring_bytes: 1 << 20,
        own_tgid: NOBODY,
        ..WitnessConfig::default()
    }
}

/// None where this machine does not allow it, which is said.
fn probe_with(config: WitnessConfig, rules: &[Rule]) -> Option<Probe> {
    let mut witness = match Witness::load(&config) {
        Ok(witness) => witness,
        Err(error @ WitnessError::Permission { .. })
            if std::env::var("CI").as_deref() != Ok("true") =>
        {
            not_run(&error.to_string());
            return None;
        }
        Err(error) => panic!("{error:?}"),
    };
    let mirror = Mirror::compile(rules);
    witness.set_rules(&mirror, 7).unwrap();
    let ring = witness.take_ring().unwrap();
    witness.attach().unwrap();
    Some(Probe {
        witness,
        ring,
        mirror,
    })
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

fn probe(rules: &[Rule]) -> Option<Probe> {
    probe_with(config(), rules)
}

/// Runs `act` in a thread of that uid.
fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::become_user(uid);
            act()
        });
        thread.join().unwrap()
    })
}

impl Probe {
    /// Everything in the ring.
    fn take(&mut self) -> Vec<Observation> {
        let mut observations = Vec::new();
        let before = self.ring.read();
        self.ring.drain(usize::MAX, |sample| {
            observations.push(decode(sample).unwrap())
        });
        assert_eq!(self.ring.read() - before, observations.len() as u64);
        self.check_identities();
        // What the programs ruled, the mirror here rules too.
        for observation in &observations {
            let judgement = self.mirror.judge(
                Arch(observation.arch),
                observation.syscall,
                &facts_of(observation),
            );
            assert_eq!(
                judgement.verdict,
                Some(observation.verdict),
                "{observation:?}"
            );
            assert_eq!(judgement.rule, observation.rule);
            assert_eq!(observation.rules_generation, 7);
        }
        observations
    }

    /// Waits until nothing is on its way any more, and compares what was counted.
    fn check_identities(&self) {
        let counters = self.witness.counters().unwrap();
        assert_eq!(
            counters.attempted,
            counters.submitted + counters.ring_full + counters.in_flight_full,
            "{counters:?}"
        );
        assert_eq!(counters.submitted, self.ring.read(), "{counters:?}");
        assert_eq!(
            counters.submitted_bytes,
            self.ring.read_bytes(),
            "{counters:?}"
        );
        for program in self.witness.programs() {
            assert_eq!(program.missed_runs, 0, "{program:?}");
        }
    }
}

fn rule(uid: u32, calls: &[&str]) -> Rule {
    Rule::always_exit()
        .arch(Arch::NATIVE)
        .syscalls(Arch::NATIVE, calls)
        .condition(Field::UID, Operator::EQUAL, uid)
        .key("probe-test")
}

fn number(name: &str) -> u32 {
    Arch::NATIVE.syscall_number(name).unwrap()
}

fn whole(bytes: impl AsRef<[u8]>) -> Captured<ByteString> {
    Captured::Whole(bytes.as_ref().into())
}

/// What was read at the exit only.
fn late(bytes: impl AsRef<[u8]>) -> Captured<ByteString> {
    Captured::Late(bytes.as_ref().into())
}

fn only(observations: Vec<Observation>) -> Observation {
    assert_eq!(observations.len(), 1, "{observations:#?}");
    observations.into_iter().next().unwrap()
}

#[test]
fn an_openat_comes_with_everything_around_it() {
    all_of_an_openat_comes(81_001, Reads::Typed);
}

#[test]
fn so_it_does_where_the_verifier_knows_no_types() {
    all_of_an_openat_comes(81_031, Reads::ByHelper);
}

fn all_of_an_openat_comes(uid: u32, reads: Reads) {
    let config = WitnessConfig { reads, ..config() };
    let Some(mut probe) = probe_with(config, &[rule(uid, &["openat"])]) else {
        return;
    };
    assert_eq!(probe.witness.reads(), reads);
    let before = collector::clock::KtimeNs::now();
    let (result, tid) = as_user(uid, || {
        (
            sys::openat(libc::AT_FDCWD, c"no/such ?\xff", libc::O_RDONLY),
            sys::tid(),
        )
    });
    let after = collector::clock::KtimeNs::now();
    let seen = only(probe.take());
    assert_eq!(result, -i64::from(libc::ENOENT));
    assert_eq!(seen.result, Some(result));
    assert_eq!((seen.tgid, seen.tid), (std::process::id(), tid));
    assert_eq!(seen.ppid, std::os::unix::process::parent_id());
    assert_eq!(
        (seen.arch, seen.syscall),
        (Arch::NATIVE.0, number("openat"))
    );
    assert_eq!(seen.args[0] as i32, libc::AT_FDCWD);
    assert_eq!(seen.args[2], libc::O_RDONLY as u64);
    assert_eq!(seen.paths.len(), 1);
    assert_eq!(seen.paths[0].argument, 1);
    assert_eq!(seen.paths[0].path, whole(b"no/such ?\xff"));
    assert_eq!(
        seen.exe,
        whole(std::env::current_exe().unwrap().as_os_str().as_bytes())
    );
    assert_eq!(
        seen.cwd,
        whole(std::env::current_dir().unwrap().as_os_str().as_bytes())
    );
    let who = seen.credentials;
    assert_eq!([who.uid, who.euid, who.suid, who.fsuid], [uid; 4]);
    assert_eq!([who.gid, who.egid, who.sgid, who.fsgid], [0; 4]);
    let proc = |file: &str| -> u32 {
        let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        text.trim().parse().unwrap()
    };
    assert_eq!(
        (who.auid, who.session),
        (proc("loginuid"), proc("sessionid"))
    );
    assert!(before <= seen.entry && seen.entry < seen.taken && seen.taken <= after);
    assert_eq!((seen.verdict, seen.rule), (Verdict::Inferred, Some(0)));
    // The first sample of sys_exit on this CPU.
    assert_eq!(seen.sequence, 8 + 1);
    assert_eq!(
        (seen.argv, seen.sockaddr),
        (Captured::Absent, Captured::Absent)
    );
}

#[test]
fn long_paths_come_whole_and_unreadable_ones_are_counted() {
    let uid = 81_002;
    let Some(mut probe) = probe(&[rule(uid, &["openat"])]) else {
        return;
    };
    let long = format!("/{}", "x/".repeat(2000));
    let too_long = "y".repeat(5000);
    let page = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&page, b"/untouched/page\0", 0).unwrap();
    as_user(uid, || {
        for path in [&long, &too_long] {
            sys::openat(libc::AT_FDCWD, &CString::new(path.as_str()).unwrap(), 0);
        }
        sys::openat(libc::AT_FDCWD, c"", 0);
        sys::openat_nowhere();
        sys::openat_untouched(&page);
    });
    let seen = probe.take();
    let paths: Vec<_> = seen.iter().map(|call| &call.paths[0].path).collect();
    assert_eq!(*paths[0], late(&long));
    assert_eq!(
        *paths[1],
        Captured::Truncated(too_long.as_bytes()[..4095].into())
    );
    assert_eq!(seen[1].result, Some(-i64::from(libc::ENAMETOOLONG)));
    assert_eq!(*paths[2], whole(""));
    assert_eq!(*paths[3], Captured::Unreadable);
    assert_eq!(*paths[4], late("/untouched/page"));
    assert_eq!(probe.witness.counters().unwrap().unreadable, 1);
}

#[test]
fn a_deep_working_directory_is_cut_and_leaves_room_for_the_rest() {
    let uid = 81_013;
    let Some(mut probe) = probe(&[rule(uid, &["renameat2"])]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let name = "d".repeat(250);
    let long = format!("/{}", "x/".repeat(2000));
    let path = CString::new(long.as_str()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sys::own_directory();
            std::env::set_current_dir(folder.path()).unwrap();
            for _ in 0..40 {
                std::fs::create_dir(&name).unwrap();
                std::env::set_current_dir(&name).unwrap();
            }
            sys::become_user(uid);
            sys::renameat2(&path, &path);
        });
    });
    let seen = only(probe.take());
    for argument in &seen.paths {
        assert_eq!(argument.path, late(&long));
    }
    let Captured::Truncated(cwd) = seen.cwd else {
        panic!("{:?}", seen.cwd)
    };
    // As many whole names as fit into PATH_MAX.
    assert_eq!(&*cwd, format!("/{name}").repeat(16).as_bytes());
}

#[test]
fn a_return_from_a_signal_is_seen_and_leaves_nothing_in_flight() {
    let uid = 81_014;
    let narrow = WitnessConfig {
        in_flight: 1,
        ..config()
    };
    let Some(mut probe) = probe_with(narrow, &[rule(uid, &["rt_sigreturn", "openat"])]) else {
        return;
    };
    let tid = as_user(uid, || {
        sys::take_a_signal();
        sys::tid()
    });
    // The only element is free again for another task.
    as_user(uid, || sys::openat(libc::AT_FDCWD, c"/no/such", 0));
    let seen = probe.take();
    let calls: Vec<_> = seen.iter().map(|call| call.syscall).collect();
    assert_eq!(calls, [number("rt_sigreturn"), number("openat")]);
    assert_eq!(seen[0].tid, tid);
    assert_eq!(probe.witness.counters().unwrap().in_flight_full, 0);
}

#[test]
fn an_execve_comes_with_its_arguments_and_an_exit_group_without_result() {
    let uid = 81_003;
    let calls = ["execve", "exit_group", "chdir"];
    let Some(mut probe) = probe(&[rule(uid, &calls)]) else {
        return;
    };
    let mut arguments: Vec<Vec<u8>> = (0..198)
        .map(|n| format!("argument {n}").into_bytes())
        .collect();
    arguments.push(b"line\nbreak \"quoted\" 'too'".to_vec());
    arguments.push(b"\xff\xfe invalid \x01".to_vec());
    arguments.push(Vec::new());
    as_user(uid, || {
        let status = Command::new("/bin/true")
            .args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))
            .current_dir("/usr")
            .status();
        assert!(status.unwrap().success());
        assert!(Command::new("/no/such/program").status().is_err());
    });
    let seen = probe.take();
    let of = |name: &str| {
        seen.iter()
            .filter(|call| call.syscall == number(name))
            .collect::<Vec<_>>()
    };
    let [good, bad] = of("execve")[..] else {
        panic!("{seen:#?}")
    };
    let expected = [b"/bin/true".to_vec()]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(&0);
    assert_eq!(good.argv, whole(expected));
    assert_eq!(good.result, Some(0));
    assert_eq!(good.paths[0].path, whole("/bin/true"));
    assert_eq!(
        good.exe,
        whole(
            std::fs::canonicalize("/bin/true")
                .unwrap()
                .as_os_str()
                .as_bytes()
        )
    );
    assert_eq!(&*good.comm, b"true");
    assert_eq!(good.cwd, whole("/usr"));
    assert_eq!(bad.result, Some(-i64::from(libc::ENOENT)));
    assert_eq!(bad.argv, Captured::Absent);
    let ends = of("exit_group");
    assert!(
        ends.iter()
            .any(|end| end.tgid == good.tgid && end.args[0] == 0)
    );
    assert!(ends.iter().all(|end| end.result.is_none()));
    // The record of a chdir names the folder it left.
    let chdir = only(of("chdir").into_iter().cloned().collect());
    assert_eq!(chdir.paths[0].path, whole("/usr"));
    assert_eq!(
        chdir.cwd,
        whole(std::env::current_dir().unwrap().as_os_str().as_bytes())
    );
}

#[test]
fn a_very_long_argument_vector_is_marked_as_cut() {
    let uid = 81_004;
    let Some(mut probe) = probe(&[rule(uid, &["execve"])]) else {
        return;
    };
    as_user(uid, || {
        Command::new("/bin/true")
            .arg("z".repeat(20_000))
            .status()
            .unwrap()
    });
    let Captured::Truncated(argv) = only(probe.take()).argv else {
        panic!()
    };
    assert!(
        argv.starts_with(b"/bin/true\0zzz") && argv.len() >= 8000,
        "{}",
        argv.len()
    );
}

#[test]
fn connects_come_with_their_addresses() {
    let uid = 81_005;
    let Some(mut probe) = probe(&[rule(uid, &["connect", "sendto"])]) else {
        return;
    };
    as_user(uid, || {
        let _ = TcpStream::connect("127.0.0.1:9");
        let _ = TcpStream::connect((Ipv6Addr::LOCALHOST, 9));
        let _ = UnixStream::connect("/no/such/socket");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.send_to(b"x", "127.0.0.1:9").unwrap();
    });
    let seen = probe.take();
    let addresses: Vec<&[u8]> = seen
        .iter()
        .filter_map(|call| call.sockaddr.whole())
        .map(|address| &**address)
        .collect();
    let inet = [2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let family = |number: u16| number.to_ne_bytes();
    assert_eq!(addresses[0], inet);
    assert_eq!(addresses[1].len(), 28);
    assert_eq!(addresses[1][..2], family(10));
    assert_eq!(addresses[1][2..4], [0, 9]);
    assert_eq!(addresses[1][23], 1);
    assert_eq!(addresses[2][..2], family(1));
    assert!(addresses[2][2..].starts_with(b"/no/such/socket"));
    assert_eq!(addresses[3], inet);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call_is_told_from_the_64_bit_one_of_the_same_number() {
    let uid = 81_006;
    let compat = Rule::always_exit()
        .arch(Arch::I386)
        .syscalls(Arch::I386, &["getppid"])
        .condition(Field::UID, Operator::EQUAL, uid);
    let Some(mut probe) = probe(&[compat]) else {
        return;
    };
    as_user(uid, || {
        sys::compat_getppid();
        // The same number in the 64-bit table.
        let _ = nix::sys::utsname::uname();
    });
    let seen = only(probe.take());
    assert_eq!((seen.arch, seen.syscall), (Arch::I386.0, 64));
    assert_eq!(
        seen.result,
        Some(i64::from(std::os::unix::process::parent_id()))
    );
}

#[test]
fn rules_are_judged_as_the_kernel_does() {
    let uid = 81_007;
    let open = |rule: Rule| {
        rule.arch(Arch::NATIVE)
            .syscalls(Arch::NATIVE, &["openat"])
            .condition(Field::UID, Operator::EQUAL, uid)
    };
    let errno = |errno: i32| -errno as u32;
    let never = {
        let mut rule = open(Rule::always_exit()).condition(
            Field::ARG2,
            Operator::BIT_TEST,
            libc::O_NOFOLLOW as u32,
        );
        rule.action = collector::audit::rules::Action::Never;
        rule
    };
    let rules = [
        never,
        open(Rule::always_exit()).condition(Field::EXIT, Operator::EQUAL, errno(libc::ENOENT)),
        open(Rule::always_exit()).condition(Field::EUID, Operator::GREATER, uid),
        open(Rule::always_exit())
            .text(Field::DIR, Operator::EQUAL, "/dev")
            .condition(Field::SUCCESS, Operator::EQUAL, 1),
        open(Rule::always_exit())
            .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
            .condition(Field::LOGINUID, Operator::EQUAL, u32::MAX),
    ];
    let Some(mut probe) = probe(&rules) else {
        return;
    };
    as_user(uid, || {
        let call = |path: &CStr, flags| sys::openat(libc::AT_FDCWD, path, flags);
        call(c"/no/such", 0);
        call(c"/no/such", libc::O_NOFOLLOW);
        call(c"/dev/null", 0);
        call(c"/dev/null/x", 0);
    });
    let seen: Vec<_> = probe
        .take()
        .iter()
        .map(|call| (call.verdict, call.rule))
        .collect();
    assert_eq!(
        seen,
        [(Verdict::Inferred, Some(1)), (Verdict::Maybe, Some(3))]
    );
}

#[test]
fn other_rules_take_over_at_once_and_the_old_ones_leave_nothing() {
    let uid = 81_008;
    let Some(mut probe) = probe(&[rule(uid, &["openat"])]) else {
        return;
    };
    let open = || as_user(uid, || sys::openat(libc::AT_FDCWD, c"/no/such", 0));
    open();
    assert_eq!(probe.take().len(), 1);
    probe.witness.set_rules(&Mirror::compile(&[]), 8).unwrap();
    open();
    assert_eq!(probe.take(), []);
    probe
        .witness
        .set_rules(&Mirror::compile(&[rule(uid, &["openat"])]), 7)
        .unwrap();
    open();
    assert_eq!(probe.take().len(), 1);
    probe.witness.set_exempt(&[std::process::id()]).unwrap();
    open();
    assert_eq!(probe.take(), []);
}

#[test]
fn the_programs_log_what_they_are_asked_to() {
    let uid = 81_012;
    let talkative = WitnessConfig {
        log_level: LogLevel::Debug,
        ..config()
    };
    let Some(mut probe) = probe_with(talkative, &[rule(uid, &["openat"])]) else {
        return;
    };
    let lines = Lines::default();
    as_user(uid, || sys::openat(libc::AT_FDCWD, c"/no/such", 0));
    let tid = only(probe.take()).tid;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(lines.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || probe.witness.flush_log());
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let expected = format!(
        "DEBUG ebpf: call {} of task {tid} sampled",
        number("openat")
    );
    assert!(lines.contains(&expected), "{lines}");
}

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
