//! The command line: which commands there are, and what they take.
//!
//! Owns names and help. The settings of `run` are [`Settings`], shared with the config file. What the commands do is
//! elsewhere; `main` puts the two together.

mod control;

pub use control::{RulesCommand, SetArgs};

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{AccountFolder, Bounded, Config, ConfigError, Format, Level, Settings};

/// All is well.
pub const EXIT_OK: u8 = 0;
/// Something failed; one line on stderr says what.
pub const EXIT_FAILURE: u8 = 1;
/// The command line or the config file is wrong. It is clap's code too.
pub const EXIT_USAGE: u8 = 2;
/// The kernel refuses for lack of a capability, or from within this namespace.
pub const EXIT_CANNOT_RUN: u8 = 77;

const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 something failed; 2 wrong command line or config file; \
    77 a capability is missing, or the kernel does not allow it from here (`audit-collector doctor` says more).";

/// Accounts for every Linux audit event, and gives the lost ones back.
#[derive(Parser, Debug)]
#[command(name = "audit-collector", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the collector can be asked to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Collect: receive audit records, cross-check them with eBPF, write the merged events
    Run(Box<RunArgs>),
    /// Run an audit log or a capture through the same pipeline
    Replay(ReplayArgs),
    /// Show the kernel's audit status, and the account of the collector that runs
    Status(StatusArgs),
    /// Collect for a while, and show how far what eBPF gives back is what the kernel writes
    Verify(Box<VerifyArgs>),
    /// Say what this machine allows, and what follows from it
    Doctor(ReportArgs),
    /// List, load, check, compare and change the kernel's audit rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Change the kernel's audit settings, named as `status` names them
    Set(SetArgs),
    /// Write a message into the audit log
    Message {
        /// The message, in one word
        text: OsString,
    },
    /// Print docs/metrics.md
    #[command(hide = true)]
    Metrics,
    /// Take auditctl's own arguments, and answer as it does
    #[command(disable_help_flag = true)]
    Auditctl {
        /// See auditctl(8)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What `run` takes.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Config file with the same settings as the flags; flags win
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings given as flags.
    #[command(flatten)]
    pub settings: Settings,
}

impl RunArgs {
    /// The flags over the file over the defaults, checked.
    ///
    /// # Errors
    /// Where the file cannot be read, a line of it is wrong, or settings exclude each other.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        self.settings.over(file).resolve()
    }
}

/// What `verify` takes.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// How long to collect; a signal ends it sooner
    #[arg(long, default_value = "30")]
    pub seconds: Bounded<1, 86_400>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Config file as for `run`; its mode, output, addresses, account line, capture, state file and canary are left out
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings of `run`, given as flags.
    #[command(flatten)]
    pub settings: Settings,
}

impl VerifyArgs {
    /// How long to collect, and with what: the flags over what this command is about over the file over the defaults.
    ///
    /// # Errors
    /// As [`RunArgs::into_config`].
    pub fn into_config(self) -> Result<(Duration, Config), ConfigError> {
        let seconds = Duration::from_secs(u64::from(self.seconds.get()));
        let file = match &self.config {
            Some(path) => Settings::from_file(path)?,
            None => Settings::default(),
        };
        let below = Settings::of_verify().over(file.beside_another());
        let config = self.settings.over(below).resolve()?;
        Ok((seconds, config))
    }
}

/// What `replay` takes.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// An audit log as auditd writes it, or a file written by `run --capture`; - for standard input
    pub file: PathBuf,
    /// Form of the events
    #[arg(long, short, value_enum, default_value = "json")]
    pub format: Format,
    /// Add user and group names, as this host knows them, to the events
    #[arg(long)]
    pub resolve_ids: bool,
    /// Host the input is from, for lines that do not say so themselves
    #[arg(long, default_value = "unknown")]
    pub host: String,
    /// Boot the input is from, for the ids of the events
    #[arg(long, default_value = "00000000-0000-0000-0000-000000000000")]
    pub boot_id: String,
    /// Log level, on stderr
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub log: Level,
}

/// What `status` takes.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// How to answer.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Show it again every so often, until it is ended [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub watch: Option<Bounded<1, 86_400>>,
    /// Folder of the collector's socket, as `run` was given it
    #[arg(long, value_name = "FOLDER", default_value = AccountFolder::DEFAULT)]
    pub account_folder: PathBuf,
}

/// What commands take that report something.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::config::{Mode, Target};

    fn run(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        let all = ["audit-collector", "run"].iter().chain(arguments);
        Cli::try_parse_from(all).map(|cli| match cli.command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_of_the_file_is_a_flag() {
        let example = include_str!("../audit-collector.toml");
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let flags: Vec<_> = run
            .get_arguments()
            .filter_map(|argument| argument.get_long())
            .filter(|long| !["config", "help"].contains(long))
            .map(|long| long.replace(['-', '.'], "_"))
            .collect();
        let keys: Vec<_> = example
            .lines()
            .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
            .map(|(key, _)| key)
            .filter(|key| !key.contains(' '))
            .collect();
        assert_eq!(flags, keys);
    }

    #[test]
    fn flags_win_over_the_file_they_are_given_with() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "mode = \"daemon\"\noutput = \"/var/log/x\"\n").unwrap();
        let path = file.path().to_str().unwrap();
        let config = run(&["--config", path, "--output", "-", "--enable=false"])
            .unwrap()
            .into_config()
            .unwrap();
        assert_eq!(config.audit.mode, Mode::Daemon);
        assert_eq!(config.output.target, Target::Stdout);
        assert_eq!(config.audit.enable, Some(false));
    }

    #[test]
    fn a_value_out_of_bounds_names_its_flag() {
        let error = run(&["--max-events", "3"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("--max-events"), "{text}");
        assert!(text.contains("3 is not between 16 and 1048576"), "{text}");
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE));
    }

    #[test]
    fn a_config_file_that_is_not_there_is_named() {
        let error = run(&["--config", "/nowhere/c.toml"])
            .unwrap()
            .into_config()
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/c.toml"), "{error}");
    }
}
