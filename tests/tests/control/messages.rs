//! Messages of user space, from the request to the record.

use audit_collector_tests::listener::listen;
use collector::audit::client::{ClientError, TtyStatus, UserMessage};
use collector::audit::record::RecordType;
use collector::audit::socket::EventSocket;

use crate::take;

#[test]
fn a_message_becomes_a_record() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(1 << 20)).unwrap();
    guard.enable().unwrap();
    let marker = format!("audit-collector-test {}", std::process::id());
    for message_type in [1005, 1121, 2500] {
        let text = format!("{marker} it's “quoted” {message_type}");
        let message = UserMessage::new(RecordType(message_type), text.as_bytes()).unwrap();
        guard.client().user_message(&message).unwrap();
        let record = format!(" msg='{text}'");
        let heard = listen(&mut socket, |heard| heard.says(&record)).unwrap();
        let found = heard.records.iter().find(|found| found.contains(&record));
        let found = found.unwrap_or_else(|| panic!("{record} is not among {heard:?}"));
        assert!(
            found.starts_with(&format!("type={message_type} ")),
            "{found}"
        );
        assert!(
            found.contains(&format!(" pid={} ", std::process::id())),
            "{found}"
        );
    }
}

#[test]
fn the_longest_text_comes_whole() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(1 << 20)).unwrap();
    guard.enable().unwrap();
    let text = format!(
        "{:x<1$}end",
        std::process::id(),
        UserMessage::TEXT_LIMIT - 3
    );
    let message = UserMessage::new(RecordType::USER, text.as_bytes()).unwrap();
    guard.client().user_message(&message).unwrap();
    let record = format!(" msg='{text}'");
    let heard = listen(&mut socket, |heard| heard.says(&record)).unwrap();
    assert!(heard.says(&record));
}

#[test]
fn what_was_typed_comes_in_hex() {
    let Some(mut guard) = take() else {
        return;
    };
    let mut socket = EventSocket::multicast(Some(1 << 20)).unwrap();
    guard.enable().unwrap();
    let message = UserMessage::new(RecordType::USER_TTY, b"ls\r\n").unwrap();
    let client = guard.client();
    let before = client.tty().unwrap();
    let enabled = |enabled| TtyStatus { enabled, ..before };
    client.set_tty(enabled(false)).unwrap();
    let error = client.user_message(&message).unwrap_err();
    assert!(matches!(error, ClientError::TtyOff { .. }), "{error:?}");

    client.set_tty(enabled(true)).unwrap();
    let sent = client.user_message(&message);
    client.set_tty(before).unwrap();
    sent.unwrap();
    let heard = listen(&mut socket, |heard| heard.says("type=1124 ")).unwrap();
    assert!(heard.says(" data=6C730D0A"), "{heard:?}");
}
