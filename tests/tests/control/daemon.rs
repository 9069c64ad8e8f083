//! Who sends the daemon signals.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use collector::audit::socket::EventSocket;

use crate::take;

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
    assert!(came.load(Ordering::SeqCst));
    let info = guard.client().signal_info().unwrap();
    daemon.release().unwrap();
    assert_eq!(info.pid, Some(pid));
    assert!(info.uid.is_some());
}
