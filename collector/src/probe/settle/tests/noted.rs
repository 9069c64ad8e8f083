//! Calls that open nothing: what is found in the audit context after them.

use std::collections::HashMap;

use super::*;
use crate::probe::names::{Name, Role};
use crate::probe::observation::{NotedName, PathArgument, Standing};
use crate::probe::places::System;

fn noted(role: Role, number: u64) -> Option<NotedName> {
    Some(NotedName {
        role,
        inode: inode(number),
        name: Some(0),
        changed: true,
    })
}

/// The same, by the path of the entry `first`.
fn of_path(first: u8, role: Role, number: u64) -> Option<NotedName> {
    noted(role, number).map(|name| NotedName {
        name: Some(first),
        ..name
    })
}

/// As a call before left it, for all that is known.
fn old(role: Role, number: u64) -> Option<NotedName> {
    noted(role, number).map(|name| NotedName {
        changed: false,
        ..name
    })
}

/// `name(paths)` with what is in the context after it; its first entries are other than before.
fn call(name: &str, paths: &[&str], result: i64, left: &[Option<NotedName>]) -> Observation {
    let mut seen = testing::observation();
    seen.arch = ARCH.0;
    seen.syscall = ARCH.syscall_number(name).unwrap();
    seen.args = [0x10, 0x20, 0, 0, 0, 0];
    seen.result = Some(result);
    seen.opened = None;
    seen.paths = (0..)
        .zip(paths)
        .map(|(argument, path)| PathArgument {
            argument,
            path: Captured::Whole(path.as_bytes().into()),
        })
        .collect();
    let mut noted = [None; 5];
    noted[..left.len()].copy_from_slice(left);
    seen.noted = Some(Box::new(noted));
    seen
}

fn plain(files: &[(&str, Found)]) -> Places {
    let mut places = places(files);
    places.systems_seen(HashMap::from([((8, 1), System::Plain)]));
    places
}

fn by(rule: Rule, seen: &Observation, files: &[(&str, Found)]) -> Settled {
    settle(&[rule], seen, &plain(files))
}

#[test]
fn what_a_path_leads_to_is_all_that_a_lookup_notes() {
    let of_inode = |number| rule().condition(Field::INODE, Operator::EQUAL, number);
    let left = [old(Role::Normal, 30), old(Role::Delete, 31)];
    let seen = call("chmod", &["/d/f"], 0, &left);
    assert_eq!(by(of_inode(30), &seen, &[]), YES);
    assert_eq!(by(of_inode(31), &seen, &[]), NO, "of a call before");
    // Where its file system may do more for it, there may be others.
    assert_eq!(settle(&[of_inode(31)], &seen, &places(&[])), OPEN);
    // Where nothing was found, the owner reads as root, and the number as that of no file.
    let nothing = Some(NotedName {
        inode: crate::probe::observation::FileInode {
            number: Name::NO_INODE,
            dev: (0, 0),
            mode: 0,
            uid: 0,
            gid: 0,
            ..inode(0)
        },
        ..old(Role::Unknown, 0).unwrap()
    });
    let seen = call("chmod", &["/d/none"], -2, &[nothing]);
    let owner = |user| rule().condition(Field::OBJ_UID, Operator::EQUAL, user);
    assert_eq!(by(owner(0), &seen, &[]), YES);
    assert_eq!(by(owner(5), &seen, &[]), NO);
    let of_type = rule().condition(Field::FILETYPE, Operator::NOT_EQUAL, 0o100_000);
    assert_eq!(by(of_type, &seen, &[]), YES);
    let dir = rule().text(Field::DIR, Operator::EQUAL, "/d");
    assert_eq!(by(dir, &seen, &[("/d", found(10))]), NO);
    // Refused before the path was read, it may have noted nothing.
    let seen = call("chmod", &["/d/f"], -14, &left[..1]);
    assert_eq!(by(of_inode(30), &seen, &[]), OPEN);
    assert_eq!(by(of_inode(32), &seen, &[]), NO);
}

#[test]
fn what_a_call_removes_or_makes_comes_after_its_directory() {
    let of_inode = |number| rule().condition(Field::INODE, Operator::EQUAL, number);
    let left = [old(Role::Parent, 20), old(Role::Delete, 30)];
    assert_eq!(
        by(of_inode(30), &call("unlink", &["/d/f"], 0, &left), &[]),
        YES
    );
    // Refused, it may not have got as far as that, unless the entry is another than before.
    let refused = call("unlink", &["/d/f"], -13, &left);
    assert_eq!(by(of_inode(30), &refused, &[]), OPEN);
    assert_eq!(by(of_inode(20), &refused, &[]), YES);
    let left = [noted(Role::Parent, 20), noted(Role::Delete, 30)];
    let refused = call("unlink", &["/d/f"], -13, &left);
    assert_eq!(by(of_inode(30), &refused, &[]), YES);
    // A name that is given up for another of the same file leaves both alone.
    let left = [
        noted(Role::Parent, 20),
        noted(Role::Parent, 21),
        old(Role::Delete, 30),
        old(Role::Create, 30),
    ];
    let seen = call("rename", &["/d/f", "/e/f"], 0, &left);
    assert_eq!(by(of_inode(30), &seen, &[]), OPEN);
    assert_eq!(by(of_inode(21), &seen, &[]), YES);
    assert_eq!(by(of_inode(22), &seen, &[]), NO);
}

#[test]
fn a_directory_counts_for_what_is_looked_up_below_it() {
    let dir = |file| {
        let rule = rule().text(Field::DIR, Operator::EQUAL, "/d");
        move |seen: &Observation| by(rule.clone(), seen, &[("/d", file)])
    };
    let left = [noted(Role::Parent, 20), noted(Role::Delete, 30)];
    let mut seen = call("unlink", &["f"], 0, &left);
    // The directory itself is the marked one.
    assert_eq!(dir(found(20))(&seen), YES);
    assert_eq!(dir(found(30))(&seen), YES, "what is removed is");
    assert_eq!(dir(found(10))(&seen), OPEN);
    seen.standing = vec![Standing {
        dev: (8, 1),
        lineage: Captured::Whole([25, 20, 10, 2].into()),
    }];
    assert_eq!(dir(found(10))(&seen), YES);
    assert_eq!(dir(found(25))(&seen), NO, "where it began is not above it");
    // Of another file system, with nothing of that mounted below.
    seen.standing.clear();
    let elsewhere = Found::File(Identity {
        dev: (8, 2),
        inode: 10,
    });
    assert_eq!(dir(elsewhere)(&seen), NO);
}

#[test]
fn a_watched_file_that_a_call_takes_away_was_it_before_there_was_a_result() {
    let watch = || rule().text(Field::WATCH, Operator::EQUAL, "/d/f");
    let files = [("/d/f", Found::Nothing)];
    let left = [noted(Role::Parent, 20), noted(Role::Delete, 30)];
    let seen = call("unlink", &["/d/f"], 0, &left);
    assert_eq!(by(watch(), &seen, &files), YES);
    let with_result = watch().condition(Field::SUCCESS, Operator::EQUAL, 1);
    assert_eq!(by(with_result, &seen, &files), NO);
    let other = call("unlink", &["/d/g"], 0, &left);
    assert_eq!(by(watch(), &other, &files), NO);
    // Made there by this call, also in place of another; whichever path the kernel took first.
    let left = [
        of_path(0, Role::Parent, 20),
        of_path(1, Role::Parent, 21),
        of_path(1, Role::Delete, 31),
        of_path(0, Role::Delete, 30),
        of_path(0, Role::Create, 31),
    ];
    let seen = call("rename", &["/e/f", "/d/f"], 0, &left);
    let with_result = watch().condition(Field::SUCCESS, Operator::EQUAL, 1);
    assert_eq!(by(with_result, &seen, &[("/d/f", Found::Unknown)]), YES);
    // Taken away by another name, which makes another name no watched one.
    let taken = call(
        "rename",
        &["/d/f", "/e/g"],
        0,
        &[
            of_path(0, Role::Parent, 21),
            of_path(1, Role::Parent, 20),
            of_path(1, Role::Delete, 30),
            of_path(0, Role::Create, 30),
        ],
    );
    let with_result = watch().condition(Field::SUCCESS, Operator::EQUAL, 1);
    assert_eq!(by(with_result, &taken, &[("/d/f", found(30))]), NO);
    assert_eq!(by(watch(), &taken, &[("/d/f", found(30))]), YES);
}
