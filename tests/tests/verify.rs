//! What eBPF gives back is what the kernel writes: whole sessions are rebuilt from eBPF alone and compared field by field.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::verification::{Table, Verification};
use audit_collector_tests::workload;
use collector::audit::arch::Arch;

/// Calls whose events differ in more than numbers.
const CALLS: [&str; 39] = [
    "open",
    "openat",
    "openat2",
    "creat",
    "execve",
    "execveat",
    "connect",
    "bind",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "utimensat",
    "chdir",
    "fchdir",
    "mknod",
    "mknodat",
    "access",
    "faccessat2",
    "readlink",
    "statfs",
    "exit_group",
];

/// Fields that the notes of one call are about, at most: its current directory and those of five PATH records.
const FIELDS: u64 = 1 + 5 * 16;

/// How long the last events may be on their way.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// Runs `sessions` as user `uid` with everything audited and compared.
fn verify(uid: u32, sessions: impl FnOnce(&Path)) -> Table {
    let mut guard = AuditGuard::take().unwrap();
    for rule in [
        rule_for(uid, Arch::NATIVE, &CALLS, "verify"),
        rule_for(uid, Arch::I386, &["openat", "getppid"], "verify"),
    ] {
        guard.add_rule(&rule).unwrap();
    }
    let arguments = ["--mode=daemon", "--enable", "--backlog-limit=65536"];
    let verification = Verification::start(&arguments).unwrap();
    let root = tempfile::tempdir().unwrap();
    open_to_all(root.path());
    sessions(root.path());
    thread::sleep(patience(ON_THE_WAY));
    let table = verification.finish().unwrap();
    let [compared, identical, unknown] = table.sums();
    println!(
        "{} events, {compared} fields: {identical} identical, {unknown} unknown, {} runs missed, wrong {:#?}",
        table.events,
        table.missed_runs,
        table.wrong()
    );
    for row in table.fields.iter().filter(|row| row.unknown > 0) {
        println!(
            "{} {}: {} of {} unknown",
            row.record, row.field, row.unknown, row.compared
        );
    }
    table
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// Runs a script of tests/sessions as user `uid` in a folder of its own.
fn session(uid: u32, name: &str, root: &Path) {
    let folder = root.join(name);
    std::fs::create_dir(&folder).unwrap();
    open_to_all(&folder);
    let script = format!("{}/sessions/{name}.sh", env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={uid}")])
        .args(["--clear-groups", "env", "-i"])
        .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .args(["sh", "-s"])
        .arg(&folder)
        .stdin(std::fs::File::open(script).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
}

/// The calls of the tests on both witnesses.
fn workloads(uid: u32, root: &Path) {
    let files = root.join("files");
    std::fs::create_dir(&files).unwrap();
    open_to_all(&files);
    let files = files.to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["files", "--root", files, "--rounds", "2"],
        &["open", "--processes", "2", "--count", "50"],
        &["exec"],
        &["connect"],
        &["paths"],
        &["compat", "--count", "20"],
        &["threads", "--threads", "4", "--count", "25"],
        &["forks", "--count", "60"],
    ];
    for command in commands {
        workload::run(uid, command).unwrap();
    }
}

/// Where the kernel's own notes can be seen, all of what they hold is known.
#[test]
fn the_kernels_own_notes_make_its_own_records() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::FunctionTracing,
        Requirement::CompatCalls,
        Requirement::Program("grep"),
    ]) {
        return;
    }
    let uid = 60_096;
    let table = verify(uid, |root| {
        workloads(uid, root);
        session(uid, "shell", root);
    });
    let [compared, identical, _] = table.sums();
    assert!(table.events > 500, "only {} events", table.events);
    assert!(table.wrong().is_empty());
    // Where programs can be preempted the kernel skips runs of others meanwhile, each of which costs one call its notes.
    let unseen = table.missed_runs * FIELDS;
    assert!(
        (identical + unseen) * 1_000 >= compared * 999,
        "{identical} of {compared} identical, {} runs missed",
        table.missed_runs
    );
}

#[test]
fn sessions_are_rebuilt_without_a_wrong_value() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::CompatCalls,
        Requirement::Program("make"),
        Requirement::Program("cc"),
        Requirement::Program("dpkg-deb"),
    ]) {
        return;
    }
    let uid = 60_095;
    let table = verify(uid, |root| {
        workloads(uid, root);
        for name in ["build", "package", "shell"] {
            session(uid, name, root);
        }
    });
    assert!(table.events > 1_500, "only {} events", table.events);
    assert!(table.wrong().is_empty());
    for (record, field) in [
        ("SYSCALL", "syscall"),
        ("SYSCALL", "exe"),
        ("EXECVE", "arguments"),
        ("SOCKADDR", "saddr"),
        ("CWD", "cwd"),
        ("PATH", "inode"),
        ("PROCTITLE", "proctitle"),
    ] {
        assert!(
            table.row(record, field).is_some(),
            "{record} {field} was never compared"
        );
    }
}
