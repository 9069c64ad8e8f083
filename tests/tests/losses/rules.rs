//! What rules keep out is no loss, and what is lost because rules are gone is one.

use std::fs;

use audit_collector_tests::audit_state::KEY;
use audit_collector_tests::requirement;
use collector::audit::rules::{Action, Field, FilterList, Operator, Rule};
use serde_json::json;

use super::*;

/// Keeps records of user `uid` out, of one type or all.
fn excluding(uid: u32, record_type: Option<RecordType>) -> Rule {
    let rule = Rule::new(FilterList::EXCLUDE, Action::Always);
    let rule = rule.condition(Field::UID, Operator::EQUAL, uid);
    match record_type {
        Some(RecordType(number)) => rule.condition(Field::MSGTYPE, Operator::EQUAL, number.into()),
        None => rule,
    }
}

#[test]
fn an_event_that_a_rule_excludes_is_no_loss() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_161;
    let mut guard = auditing_opens_of(uid);
    let excluded = excluding(uid, None);
    guard.add_rule(&excluded).unwrap();
    let mut collector = start(&[&DAEMON]);
    open(uid, 300);
    guard.delete_rule(&excluded).unwrap();
    // The collector is to know of that before it judges more.
    once_counted(&collector, "records_received_total", &[], 1);
    thread::sleep(patience(Duration::from_millis(1_500)));
    let metrics = collector.metrics().unwrap();
    // The hooks see one event more: the record of the deleted rule is within the call that asks for it.
    let own = Balance {
        matched: collector.stream().watches_kernel().into(),
        ..Balance::default()
    };
    assert_eq!(Balance::of_metrics(&metrics), own);
    open(uid, 100);
    let expected = own.matched + 100;
    let metrics = collector.settle(expected, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 100),
        [(("matched", None), 100)].into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    assert_eq!(metrics.count("serial_missing_total", &[]), 0);
}

#[test]
fn records_that_a_rule_excludes_are_not_missed() {
    if !requirement::met(&NEEDED) {
        return;
    }
    for (uid, record_type) in [
        (60_162, RecordType::PATH),
        (60_163, RecordType::EOE),
        (60_164, RecordType::PROCTITLE),
    ] {
        let mut guard = auditing_opens_of(uid);
        let excluded = excluding(uid, Some(record_type));
        guard.add_rule(&excluded).unwrap();
        let mut collector = start(&[&DAEMON]);
        open(uid, 50);
        let metrics = collector.settle(50, patience(SETTLE_TIME)).unwrap();
        let stream = stop(collector, &metrics);
        assert_eq!(
            outcomes(&stream, uid, 50),
            [(("matched", None), 50)].into(),
            "{record_type:?}"
        );
        for event in stream.events_of(uid) {
            assert_eq!(event.0["missing"], json!([]), "{}", event.0);
            assert_eq!(event.0["complete"], true, "{}", event.0);
        }
        assert_eq!(stream.losses(), BTreeMap::new());
    }
}

#[test]
fn a_message_that_a_rule_leaves_out_is_no_loss() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_166;
    let left_out = RecordType(2_500);
    let mut guard = auditing_opens_of(uid);
    let rule = Rule::new(FilterList::USER, Action::Never);
    let rule = rule.condition(Field::MSGTYPE, Operator::EQUAL, left_out.0.into());
    guard.add_rule(&rule).unwrap();
    let mut collector = start(&[&DAEMON]);
    let lost = guard.status().unwrap().lost;
    let message = UserMessage::new(left_out, b"op=left-out").unwrap();
    let mut client = Client::connect().unwrap();
    for first in [1, 26] {
        // Its sender is told nothing of it.
        client.user_message(&message).unwrap();
        open_from(uid, first, 25);
    }
    write_a_record();
    let metrics = collector.settle(50, patience(SETTLE_TIME)).unwrap();
    assert_eq!(guard.status().unwrap().lost, lost);
    let stream = stop(collector, &metrics);
    assert_eq!(outcomes(&stream, uid, 50), [(("matched", None), 50)].into());
    let told = |event: Event<'_>| event.0["records"].to_string().contains("op=left-out");
    assert!(!stream.events().any(told));
    assert_eq!(stream.losses(), BTreeMap::new());
    assert_eq!(metrics.count("serial_missing_total", &[]), 0);
}

#[test]
fn what_configured_rules_ask_for_that_are_gone_is_given_back() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_165;
    let mut guard = AuditGuard::take().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.rules");
    let line = format!("-a always,exit -F arch=b64 -S openat -F uid={uid} -k {KEY}-gone\n");
    fs::write(&file, line).unwrap();
    let rule = rule_for(uid, Arch::NATIVE, &["openat"], "gone");
    let flag = format!("--rules={}", file.display());
    let mut collector = start(&[&DAEMON, &[&flag, "--rules-remove-at-exit"]]);
    open(uid, 100);
    guard.delete_rule(&rule).unwrap();
    open_from(uid, 101, 200);
    once_told(&collector, "rules_drifted");
    // Known to be gone, and judged by all the same.
    thread::sleep(patience(Duration::from_millis(300)));
    open_from(uid, 301, 200);
    guard.add_rule(&rule).unwrap();
    once_told(&collector, "rules_in_sync");
    open_from(uid, 501, 100);
    // And the two changes of the rules, which the hooks see.
    let own = 2 * u64::from(collector.stream().watches_kernel());
    let metrics = collector.settle(600 + own, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 600),
        [
            (("matched", None), 200),
            (("backfilled", Some("rules_changed")), 400),
        ]
        .into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    assert_eq!(metrics.count("serial_missing_total", &[]), 0);
}

/// Waits until the stream tells of a change of state.
fn once_told(collector: &Collector, what: &str) {
    until(what, || collector.stream().states(what).next().is_some());
}
