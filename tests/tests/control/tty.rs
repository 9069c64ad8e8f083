//! What is recorded of terminals, for this process.

use collector::audit::client::TtyStatus;

use crate::take;

#[test]
fn both_switches_are_set_apart_and_put_back() {
    let Some(mut guard) = take() else {
        return;
    };
    let client = guard.client();
    let before = client.tty().unwrap();
    let mut read = Vec::new();
    let wanted = [(true, false), (true, true), (false, true), (false, false)];
    let wanted = wanted.map(|(enabled, log_passwd)| TtyStatus {
        enabled,
        log_passwd,
    });
    for status in wanted {
        client.set_tty(status).unwrap();
        read.push(client.tty().unwrap());
    }
    client.set_tty(before).unwrap();
    assert_eq!(read, wanted);
    assert_eq!(client.tty().unwrap(), before);
}
