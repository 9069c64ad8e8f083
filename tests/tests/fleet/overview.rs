//! What Grafana asks for when somebody opens *Fleet overview*: whether the answers are right, and how long they take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use audit_collector_tests::grafana::{Dashboard, Moments, Query, TimeRange};
use audit_collector_tests::prometheus::{self, Prometheus, Series};
use serde_json::Value;

use super::hosts::{self, Fleet, Host};
use super::recording::now;

/// What a query may take, as the fastest of these many: whatever else the machine does only adds to it.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
const TIMES: usize = 5;
/// What it shows when it is opened.
const RANGE: Duration = Duration::from_secs(6 * 3_600);
const UID: &str = "audit-collector-fleet";
const TABLE: &str = "Every host, the worst first";

pub(super) struct Overview(Dashboard);

/// A query, and how long its answers took.
pub(super) struct Asked {
    of: String,
    chosen: &'static str,
    took: Vec<Duration>,
    values: usize,
}

/// What is chosen in the dashboard's variables, by their names; all where nothing is.
type Choice<'a> = BTreeMap<&'a str, Vec<&'a str>>;

impl Overview {
    pub(super) fn read() -> Self {
        let mut boards = Dashboard::all().unwrap().into_iter();
        Self(boards.find(|board| board.0["uid"] == UID).unwrap())
    }

    /// Checks what it says of each host, and that nothing is told that is not so.
    pub(super) fn check(&self, prometheus: &Prometheus, fleet: &Fleet) {
        let severities = severities(prometheus);
        let severity = |host: &Host| {
            let reasons = host.reasons().iter();
            reasons.map(|reason| severities[*reason]).max().unwrap_or(0)
        };
        let number = |value: u8| {
            let hosts = fleet.hosts.iter().filter(|host| severity(host) == value);
            hosts.count() as f64
        };
        let all = fleet.hosts.len() as f64;
        let with = |reason: &str| -> BTreeSet<String> {
            let hosts = fleet
                .hosts
                .iter()
                .filter(|host| host.reasons().contains(&reason));
            hosts.map(Host::key).collect()
        };
        for (panel, right) in [
            ("Hosts", all),
            ("Not answering", with("AuditCollectorDown").len() as f64),
            ("Hosts to act on", number(2)),
            ("Hosts to look at", number(1)),
        ] {
            let shown = self.ask_now(prometheus, panel, "A");
            assert_eq!(shown[0].values[0].1, right, "{panel}");
        }

        let table = self.ask_now(prometheus, TABLE, "A");
        let mut rows = BTreeMap::new();
        for row in &table {
            let (host, reason) = (&row.labels["host"], row.labels.get("reason"));
            assert_eq!(*host, hosts::key(&row.labels));
            let reason = reason.map_or("", |reason| &**reason);
            let twice = rows.insert(host.clone(), row.values[0].1 as u8);
            assert_eq!(twice, None, "{host}");
            assert!(
                reason.is_empty() || with(reason).contains(host),
                "{host}: {reason}"
            );
        }
        let right = fleet.hosts.iter();
        let right = right.map(|host| (host.key(), severity(host)));
        assert_eq!(rows, right.collect(), "the table's hosts and their health");
        for (letter, reason) in [
            ("B", "AuditEventsUnrecovered"),
            ("C", "AuditEventsBackfilled"),
        ] {
            let losing = self.ask_now(prometheus, TABLE, letter);
            let losing = losing.into_iter().filter(|row| row.values[0].1 > 0.0);
            let losing: BTreeSet<_> = losing.map(|row| row.labels["host"].clone()).collect();
            assert_eq!(losing, with(reason), "the table's hosts with {reason}");
        }
        for bar in self.ask_now(prometheus, "Hosts, by what is wrong", "A") {
            let reason = &bar.labels["reason"];
            assert_eq!(bar.values[0].1, with(reason).len() as f64, "{reason}");
        }

        let told = prometheus.query("group by (cluster, job, instance, alertname) (ALERTS)");
        let told: BTreeSet<(String, String)> = told
            .unwrap()
            .into_iter()
            .map(|one| (hosts::key(&one.labels), one.labels["alertname"].clone()))
            .collect();
        let right = fleet.hosts.iter().flat_map(|host| {
            let reasons = host.reasons().iter();
            reasons.map(|reason| (host.key(), (*reason).to_owned()))
        });
        let right: BTreeSet<_> = right.collect();
        let missing: Vec<_> = right.difference(&told).collect();
        let wrong: Vec<_> = told.difference(&right).collect();
        assert!(
            missing.is_empty() && wrong.is_empty(),
            "not told: {missing:?}; told wrongly: {wrong:?}"
        );
    }

    /// Asks for everything several times, with all hosts chosen and with some.
    pub(super) fn measure(
        &self,
        prometheus: &Prometheus,
        fleet: &Fleet,
        scrape_interval: Duration,
    ) -> Vec<Asked> {
        let range = TimeRange {
            length: RANGE,
            scrape_interval,
        };
        let instances = fleet.hosts.iter().map(|host| host.instance.as_str());
        let choices: [(&str, Choice<'_>); 3] = [
            ("all hosts", Choice::new()),
            (
                "one cluster",
                [("cluster", vec![fleet.hosts[0].cluster])].into(),
            ),
            (
                // Of each name there are four.
                "every tenth host",
                [("instance", instances.step_by(40).collect())].into(),
            ),
        ];
        let mut asked = Vec::new();
        for (chosen, choice) in choices {
            for query in self.0.queries() {
                let expr = self.0.filled_in_with(&query.expr, range, &choice);
                let of = format!("{} {}", query.panel, query.letter);
                asked.push(Asked::of(of, chosen, || {
                    ask(prometheus, &query, &expr, range)
                        .iter()
                        .map(|one| one.values.len())
                        .sum()
                }));
            }
            for variable in self.0.variables() {
                let selector = self.0.filled_in_with(&variable.selector, range, &choice);
                let path = format!("label/{}/values", variable.label);
                let (from, until) = (now() - RANGE.as_secs_f64(), now());
                let parameters: [(&str, &str); 3] = [
                    ("match[]", &selector),
                    ("start", &from.to_string()),
                    ("end", &until.to_string()),
                ];
                asked.push(Asked::of(format!("${}", variable.name), chosen, || {
                    let values = prometheus.api(&path, &parameters).unwrap();
                    values.as_array().unwrap().len()
                }));
            }
        }
        asked
    }

    /// What a query of a panel is now.
    fn ask_now(&self, prometheus: &Prometheus, panel: &str, letter: &str) -> Vec<Series> {
        let mut queries = self.0.queries().into_iter();
        let query = queries.find(|query| query.panel == panel && query.letter == letter);
        let range = TimeRange {
            length: RANGE,
            scrape_interval: super::SCRAPE_INTERVAL,
        };
        let expr = self.0.filled_in(&query.unwrap().expr, range);
        prometheus.query(&expr).unwrap()
    }
}

impl Asked {
    fn of(of: String, chosen: &'static str, ask: impl Fn() -> usize) -> Self {
        let mut values = 0;
        let took = (0..TIMES).map(|_| {
            let began = Instant::now();
            values = ask();
            began.elapsed()
        });
        Self {
            of,
            chosen,
            took: took.collect(),
            values,
        }
    }

    pub(super) fn took(&self) -> Duration {
        super::fastest(&self.took)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of,
            chosen,
            took,
            values,
        } = self;
        let took: Vec<_> = took
            .iter()
            .map(|time| format!("{:.3}", time.as_secs_f64()))
            .collect();
        write!(f, "{} s: {of}, {chosen}: {values} values", took.join(" "))
    }
}

fn ask(prometheus: &Prometheus, query: &Query, expr: &str, range: TimeRange) -> Vec<Series> {
    let step = match query.moments {
        Moments::Last => None,
        Moments::All => Some(range.step().as_secs_f64()),
        Moments::Every(seconds) => Some(seconds as f64),
    };
    let until = now();
    let from = until - range.length.as_secs_f64();
    let answer = match step {
        Some(step) => prometheus.query_range(expr, prometheus::Moments { from, until, step }),
        None => prometheus.query(expr),
    };
    answer.unwrap_or_else(|error| panic!("{}: {error:#}: {expr}", query.panel))
}

/// How grave each alert is: 2 critical, 1 a warning.
fn severities(prometheus: &Prometheus) -> BTreeMap<String, u8> {
    let data = prometheus.api("rules", &[("type", "alert")]).unwrap();
    let groups = data["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule: &Value| {
            let grave = match rule["labels"]["severity"].as_str() {
                Some("critical") => 2,
                Some("warning") => 1,
                other => panic!("{rule}: {other:?} is no severity"),
            };
            (rule["name"].as_str().unwrap().to_owned(), grave)
        })
        .collect()
}
