//! The codec against records of a real kernel.
//!
//! `testdata/debian12-6.18/records.txt` holds what Linux 6.18 on Debian 12 sent to the multicast group while a program
//! of its own user id did one of each: a line per datagram, its type and its text, `\\xNN` for other than printable ASCII.
//! `UPDATE_GOLDEN=1 cargo test -p audit-collector --test codec_golden` writes the expected files anew; read the
//! difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

use collector::audit::event::{AuditEvent, Completion, Records};
use collector::audit::fields::{FieldRef, Fields, Text, Value, decode_untrusted};
use collector::audit::gaps::GapTracker;
use collector::audit::parse::{log_line, netlink_record, write_log_line};
use collector::audit::reassemble::{EventEnd, Limits, Reassembler};
use collector::audit::record::{Record, RecordType};
use collector::audit::records::{
    ExecveFields, PathFields, SockaddrFields, SyscallFields, split_keys,
};
use collector::clock::{KtimeNs, TimeMs};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata/debian12-6.18", name]
        .iter()
        .collect()
}

fn golden(name: &str, found: &[u8]) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(name), found).unwrap();
    }
    let expected = std::fs::read(path(name)).unwrap();
    for (n, (found, expected)) in std::iter::zip(
        found.split(|b| *b == b'\n'),
        expected.split(|b| *b == b'\n'),
    )
    .enumerate()
    {
        assert_eq!(
            found.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{name}, line {}; UPDATE_GOLDEN=1 writes it anew",
            n + 1
        );
    }
    assert_eq!(found.len(), expected.len(), "{name}");
}

/// The inverse of the capture's escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => match rest.next() {
                Some(b'x') => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    bytes.push(u8::from_str_radix(digits, 16).unwrap());
                }
                other => bytes.push(other.unwrap()),
            },
            other => bytes.push(other),
        }
    }
    bytes
}

fn captured() -> Records {
    let mut records = Records::default();
    for line in std::fs::read_to_string(path("records.txt"))
        .unwrap()
        .lines()
    {
        let (record_type, text) = line.split_once(' ').unwrap();
        let text = unescape(text);
        records.push(&netlink_record(record_type.parse().unwrap(), &text).unwrap());
    }
    records
}

fn assemble<'a>(records: impl IntoIterator<Item = Record<'a>>, limits: Limits) -> Vec<AuditEvent> {
    let mut reassembler = Reassembler::new(limits);
    let mut events = Vec::new();
    for record in records {
        reassembler.push(&record, KtimeNs(0), &mut events);
    }
    reassembler.tick(KtimeNs(1_000_000_000), &mut events);
    assert_eq!(
        reassembler.counts().pending,
        0,
        "all events ended by themselves"
    );
    events
}

fn text(bytes: &[u8]) -> String {
    const SHOWN: usize = 100;
    match bytes.len() {
        ..=SHOWN => format!("\"{}\"", bytes.escape_ascii()),
        len => format!("\"{}\"… {len} bytes", bytes[..SHOWN].escape_ascii()),
    }
}

fn optional(bytes: Option<&[u8]>) -> String {
    bytes.map_or("-".into(), text)
}

fn decoded(text: Option<Text<'_>>) -> String {
    optional(text.map(Text::decode).as_deref())
}

fn describe_syscall(out: &mut String, s: &SyscallFields<'_>) {
    let joined = s.keys.map(Text::decode).unwrap_or_default();
    let keys: Vec<_> = split_keys(&joined).map(text).collect();
    writeln!(
        out,
        "  call {:x}/{} success {:?} exit {:?} args {:x?} items {}",
        s.arch, s.syscall, s.success, s.exit, s.args, s.items
    )
    .unwrap();
    writeln!(
        out,
        "  task ppid {} pid {} auid {} ses {} tty {} uid {}/{}/{}/{} gid {}/{}/{}/{} comm {} exe {} subj {} keys {keys:?}",
        s.ppid, s.pid, s.auid, s.session, decoded(s.tty), s.uid, s.euid, s.suid, s.fsuid,
        s.gid, s.egid, s.sgid, s.fsgid, decoded(s.comm), decoded(s.exe), decoded(s.subject),
    )
    .unwrap();
}

fn describe_fields(out: &mut String, fields: Fields<'_>) {
    for FieldRef { name, value } in fields {
        let kind = match value {
            Value::Bare(_) => "",
            Value::Quoted(_) => " quoted",
            Value::SingleQuoted(_) => " message",
            Value::Unterminated(_) => " unterminated",
        };
        let value = decode_untrusted(name, value);
        writeln!(
            out,
            "    {} = {}{kind}",
            name.escape_ascii(),
            optional(value.as_deref())
        )
        .unwrap();
    }
}

fn describe(events: &[AuditEvent]) -> String {
    let mut out = String::new();
    for event in events {
        let stamp = event.stamp;
        writeln!(
            out,
            "event {} {} {:?}",
            stamp.time.0, stamp.serial.0, event.completion
        )
        .unwrap();
        if let Some(list) = ExecveFields::from_records(&event.records) {
            writeln!(out, "  argc {:?} complete {}", list.argc, list.complete).unwrap();
            for arg in list.argv() {
                writeln!(out, "    {}", optional(arg)).unwrap();
            }
        }
        for record in &event.records {
            writeln!(out, "  {}", record.record_type).unwrap();
            if let Some(fields) = SyscallFields::from_record(record) {
                describe_syscall(&mut out, &fields);
            } else if let Some(path) = PathFields::from_record(record) {
                let name = decoded(path.name);
                writeln!(
                    out,
                    "    {} {name} {:?} {:?}",
                    path.item, path.nametype, path.inode
                )
                .unwrap();
            } else if let Some(address) = SockaddrFields::from_record(record) {
                writeln!(out, "    {:02x?}", address.saddr.decode()).unwrap();
            } else if record.record_type != RecordType::EXECVE {
                describe_fields(&mut out, record.fields());
                describe_fields(&mut out, record.message_fields());
            }
            describe_fields(&mut out, record.enrichment_fields());
        }
    }
    out
}

#[test]
fn a_capture_becomes_these_log_lines_and_they_become_the_same_records() {
    let records = captured();
    let mut log = Vec::new();
    for record in &records {
        write_log_line(&record, &mut log);
    }
    golden("records.log", &log);
    let lines: Vec<_> = log.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), records.len(), "one record, one line");
    let mut changed = 0;
    for (line, record) in std::iter::zip(lines, &records) {
        let parsed = log_line(line).unwrap();
        if parsed != record {
            // The one with a line end in it, which must not become two.
            assert_eq!(record.record_type, RecordType::USER_LOGIN);
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
}

#[test]
fn a_capture_becomes_these_events() {
    golden(
        "events.txt",
        describe(&assemble(&captured(), Limits::default())).as_bytes(),
    );
}

#[test]
fn an_enriched_log_becomes_these_events() {
    let log = std::fs::read(path("enriched.log")).unwrap();
    let records: Vec<_> = log
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| log_line(line).unwrap())
        .collect();
    let mut again = Vec::new();
    for record in &records {
        write_log_line(record, &mut again);
    }
    assert_eq!(again, log);
    let limits = Limits {
        end: EventEnd::Proctitle,
        ..Limits::default()
    };
    golden(
        "enriched.txt",
        describe(&assemble(records, limits)).as_bytes(),
    );
}

#[test]
fn the_kernels_serials_have_no_hole_where_nothing_was_lost() {
    let mut gaps = GapTracker::new(std::time::Duration::from_secs(3), TimeMs(0));
    for record in &captured() {
        gaps.saw(record.stamp, KtimeNs(0));
    }
    let mut out = Vec::new();
    gaps.flush(KtimeNs(0), &mut out);
    assert_eq!(out, []);
}

/// What the captured program is known to have done, independent of the golden files.
#[test]
fn what_the_program_did_is_what_the_records_say() {
    let events = assemble(&captured(), Limits::default());
    let calls: Vec<_> = events
        .iter()
        .filter_map(|event| {
            Some((
                event,
                event.records.iter().find_map(SyscallFields::from_record)?,
            ))
        })
        .collect();
    assert!(
        calls
            .iter()
            .all(|(event, _)| event.completion == Completion::Eoe)
    );
    for (event, call) in &calls {
        let paths = event.records.iter().filter_map(PathFields::from_record);
        // The kernel hides the directory of a message queue, but counts it.
        let hidden = u32::from(matches!(call.syscall, 240 | 241));
        assert_eq!(
            paths.count() as u32 + hidden,
            call.items,
            "{:?}",
            event.stamp
        );
    }

    let lists: Vec<_> = events
        .iter()
        .filter_map(|event| ExecveFields::from_records(&event.records))
        .filter(|list| list.argv().next().flatten() == Some(b"/bin/true"))
        .collect();
    assert!(lists.iter().all(|list| list.complete));
    let argument = |list: usize, n: usize| lists[list].argv().nth(n).flatten().unwrap();
    let awkward = [
        &b"a b"[..],
        b"quote\"s",
        b"line\nend",
        b"caf\xc3\xa9\xff",
        b"",
        b"plain",
    ];
    for (n, expected) in awkward.iter().enumerate() {
        assert_eq!(argument(0, n + 1), *expected);
    }
    assert_eq!(lists[1].argc, Some(201));
    assert_eq!(argument(1, 200), b"argument 200");
    let long: Vec<u8> = (b'a'..=b'z').cycle().take(20_000).collect();
    assert_eq!(argument(2, 1), long);
    assert_eq!(argument(2, 2), b"end");
    assert_eq!(argument(3, 1), [b' '; 9_000]);

    let names: Vec<_> = events
        .iter()
        .flat_map(|event| event.records.iter().filter_map(PathFields::from_record))
        .filter_map(|path| path.name.map(Text::decode))
        .collect();
    let strange = b"caf\xc3\xa9-\xff\n\"q\"";
    assert!(names.iter().any(|name| name[..] == strange[..]));
    assert!(names.iter().any(|name| name.len() == 3_999));

    let (_, compat) = calls
        .iter()
        .find(|(_, call)| call.arch == 0x4000_0003)
        .unwrap();
    assert_eq!((compat.syscall, compat.uid), (5, 61_234));
    let keys = compat.keys.map(Text::decode).unwrap_or_default();
    let keys: Vec<_> = split_keys(&keys).collect();
    assert_eq!(keys, [&b"audit-capture"[..], b"two words"]);
    let unfinished = calls.iter().filter(|(_, call)| call.exit.is_none());
    assert!(unfinished.clone().count() > 0);
    assert!(
        unfinished
            .clone()
            .all(|(_, call)| call.syscall == 231 && call.success.is_none())
    );
}
