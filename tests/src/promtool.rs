//! promtool, Prometheus's own judge of rules, configurations and metrics.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::requirement::find_program;

/// What a test that asks it has to name among its requirements.
pub const PROGRAM: &str = "promtool";

/// Runs `promtool ARGUMENTS` in `folder` with `input` on stdin.
///
/// # Errors
/// Where it cannot be run, or finds fault, with what it said.
pub fn run(arguments: &[&str], folder: &Path, input: &str) -> anyhow::Result<()> {
    let mut promtool = Command::new(find_program(PROGRAM).context("promtool is not installed")?)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run promtool")?;
    let mut stdin = promtool.stdin.take().context("promtool has no stdin")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&said)
    );
    Ok(())
}

/// Has it judge an exposition.
///
/// # Errors
/// As [`run`].
pub fn check_metrics(exposition: &str) -> anyhow::Result<()> {
    run(&["check", "metrics"], Path::new("/"), exposition)
}
