//! `audit-collector auditctl …`: what auditctl(8) 3.0.9 does with the same arguments, so that scripts need not change.
//!
//! Owns the order in which auditctl does things, what it prints on stdout and its exit codes (measured; there is no
//! specification). The sentences on stderr are our own, for they say more. A file is followed line by line as auditctl does,
//! and stays half loaded where a line fails; `audit-collector rules load` does better.

mod file;
mod report;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::unistd::Uid;

use super::held_signals;
use super::message;
use crate::audit::client::{Client, ClientError, UserMessage, UserMessageError};
use crate::audit::feature::{FeatureLock, FeatureState};
use crate::audit::language::{self, Directive, Line};
use crate::audit::privilege::{Capability, Privileges};
use crate::audit::record::RecordType;
use crate::audit::rules::Rule;
use crate::audit::status::StatusField;
use crate::ruleset::{LocalHost, has_key_like, printable};

/// auditctl's exit codes.
const DONE: u8 = 0;
const FILE_FAILED: u8 = 1;
const NO_ARGUMENTS: u8 = 1;
const NOT_ROOT: u8 = 4;
const FAILED: u8 = 255;

/// Does what auditctl does with `arguments`, and returns its exit code.
pub fn run(arguments: &[OsString], out: &mut impl Write, errors: &mut impl Write) -> u8 {
    let words: Vec<&[u8]> = arguments.iter().map(|word| word.as_bytes()).collect();
    let mut auditctl = Auditctl {
        client: None,
        out,
        errors,
    };
    match words.as_slice() {
        [] => auditctl.usage(NO_ARGUMENTS),
        [b"-h" | b"--help"] => auditctl.usage(FAILED),
        _ if !may_control(&words) => {
            auditctl.say("only root may do that, with CAP_AUDIT_CONTROL");
            NOT_ROOT
        }
        [b"-R", path] => auditctl.read_file(Path::new(OsStr::from_bytes(path))),
        words => match language::parse_arguments(words, &LocalHost) {
            Ok(line) => {
                held_signals::hold();
                match auditctl.follow(&line) {
                    Ok(()) => DONE,
                    Err(failure) => auditctl.fail(&line, &failure),
                }
            }
            Err(faults) => {
                for fault in faults {
                    auditctl.say(&fault.to_string());
                }
                FAILED
            }
        },
    }
}

/// auditctl asks for root, and for the capability too unless `-l` stands alone.
fn may_control(words: &[&[u8]]) -> bool {
    Uid::effective().is_root()
        && (words == [b"-l"]
            || Privileges::of_this_process()
                .is_ok_and(|privileges| privileges.has(Capability::AuditControl)))
}

/// Why a line could not be followed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Kernel(#[from] ClientError),
    #[error(transparent)]
    Message(#[from] UserMessageError),
    #[error("the audit configuration is locked until the next reboot")]
    Locked,
    #[error("a rule file cannot read another one, and -R stands alone")]
    Nested,
    #[error("asked for help")]
    Help,
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl Failure {
    /// Whether auditctl says so and ends well: what it cannot do now needs no doing.
    const fn is_no_failure_for_rules(&self) -> bool {
        matches!(
            self,
            Self::Locked | Self::Kernel(ClientError::ForeignUserNamespace { .. })
        )
    }
}

struct Auditctl<'a, O, E> {
    client: Option<Client>,
    out: &'a mut O,
    errors: &'a mut E,
}

impl<O: Write, E: Write> Auditctl<'_, O, E> {
    /// Does what a line asks for.
    fn follow(&mut self, line: &Line) -> Result<(), Failure> {
        for warning in &line.warnings {
            self.say(&format!("warning: {warning}"));
        }
        let names = |what: fn(&Directive) -> bool| line.directives.iter().any(what);
        let changes_rules = names(changes_a_rule);
        let interpret = names(|d| *d == Directive::Interpret);
        if changes_rules && self.client()?.status()?.enabled == 2 {
            return Err(Failure::Locked);
        }
        // auditctl asks for the status after each setting, and prints the first answer.
        let mut after_set = None;
        for directive in &line.directives {
            match directive {
                Directive::Add { rule, placement } => {
                    self.client()?.add_rule_at(rule, *placement)?;
                }
                Directive::Delete { rule } => self.client()?.delete_rule(rule)?,
                Directive::DeleteAll { key } => self.delete_all(key.as_deref())?,
                Directive::Set { field, value } => {
                    self.client()?.set_field(*field, *value)?;
                    if after_set.is_none() {
                        after_set = Some(self.client()?.status()?);
                    }
                }
                Directive::Reset { field } => {
                    let old = match field {
                        StatusField::Lost => self.client()?.reset_lost()?,
                        _ => self.client()?.reset_backlog_wait_time_actual()?,
                    };
                    writeln!(self.errors, "{}: {old}", field.name())?;
                }
                Directive::Lock { feature } => {
                    let (state, lock) = (FeatureState::On, FeatureLock::Locked);
                    self.client()?.set_feature(*feature, state, lock)?;
                }
                Directive::Trim => self.client()?.trim()?,
                Directive::MakeEquivalent { mount, subtree } => {
                    let [mount, subtree] =
                        [mount, subtree].map(|path| Path::new(OsStr::from_bytes(path)));
                    self.client()?.make_equivalent(mount, subtree)?;
                }
                Directive::Message { text } => {
                    let text = message::fields(text);
                    let message = UserMessage::new(RecordType::USER, &text)?;
                    self.client()?.user_message(&message)?;
                }
                Directive::Status => {
                    let (status, features) =
                        (self.client()?.status()?, self.client()?.features().ok());
                    let text = report::status(&status, report::Words::of(interpret));
                    self.out.write_all(text.as_bytes())?;
                    if let Some(features) = features {
                        self.out.write_all(report::features(&features).as_bytes())?;
                    }
                }
                Directive::List { key } => {
                    let rules = self.client()?.rules()?;
                    let text = report::rules(&rules, key.as_deref(), report::Words::of(interpret));
                    self.out.write_all(text.as_bytes())?;
                }
                Directive::Version => {
                    let version = env!("CARGO_PKG_VERSION");
                    writeln!(self.out, "audit-collector {version} in place of auditctl")?;
                }
                Directive::Read { .. } => return Err(Failure::Nested),
                Directive::Help => {
                    self.usage(FAILED);
                    return Err(Failure::Help);
                }
                // Matter to the lines of a file that follow.
                Directive::ContinueOnErrors | Directive::IgnoreErrors | Directive::Interpret => {}
            }
        }
        if let Some(status) = after_set.filter(|_| !changes_rules) {
            let text = report::status(&status, report::Words::Numbers);
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    /// Deletes the rules, and then lists what is left, with that key: nothing.
    fn delete_all(&mut self, key: Option<&[u8]>) -> Result<(), Failure> {
        let (gone, left): (Vec<Rule>, Vec<Rule>) = (self.client()?.rules()?)
            .into_iter()
            .partition(|rule| key.is_none_or(|key| has_key_like(rule, key)));
        for rule in &gone {
            self.client()?.delete_rule(rule)?;
        }
        let text = report::rules(&left, key, report::Words::Numbers);
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Says why a line failed, and returns the exit code.
    fn fail(&mut self, line: &Line, failure: &Failure) -> u8 {
        if !matches!(failure, Failure::Help) {
            self.say(&failure.to_string());
        }
        let is_about_rules = line
            .directives
            .iter()
            .any(|directive| changes_a_rule(directive) || *directive == Directive::Status);
        match is_about_rules && failure.is_no_failure_for_rules() {
            true => DONE,
            false => FAILED,
        }
    }

    fn client(&mut self) -> Result<&mut Client, Failure> {
        if self.client.is_none() {
            self.client = Some(Client::connect()?);
        }
        Ok(self.client.as_mut().expect("it was connected just now"))
    }

    fn usage(&mut self, code: u8) -> u8 {
        let _ = self.out.write_all(report::USAGE.as_bytes());
        code
    }

    fn say(&mut self, what: &str) {
        // Nobody is left to tell where stderr cannot be written.
        let _ = writeln!(self.errors, "{}", printable(what.as_bytes()));
    }
}

const fn changes_a_rule(directive: &Directive) -> bool {
    matches!(directive, Directive::Add { .. } | Directive::Delete { .. })
}
