//! What a test needs of the machine. With `CI=true` a lack fails the test; otherwise it is told, in the test's output
//! and in the file that `cargo xtask test` reads, and the test ends.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use collector::audit::client::Client;
use collector::audit::privilege::{Capability, Privileges};
use collector::audit::rules::Rule;
use collector::probe::features::{self, Features};

use crate::audit_state::KEY;
use crate::lock::KernelLock;

/// The variable that names the file `cargo xtask test` reads.
pub const REPORT_VARIABLE: &str = "AUDIT_COLLECTOR_COULD_NOT_RUN";

/// The word on the command line of the kernels that `cargo xtask vm` starts.
const DISPOSABLE: &str = "audit_collector.disposable";

/// The word on the command line of one that keeps records for an audit daemon to come.
const KEEPS_RECORDS: &str = "audit=1";

/// The word on the command line of one whose clock counts the instructions of its processor.
const INSTRUCTIONS: &str = "audit_collector.instructions";

/// What a test that needs such a kernel says here; `cargo xtask test` looks for it.
const VIRTUAL_MACHINE: &str = "needs a virtual machine (`cargo xtask vm`)";

/// Something a test needs.
#[derive(Clone, Copy, Debug)]
pub enum Requirement {
    /// The kernel's audit subsystem, and the right to change its settings and rules.
    AuditControl,
    /// That no other daemon is registered.
    DaemonSeat,
    /// That no rules are loaded, because the test deletes all there are.
    NoRules,
    /// Loading BPF programs, and BTF to place them by.
    Ebpf,
    /// Programs on the entry and exit of the kernel's functions.
    FunctionTracing,
    /// Calls of 32-bit programs.
    CompatCalls,
    /// io_uring, and that the kernel audits its operations (Linux 5.16).
    Ring,
    /// Mounting file systems.
    Mount,
    /// A capability.
    Capability(Capability),
    /// A program that a test compares with.
    Program(&'static str),
    /// A kernel that nobody needs afterwards, for what lasts until the next boot.
    Disposable,
}

impl Requirement {
    /// What is missing, where it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::AuditControl => match Client::connect().and_then(|mut client| client.status()) {
                Ok(status) if status.enabled == 2 => {
                    Some("the audit configuration is locked until the next boot".into())
                }
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            },
            Self::DaemonSeat => {
                // Under the lock: a collector that another test runs is no daemon of this machine's.
                let _lock = KernelLock::acquire().ok();
                let pid = Client::connect().ok()?.status().ok()?.pid;
                let alive = pid != 0 && Path::new(&format!("/proc/{pid}")).exists();
                alive.then(|| format!("process {pid} is the audit daemon"))
            }
            Self::NoRules => {
                let _lock = KernelLock::acquire().ok();
                let rules = Client::connect().ok()?.rules().ok()?;
                let own = |rule: &Rule| rule.keys().any(|key| key.starts_with(KEY.as_bytes()));
                (!rules.iter().all(own)).then(|| "this machine has audit rules of its own".into())
            }
            Self::Ebpf => {
                if !Path::new("/sys/kernel/btf/vmlinux").exists() {
                    return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
                }
                if features::confidential() {
                    return Some("lockdown=confidentiality keeps BPF programs from reading".into());
                }
                lacks(&[Capability::Bpf, Capability::Perfmon])
            }
            Self::FunctionTracing => {
                let reason = Features::detect().function_tracing.err()?;
                let refusal = format!("the kernel refuses function tracing: {reason}");
                Some(if in_virtual_machine() {
                    refusal
                } else {
                    format!("{refusal}; {VIRTUAL_MACHINE}")
                })
            }
            Self::CompatCalls => {
                if !cfg!(target_arch = "x86_64") {
                    return Some("calls through int 0x80 exist on x86-64 only".into());
                }
                (!crate::sys::compat_calls_work())
                    .then(|| "the kernel runs no 32-bit calls (CONFIG_IA32_EMULATION)".into())
            }
            Self::Ring => {
                crate::ring::refused().map(|error| format!("the kernel refuses io_uring: {error}"))
            }
            Self::Mount => lacks(&[Capability::SysAdmin]),
            Self::Capability(capability) => lacks(&[capability]),
            Self::Program(name) => find_program(name)
                .is_none()
                .then(|| format!("{name} is not installed (`cargo xtask setup --tests`)")),
            Self::Disposable => (!in_virtual_machine()).then(|| VIRTUAL_MACHINE.into()),
        }
    }
}

/// Whether the running test has all it needs. Where it has not, this has been reported and the test must end.
///
/// # Panics
/// With `CI=true` where something is missing.
pub fn met(requirements: &[Requirement]) -> bool {
    let missing: Vec<String> = requirements
        .iter()
        .filter_map(|requirement| requirement.missing())
        .collect();
    if missing.is_empty() {
        return true;
    }
    // What another kernel has is no lack of this machine; `cargo xtask test` sees to it that the test ran there.
    let elsewhere = missing.iter().all(|what| what.ends_with(VIRTUAL_MACHINE));
    let missing = missing.join("; ");
    assert!(
        elsewhere || env::var("CI").as_deref() != Ok("true"),
        "cannot run, and CI=true asks for every test: {missing}"
    );
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    eprintln!("{test} could not run: {missing}");
    if let Some(report) = env::var_os(REPORT_VARIABLE) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(report)
            .and_then(|mut file| file.write_all(format!("{test}\t{missing}\n").as_bytes()))
            .expect("the report of what could not run can be written");
    }
    false
}

/// Whether this kernel runs in one of `cargo xtask vm`'s machines.
pub fn in_virtual_machine() -> bool {
    booted_with(DISPOSABLE)
}

/// Whether a ns is an instruction here, whatever else the machine under this one has to do.
pub fn counts_instructions() -> bool {
    booted_with(INSTRUCTIONS)
}

/// Whether the kernel keeps records while there is no audit daemon (kernel/audit.c `audit_default`).
pub fn keeps_records() -> bool {
    booted_with(KEEPS_RECORDS)
}

fn booted_with(word: &str) -> bool {
    let options = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    options.split_whitespace().any(|option| option == word)
}

/// A time limit as it is to be taken here: the processor of a virtual machine is emulated, some ten times as slow.
pub fn patience(limit: Duration) -> Duration {
    if in_virtual_machine() {
        10 * limit
    } else {
        limit
    }
}

/// The first folder of `PATH`, then of the system's own, that holds `program`.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn lacks(capabilities: &[Capability]) -> Option<String> {
    let privileges = match Privileges::of_this_process() {
        Ok(privileges) => privileges,
        Err(error) => return Some(format!("cannot read this process's privileges: {error}")),
    };
    let missing: Vec<&str> = capabilities
        .iter()
        .filter(|capability| !privileges.has(**capability))
        .map(|capability| capability.name())
        .collect();
    (!missing.is_empty()).then(|| format!("{} is missing", missing.join(", ")))
}
