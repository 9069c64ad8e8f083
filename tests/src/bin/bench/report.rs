//! What a bench found, as JSON and as tables of `BENCHMARKS.md` between markers, of which the rest is written by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::figure::{Figure, grouped};
use crate::machine::Machine;

/// All that one bench found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    pub(crate) title: &'static str,
    /// How it was measured: sentences for the reader of the table.
    pub(crate) how: Vec<String>,
    pub(crate) groups: Vec<Group>,
    pub(crate) ratios: Vec<Ratio>,
}

/// Subjects that were measured side by side.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
}

/// What is measured of each.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) decimals: usize,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: BTreeMap<&'static str, Figure>,
}

/// One subject beside another, or a figure that has a target.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) figure: Figure,
    pub(crate) decimals: usize,
    pub(crate) target: Option<Target>,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn words(self, decimals: usize) -> String {
        match self {
            Self::AtMost(value) => format!("≤ {}", grouped(value, decimals)),
            Self::AtLeast(value) => format!("≥ {}", grouped(value, decimals)),
        }
    }

    /// Whether the median is there.
    fn verdict(self, figure: &Figure) -> &'static str {
        let met = match self {
            Self::AtMost(value) => figure.median <= value,
            Self::AtLeast(value) => figure.median >= value,
        };
        if met { "met" } else { "missed" }
    }
}

impl Column {
    pub(crate) const fn new(key: &'static str, title: &'static str, decimals: usize) -> Self {
        Self {
            key,
            title,
            decimals,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    machine: &'a Machine,
    rounds: usize,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// The whole with every sample.
    pub(crate) fn json(&self, machine: &Machine, rounds: usize) -> anyhow::Result<String> {
        let document = Document {
            version: 1,
            machine,
            rounds,
            report: self,
        };
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }

    /// A section of `BENCHMARKS.md`.
    pub(crate) fn markdown(&self, machine: &Machine, rounds: usize) -> String {
        let mut text = format!(
            "## {}\n\n{machine}; medians of {rounds} rounds (least–most).\n",
            self.title
        );
        for sentence in &self.how {
            text.push_str(&format!("{sentence}\n"));
        }
        for group in &self.groups {
            text.push_str(&format!("\n**{}**\n\n{}", group.title, group.table()));
        }
        if !self.ratios.is_empty() {
            text.push_str("\n| | measured | target | |\n|---|---|---|---|\n");
            for ratio in &self.ratios {
                let figure = ratio.figure.words(ratio.decimals);
                let (target, verdict) = match ratio.target {
                    Some(target) => (target.words(ratio.decimals), target.verdict(&ratio.figure)),
                    None => ("–".into(), ""),
                };
                let _ = writeln!(text, "| {} | {figure} | {target} | {verdict} |", ratio.what);
            }
        }
        text
    }
}

impl Group {
    fn table(&self) -> String {
        // Columns in which nobody has a figure are left out.
        let columns: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| {
                self.rows
                    .iter()
                    .any(|row| row.figures.contains_key(column.key))
            })
            .collect();
        let mut text = String::from("| |");
        for column in &columns {
            text.push_str(&format!(" {} |", column.title));
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(columns.len()));
        for row in &self.rows {
            text.push_str(&format!("\n| {} |", row.name));
            for column in &columns {
                let figure = row.figures.get(column.key);
                let words = figure.map_or("–".to_owned(), |figure| figure.words(column.decimals));
                text.push_str(&format!(" {words} |"));
            }
        }
        text.push('\n');
        text
    }
}

/// `document` with `section` between the markers of `bench`; behind everything else where it has none yet.
pub(crate) fn insert(document: &str, bench: &str, section: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- cargo xtask bench {bench}: begin -->");
    let end = format!("<!-- cargo xtask bench {bench}: end -->");
    let part = format!("{begin}\n{section}{end}");
    let Some((before, rest)) = document.split_once(&begin) else {
        ensure!(!document.contains(&end), "{bench} ends and does not begin");
        return Ok(format!("{}\n\n{part}\n", document.trim_end()));
    };
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("{bench} begins and does not end"))?;
    Ok(format!("{before}{part}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_its_predecessor_and_of_nothing_else() {
        let first = insert("# Title\n\nBy hand.\n", "a", "one\n").unwrap();
        let both = insert(&first, "b", "two\n").unwrap();
        let again = insert(&both, "a", "three\n").unwrap();
        assert!(again.starts_with("# Title\n\nBy hand.\n\n<!-- cargo xtask bench a: begin -->"));
        assert!(!again.contains("one") && again.contains("three") && again.contains("two"));
        assert_eq!(insert(&again, "a", "one\n").unwrap(), both);
    }

    #[test]
    fn half_a_section_is_refused() {
        assert!(insert("<!-- cargo xtask bench a: begin -->\n", "a", "x").is_err());
        assert!(insert("<!-- cargo xtask bench a: end -->\n", "a", "x").is_err());
    }

    #[test]
    fn a_target_is_met_by_the_median() {
        let figure = Figure::of(vec![1.0, 1.1, 9.0]).unwrap();
        assert_eq!(Target::AtMost(1.1).verdict(&figure), "met");
        assert_eq!(Target::AtMost(1.0).verdict(&figure), "missed");
        assert_eq!(Target::AtLeast(1.2).verdict(&figure), "missed");
        assert_eq!(Target::AtLeast(1_500_000.0).words(0), "≥ 1,500,000");
    }

    #[test]
    fn what_nobody_has_is_no_column() {
        let group = Group {
            title: "t".into(),
            columns: vec![Column::new("x", "x", 0), Column::new("y", "y", 1)],
            rows: vec![Row {
                name: "a".into(),
                figures: BTreeMap::from([("y", Figure::of(vec![1.0]).unwrap())]),
            }],
        };
        assert_eq!(group.table(), "| | y |\n|---|---|\n| a | 1.0 |\n");
    }
}
