//! The language of rules against Debian's auditctl: what each makes of the same line, in the kernel and as text.
//!
//! The corpus is `tests/rules/*.rules`. A line that begins with `#=` says how the rule below it is printed where that
//! differs from `auditctl -l`; docs/rules.md says why. Auditing is off meanwhile, so no rule has an effect.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::auditctl;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::rules::Rule;
use collector::audit::status::StatusChange;

/// One line of the corpus.
struct Case {
    place: String,
    line: Vec<u8>,
    /// How it is printed, where not as auditctl prints it.
    printed: Option<String>,
}

/// The rules of one file of the corpus.
fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("rules")
        .join(file);
    let text = fs::read(&path).unwrap();
    let mut cases = Vec::new();
    let mut printed = None;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if let Some(text) = line.strip_prefix(b"#= ") {
            printed = Some(String::from_utf8(text.to_vec()).unwrap());
        } else if matches!(line.trim_ascii_start(), [b'-', b'a' | b'A' | b'w', ..]) {
            cases.push(Case {
                place: format!("{file}:{}", index + 1),
                line: line.to_vec(),
                printed: printed.take(),
            });
        }
    }
    assert!(!cases.is_empty(), "no rules in {file}");
    cases
}

/// The files of the corpus that auditctl can read.
fn files() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "newer.rules")
        .collect();
    files.sort();
    files
}

fn quiet_guard() -> AuditGuard {
    let mut guard = AuditGuard::take().unwrap();
    guard
        .set(&StatusChange {
            enabled: Some(0),
            ..StatusChange::default()
        })
        .unwrap();
    guard
}

/// The one rule that was not there before, and its place.
fn new_rule(guard: &mut AuditGuard, before: &[Rule]) -> Option<(usize, Rule)> {
    let now = guard.rules().unwrap();
    let mut new = now
        .into_iter()
        .enumerate()
        .filter(|(_, rule)| !before.contains(rule));
    let found = new.next();
    assert!(new.next().is_none(), "more than one rule is new");
    found
}

#[test]
fn every_line_of_the_corpus_reads_as_auditctl_prints_it() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return;
    }
    let mut guard = quiet_guard();
    let before = guard.rules().unwrap();
    let mut wrong = Vec::new();
    for case in files().iter().flat_map(|file| cases(file)) {
        let line = String::from_utf8_lossy(&case.line).into_owned();
        if !auditctl::load(&case.line).unwrap() {
            wrong.push(format!("{}: auditctl refuses {line}", case.place));
            continue;
        }
        let Some((index, rule)) = new_rule(&mut guard, &before) else {
            wrong.push(format!("{}: auditctl loads nothing for {line}", case.place));
            continue;
        };
        let theirs = String::from_utf8_lossy(&auditctl::list().unwrap()[index]).into_owned();
        let ours = rule.to_string();
        let as_meant = match &case.printed {
            Some(printed) => ours == *printed && ours != theirs,
            None => ours == theirs,
        };
        if !as_meant {
            wrong.push(format!(
                "{}: {line}\n    ours: {ours}\n  theirs: {theirs}",
                case.place
            ));
        }
        guard.delete_rule(&rule).unwrap();
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
