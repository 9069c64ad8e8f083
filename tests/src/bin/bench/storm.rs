//! Storms: what is captured, what it costs the callers, and what the programs use.

use std::fs;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::built_folder;
use audit_collector_tests::requirement::find_program;
use audit_collector_tests::storm;
use audit_collector_tests::workload::Held;
use collector::audit::arch::Arch;
use collector::audit::status::StatusChange;

use crate::overhead::rules_of_nobodies;
use crate::report::{Column, Report, Target};
use crate::rounds::{Extent, Sample, Session, Subject};
use crate::taker::{Taker, Used, WAITS, Who};
use crate::usage;

/// Whose calls they are.
const UID: u32 = 60_910;

const COLUMNS: [Column; 12] = [
    Column::new("wall_ns", "ns per call, each maker's", 0),
    Column::new("cpu_ns", "makers' CPU ns per call", 0),
    Column::new("expected", "expected", 0),
    Column::new("captured", "captured by audit", 0),
    Column::new("given_back", "recovered", 0),
    Column::new("lost", "lost", 0),
    Column::new("told_percent", "captured or recovered, %", 2),
    Column::new("own_s", "CPU s", 2),
    Column::new("laurel_s", "laurel CPU s", 2),
    Column::new("kauditd_s", "kauditd CPU s", 2),
    Column::new("us_per_event", "user space, CPU µs per event", 1),
    Column::new("peak_mib", "peak MiB", 0),
];

const SUBJECTS: [Who; 5] = [
    Who::Nobody,
    Who::Auditd,
    Who::AuditdAndLaurel,
    Who::Reader,
    Who::Ours,
];

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// openat and close of `/dev/null`.
    Opens,
    /// As `workload storm` knows them.
    Storm(&'static str),
    /// A search through `/usr/include`.
    Grep,
}

/// How long callers wait for room in the kernel's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Not at all.
    None,
    /// As long as the kernel has it by itself.
    Default,
}

/// Calls in great number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    kind: Kind,
    makers: u32,
    /// Rounds of each maker.
    count: u32,
    backlog: u32,
    wait: Wait,
    /// How many rules about openat of other users the kernel passes on the way to the one that reports the calls.
    other_rules: u32,
}

pub(crate) fn run(session: &Session) -> anyhow::Result<Report> {
    let mut report = Report {
        bench: "storm",
        title: "Storms: what is captured and what it costs",
        how: vec![
            "Makers call as fast as they can, in processes of their own; ns per call is the time on the wall divided by the calls \
             of one maker. Everybody writes to a file on the same disk. auditd and laurel as Debian configures them (log_format RAW); \
             the collector at level syscalls, as the daemon. CPU s is that of the collector or of auditd, user and system, until all \
             has come out. An event counts as captured where its SYSCALL record has come; what user space costs is divided by what \
             each program has got."
                .into(),
        ],
        groups: Vec::new(),
        ratios: Vec::new(),
    };
    for storm in storms(session.extent) {
        let expected = match storm.kind {
            Kind::Grep => Some(opens_of_grep()?),
            Kind::Opens | Kind::Storm(_) => None,
        };
        let subjects = SUBJECTS
            .map(|who| Subject::new(who.name(), move || storm.measure(who, expected, &WAITS)))
            .into();
        let group = session.alternate(&storm.title(), &COLUMNS, subjects)?;
        let ours = Who::Ours.name();
        report.ratios.extend(group.figure(
            format!("{}: captured or recovered, %", storm.title()),
            "told_percent",
            ours,
            2,
            Target::AtLeast(100.0),
        ));
        let lossy = matches!(storm.wait, Wait::None);
        report.ratios.extend(group.ratio(
            format!("{}: callers' time, of that with auditd", storm.title()),
            "wall_ns",
            ours,
            Who::Auditd.name(),
            lossy.then_some(Target::AtMost(1.15)),
        ));
        report.ratios.extend(group.ratio(
            format!(
                "{}: callers' time, of that with a daemon that throws records away",
                storm.title()
            ),
            "wall_ns",
            ours,
            Who::Reader.name(),
            None,
        ));
        report.ratios.extend(group.ratio(
            format!("{}: user space, of auditd + laurel", storm.title()),
            "us_per_event",
            ours,
            Who::AuditdAndLaurel.name(),
            Some(Target::AtMost(0.5)),
        ));
        report.groups.push(group);
    }
    Ok(report)
}

fn storms(extent: Extent) -> Vec<Storm> {
    let opens = |makers, backlog, wait| Storm {
        backlog,
        wait,
        ..Storm::of_opens(makers)
    };
    let others = [
        (Kind::Storm("exec"), 2, 1_000),
        (Kind::Storm("connect"), 2, 10_000),
        (Kind::Storm("mixed"), 4, 1_500),
        (Kind::Grep, 1, 1),
    ];
    let others = others.map(|(kind, makers, count)| Storm {
        kind,
        makers,
        count,
        backlog: 8_192,
        wait: Wait::None,
        other_rules: 0,
    });
    let mut storms = match extent {
        Extent::Usual => vec![
            opens(2, 64, Wait::None),
            opens(2, 8_192, Wait::None),
            opens(2, 65_536, Wait::None),
            opens(2, 8_192, Wait::Default),
            opens(64, 8_192, Wait::None),
        ],
        Extent::Full => {
            let mut all = Vec::new();
            for wait in [Wait::None, Wait::Default] {
                for backlog in [64, 8_192, 65_536] {
                    all.extend([1, 2, 8, 64].map(|makers| opens(makers, backlog, wait)));
                }
            }
            all
        }
    };
    storms.extend(others);
    storms
}

impl Storm {
    fn title(&self) -> String {
        let what = match self.kind {
            Kind::Opens => format!("{} × {} openat", self.makers, self.count),
            Kind::Storm(kind) => format!("{} × {} {kind}", self.makers, self.count),
            Kind::Grep => "grep -r /usr/include".into(),
        };
        let wait = match self.wait {
            Wait::None => "wait 0",
            Wait::Default => "default wait",
        };
        format!("{what}, backlog {}, {wait}", self.backlog)
    }

    /// `makers` that open 40,000 times in all, at the kernel's usual backlog limit; nobody waits.
    pub(crate) fn of_opens(makers: u32) -> Self {
        Self {
            kind: Kind::Opens,
            makers,
            count: 40_000 / makers,
            backlog: 8_192,
            wait: Wait::None,
            other_rules: 0,
        }
    }

    /// The same with so many rules about openat of other users before the one that reports the calls.
    pub(crate) fn behind_rules(self, other_rules: u32) -> Self {
        Self {
            other_rules,
            ..self
        }
    }

    /// One turn of `who`, the collector with `flags` besides. `expected` are the calls of makers that do not count them.
    pub(crate) fn measure(
        &self,
        who: Who,
        expected: Option<u64>,
        flags: &[&str],
    ) -> anyhow::Result<Sample> {
        let mut guard = AuditGuard::take()?;
        if who == Who::Nobody {
            guard.set(&StatusChange {
                enabled: Some(0),
                ..StatusChange::default()
            })?;
        } else {
            self.prepare(&mut guard)?;
        }
        let mut taker = Taker::start(who, flags)?;
        let made = self.make(expected, || taker.used())?;
        let calls = made.calls;
        taker.drain(&mut guard, calls)?;
        let mut sample = Sample::from([
            (
                "wall_ns",
                made.wall.as_nanos() as f64 / (calls as f64 / f64::from(self.makers)),
            ),
            ("cpu_ns", made.processor_seconds / calls as f64 * 1e9),
        ]);
        if who != Who::Nobody {
            let came = taker.came()?;
            let told = came.captured + came.given_back;
            taker.used()?.since(made.before).tell(came, &mut sample);
            sample.extend([
                ("expected", calls as f64),
                ("captured", came.captured as f64),
                ("lost", calls as f64 - told as f64),
                ("told_percent", told as f64 / calls as f64 * 100.0),
                ("peak_mib", taker.peak_mib()?),
            ]);
            if who == Who::Ours {
                sample.insert("given_back", came.given_back as f64);
            }
        }
        taker.stop()?;
        Ok(sample)
    }

    /// Rules and settings, until the guard is dropped.
    fn prepare(&self, guard: &mut AuditGuard) -> anyhow::Result<()> {
        for rule in rules_of_nobodies(self.other_rules) {
            guard.add_rule(&rule)?;
        }
        match self.kind {
            Kind::Storm(_) => {
                for rule in storm::rules(UID) {
                    guard.add_rule(&rule)?;
                }
            }
            Kind::Opens | Kind::Grep => {
                guard.add_rule(&rule_for(UID, Arch::NATIVE, &["openat"], "bench"))?;
            }
        }
        guard.enable()?;
        guard.set(&StatusChange {
            backlog_limit: Some(self.backlog),
            backlog_wait_time: match self.wait {
                Wait::None => Some(0),
                Wait::Default => None,
            },
            ..StatusChange::default()
        })
    }
}

/// What the makers did.
struct Made {
    calls: u64,
    wall: Duration,
    processor_seconds: f64,
    /// What the programs had used before.
    before: Used,
}

impl Storm {
    /// Has the calls made; `used` is asked right before.
    fn make(
        &self,
        expected: Option<u64>,
        used: impl FnOnce() -> anyhow::Result<Used>,
    ) -> anyhow::Result<Made> {
        let (makers, count) = (self.makers.to_string(), self.count.to_string());
        let folder = tempfile::tempdir()?;
        chown(folder.path(), Some(UID), Some(UID))?;
        let files = folder.path().display().to_string();
        let grep = find_program("grep").context("grep is not installed")?;
        let grep = grep.display().to_string();
        let arguments: Vec<&str> = match self.kind {
            Kind::Opens => vec!["open", "--processes", &makers, "--count", &count],
            Kind::Storm(kind) => vec![
                "storm",
                kind,
                "--n-makers",
                &makers,
                "--count",
                &count,
                "--folder",
                &files,
            ],
            Kind::Grep => [&["become", "--", &grep], &SEARCH[..]].concat(),
        };
        let held = Held::start(UID, &arguments)?;
        // Until it has become the user and waits.
        thread::sleep(Duration::from_millis(100));
        let before = used()?;
        let (began, processor) = (Instant::now(), usage::children_seconds()?);
        let running = held.go();
        let calls = match (self.kind, expected) {
            (Kind::Opens, _) => running.finish()?.calls,
            (Kind::Storm(_), _) => running.journal()?.calls.len() as u64,
            (Kind::Grep, expected) => {
                // Nothing is found, as grep says by its exit code.
                ensure!(running.exit_code()? == Some(1), "grep failed");
                expected.context("nobody counted the calls")?
            }
        };
        Ok(Made {
            calls,
            wall: began.elapsed(),
            processor_seconds: usage::children_seconds()? - processor,
            before,
        })
    }
}

/// What grep looks for, and where.
const SEARCH: [&str; 3] = ["-r", "no file has this text", "/usr/include"];

/// How many files grep opens by `openat`, those included that its start takes, as strace sees it. As the makers' user, whom the dynamic loader
/// finds other directories closed to than root.
fn opens_of_grep() -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let trace = folder.path().join("trace");
    let status = Command::new(find_program("strace").context("strace is not installed")?)
        .args(["-qq", "-e", "trace=openat,execve", "-o"])
        .arg(&trace)
        .arg(built_folder().join("workload"))
        .args(["--uid", &UID.to_string(), "become", "--"])
        .arg(find_program("grep").context("grep is not installed")?)
        .args(SEARCH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run strace")?;
    ensure!(status.code() == Some(1), "grep ended with {status}");
    let text = fs::read_to_string(trace)?;
    let calls = text.lines().rev();
    let of_grep = calls.take_while(|line| !line.starts_with("execve("));
    Ok(of_grep.filter(|line| line.contains(" = ")).count() as u64)
}
