use proptest::prelude::*;
use zerocopy::IntoBytes as _;

use smallvec::smallvec;

use super::*;
use crate::audit::rules::Keys;

fn sample() -> Sample {
    let mut sample = Sample::read_from_bytes(&[0; size_of::<Sample>()]).unwrap();
    sample.fixed = size_of::<Sample>() as u16;
    sample.version = VERSION;
    sample.kind = 1;
    sample.ruling = 2;
    sample.rule = 3;
    sample.comm = *b"comm\0garbage\0\0\0\0";
    sample
}

fn bytes(strings: &[(StringKind, u8, &[u8])]) -> Vec<u8> {
    let mut area = Vec::new();
    for (kind, flags, string) in strings {
        let header = StringHeader {
            length: string.len() as u16,
            kind: *kind as u8,
            argument: 1,
            flags: *flags,
            padding: [0; 3],
        };
        area.extend_from_slice(header.as_bytes());
        area.extend_from_slice(string);
        area.resize(area.len().next_multiple_of(8), 0);
    }
    let mut sample = sample();
    sample.length = (size_of::<Sample>() + area.len()) as u32;
    [sample.as_bytes(), &area].concat()
}

#[test]
fn a_sample_says_which_program_sent_it() {
    let mut sample = sample();
    for (sequence, program) in [(8, 0), (9, 1), (18, 2), (11, 3), (12, 4)] {
        sample.sequence = sequence;
        assert_eq!(program_of(sample.as_bytes()), program);
    }
    assert_eq!(program_of(&[0; 15]), 1);
}

#[test]
fn a_sample_of_a_program_that_sends_none_does_no_harm() {
    let mut sample = sample();
    for sequence in 0..16 {
        sample.sequence = sequence;
        assert!(program_of(sample.as_bytes()) < SENDERS.len());
    }
    for program in 5..8 {
        sample.sequence = 8 + program;
        assert_eq!(program_of(sample.as_bytes()), 1);
    }
}

#[test]
fn strings_find_their_places() {
    let observation = decode(&bytes(&[
        (StringKind::Path, 0, b"a/b"),
        (StringKind::Argv, 0, b"ls\0-l\0\0"),
        (StringKind::Exe, string_flags::COMPONENTS, b"ls\0bin\0usr\0"),
        (StringKind::Cwd, string_flags::COMPONENTS, b""),
        (StringKind::Tty, 0, b"pts1"),
    ]))
    .unwrap();
    assert_eq!(observation.verdict, Verdict::Inferred);
    assert_eq!(observation.rule, Some(3));
    assert_eq!(&*observation.comm, b"comm");
    assert_eq!(observation.paths[0].argument, 1);
    assert_eq!(
        observation.paths[0].path,
        Captured::Whole(b"a/b".as_slice().into())
    );
    // The last of three arguments is empty.
    assert_eq!(
        observation.argv,
        Captured::Whole(b"ls\0-l\0".as_slice().into())
    );
    assert_eq!(
        observation.exe,
        Captured::Whole(b"/usr/bin/ls".as_slice().into())
    );
    assert_eq!(observation.cwd, Captured::Whole(b"/".as_slice().into()));
    assert_eq!(observation.tty, Captured::Whole(b"pts1".as_slice().into()));
    assert_eq!(observation.sockaddr, Captured::Absent);
    assert_eq!(observation.result, None);
}

#[test]
fn what_the_kernel_decided_is_exact_whatever_the_mirror_ruled() {
    let mut sample = sample();
    sample.length = size_of::<Sample>() as u32;
    sample.ruling = collector_ebpf::Ruling::NO.0 as u8;
    assert_eq!(
        decode(sample.as_bytes()),
        Err(DecodeError::Ruling { ruling: 0 })
    );
    sample.flags = flags::REPORTED | flags::END_ONLY;
    sample.report.stamp_sec = 1_700_000_000;
    sample.report.stamp_nsec = 123_999_999;
    sample.report.lost[LossReason::BacklogLimit as usize] = 2;
    sample.report.first_lost = LossReason::BacklogLimit as u8 + 1;
    let observation = decode(sample.as_bytes()).unwrap();
    assert_eq!(observation.verdict, Verdict::Exact);
    assert_eq!(observation.extent, Extent::EndOnly);
    assert_eq!(
        observation.report,
        Some(Report {
            time: TimeMs(1_700_000_000_123),
            serial: None,
            lost_records: 2,
            first_lost: Some(LossReason::BacklogLimit),
            preceded: false,
        })
    );
    sample.report.serial = 7;
    sample.report.first_lost = 200;
    sample.report.preceded = 1;
    let observation = decode(sample.as_bytes()).unwrap();
    let report = observation.report.unwrap();
    assert_eq!((report.serial, report.first_lost), (Some(Serial(7)), None));
    assert!(observation.has_foreign_record());
}

#[test]
fn an_operation_of_io_uring_is_no_call() {
    let mut bytes = bytes(&[(StringKind::Key, 0, b"one\x01two")]);
    let mut sample = Sample::read_from_prefix(&bytes).unwrap().0;
    sample.flags = flags::REPORTED | flags::END_ONLY | flags::OPERATION | flags::RESULT;
    sample.syscall = 18;
    sample.args[0] = 2;
    sample.result = -11;
    sample.report.serial = 7;
    bytes[..size_of::<Sample>()].copy_from_slice(sample.as_bytes());
    let observation = decode(&bytes).unwrap();
    assert_eq!(observation.extent, Extent::Operation);
    assert_eq!((observation.syscall, observation.result), (0, None));
    assert_eq!(observation.arguments(), &[0; 0]);
    let operation = &observation.operations[0];
    assert_eq!((operation.number, operation.result), (18, Some(-11)));
    assert_eq!(
        (operation.items, operation.report.serial),
        (2, Some(Serial(7)))
    );
    let keys: Keys = smallvec![(*b"one").into(), (*b"two").into()];
    assert_eq!(observation.keys(), keys);
}

#[test]
fn removed_files_read_as_the_kernel_prints_them() {
    let components = string_flags::COMPONENTS;
    assert_eq!(
        &*path(b"x\0tmp\0", components | string_flags::DELETED),
        b"/tmp/x (deleted)"
    );
    assert_eq!(
        &*path(b"memfd:x\0", components | string_flags::DETACHED),
        b"/memfd:x (deleted)"
    );
    assert_eq!(&*path(b"x\0tm", components), b"/x");
}

#[test]
fn what_could_not_be_read_is_told_from_what_is_not_there() {
    let observation = decode(&bytes(&[
        (StringKind::Path, string_flags::UNREADABLE, b""),
        (StringKind::Argv, string_flags::TRUNCATED, b"a\0b"),
    ]))
    .unwrap();
    assert_eq!(observation.paths[0].path, Captured::Unreadable);
    assert_eq!(
        observation.argv,
        Captured::Truncated(b"a\0b".as_slice().into())
    );
    assert_eq!(observation.exe, Captured::Absent);
}

#[test]
fn titles_end_as_the_kernel_ends_them() {
    let title = |memory: &[u8]| title(memory).map(|title| title.to_vec());
    assert_eq!(title(b"a\0b c\0"), Some(b"a\0b c".to_vec()));
    assert_eq!(title(b"a\x01\0\n\0"), Some(b"a".to_vec()));
    assert_eq!(title(b"\0\0"), None);
    // What a process wrote over its arguments ends with the first NUL, or else goes on in the environment.
    assert_eq!(title(b"new\0old"), Some(b"new".to_vec()));
    assert_eq!(title(b"longer"), None);
    let long = [b'x'; TITLE_BYTES];
    assert_eq!(title(&long), Some(long.to_vec()));
}

#[test]
fn an_opened_file_comes_with_what_is_around_it() {
    let facts = |inode| FileFacts {
        inode,
        dev: 0xfd << 20 | 1,
        mode: 0o100_644,
        open_mode: FileFacts::CREATED,
        ..FileFacts::default()
    };
    let mut sample = bytes(&[
        (StringKind::Opened, 0, facts(7).as_bytes()),
        (
            StringKind::OpenedPath,
            string_flags::COMPONENTS,
            b"x\0tmp\0",
        ),
        (
            StringKind::Lineage,
            string_flags::TRUNCATED,
            &[7, 0, 0, 0, 0, 0, 0, 0],
        ),
    ]);
    // The argument of the first string.
    sample[size_of::<Sample>() + 3] = 0;
    let opened = decode(&sample).unwrap().opened.unwrap();
    assert!(opened.created);
    assert_eq!((opened.inode.number, opened.inode.dev), (7, (0xfd, 1)));
    assert_eq!(opened.path, Captured::Whole(b"/tmp/x".as_slice().into()));
    assert_eq!(opened.lineage, Captured::Truncated([7].into()));
}

#[test]
fn shorter_than_known_is_refused_longer_is_accepted() {
    let good = bytes(&[]);
    assert!(matches!(
        decode(&good[..100]),
        Err(DecodeError::Short { length: 100, .. })
    ));
    let mut longer = sample();
    longer.fixed += 8;
    longer.length = u32::from(longer.fixed);
    assert!(decode(&[longer.as_bytes(), &[7; 8]].concat()).is_ok());
    let mut wrong = sample();
    wrong.length = 4;
    assert!(matches!(
        decode(wrong.as_bytes()),
        Err(DecodeError::Length { says: 4, .. })
    ));
    let mut other = sample();
    other.version = 9;
    assert!(matches!(
        decode(other.as_bytes()),
        Err(DecodeError::Unknown { version: 9, .. })
    ));
}

#[test]
fn a_string_beyond_the_end_is_refused() {
    let mut bad = bytes(&[(StringKind::Path, 0, b"abcdefgh")]);
    let header = size_of::<Sample>();
    bad[header] = 9;
    assert_eq!(decode(&bad), Err(DecodeError::String { at: header }));
}

proptest! {
    #[test]
    fn no_bytes_panic(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&noise);
    }

    #[test]
    fn no_area_panics(area in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut sample = sample();
        sample.length = (size_of::<Sample>() + area.len()) as u32;
        let _ = decode(&[sample.as_bytes(), &area].concat());
    }
}
