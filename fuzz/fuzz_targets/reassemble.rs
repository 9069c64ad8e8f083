//! Any order of records, repeats, times and bounds: every record comes out once, no more is in flight than may be, and
//! the account balances (the reassembler asserts that itself).
//!
//! `cargo fuzz run -s none reassemble` runs it with the pinned toolchain.
#![no_main]

use std::collections::HashSet;

use collector::audit::parse::netlink_record;
use collector::audit::reassemble::{EventEnd, Limits, Reassembler};
use collector::audit::record::RecordType;
use collector::clock::KtimeNs;
use libfuzzer_sys::fuzz_target;

const TYPES: [RecordType; 8] = [
    RecordType::SYSCALL,
    RecordType::PATH,
    RecordType::PROCTITLE,
    RecordType::EOE,
    RecordType::AVC,
    RecordType::USER_LOGIN,
    RecordType::EXECVE,
    RecordType(1399),
];

fuzz_target!(|data: &[u8]| {
    let [bounds, records @ ..] = data else { return };
    let max_events = usize::from(bounds & 7);
    let end = [EventEnd::EndOfEvent, EventEnd::Proctitle][usize::from(bounds >> 7)];
    let mut reassembler = Reassembler::new(Limits {
        max_events,
        max_records_per_event: 1 + usize::from(bounds >> 3 & 7),
        max_bytes: 2_000,
        end,
        ..Limits::default()
    });
    let mut now = 0u64;
    let mut out = Vec::new();
    let mut sent = HashSet::new();
    for step in records.chunks_exact(3) {
        let record_type = TYPES[usize::from(step[0] & 7)];
        let (serial, item) = (step[0] >> 3, step[1]);
        let text = format!("audit(1.000:{serial}): item={item}");
        let record = netlink_record(record_type.0, text.as_bytes()).expect("it is well-formed");
        now += u64::from(step[2]) * 10_000_000;
        if record_type != RecordType::EOE {
            sent.insert((record_type, serial, item));
        }
        reassembler.push(&record, KtimeNs(now), &mut out);
        assert!(reassembler.counts().pending <= max_events as u64);
    }
    reassembler.flush(KtimeNs(now), &mut out);
    let counts = reassembler.counts();
    assert_eq!(counts.pending, 0);
    let n_out: usize = out.iter().map(|event| event.records.len()).sum();
    let n_in = records
        .chunks_exact(3)
        .filter(|step| step[0] & 7 != 3)
        .count();
    assert_eq!(n_in as u64, n_out as u64 + counts.duplicate_records);
    let found: HashSet<_> = out
        .iter()
        .flat_map(|event| &event.records)
        .map(|record| {
            (
                record.record_type,
                record.stamp.serial.0 as u8,
                item_of(record.body),
            )
        })
        .collect();
    assert_eq!(found, sent);
});

fn item_of(body: &[u8]) -> u8 {
    let text = std::str::from_utf8(body).expect("as it was sent");
    let item = text.strip_prefix("item=").expect("as it was sent");
    item.parse().expect("as it was sent")
}
