//! `cargo xtask vm`: the tests on the kernel, on other kernels, each in a virtual machine.
//!
//! qemu emulates the processor, so neither KVM nor root is needed, and everything takes some ten times as long. The
//! machine has no disk: programs and tests come with the kernel as its first file system.

mod cpio;
mod image;
mod machine;
mod results;
mod suite;

use std::ffi::OsString;
use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::{Value, json};

use self::image::Image;
use self::machine::{Machine, Pace};
use self::results::{Failed, Progress};
use self::suite::Suite;
use crate::setup::{self, Emulator, KERNEL_SERIES};
use crate::{step, workspace};

pub(crate) use self::results::Results;
pub(crate) use self::suite::Test;

/// How long one test may take there where nothing else is said.
const TIME_LIMIT_S: u64 = 300;

/// How much longer than that a machine may say nothing: it watches the time of its tests itself.
const MORE_SILENCE: Duration = Duration::from_secs(100);

/// What tests read of this program's environment: how much they are to do.
const VARIABLES: [&str; 2] = ["AUDIT_COLLECTOR_STORM", "AUDIT_COLLECTOR_ORDINARY_SECONDS"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel: 6.1, 6.12 or 7.2 (Debian's, fetched once), or the path of an image; several may be given
    #[arg(long = "kernel", value_name = "SERIES|PATH")]
    kernels: Vec<String>,
    /// Boot with audit=1
    #[arg(long)]
    audit_on: bool,
    /// Boot with lockdown=confidentiality
    #[arg(long)]
    lockdown: bool,
    /// Have the clock go by the instructions of one processor, for what programs cost
    #[arg(long)]
    count_instructions: bool,
    /// How long one test may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT_S)]
    time_limit: u64,
    /// Print what tests say that pass, too
    #[arg(long)]
    show_output: bool,
    /// Run only the programs of this name (tests/tests/NAME.rs), or the tests whose name contains this
    filters: Vec<String>,
}

/// What is set on the kernel's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootOption {
    /// Auditing on from the first process on.
    AuditOn,
    /// What could read or change the kernel's memory is refused, root's BPF programs included.
    Lockdown,
    /// Nothing to the kernel; it tells programs that the clock counts instructions.
    CountInstructions,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let series = KERNEL_SERIES.map(|(series, _)| series.to_owned());
    let kernels = match arguments.kernels.as_slice() {
        [] => &series,
        kernels => kernels,
    };
    let mut options = Vec::new();
    if arguments.audit_on {
        options.push(BootOption::AuditOn);
    }
    if arguments.lockdown {
        options.push(BootOption::Lockdown);
    }
    if arguments.count_instructions {
        options.push(BootOption::CountInstructions);
    }
    setup::for_build()?;
    setup::for_tests();
    let began = Instant::now();
    let chosen = |test: &Test| {
        arguments.filters.is_empty() || arguments.filters.iter().any(|filter| test.matches(filter))
    };
    let jobs: Vec<Job<'_>> = kernels
        .iter()
        .map(|kernel| Job {
            kernel,
            options: &options,
            chosen: &chosen,
        })
        .collect();
    let mut machines = Machines::prepare()?;
    machines.time_limit_s = arguments.time_limit;
    machines.show_output = arguments.show_output;
    let results = machines.run(&jobs)?;
    println!();
    println!("ran for {}", step::words(began.elapsed()));
    for failed in &results.failed {
        println!("failed: {failed}");
    }
    for line in &results.could_not_run {
        println!("could not run: {}", line.replacen('\t', ": ", 1));
    }
    println!(
        "{} passed, {} failed",
        results.passed.len(),
        results.failed.len()
    );
    Ok(if results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The kernel for what need not run on all.
const MIDDLE: &str = KERNEL_SERIES[1].0;

/// What `cargo xtask test` runs on every kernel besides what this machine's cannot do: whether the programs load there
/// and see what they should, one loss of each kind, and a storm.
const CHOICE: [&str; 10] = [
    "harness",
    "a_32_bit_call_is_told_from_the_64_bit_one_of_the_same_number",
    "a_rate_limit_loses_nothing_for_good",
    "a_storm_of_opens_with_hardly_any_backlog_comes_out_whole",
    "an_execve_comes_with_its_arguments_and_an_exit_group_without_result",
    "an_openat_comes_with_everything_around_it",
    "an_overrun_by_multicast_is_counted_to_the_record",
    "connects_come_with_their_addresses",
    "every_call_of_many_threads_comes_once",
    "long_paths_come_whole_and_unreadable_ones_are_counted",
];

/// The programs whose tests it runs on one of them where auditing is on from the start, and where lockdown is.
const CHOICE_WITH_OPTIONS: [&str; 2] = ["commands", "sockets"];

/// What it runs besides where auditing is on from the start, as the kernel then keeps records for a daemon to come.
const KEPT_RECORDS: [&str; 2] = [
    "what_a_stopped_daemon_loses_comes_back_to_the_byte",
    "what_is_kept_for_a_daemon_to_come_and_what_is_lost_is_all_there_was",
];

/// Runs the choice, and the tests of these names, on each kernel.
pub(crate) fn run_choice(names: &[String]) -> anyhow::Result<Results> {
    let plain = |test: &Test| {
        names.contains(&test.name) || CHOICE.iter().any(|filter| test.matches(filter))
    };
    let with_option = |test: &Test| CHOICE_WITH_OPTIONS.contains(&test.program.as_str());
    let with_audit_on =
        |test: &Test| with_option(test) || KEPT_RECORDS.contains(&test.name.as_str());
    let mut jobs: Vec<Job<'_>> = KERNEL_SERIES
        .iter()
        .map(|(series, _)| Job {
            kernel: series,
            options: &[],
            chosen: &plain,
        })
        .collect();
    jobs.extend([
        Job {
            kernel: MIDDLE,
            options: &[BootOption::AuditOn],
            chosen: &with_audit_on,
        },
        Job {
            kernel: MIDDLE,
            options: &[BootOption::Lockdown],
            chosen: &with_option,
        },
    ]);
    let machines = Machines::prepare()?;
    let mut results = machines.run(&jobs)?;
    machines.run_again(&jobs, &mut results)?;
    Ok(results)
}

/// Runs the tests of these names on one kernel.
pub(crate) fn run_named(names: &[String]) -> anyhow::Result<Results> {
    Machines::prepare()?.run(&[Job {
        kernel: MIDDLE,
        options: &[],
        chosen: &|test| names.contains(&test.name),
    }])
}

/// Tests to run on one kernel.
pub(crate) struct Job<'a> {
    kernel: &'a str,
    options: &'a [BootOption],
    chosen: &'a (dyn Fn(&Test) -> bool + Sync),
}

impl Job<'_> {
    fn words(&self) -> Vec<&'static str> {
        self.options.iter().map(|option| option.word()).collect()
    }

    /// The kernel and what it is booted with.
    fn label(&self) -> String {
        let kernel = self.kernel.rsplit('/').next().unwrap_or(self.kernel);
        [&[kernel], &self.words()[..]].concat().join(" ")
    }
}

/// All that virtual machines share.
pub(crate) struct Machines {
    emulator: Emulator,
    suite: Suite,
    folder: PathBuf,
    /// How long one test may take.
    time_limit_s: u64,
    /// Whether what passed tests said is printed.
    show_output: bool,
    /// Held while machines may run: those of another run would write the same files, and slow these down.
    _lock: File,
}

impl Machines {
    /// Fetches qemu where the machine has none, and builds the tests.
    pub(crate) fn prepare() -> anyhow::Result<Self> {
        let folder = workspace::fetched().join("vm");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join("lock");
        let lock =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if lock.try_lock().is_err() {
            step::announce("waiting for the virtual machines of another run to end");
            lock.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Self {
            emulator: Emulator::ensure()?,
            suite: Suite::build()?,
            folder,
            time_limit_s: TIME_LIMIT_S,
            show_output: false,
            _lock: lock,
        })
    }

    /// Does all jobs, as many at a time as this machine can emulate without one taking time from another: what takes
    /// long in them, the kernel's verifier, keeps one processor busy.
    pub(crate) fn run(&self, jobs: &[Job<'_>]) -> anyhow::Result<Results> {
        // One after the other, as fetching takes the package manager's lock.
        let images = jobs
            .iter()
            .map(|job| setup::kernel_image(job.kernel))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut results = Results::default();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((job, image)) = jobs.get(index).zip(images.get(index)) else {
                    return Ok(results);
                };
                results.add(self.run_job(job, image)?);
            }
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..workers.min(jobs.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let mut results = Results::default();
            for worker in running {
                let done: anyhow::Result<Results> = worker
                    .join()
                    .map_err(|_| anyhow!("running a virtual machine panicked"))?;
                results.add(done?);
            }
            Ok(results)
        })
    }

    /// Runs what failed once more, one machine at a time. An emulated processor stands still while this machine's does something
    /// else, for longer than any real one. That may as well show a race that is in what they test, so what passed only then is named.
    fn run_again(&self, jobs: &[Job<'_>], results: &mut Results) -> anyhow::Result<()> {
        let failed = std::mem::take(&mut results.failed);
        for job in jobs {
            let label = job.label();
            let of_job = |failed: &&Failed| failed.machine == label;
            let names: Vec<_> = failed.iter().filter(of_job).map(|one| &one.name).collect();
            if names.is_empty() {
                continue;
            }
            step::announce(&format!("Linux {label}: what failed runs again, alone"));
            let again = self.run(&[Job {
                chosen: &|test| (job.chosen)(test) && names.contains(&&test.name),
                ..*job
            }])?;
            results.passed_alone.extend(again.passed.iter().cloned());
            results.add(again);
        }
        Ok(())
    }

    /// What lasts until reboot gets a machine of its own each, all others share one.
    fn run_job(&self, job: &Job<'_>, kernel_image: &Path) -> anyhow::Result<Results> {
        let (apart, together): (Vec<&Test>, Vec<&Test>) = self
            .suite
            .tests
            .iter()
            .filter(|test| (job.chosen)(test))
            .partition(|test| test.lasts_until_reboot());
        let boots = std::iter::once(together)
            .chain(apart.into_iter().map(|test| vec![test]))
            .filter(|tests| !tests.is_empty());
        let mut results = Results::default();
        for tests in boots {
            self.boot(job, kernel_image, &tests, &mut results)?;
        }
        ensure!(
            !(results.passed.is_empty()
                && results.failed.is_empty()
                && results.could_not_run.is_empty()),
            "no test is chosen"
        );
        Ok(results)
    }

    fn boot(
        &self,
        job: &Job<'_>,
        kernel_image: &Path,
        tests: &[&Test],
        results: &mut Results,
    ) -> anyhow::Result<()> {
        let words = job.words();
        let label = job.label();
        let file_name = label.replace(' ', "-");
        let image = self.folder.join(format!("initramfs-{file_name}"));
        let machine = Machine {
            emulator: &self.emulator,
            kernel: kernel_image,
            image: &image,
            options: &words,
            silence: Duration::from_secs(self.time_limit_s) + MORE_SILENCE,
            pace: if job.options.contains(&BootOption::CountInstructions) {
                Pace::Instructions
            } else {
                Pace::Time
            },
            console: self.folder.join(format!("console-{file_name}")),
        };
        self.write_image(&image, tests)?;
        step::announce(&format!("Linux {label}: {} test(s)", tests.len()));
        let mut progress = Progress {
            label,
            tests,
            reported: vec![false; tests.len()],
            error: None,
            results,
        };
        let ran = machine.run(|message| progress.take(message));
        let _ = fs::remove_file(&image); // Of little use, and large.
        if let Some(error) = progress.error.take() {
            bail!("in the virtual machine: {error}");
        }
        progress.finish(ran, &machine);
        Ok(())
    }

    /// Writes the first file system of a machine that runs `tests`.
    fn write_image(&self, path: &Path, tests: &[&Test]) -> anyhow::Result<()> {
        let environment = setup::test_tools_environment()?;
        let mut image = Image::begin(path, environment.clone())?;
        for program in &self.suite.programs {
            let place = match program.name.as_str() {
                "vm_init" => "init".to_owned(),
                // Where tests look for it: one folder above their own.
                name => format!("suite/{name}"),
            };
            image.built_program(&program.path, &place)?;
        }
        let mut planned = Vec::new();
        for test in tests {
            let program = self
                .suite
                .test_programs
                .iter()
                .find(|program| program.name == test.program)
                .with_context(|| format!("cargo built no test program {}", test.program))?;
            let place = format!("suite/deps/{}", program.name);
            if !image.holds(&place) {
                image.built_program(&program.path, &place)?;
            }
            planned.push(json!({
                "program": format!("/{place}"),
                "name": test.name,
                "folder": program.package,
            }));
        }
        let given = VARIABLES.map(|name| std::env::var_os(name).map(|value| (name, value)));
        let environment: serde_json::Map<String, Value> = environment
            .into_iter()
            .chain([("HOME", OsString::from("/root"))])
            .chain(given.into_iter().flatten())
            .map(|(name, value)| (name.to_owned(), value.to_string_lossy().into()))
            .collect();
        let plan = json!({
            "environment": environment,
            "time_limit_s": self.time_limit_s,
            "show_output": self.show_output,
            "tests": planned,
        });
        image.file("plan", plan.to_string().as_bytes())?;
        image.finish()
    }
}

impl BootOption {
    /// As it stands on the kernel's command line.
    fn word(self) -> &'static str {
        match self {
            Self::AuditOn => "audit=1",
            Self::Lockdown => "lockdown=confidentiality",
            Self::CountInstructions => "audit_collector.instructions",
        }
    }
}
