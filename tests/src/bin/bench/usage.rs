//! What processes use, from /proc.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::rounds::Sample;

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

/// Memory that a process has resident now, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) resident: f64,
    /// Its own: heaps and stacks.
    pub(crate) anonymous: f64,
    /// What BPF maps it has mapped, rings above all.
    pub(crate) rings: f64,
}

impl Memory {
    /// # Errors
    /// Where the process is gone.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let get =
            |name| status_mib(pid, name).with_context(|| format!("process {pid} has no {name}"));
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps"))
            .with_context(|| format!("process {pid} shows no mappings"))?;
        Ok(Self {
            resident: get("VmRSS")?,
            anonymous: get("RssAnon")?,
            rings: mapped_kib(&maps, "anon_inode:bpf-map") as f64 / 1024.0,
        })
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            anonymous: self.anonymous + other.anonymous,
            rings: self.rings + other.rings,
        }
    }

    /// Adds it to a sample.
    pub(crate) fn tell(self, sample: &mut Sample) {
        sample.extend([
            ("resident_mib", self.resident),
            ("anonymous_mib", self.anonymous),
            ("ring_mib", self.rings),
            ("ringless_mib", self.resident - self.rings),
        ]);
    }
}

/// KiB that are resident of the mappings of this name, as `/proc/PID/smaps` has them.
fn mapped_kib(maps: &str, name: &str) -> u64 {
    let mut within = false;
    let mut kib = 0;
    for line in maps.lines() {
        match line.strip_prefix("Rss:") {
            Some(size) if within => {
                let number = size.trim().trim_end_matches(" kB");
                kib += number.parse().unwrap_or(0);
            }
            // The line of a mapping begins with its addresses, all others with a name and a colon.
            None if line.starts_with(|c: char| matches!(c, '0'..='9' | 'a'..='f')) => {
                within = line.ends_with(name);
            }
            _ => {}
        }
    }
    kib
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_a_name_are_added_up() {
        let maps = "7f00-7f10 rw-s 00000000 00:0e 12   anon_inode:bpf-map\n\
            Size:  64 kB\nRss:                  8 kB\nVmFlags: rd\n\
            7f20-7f30 r--p 00000000 00:0e 13 /bin/cat\nRss: 100 kB\n\
            ff20-ff30 r--s 00001000 00:0e 12   anon_inode:bpf-map\nRss:  4 kB\n";
        assert_eq!(mapped_kib(maps, "anon_inode:bpf-map"), 12);
        assert_eq!(mapped_kib(maps, "/bin/dog"), 0);
    }

    #[test]
    fn a_process_uses_what_it_uses() {
        let own = std::process::id();
        assert!(processor_seconds(own).unwrap() > 0.0);
        let memory = Memory::of(own).unwrap();
        assert!(memory.resident >= memory.anonymous && memory.anonymous > 0.0);
        assert_eq!(memory.rings, 0.0);
    }
}
