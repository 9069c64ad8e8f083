//! Rules: added, listed, deleted, and each way the kernel refuses one.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::requirement;
use collector::audit::arch::Arch;
use collector::audit::client::{ClientError, KEY_LIMIT, RULE_TEXT_LIMIT};
use collector::audit::rules::{
    self, Field, FilterList, Operator, Permissions, Rule, RuleEncodeError, Watched,
};

use crate::{UID, rule, take};

/// A rule that matches nobody but our user.
fn ours(rule: Rule) -> Rule {
    rule.condition(Field::UID, Operator::EQUAL, UID)
}

fn exe(path: &[u8]) -> Rule {
    ours(Rule::always_exit().all_syscalls()).text(Field::EXE, Operator::EQUAL, path)
}

/// The rules of tests that the kernel has.
fn loaded(guard: &mut AuditGuard) -> Vec<Rule> {
    let mut rules = guard.client().rules().unwrap();
    rules.retain(|rule| rule.keys().any(|key| key.starts_with(KEY.as_bytes())));
    rules
}

#[test]
fn rules_are_listed_as_they_were_added() {
    let Some(mut guard) = take() else {
        return;
    };
    let added = [
        rule(),
        ours(Rule::watch(
            Watched::Directory(b"/etc"),
            Permissions::WRITE.and(Permissions::ATTRIBUTES),
        ))
        .key(KEY),
        ours(Rule::watch(
            Watched::Path(b"/etc/hostname"),
            Permissions::READ,
        ))
        .key(KEY),
        Rule::always_exit()
            .arch(Arch::NATIVE)
            .syscalls(Arch::NATIVE, &["connect", "execve"])
            .condition(Field::LOGINUID, Operator::NOT_EQUAL, u32::MAX)
            .condition(Field::EXIT, Operator::LESS, -1_i32 as u32)
            .condition(Field::ARG0, Operator::BIT_TEST, 0x10)
            .condition(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 1)
            .text(Field::EXE, Operator::EQUAL, "/bin/sh")
            .condition(Field::UID, Operator::EQUAL, UID)
            .key(KEY),
    ];
    for rule in &added {
        guard.add_rule(rule).unwrap();
    }
    assert_eq!(loaded(&mut guard), added);
    if let Some(auditctl) = requirement::find_program("auditctl") {
        let output = Command::new(auditctl).arg("-l").output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        for rule in &added {
            let line = rule.to_string();
            assert!(
                printed.lines().any(|printed| printed == line),
                "auditctl prints\n{printed}\nand we {line}"
            );
        }
    }
    guard.delete_rule(&added[0]).unwrap();
    assert_eq!(loaded(&mut guard), added[1..]);
}

#[test]
fn a_long_list_comes_whole() {
    let Some(mut guard) = take() else {
        return;
    };
    let rules: Vec<_> = (0..150)
        .map(|pid| rule().condition(Field::PPID, Operator::EQUAL, 1_000_000 + pid))
        .collect();
    for rule in &rules {
        guard.add_rule(rule).unwrap();
    }
    assert_eq!(loaded(&mut guard), rules);
}

#[test]
fn the_kernel_accepts_the_example_rules() {
    let Some(mut guard) = take() else {
        return;
    };
    let rules: Vec<_> = rules::example_rules(KEY).into_iter().map(ours).collect();
    for rule in &rules {
        guard.add_rule(rule).unwrap();
    }
    assert_eq!(loaded(&mut guard), rules);
}

#[test]
fn a_duplicate_and_a_missing_rule_are_told_apart() {
    let Some(mut guard) = take() else {
        return;
    };
    let error = guard.client().delete_rule(&rule()).unwrap_err();
    assert!(matches!(error, ClientError::NoSuchRule { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("no such rule is loaded: {}", rule())
    );
    guard.add_rule(&rule()).unwrap();
    let error = guard.client().add_rule(&rule()).unwrap_err();
    assert!(matches!(error, ClientError::RuleExists { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the rule is loaded already: {}", rule())
    );
}

#[test]
fn a_file_that_does_not_exist_is_no_missing_rule() {
    let Some(mut guard) = take() else {
        return;
    };
    for missing in [
        ours(Rule::watch(
            Watched::Directory(b"/nowhere/at/all"),
            Permissions::READ,
        )),
        ours(Rule::watch(
            Watched::Path(b"/nowhere/at/all"),
            Permissions::READ,
        )),
        exe(b"/nowhere/at/all"),
    ] {
        let error = guard.client().add_rule(&missing.key(KEY)).unwrap_err();
        assert!(matches!(error, ClientError::NoSuchFile { .. }), "{error:?}");
    }
}

#[test]
fn a_loaded_rule_whose_program_is_out_of_reach_is_no_missing_rule() {
    let Some(mut guard) = take() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let program = inner.join("folder/program");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, "").unwrap();
    let rule = exe(program.as_os_str().as_bytes()).key(KEY);
    guard.add_rule(&rule).unwrap();
    // The kernel drops the rule when the program's own folder goes, but not for one above it.
    let aside = folder.path().join("aside");
    fs::rename(&inner, &aside).unwrap();
    let error = guard.client().delete_rule(&rule).unwrap_err();
    fs::rename(&aside, &inner).unwrap();
    assert!(matches!(error, ClientError::NoSuchFile { .. }), "{error:?}");
    guard.delete_rule(&rule).unwrap();
    let error = guard.client().delete_rule(&rule).unwrap_err();
    assert!(matches!(error, ClientError::NoSuchRule { .. }), "{error:?}");
}

#[test]
fn what_is_too_long_is_named() {
    let Some(mut guard) = take() else {
        return;
    };
    let longest = ours(Rule::always_exit()).key([KEY.as_bytes(), &[b'k'; 236]].concat());
    assert_eq!(longest.keys().next().unwrap().len(), KEY_LIMIT);
    guard.add_rule(&longest).unwrap();

    let error = guard
        .client()
        .add_rule(&ours(Rule::always_exit()).key([b'k'; KEY_LIMIT + 1]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot add an audit rule: a key of 257 bytes is longer than 256"
    );
    for (field, name) in [
        (Field::DIR, "dir"),
        (Field::WATCH, "path"),
        (Field::EXE, "exe"),
        (Field::SUBJ_USER, "subj_user"),
    ] {
        let path = [b"/".as_slice(), &[b'p'; RULE_TEXT_LIMIT]].concat();
        let error = guard
            .client()
            .add_rule(&ours(Rule::always_exit()).text(field, Operator::EQUAL, path))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot add an audit rule: a {name} of 4097 bytes is longer than 4096")
        );
    }
}

#[test]
fn more_fields_than_a_rule_holds_are_counted() {
    let Some(mut guard) = take() else {
        return;
    };
    let with = |fields: u32| {
        (1..fields).fold(ours(Rule::always_exit()), |rule, pid| {
            rule.condition(Field::PID, Operator::NOT_EQUAL, pid)
        })
    };
    guard.add_rule(&with(64)).unwrap();
    let error = guard.client().add_rule(&with(65)).unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Unencodable {
                source: RuleEncodeError::TooManyConditions { count: 65 },
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn any_other_refusal_says_what_the_kernel_said() {
    let Some(mut guard) = take() else {
        return;
    };
    for refused in [
        ours(Rule::always_exit()).condition(Field(9999), Operator::EQUAL, 1),
        ours(Rule::always_exit()).condition(Field::MSGTYPE, Operator::EQUAL, 1300),
        ours(Rule::always_exit()).text(Field::DIR, Operator::EQUAL, "not/absolute"),
        Rule::new(FilterList(3), rules::Action::Always),
    ] {
        let error = guard.client().add_rule(&refused).unwrap_err();
        assert!(
            matches!(
                error,
                ClientError::RuleRefused {
                    errno: libc::EINVAL,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("Invalid argument"), "{error}");
    }
}
