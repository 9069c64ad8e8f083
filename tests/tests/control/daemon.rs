//! The daemon's seat: a claim without an answer, and who sends its holder signals.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use collector::audit::client::ClientError;
use collector::audit::socket::EventSocket;

use crate::{sys, take};

#[test]
fn the_sender_of_a_signal_is_known() {
    let Some(mut guard) = take() else {
        return;
    };
    let came = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGUSR1, Arc::clone(&came)).unwrap();
    let mut daemon = EventSocket::unicast(None).unwrap();
    daemon.claim().unwrap();
    guard.enable().unwrap();
    let mut sender = Command::new("/bin/sh")
        .args(["-c", "kill -USR1 $PPID"])
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = sender.id();
    assert!(sender.wait().unwrap().success());
    // Any of our threads may take it, in its own time.
    let sent = Instant::now();
    while !came.load(Ordering::SeqCst) && sent.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(came.load(Ordering::SeqCst));
    let info = guard.client().signal_info().unwrap();
    daemon.release().unwrap();
    assert_eq!(info.pid, Some(pid));
    assert!(info.uid.is_some());
}

#[test]
fn a_claim_whose_answer_never_comes_is_given_back_all_the_same() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut daemon = EventSocket::unicast(None).unwrap();
    sys::withhold(&daemon, None);
    let error = daemon.claim().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    assert_eq!(guard.status().unwrap().pid, std::process::id());
    drop(daemon);
    assert_eq!(guard.status().unwrap().pid, 0);
}
