//! The calls that tests count, made by a process of its own as a user of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::Journal;

/// What the workload did, as it prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Calls made, of those the workload's command is about.
    pub calls: u64,
    /// How often each result came; 0 stands for success, else the errno. Not known of calls made in children.
    pub results: BTreeMap<i32, u64>,
    /// The processes that made them.
    pub pids: Vec<u32>,
    /// The CPU time of the process that they took, in ns; only of `open` in one process.
    pub cpu_ns: u64,
}

impl Report {
    /// Counts one call.
    pub fn add<T>(&mut self, result: &std::io::Result<T>) {
        let errno = match result {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(-1),
        };
        self.calls += 1;
        *self.results.entry(errno).or_default() += 1;
    }
}

/// Runs `workload ARGUMENTS` as user and group `uid` and waits for its end. `uid` should be no other user's.
///
/// # Errors
/// Where it cannot run or does not do all it should.
pub fn run<A: AsRef<OsStr>>(uid: u32, arguments: &[A]) -> anyhow::Result<Report> {
    start(uid, arguments)?.finish()
}

/// A workload that runs. Its process is ended where nobody waits for its end; those that it forked are not.
#[derive(Debug)]
pub struct Running(std::process::Child);

/// A workload that has begun and makes its calls when it is let go.
#[derive(Debug)]
pub struct Held(Running);

impl Held {
    /// Starts as [`start`] does.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start<A: AsRef<OsStr>>(uid: u32, arguments: &[A]) -> anyhow::Result<Self> {
        let held = [OsStr::new("--held")].into_iter();
        let arguments: Vec<&OsStr> = held.chain(arguments.iter().map(AsRef::as_ref)).collect();
        spawn(uid, &arguments, Stdio::piped()).map(Self)
    }

    /// Lets it go.
    pub fn go(mut self) -> Running {
        drop(self.0.0.stdin.take());
        self.0
    }
}

/// Starts `workload ARGUMENTS` as user and group `uid`.
///
/// # Errors
/// Where it cannot be started.
pub fn start<A: AsRef<OsStr>>(uid: u32, arguments: &[A]) -> anyhow::Result<Running> {
    spawn(uid, arguments, Stdio::null())
}

fn spawn<A: AsRef<OsStr>>(uid: u32, arguments: &[A], stdin: Stdio) -> anyhow::Result<Running> {
    let program = crate::built_folder().join("workload");
    // It starts as root and becomes the user itself: the user may not be able to reach the program.
    Command::new(&program)
        .arg("--uid")
        .arg(uid.to_string())
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))
        .map(Running)
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it did not do all it should.
    pub fn finish(self) -> anyhow::Result<Report> {
        self.report()
    }

    /// Waits for its end, where it is a storm.
    ///
    /// # Errors
    /// Where it did not do all it should.
    pub fn journal(self) -> anyhow::Result<Journal> {
        self.report()
    }

    /// Waits for its end, where it takes times, and returns them in ns.
    ///
    /// # Errors
    /// Where it did not do all it should.
    pub fn times(self) -> anyhow::Result<Vec<u64>> {
        self.report()
    }

    /// Waits for its end, where it becomes a program that reports nothing, and returns the exit code.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn exit_code(mut self) -> anyhow::Result<Option<i32>> {
        Ok(self.0.wait()?.code())
    }

    fn report<T: DeserializeOwned>(mut self) -> anyhow::Result<T> {
        let mut report = Vec::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_end(&mut report)?;
        }
        let status = self.0.wait()?;
        ensure!(status.success(), "the workload ended with {status}");
        serde_json::from_slice(&report).context("the workload's report cannot be read")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only where a test ended early.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
