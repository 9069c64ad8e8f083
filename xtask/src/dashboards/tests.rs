//! The rules that dashboards are usually held to (those of Grafana's dashboard linter), and what links rules, panels, metrics and
//! runbooks to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use promql_parser::parser::{
    self, AtModifier, Call, Expr, MatrixSelector, SubqueryExpr, VectorSelector,
};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use super::alerts::{fleet_alerts, host_alerts};
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
    expr.replace("$__interval", "1m")
        .replace("$__rate_interval", "5m")
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

/// In place of `$__interval`, `$__rate_interval` and `$__range`: nobody would write these.
const INTERVAL: Duration = Duration::from_secs(7_907);
const RATE_INTERVAL: Duration = Duration::from_secs(7_919);
const RANGE: Duration = Duration::from_secs(7_927);

/// How often a query is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Once,
    /// For every point of a graph.
    ForEveryPoint,
}

/// The ranges of an expression that are not as Grafana has them: a fixed one leaves out what lies between the points of a graph of
/// days, and has nothing in it where scrapes are further apart; one as long as the dashboard's is read anew for every point.
struct Ranges {
    asked: Asked,
    wrong: Vec<String>,
}

impl Ranges {
    fn wrong(expr: &str, asked: Asked) -> Vec<String> {
        let seconds = |range: Duration| format!("{}s", range.as_secs());
        let expr = expr
            .replace("$__interval", &seconds(INTERVAL))
            .replace("$__rate_interval", &seconds(RATE_INTERVAL))
            .replace("$__range", &seconds(RANGE));
        let parsed = parser::parse(&substituted(&expr)).unwrap();
        let mut ranges = Self {
            asked,
            wrong: Vec::new(),
        };
        walk_expr(&mut ranges, &parsed).unwrap();
        ranges.wrong
    }

    fn check(&mut self, expr: &Expr, range: Duration, at: Option<&AtModifier>) {
        let once = self.asked == Asked::Once || matches!(at, Some(AtModifier::End));
        if range != RATE_INTERVAL && !(range == RANGE && once) {
            self.wrong.push(expr.to_string());
        }
    }
}

impl ExprVisitor for Ranges {
    type Error = String;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
        match expr {
            Expr::MatrixSelector(MatrixSelector { vs, range }) => {
                self.check(expr, *range, vs.at.as_ref());
            }
            Expr::Subquery(SubqueryExpr {
                range, step, at, ..
            }) => {
                self.check(expr, *range, at.as_ref());
                if *step != Some(INTERVAL) {
                    self.wrong.push(expr.to_string());
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

#[test]
fn ranges_are_those_of_grafana() {
    for board in boards() {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().unwrap() {
                let asked = if target["instant"] == true {
                    Asked::Once
                } else {
                    Asked::ForEveryPoint
                };
                let wrong = Ranges::wrong(target["expr"].as_str().unwrap(), asked);
                let place = format!("{}: {}", board["title"], panel["title"]);
                assert!(wrong.is_empty(), "{place}: {wrong:?}");
            }
        }
        for annotation in board["annotations"]["list"].as_array().unwrap() {
            let expr = annotation["expr"].as_str().unwrap();
            assert!(
                Ranges::wrong(expr, Asked::ForEveryPoint).is_empty(),
                "{expr}"
            );
        }
    }
}

#[test]
fn ranges_that_are_not_grafanas_are_found() {
    use Asked::{ForEveryPoint, Once};
    for (expr, asked, wrong) in [
        ("rate(a[$__rate_interval])", ForEveryPoint, 0),
        ("sum(rate(a[5m])) / sum(rate(b[1h]))", ForEveryPoint, 2),
        ("increase(a[5m])", Once, 1),
        ("increase(a[$__range])", Once, 0),
        ("increase(a[$__range])", ForEveryPoint, 1),
        (
            "a and topk(3, increase(a[$__range] @ end()))",
            ForEveryPoint,
            0,
        ),
        (
            "max_over_time(a[$__range:$__interval] @ end())",
            ForEveryPoint,
            0,
        ),
        (
            "max_over_time(rate(a[$__rate_interval])[$__range:$__rate_interval] @ end())",
            ForEveryPoint,
            1,
        ),
        (
            "max_over_time(rate(a[5m])[$__range:$__interval])",
            ForEveryPoint,
            2,
        ),
        ("max_over_time(a[$__range:1m] @ end())", ForEveryPoint, 1),
        ("max_over_time(a[$__range:] @ end())", ForEveryPoint, 1),
    ] {
        assert_eq!(Ranges::wrong(expr, asked).len(), wrong, "{expr}");
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
            // Of a fleet it would draw thousands of lines.
            let one_host = board["uid"] == super::host::UID && variable["name"] == "instance";
            assert_eq!(variable["includeAll"], !one_host);
        }
    }
}

#[test]
fn every_alert_has_a_runbook_that_tells_what_to_do_and_no_runbook_is_left_over() {
    let folder = workspace::root().join("dashboards/runbooks");
    let alerts = fleet_alerts().into_iter().chain(host_alerts());
    let mut names: BTreeSet<String> = alerts.map(|alert| format!("{}.md", alert.name)).collect();
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
fn grafana_is_told_how_often_prometheus_scrapes() {
    let read = |path: &str| -> Value {
        let text = fs::read_to_string(workspace::root().join("dashboards").join(path)).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    let source = read("grafana/provisioning/datasources/prometheus.yml");
    let told = &source["datasources"][0]["jsonData"]["timeInterval"];
    assert!(told.is_string());
    for path in ["prometheus/scrape.yml", "prometheus/scrape-kubernetes.yml"] {
        assert_eq!(&read(path)["global"]["scrape_interval"], told, "{path}");
    }
}

#[test]
fn what_is_committed_is_what_the_code_makes() {
    super::check().unwrap();
    assert_eq!(generated().len(), 6);
}
