//! `cargo xtask setup`: what a build needs beyond cargo, fetched into target/ and nowhere else.
//!
//! The machine, its toolchain and its package database stay as they are; doing it again costs nothing.

mod browser;
mod core_source;
mod debian;
mod emulator;
mod kernel;
mod linker;
mod node;
mod test_tools;

use std::process::ExitCode;

use crate::step;

pub(crate) use browser::ensure as browser;
pub(crate) use emulator::Emulator;
pub(crate) use kernel::{SERIES as KERNEL_SERIES, ensure as kernel_image};
pub(crate) use node::ensure as npm;
pub(crate) use test_tools::environment as test_tools_environment;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also fetch what the tests compare with: ausearch and auditctl, Prometheus and promtool
    #[arg(long)]
    tests: bool,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    for_build()?;
    if arguments.tests {
        for_tests();
    }
    step::announce("set-up is complete");
    Ok(ExitCode::SUCCESS)
}

/// What building the collector needs.
pub(crate) fn for_build() -> anyhow::Result<()> {
    core_source::ensure()?;
    linker::ensure()
}

/// What some tests compare with. Where it cannot be had those tests say so themselves, so this never fails.
pub(crate) fn for_tests() {
    if let Err(error) = test_tools::ensure() {
        eprintln!("xtask: tests that need the missing tools will say so: {error:#}");
    }
}

/// What benches compare with.
pub(crate) fn for_benches() -> anyhow::Result<()> {
    test_tools::ensure_peers()
}
