//! Who takes the records of a measurement: nobody, one who throws them away, auditd, auditd with laurel behind it, or the collector.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::auditd::Auditd;
use audit_collector_tests::balance::Balance;
use audit_collector_tests::process::Collector;
use memchr::memmem::{self, Finder};
use memchr::{memchr, memrchr};
use tempfile::TempDir;

use crate::peer::Laurel;
use crate::reader::Reader;
use crate::rounds::Sample;
use crate::usage::{self, Memory};
use crate::watcher::ReadNumber;

/// How long a log must stay as it is until all is taken to be in it.
const QUIET: Duration = Duration::from_millis(400);

/// How long that may take to come about.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// Waits of the collector's as short as the tests have them, so that a measurement ends soon.
pub(crate) const WAITS: [&str; 3] = [
    "--reassembly-timeout-ms=500",
    "--reorder-window-ms=1000",
    "--account-interval-s=0",
];

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    /// Who throws them away.
    Reader,
    Auditd,
    AuditdAndLaurel,
    /// With the eBPF witness.
    Ours,
    OursWithoutWitness,
}

impl Who {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no audit",
            Self::Reader => "records read and thrown away",
            Self::Auditd => "auditd",
            Self::AuditdAndLaurel => "auditd + laurel",
            Self::Ours => "audit-collector",
            Self::OursWithoutWitness => "audit-collector --ebpf=off",
        }
    }
}

/// One that runs.
pub(crate) enum Taker {
    Nobody,
    Reader(Reader),
    Auditd(Auditd),
    AuditdAndLaurel {
        auditd: Auditd,
        laurel: Laurel,
        laurel_pid: u32,
        _folder: TempDir,
    },
    Ours(Collector),
}

/// Events of the storm that came out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came {
    /// By the audit stream.
    pub(crate) captured: u64,
    /// Given back by eBPF.
    pub(crate) given_back: u64,
    /// What laurel wrote of what auditd has.
    pub(crate) by_laurel: u64,
}

/// What each program used, in seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// The collector's, or auditd's.
    own: f64,
    laurel: f64,
    kauditd: f64,
}

impl Taker {
    /// Starts `who`; the collector with `flags` besides.
    pub(crate) fn start(who: Who, flags: &[&str]) -> anyhow::Result<Self> {
        Ok(match who {
            Who::Nobody => Self::Nobody,
            Who::Reader => Self::Reader(Reader::start()?),
            Who::Auditd => Self::Auditd(Auditd::start()?),
            Who::AuditdAndLaurel => {
                let folder = tempfile::tempdir()?;
                let laurel = Laurel::writing_below(folder.path())?;
                let auditd = Auditd::start_with(&[("laurel", &laurel.plugin())])?;
                Self::AuditdAndLaurel {
                    laurel_pid: wait_for_laurel(&auditd)?,
                    auditd,
                    laurel,
                    _folder: folder,
                }
            }
            Who::Ours | Who::OursWithoutWitness => {
                let witness = match who {
                    Who::Ours => "--ebpf=on",
                    _ => "--ebpf=off",
                };
                let all = [&["--mode=daemon", witness], flags].concat();
                Self::Ours(Collector::start(&all)?)
            }
        })
    }

    /// The processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nobody | Self::Reader(_) => Vec::new(),
            Self::Auditd(auditd) => vec![auditd.pid()],
            Self::AuditdAndLaurel {
                auditd, laurel_pid, ..
            } => vec![auditd.pid(), *laurel_pid],
            Self::Ours(collector) => vec![collector.pid()],
        }
    }

    /// Processor time used so far.
    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        let kauditd = usage::processor_seconds(usage::kauditd()?)?;
        let (own, laurel) = match self {
            Self::Nobody => (0.0, 0.0),
            Self::Reader(reader) => (reader.processor_seconds(), 0.0),
            Self::Auditd(auditd) => (usage::processor_seconds(auditd.pid())?, 0.0),
            Self::AuditdAndLaurel {
                auditd, laurel_pid, ..
            } => (
                usage::processor_seconds(auditd.pid())?,
                usage::processor_seconds(*laurel_pid)?,
            ),
            Self::Ours(collector) => (usage::processor_seconds(collector.pid())?, 0.0),
        };
        Ok(Used {
            own,
            laurel,
            kauditd,
        })
    }

    /// Waits until all that was audited has come out, of which `expected` events are known.
    pub(crate) fn drain(&mut self, guard: &mut AuditGuard, expected: u64) -> anyhow::Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Reader(reader) => until_quiet(guard, || vec![reader.events()]),
            Self::Auditd(auditd) => until_quiet(guard, lengths([auditd.log()])),
            Self::AuditdAndLaurel { auditd, laurel, .. } => {
                until_quiet(guard, lengths([auditd.log(), laurel.log()]))
            }
            Self::Ours(collector) => settled(collector, expected),
        }
    }

    /// What came out so far.
    pub(crate) fn came(&self) -> anyhow::Result<Came> {
        let mut came = Came::default();
        match self {
            Self::Nobody => {}
            Self::Reader(reader) => came.captured = reader.events(),
            Self::Auditd(auditd) => came.captured = in_log(&auditd.log())?,
            Self::AuditdAndLaurel { auditd, laurel, .. } => {
                came.captured = in_log(&auditd.log())?;
                let own = format!("\"key\":\"{KEY}");
                came.by_laurel = count(&laurel.log(), &[&own])?;
            }
            Self::Ours(collector) => {
                let own = format!("\"keys\":[\"{KEY}");
                let output = collector.output();
                let outcome = |name: &str| format!("\"outcome\":\"{name}\"");
                let given_back = count(output, &[&own, &outcome("backfilled")])?;
                came.captured = count(output, &[&own])? - given_back;
                came.given_back = given_back;
            }
        }
        Ok(came)
    }

    /// The file that the last of the programs writes, and how to read a call's number off a line of it: the mode argument.
    pub(crate) fn output(&self) -> Option<(PathBuf, ReadNumber)> {
        match self {
            Self::Nobody | Self::Reader(_) => None,
            Self::Auditd(auditd) => Some((auditd.log(), in_record)),
            Self::AuditdAndLaurel { laurel, .. } => Some((laurel.log(), in_laurels_line)),
            Self::Ours(collector) => Some((collector.output().to_owned(), in_record)),
        }
    }

    /// Memory the programs have resident now.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Ok(match self {
            Self::Nobody | Self::Reader(_) => Memory::default(),
            Self::Auditd(auditd) => Memory::of(auditd.pid())?,
            Self::AuditdAndLaurel {
                auditd, laurel_pid, ..
            } => Memory::of(auditd.pid())?.plus(Memory::of(*laurel_pid)?),
            Self::Ours(collector) => Memory::of(collector.pid())?,
        })
    }

    /// Most memory the programs have had resident, in MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        Ok(match self {
            Self::Nobody | Self::Reader(_) => 0.0,
            Self::Auditd(auditd) => usage::peak_mib(auditd.pid())?,
            Self::AuditdAndLaurel {
                auditd, laurel_pid, ..
            } => usage::peak_mib(auditd.pid())? + usage::peak_mib(*laurel_pid)?,
            Self::Ours(collector) => usage::peak_mib(collector.pid())?,
        })
    }

    /// Ends it.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Ours(mut collector) => collector.end().map(drop),
            Self::Reader(reader) => reader.stop(),
            Self::Nobody | Self::Auditd(_) | Self::AuditdAndLaurel { .. } => Ok(()),
        }
    }
}

impl Used {
    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            own: self.own - before.own,
            laurel: self.laurel - before.laurel,
            kauditd: self.kauditd - before.kauditd,
        }
    }

    /// Adds to a sample what each program took of CPU, in ms for each of `parts`.
    pub(crate) fn tell_per(self, parts: f64, sample: &mut Sample) {
        let ms = |seconds: f64| seconds * 1e3 / parts;
        sample.insert("own_ms", ms(self.own));
        sample.insert("kauditd_ms", ms(self.kauditd));
        sample.insert("user_space_ms", ms(self.own + self.laurel));
        if self.laurel > 0.0 {
            sample.insert("laurel_ms", ms(self.laurel));
        }
    }

    /// Adds what is known to a sample: the seconds of each program, and µs of user space for each event that it handled.
    pub(crate) fn tell(self, came: Came, sample: &mut Sample) {
        sample.insert("own_s", self.own);
        sample.insert("kauditd_s", self.kauditd);
        let per = |seconds: f64, events: u64| match events {
            0 => 0.0,
            events => seconds / events as f64 * 1e6,
        };
        let mut each = per(self.own, came.captured + came.given_back);
        if came.by_laurel > 0 {
            sample.insert("laurel_s", self.laurel);
            each += per(self.laurel, came.by_laurel);
        }
        if each > 0.0 {
            sample.insert("us_per_event", each);
        }
    }
}

fn wait_for_laurel(auditd: &Auditd) -> anyhow::Result<u32> {
    let began = Instant::now();
    loop {
        if let Some(pid) = usage::child_of(auditd.pid(), "laurel") {
            // It reads its configuration before it reads records.
            thread::sleep(Duration::from_millis(200));
            return Ok(pid);
        }
        ensure!(
            began.elapsed() < Duration::from_secs(5),
            "auditd does not start laurel"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until what has come, by `progress`, stays as it is and nothing waits in the kernel.
fn until_quiet(guard: &mut AuditGuard, progress: impl Fn() -> Vec<u64>) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut last: (Vec<u64>, Instant) = (Vec::new(), began);
    while last.1.elapsed() < QUIET || guard.status()?.backlog > 0 {
        ensure!(
            began.elapsed() < DRAIN_TIME,
            "records still come after {DRAIN_TIME:?}"
        );
        let now = progress();
        if now != last.0 {
            last = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How long the logs are now.
fn lengths<const N: usize>(logs: [PathBuf; N]) -> impl Fn() -> Vec<u64> {
    let length = |log: &PathBuf| fs::metadata(log).map_or(0, |metadata| metadata.len());
    move || logs.iter().map(length).collect()
}

/// Waits until nothing is pending. What is never told is not waited for, once nothing has been settled for a while.
fn settled(collector: &Collector, expected: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut last = (0, began);
    loop {
        // Seldom: it is the collector that answers.
        thread::sleep(Duration::from_millis(400));
        let metrics = collector.metrics()?;
        let settled = Balance::of_metrics(&metrics).settled();
        if settled != last.0 {
            last = (settled, Instant::now());
        }
        let nothing_pending = metrics.count("crosscheck_pending_events", &[]) == 0
            && metrics.count("sink_queue_events", &[]) == 0;
        if nothing_pending && (settled >= expected || last.1.elapsed() > Duration::from_secs(3)) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < DRAIN_TIME,
            "events are still pending after {DRAIN_TIME:?}"
        );
    }
}

/// Events in an audit log.
fn in_log(log: &Path) -> anyhow::Result<u64> {
    count(log, &["type=SYSCALL ", &format!("key=\"{KEY}")])
}

/// The mode argument in a record of our calls as the kernel wrote it, of which the collector's events have the text too.
fn in_record(line: &[u8]) -> Option<u32> {
    number_behind(line, b" a3=").filter(|_| memmem::find(line, KEY.as_bytes()).is_some())
}

/// The same in an event of laurel's: the last of the arguments.
fn in_laurels_line(line: &[u8]) -> Option<u32> {
    let arguments = &line[memmem::find(line, b"\"ARGV\":[")?..];
    let arguments = &arguments[..memchr(b']', arguments)?];
    number_behind(&arguments[memrchr(b',', arguments)?..], b"0x")
        .filter(|_| memmem::find(line, KEY.as_bytes()).is_some())
}

/// The hexadecimal number behind the first of `mark`.
fn number_behind(text: &[u8], mark: &[u8]) -> Option<u32> {
    let number = &text[memmem::find(text, mark)? + mark.len()..];
    let end = number.iter().position(|byte| !byte.is_ascii_hexdigit());
    let digits = std::str::from_utf8(&number[..end.unwrap_or(number.len())]).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Lines of `file` that have all of `texts`.
fn count(file: &Path, texts: &[&str]) -> anyhow::Result<u64> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let finders: Vec<Finder<'_>> = texts.iter().map(Finder::new).collect();
    let lines = content.split(|byte| *byte == b'\n');
    let found = lines.filter(|line| finders.iter().all(|finder| finder.find(line).is_some()));
    Ok(found.count() as u64)
}
