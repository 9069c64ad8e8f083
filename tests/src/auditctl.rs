//! Debian's auditctl, the reference for the language of rules.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use tempfile::NamedTempFile;

use crate::requirement::find_program;

/// What a test that compares with auditctl has to name among its requirements.
pub const PROGRAM: &str = "auditctl";

/// Has auditctl read `text` as a rule file; whether it accepted every line.
///
/// # Errors
/// Where it cannot be run.
pub fn load(text: &[u8]) -> anyhow::Result<bool> {
    let mut file = NamedTempFile::new().context("cannot make a rule file")?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.flush()?;
    fs::set_permissions(file.path(), Permissions::from_mode(0o600))?;
    let path = file.path().display().to_string();
    Ok(run(&["-R", &path])?.status.success())
}

/// The lines of `auditctl -l`, one per rule, in the kernel's order.
///
/// # Errors
/// Where it fails.
pub fn list() -> anyhow::Result<Vec<Vec<u8>>> {
    let output = run(&["-l"])?;
    ensure!(output.status.success(), "auditctl -l: {output:?}");
    let lines = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    Ok(match lines {
        b"No rules" => Vec::new(),
        lines => lines
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect(),
    })
}

fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(path()?)
        .args(arguments)
        .output()
        .context("cannot run auditctl")
}

fn path() -> anyhow::Result<PathBuf> {
    find_program(PROGRAM).context("auditctl is not installed")
}
