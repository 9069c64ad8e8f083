//! Prometheus' recording and alerting rules.
//!
//! Owns what is recorded, under names of the form `level:metric:operation`, and the form of rule files.

use std::collections::BTreeMap;

use serde::Serialize;

use super::alerts::{fleet_alerts, host_alerts};
use super::growth::within_the_hour;

/// The labels that tell hosts apart; `cluster` may be absent.
pub(super) const HOST: &str = "cluster, job, instance";
/// Where the runbooks lie.
pub(super) const RUNBOOKS: &str =
    "https://github.com/audit-collector/audit-collector/blob/main/dashboards/runbooks";
const HEAD: &str = "# Made by `cargo xtask dashboards`; change xtask/src/dashboards.\n";

#[derive(Serialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Record {
        record: &'static str,
        expr: String,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<&'static str, String>,
    },
    Alert {
        alert: &'static str,
        expr: String,
        #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<&'static str>,
        labels: BTreeMap<&'static str, String>,
        annotations: BTreeMap<&'static str, String>,
    },
}

/// `recording.yml`.
pub(super) fn recording() -> String {
    let record = |record, expr: String| Rule::Record {
        record,
        expr,
        labels: BTreeMap::new(),
    };
    let figures = vec![
        record(
            "instance:audit_collector_expected_events:rate5m",
            "rate(audit_collector_crosscheck_expected_events_total[5m])".to_owned(),
        ),
        // By outcome alone, of which a host has four series; by cause it has over forty.
        record(
            "instance_outcome:audit_collector_missing_events:increase1h",
            format!(
                "round(sum without (verdict) ({}))",
                within_the_hour("audit_collector_crosscheck_events_total{outcome=~\"backfilled|unrecovered\"}")
            ),
        ),
        // Of what is not known to have been lost for good. Absent where nothing was expected, and where no witness says what was:
        // there only what is missing is.
        record(
            "instance:audit_collector_captured_events:ratio_increase1h",
            format!(
                "1 - sum without (outcome) (instance_outcome:audit_collector_missing_events:increase1h{{outcome=\"unrecovered\"}}) / \
                 ({} > 0) unless on ({HOST}) (max without (level) (audit_collector_witness_level) == 0)",
                within_the_hour("audit_collector_crosscheck_expected_events_total")
            ),
        ),
        record(
            "instance:audit_collector_kernel_backlog_peak:ratio",
            "audit_collector_kernel_backlog_peak_records / (audit_collector_kernel_backlog_limit_records > 0)"
                .to_owned(),
        ),
        record(
            "instance:audit_collector_sink_queue:ratio",
            "max without (sink) (audit_collector_sink_queue_bytes / (audit_collector_sink_queue_capacity_bytes > 0))"
                .to_owned(),
        ),
    ];
    // Only what is lost anywhere: of a fleet, every cause of every host would be tens of thousands of series.
    // What is told at a start may not show here: to look for it among all of them would take as long again.
    let causes = vec![record(
        "instance_cause:audit_collector_missing_events:rate5m",
        "sum without (stage, outcome) (rate(audit_collector_crosscheck_missing_events_total[5m])) > 0".to_owned(),
    )];
    let mut health = vec![Rule::Record {
        record: "instance:audit_collector_health:severity",
        expr: format!("0 * group by ({HOST}) (up{{job=\"audit-collector\"}})"),
        labels: [("reason", String::new())].into(),
    }];
    health.extend(host_alerts().into_iter().map(|alert| {
        let level = alert.severity.level();
        Rule::Record {
            record: "instance:audit_collector_health:severity",
            expr: format!("{level} * group by ({HOST}) ({})", alert.expr),
            labels: [("reason", alert.name.to_owned())].into(),
        }
    }));
    file(vec![
        Group {
            name: "audit-collector.figures",
            rules: figures,
        },
        Group {
            name: "audit-collector.causes",
            rules: causes,
        },
        Group {
            name: "audit-collector.health",
            rules: health,
        },
    ])
}

/// `alerts.yml`.
pub(super) fn alerts() -> String {
    let all = fleet_alerts().into_iter().chain(host_alerts());
    let rules = all.map(|alert| Rule::Alert {
        alert: alert.name,
        expr: alert.expr,
        lasting: alert.lasting,
        labels: [("severity", alert.severity.name().to_owned())].into(),
        annotations: [
            ("summary", alert.summary.to_owned()),
            ("description", alert.description.to_owned()),
            ("runbook_url", format!("{RUNBOOKS}/{}.md", alert.name)),
        ]
        .into(),
    });
    file(vec![Group {
        name: "audit-collector",
        rules: rules.collect(),
    }])
}

fn file(groups: Vec<Group>) -> String {
    let yaml =
        serde_saphyr::to_string(&File { groups }).expect("the rules are maps, lists and strings");
    format!("{HEAD}{yaml}")
}
