//! The collector under test: the real program, its output in a file, its metrics on a port of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::balance::{self, Balance};
use crate::exposition::{self, Answer, Samples};
use crate::requirement::patience;
use crate::stream::Stream;

/// How long nothing is settled before nothing more is expected to be.
const QUIET: Duration = Duration::from_secs(10);

/// How long the collector may take to say that it has started: loading BPF programs takes the verifier a while.
const START_TIME: Duration = Duration::from_secs(30);

/// How long it may take to end after a signal; the issue's own figure.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// A collector that runs.
#[derive(Debug)]
pub struct Collector {
    child: Child,
    address: SocketAddr,
    output: PathBuf,
    stderr: PathBuf,
    folder: TempDir,
}

/// What a collector left behind.
#[derive(Debug)]
pub struct Finished {
    /// The stream, where it was JSON.
    pub stream: Stream,
    /// The output as it lies in the file.
    pub output: Vec<u8>,
    /// What it said on stderr.
    pub stderr: String,
    /// How long it took from the signal to its end.
    pub took: Duration,
}

impl Collector {
    /// Starts `audit-collector run ARGUMENTS` and waits until it says that it has started. Output and metrics go to
    /// places of this collector's own.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut collector = Self::spawn(arguments)?;
        collector.wait_until_started()?;
        Ok(collector)
    }

    /// [`Collector::start`] without waiting.
    ///
    /// # Errors
    /// Where the program cannot be run.
    pub fn spawn(arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("events");
        Self::spawn_in(folder, output, arguments)
    }

    /// [`Collector::start`] with the events in a file of the caller's.
    ///
    /// # Errors
    /// Where it does not start, with what it said.
    pub fn start_writing_to(output: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut collector = Self::spawn_in(tempfile::tempdir()?, output.to_owned(), arguments)?;
        collector.wait_until_started()?;
        Ok(collector)
    }

    fn spawn_in(folder: TempDir, output: PathBuf, arguments: &[&str]) -> anyhow::Result<Self> {
        let stderr = folder.path().join("stderr");
        let address = free_address()?;
        let child = command()
            .arg("run")
            .arg(format!("--output={}", output.display()))
            .arg(format!("--web.listen-address={address}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .context("cannot run the collector")?;
        Ok(Self {
            child,
            address,
            output,
            stderr,
            folder,
        })
    }

    fn wait_until_started(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < patience(START_TIME) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the collector ended with {status}: {}", self.stderr());
            }
            if self.stream().states("started").next().is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "the collector did not start within {START_TIME:?}: {}",
            self.stderr()
        )
    }

    /// Waits until its HTTP server says that it is ready.
    ///
    /// # Errors
    /// Where it does not within the time a start may take.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < patience(START_TIME) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the collector ended with {status}: {}", self.stderr());
            }
            if self
                .get("/-/ready")
                .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("the collector is not ready: {}", self.stderr())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the events go.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// A folder that goes when the collector does.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The lines so far.
    pub fn stream(&self) -> Stream {
        // Absent until the first line.
        Stream::parse(&fs::read(&self.output).unwrap_or_default())
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// An answer of its HTTP server.
    ///
    /// # Errors
    /// Where there is none.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        exposition::get(self.address, path)
    }

    /// Its metrics, in which every identity of the account must hold.
    ///
    /// # Errors
    /// Where they cannot be had, or an identity does not hold.
    pub fn metrics(&self) -> anyhow::Result<Samples> {
        let answer = self.get("/metrics")?;
        ensure!(answer.status == 200, "/metrics answers {}", answer.status);
        let metrics = Samples::parse(&answer.body)?;
        let broken = balance::broken_identities(&metrics);
        ensure!(broken.is_empty(), "identities are broken: {broken:?}");
        Ok(metrics)
    }

    /// Waits until `expected` events are settled and none is pending, at most `time`, and returns the metrics then. Calls
    /// that programs missed are not waited for, once nothing has been settled for a while.
    ///
    /// # Errors
    /// Where that does not come about, with the last account line.
    pub fn settle(&mut self, expected: u64, time: Duration) -> anyhow::Result<Samples> {
        let began = Instant::now();
        let mut last = (0, began);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the collector ended with {status}: {}", self.stderr());
            }
            let metrics = self.metrics()?;
            let settled = Balance::of_metrics(&metrics).settled();
            let pending = metrics.count("crosscheck_pending_events", &[]);
            if settled != last.0 {
                last = (settled, Instant::now());
            }
            let missed = metrics.missed_runs();
            let quiet = missed > 0 && last.1.elapsed() >= QUIET;
            let coming = if quiet {
                expected.saturating_sub(missed)
            } else {
                expected
            };
            if settled >= coming && pending == 0 {
                return Ok(metrics);
            }
            ensure!(
                began.elapsed() < time,
                "{settled} of {expected} events settled and {pending} pending after {time:?}: {}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends SIGTERM and waits for the end, which must come in time and with exit code 0.
    ///
    /// # Errors
    /// Where it does not, with what the collector said.
    pub fn stop(mut self) -> anyhow::Result<Finished> {
        let took = self.end()?;
        let output = fs::read(&self.output).unwrap_or_default();
        Ok(Finished {
            stream: Stream::parse(&output),
            output,
            stderr: self.stderr(),
            took,
        })
    }

    /// [`Collector::stop`] without a look at what it left behind; how long it took.
    ///
    /// # Errors
    /// As [`Collector::stop`].
    pub fn end(&mut self) -> anyhow::Result<Duration> {
        let (status, took) = self.end_with(Signal::SIGTERM)?;
        ensure!(
            status.success(),
            "the collector ended with {status}: {}",
            self.stderr()
        );
        Ok(took)
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// Where it does not end within [`STOP_TIME`], and a virtual machine's share of patience.
    pub fn end_with(&mut self, signal: Signal) -> anyhow::Result<(ExitStatus, Duration)> {
        let began = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .context("cannot signal the collector")?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, began.elapsed()));
            }
            ensure!(
                began.elapsed() < patience(STOP_TIME),
                "the collector lives {STOP_TIME:?} after {signal}: {}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Only where a test ended early. SIGTERM first, so that it puts the kernel's settings back.
        if matches!(self.child.try_wait(), Ok(None)) && self.end_with(Signal::SIGTERM).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process that does not run until this is dropped, in a panic too.
#[derive(Debug)]
pub struct Stopped(Pid);

impl Stopped {
    /// Stops process `pid`.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn new(pid: u32) -> anyhow::Result<Self> {
        let pid = Pid::from_raw(pid as i32);
        kill(pid, Signal::SIGSTOP).context("cannot stop the process")?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// A command of the collector's that goes on until it is ended, which dropping this does.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
    stdout: PathBuf,
    _folder: TempDir,
}

impl Watcher {
    /// Starts `audit-collector ARGUMENTS`.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let stdout = folder.path().join("stdout");
        let child = command()
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .spawn()
            .context("cannot run the collector")?;
        Ok(Self {
            child,
            stdout,
            _folder: folder,
        })
    }

    /// The last whole line so far.
    pub fn last_line(&self) -> Option<String> {
        let text = fs::read_to_string(&self.stdout).ok()?;
        let (whole, _) = text.rsplit_once('\n')?;
        whole.lines().last().map(str::to_owned)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of the collector that ends by itself left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it said on stderr.
    pub stderr: String,
}

/// Runs `audit-collector ARGUMENTS` to its end, at most `time`.
///
/// # Errors
/// Where it cannot be run or does not end.
pub fn run_to_end<A: Into<OsString> + Clone>(
    arguments: &[A],
    time: Duration,
) -> anyhow::Result<Ended> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let mut child = command()
        .args(arguments.iter().cloned().map(Into::into))
        .stdin(Stdio::null())
        .stdout(File::create(path("stdout"))?)
        .stderr(File::create(path("stderr"))?)
        .spawn()
        .context("cannot run the collector")?;
    let read = |name: &str| -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(path(name))?).into_owned())
    };
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended {
                code: status.code(),
                stdout: read("stdout")?,
                stderr: read("stderr")?,
            });
        }
        if began.elapsed() > time {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            thread::sleep(Duration::from_secs(1));
            let _ = child.kill();
            let _ = child.wait();
            bail!("it still ran after {time:?}: {}", read("stderr")?);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn command() -> Command {
    Command::new(crate::built_folder().join("audit-collector"))
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
