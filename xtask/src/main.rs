//! The one command surface of the repository: `cargo xtask --help`.
//!
//! Builds without any set-up, so it must depend neither on the collector nor on its BPF programs.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod ci;
mod dashboards;
mod demo;
mod instructions;
mod metrics;
mod policy;
mod run;
mod setup;
mod step;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, build, run, tests and CI of audit-collector.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch what a build needs into target/: bpf-linker, and the source of Rust's core library
    Setup(setup::Arguments),
    /// Build the collector and its BPF programs (does the set-up first where it is missing)
    Build(build::Arguments),
    /// Build what is missing and run the collector: merged audit events of this kernel on stdout
    Run(run::Arguments),
    /// Show in half a minute what the kernel loses and what comes back
    Demo,
    /// Run every test, those on the real kernel included, and say what could not run and why
    Test(test::Arguments),
    /// Run the tests on the kernel on other kernels, each in a virtual machine
    Vm(vm::Arguments),
    /// Measure the collector beside auditd and laurel, and write the tables of BENCHMARKS.md
    Bench(bench::Arguments),
    /// Count the instructions that a replayed record costs; more than 5 % above what is recorded fails
    Instructions(instructions::Arguments),
    /// What CI runs: format, clippy, documentation, dependency policy, instructions, tests
    Ci,
    /// Write docs/metrics.md from what the collector serves; a test fails where it is stale
    Metrics,
    /// Write Grafana's dashboards and Prometheus' rules from code; `check` fails where they are stale, or wrong on a real Prometheus
    Dashboards(dashboards::Arguments),
    /// Check licences, sources and duplicates of all dependencies
    Policy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(arguments) => setup::command(&arguments),
        Command::Build(arguments) => build::command(&arguments),
        Command::Run(arguments) => run::command(&arguments),
        Command::Demo => demo::command(),
        Command::Test(arguments) => test::command(&arguments),
        Command::Vm(arguments) => vm::command(&arguments),
        Command::Bench(arguments) => bench::command(&arguments),
        Command::Instructions(arguments) => instructions::command(&arguments),
        Command::Ci => ci::command(),
        Command::Metrics => metrics::command(),
        Command::Dashboards(arguments) => dashboards::command(&arguments),
        Command::Policy => policy::command(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
