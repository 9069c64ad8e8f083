use smallvec::smallvec;

use super::*;
use crate::audit::rules::Keys;
use crate::output::testing::observation;
use crate::probe::observation::{Captured, FileInode, OpenedFile, PathArgument};

fn bodies(rebuilt: &Rebuilt) -> Vec<String> {
    let line = |record: &RebuiltRecord| {
        let body = String::from_utf8_lossy(&record.body);
        format!("{} {body}", record.record_type)
    };
    rebuilt.records.iter().map(line).collect()
}

fn key(key: &str) -> Keys {
    smallvec![key.as_bytes().into()]
}

const SYSCALL: &str = "success=no exit=-13 a0=ffffff9c a1=7ffd0a a2=0 a3=0 items=? ppid=10 pid=11 \
    auid=1000 uid=1 gid=2 euid=0 suid=0 fsuid=0 egid=0 sgid=2 fsgid=2 tty=(none) ses=4294967295 comm=612062 \
    exe=\"/usr/bin/cat\"";

#[test]
fn what_is_not_known_is_said_to_be_and_never_made_up() {
    let rebuilt = rebuild(&observation(), None);
    assert_eq!(
        bodies(&rebuilt),
        [
            &format!("SYSCALL arch=c000003e syscall=257 {SYSCALL} key=?"),
            "CWD cwd=\"/root\"",
            "PROCTITLE proctitle=?",
            "EOE ",
        ]
    );
    assert_eq!(rebuilt.unknown, [RecordType::PATH]);
    assert!(!rebuilt.is_complete());
    let syscall = &rebuilt.records[0];
    assert_eq!(syscall.field("items").unwrap().source, None);
    let a1 = syscall.field("a1").unwrap();
    assert_eq!(
        (a1.source, syscall.text(a1)),
        (Some(Source::Registers), &b"7ffd0a"[..])
    );
}

#[test]
fn a_path_that_is_not_there_has_a_record_without_an_inode() {
    let mut seen = observation();
    seen.result = Some(-2);
    let rebuilt = rebuild(&seen, Some(&key("a b")));
    let lines = bodies(&rebuilt);
    assert!(
        lines[0].contains(" items=1 ") && lines[0].ends_with(" key=612062"),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[2],
        "PATH item=0 name=2F6574632FFF nametype=UNKNOWN cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
    );
    assert!(rebuilt.unknown.is_empty());
}

#[test]
fn an_opened_file_has_its_inode_and_unknown_capabilities() {
    let mut seen = observation();
    seen.result = Some(3);
    seen.title = Captured::Whole(b"cat\0/etc/x"[..].into());
    seen.paths[0] = PathArgument {
        argument: 1,
        path: Captured::Late(b"/etc/x"[..].into()),
    };
    seen.opened = Some(OpenedFile {
        inode: FileInode {
            number: 5,
            dev: (8, 1),
            rdev: (0, 0),
            mode: 0o100_640,
            uid: 0,
            gid: 42,
            magic: 0xef53,
        },
        directory: None,
        created: false,
        flags: 0,
        path: Captured::Absent,
        lineage: Captured::Absent,
    });
    let rebuilt = rebuild(&seen, Some(&[]));
    let lines = bodies(&rebuilt);
    assert!(
        lines[0].contains(" items=1 ") && lines[0].ends_with(" key=(null)"),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[2],
        "PATH item=0 name=\"/etc/x\" inode=5 dev=08:01 mode=0100640 ouid=0 ogid=42 rdev=00:00 nametype=NORMAL \
         cap_fp=? cap_fi=? cap_fe=? cap_fver=? cap_frootid=?"
    );
    assert_eq!(lines[3], "PROCTITLE proctitle=636174002F6574632F78");
    let name = rebuilt.records[2].field("name").unwrap();
    assert_eq!(name.source, Some(Source::MemoryLate));
}

#[test]
fn a_call_that_names_no_file_has_neither_cwd_nor_path() {
    let mut seen = observation();
    seen.syscall = 9;
    seen.paths.clear();
    seen.args = [0, 4096, 1, 2, 3, 0];
    seen.result = Some(0x7f00_0000_0000);
    let rebuilt = rebuild(&seen, Some(&[]));
    let lines = bodies(&rebuilt);
    assert!(lines[0].contains(" items=0 "), "{}", lines[0]);
    assert_eq!(lines[1], "MMAP fd=3 flags=0x2");
    assert!(lines[2].starts_with("PROCTITLE"));
    // Without a file.
    seen.args[3] |= 0x20;
    seen.args[4] = u64::MAX;
    assert_eq!(rebuild(&seen, None).of_type(RecordType::MMAP).count(), 0);
}

#[test]
fn what_was_cut_is_not_given_for_the_whole() {
    let mut seen = observation();
    seen.exe = Captured::Truncated(b"/very/long"[..].into());
    seen.subject = Captured::Unreadable;
    seen.personality = 0x0040_0000;
    let lines = bodies(&rebuild(&seen, None));
    assert!(lines[0].contains(" exe=? subj=? key=?"), "{}", lines[0]);
    assert!(
        lines[0].contains(" syscall=257 per=400000 success="),
        "{}",
        lines[0]
    );
}
