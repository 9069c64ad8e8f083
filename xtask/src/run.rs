//! `cargo xtask run`: the collector on this kernel, with one command.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::build::{Profile, build};
use crate::workspace;

/// What a newcomer sees at once: the daemon where none is registered, otherwise read-only beside it; a small set of
/// example rules, taken out again at the end; merged events on stdout, the account on stderr.
const EXAMPLE: [&str; 3] = ["--mode=auto", "--example-rules", "--account-interval-s=10"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Arguments for `audit-collector run`, in place of the example; see `cargo xtask run -- --help`
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    build(Profile::Release, &["audit-collector"])?;
    let mut collector = Command::new(Profile::Release.folder().join("audit-collector"));
    collector.arg("run");
    if arguments.arguments.is_empty() {
        collector.args(EXAMPLE);
    } else {
        collector.args(&arguments.arguments);
    }
    collector.current_dir(workspace::root());
    // Replaced, not watched: signals reach the collector itself, and its exit code is ours.
    Err(collector.exec()).context("cannot run the collector")
}
