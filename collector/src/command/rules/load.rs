//! `audit-collector rules load`: rule files into the kernel.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::check::finding_json;
use super::{count, excerpt, print_json, read};
use crate::audit::client::Client;
use crate::cli::{EXIT_FAILURE, EXIT_OK};
use crate::command::{CommandError, Format, held_signals};
use crate::ruleset::check::{self, Finding};
use crate::ruleset::{self, LineError, Loaded, OnError, RuleSet, Trust};

/// Loads the files and says how many of their rules the kernel has then. Lines with faults are shown on `errors`.
///
/// # Errors
/// Where a file cannot be read or must not be trusted, a line has a fault, or the kernel refuses; the kernel is then as
/// it was before.
pub fn load(
    paths: &[PathBuf],
    on_error: OnError,
    format: Format,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, CommandError> {
    let set = read(paths, Trust::Root)?.with_on_error(on_error);
    let faults = check::faults(&set);
    for finding in &faults {
        errors.write_all(excerpt(finding).as_bytes())?;
    }
    held_signals::hold();
    let loaded = match ruleset::load(&mut Client::connect()?, &set) {
        Ok(loaded) => loaded,
        Err(error) => {
            let Some(line) = error.line() else {
                return Err(error.into());
            };
            show(line, errors)?;
            return Err(CommandError::Line(error));
        }
    };
    for failure in &loaded.failures {
        show(failure, errors)?;
    }
    match format {
        Format::Json => print_json(
            out,
            &json!({
                "wanted": loaded.wanted,
                "loaded": loaded.loaded,
                "added": loaded.added,
                "deleted": loaded.deleted,
                "repeated": loaded.repeated,
                "settings": loaded.settings.iter().map(|changed| json!({
                    "name": changed.field.name(),
                    "old": changed.old,
                    "new": changed.new,
                })).collect::<Vec<_>>(),
                "faults": faults.iter().map(finding_json).collect::<Vec<_>>(),
                "failures": loaded.failures.iter().map(|failure| json!({
                    "file": failure.asked.as_ref().map(|asked| asked.source.place.file.to_string_lossy()),
                    "line": failure.asked.as_ref().map(|asked| asked.source.place.line),
                    "what": failure.reason(),
                })).collect::<Vec<_>>(),
            }),
        )?,
        Format::Text => print(&loaded, out)?,
    }
    Ok(exit_code(&set, &loaded))
}

fn show(line: &LineError, errors: &mut impl Write) -> Result<(), CommandError> {
    match Finding::of_refusal(line) {
        Some(finding) => errors.write_all(excerpt(&finding).as_bytes())?,
        None => writeln!(errors, "{line}")?,
    }
    Ok(())
}

fn print(loaded: &Loaded, out: &mut impl Write) -> Result<(), CommandError> {
    for changed in &loaded.settings {
        let old = changed.old.map_or("?".into(), |old| old.to_string());
        writeln!(out, "{} {old} -> {}", changed.field.name(), changed.new)?;
    }
    let repeated = match loaded.repeated {
        0 => String::new(),
        lines => format!("; {} a rule that was there", count(lines, "line")),
    };
    writeln!(
        out,
        "loaded {} of {} ({} added, {} deleted{repeated})",
        loaded.loaded,
        count(loaded.wanted, "rule"),
        loaded.added,
        loaded.deleted,
    )?;
    Ok(())
}

/// A fault or refusal counts unless `-i` says otherwise for its line; a rule that is not there in the end always does.
fn exit_code(set: &RuleSet, loaded: &Loaded) -> u8 {
    let counts = |on_error| on_error != OnError::Ignore;
    let is_counted = |failure: &LineError| {
        failure
            .asked
            .as_ref()
            .is_none_or(|asked| counts(asked.on_error))
    };
    let ignored = loaded
        .failures
        .iter()
        .filter(|failure| !is_counted(failure))
        .count();
    match () {
        () if set.faults().any(|(entry, _)| counts(entry.on_error)) => EXIT_FAILURE,
        () if loaded.failures.iter().any(is_counted) => EXIT_FAILURE,
        () if loaded.loaded + ignored < loaded.wanted => EXIT_FAILURE,
        () => EXIT_OK,
    }
}
