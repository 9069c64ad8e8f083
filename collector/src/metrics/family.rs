//! Metric families in the making, by the rows of `metrics.tsv`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily,
    MetricType,
};

use crate::account::Histogram;
use crate::clock::TimeMs;

/// The table of all metrics of the project.
pub(super) const TABLE: &str = include_str!("../../metrics.tsv");

/// What every name begins with.
pub(super) const PREFIX: &str = "audit_collector_";

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: MetricType,
    pub(super) labels: Vec<&'static str>,
    pub(super) help: &'static str,
}

/// The table by name.
pub(super) static ROWS: LazyLock<BTreeMap<&'static str, Row>> = LazyLock::new(|| {
    TABLE
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let (name, kind, labels, help) =
                (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
            let kind = match kind {
                "counter" => MetricType::COUNTER,
                "histogram" => MetricType::HISTOGRAM,
                _ => MetricType::GAUGE,
            };
            let labels = labels
                .split(',')
                .filter(|label| !label.is_empty())
                .collect();
            Some((name, Row { kind, labels, help }))
        })
        .collect()
});

/// A count; above 2⁵³ the format itself is no longer exact.
pub(super) struct Number(pub(super) u64);

impl From<Number> for f64 {
    fn from(number: Number) -> Self {
        number.0 as Self
    }
}

impl From<TimeMs> for f64 {
    fn from(time: TimeMs) -> Self {
        time.0 as Self / 1_000.0
    }
}

/// Families in the making, in the order of their first sample.
#[derive(Default)]
pub(super) struct Families {
    families: Vec<MetricFamily>,
    places: BTreeMap<&'static str, usize>,
}

impl Families {
    /// One sample.
    pub(super) fn set(&mut self, name: &'static str, labels: &[&str], value: impl Into<f64>) {
        let value = value.into();
        self.add(name, labels, |kind, metric| match kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        });
    }

    /// One sample for each of `known` and of what else was counted; the value's label comes last.
    pub(super) fn counts(
        &mut self,
        name: &'static str,
        labels: &[&str],
        known: &[&str],
        counted: &BTreeMap<&'static str, u64>,
    ) {
        let others = counted.keys().filter(|key| !known.contains(*key));
        for last in known.iter().chain(others) {
            let labels: Vec<&str> = labels.iter().copied().chain([*last]).collect();
            let count = counted.get(last).copied().unwrap_or_default();
            self.set(name, &labels, Number(count));
        }
    }

    /// The buckets, count and sum of one histogram.
    pub(super) fn histogram(&mut self, name: &'static str, labels: &[&str], histogram: &Histogram) {
        let mut total = 0;
        let buckets = Histogram::BOUNDS
            .iter()
            .zip(&histogram.counts)
            .map(|(bound, count)| {
                total += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(total);
                bucket
            });
        let mut proto = HistogramProto::default();
        proto.set_bucket(buckets.collect());
        proto.set_sample_count(histogram.counts.iter().sum());
        proto.set_sample_sum(histogram.sum);
        self.add(name, labels, |_, metric| metric.set_histogram(proto));
    }

    fn add(
        &mut self,
        name: &'static str,
        labels: &[&str],
        value: impl FnOnce(MetricType, &mut Metric),
    ) {
        let full_name = format!("{PREFIX}{name}");
        let row = ROWS
            .get(full_name.as_str())
            .expect("a test renders every family, so each name used here is in metrics.tsv");
        let place = *self.places.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(full_name);
            family.set_help(row.help.to_owned());
            family.set_field_type(row.kind);
            self.families.push(family);
            self.families.len() - 1
        });
        debug_assert_eq!(row.labels.len(), labels.len(), "{name}");
        let labels = row.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        value(row.kind, &mut metric);
        self.families[place].mut_metric().push(metric);
    }

    /// All that was added.
    pub(super) fn finish(self) -> Vec<MetricFamily> {
        self.families
    }
}
