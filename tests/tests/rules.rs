//! The language of rules against Debian's auditctl: what each makes of the same line, in the kernel and as text.
//!
//! The corpus is `tests/rules/*.rules`. A line that begins with `#=` says how the rule below it is printed where that
//! differs from `auditctl -l`; docs/rules.md says why. Auditing is off meanwhile, so no rule has an effect.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::auditctl;
use audit_collector_tests::process::run_to_end;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::language::{Directive, parse_line};
use collector::audit::rules::{Placement, Rule};
use collector::ruleset::LocalHost;

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

/// What a line adds.
fn parsed(line: &[u8]) -> Result<(Rule, Placement), String> {
    let directives = parse_line(line, &LocalHost)
        .map_err(|faults| format!("{faults:?}"))?
        .directives;
    match &directives[..] {
        [Directive::Add { rule, placement }] => Ok((rule.clone(), *placement)),
        other => Err(format!("{other:?}")),
    }
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// What is wrong with one line; nothing if it makes the same rule as with auditctl, and the same text.
fn compare(guard: &mut AuditGuard, before: &[Rule], case: &Case) -> Result<(), String> {
    if !auditctl::load(&case.line).unwrap() {
        return Err("auditctl refuses it".into());
    }
    let (index, theirs) = new_rule(guard, before).ok_or("auditctl loads nothing")?;
    let listed = shown(&auditctl::list().unwrap()[index]);
    guard.delete_rule(&theirs).unwrap();
    let text = theirs.to_string();
    let as_meant = match &case.printed {
        Some(printed) => text == *printed && text != listed,
        None => text == listed,
    };
    if !as_meant {
        return Err(format!("\n    ours: {text}\n  theirs: {listed}"));
    }

    let (rule, placement) = parsed(&case.line)?;
    guard
        .add_rule_at(&rule, placement)
        .map_err(|error| error.to_string())?;
    let (at, ours) = new_rule(guard, before).ok_or("nothing is loaded")?;
    // By what was parsed: the kernel finds a rule by all of its bytes.
    guard.delete_rule(&rule).unwrap();
    let bytes = |rule: &Rule| rule.encode(Placement::Last).unwrap();
    if bytes(&ours) != bytes(&theirs) || at != index {
        return Err(format!("\n    loads {ours}\n  instead of {theirs}"));
    }
    Ok(())
}

#[test]
fn every_line_of_the_corpus_makes_the_rule_auditctl_makes_and_reads_as_it_prints_it() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let before = guard.rules().unwrap();
    let mut wrong = Vec::new();
    for case in files().iter().flat_map(|file| cases(file)) {
        if let Err(why) = compare(&mut guard, &before, &case) {
            wrong.push(format!("{}: {}: {why}", case.place, shown(&case.line)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What the program prints, which has to end well.
fn output(arguments: &[&str]) -> String {
    let ended = run_to_end(arguments, Duration::from_secs(20)).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn both_listings_of_the_program_are_that_of_auditctl() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let cases = ["stig.rules", "pci-dss.rules", "ospp.rules", "watches.rules"].map(cases);
    // Some lines make the same rule in other words.
    let mut rules: Vec<Rule> = Vec::new();
    for case in cases.iter().flatten().filter(|case| case.printed.is_none()) {
        let (rule, _) = parsed(&case.line).unwrap();
        if !rules.contains(&rule) {
            guard.add_rule(&rule).unwrap();
            rules.push(rule);
        }
    }
    let theirs = shown(&auditctl::list().unwrap().join(&b'\n')) + "\n";
    assert!(theirs.lines().count() > 90, "{theirs}");
    assert_eq!(output(&["rules", "list"]), theirs);
    assert_eq!(output(&["auditctl", "-l"]), theirs);
}

#[test]
fn what_is_newer_than_auditctl_is_loaded_and_printed() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let before = guard.rules().unwrap();
    for case in cases("newer.rules") {
        let (rule, placement) = parsed(&case.line).unwrap();
        guard.add_rule_at(&rule, placement).unwrap();
        let (_, loaded) = new_rule(&mut guard, &before).unwrap();
        guard.delete_rule(&loaded).unwrap();
        let place = &case.place;
        assert_eq!(Some(loaded.to_string()), case.printed, "{place}");
        let (again, _) = parsed(loaded.to_string().as_bytes()).unwrap();
        assert_eq!(again, rule, "{place}");
    }
}

#[test]
fn five_hundred_rules_are_loaded_in_two_seconds() {
    if !requirement::met(&[Requirement::AuditControl]) {
        return;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let before = guard.rules().unwrap();
    let text: String = (0..500)
        .map(|index| {
            format!("-a always,exit -F arch=b64 -S openat,unlinkat -F uid=60321 -F a0={index} -k audit-collector-test\n")
        })
        .collect();

    let began = Instant::now();
    for line in text.lines() {
        let (rule, placement) = parsed(line.as_bytes()).unwrap();
        guard.add_rule_at(&rule, placement).unwrap();
    }
    let ours = began.elapsed();
    let loaded = guard.rules().unwrap();
    assert_eq!(loaded.len(), before.len() + 500);
    assert!(ours < Duration::from_secs(2), "{ours:?}");

    if requirement::find_program(auditctl::PROGRAM).is_some() {
        for rule in loaded.iter().filter(|rule| !before.contains(rule)) {
            guard.delete_rule(rule).unwrap();
        }
        let began = Instant::now();
        assert!(auditctl::load(text.as_bytes()).unwrap());
        println!("500 rules: {ours:?}, auditctl -R {:?}", began.elapsed());
        assert_eq!(guard.rules().unwrap(), loaded);
    }
}
