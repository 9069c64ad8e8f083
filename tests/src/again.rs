//! A test once more, as a child process under other circumstances: another user, fewer capabilities, a namespace.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Set in the child.
const VARIABLE: &str = "AUDIT_COLLECTOR_TEST_AGAIN";

/// Whether this process is such a child.
pub fn is_child() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Runs test `name` of this program again, by `launcher` (a program and its arguments), and returns what it printed.
///
/// # Errors
/// Where it cannot be run or fails, with what it said.
pub fn by(launcher: &[&str], name: &str) -> anyhow::Result<String> {
    let (program, arguments) = launcher.split_first().context("no launcher")?;
    let mut command = Command::new(program);
    command.args(arguments).arg(env::current_exe()?);
    run(command, name)
}

/// Runs test `name` of this program again, as user `uid` without any capability.
///
/// # Errors
/// As [`by`].
pub fn as_user(uid: u32, name: &str) -> anyhow::Result<String> {
    // The build folder may not be open to others, so the child gets a copy in a place that is.
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let copy = folder.path().join("test");
    fs::copy(env::current_exe()?, &copy)?;
    let mut command = Command::new(&copy);
    command.uid(uid).gid(uid);
    run(command, name)
}

/// Runs test `name` of this program again as it is, but in another process.
///
/// # Errors
/// As [`by`].
pub fn beside(name: &str) -> anyhow::Result<String> {
    run(Command::new(env::current_exe()?), name)
}

fn run(mut command: Command, name: &str) -> anyhow::Result<String> {
    let output = command
        .args(["--exact", "--nocapture", name].map(OsStr::new))
        .env(VARIABLE, "1")
        .current_dir(Path::new("/"))
        .output()
        .context("the test cannot be run again")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{errors}");
    ensure!(
        said.contains("1 passed"),
        "no test is called {name}: {said}"
    );
    Ok(said)
}
