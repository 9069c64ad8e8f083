//! One virtual machine from start to end: qemu without hardware support, the kernel's messages in a file, the results of
//! the tests as lines of JSON on a serial line of their own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::setup::Emulator;

/// How long a machine may live.
const LIFE: Duration = Duration::from_secs(90 * 60);

/// MiB of memory: the programs lie in it twice while the kernel unpacks them.
const MEMORY: &str = "2048";

/// Emulation, of both processors by one thread in turn. With a thread for each, kernels died of a breakpoint that they had set
/// to patch their code and taken away again ("Oops: int3"), more often on a busy machine; with one thread none has. Probably one processor
/// translates such code anew between the other's dropping of the old translation and its write, so that what was there before is run
/// for good. With two machines at a time, as tests run, this is no slower.
const ACCELERATOR: &str = "tcg,thread=single";

/// What to start.
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) kernel: &'a Path,
    pub(super) image: &'a Path,
    /// Added to the kernel's command line.
    pub(super) options: &'a [&'static str],
    /// How long it may say nothing.
    pub(super) silence: Duration,
    /// What its clock goes by.
    pub(super) pace: Pace,
    /// Where the kernel's messages go.
    pub(super) console: PathBuf,
}

/// What a machine's clock goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The time of this machine; there are two processors.
    Time,
    /// One ns for each instruction of its only processor: what a program takes there does not depend on what else this
    /// machine has to do.
    Instructions,
}

impl Pace {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Time => &["-cpu", "max", "-smp", "2"],
            // A string instruction counts once for each time it is repeated, so the kernel must copy words and not bytes by
            // them. Where the processor has nothing to do, the clock jumps to what comes next.
            Self::Instructions => &[
                "-cpu",
                "max,-erms,-fsrm",
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }
}

impl Machine<'_> {
    /// Runs it to its end and hands each message of its first program to `take`.
    pub(super) fn run(&self, mut take: impl FnMut(&Value)) -> anyhow::Result<()> {
        let mut running = Running(self.start()?);
        let stdout = running.0.stdout.take().context("qemu has no stdout")?;
        let lines = reader(stdout);
        let began = Instant::now();
        loop {
            match lines.recv_timeout(self.silence) {
                Ok(line) => {
                    if let Ok(message) = serde_json::from_str(&line) {
                        take(&message);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the virtual machine hangs: not a word for {} s{}",
                    self.silence.as_secs(),
                    self.last_words()
                ),
            }
            if began.elapsed() > LIFE {
                bail!("the virtual machine still ran after {} s", LIFE.as_secs());
            }
        }
        let status = running.0.wait().context("cannot wait for qemu")?;
        if !status.success() {
            bail!("qemu ended with {status}");
        }
        Ok(())
    }

    /// The end of the kernel's messages, for an error that a person has to act on.
    pub(super) fn last_words(&self) -> String {
        const LINES: usize = 30;
        let said = std::fs::read(&self.console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        if lines.is_empty() {
            return "; the kernel said nothing".into();
        }
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
        format!("; the kernel's last words:\n    {last}")
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command_line = vec![
            "console=ttyS0",
            // Errors and worse. Without a daemon each audit record is a message of its own, and must not wait for a line.
            "loglevel=4",
            // A panic ends the machine.
            "panic=-1",
            // The tests' requirements look for it (tests/src/requirement.rs).
            "audit_collector.disposable",
        ];
        command_line.extend(self.options);
        self.emulator
            .command()
            .args([
                "-nodefaults",
                "-no-reboot",
                "-display",
                "none",
                "-nic",
                "none",
            ])
            .args(["-accel", ACCELERATOR, "-m", MEMORY])
            .args(self.pace.arguments())
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", &command_line.join(" ")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run qemu")
    }
}

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of `from`, read by a thread of its own so that waiting for one can end.
fn reader(from: ChildStdout) -> Receiver<String> {
    let (sender, lines) = sync_channel(64);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
            line.clear();
        }
    });
    lines
}
