//! `status`, `doctor` and settings, as a person or a script uses them.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::process::{Collector, Ended, run_to_end};
use audit_collector_tests::requirement::{self, Requirement, patience};
use collector::cli::{EXIT_CANNOT_RUN, EXIT_FAILURE, EXIT_USAGE};
use serde_json::Value;

fn soon() -> Duration {
    patience(Duration::from_secs(20))
}

/// Fails unless the program ended by itself with `code` and an error that a person can act on: one line, no panic.
fn refused(ended: &Ended, code: u8) -> &str {
    assert_eq!(ended.code, Some(i32::from(code)), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let lines: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "not one line: {}", ended.stderr);
    lines[0]
}

#[test]
fn status_tells_what_the_kernel_tells() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let status = guard.status().unwrap();
    let ended = run_to_end(&["status", "--json"], soon()).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    for (name, value) in [
        ("enabled", status.enabled),
        ("failure", status.failure),
        ("pid", status.pid),
        ("rate_limit", status.rate_limit),
        ("backlog_limit", status.backlog_limit),
        ("lost", status.lost),
    ] {
        assert_eq!(told[name], value, "{name} in {told}");
    }
    let ended = run_to_end(&["status"], soon()).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("backlog_limit") || ended.stdout.contains("backlog limit"));
}

#[test]
fn doctor_names_what_this_machine_allows() {
    let ended = run_to_end(&["doctor"], soon()).unwrap();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let text = ended.stdout.to_lowercase();
    for about in [
        "cap_audit_control",
        "namespace",
        "btf",
        "tracepoint",
        "lockdown",
        "ring buffer",
        "receive buffer",
    ] {
        assert!(
            text.contains(about),
            "nothing about {about} in: {}",
            ended.stdout
        );
    }
}

#[test]
fn a_config_file_that_cannot_be_read_is_named() {
    let ended = run_to_end(&["run", "--config=/nonexistent/collector.toml"], soon()).unwrap();
    let line = refused(&ended, EXIT_USAGE);
    assert!(line.contains("/nonexistent/collector.toml"), "{line}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.toml");
    fs::write(&file, "# settings\nmode = \"daemon\"\nratelimit = 3\n").unwrap();
    let ended = run_to_end(
        &["run".into(), format!("--config={}", file.display())],
        soon(),
    )
    .unwrap();
    let line = refused(&ended, EXIT_USAGE);
    assert!(line.contains("ratelimit") && line.contains(":3:"), "{line}");
}

#[test]
fn settings_of_a_file_work_as_flags_do() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collector.toml");
    fs::write(
        &file,
        "mode = \"daemon\"\nenable = true\nbacklog_limit = 777\nebpf = \"off\"\n",
    )
    .unwrap();
    let collector = Collector::start(&[&format!("--config={}", file.display())]).unwrap();
    let status = guard.status().unwrap();
    assert_eq!(status.backlog_limit, 777);
    assert_eq!(status.enabled, 1);
    assert_eq!(status.pid, collector.pid());
    collector.stop().unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn a_busy_port_is_named() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let ended = run_to_end(
        &[
            "run",
            "--output=/dev/null",
            "--mode=multicast",
            "--ebpf=off",
            &format!("--listen={address}"),
        ],
        soon(),
    )
    .unwrap();
    let line = refused(&ended, EXIT_FAILURE);
    assert!(line.contains(&address), "{line}");
    guard.check_restored(&[]).unwrap();
}

#[test]
fn another_live_daemon_is_named_and_left_alone() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let first = Collector::start(&["--mode=daemon", "--ebpf=off"]).unwrap();
    let ended = run_to_end(
        &[
            "run",
            "--output=/dev/null",
            "--listen=off",
            "--mode=daemon",
            "--ebpf=off",
            "--backlog-limit=99",
        ],
        soon(),
    )
    .unwrap();
    let line = refused(&ended, EXIT_FAILURE);
    assert!(line.contains(&first.pid().to_string()), "{line}");
    let status = guard.status().unwrap();
    assert_eq!(status.pid, first.pid());
    assert_ne!(
        status.backlog_limit, 99,
        "settings of a daemon that was refused"
    );

    let beside = Collector::start(&["--mode=auto", "--ebpf=off"]).unwrap();
    assert_eq!(guard.status().unwrap().pid, first.pid());
    beside.stop().unwrap();
    assert_eq!(guard.status().unwrap().pid, first.pid());
    first.stop().unwrap();
    guard.check_restored(&[]).unwrap();
}

#[test]
fn a_missing_capability_is_named_and_the_exit_code_is_77() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Program("setpriv")]) {
        return;
    }
    let mut guard = AuditGuard::take().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(audit_collector_tests::built_folder().join("audit-collector"))
        .args(["run", "--output=/dev/null", "--listen=off"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(i32::from(EXIT_CANNOT_RUN)),
        "{stderr}"
    );
    assert!(stderr.contains("CAP_AUDIT_"), "{stderr}");
    guard.check_restored(&[]).unwrap();
}
