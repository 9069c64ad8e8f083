//! `cargo xtask metrics`: docs/metrics.md, written by the collector itself.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::build::{Profile, build};
use crate::{step, workspace};

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    build(Profile::Dev, &["audit-collector"])?;
    let program = Profile::Dev.folder().join("audit-collector");
    let text = step::output(Command::new(program).arg("metrics"))?;
    let file = workspace::root().join("docs/metrics.md");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}
