//! Named, timed steps and the commands they consist of.

use std::io::IsTerminal as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Announces a step on stderr, as cargo does its own.
pub(crate) fn announce(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[1;36m       xtask\x1b[0m {text}");
    } else {
        eprintln!("       xtask {text}");
    }
}

/// Runs `command` with our own stdout and stderr.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot run {}", line(command)))
}

/// Runs `command` with our own stdout and stderr; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs `command` and returns its stdout; on failure the error holds the last line of its stderr.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} ended with {}: {}",
            line(command),
            output.status,
            stderr.trim_end().lines().last().unwrap_or_default()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `command` as a person would type it.
fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or_default();
    command.get_args().fold(name.to_owned(), |line, argument| {
        line + " " + &argument.to_string_lossy()
    })
}

/// How one step of several ended.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) outcome: anyhow::Result<()>,
}

/// Runs one of several steps and times it; its error is printed at once and kept.
pub(crate) fn timed(name: &'static str, body: impl FnOnce() -> anyhow::Result<()>) -> Report {
    announce(name);
    let began = Instant::now();
    let outcome = body();
    if let Err(error) = &outcome {
        eprintln!("xtask: {name}: {error:#}");
    }
    Report {
        name,
        took: began.elapsed(),
        outcome,
    }
}

/// `83 s` or `4 min 12 s`.
pub(crate) fn words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
