//! `cargo xtask build`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::{setup, step, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build with optimisations, as for use
    #[arg(long)]
    release: bool,
}

/// Which of cargo's profiles to build with.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// The folder under target/ that cargo builds into.
    pub(crate) fn folder(self) -> PathBuf {
        workspace::built().join(match self {
            Self::Dev => "debug",
            Self::Release => "release",
        })
    }
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let profile = if arguments.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    build(profile, &["audit-collector"])?;
    let program = profile.folder().join("audit-collector");
    let shown = program.strip_prefix(workspace::root()).unwrap_or(&program);
    step::announce(&format!("built {}", shown.display()));
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs of `packages`, after the set-up where that is missing.
pub(crate) fn build(profile: Profile, packages: &[&str]) -> anyhow::Result<()> {
    setup::for_build()?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--bins"]);
    if let Profile::Release = profile {
        cargo.arg("--release");
        // What `audit_collector_build_info` says. Other builds do without: each commit would build the collector anew.
        if let Ok(revision) = revision() {
            cargo.env("AUDIT_COLLECTOR_REVISION", revision);
        }
    }
    for package in packages {
        cargo.args(["--package", package]);
    }
    step::run(&mut cargo)
}

/// The commit that is checked out.
pub(crate) fn revision() -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.args([
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty",
    ]);
    let said = step::output(git.current_dir(workspace::root()))?;
    Ok(said.trim().to_owned())
}
