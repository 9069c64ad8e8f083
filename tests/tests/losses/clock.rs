//! Steps of the wall clock.

use audit_collector_tests::{requirement, sys};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_step_of_the_clock_loses_nothing_and_makes_nothing_come_twice() {
    let needed = [&NEEDED[..], &[Requirement::Disposable]].concat();
    if !requirement::met(&needed) {
        return;
    }
    let uid = 60_171;
    let _guard = auditing_opens_of(uid);
    let mut collector = start(&[&DAEMON]);
    let load = workload::start(uid, &["open", "--count", "3000"]).unwrap();
    thread::sleep(Duration::from_millis(300));
    sys::step_clock_forward(HOUR).unwrap();
    thread::sleep(patience(Duration::from_millis(700)));
    sys::step_clock_back(2 * HOUR).unwrap();
    load.finish().unwrap();
    open_from(uid, 3_001, 200);
    // Two steps between two looks at the clock are one.
    thread::sleep(patience(Duration::from_millis(300)));
    sys::step_clock_forward(HOUR).unwrap();
    open_from(uid, 3_201, 200);
    let metrics = collector.settle(3_400, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    assert_eq!(
        outcomes(&stream, uid, 3_400),
        [(("matched", None), 3_400)].into()
    );
    assert_eq!(stream.losses(), BTreeMap::new());
    assert_eq!(metrics.count("serial_missing_total", &[]), 0);
    assert_eq!(stream.states("clock_stepped").count(), 3);
}
