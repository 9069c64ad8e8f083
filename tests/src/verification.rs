//! `audit-collector verify` while something else runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;

use crate::requirement::patience;

/// How long it may take to start, or to end.
const TIME: Duration = Duration::from_secs(30);

/// One that runs.
#[derive(Debug)]
pub struct Verification {
    child: Child,
    folder: TempDir,
}

/// What it found.
#[derive(Debug, Deserialize)]
pub struct Table {
    /// Events compared.
    pub events: u64,
    /// Runs of programs that the kernel skipped meanwhile.
    pub missed_runs: u64,
    /// The fields compared.
    pub fields: Vec<Row>,
}

/// One field.
#[derive(Debug, Deserialize)]
pub struct Row {
    /// The record's type.
    pub record: String,
    /// The field's name.
    pub field: String,
    /// Times it was compared.
    pub compared: u64,
    /// Times it was the same.
    pub identical: u64,
    /// Times it was unknown.
    pub unknown: u64,
    /// Times it was wrong.
    pub wrong: u64,
    /// The first time it was.
    pub example: Option<serde_json::Value>,
}

impl Verification {
    /// Starts `audit-collector verify ARGUMENTS` and waits until it collects.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = Command::new(crate::built_folder().join("audit-collector"))
            .args(["verify", "--json", "--seconds=3600"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("table"))?)
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()
            .context("cannot run the collector")?;
        let mut verification = Self { child, folder };
        let began = Instant::now();
        while !verification.stderr().contains(" on Linux ") {
            if let Some(status) = verification.child.try_wait()? {
                bail!("it ended with {status}: {}", verification.stderr());
            }
            ensure!(
                began.elapsed() < patience(TIME),
                "it does not start: {}",
                verification.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(verification)
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Ends it and reads what it found.
    ///
    /// # Errors
    /// Where it does not end well, with what it said.
    pub fn finish(mut self) -> anyhow::Result<Table> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                began.elapsed() < patience(TIME),
                "it does not end: {}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        };
        ensure!(
            status.success(),
            "it ended with {status}: {}",
            self.stderr()
        );
        let table = fs::read(self.folder.path().join("table"))?;
        serde_json::from_slice(&table).context("the table cannot be read")
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        // Only where a test ended early. SIGTERM first, so that it puts the kernel's settings back.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
            thread::sleep(Duration::from_secs(3));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Table {
    /// What was wrong, by record and field.
    pub fn wrong(&self) -> BTreeMap<(&str, &str), &Row> {
        let wrong = self.fields.iter().filter(|row| row.wrong > 0);
        wrong
            .map(|row| ((row.record.as_str(), row.field.as_str()), row))
            .collect()
    }

    /// How many fields were compared, identical and unknown.
    pub fn sums(&self) -> [u64; 3] {
        let sum = |of: fn(&Row) -> u64| self.fields.iter().map(of).sum();
        [
            sum(|row| row.compared),
            sum(|row| row.identical),
            sum(|row| row.unknown),
        ]
    }

    /// The row of a field.
    pub fn row(&self, record: &str, field: &str) -> Option<&Row> {
        let mut rows = self.fields.iter();
        rows.find(|row| row.record == record && row.field == field)
    }
}
