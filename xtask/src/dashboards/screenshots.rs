//! `cargo xtask dashboards screenshots`: pictures of the dashboards for the README. What draws them is a program of the tests'
//! crate, which has what it takes to lose events and to scrape those who do.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::build::{Profile, build};
use crate::{setup, workspace};

/// In the repository.
const FOLDER: &str = "dashboards/screenshots";

pub(super) fn draw() -> anyhow::Result<ExitCode> {
    setup::for_tests();
    let charts = setup::npm()?.join("node_modules/uplot/dist");
    let browser = setup::browser()?;
    build(
        Profile::Release,
        &["audit-collector", "audit-collector-tests"],
    )?;
    let mut program = Command::new(Profile::Release.folder().join("screenshots"));
    program.envs(setup::test_tools_environment()?);
    program.arg("--browser").arg(browser);
    program.arg("--uplot").arg(charts);
    program.arg("--into").arg(workspace::root().join(FOLDER));
    // Replaced, not watched: Ctrl-C reaches the program, which puts the kernel's settings back.
    Err(program.exec()).context("cannot run the program that draws")
}
