//! `audit-collector rules`: looking at the kernel's rules and changing them, one by one or from files.
//!
//! Owns how rules, findings and the result of a load read, for a person and as JSON. What files ask for and how the
//! kernel gets there is [`crate::ruleset`].

mod check;
mod diff;
mod excerpt;
mod load;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

pub use check::check;
pub use diff::diff;
pub(super) use excerpt::excerpt;
pub use load::load;

use super::held_signals;
use super::{CommandError, Format};
use crate::audit::client::Client;
use crate::audit::language::{self, Directive, Line};
use crate::audit::rules::Rule;
use crate::cli::EXIT_OK;
use crate::ruleset::{LocalHost, ReadError, RuleSet, Trust, printable};

/// Prints the rules the kernel holds, in its order, as `auditctl -l` does.
///
/// # Errors
/// Where the kernel does not tell, or `out` cannot be written.
pub fn list(key: Option<&str>, format: Format, out: &mut impl Write) -> Result<u8, CommandError> {
    let mut rules = Client::connect()?.rules()?;
    if let Some(key) = key {
        rules.retain(|rule| rule.keys().any(|have| have == key.as_bytes()));
    }
    match format {
        Format::Json => print_json(
            out,
            &json!({ "rules": rules.iter().map(rule_json).collect::<Vec<_>>() }),
        )?,
        Format::Text if rules.is_empty() => writeln!(out, "No rules")?,
        Format::Text => {
            for rule in &rules {
                writeln!(out, "{}", line(rule))?;
            }
        }
    }
    Ok(EXIT_OK)
}

/// Adds the rules that `words` ask for in auditctl's language (`-a`, `-A` or `-w`): all of them or none.
///
/// # Errors
/// Where they ask for something else, or the kernel refuses.
pub fn add(
    words: &[OsString],
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, CommandError> {
    let rules = directives(words, errors)?
        .into_iter()
        .map(|directive| match directive {
            Directive::Add { rule, placement } => Ok((rule, placement)),
            _ => Err(not_a_rule("rules add -a always,exit -F arch=b64 -S …")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    held_signals::hold();
    let mut client = Client::connect()?;
    for (index, (rule, placement)) in rules.iter().enumerate() {
        if let Err(error) = client.add_rule_at(rule, *placement) {
            for (rule, _) in rules[..index].iter().rev() {
                if let Err(failed) = client.delete_rule(rule) {
                    writeln!(errors, "a rule before it stays: {failed}")?;
                }
            }
            return Err(error.into());
        }
    }
    writeln!(out, "added {}", count(rules.len(), "rule"))?;
    Ok(EXIT_OK)
}

/// Deletes the rules that `words` name: as `auditctl -d` and `-W` do, or as `rules list` prints them.
///
/// # Errors
/// Where they ask for something else, or the kernel refuses; the rules before the one it refuses are deleted.
pub fn delete(
    words: &[OsString],
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, CommandError> {
    let rules = directives(words, errors)?
        .into_iter()
        .map(|directive| match directive {
            Directive::Add { rule, .. } | Directive::Delete { rule } => Ok(rule),
            _ => Err(not_a_rule("rules delete -d always,exit -F arch=b64 -S …")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    held_signals::hold();
    let mut client = Client::connect()?;
    for rule in &rules {
        client.delete_rule(rule)?;
    }
    writeln!(out, "deleted {}", count(rules.len(), "rule"))?;
    Ok(EXIT_OK)
}

/// Deletes every rule, or every rule with that key.
///
/// # Errors
/// Where the kernel refuses.
pub fn clear(key: Option<&str>, format: Format, out: &mut impl Write) -> Result<u8, CommandError> {
    held_signals::hold();
    let mut client = Client::connect()?;
    let mut rules = client.rules()?;
    if let Some(key) = key {
        rules.retain(|rule| rule.keys().any(|have| have == key.as_bytes()));
    }
    for rule in &rules {
        client.delete_rule(rule)?;
    }
    match format {
        Format::Json => print_json(
            out,
            &json!({ "deleted": rules.iter().map(rule_json).collect::<Vec<_>>() }),
        )?,
        Format::Text => writeln!(out, "deleted {}", count(rules.len(), "rule"))?,
    }
    Ok(EXIT_OK)
}

/// Reads and understands rule files with this host's names.
fn read(paths: &[PathBuf], trust: Trust) -> Result<RuleSet, ReadError> {
    RuleSet::read(paths, trust, |line| language::parse_line(line, &LocalHost))
}

/// What `words` ask for: the words of one rule, or whole rules, each quoted as one word.
fn directives(words: &[OsString], errors: &mut impl Write) -> Result<Vec<Directive>, CommandError> {
    let is_line = |word: &&[u8]| word.starts_with(b"-") && word.contains(&b' ');
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let lines = match words.iter().all(is_line) {
        true => words
            .iter()
            .map(|word| language::parse_line(word, &LocalHost))
            .collect::<Result<Vec<Line>, _>>(),
        false => language::parse_arguments(&words, &LocalHost).map(|line| vec![line]),
    };
    let mut directives = Vec::new();
    for line in lines.map_err(|faults| CommandError::Words(join(&faults)))? {
        for warning in &line.warnings {
            writeln!(
                errors,
                "warning: {}",
                printable(warning.to_string().as_bytes())
            )?;
        }
        directives.extend(line.directives);
    }
    Ok(directives)
}

fn not_a_rule(example: &str) -> CommandError {
    CommandError::Words(format!("not a rule; write `{example}`"))
}

fn join(faults: &[language::Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    printable(faults.join("; ").as_bytes())
}

/// `1 rule`, `2 rules`.
fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A rule as a terminal may see it.
pub(super) fn line(rule: &Rule) -> String {
    printable(rule.to_string().as_bytes())
}

fn rule_json(rule: &Rule) -> Value {
    let keys: Vec<_> = rule.keys().map(String::from_utf8_lossy).collect();
    json!({
        "rule": rule.to_string(),
        "list": rule.list.name(),
        "keys": keys,
    })
}

fn print_json(out: &mut impl Write, value: &Value) -> Result<(), CommandError> {
    Ok(writeln!(out, "{value:#}")?)
}
