//! docs/metrics.md: every metric with its type, its labels, their values and its help, written from what is served.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use prometheus::proto::MetricType;

use super::family::{ROWS, TABLE};
use super::{Metrics, process};
use crate::account::{Account, Canary, Ebpf, Histogram, Sink, Socket};
use crate::config::LoadState;
use crate::probe::{hooks, load};

/// Labels whose values depend on the machine or on its configuration, and what they are.
const OPEN: [(&str, &str); 10] = [
    ("version", "the collector's version"),
    ("revision", "the commit it was built from"),
    ("rustc", "the compiler it was built with"),
    ("target", "the target it was built for"),
    ("kernel_release", "as `uname -r` says"),
    ("arch", "as `uname -m` says"),
    ("sink", "the sink's name: `stdout`, `file`"),
    (
        "key",
        "keys of audit rules, at most `metrics_rule_keys` (32); all others together are `other`",
    ),
    (
        "record",
        "type of a record that is compared, such as `SYSCALL`",
    ),
    ("field", "its field, such as `exe`"),
];

/// The inputs a collector can have, of which each has one.
const SOURCES: [&str; 3] = ["daemon", "multicast", "replay"];

/// The text of docs/metrics.md.
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Written by `cargo xtask metrics` from `collector/metrics.tsv` and from what the collector serves; a test fails where it is stale.\n\n\
         Every combination of the label values below is there from the first scrape, at zero. A metric without a value is absent: \
         `ebpf_*` without a witness, `ebpf_program_run*` unless `kernel.bpf_stats_enabled` is on, `canary_*` without a canary, \
         `rules_in_sync` and `rules_reloads_total` without configured rules, a timestamp before its first event. \
         Kernel figures are as of `audit_collector_kernel_status_last_success_timestamp_seconds`: a scrape asks the kernel nothing.\n\n\
         | metric | type | labels | |\n|---|---|---|---|\n",
    );
    for line in TABLE.lines().skip(1) {
        let name = line.split('\t').next().unwrap_or_default();
        if let Some(row) = ROWS.get(name) {
            let labels: Vec<_> = row
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            line_of(&mut text, name, row.kind, &labels.join(", "), row.help);
        }
    }
    for family in process::families() {
        line_of(
            &mut text,
            family.name(),
            family.get_field_type(),
            "",
            family.help(),
        );
    }
    text.push_str("\n## Labels\n\n| label | of | values |\n|---|---|---|\n");
    for ((label, values), names) in values() {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| `{label}` | {} | {values} |", names.join(", "));
    }
    let bounds: Vec<_> = Histogram::BOUNDS.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        text,
        "\nBuckets of every histogram, in seconds: {}.",
        bounds.join(", ")
    );
    text
}

fn line_of(text: &mut String, name: &str, kind: MetricType, labels: &str, help: &str) {
    let kind = format!("{kind:?}").to_lowercase();
    let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
}

/// For each label and its values the metrics that have it so, without their common prefix.
fn values() -> BTreeMap<(String, String), Vec<String>> {
    let mut served: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for family in Metrics::new(Arc::new(LoadState::default())).families(&specimen()) {
        let name = family.name();
        for pair in family
            .get_metric()
            .iter()
            .flat_map(|metric| metric.get_label())
        {
            let key = (name.to_owned(), pair.name().to_owned());
            let values = served.entry(key).or_default();
            let value = format!("`{}`", pair.value());
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    let mut labels: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (name, row) in ROWS.iter() {
        for label in &row.labels {
            let key = ((*name).to_owned(), (*label).to_owned());
            let values = match OPEN.iter().find(|(open, _)| open == label) {
                Some((_, words)) => (*words).to_owned(),
                None => served.remove(&key).unwrap_or_default().join(", "),
            };
            // The input is what it is for as long as the collector runs.
            let values = match SOURCES.iter().any(|source| values == format!("`{source}`")) {
                true => format!(
                    "one of {}",
                    SOURCES.map(|source| format!("`{source}`")).join(", ")
                ),
                false => values,
            };
            let short = name.trim_start_matches(super::family::PREFIX).to_owned();
            labels.entry((key.1, values)).or_default().push(short);
        }
    }
    labels
}

/// An account of a collector in which every part takes part.
fn specimen() -> Account {
    let programs = || load::TRACEPOINTS.into_iter().chain(hooks::program_names());
    let mut account = Account {
        ebpf: Some(Ebpf {
            programs: programs().map(|program| (program, true)).collect(),
            runs: programs()
                .map(|program| (program, Default::default()))
                .collect(),
            missed_runs: programs().map(|program| (program, 0)).collect(),
            read: load::SENDERS.map(|program| (program, 0)).into(),
            maps: load::MAPS.map(|map| (map, (0, 0))).into(),
            ..Ebpf::default()
        }),
        canary: Some(Canary::default()),
        sockets: [
            ("events", Socket::default()),
            ("control", Socket::default()),
        ]
        .into(),
        sinks: [("stdout".to_owned(), Sink::default())].into(),
        rules_loaded: [("exit", 0)].into(),
        rules_in_sync: Some(true),
        ..Account::default()
    };
    account.input.source = SOURCES[0];
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_is_served() {
        let committed = include_str!("../../../docs/metrics.md");
        assert!(
            committed == reference(),
            "docs/metrics.md is stale: run `cargo xtask metrics`"
        );
    }

    #[test]
    fn every_label_has_its_values_in_it() {
        for ((label, values), names) in values() {
            assert!(!values.is_empty(), "{label} of {names:?}");
        }
    }
}
