//! Measures the collector beside auditd and laurel on this kernel. `cargo xtask bench` builds all that takes and runs it.
//!
//! Whatever it changes of the kernel's audit state it changes under the machine's lock, for calls of users of its own only, and
//! puts back after each measurement.

mod allocations;
mod figure;
mod input;
mod machine;
mod overhead;
mod peer;
mod reader;
mod replay;
mod report;
mod rounds;
mod scale;
mod steady;
mod storm;
mod taker;
mod usage;
mod watcher;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use audit_collector_tests::program;
use audit_collector_tests::requirement::Requirement;
use clap::{Parser, ValueEnum};

use crate::machine::Machine;
use crate::report::Report;
use crate::rounds::{Extent, Session};

/// Figures of fewer rounds are shown and not recorded in `BENCHMARKS.md`.
const RECORDED_ROUNDS: usize = 5;

/// Measures the collector beside auditd and laurel: each subject in turn, round by round.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    /// Which benches [default: all]
    names: Vec<Bench>,
    /// Rounds; with fewer than 5, BENCHMARKS.md stays as it is
    #[arg(long, default_value_t = RECORDED_ROUNDS)]
    rounds: usize,
    /// The whole matrix, which takes an hour
    #[arg(long)]
    full: bool,
    /// Where the JSON goes
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Records a second from a log and from a capture
    Replay,
    /// Calls in great number: what is captured, and what it costs
    Storm,
    /// What callers pay
    Overhead,
    /// From a call to its line, at steady rates
    Latency,
    /// Memory and CPU at steady rates
    Steady,
    /// What grows with what
    Scale,
}

impl Bench {
    fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Storm => "storm",
            Self::Overhead => "overhead",
            Self::Latency => "latency",
            Self::Steady => "steady",
            Self::Scale => "scale",
        }
    }

    fn run(self, session: &Session) -> anyhow::Result<Report> {
        match self {
            Self::Replay => replay::run(session),
            Self::Storm => storm::run(session),
            Self::Overhead => overhead::run(session),
            Self::Latency => steady::latency(session),
            Self::Steady => steady::usage(session),
            Self::Scale => scale::run(session),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let needs = [
        Requirement::AuditControl,
        Requirement::Ebpf,
        Requirement::DaemonSeat,
    ]
    .into_iter()
    .chain(["auditd", "ausearch", "laurel", "redis-server"].map(Requirement::Program));
    program::run("bench", needs, |interrupted| {
        let session = Session {
            rounds: cli.rounds.max(1),
            extent: match cli.full {
                true => Extent::Full,
                false => Extent::Usual,
            },
            interrupted: Arc::clone(interrupted),
        };
        measure(&cli, &session)
    })
}

fn measure(cli: &Cli, session: &Session) -> anyhow::Result<()> {
    let began = Instant::now();
    fs::create_dir_all(&cli.output)
        .with_context(|| format!("cannot make {}", cli.output.display()))?;
    let names = match cli.names.as_slice() {
        [] => Bench::value_variants(),
        names => names,
    };
    for (index, bench) in names.iter().enumerate() {
        eprintln!("{} ({} of {})", bench.name(), index + 1, names.len());
        let mut machine = Machine::look()?;
        let report = bench
            .run(session)
            .with_context(|| bench.name().to_owned())?;
        machine.look_again();
        let json = cli.output.join(format!("{}.json", bench.name()));
        fs::write(&json, report.json(&machine, session.rounds)?)
            .with_context(|| format!("cannot write {}", json.display()))?;
        let section = report.markdown(&machine, session.rounds);
        println!("{section}");
        if session.rounds >= RECORDED_ROUNDS {
            let document = fs::read_to_string(DOCUMENT).context(DOCUMENT)?;
            fs::write(DOCUMENT, report::insert(&document, bench.name(), &section)?)
                .context(DOCUMENT)?;
        }
    }
    eprintln!("all in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Where the tables go; `cargo xtask bench` runs this in the repository's folder.
const DOCUMENT: &str = "BENCHMARKS.md";
