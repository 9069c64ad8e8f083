//! How the kernel's rules differ from the configured ones, in as many words as a line can hold.

use std::fmt;

use crate::audit::rules::Rule;
use crate::ruleset::{Difference, printable};

/// Most rules named of each kind.
const NAMED: usize = 4;
/// Most characters of a rule.
const CHARACTERS: usize = 160;

/// A difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    missing: Named,
    extra: Named,
    misplaced: Named,
}

/// Some rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    count: usize,
    first: Vec<String>,
}

impl Drift {
    pub(super) fn of(difference: &Difference<'_>) -> Self {
        Self {
            missing: Named::of(difference.missing.iter().map(|wanted| &wanted.rule)),
            extra: Named::of(difference.extra.iter().copied()),
            misplaced: Named::of(difference.misplaced.iter().map(|wanted| &wanted.rule)),
        }
    }

    /// Whether the kernel lacks rules.
    pub(super) const fn lacks_rules(&self) -> bool {
        self.missing.count > 0
    }

    /// Whether there is no difference.
    pub(super) const fn is_none(&self) -> bool {
        self.missing.count + self.extra.count + self.misplaced.count == 0
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (rules, what) in [
            (&self.missing, "missing"),
            (&self.extra, "too many"),
            (&self.misplaced, "out of place"),
        ] {
            if rules.count > 0 {
                write!(
                    f,
                    "{between}{} {what} ({}",
                    rules.count,
                    rules.first.join("; ")
                )?;
                if rules.count > rules.first.len() {
                    write!(f, "; and {} more", rules.count - rules.first.len())?;
                }
                write!(f, ")")?;
                between = ", ";
            }
        }
        Ok(())
    }
}

impl Named {
    fn of<'a>(rules: impl ExactSizeIterator<Item = &'a Rule>) -> Self {
        Self {
            count: rules.len(),
            first: rules.take(NAMED).map(brief).collect(),
        }
    }
}

fn brief(rule: &Rule) -> String {
    let text = printable(rule.to_string().as_bytes());
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_some_rules_counts_all_and_stays_a_line() {
        let hostile = Rule::always_exit().key("a\u{1b}[2J\n\"}");
        let long = Rule::always_exit().key("k".repeat(250));
        let rules = [&hostile, &long, &hostile, &hostile, &hostile, &hostile];
        let drift = Drift::of(&Difference {
            extra: rules.to_vec(),
            ..Difference::default()
        });
        let text = drift.to_string();
        assert!(
            text.starts_with("6 too many (") && text.ends_with("; and 2 more)"),
            "{text}"
        );
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(
            text.chars().count() < (NAMED + 1) * (CHARACTERS + 20),
            "{text}"
        );
        assert!(!drift.is_none());
        assert!(Drift::default().is_none());
    }
}
