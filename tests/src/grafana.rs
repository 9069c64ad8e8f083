//! What Grafana would ask Prometheus for the dashboards that are in the repository.
//!
//! Owns how they are read and how their variables are filled in; what is asked and what is seen then is the tests' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

/// A dashboard as it lies in the repository.
#[derive(Clone, Debug)]
pub struct Dashboard(pub Value);

/// One query of a panel, or of an annotation.
#[derive(Clone, Debug)]
pub struct Query {
    /// The dashboard's uid.
    pub board: String,
    /// The title of its panel.
    pub panel: String,
    /// Grafana's name for it among those of its panel; empty for an annotation's.
    pub letter: String,
    /// With variables.
    pub expr: String,
    /// How it is asked.
    pub moments: Moments,
}

/// For which moments a query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// The end of the time range.
    Last,
    /// As many as the panel has room for.
    All,
    /// One every so many seconds.
    Every(u64),
}

/// A variable whose values are those of a label.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What stands for it while all values are chosen.
    pub all: String,
    /// Of which series.
    pub selector: String,
    /// Of which label of theirs.
    pub label: String,
}

/// A time range, and what a data source has to say about it.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    /// Its length.
    pub length: Duration,
    /// How often Prometheus scrapes.
    pub scrape_interval: Duration,
}

impl Dashboard {
    /// Every dashboard of the repository.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder())?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
        paths.sort();
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(path)?;
            anyhow::Ok(Self(serde_json::from_str(&text)?))
        };
        paths
            .iter()
            .map(|path| read(path).with_context(|| format!("cannot read {}", path.display())))
            .collect()
    }

    /// Its file's name without the end: its uid without what all begin with.
    ///
    /// # Errors
    /// Where it begins with something else.
    pub fn name(&self) -> anyhow::Result<&str> {
        let uid = self.0["uid"].as_str().context("no uid")?;
        let name = uid.strip_prefix("audit-collector-");
        name.with_context(|| format!("{uid} is none of ours"))
    }

    /// Its queries, panel by panel, then those of its annotations.
    ///
    /// # Panics
    /// Where it has not the form that `cargo xtask dashboards` gives it.
    pub fn queries(&self) -> Vec<Query> {
        let board = text(&self.0["uid"]);
        let list = |value: &Value| value.as_array().expect("this is a list").clone();
        let mut queries = Vec::new();
        for panel in list(&self.0["panels"]) {
            if panel["type"] == "row" {
                continue;
            }
            queries.extend(list(&panel["targets"]).iter().map(|target| Query {
                board: board.clone(),
                panel: text(&panel["title"]),
                letter: text(&target["refId"]),
                expr: text(&target["expr"]),
                moments: if target["instant"] == true {
                    Moments::Last
                } else {
                    Moments::All
                },
            }));
        }
        let annotations = list(&self.0["annotations"]["list"]);
        queries.extend(annotations.iter().map(|annotation| Query {
            board: board.clone(),
            panel: text(&annotation["name"]),
            letter: String::new(),
            expr: text(&annotation["expr"]),
            moments: Moments::Every(seconds(&text(&annotation["step"]))),
        }));
        queries
    }

    /// Its variables but for the data source.
    ///
    /// # Panics
    /// As [`Dashboard::queries`].
    pub fn variables(&self) -> Vec<Variable> {
        let list = self.0["templating"]["list"]
            .as_array()
            .expect("this is a list");
        let of_label = list.iter().filter(|variable| variable["type"] == "query");
        of_label
            .map(|variable| {
                let query = text(&variable["query"]["query"]);
                let (selector, label) = query
                    .strip_prefix("label_values(")
                    .and_then(|query| query.strip_suffix(')')?.rsplit_once(", "))
                    .expect("the values are those of a label");
                Variable {
                    name: text(&variable["name"]),
                    all: text(&variable["allValue"]),
                    selector: selector.to_owned(),
                    label: label.to_owned(),
                }
            })
            .collect()
    }

    /// `expr` as it is sent while all hosts are chosen.
    pub fn filled_in(&self, expr: &str, range: TimeRange) -> String {
        self.filled_in_with(expr, range, &BTreeMap::new())
    }

    /// `expr` as it is sent while `chosen` are the values of these variables, and all values of the others.
    pub fn filled_in_with(
        &self,
        expr: &str,
        range: TimeRange,
        chosen: &BTreeMap<&str, Vec<&str>>,
    ) -> String {
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let mut filled = expr
            .replace("$__interval", &seconds(range.step()))
            .replace("$__rate_interval", &seconds(range.rate_interval()))
            .replace("$__range", &seconds(range.length));
        for variable in self.variables() {
            let value = match chosen.get(&*variable.name) {
                Some(values) => format!("({})", values.join("|")),
                None => variable.all,
            };
            filled = filled.replace(&format!("${}", variable.name), &value);
        }
        filled
    }
}

impl TimeRange {
    /// What lies between two points of a graph that has room for all of them: no less than what lies between two scrapes.
    pub fn step(&self) -> Duration {
        self.scrape_interval
    }

    /// Grafana's `$__rate_interval`.
    pub fn rate_interval(&self) -> Duration {
        (self.step() + self.scrape_interval).max(4 * self.scrape_interval)
    }
}

/// The names in a PromQL expression that can only be those of metrics: ours, those of the process, and recorded ones.
pub fn metric_names(expr: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let words = expr.split(|character| !is_part(character));
    words
        .filter(|word| {
            let ours = ["audit_collector_", "process_"];
            ours.iter().any(|begin| word.starts_with(begin)) || word.contains(':')
        })
        .map(str::to_owned)
        .collect()
}

/// Where the dashboards are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

fn text(value: &Value) -> String {
    value.as_str().expect("this is a text").to_owned()
}

fn seconds(step: &str) -> u64 {
    step.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .expect("the step is in seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_grafana_does() {
        let boards = Dashboard::all().unwrap();
        assert_eq!(boards.len(), 4);
        let range = TimeRange {
            length: Duration::from_secs(90),
            scrape_interval: Duration::from_secs(2),
        };
        let expr = r#"rate(a{cluster=~"$cluster",job=~"$job"}[$__rate_interval]) + b[$__range:$__interval]"#;
        assert_eq!(
            boards[0].filled_in(expr, range),
            r#"rate(a{cluster=~".*",job=~".+"}[8s]) + b[90s:2s]"#
        );
        let chosen = [("cluster", vec!["a", "b"])].into();
        assert_eq!(
            boards[0].filled_in_with(r#"c{cluster=~"$cluster"}"#, range, &chosen),
            r#"c{cluster=~"(a|b)"}"#
        );
    }

    #[test]
    fn names_of_metrics_are_told_from_functions_labels_and_values() {
        let expr = r#"sum by (instance) (rate(audit_collector_a_total{job="audit-collector"}[5m])) / instance:b:ratio"#;
        assert_eq!(
            metric_names(expr),
            ["audit_collector_a_total", "instance:b:ratio"]
                .map(str::to_owned)
                .into()
        );
    }
}
