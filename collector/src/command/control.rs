//! From the arguments of the commands that change rules and settings to the commands.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use super::{CommandError, Format, auditctl, message, rules, set};
use crate::audit::feature::Feature;
use crate::audit::status::{StatusChange, StatusField};
use crate::cli::{EXIT_OK, ReportArgs, RulesCommand, SetArgs};
use crate::ruleset::OnError;
use crate::ruleset::check::Severity;

/// `audit-collector rules …`
///
/// # Errors
/// As the command.
pub fn run_rules(command: &RulesCommand) -> Result<u8, CommandError> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    let done = match command {
        RulesCommand::List { key, report } => rules::list(key.as_deref(), report.format(), out),
        RulesCommand::Load {
            paths,
            go_on,
            ignore,
            report,
        } => {
            let on_error = match (go_on, ignore) {
                (true, _) => OnError::Continue,
                (_, true) => OnError::Ignore,
                _ => OnError::Restore,
            };
            rules::load(paths, on_error, report.format(), out, &mut io::stderr())
        }
        RulesCommand::Add { rule } => rules::add(rule, out, &mut io::stderr()),
        RulesCommand::Delete { rule } => rules::delete(rule, out, &mut io::stderr()),
        RulesCommand::Clear { key, report } => rules::clear(key.as_deref(), report.format(), out),
        RulesCommand::Check {
            paths,
            strict,
            report,
        } => {
            let fatal = match strict {
                true => Severity::Warning,
                false => Severity::Fault,
            };
            rules::check(paths, fatal, report.format(), out)
        }
        RulesCommand::Diff { paths, report } => {
            rules::diff(paths, report.format(), out, &mut io::stderr())
        }
    };
    match done.and_then(|code| Ok(out.flush().map(|()| code)?)) {
        // Whoever read our output has had enough.
        Err(CommandError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(EXIT_OK),
        done => done,
    }
}

/// `audit-collector set …`
///
/// # Errors
/// As the command.
pub fn run_set(arguments: &SetArgs) -> Result<u8, CommandError> {
    let resets = [
        (arguments.reset_lost, StatusField::Lost),
        (
            arguments.reset_backlog_wait_time_actual,
            StatusField::BacklogWaitTimeActual,
        ),
    ];
    let features = [
        (Feature::LoginuidImmutable, arguments.loginuid_immutable),
        (Feature::OnlyUnsetLoginuid, arguments.only_unset_loginuid),
    ];
    let changes = set::Changes {
        settings: StatusChange {
            enabled: arguments.enabled,
            failure: arguments.failure,
            rate_limit: arguments.rate_limit,
            backlog_limit: arguments.backlog_limit,
            backlog_wait_time: None,
        },
        backlog_wait_time: arguments.backlog_wait_time,
        resets: resets
            .into_iter()
            .filter_map(|(wanted, field)| wanted.then_some(field))
            .collect(),
        features: features
            .into_iter()
            .filter_map(|(feature, switch)| Some((feature, switch?)))
            .collect(),
    };
    set::run(&changes, arguments.report.format(), &mut io::stdout())
}

/// `audit-collector message …`
///
/// # Errors
/// As the command.
pub fn run_message(text: &OsStr) -> Result<u8, CommandError> {
    message::run(text.as_bytes())
}

/// `audit-collector auditctl …`, with auditctl's exit codes.
pub fn run_auditctl(arguments: &[OsString]) -> u8 {
    auditctl::run(
        arguments,
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}

impl ReportArgs {
    /// The format they ask for.
    pub const fn format(&self) -> Format {
        match self.json {
            true => Format::Json,
            false => Format::Text,
        }
    }
}
