//! What the commands take that change the kernel's rules and settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};

use super::ReportArgs;
use crate::command::set::{Switch, WaitTime, parse_enabled, parse_failure};

/// What can be done with rules.
#[derive(Subcommand, Debug)]
pub enum RulesCommand {
    /// Print the rules the kernel holds, as `auditctl -l` does
    List {
        /// Only rules with this key
        #[arg(long, short)]
        key: Option<String>,
        /// The form of the answer.
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Load rule files and rules.d folders, all or nothing, and read the rules back
    Load {
        /// Files, or folders with *.rules; several are put in order as augenrules does
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Go on after a line that fails, and fail in the end, as a line `-c` does
        #[arg(long = "continue", short = 'c')]
        go_on: bool,
        /// Go on after a line that fails, and count it as done, as a line `-i` does
        #[arg(long, short, conflicts_with = "go_on")]
        ignore: bool,
        /// The form of the answer.
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Add a rule, written as for auditctl: -a, -A or -w and what follows
    Add {
        /// The words of one rule, or rules in quotes, one each
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        rule: Vec<OsString>,
    },
    /// Delete a rule, written as for auditctl -d or -W, or as `rules list` prints it
    Delete {
        /// The words of one rule, or rules in quotes, one each
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        rule: Vec<OsString>,
    },
    /// Delete all rules
    Clear {
        /// Only rules with this key
        #[arg(long, short)]
        key: Option<String>,
        /// The form of the answer.
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Say what is wrong with rule files; needs no privileges
    Check {
        /// Files, or folders with *.rules
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Fail on warnings too
        #[arg(long)]
        strict: bool,
        /// The form of the answer.
        #[command(flatten)]
        report: ReportArgs,
    },
    /// Show what loading rule files would change; exit code 1 where that is anything
    Diff {
        /// Files, or folders with *.rules
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// The form of the answer.
        #[command(flatten)]
        report: ReportArgs,
    },
}

/// What `set` takes.
#[derive(Args, Debug)]
#[command(override_usage = "audit-collector set [--json] SETTING…")]
#[group(required = true, multiple = true, id = "changes")]
pub struct SetArgs {
    /// 0 (off), 1 (on), 2 (on, and everything locked until the next reboot)
    #[arg(long, value_parser = parse_enabled, value_name = "STATE", group = "changes")]
    pub enabled: Option<u32>,
    /// What the kernel does when it loses a record: 0 (silent), 1 (printk), 2 (panic)
    #[arg(long, value_parser = parse_failure, value_name = "MODE", group = "changes")]
    pub failure: Option<u32>,
    /// Records per second, 0 for no limit
    #[arg(long, value_name = "RECORDS", group = "changes")]
    pub rate_limit: Option<u32>,
    /// Records the kernel's queue may hold, 0 for no limit
    #[arg(long, value_name = "RECORDS", group = "changes")]
    pub backlog_limit: Option<u32>,
    /// How long a task waits for room in the queue: jiffies, or a duration such as 60s or 500ms
    #[arg(long, value_name = "TIME", group = "changes")]
    pub backlog_wait_time: Option<WaitTime>,
    /// Set the count of lost records to zero
    #[arg(long, action = ArgAction::SetTrue, group = "changes")]
    pub reset_lost: bool,
    /// Set the sum of the times tasks waited to zero
    #[arg(long, action = ArgAction::SetTrue, group = "changes")]
    pub reset_backlog_wait_time_actual: bool,
    /// Login users cannot be changed once set: on, off, or without a value locked until the next reboot
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "locked", group = "changes")]
    pub loginuid_immutable: Option<Switch>,
    /// Login users can only be set while they are unset: on, off, or without a value locked until the next reboot
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "locked", group = "changes")]
    pub only_unset_loginuid: Option<Switch>,
    /// The form of the answer.
    #[command(flatten)]
    pub report: ReportArgs,
}
