//! `cargo xtask bench`: the collector measured beside auditd and laurel. What measures is a program of the tests' crate,
//! which has what it takes to load rules and put them back.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::build::{Profile, build, revision};
use crate::{setup, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Names of benches and their options; see `cargo xtask bench -- --help` [default: all benches]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    setup::for_benches()?;
    build(
        Profile::Release,
        &["audit-collector", "audit-collector-tests"],
    )?;
    // Replaced, not watched: Ctrl-C reaches the benches, which put the kernel's settings back.
    Err(Command::new(Profile::Release.folder().join("bench"))
        .args(&arguments.arguments)
        .current_dir(workspace::root())
        .envs(setup::test_tools_environment()?)
        .envs(revision().map(|revision| ("AUDIT_COLLECTOR_REVISION", revision)))
        .exec())
    .context("cannot run the benches")
}
