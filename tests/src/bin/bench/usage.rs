//! What processes use, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::ClockId;
use nix::unistd::Pid;

/// Processor seconds of a process since it began, of threads that have ended too.
///
/// # Errors
/// Where the process is gone.
pub(crate) fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32));
    let time = clock
        .and_then(ClockId::now)
        .with_context(|| format!("process {pid} is gone"))?;
    Ok(Duration::from(time).as_secs_f64())
}

/// A line of `/proc/PID/status` that is in KiB, as MiB.
fn status_mib(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line
        .trim_start_matches(':')
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kib / 1024.0)
}

/// Most memory a process has had resident so far, in MiB.
pub(crate) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM").with_context(|| format!("process {pid} has no VmHWM"))
}

/// Processor seconds of all children that have been waited for.
pub(crate) fn children_seconds() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// The process of the kernel's that sends the records.
pub(crate) fn kauditd() -> anyhow::Result<u32> {
    find(|pid| name(pid).as_deref() == Some("kauditd")).context("this kernel has no kauditd")
}

/// A child of `parent` with this name.
pub(crate) fn child_of(parent: u32, program: &str) -> Option<u32> {
    find(|pid| name(pid).as_deref() == Some(program) && parent_of(pid) == Some(parent))
}

fn name(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.trim_end().to_owned())
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

fn find(fits: impl Fn(u32) -> bool) -> Option<u32> {
    fs::read_dir(Path::new("/proc"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|pid| fits(*pid))
}
