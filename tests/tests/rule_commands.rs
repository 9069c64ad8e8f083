//! `rules`, `set` and `message`, as an administrator uses them, on the real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::built_folder;
use audit_collector_tests::process::{Collector, Ended, run_to_end};
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::arch::Arch;
use collector::audit::rules::Rule;
use collector::audit::status::StatusChange;
use collector::cli::{EXIT_CANNOT_RUN, EXIT_FAILURE, EXIT_USAGE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Nobody's uid, so that no rule here ever matches.
const UID: u32 = 61_741;

/// Rule files of a test's own.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A line that adds a rule which never matches.
fn line(key: &str) -> String {
    format!("-a always,exit -F arch=b64 -S openat -F uid={UID} -F key={KEY}-{key}\n")
}

fn collector(arguments: &[&str]) -> Ended {
    run_to_end(arguments, SOON).unwrap()
}

fn done(arguments: &[&str]) -> String {
    let ended = collector(arguments);
    assert_eq!(
        ended.code,
        Some(0),
        "{arguments:?}: {}{}",
        ended.stdout,
        ended.stderr
    );
    ended.stdout
}

fn failed(arguments: &[&str], code: u8) -> Ended {
    let ended = collector(arguments);
    assert_eq!(
        ended.code,
        Some(i32::from(code)),
        "{arguments:?}: {}{}",
        ended.stdout,
        ended.stderr
    );
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

/// The keys of the loaded rules that are a test's, without what all of them begin with.
fn keys() -> Vec<String> {
    let prefix = format!("-F key={KEY}-");
    let list = done(&["rules", "list"]);
    let keys = list
        .lines()
        .filter_map(|line| Some(line.split_once(&prefix)?.1.to_owned()));
    keys.collect()
}

fn rule(key: &str) -> Rule {
    rule_for(UID, Arch::X86_64, &["openat"], key)
}

#[test]
fn a_folder_is_loaded_in_the_order_of_augenrules_and_read_back() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let files = Files::new(&[
        ("10-b.rules", &line("ten")),
        ("9-a.rules", &(line("nine") + "# a comment\n\n-b 8191\n")),
        ("30-c.rules", "-b 8190\n"),
    ]);
    let folder = files.folder.path().to_str().unwrap();
    let out = done(&["rules", "load", folder]);
    assert!(out.contains("backlog_limit 64 -> 8190\n"), "{out}");
    assert!(
        out.ends_with("loaded 2 of 2 rules (2 added, 0 deleted)\n"),
        "{out}"
    );
    assert_eq!(keys(), ["nine", "ten"]);

    let out = done(&["rules", "diff", folder]);
    assert!(out.starts_with("in sync: 2 rules"), "{out}");
    // What is as it should be is not touched.
    let out = done(&["rules", "load", folder]);
    assert!(
        out.ends_with("loaded 2 of 2 rules (0 added, 0 deleted; 2 lines a rule that was there)\n"),
        "{out}"
    );
}

#[test]
fn a_new_version_of_a_file_replaces_what_changed_and_no_more() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::NoRules]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let text =
        |keys: &[&str]| "-D\n".to_owned() + &keys.iter().map(|key| line(key)).collect::<String>();
    let files = Files::new(&[
        ("a.rules", &text(&["1", "2", "3"])),
        ("b.rules", &text(&["0", "1", "2", "4"])),
    ]);
    done(&["rules", "load", &files.path("a.rules")]);
    assert_eq!(keys(), ["1", "2", "3"]);
    let diff = failed(&["rules", "diff", &files.path("b.rules")], EXIT_FAILURE).stdout;
    assert_eq!(diff.matches("missing ").count(), 2, "{diff}");
    assert_eq!(diff.matches("extra ").count(), 1, "{diff}");
    let out = done(&["rules", "load", &files.path("b.rules")]);
    assert!(
        out.contains("loaded 4 of 4 rules (2 added, 1 deleted)"),
        "{out}"
    );
    assert_eq!(keys(), ["0", "1", "2", "4"]);

    guard.delete_rule(&rule("1")).unwrap();
    guard.add_rule(&rule("1")).unwrap();
    let json = failed(
        &["rules", "diff", "--json", &files.path("b.rules")],
        EXIT_FAILURE,
    )
    .stdout;
    let told: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["in_sync"], false);
    assert_eq!(told["misplaced"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(told["misplaced"][0]["line"], 3, "{json}");
}

#[test]
fn a_line_the_kernel_refuses_brings_everything_back() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let before = guard.status().unwrap();
    guard.add_rule(&rule("a")).unwrap();
    guard.add_rule(&rule("b")).unwrap();
    // The kernel alone knows that this directory is not there.
    let refused =
        format!("-a always,exit -F path=/nowhere/at/all -F perm=w -F uid={UID} -F key={KEY}-x\n");
    let text = format!("-b 777\n-D -k {KEY}-a\n{}{refused}{}", line("c"), line("d"));
    let files = Files::new(&[("a.rules", &text)]);
    let path = files.path("a.rules");
    let ended = failed(&["rules", "load", &path], EXIT_FAILURE);
    assert!(
        ended.stderr.contains(&format!("{path}:4:1: fault: ")),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("\n4 | -a always,exit -F path=/nowhere/at/all "),
        "{}",
        ended.stderr
    );
    // Once is enough.
    assert_eq!(
        ended.stderr.matches("/nowhere/at/all").count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("the former rules and settings are back"),
        "{}",
        ended.stderr
    );
    assert_eq!(keys(), ["a", "b"]);
    assert_eq!(guard.status().unwrap().backlog_limit, before.backlog_limit);

    // Also where the order had changed before.
    let turned = Files::new(&[(
        "a.rules",
        &format!("-D -k {KEY}\n{}{}{refused}", line("b"), line("a")),
    )]);
    failed(&["rules", "load", &turned.path("a.rules")], EXIT_FAILURE);
    assert_eq!(keys(), ["a", "b"]);

    // With -c the rest is loaded, and the load has failed; with -i it has not.
    let ended = failed(&["rules", "load", "-c", &path], EXIT_FAILURE);
    assert!(
        ended.stdout.contains("loaded 2 of 3 rules"),
        "{}",
        ended.stdout
    );
    assert_eq!(keys(), ["b", "c", "d"]);
    let ignoring = Files::new(&[("a.rules", &format!("-i\n{refused}{}", line("e")))]);
    let out = done(&["rules", "load", &ignoring.path("a.rules")]);
    assert!(out.contains("loaded 1 of 2 rules"), "{out}");
    assert_eq!(keys(), ["b", "c", "d", "e"]);
}

#[test]
fn a_fault_in_a_file_keeps_all_of_it_out() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let text = line("one") + &line("two").replace("openat", "opnat") + "-D\n";
    let files = Files::new(&[("a.rules", &text)]);
    let path = files.path("a.rules");
    for command in ["load", "diff"] {
        let ended = failed(&["rules", command, &path], EXIT_FAILURE);
        assert!(
            ended.stderr.contains(&format!("{path}:2")),
            "{}",
            ended.stderr
        );
    }
    guard.check_restored(&[]).unwrap();
    // Root's own files only.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let ended = failed(&["rules", "load", &path], EXIT_FAILURE);
    assert!(
        ended.stderr.contains("everybody may write it"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_signal_does_not_leave_half_of_it() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let text: String = (0..100).map(|number| line(&format!("s{number}"))).collect();
    let files = Files::new(&[
        ("a.rules", &text),
        (
            "b.rules",
            &format!(
                "-D -k {KEY}-s0\n{}",
                (1..100)
                    .map(|n| format!("-D -k {KEY}-s{n}\n"))
                    .collect::<String>()
            ),
        ),
    ]);
    done(&["rules", "load", &files.path("a.rules")]);
    // A hundred deletions take a second: time enough to be interrupted.
    let child = Command::new(built_folder().join("audit-collector"))
        .args(["rules", "load", &files.path("b.rules")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut left = 100;
    while left == 100 && began.elapsed() < SOON {
        left = keys().len();
        thread::sleep(Duration::from_millis(2));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(keys().len(), 0);
    // It is told what became of it before the signal has its way.
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        "loaded 0 of 0 rules (0 added, 100 deleted)\n"
    );
    assert_eq!(ended.status.signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn five_hundred_rules_take_less_than_two_seconds() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let text: String = (0..500).map(|number| line(&format!("n{number}"))).collect();
    let files = Files::new(&[("a.rules", &text)]);
    let began = Instant::now();
    let out = done(&["rules", "load", &files.path("a.rules")]);
    let took = began.elapsed();
    assert!(out.contains("loaded 500 of 500 rules"), "{out}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    println!("500 rules in {took:?}");
}

#[test]
fn a_rule_is_added_and_deleted_as_with_auditctl() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let text = line("one");
    let words: Vec<&str> = text.split_whitespace().collect();
    let with = |command: &'static str| [&["rules", command], words.as_slice()].concat();
    assert_eq!(done(&with("add")), "added 1 rule\n");
    let ended = failed(&with("add"), EXIT_FAILURE);
    assert!(ended.stderr.contains("loaded already"), "{}", ended.stderr);
    // As `rules list` prints it, in one word or many.
    assert_eq!(done(&["rules", "delete", text.trim()]), "deleted 1 rule\n");
    failed(&with("delete"), EXIT_FAILURE);
    failed(&["rules", "add", "-b", "64"], EXIT_USAGE);
    failed(
        &["rules", "add", "-d", "always,exit", "-F", "uid=61741"],
        EXIT_USAGE,
    );
    // All of them or none.
    failed(&["rules", "add", text.trim(), text.trim()], EXIT_FAILURE);
    assert_eq!(keys(), [""; 0]);
    failed(
        &["rules", "add", "-a", "always,exit", "-S", "opnat"],
        EXIT_USAGE,
    );

    done(&with("add"));
    let key = format!("{KEY}-one");
    let list: Value =
        serde_json::from_str(&done(&["rules", "list", "--json", "--key", &key])).unwrap();
    assert_eq!(list["rules"][0]["rule"], text.trim());
    assert_eq!(list["rules"][0]["keys"][0], key);
    assert_eq!(done(&["rules", "clear", "--key", &key]), "deleted 1 rule\n");
    guard.check_restored(&[]).unwrap();
}

#[test]
fn faults_are_shown_with_their_place_and_without_privileges() {
    if !requirement::met(&[Requirement::Program("setpriv")]) {
        return;
    }
    let files = Files::new(&[(
        "a.rules",
        "# opening files\n-a always,exit -F arch=b64 -S opnat -k one\n-w /etc/passwd -p wa -k two\n",
    )]);
    fs::set_permissions(files.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = files.path("a.rules");
    let program = tempfile::tempdir().unwrap();
    // The build folder may not be everybody's to read.
    let binary: PathBuf = program.path().join("audit-collector");
    fs::copy(built_folder().join("audit-collector"), &binary).unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        Command::new("setpriv")
            .args([
                "--reuid=61741",
                "--regid=61741",
                "--clear-groups",
                "--bounding-set=-all",
                "--inh-caps=-all",
            ])
            .arg(&binary)
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = run(&["rules", "check", &path]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(i32::from(EXIT_FAILURE)),
        "{text}"
    );
    assert!(text.starts_with(&format!("{path}:2:")), "{text}");
    assert!(
        text.contains("\n2 | -a always,exit -F arch=b64 -S opnat -k one\n"),
        "{text}"
    );
    let marked = text.lines().nth(2).unwrap();
    let line = text.lines().nth(1).unwrap();
    let from = marked.find('^').unwrap();
    assert!(line[from..].starts_with("opnat"), "{text}");
    assert!(text.contains("1 fault"), "{text}");
    let output = run(&["rules", "check", "--json", &path]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["findings"][0]["line"], 2, "{told}");

    let output = run(&["rules", "list"]);
    assert_eq!(output.status.code(), Some(i32::from(EXIT_CANNOT_RUN)));
}

#[test]
fn settings_are_set_by_the_names_the_status_prints() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    guard
        .set(&StatusChange {
            backlog_limit: Some(300),
            rate_limit: Some(0),
            ..StatusChange::default()
        })
        .unwrap();
    let out = done(&[
        "set",
        "--backlog-limit",
        "301",
        "--backlog-wait-time=30s",
        "--rate-limit=5",
    ]);
    assert!(out.contains("backlog_limit 300 -> 301\n"), "{out}");
    assert!(out.contains("rate_limit 0 -> 5\n"), "{out}");
    let status = guard.status().unwrap();
    assert_eq!((status.backlog_limit, status.rate_limit), (301, 5));
    let tick = collector::audit::status::TickRate::of_kernel().unwrap();
    assert_eq!(status.backlog_wait_time, Some(30 * tick.hz()));
    let told: Value =
        serde_json::from_str(&done(&["set", "--json", "--backlog-limit=302"])).unwrap();
    assert_eq!(told["changes"][0]["old"], 301);
    done(&["set", "--reset-lost"]);
    failed(&["set"], EXIT_USAGE);
    failed(&["set", "--enabled", "3"], EXIT_USAGE);
    // More than ten times the default is refused by the kernel.
    let ended = failed(&["set", "--backlog-wait-time", "4000000000"], EXIT_FAILURE);
    assert!(
        ended.stderr.contains("backlog_wait_time"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_message_reaches_the_log() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let refused = failed(&["message", "two\nlines"], EXIT_USAGE).stderr;
    assert!(refused.contains("byte 3 of the text"), "{refused}");
    let collector = Collector::start(&["--mode=daemon", "--enable=true", "--ebpf=off"]).unwrap();
    let text = "audit-collector-test says hello";
    done(&["message", text]);
    done(&["auditctl", "-m", text]);
    let output = collector.stop().unwrap().output;
    let output = String::from_utf8_lossy(&output);
    assert_eq!(
        output.matches(&format!("text={text} exe=")).count(),
        2,
        "{output}"
    );
    guard.check_restored(&[]).unwrap();
}
