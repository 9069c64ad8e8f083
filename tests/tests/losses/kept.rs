//! The map of what the kernel had noted for a call's records, between its event and its end.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use audit_collector_tests::{bpf_maps, requirement};
use collector_ebpf::{InFlight, KEPT_BYTES};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const NEEDED: [Requirement; 4] = [
    Requirement::AuditControl,
    Requirement::DaemonSeat,
    Requirement::Ebpf,
    Requirement::FunctionTracing,
];

#[test]
fn what_finds_no_room_is_counted_and_its_call_matched_all_the_same() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_154;
    let _guard = auditing_opens_of(uid);
    let mut collector = start(&[&DAEMON, &["--ebpf-in-flight=64"]]);
    // What is stamped right after the start may be of the time before.
    thread::sleep(patience(Duration::from_millis(500)));
    let mut kept = bpf_maps::by_task::<KEPT_BYTES>(collector.pid(), "KEPT").unwrap();
    // No task has such an address.
    for nobody in 1..=64 {
        kept.insert(nobody, [0; KEPT_BYTES], 0).unwrap();
    }
    open(uid, 10);
    let map = [("map", "kept")];
    let metrics = once_counted(&collector, "ebpf_map_update_errors_total", &map, 10);
    assert_eq!(metrics.count("ebpf_map_entries", &map), 64);
    assert_eq!(metrics.count("ebpf_map_max_entries", &map), 64);
    let metrics = collector.settle(10, patience(SETTLE_TIME)).unwrap();
    let stream = stop(collector, &metrics);
    let told = outcomes(&stream, uid, 10);
    assert_eq!(told, [(("matched", None), 10)].into());
}

#[test]
fn what_was_left_there_goes_with_its_task() {
    if !requirement::met(&NEEDED) {
        return;
    }
    let uid = 60_155;
    let _guard = auditing_opens_of(uid);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o644)).unwrap();
    let collector = start(&[&DAEMON]);
    let pid = collector.pid();
    let in_flight = bpf_maps::by_task::<{ size_of::<InFlight>() }>(pid, "IN_FLIGHT").unwrap();
    let mut kept = bpf_maps::by_task::<KEPT_BYTES>(pid, "KEPT").unwrap();
    // Whoever opens it to read waits for one who writes.
    let opens = ["open", "--count", "1", "--path", fifo.to_str().unwrap()];
    let load = workload::start(uid, &opens).unwrap();
    let process = Pid::from_raw(load.pid() as i32);
    let calls = || in_flight.keys().next().and_then(Result::ok);
    until("the call is in flight", || calls().is_some());
    let task = calls().unwrap();
    // The call returns before its process stops.
    kill(process, Signal::SIGSTOP).unwrap();
    let status = format!("/proc/{process}/status");
    until("the process stands still", || {
        fs::read_to_string(&status).unwrap().contains("State:\tT")
    });
    assert_eq!(calls(), None);
    // As where the run at its end was skipped.
    kept.insert(task, [0; KEPT_BYTES], 0).unwrap();
    kill(process, Signal::SIGKILL).unwrap();
    assert_eq!(load.exit_code().unwrap(), None);
    assert!(kept.get(&task, 0).is_err(), "still there");
    collector.stop().unwrap();
}
