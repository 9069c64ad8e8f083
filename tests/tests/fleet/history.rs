//! What Prometheus would know already, had it scraped the fleet and evaluated the rules all the time: what is recorded, for the
//! whole of the dashboard's time range; and of what rules look back on, as much as they do.

use std::collections::BTreeMap;

use audit_collector_tests::prometheus::{self, Prometheus};

use super::hosts::{Fleet, Host};

/// Seconds of it that are written at a time, as none may be much older than what is there already.
const SLICE: f64 = 1_800.0;
/// Hosts of which that is written at a time.
const HOSTS: usize = 25;

/// Seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) until: f64,
    /// Between two values.
    pub(super) step: f64,
}

/// A series in the past: its labels besides those of its host, and its value at a moment, where it had one.
struct Past<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    /// In seconds since 1970.
    since: f64,
    value: Box<dyn Fn(f64) -> Option<f64> + 'a>,
}

/// Has `prometheus` know what was in `span`, by the rules whose expressions and names are `rules`. Returns the number of values.
pub(super) fn remember(
    prometheus: &Prometheus,
    fleet: &Fleet,
    rules: &[(Option<String>, String)],
    span: Span,
) -> usize {
    let mut recorded: Vec<&str> = rules
        .iter()
        .filter_map(|(name, _)| name.as_deref())
        .collect();
    recorded.sort_unstable();
    recorded.dedup();
    recorded.push("up");
    let ranges = ranges(rules.iter().map(|(_, expr)| expr.as_str()));
    let pasts: Vec<(&Host, Vec<Past<'_>>)> = fleet
        .hosts
        .iter()
        .map(|host| {
            let recorded = recorded.iter().flat_map(|name| of_rule(name, fleet, host));
            let scraped = ranges.iter().flat_map(|(name, range)| {
                let values = scraped(name, fleet, host);
                values.into_iter().map(|past| Past {
                    since: span.until - *range,
                    ..past
                })
            });
            (host, recorded.chain(scraped).collect())
        })
        .collect();
    let mut values = 0;
    let mut from = span.from;
    while from < span.until {
        let until = span.until.min(from + SLICE);
        for some in pasts.chunks(HOSTS) {
            let series: Vec<prometheus::Series> = some
                .iter()
                .flat_map(|(host, pasts)| pasts.iter().map(move |past| (host, past)))
                .map(|(host, past)| past.between(host, from, until, span.step))
                .filter(|series| !series.values.is_empty())
                .collect();
            values += series.iter().map(|one| one.values.len()).sum::<usize>();
            prometheus.remember(&series).unwrap();
        }
        from = until;
    }
    values
}

impl Past<'_> {
    fn between(&self, host: &Host, from: f64, until: f64, step: f64) -> prometheus::Series {
        let mut labels = host.labels();
        labels.insert("__name__".to_owned(), self.name.to_owned());
        let own = self.labels.iter();
        labels.extend(own.map(|(name, value)| ((*name).to_owned(), value.clone())));
        let moments =
            (0..((until - from) / step).ceil() as u32).map(|n| from + f64::from(n) * step);
        prometheus::Series {
            labels,
            values: moments
                .filter(|at| *at >= self.since)
                .filter_map(|at| Some((at, (self.value)(at)?)))
                .collect(),
        }
    }
}

/// The metrics that are looked back on, and for how many seconds at the most.
fn ranges<'a>(expressions: impl Iterator<Item = &'a str>) -> BTreeMap<String, f64> {
    let mut ranges = BTreeMap::new();
    for expr in expressions {
        let mut rest = expr;
        while let Some((before, after)) = rest.split_once('[') {
            let (range, after) = after.split_once(']').expect("a range has an end");
            rest = after;
            let selector = before.rsplit_once('{').filter(|_| before.ends_with('}'));
            let name = selector.map_or(before, |(name, _)| name);
            let is_part = |character: char| character.is_alphanumeric() || "_:".contains(character);
            let name = name.rsplit(|character| !is_part(character)).next();
            let name = name.expect("a range is of something");
            let (number, unit) = range.split_at(range.len() - 1);
            let unit = match unit {
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => panic!("{expr}: {range} is no range"),
            };
            let seconds = number.parse::<f64>().unwrap() * unit;
            let known = ranges.entry(name.to_owned()).or_insert(seconds);
            *known = known.max(seconds);
        }
    }
    // What is recorded is there for longer.
    ranges.retain(|name, _| !name.contains(':'));
    ranges
}

/// All series of the metric `name` that `host` serves.
fn scraped<'a>(name: &'a str, fleet: &'a Fleet, host: &'a Host) -> Vec<Past<'a>> {
    let series = fleet.recording.series().filter(|(_, one)| one.name == name);
    series
        .map(|(place, one)| Past {
            name,
            labels: one
                .labels
                .iter()
                .map(|(name, value)| (&**name, value.clone()))
                .collect(),
            since: 0.0,
            value: Box::new(move |at| {
                (!host.is_down(at)).then(|| fleet.value(host, (place, one), at))
            }),
        })
        .collect()
}

/// All series of `host` that the rule `name` makes.
fn of_rule<'a>(name: &'a str, fleet: &'a Fleet, host: &'a Host) -> Vec<Past<'a>> {
    const MISSING: &str = "crosscheck_missing_events_total";
    let of = |labels: Vec<(&'a str, String)>, value: Box<dyn Fn(f64) -> Option<f64> + 'a>| Past {
        name,
        labels,
        since: 0.0,
        value,
    };
    let sum = |metric: &'a str, labels: &[(&str, &str)]| Sum::of(fleet, host, metric, labels);
    let causes = || {
        let series = fleet
            .recording
            .series()
            .filter(|(_, one)| one.is(MISSING, &[]));
        let mut causes: Vec<String> = series.map(|(_, one)| one.labels["cause"].clone()).collect();
        causes.sort();
        causes.dedup();
        causes
    };
    let outcomes = ["backfilled", "unrecovered"];
    match name {
        "up" => vec![of(
            Vec::new(),
            Box::new(|at| Some(f64::from(!host.is_down(at)))),
        )],
        "instance:audit_collector_expected_events:rate5m" => {
            let expected = sum("crosscheck_expected_events_total", &[]);
            vec![of(
                Vec::new(),
                Box::new(move |at| Some(expected.grown(at, 300.0)? / 300.0)),
            )]
        }
        "instance_cause:audit_collector_missing_events:rate5m" => causes()
            .into_iter()
            .map(|cause| {
                let missing = sum(MISSING, &[("cause", &cause)]);
                let rate = move |at| {
                    let rate = missing.grown(at, 300.0)? / 300.0;
                    (rate > 0.0).then_some(rate)
                };
                of(vec![("cause", cause)], Box::new(rate))
            })
            .collect(),
        "instance_outcome:audit_collector_missing_events:increase1h" => outcomes
            .into_iter()
            .map(|outcome| {
                let missing = sum(MISSING, &[("outcome", outcome)]);
                let label = vec![("outcome", outcome.to_owned())];
                of(label, Box::new(move |at| missing.grown(at, 3_600.0)))
            })
            .collect(),
        "instance:audit_collector_captured_events:ratio_increase1h" if host.is_unwitnessed() => {
            Vec::new()
        }
        "instance:audit_collector_captured_events:ratio_increase1h" => {
            let lost = sum(MISSING, &[("outcome", "unrecovered")]);
            let expected = sum("crosscheck_expected_events_total", &[]);
            let share =
                move |at| Some(1.0 - lost.grown(at, 3_600.0)? / expected.grown(at, 3_600.0)?);
            vec![of(Vec::new(), Box::new(share))]
        }
        "instance:audit_collector_kernel_backlog_peak:ratio" => {
            let (waiting, limit) = (
                sum("kernel_backlog_peak_records", &[]),
                sum("kernel_backlog_limit_records", &[]),
            );
            vec![of(
                Vec::new(),
                Box::new(move |at| Some(waiting.at(at)? / limit.at(at)?)),
            )]
        }
        "instance:audit_collector_sink_queue:ratio" => {
            let (queued, capacity) = (
                sum("sink_queue_bytes", &[]),
                sum("sink_queue_capacity_bytes", &[]),
            );
            vec![of(
                Vec::new(),
                Box::new(move |at| Some(queued.at(at)? / capacity.at(at)?)),
            )]
        }
        "instance:audit_collector_health:severity" => {
            let well = of(vec![], Box::new(|_| Some(0.0)));
            let reasons = host.reasons().iter().map(|reason| {
                // 1 or 2: how grave it was makes no difference to anything that is measured.
                let grave = move |at| host.is_faulty(at).then_some(1.0);
                of(vec![("reason", (*reason).to_owned())], Box::new(grave))
            });
            std::iter::once(well).chain(reasons).collect()
        }
        _ => panic!("nobody says what {name} was"),
    }
}

/// The sum of some series of a host.
struct Sum<'a> {
    fleet: &'a Fleet,
    host: &'a Host,
    series: Vec<(usize, &'a super::recording::Series)>,
}

impl<'a> Sum<'a> {
    fn of(fleet: &'a Fleet, host: &'a Host, metric: &str, labels: &[(&str, &str)]) -> Self {
        let series = fleet.recording.series();
        Self {
            fleet,
            host,
            series: series.filter(|(_, one)| one.is(metric, labels)).collect(),
        }
    }

    /// Nothing while the host is down.
    fn at(&self, at: f64) -> Option<f64> {
        let value = |one: &(usize, _)| self.fleet.value(self.host, *one, at);
        (!self.host.is_down(at)).then(|| self.series.iter().map(value).sum())
    }

    /// By how much it has grown for some seconds, at `at`; what it grew before a restart is left out.
    fn grown(&self, at: f64, seconds: f64) -> Option<f64> {
        let (now, before) = (self.at(at)?, self.at(at - seconds)?);
        Some(if now < before { now } else { now - before })
    }
}
