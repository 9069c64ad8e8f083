//! A fleet of 1,000 hosts on one Prometheus: what the overview asks for is answered in time and is right, and the rules keep up.
//!
//! The hosts replay what a collector on this kernel served just before, each at its own pace and every fifth with a fault; one
//! process serves them all, each at a path of its own. Prometheus scrapes them by the committed example with the committed
//! rules, and is told what it would know of the hours before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod history;
mod hosts;
mod overview;
mod recording;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::exposition::Samples;
use audit_collector_tests::prometheus::Prometheus;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::{balance, grafana, prometheus, wait};
use collector::audit::privilege::Capability;
use serde_json::{Value, json};
use tempfile::TempDir;

use faults::FAULTS;
use history::Span;
use hosts::Fleet;
use overview::{LIMIT as QUERY_LIMIT, Overview};
use recording::{Recording, now};
use server::Server;

/// How many hosts there are, unless this variable says otherwise.
const HOSTS: usize = 1_000;
const HOSTS_VARIABLE: &str = "AUDIT_COLLECTOR_FLEET_HOSTS";
/// Seconds between what Prometheus is told of the past, unless this variable says otherwise; its own usual interval.
const PAST_STEP: f64 = 60.0;
const PAST_STEP_VARIABLE: &str = "AUDIT_COLLECTOR_FLEET_PAST_STEP";
/// How far back it goes: what the overview shows, and what rules look back on before that.
const PAST: f64 = 7.0 * 3_600.0;

const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);
/// More often than usual, to have several of them soon.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(5);
/// The time that the fastest of these many evaluations of a group of rules may take.
const RULES_LIMIT: Duration = Duration::from_secs(1);
const EVALUATIONS: usize = 3;
/// How long scrapes and evaluations may be waited for.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn the_overview_of_a_fleet_is_right_and_fast() {
    let needs = [
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::Ebpf,
        Requirement::Capability(Capability::AuditWrite),
        Requirement::Program(prometheus::PROGRAM),
    ];
    if !requirement::met(&needs) {
        return;
    }
    let began = Instant::now();
    let stage = |what: &str| println!("{:5.1} s: {what}", began.elapsed().as_secs_f64());
    let recording = Recording::make();
    stage(&format!("recorded {} series", recording.series().count()));
    let fleet = Arc::new(Fleet::of(recording, setting(HOSTS_VARIABLE, HOSTS)));
    check_identities(&fleet);
    let server = Server::start(&fleet);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    fs::write(&config, "{}").unwrap();
    let prometheus = Prometheus::start(&config).unwrap();
    let until = now();
    let span = Span {
        from: until - PAST,
        until,
        step: setting(PAST_STEP_VARIABLE, PAST_STEP),
    };
    let values = history::remember(&prometheus, &fleet, &rules(), span);
    stage(&format!("told Prometheus {values} values of the past"));
    configure(&folder, &prometheus, &server, &fleet);
    prometheus.reload().unwrap();
    wait_for_scrapes(&prometheus, &fleet);
    stage("every host has been scraped twice");

    let groups = evaluations(&prometheus);
    for (name, times) in &groups {
        println!("rules {name}: {times:?}");
    }
    stage("the rules have been evaluated");
    let overview = Overview::read();
    let asked = overview.measure(&prometheus, &fleet, SCRAPE_INTERVAL);
    for one in &asked {
        println!("{one}");
    }
    stage("the overview has been asked for");
    overview.check(&prometheus, &fleet);
    stage("the overview is right");

    for (name, times) in &groups {
        assert!(fastest(times) < RULES_LIMIT, "rules {name}: {times:?}");
    }
    for one in asked {
        assert!(one.took() < QUERY_LIMIT, "{one}");
    }
    assert_eq!(prometheus.stderr(), "");
}

/// Whatever is wrong with a host, what its collector serves adds up.
fn check_identities(fleet: &Fleet) {
    let at = now();
    for fault in &FAULTS {
        let mut faulty = fleet
            .hosts
            .iter()
            .filter(|host| host.fault.is_some_and(|its| std::ptr::eq(its, fault)));
        let host = faulty.next().expect("the fleet has every fault");
        let Some(text) = fleet.exposition(host, at) else {
            continue;
        };
        let broken = balance::broken_identities(&Samples::parse(&text).unwrap());
        assert!(broken.is_empty(), "{}: {broken:?}", fault.what);
    }
}

/// The names of what is recorded, and the expressions of all rules.
fn rules() -> Vec<(Option<String>, String)> {
    let mut rules = Vec::new();
    for name in ["recording.yml", "alerts.yml"] {
        let file: Value = serde_saphyr::from_str(&committed(name)).unwrap();
        let groups = file["groups"].as_array().unwrap().iter();
        rules.extend(
            groups
                .flat_map(|group| group["rules"].as_array().unwrap())
                .map(|rule| {
                    let text = |name: &str| rule.get(name)?.as_str().map(str::to_owned);
                    (text("record"), text("expr").unwrap())
                }),
        );
    }
    rules
}

/// A file of `dashboards/prometheus`.
fn committed(name: &str) -> String {
    fs::read_to_string(grafana::folder().join("prometheus").join(name)).unwrap()
}

/// Writes what Prometheus is to do: as the committed example says, with the fleet in a file as an inventory would write it; and
/// it scrapes itself, as one that has more to do than this would.
fn configure(folder: &TempDir, prometheus: &Prometheus, server: &Server, fleet: &Fleet) {
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["recording.yml", "alerts.yml"] {
        write(name, &committed(name));
    }
    let entries = fleet.hosts.iter().enumerate().map(|(number, host)| {
        let mut labels = host.labels();
        labels.remove("job");
        labels.insert("__metrics_path__".to_owned(), format!("/metrics/{number}"));
        json!({"targets": [server.address.to_string()], "labels": labels})
    });
    write("hosts.json", &Value::from_iter(entries).to_string());
    let mut config: Value = serde_saphyr::from_str(&committed("scrape.yml")).unwrap();
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    config["global"] = json!({
        "scrape_interval": seconds(SCRAPE_INTERVAL),
        "evaluation_interval": seconds(EVALUATION_INTERVAL),
    });
    let jobs = &mut config["scrape_configs"];
    *jobs.pointer_mut("/0").unwrap() = json!({
        "job_name": "prometheus",
        "static_configs": [{"targets": [prometheus.address().to_string()]}],
    });
    *jobs.pointer_mut("/1/file_sd_configs/0/files").unwrap() = json!(["hosts.json"]);
    write("prometheus.yml", &config.to_string());
}

/// Waits until counters can be seen to grow.
fn wait_for_scrapes(prometheus: &Prometheus, fleet: &Fleet) {
    let twice = r#"count(count_over_time(scrape_samples_scraped{job="audit-collector"}[5m]) > 1)"#;
    let scraped = || {
        let scraped = prometheus.query(twice).unwrap();
        scraped.first().map_or(0.0, |one| one.values[0].1)
    };
    wait::until(
        SOON,
        || scraped() >= fleet.hosts.len() as f64,
        || format!("{} hosts were scraped twice", scraped()),
    );
}

/// How long each group of rules took, the next few times.
fn evaluations(prometheus: &Prometheus) -> BTreeMap<String, Vec<Duration>> {
    let mut seen: BTreeMap<String, BTreeMap<String, Duration>> = BTreeMap::new();
    let began = Instant::now();
    while seen.is_empty() || seen.values().any(|times| times.len() <= EVALUATIONS) {
        assert!(began.elapsed() < SOON, "{seen:?}");
        let data = prometheus.api("rules", &[]).unwrap();
        for group in data["groups"].as_array().unwrap() {
            let text = |name: &str| group[name].as_str().unwrap().to_owned();
            for rule in group["rules"].as_array().unwrap() {
                assert_ne!(rule["health"], "err", "{rule}");
            }
            let took = Duration::from_secs_f64(group["evaluationTime"].as_f64().unwrap());
            let times = seen.entry(text("name")).or_default();
            times.insert(text("lastEvaluation"), took);
        }
        thread::sleep(Duration::from_millis(500));
    }
    // What was seen first may be of the time before the hosts were there.
    seen.into_iter()
        .map(|(name, times)| (name, times.into_values().skip(1).collect()))
        .collect()
}

fn fastest(times: &[Duration]) -> Duration {
    times.iter().copied().min().unwrap()
}

fn setting<T: std::str::FromStr>(variable: &str, usual: T) -> T {
    let set = std::env::var(variable).ok();
    set.map_or(usual, |text| {
        let value = text.parse().ok();
        value.unwrap_or_else(|| panic!("{variable}={text} is no number"))
    })
}
