//! What panels and rules ask Prometheus for is answered, and shows something.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use audit_collector_tests::example;
use audit_collector_tests::grafana::{Dashboard, Moments, Query, TimeRange, metric_names};
use audit_collector_tests::prometheus::{self, Prometheus, Series};
use serde_json::Value;

/// A query: its dashboard's uid, its panel's title, its letter.
type Place<'a> = (&'a str, &'a str, &'a str);

/// What shows nothing in the scene, and why that is right. An entry that does show something is wrong.
const EMPTY: [(Place<'_>, &str); 1] = [(
    (
        "audit-collector-losses",
        "Records given back to the byte, by cause",
        "A",
    ),
    "the collectors keep no copies: with them nothing would be lost for good",
)];

/// Checks every expression of `prometheus`'s rules and of the dashboards over `range`, and that what collectors expose is what
/// dashboards name.
pub(super) fn check(prometheus: &Prometheus, range: TimeRange, expositions: &[String]) {
    check_rules(prometheus);
    let boards = Dashboard::all().unwrap();
    let queries: Vec<(&Dashboard, Query)> = boards
        .iter()
        .flat_map(|board| board.queries().into_iter().map(move |query| (board, query)))
        .collect();
    let mut wrong = Vec::new();
    let mut empty: BTreeSet<_> = EMPTY.iter().map(|(place, _)| *place).collect();
    for (board, query) in &queries {
        let place: Place<'_> = (&query.board, &query.panel, &query.letter);
        let stays_empty = empty.remove(&place);
        match ask(prometheus, board, query, range) {
            Err(error) => wrong.push(format!("{place:?}: {error:#}")),
            Ok(series) if shows(&series) == stays_empty => {
                let what = if stays_empty { "data" } else { "no data" };
                wrong.push(format!("{place:?} has {what}: {}", query.expr));
            }
            Ok(_) => {}
        }
    }
    boards
        .iter()
        .for_each(|board| check_variables(prometheus, board));
    wrong.extend(empty.iter().map(|place| format!("{place:?} is no panel")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    check_names(&boards, expositions);
}

fn ask(
    prometheus: &Prometheus,
    board: &Dashboard,
    query: &Query,
    range: TimeRange,
) -> anyhow::Result<Vec<Series>> {
    let expr = board.filled_in(&query.expr, range);
    assert!(!expr.contains('$'), "a variable is unknown: {expr}");
    let step = match query.moments {
        Moments::Last => return prometheus.query(&expr),
        Moments::All => range.step().as_secs_f64(),
        Moments::Every(seconds) => seconds as f64,
    };
    let until = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    // The last moment is among those that are asked for.
    let from = until - step * (range.length.as_secs_f64() / step).ceil();
    prometheus.query_range(&expr, prometheus::Moments { from, until, step })
}

/// Whether there is anything to be seen.
fn shows(series: &[Series]) -> bool {
    let mut values = series.iter().flat_map(|one| &one.values);
    values.any(|(_, value)| !value.is_nan())
}

/// Each rule has been evaluated without a fault.
fn check_rules(prometheus: &Prometheus) {
    let data = prometheus.api("rules", &[]).unwrap();
    let groups = data["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let committed = ["recording.yml", "alerts.yml"].map(|name| example::rules(name).unwrap().len());
    assert_eq!(rules.len(), committed.iter().sum::<usize>());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_eq!(prometheus.stderr(), "");
}

/// Each variable offers something to choose from.
fn check_variables(prometheus: &Prometheus, board: &Dashboard) {
    for variable in board.variables() {
        let mut selector = variable.selector;
        for other in board.variables() {
            selector = selector.replace(&format!("${}", other.name), &other.all);
        }
        let path = format!("label/{}/values", variable.label);
        let values = prometheus.api(&path, &[("match[]", &selector)]).unwrap();
        let wanted: &[&str] = match variable.name.as_str() {
            "cluster" => &["test"],
            "job" => &["audit-collector"],
            _ => &["blind", "daemon", "gone", "stuck"],
        };
        assert_eq!(values, Value::from(wanted), "{}", variable.name);
    }
}

/// What is exposed is on a dashboard, and the other way round.
fn check_names(boards: &[Dashboard], expositions: &[String]) {
    let types = expositions.iter().flat_map(|text| text.lines());
    let exposed: BTreeMap<&str, &str> = types
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut named: BTreeSet<String> = boards
        .iter()
        .flat_map(Dashboard::queries)
        .flat_map(|query| metric_names(&query.expr))
        .collect();
    // What shows a recorded figure shows what it is made of; a host's health is made of conditions, not of figures.
    let recorded = example::rules("recording.yml").unwrap();
    for rule in recorded.iter().filter(|rule| rule.get("labels").is_none()) {
        if named.remove(rule["record"].as_str().unwrap()) {
            named.extend(metric_names(rule["expr"].as_str().unwrap()));
        }
    }
    let families: BTreeSet<&str> = named
        .iter()
        .filter(|name| !name.contains(':'))
        .map(|name| {
            let bare = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            bare.filter(|bare| exposed.get(bare) == Some(&"histogram"))
                .unwrap_or(name)
        })
        .collect();
    let exposed: BTreeSet<&str> = exposed.into_keys().collect();
    let hidden: Vec<_> = exposed.difference(&families).collect();
    assert!(hidden.is_empty(), "exposed and on no dashboard: {hidden:?}");
    let unknown: Vec<_> = families.difference(&exposed).collect();
    assert!(unknown.is_empty(), "named and not exposed: {unknown:?}");
}
