//! What is wrong with rule files, and what is allowed but probably not meant.
//!
//! Owns the findings that come of comparing lines with each other; what is wrong with one line alone comes from
//! [`crate::audit::language`]. Nothing is said that is not certain: a rule counts as covered only where each of its
//! conditions says so. Asks neither the kernel nor the host.

mod shadow;
mod twin;

use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::load::LineError;
use super::order::by_version;
use super::place::{Place, SourceLine};
use super::set::RuleSet;
use super::wanted::{Asked, Wanted};
use crate::audit::language::{Directive, Fault};
use crate::audit::status::StatusField;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Allowed, and probably not meant.
    Warning,
    /// The line cannot be loaded.
    Fault,
}

/// Something about a line.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line.
    pub source: Arc<SourceLine>,
    /// The bytes of the line it is about.
    pub span: Range<usize>,
    /// What is wrong.
    pub what: String,
    /// What would be right, where that can be said.
    pub suggestion: Option<String>,
}

/// The faults alone, in the order the lines are loaded in.
pub fn faults(set: &RuleSet) -> Vec<Finding> {
    set.faults()
        .map(|(entry, fault)| Finding::of_fault(Severity::Fault, &entry.source, fault))
        .collect()
}

/// Everything there is to say about the files, by file and line.
pub fn check(set: &RuleSet) -> Vec<Finding> {
    let mut findings = faults(set);
    for entry in set.entries() {
        for warning in entry.line.iter().flat_map(|line| &line.warnings) {
            findings.push(Finding::of_fault(Severity::Warning, &entry.source, warning));
        }
    }
    replaced(set, &mut findings);
    order(set, &mut findings);
    let wanted = set.wanted(&[]);
    repeated(&wanted, &mut findings);
    shadow::find(&wanted, &mut findings);
    twin::find(&wanted, &mut findings);
    findings.sort_by(|one, other| {
        let (here, there) = (&one.source.place, &other.source.place);
        let name = |place: &Place| place.file.as_os_str().as_bytes().to_owned();
        by_version(&name(here), &name(there))
            .then_with(|| here.line.cmp(&there.line))
            .then_with(|| one.span.start.cmp(&other.span.start))
    });
    findings
}

impl Finding {
    /// The first character it is about, from 1, as [`SourceLine::printable`] counts them.
    pub fn column(&self) -> usize {
        self.source.width(self.span.start) + 1
    }

    /// How many characters it is about, at least 1.
    pub fn width(&self) -> usize {
        let end = self.source.width(self.span.end.max(self.span.start));
        (end + 1).saturating_sub(self.column()).max(1)
    }

    /// What the kernel refused, where a line asked for it.
    pub fn of_refusal(error: &LineError) -> Option<Self> {
        let asked = error.asked.as_ref()?;
        Some(Self::of_line(
            Severity::Fault,
            &asked.source,
            error.reason(),
        ))
    }

    fn of_fault(severity: Severity, source: &Arc<SourceLine>, fault: &Fault) -> Self {
        Self {
            severity,
            source: Arc::clone(source),
            span: fault.span.clone(),
            what: fault.what.clone(),
            suggestion: fault.suggestion.clone(),
        }
    }

    /// About the whole line.
    fn of_line(severity: Severity, source: &Arc<SourceLine>, what: String) -> Self {
        let text = &source.text;
        let start = text.len() - text.trim_ascii_start().len();
        Self {
            severity,
            source: Arc::clone(source),
            span: start..start.max(text.trim_ascii_end().len()),
            what,
            suggestion: None,
        }
    }

    fn warning(source: &Arc<SourceLine>, what: String) -> Self {
        Self::of_line(Severity::Warning, source, what)
    }

    fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

fn replaced(set: &RuleSet, findings: &mut Vec<Finding>) {
    for (line, by) in set.replaced() {
        let what = format!("has no effect: of all files the last such line counts, {by}");
        findings.push(Finding::warning(&Arc::new(line.clone()), what));
    }
}

/// Lines whose place makes them something else than they look like.
fn order(set: &RuleSet, findings: &mut Vec<Finding>) {
    let mut rules = 0_u32;
    let mut lock = None;
    for entry in set.entries() {
        let source = &entry.source;
        for directive in entry.line.iter().flat_map(|line| &line.directives) {
            if let Some(lock) = &lock
                && changes_what_is_locked(directive)
            {
                let what = format!("comes after `-e 2` in {lock}, where the kernel refuses it");
                let better = "`audit-collector rules load` locks last whatever the order, auditctl does not; put `-e 2` at the end";
                findings.push(Finding::warning(source, what).suggest(better));
                break;
            }
            match directive {
                Directive::Add { .. } => rules += 1,
                Directive::DeleteAll { key: None } => {
                    if rules > 0 {
                        let what = format!("deletes the {rules} rule(s) of the lines before it");
                        findings.push(Finding::warning(source, what).suggest("put `-D` first"));
                    }
                    rules = 0;
                }
                Directive::Set {
                    field: StatusField::Enabled,
                    value: 2,
                } => lock = Some(source.place.clone()),
                Directive::Status
                | Directive::List { .. }
                | Directive::Version
                | Directive::Help => {
                    let what = "asks for output, which loading a file does not give".into();
                    findings.push(Finding::warning(source, what));
                }
                _ => {}
            }
        }
    }
}

/// What the kernel refuses while `enabled` is 2 (kernel/audit.c `audit_receive_msg`).
const fn changes_what_is_locked(directive: &Directive) -> bool {
    matches!(
        directive,
        Directive::Add { .. }
            | Directive::Delete { .. }
            | Directive::DeleteAll { .. }
            | Directive::Set { .. }
            | Directive::Trim
            | Directive::MakeEquivalent { .. }
    )
}

fn repeated(wanted: &Wanted, findings: &mut Vec<Finding>) {
    for (asked, first) in &wanted.repeated {
        let Some(Asked { source, .. }) = first else {
            continue;
        };
        let what = format!(
            "is the same rule as {}; auditctl stops here unless -i or -c stands before it",
            source.place
        );
        findings.push(Finding::warning(&asked.source, what).suggest("remove one of the two"));
    }
    // Without `-D` it may be loaded from elsewhere.
    if wanted.clears {
        for asked in &wanted.not_found {
            let what = "deletes a rule that no line before it adds".into();
            findings.push(Finding::of_line(Severity::Fault, &asked.source, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::tests::set;
    use super::*;

    fn found(text: &str) -> Vec<(u32, Severity, String)> {
        check(&set(text))
            .into_iter()
            .map(|f| (f.source.place.line, f.severity, f.what))
            .collect()
    }

    fn one(text: &str) -> (u32, Severity, String) {
        let mut found = found(text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn what_is_in_order_is_not_spoken_of() {
        assert_eq!(found("D\nb64\na1"), []);
    }

    #[test]
    fn faults_are_told_with_their_place() {
        let findings = check(&set("a1\n?x"));
        assert_eq!((findings[0].column(), findings[0].width()), (1, 2));
        assert_eq!(findings[0].severity, Severity::Fault);
        assert_eq!(one("D\na1\nd2").0, 3);
        assert_eq!(one("D\na1\nd2").1, Severity::Fault);
        // It may be loaded from elsewhere.
        assert_eq!(found("a1\nd2"), []);
    }

    #[test]
    fn lines_are_compared_with_each_other() {
        let (line, severity, what) = one("a1\na1");
        assert_eq!((line, severity), (2, Severity::Warning));
        assert!(what.contains("the same rule as a.rules:1"), "{what}");
        let (line, _, what) = one("e2\na1");
        assert_eq!(line, 2);
        assert!(what.contains("after `-e 2` in a.rules:1"), "{what}");
        assert!(one("a1\nD\na2").2.contains("deletes the 1 rule(s)"));
        assert!(one("s").2.contains("asks for output"));
        // Rules without conditions match everything, so the second never does.
        let (line, _, what) = one("a1\na2");
        assert_eq!(line, 2);
        assert!(
            what.contains("can never match: a.rules:1 comes first"),
            "{what}"
        );
    }
}
