//! `audit-collector rules diff`: the kernel's rules against rule files.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{count, excerpt, line, print_json, read, rule_json};
use crate::audit::client::Client;
use crate::cli::{EXIT_FAILURE, EXIT_OK};
use crate::command::{CommandError, Format};
use crate::ruleset::{Trust, WantedRule, check, difference};

/// Prints what loading the files would change about the rules. The exit code is 1 where that is anything.
///
/// # Errors
/// Where a file cannot be read or has a fault, the kernel does not tell, or `out` cannot be written.
pub fn diff(
    paths: &[PathBuf],
    format: Format,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, CommandError> {
    let set = read(paths, Trust::Anyone)?;
    for finding in check::faults(&set) {
        errors.write_all(excerpt(&finding).as_bytes())?;
    }
    set.must_be_sound()?;
    let loaded = Client::connect()?.rules()?;
    let wanted = set.wanted(&loaded);
    let difference = difference(&loaded, &wanted);
    match format {
        Format::Json => {
            let wanted_json = |rules: &[&WantedRule]| -> Vec<Value> {
                rules.iter().map(|rule| wanted_json(rule)).collect()
            };
            print_json(
                out,
                &json!({
                    "in_sync": difference.is_empty(),
                    "wanted": wanted.asked().count(),
                    "loaded": loaded.len(),
                    "missing": wanted_json(&difference.missing),
                    "extra": difference.extra.iter().map(|rule| rule_json(rule)).collect::<Vec<_>>(),
                    "misplaced": wanted_json(&difference.misplaced),
                }),
            )?;
        }
        Format::Text => {
            for rule in &difference.missing {
                writeln!(out, "missing    {}{}", line(&rule.rule), origin(rule))?;
            }
            for rule in &difference.extra {
                writeln!(out, "extra      {}", line(rule))?;
            }
            for rule in &difference.misplaced {
                writeln!(out, "misplaced  {}{}", line(&rule.rule), origin(rule))?;
            }
            if difference.is_empty() {
                let asked = wanted.asked().count();
                let others = match loaded.len() - asked {
                    0 => String::new(),
                    others => format!(", and {} the files do not speak of", count(others, "rule")),
                };
                writeln!(out, "in sync: {}{others}", count(asked, "rule"))?;
            }
        }
    }
    Ok(match difference.is_empty() {
        true => EXIT_OK,
        false => EXIT_FAILURE,
    })
}

fn origin(rule: &WantedRule) -> String {
    match &rule.asked {
        Some(asked) => format!("  # {}", asked.source.place),
        None => String::new(),
    }
}

fn wanted_json(wanted: &WantedRule) -> Value {
    let mut rule = rule_json(&wanted.rule);
    if let Some(asked) = &wanted.asked {
        rule["file"] = asked.source.place.file.to_string_lossy().into();
        rule["line"] = asked.source.place.line.into();
    }
    rule
}
