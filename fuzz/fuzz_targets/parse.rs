//! Any bytes as a datagram and as a log line: no panic, and what parses renders to one line that parses to the same
//! record and renders to the same line.
//!
//! `cargo fuzz run -s none parse` runs it with the pinned toolchain.
#![no_main]

use collector::audit::parse::{log_line, netlink_record, write_log_line};
use collector::audit::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = log_line(data) {
        round(&record);
    }
    if let [low, high, text @ ..] = data
        && let Ok(record) = netlink_record(u16::from_le_bytes([*low, *high]), text)
    {
        round(&record);
    }
});

fn round(record: &Record<'_>) {
    let mut line = Vec::new();
    write_log_line(record, &mut line);
    let (end, text) = line.split_last().expect("a line has its end");
    assert_eq!(*end, b'\n');
    assert!(!text.contains(&b'\n'), "forged a line");
    let again = log_line(&line).expect("what was rendered parses");
    let mut line_again = Vec::new();
    write_log_line(&again, &mut line_again);
    assert_eq!(line_again, line);
    // Bytes that do not fit on a line change once, and to as many others.
    assert_eq!(
        (again.record_type, again.stamp),
        (record.record_type, record.stamp)
    );
    assert_eq!(again.body.len(), record.body.len());
    if record
        .body
        .iter()
        .all(|byte| !matches!(byte, 0 | b'\n' | b'\r' | 0x1d))
    {
        assert_eq!(again.body, record.body);
    }
}
