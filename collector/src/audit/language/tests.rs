//! Lines as people write them, and what comes of them.

mod round_trip;

use std::time::{Duration, Instant};

use super::*;
use crate::audit::rules::{Action, Field, FilterList, Operator, Permissions, Placement, Rule};
use crate::audit::status::StatusField;

/// A host with one user, one group and one directory.
struct Example;

impl Host for Example {
    fn user_id(&self, name: &str) -> Option<u32> {
        (name == "alice").then_some(1000)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        (name == "staff").then_some(50)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path == b"/etc"
    }
}

fn read(line: &str) -> Result<Line, Vec<Fault>> {
    parse(&words(line.as_bytes()).unwrap(), &Example, Arch::X86_64)
}

#[track_caller]
fn rule(line: &str) -> Rule {
    match read(line).unwrap().directives.as_slice() {
        [Directive::Add { rule, .. } | Directive::Delete { rule }] => rule.clone(),
        other => panic!("{line}: {other:?}"),
    }
}

/// The faults of a line: the text each is about, and what it says.
#[track_caller]
fn faults(line: &str) -> Vec<(&str, String)> {
    let faults = read(line).expect_err(line);
    faults
        .into_iter()
        .map(|fault| (&line[fault.span.clone()], fault.to_string()))
        .collect()
}

#[track_caller]
fn refused(line: &str, about: &str, what: &str) {
    let faults = faults(line);
    let [(place, message)] = faults.as_slice() else {
        panic!("{line}: {faults:?}");
    };
    assert_eq!((*place, message.as_str()), (about, what), "{line}");
}

#[track_caller]
fn warnings(line: &str) -> Vec<String> {
    let line = read(line).unwrap();
    line.warnings.iter().map(Fault::to_string).collect()
}

#[test]
fn a_rule_is_what_its_options_say_in_their_order() {
    let expected = Rule::always_exit()
        .arch(Arch::X86_64)
        .condition(Field::LOGINUID, Operator::GREATER_OR_EQUAL, 1000)
        .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
        .condition(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 11)
        .key(b"one\x01two")
        .syscalls(Arch::X86_64, &["open", "openat", "close"]);
    let text = "-a always,exit -F arch=b64 -S open,openat -S 3 -F auid>=1000 -F key=one -F auid!=unset -C euid!=uid -k two";
    assert_eq!(rule(text), expected);
    let line = read("-A exit,always -S all").unwrap();
    assert_eq!(
        line.directives,
        [Directive::Add {
            rule: Rule::always_exit().all_syscalls(),
            placement: Placement::First,
        }]
    );
}

#[test]
fn a_rule_without_system_calls_is_for_all_of_them_but_on_the_task_list() {
    assert!(rule("-a always,exit -F uid=1").names_all_syscalls());
    assert!(rule("-a never,exclude -F msgtype=CWD").names_all_syscalls());
    let task = Rule::new(FilterList::TASK, Action::Never);
    assert_eq!(rule("-d never,task"), task);
}

#[test]
fn a_watch_is_of_a_directory_if_there_is_one() {
    let watch = |watched| Rule::watch(watched, Permissions::ALL);
    use crate::audit::rules::Watched::{Directory, Path};
    assert_eq!(rule("-w /etc//"), watch(Directory(b"/etc")));
    assert_eq!(rule("-w /etc/passwd"), watch(Path(b"/etc/passwd")));
    assert_eq!(rule("-W /etc -p Wa -k k").to_string(), "-w /etc -p wa -k k");
    assert_eq!(rule(r"-w /a\ b"), watch(Path(b"/a b")));
    assert_eq!(rule("-w ///"), watch(Path(b"/")));
}

#[test]
fn values_have_names_and_numbers() {
    for (condition, value) in [
        ("exit,uid=alice", 1000),
        ("exit,uid=0x10", 16),
        ("exit,uid=010", 8),
        ("exit,gid=staff", 50),
        ("exit,loginuid=-1", u32::MAX),
        ("exit,exit=-EPERM", -1_i32 as u32),
        ("exit,exit!=eacces", 13),
        ("exit,exit=-13", -13_i32 as u32),
        ("exit,filetype=dir", 0o40_000),
        ("exit,perm=rw", 6),
        ("exit,a0=-1", u32::MAX),
        ("exit,a0&0100", 64),
        ("exit,saddr_fam=inet6", 10),
        ("exit,saddr_fam=45", 45),
        ("exit,sessionid=unset", u32::MAX),
        ("exit,arch=i686", 0x4000_0003),
        ("exit,arch=b32", 0x4000_0003),
        ("exit,arch=0xc000003e", 0xc000_003e),
        ("exit,arch=c00000b7", 0xc000_00b7),
        ("exclude,msgtype=cwd", 1307),
        ("exclude,msgtype=UNKNOWN[1999]", 1999),
        ("filesystem,fstype=debugfs", 0x6462_6720),
        ("filesystem,fstype=0xef53", 0xef53),
        ("exit,field_compare=25", 25),
    ] {
        let (list, condition) = condition.split_once(',').unwrap();
        let rule = rule(&format!("-a always,{list} -F {condition}"));
        assert_eq!(rule.conditions[0].value, value, "{condition}");
    }
}

#[test]
fn settings_and_commands_are_read_in_every_form() {
    let set = |field, value| Directive::Set { field, value };
    let directives = |line| read(line).unwrap().directives;
    assert_eq!(
        directives("-e1 -f 2 -b 8192 -r0 --backlog_wait_time=60000"),
        [
            set(StatusField::Enabled, 1),
            set(StatusField::Failure, 2),
            set(StatusField::BacklogLimit, 8192),
            set(StatusField::RateLimit, 0),
            set(StatusField::BacklogWaitTime, 60000),
        ]
    );
    let key = |key: &[u8]| Some(key.into());
    for (line, expected) in [
        ("-D", Directive::DeleteAll { key: None }),
        ("-D -k x", Directive::DeleteAll { key: key(b"x") }),
        ("-l", Directive::List { key: None }),
        ("-l -k x", Directive::List { key: key(b"x") }),
        ("-s", Directive::Status),
        ("-i", Directive::IgnoreErrors),
        ("-c", Directive::ContinueOnErrors),
        ("-t", Directive::Trim),
        ("-v", Directive::Version),
        ("-h", Directive::Help),
        (
            "--reset-lost",
            Directive::Reset {
                field: StatusField::Lost,
            },
        ),
        (
            "--reset_b",
            Directive::Reset {
                field: StatusField::BacklogWaitTimeActual,
            },
        ),
        (
            "-q /a,/b",
            Directive::MakeEquivalent {
                mount: (*b"/a").into(),
                subtree: (*b"/b").into(),
            },
        ),
        (
            "-mhello",
            Directive::Message {
                text: (*b"hello").into(),
            },
        ),
        (
            "-R /x",
            Directive::Read {
                path: (*b"/x").into(),
            },
        ),
    ] {
        assert_eq!(directives(line), [expected], "{line}");
    }
    assert_eq!(
        directives("-l -i"),
        [Directive::Interpret, Directive::List { key: None }]
    );
    assert_eq!(directives("# nothing"), []);
    assert!(parse_line(b"-R /x", &Example).is_err());
    assert!(parse_line(b"-h", &Example).is_err());
    assert_eq!(
        parse_arguments(&["-m", "two words"], &Example)
            .unwrap()
            .directives,
        [Directive::Message {
            text: (*b"two words").into()
        }]
    );
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    refused(
        "-a always,exit -S opneat",
        "opneat",
        "x86_64 has no system call `opneat`; did you mean `openat`?",
    );
    refused(
        "-a always,exit -S close,socketcall",
        "socketcall",
        "x86_64 has no system call `socketcall`; it is one of i386",
    );
    refused(
        "-a always,exit -F arch=b46 -S open",
        "b46",
        "there is no architecture `b46`; did you mean `b64`?",
    );
    refused(
        "-a always,exit -F udi=1",
        "udi",
        "there is no field `udi`; did you mean `uid`?",
    );
    refused(
        "-a alwyas,exit",
        "alwyas",
        "`alwyas` is neither a list nor an action; did you mean `always`?",
    );
    refused(
        "-a always,entry -S open",
        "entry",
        "there is no list `entry` any more; write `exit`",
    );
    refused(
        "-a always,exit -F exe>/bin/sh",
        ">",
        "`exe` does not take `>`, only `=` `!=`",
    );
    refused(
        "-a always,task -F exit=1",
        "exit",
        "`exit` cannot be used on the list task, only on exit, io_uring",
    );
    refused(
        "-a always,exit -F success=yes",
        "yes",
        "`success` is compared with a number, not `yes`; write 1",
    );
    refused(
        "-a never,exclude -F msgtype=SYSCAL",
        "SYSCAL",
        "there is no record type `SYSCAL`; did you mean `SYSCALL`?",
    );
    refused(
        "--reset-lots",
        "--reset-lots",
        "there is no option `--reset-lots`; did you mean `reset-lost`?",
    );
    refused(
        "-e 1 # on now",
        "#",
        "`#` belongs to no option; a comment takes a line of its own",
    );
    refused(
        "\u{feff}-D",
        "\u{feff}-D",
        r"`\xef\xbb\xbf-D` belongs to no option; save the file without a byte order mark",
    );
}

#[test]
fn what_is_hardly_meant_is_allowed_with_a_warning() {
    let mismatch = "without an architecture the rule holds for i386 too, where `open` is number 5; \
                    put `-F arch=b64` or `-F arch=b32` before `-S`";
    for (line, expected) in [
        ("-a always,exit -S open", mismatch),
        ("-a always,exit -F uid=12x", "only `12` of `12x` is read"),
        (
            "-a always,exit -F exit=EPERM",
            "calls that fail return the error's number negated; did you mean `exit=-EPERM`?",
        ),
        (
            "-w /var/*.log",
            "`*` and `?` are taken for themselves: there are no patterns in rules",
        ),
        (
            "-a always,io_uring -S read",
            "the kernel never reports the operation `read`",
        ),
        (
            "-w /etc -S open",
            "the rule is for every system call already",
        ),
        ("-w /a -k \"x\"", "the quotes become part of the key"),
    ] {
        assert_eq!(warnings(line), [expected], "{line}");
    }
    for line in [
        "-a always,exit -F arch=b64 -S open",
        "-a always,exit -S 2",
        "-a always,exit -S open,all",
        "-d always,exit -S open",
        "-w /etc/passwd -p wa -k identity",
    ] {
        assert_eq!(warnings(line), [""; 0], "{line}");
    }
}

#[test]
fn a_watch_for_nothing_is_refused() {
    let faults = parse_arguments(&["-w", "/etc", "-p", ""], &Example).unwrap_err();
    assert_eq!(faults[0].span, 11..11);
}

#[test]
fn every_fault_of_a_line_is_found() {
    let found = faults("-a always,exit -S opne,clsoe -F uid=nobody1 -F foo=1 -C uid=gid -x");
    let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, ["opne", "clsoe", "nobody1", "foo", "uid=gid", "x"]);
}

#[test]
fn options_that_cannot_stand_together_are_refused() {
    for line in [
        "-a always,exit -a always,exit",
        "-a always,exit -w /etc",
        "-w /etc -W /etc",
        "-S open",
        "-k x",
        "-p wa",
        "-F uid=1",
        "-F uid=1 -a always,exit",
        "-a always,exit -S open -F arch=b64",
        "-w /etc -F arch=b64",
        "-a always,task -S open",
        "-S open -a always,task",
        "-a always,user -S open",
        "-a never,exclude -S open",
        "-a never,exclude -F uid=1 -k x",
        "-a always,exit -F uid=1 -k x",
        "-a always,exit -F uid=1 -F key=x",
        "-a always,exit -p wa",
        "-a always,exit -S open -t",
        "-t -e 1",
        "-i -c",
        "-e 1 -s",
        "-e 1 -D",
        "-D -k",
        "-l x",
        "-m a b",
        "-a always,exit -F path=/a -F dir=/b",
        "-a always,exit -F exe=/a -F exe=/b",
        "-a always,exit -S open -F key!=a -k b",
        "-a always,exit extra",
        "-a always,exit -S ,",
        "-a always,exit -S 2032",
        "-",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn what_no_kernel_takes_or_matches_is_refused() {
    for condition in [
        "uid=-1",
        "gid=4294967295",
        "auid>=unset",
        "uid=4294967296",
        "pid&1",
        "path!=/etc/passwd",
        "path=etc",
        "path=/etc/",
        "exe=/bin/",
        "dir=etc",
        "perm!=w",
        "perm=rwxar",
        "saddr_fam=46",
        "field_compare=26",
        "filetype=1",
        "subj_type>=x",
    ] {
        assert!(
            read(&format!("-a always,exit -F {condition}")).is_err(),
            "{condition}"
        );
    }
    assert!(read("-a always,filesystem -F uid=1").is_err());
    assert!(read("-a always,io_uring -S openat -F perm=w").is_err());
    assert!(read("--backlog_wait_time 600001").is_err());
}

#[test]
fn keys_and_conditions_have_their_bounds() {
    let line = |length| format!("-w /etc -k {}", "k".repeat(length));
    assert!(read(&line(256)).is_ok());
    assert!(read(&line(257)).is_err());
    assert!(read(&format!("{} -k {}", line(100), "k".repeat(156))).is_err());
    let line = |count| format!("-a always,exit{}", " -F pid=1".repeat(count));
    assert!(read(&line(63)).is_ok());
    assert_eq!(faults(&line(100)).len(), 1);
    let calls = "opneat,".repeat(15_000);
    let fields = "-F\0nosuch=1\0".repeat(8_000);
    for line in [
        format!("-a\0always,exit\0-S\0{calls}"),
        format!("-a\0always,exit\0{fields}"),
    ] {
        let start = Instant::now();
        let words: Vec<_> = line.split('\0').collect();
        assert_eq!(parse_arguments(&words, &Example).unwrap_err().len(), 32);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
