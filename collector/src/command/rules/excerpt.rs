//! A line of a rule file with what is to be said about it.

use crate::ruleset::check::{Finding, Severity};

/// The finding as compilers print it: where and what, then the line with a mark under the words it is about. A long
/// line is cut around them.
pub(in crate::command) fn excerpt(finding: &Finding) -> String {
    /// Characters of a line that are shown.
    const WIDTH: usize = 120;
    let severity = match finding.severity {
        Severity::Fault => "fault",
        Severity::Warning => "warning",
    };
    let place = &finding.source.place;
    let column = finding.column();
    let mut text = format!("{place}:{column}: {severity}: {}\n", finding.what);

    let line: Vec<char> = finding.source.printable().chars().collect();
    let at = column - 1;
    let from = if line.len() > WIDTH {
        at.saturating_sub(WIDTH / 3)
    } else {
        0
    };
    let to = line.len().min(from + WIDTH);
    let before = if from > 0 { "…" } else { "" };
    let after = if to < line.len() { "…" } else { "" };
    let shown: String = line.get(from..to).unwrap_or_default().iter().collect();
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    text.push_str(&format!("{number} | {before}{shown}{after}\n"));
    let marks = finding.width().min(to.saturating_sub(at).max(1));
    let indent = " ".repeat(before.chars().count() + at - from);
    text.push_str(&format!("{margin} | {indent}{}\n", "^".repeat(marks)));
    if let Some(better) = &finding.suggestion {
        text.push_str(&format!("{margin} = {better}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::ruleset::{Place, SourceLine};

    fn finding(text: &[u8], span: std::ops::Range<usize>) -> Finding {
        Finding {
            severity: Severity::Fault,
            source: Arc::new(SourceLine {
                place: Place {
                    file: Path::new("a.rules").into(),
                    line: 12,
                },
                text: text.into(),
            }),
            span,
            what: "unknown system call opnat".into(),
            suggestion: Some("openat".into()),
        }
    }

    #[test]
    fn the_mark_is_under_the_words() {
        assert_eq!(
            excerpt(&finding(b"-k \x1b[1m\xc3\xa9 -S opnat", 13..18)),
            "a.rules:12:18: fault: unknown system call opnat\n\
             12 | -k \\u{1b}[1m\u{e9} -S opnat\n   |                  ^^^^^\n   = openat\n"
        );
    }

    #[test]
    fn no_span_and_no_line_make_it_panic() {
        let long = "x".repeat(500);
        for span in [0..0, 3..900, 490..500, 900..950] {
            let text = excerpt(&finding(long.as_bytes(), span.clone()));
            assert!(
                text.lines().all(|line| line.chars().count() < 130),
                "{text}"
            );
            assert!(text.contains('^'), "{span:?}");
            excerpt(&finding(b"", span));
        }
    }
}
