//! `cargo xtask demo`: the point of the collector in half a minute. The demo itself is a program of the tests' crate,
//! which has what it takes to load rules and put them back.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::build::{Profile, build};

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    build(
        Profile::Release,
        &["audit-collector", "audit-collector-tests"],
    )?;
    // Replaced, not watched: Ctrl-C reaches the demo, which puts the kernel's settings back.
    Err(Command::new(Profile::Release.folder().join("demo")).exec()).context("cannot run the demo")
}
