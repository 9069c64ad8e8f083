//! The rules that dashboards are usually held to (those of Grafana's dashboard linter), and what links rules, panels, metrics and
//! runbooks to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use promql_parser::parser::{self, Call, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use super::alerts::alerts;
use super::grafana::Board;
use super::{generated, rules};
use crate::workspace;

/// What Grafana and other exporters bring, or what is recorded; the rest are metrics of ours.
const OURS: &str = "audit_collector_";

/// Every dashboard.
fn boards() -> Vec<Value> {
    super::boards().iter().map(Board::json).collect()
}

/// The panels of a dashboard but for its headings.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    let panels = board["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row")
}

/// Where it is, and the expression.
fn panel_expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for board in boards() {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().unwrap() {
                let place = format!("{}: {}", board["title"], panel["title"]);
                all.push((place, target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for annotation in board["annotations"]["list"].as_array().unwrap() {
            let place = format!("{}: {}", board["title"], annotation["name"]);
            all.push((place, annotation["expr"].as_str().unwrap().to_owned()));
        }
    }
    all
}

fn rule_expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for text in [rules::recording(), rules::alerts()] {
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        for group in file["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                let name = rule.get("alert").or_else(|| rule.get("record")).unwrap();
                all.push((name.to_string(), rule["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    all
}

/// As Grafana would send it.
fn substituted(expr: &str) -> String {
    expr.replace("$__rate_interval", "5m")
        .replace("$__range", "1h")
        .replace("$cluster", ".*")
        .replace("$job", ".+")
        .replace("$instance", ".+")
}

/// The selectors of an expression, and for each the function right around it.
#[derive(Default)]
struct Selectors {
    found: Vec<(VectorSelector, Option<&'static str>)>,
}

impl Selectors {
    fn of(expr: &str) -> Self {
        let parsed =
            parser::parse(&substituted(expr)).unwrap_or_else(|error| panic!("{expr}: {error}"));
        let mut selectors = Self::default();
        walk_expr(&mut selectors, &parsed).unwrap();
        selectors
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.found
            .iter()
            .map(|(selector, _)| selector.name.as_deref().unwrap())
    }
}

impl ExprVisitor for Selectors {
    type Error = String;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
        match expr {
            Expr::Call(Call { func, args }) => {
                for argument in &args.args {
                    if let Expr::MatrixSelector(matrix) = argument.as_ref() {
                        self.found.push((matrix.vs.clone(), Some(func.name)));
                    }
                }
            }
            Expr::VectorSelector(selector) => self.found.push((selector.clone(), None)),
            _ => {}
        }
        Ok(true)
    }
}

/// The metric table: name and type.
fn table() -> BTreeMap<String, String> {
    let text = fs::read_to_string(workspace::root().join("collector/metrics.tsv")).unwrap();
    text.lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.split('\t');
            (
                cells.next().unwrap().to_owned(),
                cells.next().unwrap().to_owned(),
            )
        })
        .collect()
}

/// `name` without what a histogram's series add to it.
fn family<'a>(table: &BTreeMap<String, String>, name: &'a str) -> &'a str {
    let bare = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    match bare {
        Some(bare) if table.get(bare).is_some_and(|kind| kind == "histogram") => bare,
        _ => name,
    }
}

fn recorded() -> BTreeSet<String> {
    let file: Value = serde_saphyr::from_str(&rules::recording()).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| rule["record"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_expression_is_promql_and_names_what_is_exported_or_recorded() {
    let (table, recorded) = (table(), recorded());
    for (place, expr) in panel_expressions().into_iter().chain(rule_expressions()) {
        for name in Selectors::of(&expr).names() {
            let known = if name.contains(':') {
                recorded.contains(name)
            } else if name.starts_with(OURS) {
                table.contains_key(family(&table, name))
            } else {
                name == "up" || name.starts_with("process_")
            };
            assert!(known, "{place}: {name} is neither exported nor recorded");
        }
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let table = table();
    let mut shown = BTreeSet::new();
    for (_, expr) in panel_expressions() {
        shown.extend(
            Selectors::of(&expr)
                .names()
                .map(|name| family(&table, name).to_owned()),
        );
    }
    // What a panel shows of a recorded series, it shows of what that is made of.
    let file: Value = serde_saphyr::from_str(&rules::recording()).unwrap();
    for rule in file["groups"][0]["rules"].as_array().unwrap() {
        if shown.contains(rule["record"].as_str().unwrap()) {
            let expr = rule["expr"].as_str().unwrap();
            shown.extend(Selectors::of(expr).names().map(str::to_owned));
        }
    }
    let hidden: Vec<_> = table.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "on no dashboard: {hidden:?}");
}

#[test]
fn selectors_of_panels_match_job_and_instance_and_counters_are_rated() {
    for (place, expr) in panel_expressions() {
        assert!(
            !expr.contains("[5m]"),
            "{place}: a fixed interval where $__rate_interval belongs"
        );
        for (selector, function) in Selectors::of(&expr).found {
            for label in ["cluster", "job", "instance"] {
                let matched = selector.matchers.find_matchers(label);
                assert!(
                    !matched.is_empty(),
                    "{place}: {} does not match {label}",
                    selector.name.unwrap()
                );
            }
            let name = selector.name.unwrap();
            let counter = name.ends_with("_total") || name.ends_with("_bucket");
            let rated = matches!(function, Some("rate" | "increase" | "irate" | "changes"));
            // How often it was reset is the question, not how fast.
            let counted = name == "audit_collector_kernel_lost_resets_total";
            assert!(
                !counter || rated || counted,
                "{place}: {name} is a counter and not rated"
            );
        }
    }
}

#[test]
fn panels_say_what_they_are_and_what_to_do() {
    for board in boards() {
        let mut titles = BTreeSet::new();
        for panel in panels(&board) {
            let title = panel["title"].as_str().unwrap();
            assert!(titles.insert(title.to_owned()), "{title} twice");
            assert!(panel["description"].as_str().unwrap().len() > 20, "{title}");
            assert!(
                !panel["fieldConfig"]["defaults"]["unit"]
                    .as_str()
                    .unwrap()
                    .is_empty(),
                "{title}"
            );
            assert!(
                !panel["targets"].as_array().unwrap().is_empty(),
                "{title} has no query"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    for board in boards() {
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64()));
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        cells.insert((x, y)),
                        "{}: {} overlaps",
                        board["title"],
                        panel["title"]
                    );
                }
            }
        }
    }
}

#[test]
fn dashboards_have_their_variables_and_cannot_be_edited_in_place() {
    let mut uids = BTreeSet::new();
    for board in boards() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()));
        assert_eq!(
            (board["editable"].as_bool(), board["schemaVersion"].as_u64()),
            (Some(false), Some(39))
        );
        let variables = board["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = variables
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["datasource", "cluster", "job", "instance"]);
        for variable in &variables[2..] {
            assert_eq!(
                (&variable["allValue"], &variable["multi"]),
                (&".+".into(), &true.into())
            );
            assert_eq!(variable["refresh"], 2);
        }
    }
}

#[test]
fn every_alert_has_a_runbook_that_tells_what_to_do_and_no_runbook_is_left_over() {
    let folder = workspace::root().join("dashboards/runbooks");
    let mut names: BTreeSet<String> = alerts()
        .iter()
        .map(|alert| format!("{}.md", alert.name))
        .collect();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        assert!(names.remove(&name), "{name} is of no alert");
        for heading in ["## Meaning", "## Impact", "## Diagnosis", "## Remedy"] {
            assert!(text.contains(heading), "{name} lacks {heading}");
        }
        assert!(
            text.contains("audit-collector "),
            "{name} names no command of ours"
        );
    }
    assert!(names.is_empty(), "no runbook: {names:?}");
}

#[test]
fn what_is_committed_is_what_the_code_makes() {
    super::check().unwrap();
    assert_eq!(generated().len(), 6);
}
