//! The alerts that come with the collector fire when they should, and stay silent when they should; and every panel shows what
//! it is there for. First by their own tests, then on a Prometheus that scrapes collectors on the real kernel while they lose
//! events, their sink, the kernel's answers and each other (`scene`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod advice;
mod panels;
mod scene;

use audit_collector_tests::example;
use audit_collector_tests::grafana;
use audit_collector_tests::promtool;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::{prometheus, time_scale};
use collector::audit::privilege::Capability;

use scene::{ALERTS, BY_CHANCE, NOT_PROVOKED, SCALE, Scene};

#[test]
fn alerts_are_valid_and_behave_as_their_tests_say() {
    if !requirement::met(&[Requirement::Program(promtool::PROGRAM)]) {
        return;
    }
    let folder = grafana::folder().join("prometheus");
    for arguments in [
        ["check", "rules", "recording.yml", "alerts.yml"].as_slice(),
        &["test", "rules", "alerts_test.yml"],
        &["check", "config", "scrape.yml"],
    ] {
        promtool::run(arguments, &folder, "").unwrap();
    }
}

#[test]
fn alerts_fire_and_panels_have_data_while_collectors_lose_events() {
    let needs = [
        Requirement::AuditControl,
        Requirement::DaemonSeat,
        Requirement::NoRules,
        Requirement::Ebpf,
        Requirement::Mount,
        Requirement::Capability(Capability::AuditWrite),
        Requirement::Program(promtool::PROGRAM),
        Requirement::Program(prometheus::PROGRAM),
    ];
    if !requirement::met(&needs) {
        return;
    }
    let mut scene = Scene::set();
    scene.stay_quiet();
    scene.lose_events();
    let mut exposed = scene.expositions();
    scene.lose_the_rest();
    // When the rules changed is exposed from the first change on that was seen, and that of our own start may not be.
    exposed.extend(scene.expositions());
    for exposition in &exposed {
        promtool::check_metrics(exposition).unwrap();
    }
    scene.switch_auditing_off();

    let mut fired = scene.fired();
    fired.remove(&(BY_CHANCE.0.to_owned(), BY_CHANCE.1.to_owned()));
    let expected = ALERTS
        .iter()
        .map(|(name, host)| ((*name).to_owned(), (*host).to_owned()));
    assert_eq!(fired, expected.collect(), "what fired, and what should");
    panels::check(&scene.prometheus, scene.time_range(), &exposed);
    scene.end();
}

#[test]
fn every_alert_is_provoked_or_it_is_said_why_not() {
    let mut names: Vec<String> = example::rules("alerts.yml")
        .unwrap()
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    let provoked = ALERTS.iter().map(|(name, _)| *name);
    let mut known: Vec<&str> = provoked
        .chain(NOT_PROVOKED.iter().map(|(name, _)| *name))
        .collect();
    known.sort_unstable();
    known.dedup();
    assert_eq!(names, known);
    for file in ["recording.yml", "alerts.yml"] {
        time_scale::divide(&example::committed(file).unwrap(), SCALE).unwrap();
    }
}
