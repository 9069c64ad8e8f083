//! The binary: the command line, logging, signals, exit codes. Everything else is in the library.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use collector::account::Account;
use collector::cli::{self, Cli, Command, ReplayArgs, RunArgs, StatusArgs, VerifyArgs};
use collector::command::status::{self, StatusError};
use collector::command::{self, CommandError, control, doctor, replay};
use collector::config::{Config, ConfigError, Level};
use collector::output::{identity::Identity, render::Renderer};
use collector::pipeline::{self, RunError};
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run(*arguments),
        Command::Verify(arguments) => verify(*arguments),
        Command::Replay(arguments) => replay(&arguments),
        Command::Status(arguments) => report_status(&arguments),
        Command::Doctor(arguments) => {
            doctor::run(arguments.format(), &mut io::stdout().lock()).map_err(Into::into)
        }
        Command::Rules(arguments) => control::run_rules(&arguments).map_err(Into::into),
        Command::Set(arguments) => control::run_set(&arguments).map_err(Into::into),
        Command::Message { text } => control::run_message(&text).map_err(Into::into),
        Command::Metrics => print_metrics(),
        Command::Auditctl { arguments } => Ok(control::run_auditctl(&arguments)),
    };
    let code = match done {
        Ok(code) => code,
        Err(error) => {
            let code = exit_code(&error);
            tell(&error, code);
            code
        }
    };
    command::release_signals();
    ExitCode::from(code)
}

fn tell(error: &anyhow::Error, code: u8) {
    // Whoever read our output has had enough.
    if matches!(error.downcast_ref(), Some(CommandError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    {
        return;
    }
    let more = match code {
        cli::EXIT_CANNOT_RUN => {
            "; run it as root, or see `audit-collector doctor` for what is missing and how to get it"
        }
        _ => "",
    };
    let _ = writeln!(io::stderr(), "audit-collector: {error:#}{more}");
}

fn run(arguments: RunArgs) -> anyhow::Result<u8> {
    collect(arguments.into_config()?, None)?;
    Ok(cli::EXIT_OK)
}

fn verify(arguments: VerifyArgs) -> anyhow::Result<u8> {
    let format = match arguments.json {
        true => command::Format::Json,
        false => command::Format::Text,
    };
    let (time, config) = arguments.into_config()?;
    let account = collect(config, Some(time))?;
    let missed_runs = account
        .ebpf
        .iter()
        .flat_map(|ebpf| ebpf.missed_runs.values());
    let missed_runs = missed_runs.sum();
    let mut out = io::stdout().lock();
    command::verify::report(&account.verify, missed_runs, format, &mut out)?;
    Ok(cli::EXIT_OK)
}

/// Runs until a signal, or for `time`.
fn collect(config: Config, time: Option<Duration>) -> anyhow::Result<Arc<Account>> {
    log_to_stderr(config.log);
    // Who asks over HTTP is served by these; the data path has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let shutdown = async move {
            tokio::select! {
                () = either(&mut terminate, &mut interrupt) => {}
                () = passed(time) => {}
            }
            tracing::info!("stopping: draining what is on its way; a second signal ends at once, and puts nothing back");
            tokio::spawn(async move {
                either(&mut terminate, &mut interrupt).await;
                std::process::exit(i32::from(cli::EXIT_FAILURE));
            });
        };
        Ok(pipeline::run(config, shutdown).await?)
    })
}

/// Waits for `time`; without one for ever.
async fn passed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn replay(arguments: &ReplayArgs) -> anyhow::Result<u8> {
    log_to_stderr(arguments.log);
    let identity = Identity {
        boot_id: arguments.boot_id.clone(),
        host: arguments.host.clone(),
    };
    let renderer = Renderer::of_format(arguments.format, arguments.resolve_ids, identity);
    let mut out = io::BufWriter::with_capacity(1 << 18, io::stdout().lock());
    match replay::run(&arguments.file, renderer, &mut out) {
        Ok(account) => {
            let _ = writeln!(io::stderr(), "{}", pipeline::account_line(&account));
            Ok(cli::EXIT_OK)
        }
        // Whoever read our output has had enough.
        Err(replay::ReplayError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(cli::EXIT_OK)
        }
        Err(error) => Err(error.into()),
    }
}

fn report_status(arguments: &StatusArgs) -> anyhow::Result<u8> {
    let request = status::Request {
        format: arguments.report.format(),
        watch: arguments
            .watch
            .map(|seconds| Duration::from_secs(u64::from(seconds.get()))),
        account_folder: arguments.account_folder.clone(),
    };
    match status::run(&request, &mut io::stdout().lock()) {
        Ok(()) => Ok(cli::EXIT_OK),
        // Whoever read our output has had enough.
        Err(StatusError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(cli::EXIT_OK)
        }
        Err(error) => Err(error.into()),
    }
}

fn print_metrics() -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    out.write_all(collector::metrics::reference().as_bytes())?;
    Ok(cli::EXIT_OK)
}

fn log_to_stderr(level: Level) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(level.name())
        .init();
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<CommandError>() {
        return error.exit_code();
    }
    let refused = error
        .downcast_ref::<RunError>()
        .is_some_and(RunError::is_refusal)
        || error
            .downcast_ref::<StatusError>()
            .is_some_and(StatusError::is_refusal);
    let usage = error.is::<ConfigError>()
        || error
            .downcast_ref::<RunError>()
            .is_some_and(RunError::is_usage);
    match refused {
        true => cli::EXIT_CANNOT_RUN,
        false if usage => cli::EXIT_USAGE,
        false => cli::EXIT_FAILURE,
    }
}
