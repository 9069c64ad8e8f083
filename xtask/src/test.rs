//! `cargo xtask test`: every test, those on the real kernel included, and an account of what could not run.
//!
//! A kernel test that lacks something adds a line to the file that `REPORT_VARIABLE` names; with `CI=true` it fails
//! instead. What can only be done to a kernel that nobody needs afterwards is then done in virtual machines, and so is,
//! where all tests run, a choice of the others. The last line printed is `N passed, N failed`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::build::{Profile, build};
use crate::{setup, step, vm, workspace};

/// The file that tests which cannot run append to: the test's name, a tab, what is missing.
const REPORT_VARIABLE: &str = "AUDIT_COLLECTOR_COULD_NOT_RUN";

/// What a test says that needs a kernel of its own (tests/src/requirement.rs).
const NEEDS_MACHINE: &str = "needs a virtual machine (`cargo xtask vm`)";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only the end-to-end tests of this name (tests/tests/NAME), or the tests whose name contains this
    filter: Option<String>,
}

/// What came of all tests.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    could_not_run: Vec<String>,
    /// Tests in virtual machines that failed beside another machine, and passed when they ran again alone.
    passed_alone: Vec<String>,
    took: Duration,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    report(arguments.filter.as_deref())
}

/// `cargo xtask test NAME`.
pub(crate) fn one(name: &str) -> anyhow::Result<ExitCode> {
    report(Some(name))
}

fn report(filter: Option<&str>) -> anyhow::Result<ExitCode> {
    setup::for_tests();
    let tally = run(filter)?;
    tally.print();
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests; a failed test is in the tally, an error means that they could not be built or started.
pub(crate) fn run(filter: Option<&str>) -> anyhow::Result<Tally> {
    let began = Instant::now();
    setup::for_build()?;
    let end_to_end = filter.filter(|name| is_end_to_end(name));
    if end_to_end.is_some() {
        // They start this program, so it must be that of the sources under test. Cargo builds it by itself only together
        // with the tests of its own package, as below.
        build(Profile::Dev, &["audit-collector"])?;
    }
    let report = report_file();
    if report.exists() {
        fs::remove_file(&report).with_context(|| format!("cannot remove {}", report.display()))?;
    }

    let mut tally = Tally::default();
    let nextest = workspace::find_program("cargo-nextest").is_some();
    let mut cargo = workspace::cargo();
    if nextest {
        cargo.args(["nextest", "run", "--no-fail-fast", "--no-tests", "pass"]);
    } else {
        step::announce(
            "cargo-nextest is not installed: using cargo test, one program after the other",
        );
        cargo.args(["test", "--no-fail-fast"]);
    }
    match end_to_end {
        Some(name) => {
            cargo.args(["--package", "audit-collector-tests", "--test", name]);
        }
        None => {
            cargo.args(["--workspace", "--lib", "--bins", "--tests"]);
            cargo.args(filter);
        }
    }
    tally.add(cargo)?;

    // nextest runs no examples in documentation.
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--doc", "--quiet"]);
    cargo.args(filter);
    tally.add(cargo)?;

    tally.could_not_run = read_report()?;
    // Such a test returned early, which its runner takes for success.
    let early = tally.could_not_run.len() as u64;
    tally.passed = tally.passed.saturating_sub(early);
    tally.run_in_machines(filter);
    tally.took = began.elapsed();
    if tally.passed + tally.failed + early == 0 {
        bail!("no test matches {}", filter.unwrap_or("anything"));
    }
    Ok(tally)
}

impl Tally {
    /// Runs a test runner, showing its output, and adds what it sums up.
    fn add(&mut self, mut cargo: Command) -> anyhow::Result<()> {
        for (name, value) in setup::test_tools_environment()? {
            cargo.env(name, value);
        }
        cargo.env(REPORT_VARIABLE, report_file());
        // Both runners keep their summary line in one stream: nextest stderr, cargo test stdout.
        let mut child = cargo
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run cargo")?;
        let stdout = child.stdout.take().context("cargo has no stdout")?;
        let stderr = child.stderr.take().context("cargo has no stderr")?;
        let side = std::thread::spawn(move || relay(stderr, std::io::stderr()));
        let mut sums = relay(stdout, std::io::stdout())?;
        sums.extend(
            side.join()
                .map_err(|_| anyhow::anyhow!("reading cargo's stderr panicked"))??,
        );
        let status = child.wait().context("cannot wait for cargo")?;
        let failed = sums.iter().map(|sum| sum.failed).sum::<u64>();
        if !status.success() && failed == 0 {
            bail!("the tests did not run to their end ({status})");
        }
        self.passed += sums.iter().map(|sum| sum.passed).sum::<u64>();
        self.failed += failed;
        Ok(())
    }

    /// Runs in virtual machines what said that it needs one, and where all tests run the choice of others.
    fn run_in_machines(&mut self, filter: Option<&str>) {
        let deferred: Vec<String> = self
            .could_not_run
            .iter()
            .filter_map(|line| needs_machine(line).map(str::to_owned))
            .collect();
        let ran = match filter {
            None => vm::run_choice(&deferred),
            Some(_) if deferred.is_empty() => return,
            Some(_) => vm::run_named(&deferred),
        };
        match ran {
            Ok(results) => {
                self.could_not_run
                    .retain(|line| needs_machine(line).is_none_or(|test| !results.include(test)));
                self.passed += results.passed.len() as u64;
                self.failed += results.failed.len() as u64;
                self.could_not_run.extend(results.could_not_run);
                self.passed_alone = results.passed_alone;
            }
            Err(error) => self.could_not_run.push(format!("other kernels\t{error:#}")),
        }
        // As other tests do by themselves.
        if std::env::var("CI").as_deref() == Ok("true") {
            let left = self.could_not_run.iter();
            self.failed += left.filter(|line| needs_machine(line).is_some()).count() as u64;
        }
    }

    /// The account, `N passed, N failed` in its last line.
    pub(crate) fn print(&self) {
        println!();
        println!(
            "ran {} tests in {}",
            self.passed + self.failed,
            step::words(self.took)
        );
        if self.could_not_run.is_empty() {
            println!("could not run: none");
        } else {
            println!("could not run: {}", self.could_not_run.len());
            for line in &self.could_not_run {
                println!("  {}", line.replacen('\t', ": ", 1));
            }
        }
        if !self.passed_alone.is_empty() {
            println!("passed only when run again alone:");
            for test in &self.passed_alone {
                println!("  {test}");
            }
        }
        println!("{} passed, {} failed", self.passed, self.failed);
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }
}

/// The test's name, where a line of the report says that it needs a virtual machine.
fn needs_machine(line: &str) -> Option<&str> {
    line.split_once('\t')
        .filter(|(_, missing)| missing.ends_with(NEEDS_MACHINE))
        .map(|(test, _)| test)
}

/// Whether there is a program of end-to-end tests of this name.
fn is_end_to_end(name: &str) -> bool {
    let test = workspace::root().join("tests/tests").join(name);
    test.join("main.rs").is_file() || test.with_extension("rs").is_file()
}

fn report_file() -> PathBuf {
    workspace::built().join("could-not-run.tsv")
}

fn read_report() -> anyhow::Result<Vec<String>> {
    let path = report_file();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let lines: BTreeSet<_> = text.lines().map(str::to_owned).collect();
    Ok(lines.into_iter().collect())
}

/// What one summary line of a test runner says.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

/// Copies `from` to `to` line by line and picks out the summary lines.
fn relay(from: impl std::io::Read, mut to: impl std::io::Write) -> anyhow::Result<Vec<Sum>> {
    let mut sums = Vec::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .context("cannot read from cargo")?
        > 0
    {
        to.write_all(&line)?;
        to.flush()?;
        sums.extend(summary(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(sums)
}

/// Reads `test result: ok. 3 passed; 1 failed; …` and `Summary [ 1.2s] 4 tests run: 3 passed (1 slow), 1 failed, …`.
fn summary(line: &str) -> Option<Sum> {
    // Not indented: nextest shows the output of failed tests indented, which has such a line for each of them.
    let figures = match line.strip_prefix("test result: ") {
        Some(rest) => rest,
        None => {
            let (head, figures) = line.split_once(" run: ")?;
            if !head.trim_start().starts_with("Summary [") {
                return None;
            }
            figures
        }
    };
    let count = |words: &[&str]| -> u64 {
        figures
            .split([',', ';', '.'])
            .filter_map(|part| {
                let (number, word) = part.trim().split_once(' ')?;
                let word = word.split(' ').next()?;
                words.contains(&word).then(|| number.parse::<u64>().ok())?
            })
            .sum()
    };
    Some(Sum {
        passed: count(&["passed"]),
        // nextest tells apart how a test failed.
        failed: count(&["failed", "timed", "exec"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_summaries_are_read() {
        assert_eq!(
            summary(
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n"
            ),
            Some(Sum {
                passed: 3,
                failed: 2
            })
        );
        assert_eq!(
            summary(
                "     Summary [   0.512s] 12 tests run: 9 passed (2 slow), 2 failed, 1 timed out, 0 skipped\n"
            ),
            Some(Sum {
                passed: 9,
                failed: 3
            })
        );
        assert_eq!(
            summary("     Summary [   0.512s] 5/12 tests run: 4 passed, 1 failed, 3 skipped\n"),
            Some(Sum {
                passed: 4,
                failed: 1
            })
        );
    }

    #[test]
    fn what_needs_a_machine_is_told_from_what_lacks_something() {
        assert_eq!(
            needs_machine(&format!("a::b\t{NEEDS_MACHINE}")),
            Some("a::b")
        );
        assert_eq!(
            needs_machine(&format!("a\trefused; {NEEDS_MACHINE}")),
            Some("a")
        );
        assert_eq!(needs_machine("a\tauditctl is not installed"), None);
    }

    #[test]
    fn other_lines_are_no_summaries() {
        assert_eq!(summary("running 3 tests\n"), None);
        assert_eq!(summary("the test run: 3 passed\n"), None);
        assert_eq!(
            summary("    test result: FAILED. 0 passed; 1 failed; 0 ignored\n"),
            None
        );
    }
}
