//! Five collectors on one kernel and a Prometheus that scrapes them, and an eventful day in less than three minutes.
//!
//! What is wrong in the end differs from host to host: that is what the pictures are to show.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::bpf_stats::BpfStats;
use audit_collector_tests::disk::TinyDisk;
use audit_collector_tests::example::{self, Pace};
use audit_collector_tests::process::{Collector, Stopped};
use audit_collector_tests::prometheus::{Moments, Prometheus};
use audit_collector_tests::workload;
use collector::audit::status::StatusChange;
use tempfile::TempDir;

/// An hour in the rules is three minutes here.
const PACE: Pace = Pace {
    scale: 20,
    scrape_interval: Duration::from_secs(2),
};
/// A minute of the rules.
const CANARY_SECONDS: u64 = 60 / PACE.scale;

/// Whose calls are audited. No rule here concerns anybody else.
const UID: u32 = 60_182;
/// The rules: which calls, and under which key.
const RULES: [(&str, &str); 3] = [
    ("openat", "files"),
    ("execve", "commands"),
    ("connect", "connections"),
];

/// Has everything, and gets back what the kernel loses.
pub(super) const DAEMON: &str = "daemon";
/// Reads beside it.
const BESIDE: &str = "beside";
/// Reads beside it, from small buffers, and gets no processor while much goes on: what both its witnesses miss is gone.
const STARVED: &str = "starved";
/// Reads beside it; its disk fills up.
const FULL: &str = "full-disk";
/// Comes when all is well again.
const NEW: &str = "new";

/// What goes on from this second on, until the next of them.
struct Act {
    begins: u64,
    /// Of the kernel.
    rate_limit: u32,
    backlog_limit: u32,
    /// Calls at once beside the ordinary ones, of each of two processes.
    burst: u32,
}

const ACTS: [Act; 5] = [
    // Series have to be there before what they count begins.
    Act {
        begins: 0,
        rate_limit: 0,
        backlog_limit: 8192,
        burst: 0,
    },
    Act {
        begins: 22,
        rate_limit: 60,
        backlog_limit: 8192,
        burst: 300,
    },
    Act {
        begins: 44,
        rate_limit: 0,
        backlog_limit: 8192,
        burst: 0,
    },
    // Long enough for the alert that waits for a quarter of an hour.
    Act {
        begins: 76,
        rate_limit: 0,
        backlog_limit: 64,
        burst: 1500,
    },
    Act {
        begins: 138,
        rate_limit: 0,
        backlog_limit: 8192,
        burst: 0,
    },
];
const BURST_SECONDS: u64 = 4;
/// Somebody deletes a rule.
const RULE_GOES: u64 = 58;
const DISK_FILLS: u64 = 66;
const NEW_COMES: u64 = 140;
const END: u64 = 152;

pub(super) struct Scene {
    pub(super) prometheus: Prometheus,
    began: SystemTime,
    // Collectors before the guard: they end before the kernel's state is put back.
    collectors: Vec<(&'static str, Collector)>,
    disk: TinyDisk,
    folder: TempDir,
    _stats: BpfStats,
    guard: AuditGuard,
}

/// What the pictures say of themselves.
pub(super) fn note() -> String {
    format!(
        "five collectors on one kernel, real losses, a real Prometheus; time in its rules goes {} times as fast",
        PACE.scale
    )
}

impl Scene {
    pub(super) fn set() -> anyhow::Result<Self> {
        let mut guard = AuditGuard::take()?;
        guard.enable()?;
        let stats = BpfStats::on()?;
        let folder = tempfile::tempdir()?;
        let rules = folder.path().join("pictures.rules");
        let lines = RULES.map(|(syscall, key)| {
            format!("-a always,exit -F arch=b64 -S {syscall} -F uid={UID} -k {key}\n")
        });
        fs::write(&rules, lines.concat())?;
        let disk = TinyDisk::new("32m")?;
        let collectors = vec![
            (
                DAEMON,
                start(&[
                    "--mode=daemon",
                    &format!("--rules={}", rules.display()),
                    "--rules-enforce",
                    "--rules-remove-at-exit",
                    "--canary",
                    &format!("--canary-interval-s={CANARY_SECONDS}"),
                ])?,
            ),
            (BESIDE, start(&["--mode=multicast"])?),
            (
                STARVED,
                start(&[
                    "--mode=multicast",
                    "--receive-buffer-bytes=64KiB",
                    "--ebpf-ring-bytes=64KiB",
                ])?,
            ),
            (
                FULL,
                start_on(
                    disk.path(),
                    &["--mode=multicast", "--sink-queue-bytes=256KiB"],
                )?,
            ),
        ];
        let prometheus = example::start(folder.path(), PACE, &addresses(&collectors))?;
        Ok(Self {
            prometheus,
            began: SystemTime::now(),
            collectors,
            disk,
            folder,
            _stats: stats,
            guard,
        })
    }

    /// Plays it to its end. `interrupted` is asked every now and then.
    pub(super) fn play(&mut self, interrupted: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut acts = ACTS.iter().peekable();
        let mut burst = 0;
        // Seconds are played one by one, and those that a burst took at once.
        let mut next = 0;
        while next < END {
            ensure!(!interrupted(), "interrupted");
            let now = began.elapsed().as_secs();
            let due = |at: u64| (next..=now).contains(&at);
            while let Some(act) = acts.next_if(|act| act.begins <= now) {
                burst = act.burst;
                self.set_limits(act.rate_limit, act.backlog_limit)?;
            }
            if due(DISK_FILLS) {
                let filled = fs::write(self.disk.path().join("filler"), vec![0; 64 << 20]);
                ensure!(filled.is_err(), "the disk has room for everything");
            }
            if due(RULE_GOES) {
                let rules = self.guard.rules()?;
                let last = rules.last().context("no rules are loaded")?;
                self.guard.delete_rule(last)?;
            }
            if due(NEW_COMES) {
                self.collectors.push((NEW, start(&["--mode=multicast"])?));
                example::set_others(self.folder.path(), &addresses(&self.collectors)[1..])?;
            }
            work(now)?;
            if burst > 0 && (next..=now).any(|second| second.is_multiple_of(BURST_SECONDS)) {
                self.burst(burst)?;
            }
            next = now + 1;
            thread::sleep(Duration::from_secs(next).saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// From the first scrape until now.
    pub(super) fn moments(&self) -> anyhow::Result<Moments> {
        let from = self.began.duration_since(UNIX_EPOCH)?.as_secs();
        let step = PACE.scrape_interval.as_secs();
        let n_steps = self.began.elapsed()?.as_secs() / step;
        Ok(Moments {
            from: from as f64,
            until: (from + n_steps * step) as f64,
            step: step as f64,
        })
    }

    /// Ends what must end before the kernel's state is put back.
    pub(super) fn end(self) -> anyhow::Result<()> {
        fs::remove_file(self.disk.path().join("filler"))?;
        for (_, collector) in self.collectors {
            collector.stop()?;
        }
        Ok(())
    }

    /// More calls at once than the kernel's queue has room for, while the collector with the small buffers sleeps.
    fn burst(&self, calls: u32) -> anyhow::Result<()> {
        let starved = self.collectors.iter().find(|(name, _)| *name == STARVED);
        let (_, starved) = starved.context("it runs all the time")?;
        let stopped = Stopped::new(starved.pid())?;
        workload::run(
            UID,
            &["open", "--processes", "2", "--count", &calls.to_string()],
        )?;
        drop(stopped);
        Ok(())
    }

    fn set_limits(&mut self, rate_limit: u32, backlog_limit: u32) -> anyhow::Result<()> {
        self.guard.set(&StatusChange {
            // The kernel's own choice.
            failure: Some(1),
            rate_limit: Some(rate_limit),
            backlog_limit: Some(backlog_limit),
            backlog_wait_time: Some(0),
            ..StatusChange::default()
        })
    }
}

/// A second's ordinary work, which rises and falls.
fn work(second: u64) -> anyhow::Result<()> {
    let wave = (second as f64 / 9.0).sin();
    let calls = (120.0 + 70.0 * wave) as u32;
    workload::run(UID, &["open", "--count", &calls.to_string()])?;
    if second.is_multiple_of(2) {
        workload::run(UID, &["connect"])?;
    }
    if second.is_multiple_of(3) {
        workload::run(UID, &["exec"])?;
    }
    Ok(())
}

fn start(arguments: &[&str]) -> anyhow::Result<Collector> {
    Collector::start(&[&WAITS[..], arguments].concat())
}

fn start_on(disk: &Path, arguments: &[&str]) -> anyhow::Result<Collector> {
    Collector::start_writing_to(&disk.join("events"), &[&WAITS[..], arguments].concat())
}

/// As short as the pace asks for.
const WAITS: [&str; 2] = ["--reorder-window-ms=1000", "--reassembly-timeout-ms=500"];

fn addresses(collectors: &[(&'static str, Collector)]) -> Vec<example::Host> {
    let addresses = collectors
        .iter()
        .map(|(name, collector)| (*name, collector.address()));
    addresses.collect()
}
