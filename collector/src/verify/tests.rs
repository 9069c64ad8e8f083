use super::*;
use crate::audit::event::AuditEvent;
use crate::event::Cause;
use crate::output::testing::matched;

#[test]
fn only_as_many_as_asked_for_are_compared_in_a_second() {
    let mut verifier = Verifier::new(Sampling::PerSecond(2));
    for ms in [0, 10, 20, 1_000, 1_010, 1_020] {
        verifier.tick(KtimeNs(ms * 1_000_000));
        verifier.event(&matched());
    }
    assert_eq!(verifier.table().events, 4);
    let mut all = Verifier::new(Sampling::All);
    let mut none = Verifier::new(Sampling::PerSecond(0));
    for _ in 0..5 {
        none.tick(KtimeNs(0));
        all.event(&matched());
        none.event(&matched());
    }
    assert_eq!((all.table().events, none.table().events), (5, 0));
}

#[test]
fn an_event_that_lacks_something_proves_nothing() {
    let mut verifier = Verifier::new(Sampling::All);
    let audit = matched().audit.unwrap();
    for event in [
        Event {
            cause: Some(Cause::RateLimit),
            ..matched()
        },
        Event {
            matched_by: Some(MatchedBy::Content),
            ..matched()
        },
        Event {
            observation: None,
            ..matched()
        },
        Event {
            audit: Some(AuditEvent {
                completion: Completion::Timeout,
                ..audit
            }),
            ..matched()
        },
    ] {
        verifier.event(&event);
    }
    assert_eq!(verifier.table(), &Table::default());
}
