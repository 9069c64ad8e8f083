//! `audit-collector rules check`: what is wrong with rule files.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{count, excerpt, print_json, read};
use crate::cli::{EXIT_FAILURE, EXIT_OK};
use crate::command::{CommandError, Format};
use crate::ruleset::Trust;
use crate::ruleset::check::{self, Finding, Severity};

/// Prints everything there is to say about the files. Asks the kernel nothing and needs no privileges. The exit code
/// says whether there is a fault, or anything at all as bad as `fatal`.
///
/// # Errors
/// Where a file cannot be read, or `out` cannot be written.
pub fn check(
    paths: &[PathBuf],
    fatal: Severity,
    format: Format,
    out: &mut impl Write,
) -> Result<u8, CommandError> {
    let set = read(paths, Trust::Anyone)?;
    let findings = check::check(&set);
    let of = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (faults, warnings) = (of(Severity::Fault), of(Severity::Warning));
    let rules = set.wanted(&[]).rules.len();
    match format {
        Format::Json => print_json(
            out,
            &json!({
                "rules": rules,
                "faults": faults,
                "warnings": warnings,
                "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
            }),
        )?,
        Format::Text => {
            for finding in &findings {
                out.write_all(excerpt(finding).as_bytes())?;
            }
            writeln!(
                out,
                "{}, {}, {}",
                count(rules, "rule"),
                count(faults, "fault"),
                count(warnings, "warning")
            )?;
        }
    }
    Ok(match fatal {
        _ if faults > 0 => EXIT_FAILURE,
        Severity::Warning if warnings > 0 => EXIT_FAILURE,
        _ => EXIT_OK,
    })
}

pub(super) fn finding_json(finding: &Finding) -> Value {
    let place = &finding.source.place;
    json!({
        "file": place.file.to_string_lossy(),
        "line": place.line,
        "column": finding.column(),
        "end_column": finding.column() + finding.width(),
        "severity": match finding.severity {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
        },
        "what": finding.what,
        "suggestion": finding.suggestion,
        "text": String::from_utf8_lossy(&finding.source.text),
    })
}
