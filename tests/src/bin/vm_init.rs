//! The first program of a virtual machine: mounts what tests need, runs those that `/plan` lists one after the other,
//! reports each on a serial line of its own, and switches the machine off.
//!
//! `cargo xtask vm` writes the plan and reads the reports (xtask/src/vm). Each test has a process and a time limit of
//! its own; whatever it leaves running is killed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use audit_collector_tests::requirement::{REPORT_VARIABLE, counts_instructions};
use audit_collector_tests::sys::bring_up_loopback;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcdrain;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::Deserialize;
use serde_json::{Value, json};

/// The second serial line; the first is the kernel's console.
const REPORTS: &str = "/dev/ttyS1";

/// Most bytes of a test's output that are reported, the last ones.
const OUTPUT_LIMIT: usize = 32 << 10;

/// Type and place. Those a kernel was built without, or which lockdown hides, are left out; tests say what they lack.
const FILE_SYSTEMS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("securityfs", "/sys/kernel/security"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
];

/// What to run.
#[derive(Deserialize)]
struct Plan {
    environment: BTreeMap<String, String>,
    /// How long one test may take.
    time_limit_s: u64,
    /// Whether to report what a test said that passed.
    show_output: bool,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    program: PathBuf,
    name: String,
    /// Where to start it.
    folder: PathBuf,
}

/// The serial line for reports.
struct Reports(File);

fn main() {
    if let Err(error) = run() {
        // Where even the reports cannot be opened, the console has it.
        eprintln!("{error:#}");
        if let Ok(mut reports) = Reports::open() {
            let _ = reports.send(&json!({"error": format!("{error:#}")}));
        }
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("cannot switch off: {error}");
}

fn run() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this is the first program of a virtual machine, and does nothing here");
    }
    for (kind, place) in FILE_SYSTEMS {
        // A mount would hide what the image brings: the repository, where that lies below /tmp.
        if fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some()) && kind == "tmpfs"
        {
            continue;
        }
        // Folders in /sys are the kernel's; a file system that it lacks has none.
        let mounted = fs::create_dir_all(place).is_ok()
            && mount(
                Some(kind),
                place,
                Some(kind),
                MsFlags::empty(),
                None::<&str>,
            )
            .is_ok();
        if !mounted {
            eprintln!("{place} is not mounted");
        }
    }
    // Where it is the image's own, only root could write there.
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    fs::create_dir_all("/run/lock")?;
    sethostname("vm").context("cannot set the host's name")?;
    bring_up_loopback().context("cannot bring the loopback interface up")?;

    let mut reports = Reports::open()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    reports.send(&json!({"kernel": kernel.trim()}))?;
    let plan = fs::read("/plan").context("cannot read /plan")?;
    let plan: Plan = serde_json::from_slice(&plan).context("cannot read /plan")?;
    for (index, test) in plan.tests.iter().enumerate() {
        let mut report = test.run(&plan)?;
        report["test"] = index.into();
        reports.send(&report)?;
        end_stragglers();
    }
    reports.send(&json!({"end": true}))
}

impl Test {
    fn run(&self, plan: &Plan) -> anyhow::Result<Value> {
        let (output, lacks) = (Path::new("/run/output"), Path::new("/run/lacks"));
        let _ = fs::remove_file(lacks);
        let to = File::create(output)?;
        let began = Instant::now();
        let mut child = Command::new(&self.program)
            .args(["--exact", "--nocapture", &self.name])
            .env_clear()
            .envs(&plan.environment)
            .env(REPORT_VARIABLE, lacks)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let limit = Duration::from_secs(plan.time_limit_s);
        let failure = loop {
            match child.try_wait()? {
                Some(status) if status.success() => break None,
                Some(status) => break Some(status.to_string()),
                None if began.elapsed() > limit => {
                    child.kill()?;
                    child.wait()?;
                    break Some(format!("not done after {} s", limit.as_secs()));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut report = json!({"milliseconds": began.elapsed().as_millis() as u64});
        // Whoever counts instructions wants to know how many.
        if failure.is_some() || plan.show_output || counts_instructions() {
            let said = fs::read(output)?;
            let last = &said[said.len().saturating_sub(OUTPUT_LIMIT)..];
            report["output"] = String::from_utf8_lossy(last).into();
        }
        if let Some(failure) = failure {
            report["failure"] = failure.into();
        } else if let Ok(lacks) = fs::read_to_string(lacks) {
            // Of `TEST\tWHAT` the second.
            let what: Vec<&str> = lacks
                .lines()
                .filter_map(|line| Some(line.split_once('\t')?.1))
                .collect();
            report["lacks"] = what.join("; ").into();
        }
        Ok(report)
    }
}

impl Reports {
    fn open() -> anyhow::Result<Self> {
        let line = OpenOptions::new()
            .write(true)
            .open(REPORTS)
            .with_context(|| format!("cannot open {REPORTS}"))?;
        Ok(Self(line))
    }

    /// Sends a report and waits until it is out: after the last one the machine is switched off.
    fn send(&mut self, report: &Value) -> anyhow::Result<()> {
        writeln!(self.0, "{report}").context("cannot report")?;
        tcdrain(&self.0).context("cannot report")
    }
}

/// Ends every other process. Those whose parents are gone are ours to wait for.
fn end_stragglers() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while !matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(_)
    ) {}
}
