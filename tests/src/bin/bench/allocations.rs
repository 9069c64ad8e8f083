//! How often programs ask for memory, counted by the kernel: by a probe at each function of the C library that gives some.

use std::ffi::{CStr, CString};
use std::fs;

use anyhow::{Context as _, ensure};
use perf_event_open::config::{Cpu, Opts, Proc};
use perf_event_open::count::Counter;
use perf_event_open::event::dp::Uprobe;

/// Counts from its making on.
pub(crate) struct Allocations(Vec<Counter>);

impl Allocations {
    /// Of the threads that these processes have now.
    ///
    /// # Errors
    /// Where a process is gone, or the kernel lets nobody probe.
    pub(crate) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let probes = probes()?;
        let mut counters = Vec::new();
        for pid in pids {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
            let maps = maps.with_context(|| format!("process {pid} is gone"))?;
            for Uprobe { path, .. } in &probes {
                let path = path.to_str()?;
                ensure!(maps.contains(path), "process {pid} does not use {path}");
            }
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.with_context(|| format!("process {pid} is gone"))? {
                let task = task?.file_name();
                let task = task.to_str().and_then(|task| task.parse().ok());
                let task = task.context("a task has no number")?;
                for probe in &probes {
                    let counter =
                        Counter::new(probe.clone(), (Proc(task), Cpu::ALL), Opts::default());
                    let counter = counter.with_context(|| {
                        format!("cannot probe task {task}, which takes CAP_PERFMON or CAP_SYS_ADMIN and CONFIG_UPROBES")
                    })?;
                    counter.enable()?;
                    counters.push(counter);
                }
            }
        }
        Ok(Self(counters))
    }

    /// How often memory was asked for.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(crate) fn count(&self) -> anyhow::Result<u64> {
        let counts = self.0.iter().map(|counter| Ok(counter.stat()?.count));
        counts.sum()
    }
}

/// Where the functions lie in the file of the C library, which this program uses as well.
fn probes() -> anyhow::Result<Vec<Uprobe>> {
    let maps = fs::read_to_string("/proc/self/maps").context("no mappings are shown")?;
    let functions = [
        libc::malloc as *const (),
        libc::calloc as *const (),
        libc::realloc as *const (),
        libc::posix_memalign as *const (),
    ];
    let probe = |function: *const ()| {
        let found = maps.lines().find_map(|line| mapped(line, function.addr()));
        let (path, offset) = found.context("a function of the C library lies in no file")?;
        let path = CString::new(path)?;
        // Probes name their file for as long as the program runs.
        let path: &'static CStr = Box::leak(path.into_boxed_c_str());
        Ok(Uprobe { path, offset })
    };
    functions.into_iter().map(probe).collect()
}

/// The file and the place in it that lie at `address`, if this line of `/proc/PID/maps` says so (proc_pid_maps(5)).
fn mapped(line: &str, address: usize) -> Option<(&str, u64)> {
    let mut columns = line.splitn(6, ' ');
    let (from, to) = columns.next()?.split_once('-')?;
    let (from, to) = (number(from)?, number(to)?);
    let offset = number(columns.nth(1)?)?;
    let path = columns.nth(2)?.trim_start();
    let address = address as u64;
    let here = (from..to).contains(&address) && path.starts_with('/');
    here.then(|| (path, address - from + offset))
}

fn number(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_the_file_that_lies_there() {
        let line = "7f5a1c28000-7f5a1d80000 r-xp 00028000 fe:00 1234       /usr/lib/my libc.so.6";
        let found = |address| mapped(line, address);
        assert_eq!(
            found(0x7f5_a1c2_8010),
            Some(("/usr/lib/my libc.so.6", 0x2_8010))
        );
        assert_eq!(found(0x7f5_a1d8_0000), None);
        assert_eq!(
            mapped("1000-2000 rw-p 00000000 00:00 0 [heap]", 0x1000),
            None
        );
        assert_eq!(mapped("1000-2000 rw-p 00000000 00:00 0 ", 0x1000), None);
    }
}
