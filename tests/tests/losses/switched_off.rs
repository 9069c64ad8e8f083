//! Auditing switched off.

use audit_collector_tests::requirement;

use super::*;

fn switch(guard: &mut AuditGuard, enabled: u32) {
    let change = StatusChange {
        enabled: Some(enabled),
        ..StatusChange::default()
    };
    guard.set(&change).unwrap();
}

#[test]
fn what_happens_while_auditing_is_switched_off_is_given_back() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_141;
    let mut guard = auditing_opens_of(uid);
    let mut collector = start(&[&DAEMON]);
    open(uid, 200);
    switch(&mut guard, 0);
    open_from(uid, 201, 300);
    switch(&mut guard, 1);
    open_from(uid, 501, 200);
    let metrics = collector.settle(700, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 700),
        [
            (("matched", None), 400),
            (("backfilled", Some("audit_disabled")), 300),
        ]
        .into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
}
