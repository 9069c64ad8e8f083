//! What others read of the collector: Prometheus its metrics, ausearch its raw format.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, KEY, rule_for};
use audit_collector_tests::process::Collector;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::output::raw::GIVEN_BACK;

/// Some of the calls are lost on the way, so that both kinds of events are in the output.
const LOSSY: [&str; 5] = [
    "--mode=daemon",
    "--enable",
    "--rate-limit=100",
    "--reassembly-timeout-ms=500",
    "--reorder-window-ms=1000",
];

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Program("promtool"),
    ]) {
        return;
    }
    let uid = 60_031;
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "promtool"))
        .unwrap();
    let mut collector = Collector::start(&LOSSY).unwrap();
    workload::run(uid, &["open", "--count", "200"]).unwrap();
    collector.settle(200, Duration::from_secs(30)).unwrap();
    let answer = collector.get("/metrics").unwrap();
    let content_type = answer.headers.get("content-type").map(String::as_str);
    assert!(
        content_type.is_some_and(|text| text.starts_with("text/plain; version=0.0.4")),
        "{content_type:?}"
    );
    let mut promtool = Command::new(requirement::find_program("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(answer.body.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");

    assert_eq!(collector.get("/-/healthy").unwrap().status, 200);
    assert_eq!(collector.get("/-/ready").unwrap().status, 200);
    assert_eq!(collector.get("/").unwrap().status, 200);
    assert_eq!(collector.get("/nothing").unwrap().status, 404);
    collector.stop().unwrap();
}

#[test]
fn ausearch_reads_the_raw_format() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Program("ausearch"),
    ]) {
        return;
    }
    let uid = 60_032;
    let mut guard = AuditGuard::take().unwrap();
    guard
        .add_rule(&rule_for(uid, Arch::NATIVE, &["openat"], "ausearch"))
        .unwrap();
    let mut arguments = LOSSY.to_vec();
    arguments.push("--format=raw");
    // A raw stream has no line that a JSON reader could wait for.
    let mut collector = Collector::spawn(&arguments).unwrap();
    collector.wait_until_ready().unwrap();
    workload::run(uid, &["open", "--count", "200"]).unwrap();
    collector.settle(200, Duration::from_secs(30)).unwrap();
    let finished = collector.stop().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    std::fs::write(&file, &finished.output).unwrap();
    let search = |arguments: &[&str]| -> String {
        let output = Command::new(requirement::find_program("ausearch").unwrap())
            .arg("--input")
            .arg(&file)
            .args(arguments)
            .arg("--raw")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // It looks for auditd's settings first; a machine that has no auditd has none.
        let complaint = stderr
            .lines()
            .find(|line| !line.is_empty() && !line.starts_with("Config file "));
        assert!(
            output.status.success() && complaint.is_none(),
            "{arguments:?}: {stderr}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let count = |text: &str, word: &str| text.lines().filter(|line| line.contains(word)).count();

    let uid = uid.to_string();
    let whole = String::from_utf8(finished.output.clone()).unwrap();
    let of_user = format!(" uid={uid} ");
    let all = count(&whole, &of_user);
    let given_back = GIVEN_BACK.0.to_string();
    let given_back_type = format!("type=UNKNOWN[{given_back}]");
    assert_eq!(all, 200, "calls in the file");
    let reported = count(
        &search(&["--uid", &uid, "--syscall", "openat"]),
        "type=SYSCALL",
    );
    let back = count(&search(&["--message", &given_back]), &given_back_type);
    println!("{reported} reported by the kernel, {back} given back");
    assert_eq!(reported + back, 200);
    assert!(reported > 0 && back > 0);
    let keyed = search(&["--key", &format!("{KEY}-ausearch"), "--message", "SYSCALL"]);
    assert_eq!(count(&keyed, "type=SYSCALL"), reported);
}
