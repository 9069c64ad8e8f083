//! What auditctl refuses is refused here, and what it takes is taken: fields, operators and lists, and ways to write
//! values. What differs on purpose is listed here and in docs/rules.md.
//!
//! auditctl reads all lines as one file that goes on after errors; which of them it and the kernel took is read from
//! the kernel. Auditing is off meanwhile, so no rule has an effect.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::auditctl;
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::language::{Directive, parse_line};
use collector::audit::rules::Rule;
use collector::ruleset::LocalHost;

const OPERATORS: [&str; 8] = ["=", "!=", "<", ">", "<=", ">=", "&", "&="];

const LISTS: [&str; 5] = ["exit", "task", "user", "exclude", "filesystem"];

/// Every field with a value that is right for it.
const FIELDS: [(&str, &str); 47] = [
    ("pid", "1"),
    ("uid", "1"),
    ("euid", "1"),
    ("suid", "1"),
    ("fsuid", "1"),
    ("gid", "1"),
    ("egid", "1"),
    ("sgid", "1"),
    ("fsgid", "1"),
    ("auid", "1"),
    ("loginuid", "2"),
    ("auid", "unset"),
    ("pers", "1"),
    ("arch", "b64"),
    ("msgtype", "CWD"),
    ("subj_user", "x"),
    ("subj_role", "x"),
    ("subj_type", "x"),
    ("subj_sen", "x"),
    ("subj_clr", "x"),
    ("ppid", "1"),
    ("obj_user", "x"),
    ("obj_role", "x"),
    ("obj_type", "x"),
    ("obj_lev_low", "x"),
    ("obj_lev_high", "x"),
    ("sessionid", "1"),
    ("fstype", "tracefs"),
    ("devmajor", "1"),
    ("devminor", "1"),
    ("inode", "1"),
    ("exit", "-EPERM"),
    ("success", "1"),
    ("path", "/etc/passwd"),
    ("perm", "wa"),
    ("dir", "/etc"),
    ("filetype", "file"),
    ("obj_uid", "1"),
    ("obj_gid", "1"),
    ("field_compare", "1"),
    ("exe", "/usr/bin/ls"),
    ("saddr_fam", "2"),
    ("a0", "1"),
    ("a3", "1"),
    ("key", "k"),
    ("nonsense", "1"),
    ("UID", "3"),
];

/// One field of each kind of value.
const KINDS: [&str; 27] = [
    "pid",
    "uid",
    "gid",
    "auid",
    "pers",
    "arch",
    "msgtype",
    "subj_user",
    "ppid",
    "obj_lev_low",
    "sessionid",
    "fstype",
    "devmajor",
    "inode",
    "exit",
    "success",
    "path",
    "perm",
    "dir",
    "filetype",
    "obj_uid",
    "obj_gid",
    "field_compare",
    "exe",
    "saddr_fam",
    "a0",
    "key",
];

const VALUES: [&str; 58] = [
    "",
    "0",
    "1",
    "-1",
    "-2",
    "+1",
    "1x",
    "0x",
    "0x10",
    "010",
    "08",
    "4294967295",
    "4294967296",
    "-4294967295",
    "-2147483649",
    "18446744073709551616",
    "unset",
    "UNSET",
    "root",
    "no-such-name",
    "-EPERM",
    "EPERM",
    "eperm",
    "ENOSUCH",
    "-",
    "--1",
    "1,2",
    "1.5",
    "b64",
    "B32",
    "x86_64",
    "i686",
    "0xc000003e",
    "1073741827",
    "CWD",
    "cwd",
    "UNKNOWN[1399]",
    "UNKNOWN[",
    "file",
    "FILE",
    "dir",
    "rwxa",
    "RWXA",
    "rwxar",
    "rr",
    "q",
    "/etc",
    "etc",
    "/etc/",
    "/etc/passwd",
    "/usr/bin/ls",
    "/no/such/dir/x",
    "tracefs",
    "ext4",
    "inet",
    "46",
    "a!=b",
    "a>b",
];

#[test]
fn every_field_operator_and_list_is_judged_as_auditctl_does() {
    let mut lines = Vec::new();
    for list in LISTS {
        for (field, value) in FIELDS {
            lines.extend(
                OPERATORS.map(|operator| format!("-a always,{list} -F {field}{operator}{value}")),
            );
        }
    }
    agree(&lines);
}

#[test]
fn every_way_to_write_a_value_is_judged_as_auditctl_does() {
    let values = KINDS
        .iter()
        .flat_map(|field| VALUES.map(|value| (*field, value)));
    let lines: Vec<String> = values
        .filter(|(field, value)| !is_deliberate(field, value))
        .zip(60_000..)
        .map(|((field, value), number)| match field {
            "fstype" => format!("-a always,filesystem -F fstype={value}"),
            "msgtype" => format!("-a always,exclude -F uid={number} -F msgtype={value}"),
            field => format!("-a always,exit -F uid={number} -F {field}={value}"),
        })
        .collect();
    agree(&lines);
}

/// Lines whose parts fit together, or do not. `UID` stands for a number of the line's own.
const LINES: [&str; 151] = [
    "-a always,exit -F uid=UID",
    "-a exit,always -F uid=UID",
    "-a always,always -F uid=UID",
    "-a exit,exit -F uid=UID",
    "-a always -F uid=UID",
    "-a always, -F uid=UID",
    "-a ,exit -F uid=UID",
    "-a always,exit, -F uid=UID",
    "-a always,exit,never -F uid=UID",
    "-a ALWAYS,EXIT -F uid=UID",
    "-a possible,exit -F uid=UID",
    "-a exit,possible -F uid=UID",
    "-a always,entry -F uid=UID",
    "-a always,watch -F uid=UID",
    "-a always,fs -F uid=UID",
    "-a sometimes,exit -F uid=UID",
    "-a always,exit -a always,exit -F uid=UID",
    "-a always,exit -A always,exit -F uid=UID",
    "-A always,exit -d always,exit -F uid=UID",
    "-F uid=UID -a always,exit",
    "-S open -a always,exit -F uid=UID",
    "-S open -a always,task -F uid=UID",
    "-S open -a always,user -F uid=UID",
    "-S open -a always,exclude -F uid=UID",
    "-S open -F uid=UID",
    "-k key -a always,exit -S open -F uid=UID",
    "-C uid!=euid -a always,exit -F uid=UID",
    "-p wa -a always,exit -F uid=UID",
    "-a always,exit -S open -F arch=b64 -F uid=UID",
    "-a always,exit -F arch=b64 -F arch=b32 -S open -F uid=UID",
    "-a always,exit -F arch=b32 -S open -F arch=b64 -F uid=UID",
    "-a always,exit -F arch=b64 -S open, -F uid=UID",
    "-a always,exit -F arch=b64 -S ,open -F uid=UID",
    "-a always,exit -F arch=b64 -S open,,close -F uid=UID",
    "-a always,exit -F arch=b64 -S OPEN -F uid=UID",
    "-a always,exit -F arch=b64 -S nonsense -F uid=UID",
    "-a always,exit -F arch=b64 -S open,nonsense -F uid=UID",
    "-a always,exit -F arch=b64 -S -1 -F uid=UID",
    "-a always,exit -F arch=b64 -S 2031 -F uid=UID",
    "-a always,exit -F arch=b64 -S 2048 -F uid=UID",
    "-a always,exit -F arch=b64 -S 99999 -F uid=UID",
    "-a always,exit -F arch=b64 -S 3x -F uid=UID",
    "-a always,exit -F arch=b64 -S ALL -F uid=UID",
    "-a always,exit -F arch=b64 -S socketcall -F uid=UID",
    "-a always,exit -F arch=b32 -S socketcall -F uid=UID",
    "-a always,exit -F arch!=b64 -S open -F uid=UID",
    "-a always,task -S open -F uid=UID",
    "-a always,user -S open -F uid=UID",
    "-a always,exclude -S open -F uid=UID",
    "-a always,filesystem -S open -F fstype=UID",
    "-a always,task -S all -F uid=UID",
    "-a always,exit -F uid=UID -C uid=euid",
    "-a always,exit -F uid=UID -C uid",
    "-a always,exit -F uid=UID -C uid=",
    "-a always,exit -F uid=UID -C =uid",
    "-a always,exit -F uid=UID -C uid=nonsense",
    "-a always,exit -F uid=UID -C nonsense=uid",
    "-a always,exit -F uid=UID -C uid<euid",
    "-a always,exit -F uid=UID -C uid=gid",
    "-a always,exit -F uid=UID -C uid=uid",
    "-a always,exit -F uid=UID -C obj_uid=obj_gid",
    "-a always,exit -F uid=UID -C pid=ppid",
    "-a always,exit -F uid=UID -C Uid=Euid",
    "-a always,task -F uid=UID -C uid=euid",
    "-a always,user -F uid=UID -C uid=euid",
    "-a always,exclude -F uid=UID -C uid=auid",
    "-a always,exit -F uid=UID -k key",
    "-a always,exit -F uid=UID -F key=key",
    "-a always,exit -S open -F uid=UID -k",
    "-a always,exit -S open -F uid=UID -F key=",
    "-a always,task -F uid=UID -k key",
    "-a always,user -F uid=UID -k key",
    "-a always,exclude -F msgtype=CWD -F uid=UID -k key",
    "-a always,exclude -F exe=/usr/bin/ls -F uid=UID -k key",
    "-a always,user -F exe=/usr/bin/ls -F uid=UID -k key",
    "-a always,filesystem -F fstype=UID -k key",
    "-a always,exit -F exe=/usr/bin/ls -F uid=UID -k key",
    "-a always,exit -F perm=x -F uid=UID -k key",
    "-a always,exit -F path=/etc/passwd -F uid=UID -k key",
    "-a always,exit -F dir=/etc -F uid=UID -k key",
    "-a always,exit -F path=/etc/passwd -F dir=/etc -F uid=UID",
    "-a always,exit -F path=/etc/passwd -F path=/etc/group -F uid=UID",
    "-a always,exit -F path=/etc/passwd -F inode=1 -F uid=UID",
    "-a always,exit -F dir=/etc -F inode=1 -F uid=UID",
    "-a always,exit -F inode=1 -F inode=2 -F uid=UID",
    "-a always,exit -F exe=/usr/bin/ls -F exe=/usr/bin/cat -F uid=UID",
    "-a always,exit -F path=etc -F uid=UID",
    "-a always,exit -F path=/etc/ -F uid=UID",
    "-a always,exit -F path=/etc/no/such -F uid=UID",
    "-a always,exit -F dir=/etc/no -F uid=UID",
    "-a always,exit -F exe=ls -F uid=UID",
    "-a always,exit -F exe=/usr/bin/ -F uid=UID",
    "-a always,exit -F exe=/usr/no/such -F uid=UID",
    "-a always,exit -F path=/etc/passwd -p wa -F uid=UID",
    "-a always,exit -p wa -F uid=UID",
    "-a always,exit -F path=/etc/passwd -F perm=r -p wa -F uid=UID",
    "-w /etc/passwd -F uid=UID",
    "-w /etc/passwd -S open -F uid=UID",
    "-w /etc/passwd -a always,exit -F uid=UID",
    "-a always,exit -w /etc/passwd -F uid=UID",
    "-w /etc/passwd -w /etc/group -F uid=UID",
    "-w /etc/passwd -p wz -F uid=UID",
    "-w /etc/passwd -p wwwwa -F uid=UID",
    "-w etc/passwd -F uid=UID",
    "-w /etc/../etc/passwd -F uid=UID",
    "-a always,exit -F uid=UID extra",
    "-a always,exit -F uid=UID -z",
    "\t-a always,exit -F uid=UID",
    "-a\talways,exit -F uid=UID",
    "-a always,exit\t-F uid=UID",
    "-a always,exit -F uid=UID\r",
    "-a always,exit -F uid=UID # why",
    "-a always,exit -F uid=UID --",
    "-- -a always,exit -F uid=UID",
    "-a always,exit -- -F uid=UID",
    "-aalways,exit -Fuid=UID",
    "-a=always,exit -F uid=UID",
    "-a always,exit -F uid=UID -v",
    "-a always,exit -F uid=UID -c",
    "-a always,exit -F uid=UID -i",
    "-va always,exit -F uid=UID",
    "-a always,exit -F uid=UID -b",
    "-a always,exit -Fuid = UID",
    "-a always,exit -F uid =UID",
    "-a always,exit -F \"uid=UID\"",
    "-a always,exit -F 'uid=UID'",
    "-a always,exit -F uid==UID",
    "-a always,exit -F uid=<UID",
    "-a always,exit -F uid=!UID",
    "-a always,exit -F uid>UID -F uid=>UID",
    "-a always,exit -F uid=UID,gid=UID",
    "-a always,exit -F uid = UID",
    "-a \"always,exit\" -F uid=UID",
    "-a always, exit -F uid=UID",
    "a always,exit -F uid=UID",
    "–a always,exit -F uid=UID",
    "-a always,exit -F uid=UID -w",
    "-a always,exit -F uid=UID -S",
    "-a always,exit -F uid=UID -F",
    "-a always,exit -F uid=UID -C",
    "-a always,exit -F arch=b64 -S open -S close -F uid=UID -k a -k b -k c",
    "-a never,exit -F uid=UID -k",
    "-a always,exit -S open -F uid=UID -k \u{1}",
    "-a always,exit -S open -F uid=UID -k a\u{1}b",
    "-W /etc/passwd -F uid=UID",
    "-w /etc/passwd -k a -F uid=UID -p x",
    "-p x -w /etc/passwd -F uid=UID",
    "-k key -w /etc/passwd -F uid=UID",
    "-w / -F uid=UID",
    "-w // -F uid=UID",
    "-w /etc/passwd/// -F uid=UID",
];

#[test]
fn every_way_to_put_a_line_together_is_judged_as_auditctl_does() {
    let numbered = LINES.iter().zip(60_000..);
    let lines: Vec<String> = numbered
        .map(|(line, number)| line.replace("UID", &number.to_string()))
        .collect();
    agree(&lines);
}

/// Whether a value is judged otherwise on purpose; docs/rules.md says why.
fn is_deliberate(field: &str, value: &str) -> bool {
    let number = || value.starts_with(|first: char| first.is_ascii_digit());
    match field {
        // auditctl takes what is neither a number nor a name for 0.
        "sessionid" if !number() => !matches!(value, "" | "-1" | "-2" | "unset"),
        "saddr_fam" if !number() => !value.is_empty(),
        // It prints such numbers, and does not read them.
        "filetype" if number() => true,
        "pid" | "ppid" | "gid" | "obj_gid" | "pers" | "msgtype" | "fstype" | "devmajor"
        | "inode" | "success"
            if matches!(value, "-1" | "-2") =>
        {
            true
        }
        // There are 25 comparisons.
        "field_compare" if number() => value.parse().map_or(true, |number: u8| number > 25),
        // It looks for an operator in the key.
        "key" => value == "a!=b",
        // A part of these is loaded there.
        _ if TOO_LARGE.contains(&value) => !matches!(field, "path" | "dir" | "exe" | "subj_user"),
        _ => false,
    }
}

/// Numbers that have no room in 32 bits.
const TOO_LARGE: [&str; 4] = [
    "4294967296",
    "-4294967295",
    "-2147483649",
    "18446744073709551616",
];

#[test]
fn what_is_judged_otherwise_on_purpose_is_listed() {
    let taken = [
        "-a always,exit -F uid=60001 -F pid=-2",
        "-a always,exit -F uid=60002 -F filetype=16384",
        "-a always,exit -F uid=60003 -F saddr_fam=inet",
        "-a always,exit -S open -F uid=60004 -F key=a!=b",
        "-a always,exit -F arch=b64 -S pread64 -F uid=60005",
        "-a always,exit -F arch=b64 -S cachestat -F uid=60006",
        "-a always,exclude -F uid=60007 -F msgtype=DM_CTRL",
        "-a always,exit -F arch=riscv64 -S openat -F uid=60008",
        "-a always,io_uring -S openat -F uid=60009",
    ];
    let refused = [
        ("-a always,exit -F uid=60011 -F a0=4294967297", "a0=0x1"),
        ("-a always,exit -F uid=60012 -F exit=-4294967295", "exit=1"),
        (
            "-a always,exit -F uid=60013 -F field_compare=26",
            "field_compare=26",
        ),
        (
            "-a always,exit -F uid=60014 -F sessionid=none",
            "sessionid=0",
        ),
        (
            "-a always,exit -F uid=60015 -F saddr_fam=none",
            "saddr_fam=0",
        ),
        ("-a always,exit -F uid=60016 -F arch=b64 -S ,", "uid=60016"),
        (
            "-a always,exit -F uid=60017 -F arch=b64 -S 2047",
            "uid=60017",
        ),
    ];
    let lines = taken.iter().chain(refused.iter().map(|(line, _)| line));
    let lines: Vec<String> = lines.map(ToString::to_string).collect();
    let Some(differences) = differences(&lines) else {
        return;
    };
    for line in taken {
        assert!(
            differences.contains(&format!("{TAKEN}: {line}")),
            "{line}: {differences:?}"
        );
    }
    for (line, loaded) in refused {
        let is_here = |text: &&String| text.starts_with(REFUSED) && text.ends_with(loaded);
        assert!(
            differences.iter().any(|text| is_here(&text)),
            "{line}: {differences:?}"
        );
    }
}

const TAKEN: &str = "taken here";
const REFUSED: &str = "refused here";

fn agree(lines: &[String]) {
    let wrong = differences(lines).unwrap_or_default();
    assert!(
        wrong.is_empty(),
        "{} of {} differ\n{}",
        wrong.len(),
        lines.len(),
        wrong.join("\n")
    );
}

/// The lines one of the two refuses, and the rules auditctl makes that none of them makes here; none where this machine
/// lacks what is needed.
fn differences(lines: &[String]) -> Option<Vec<String>> {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Program(auditctl::PROGRAM),
    ]) {
        return None;
    }
    let mut guard = AuditGuard::take_quiet().unwrap();
    let before = guard.rules().unwrap();
    auditctl::load(format!("-c\n{}", lines.join("\n")).as_bytes()).unwrap();
    let mut theirs: HashSet<Rule> = HashSet::new();
    for rule in guard.rules().unwrap() {
        if !before.contains(&rule) {
            guard.delete_rule(&rule).unwrap();
            theirs.insert(rule);
        }
    }
    assert!(theirs.len() * 5 > lines.len(), "hardly any line was taken");
    let mut differences = Vec::new();
    let mut ours = HashSet::new();
    for line in lines {
        let Some(rule) = rule_of(line) else { continue };
        if !theirs.contains(&rule) && guard.add_rule(&rule).is_ok() {
            guard.delete_rule(&rule).unwrap();
            differences.push(format!("{TAKEN}: {line}"));
        }
        ours.insert(rule);
    }
    let refused = theirs.difference(&ours);
    differences.extend(refused.map(|rule| format!("{REFUSED}: {rule}")));
    Some(differences)
}

/// The rule a line adds, as the kernel keeps it; none where the line is refused.
fn rule_of(line: &str) -> Option<Rule> {
    let line = parse_line(line.as_bytes(), &LocalHost).ok()?;
    line.directives
        .into_iter()
        .find_map(|directive| match directive {
            Directive::Add { mut rule, .. } => {
                // Classes of system calls, which the kernel replaces by the calls in them.
                rule.syscalls[63] &= 0xffff;
                Some(rule)
            }
            _ => None,
        })
}
