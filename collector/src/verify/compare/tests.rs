use std::fmt::Write as _;

use super::*;
use crate::audit::event::Completion;
use crate::output::testing::{audit_event, observation};
use crate::rebuild::rebuild;

const SYSCALL: &str = "arch=c000003e syscall=257 success=no exit=-2 a0=ffffff9c a1=7ffd0a a2=0 a3=0 items=1 ppid=10 \
    pid=11 auid=1000 uid=1 gid=2 euid=0 suid=0 fsuid=0 egid=0 sgid=2 fsgid=2 tty=(none) ses=4294967295 comm=612062 \
    exe=\"/usr/bin/cat\" key=\"k\"";
const PATH: &str =
    "item=0 name=2F6574632FFF nametype=UNKNOWN cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0";

fn compared(records: &[(RecordType, &str)]) -> Table {
    let mut seen = observation();
    seen.result = Some(-2);
    let rebuilt = rebuild(&seen, Some(&[b"k"[..].into()]));
    let event = audit_event(records, Completion::Eoe);
    let mut table = Table::default();
    compare("openat", &event.records, &rebuilt, &mut table);
    table
}

fn wrong(table: &Table) -> Vec<Place> {
    let wrong = table.fields.iter().filter(|(_, tally)| tally.wrong > 0);
    wrong.map(|(place, _)| *place).collect()
}

#[test]
fn the_kernels_own_records_are_identical_but_for_what_is_unknown() {
    let table = compared(&[
        (RecordType::SYSCALL, SYSCALL),
        (RecordType::CWD, "cwd=\"/root\""),
        (RecordType::PATH, PATH),
        (RecordType::PROCTITLE, "proctitle=\"cat\""),
    ]);
    assert_eq!(wrong(&table), []);
    let sum = table.sum();
    // 26 fields of SYSCALL, one of CWD, eight of PATH, five records and the order.
    assert_eq!((sum.identical, sum.unknown), (26 + 1 + 7 + 5 + 1, 1));
    assert_eq!(table.fields[&("PROCTITLE", "proctitle")].unknown, 1);
}

#[test]
fn each_way_to_be_wrong_is_told_by_its_place() {
    let table = compared(&[
        (RecordType::CWD, "cwd=\"/root\""),
        (
            RecordType::SYSCALL,
            &SYSCALL
                .replace("uid=1 ", "uid=7 ")
                .replace(" key=", " subj=x\x1b[2J key="),
        ),
        (RecordType::SOCKADDR, "saddr=0100"),
        (RecordType::PROCTITLE, "proctitle=\"cat\""),
    ]);
    assert_eq!(
        wrong(&table),
        [
            ("PATH", "record"),
            ("SOCKADDR", "record"),
            ("SYSCALL", "subj"),
            ("SYSCALL", "uid"),
            ("event", "order"),
        ]
    );
    let example = table.fields[&("SYSCALL", "uid")].example.clone().unwrap();
    assert_eq!(
        (example.audit.as_deref(), example.rebuilt.as_deref()),
        (Some("7"), Some("1"))
    );
    let label = table.fields[&("SYSCALL", "subj")].example.clone().unwrap();
    assert_eq!(label.audit.as_deref(), Some("x\\x1b[2J"));
    assert_eq!(label.rebuilt, None);
}

#[test]
fn records_of_other_parts_of_the_kernel_are_not_held_against_us() {
    let table = compared(&[
        (RecordType(1400), "avc:  denied  { read } for pid=11"),
        (RecordType::SYSCALL, SYSCALL),
        (RecordType::CWD, "cwd=\"/root\""),
        (RecordType::PATH, PATH),
        (RecordType::PROCTITLE, "proctitle=\"cat\""),
    ]);
    assert_eq!(wrong(&table), []);
    assert_eq!(table.fields[&("other", "record")].unknown, 1);
}

#[test]
fn fields_in_another_order_are_found_and_told_as_that() {
    let swapped = SYSCALL
        .replace("uid=1 gid=2 ", "gid=2 uid=1 ")
        .replace("arch=c000003e ", "")
        + " arch=c000003e";
    let table = compared(&[
        (RecordType::SYSCALL, &swapped),
        (RecordType::CWD, "cwd=\"/root\""),
        (RecordType::PATH, PATH),
        (RecordType::PROCTITLE, "proctitle=\"cat\""),
    ]);
    assert_eq!(wrong(&table), [("event", "order")]);
}

/// Where each were looked for among all, this would take longer than a test may.
#[test]
fn a_long_list_of_arguments_is_compared_in_time_that_grows_with_its_length() {
    const ARGUMENTS: usize = 300_000;
    let mut seen = observation();
    seen.result = Some(-2);
    let rebuilt = rebuild(&seen, None);
    let mut ours = rebuilt.records[0].clone();
    let number = ours.field("a2").unwrap().clone();
    let text = String::from_utf8(ours.text(&number).to_vec()).unwrap();
    ours.fields = vec![number; ARGUMENTS];
    let mut body = String::new();
    for (n, field) in ours.fields.iter_mut().enumerate() {
        field.name = format!("a{n}").into();
        write!(body, "{}={text} ", field.name).unwrap();
    }
    let event = audit_event(&[(RecordType::EXECVE, &body)], Completion::Eoe);
    let theirs = event.records.iter().next().unwrap();
    let mut table = Table::default();
    let mut comparison = Comparison {
        call: "execve",
        table: &mut table,
    };
    assert!(comparison.fields(theirs, &ours, &rebuilt));
    assert_eq!(table.sum().identical, ARGUMENTS as u64);
}
