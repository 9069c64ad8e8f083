mod noted;

use super::*;
use crate::clock::KtimeNs;
use crate::output::testing;
use crate::probe::observation::{FileInode, OpenedFile};
use crate::probe::places::Sight;

const ARCH: Arch = Arch::X86_64;
const EXT4: u64 = 0xef53;

fn inode(number: u64) -> FileInode {
    FileInode {
        number,
        dev: (8, 1),
        rdev: (0, 0),
        mode: 0o100_644,
        uid: 5,
        gid: 6,
        magic: EXT4,
    }
}

fn found(number: u64) -> Found {
    Found::File(Identity {
        dev: (8, 1),
        inode: number,
    })
}

/// openat("/d/sub/f", O_RDONLY) = 3: inode 30 in 20 in 10 in the root 2; the executable is inode 7.
fn opened() -> Observation {
    let mut seen = testing::observation();
    seen.arch = ARCH.0;
    seen.syscall = ARCH.syscall_number("openat").unwrap();
    seen.args = [0xffff_ff9c, 0x7ffd, 0, 0, 0, 0];
    seen.result = Some(3);
    seen.paths[0].path = Captured::Whole((*b"/d/sub/f").into());
    seen.exe_inode = Some(inode(7));
    seen.groups = Captured::Whole([70, 71].into());
    seen.opened = Some(OpenedFile {
        inode: inode(30),
        directory: None,
        created: false,
        flags: 0,
        path: Captured::Whole((*b"/d/sub/f").into()),
        lineage: Captured::Whole([30, 20, 10, 2].into()),
    });
    seen
}

/// The same with `O_CREAT|O_WRONLY`.
fn creating(created: bool) -> Observation {
    let mut seen = opened();
    seen.args[2] = 0o101;
    let opened = seen.opened.as_mut().unwrap();
    opened.created = created;
    opened.flags = 1;
    opened.directory = Some(FileInode {
        mode: 0o040_755,
        uid: 50,
        ..inode(20)
    });
    seen
}

/// Each path stands for what is given, in a directory of inode 20.
fn places(files: &[(&str, Found)]) -> Places {
    let mut places = Places::default();
    for at in [0, u64::MAX] {
        let sights = files.iter().map(|(path, file)| {
            let sight = Sight {
                file: *file,
                parent: found(20),
                parent_changed: Some((1, 0)),
                below: Some(Vec::new()),
            };
            (path.as_bytes().into(), sight)
        });
        places.look(sights, KtimeNs(at), KtimeNs(at));
    }
    places
}

fn rule() -> Rule {
    Rule::always_exit().all_syscalls()
}

fn never(mut rule: Rule) -> Rule {
    rule.action = Action::Never;
    rule
}

fn judge(rule: Rule, seen: &Observation) -> Settled {
    settle(&[rule], seen, &places(&[]))
}

const YES: Settled = Settled::Reported(0);
const NO: Settled = Settled::NotReported;
const OPEN: Settled = Settled::Open;

#[test]
fn an_executable_is_known_by_its_inode() {
    let exe = |operator| rule().text(Field::EXE, operator, "/bin/x");
    let at = |file| places(&[("/bin/x", file)]);
    for (file, equal, not_equal) in [
        (found(7), YES, NO),
        (found(8), NO, YES),
        (Found::Nothing, NO, YES),
        (Found::Unknown, OPEN, OPEN),
    ] {
        let by = |operator| settle(&[exe(operator)], &opened(), &at(file));
        assert_eq!(by(Operator::EQUAL), equal, "{file:?}");
        assert_eq!(by(Operator::NOT_EQUAL), not_equal, "{file:?}");
    }
    let other_device = Found::File(Identity {
        dev: (8, 2),
        inode: 7,
    });
    assert_eq!(
        settle(&[exe(Operator::EQUAL)], &opened(), &at(other_device)),
        NO
    );
    let mut unseen = opened();
    unseen.exe_inode = None;
    assert_eq!(
        settle(&[exe(Operator::EQUAL)], &unseen, &at(found(7))),
        OPEN
    );
    // What decides anyway need not be known.
    let other = exe(Operator::EQUAL).condition(Field::UID, Operator::EQUAL, 99);
    assert_eq!(settle(&[other], &unseen, &at(found(7))), NO);
}

#[test]
fn a_directory_is_known_by_what_stands_above_the_file() {
    let dir = || rule().text(Field::DIR, Operator::EQUAL, "/d");
    let by = |seen: &Observation, file| settle(&[dir()], seen, &places(&[("/d", file)]));
    assert_eq!(by(&opened(), found(10)), YES);
    assert_eq!(by(&opened(), found(30)), YES, "the file itself");
    assert_eq!(by(&opened(), found(11)), NO);
    assert_eq!(by(&opened(), Found::Unknown), OPEN);
    let mut cut = opened();
    cut.opened.as_mut().unwrap().lineage = Captured::Truncated([30, 20].into());
    assert_eq!(by(&cut, found(20)), YES);
    assert_eq!(by(&cut, found(11)), OPEN);
    // Through a link at the end of the path, another directory may have been noted.
    let mut linked = creating(false);
    linked.paths[0].path = Captured::Whole((*b"/elsewhere/link").into());
    assert_eq!(by(&linked, found(10)), YES);
    assert_eq!(by(&linked, found(11)), OPEN);
    assert_eq!(by(&creating(false), found(11)), NO);
    linked.args[2] |= O_EXCL;
    assert_eq!(by(&linked, found(11)), NO);
    // A call that opens nothing may have noted anything, or surely nothing.
    let mut other = opened();
    other.opened = None;
    assert_eq!(by(&other, found(10)), OPEN);
    other.syscall = ARCH.syscall_number("getpid").unwrap();
    assert_eq!(by(&other, found(10)), NO);
}

const O_EXCL: u64 = 0o200;

#[test]
fn what_is_mounted_below_a_directory_may_be_marked_too() {
    let rules = [rule().text(Field::DIR, Operator::EQUAL, "/m")];
    let with = |dev, root| {
        let sight = Sight {
            file: found(11),
            parent: found(2),
            parent_changed: Some((1, 0)),
            below: Some(vec![crate::probe::places::Mounted { dev, root }]),
        };
        let mut places = Places::default();
        places.look([((*b"/m").into(), sight)], KtimeNs(0), KtimeNs(0));
        settle(&rules, &opened(), &places)
    };
    assert_eq!(with((8, 1), Some(20)), OPEN);
    assert_eq!(with((8, 1), Some(21)), NO);
    assert_eq!(with((8, 1), None), OPEN);
    assert_eq!(with((8, 2), Some(20)), NO);
}

#[test]
fn a_watch_is_known_by_its_inode_or_by_its_name_and_directory() {
    let watch = |path: &str| rule().text(Field::WATCH, Operator::EQUAL, path);
    let by = |path: &str, seen: &Observation, file| {
        settle(&[watch(path)], seen, &places(&[(path, file)]))
    };
    assert_eq!(by("/w", &opened(), found(30)), YES, "a hard link");
    assert_eq!(by("/w", &opened(), found(31)), NO);
    assert_eq!(by("/w", &opened(), Found::Unknown), OPEN);
    // Whatever stands there by that name, whenever it came to stand there.
    assert_eq!(by("/d/sub/f", &opened(), found(31)), YES);
    assert_eq!(by("/d/sub/f", &creating(true), Found::Nothing), YES);
    assert_eq!(by("/d/sub/g", &creating(true), Found::Nothing), NO);
    // The directory is noted for sure only where the file was created.
    assert_eq!(by("/d/sub", &creating(true), found(20)), YES);
    assert_eq!(by("/d/sub", &creating(false), found(20)), OPEN);
}

#[test]
fn files_compare_by_inode_device_owner_and_type() {
    let test = |field, operator, value| judge(rule().condition(field, operator, value), &opened());
    for (field, operator, value, expected) in [
        (Field::INODE, Operator::EQUAL, 30, YES),
        (Field::INODE, Operator::EQUAL, 31, NO),
        (Field::INODE, Operator::NOT_EQUAL, 31, YES),
        (Field::INODE, Operator::NOT_EQUAL, 30, NO),
        (Field::DEVMAJOR, Operator::EQUAL, 8, YES),
        // Of two devices, its own and the one it stands for, one is enough.
        (Field::DEVMAJOR, Operator::NOT_EQUAL, 8, YES),
        (Field::DEVMINOR, Operator::EQUAL, 1, YES),
        (Field::DEVMINOR, Operator::EQUAL, 2, NO),
        (Field::OBJ_UID, Operator::EQUAL, 5, YES),
        (Field::OBJ_UID, Operator::BIT_MASK, 5, NO),
        (Field::OBJ_GID, Operator::GREATER, 6, NO),
        (Field::FILETYPE, Operator::EQUAL, 0o100_000, YES),
        (Field::FILETYPE, Operator::NOT_EQUAL, 0o100_000, NO),
        (Field::FILETYPE, Operator::EQUAL, 0o040_000, NO),
    ] {
        assert_eq!(
            test(field, operator, value),
            expected,
            "{field:?} {operator:?} {value}"
        );
    }
    // Among several files each condition may be met by another one.
    let both = rule()
        .condition(Field::OBJ_UID, Operator::EQUAL, 50)
        .condition(Field::FILETYPE, Operator::EQUAL, 0o100_000);
    assert_eq!(judge(both.clone(), &creating(true)), YES);
    assert_eq!(judge(both.clone(), &creating(false)), OPEN);
    assert_eq!(judge(both.clone(), &opened()), NO);
    // Not so where the rule is tried on one file.
    let of_inode = both.condition(Field::INODE, Operator::EQUAL, 30);
    assert_eq!(judge(of_inode, &creating(true)), NO);
    // Rules on file systems keep files from being noted.
    let hiding = Rule::new(FilterList::FILESYSTEM, Action::Never);
    let rules = [rule().condition(Field::OBJ_UID, Operator::EQUAL, 5), hiding];
    assert_eq!(settle(&rules, &opened(), &places(&[])), OPEN);
}

#[test]
fn a_file_system_that_may_open_others_leaves_the_list_open() {
    let other = rule().condition(Field::OBJ_UID, Operator::EQUAL, 99);
    let mut seen = opened();
    assert_eq!(judge(other.clone(), &seen), NO);
    seen.opened.as_mut().unwrap().inode.magic = 0x6969;
    assert_eq!(judge(other.clone(), &seen), OPEN);
    let mut terminal = opened();
    terminal.opened.as_mut().unwrap().inode.mode = 0o020_666;
    assert_eq!(judge(other, &terminal), OPEN);
}

#[test]
fn the_first_rule_wins_also_across_the_lists_by_inode() {
    let inode = || rule().condition(Field::INODE, Operator::EQUAL, 30);
    let other = || rule().condition(Field::INODE, Operator::EQUAL, 62);
    let seen = opened();
    let by = |rules: &[Rule]| settle(rules, &seen, &places(&[]));
    assert_eq!(by(&[never(inode()), rule()]), NO);
    assert_eq!(by(&[rule(), never(inode())]), YES);
    assert_eq!(by(&[never(rule()), inode()]), NO);
    assert_eq!(by(&[other(), inode()]), Settled::Reported(1));
    assert_eq!(by(&[never(inode()), inode()]), NO);
    // Which of two comes first depends on what happened to a watched file, and on the order of files.
    let watch = rule().text(Field::WATCH, Operator::EQUAL, "/w");
    let at = places(&[("/w", found(30))]);
    assert_eq!(settle(&[never(inode()), watch.clone()], &seen, &at), OPEN);
    assert_eq!(settle(&[inode(), watch.clone()], &seen, &at), YES);
    assert_eq!(settle(&[never(inode()), rule(), watch], &seen, &at), OPEN);
    let of_directory = rule().condition(Field::INODE, Operator::EQUAL, 20);
    let rules = [never(inode()), of_directory];
    assert_eq!(settle(&rules, &creating(true), &at), OPEN);
    assert_eq!(settle(&rules, &seen, &at), NO);
    assert_eq!(by(&[never(other()), inode()]), Settled::Reported(1));
    // Only the calls it names.
    let mut unnamed = Rule::always_exit().condition(Field::INODE, Operator::EQUAL, 30);
    unnamed.set_syscall(1);
    assert_eq!(by(&[unnamed]), NO);
}

#[test]
fn doubt_matters_only_where_it_could_change_the_outcome() {
    let doubtful = || rule().text(Field::SUBJ_TYPE, Operator::EQUAL, "t");
    let seen = opened();
    let by = |rules: &[Rule]| settle(rules, &seen, &places(&[]));
    assert_eq!(by(&[doubtful()]), OPEN);
    assert_eq!(by(&[never(doubtful()), rule()]), OPEN);
    assert_eq!(by(&[never(doubtful())]), NO);
    assert_eq!(by(&[doubtful(), never(rule())]), OPEN);
    assert_eq!(by(&[doubtful(), rule()]), Settled::Reported(1));
}

#[test]
fn supplementary_groups_count() {
    let test = |operator, value| judge(rule().condition(Field::GID, operator, value), &opened());
    assert_eq!(opened().credentials.gid, 2);
    for (operator, group, expected) in [
        (Operator::EQUAL, 2, YES),
        (Operator::EQUAL, 71, YES),
        (Operator::EQUAL, 3, NO),
        (Operator::NOT_EQUAL, 2, NO),
        (Operator::NOT_EQUAL, 71, NO),
        (Operator::NOT_EQUAL, 3, YES),
        (Operator::GREATER, 1, YES),
        (Operator::BIT_MASK, 2, NO),
    ] {
        assert_eq!(test(operator, group), expected, "{operator:?} {group}");
    }
    let mut many = opened();
    many.groups = Captured::Truncated([70].into());
    let member = |group| rule().condition(Field::EGID, Operator::EQUAL, group);
    assert_eq!(judge(member(70), &many), YES);
    assert_eq!(judge(member(3), &many), OPEN);
}

#[test]
fn fields_compare_with_each_other() {
    let test = |which, operator, seen: &Observation| {
        judge(
            rule().condition(Field::FIELD_COMPARE, operator, which),
            seen,
        )
    };
    let mut seen = opened();
    seen.credentials.uid = 5;
    seen.credentials.auid = 5;
    seen.credentials.euid = 50;
    // uid with auid, with euid
    assert_eq!(test(10, Operator::EQUAL, &seen), YES);
    assert_eq!(test(11, Operator::EQUAL, &seen), NO);
    assert_eq!(test(11, Operator::NOT_EQUAL, &seen), YES);
    // uid, euid with the file's owner
    assert_eq!(test(1, Operator::EQUAL, &seen), YES);
    assert_eq!(test(3, Operator::EQUAL, &seen), NO);
    let mut created = creating(true);
    created.credentials.euid = 50;
    assert_eq!(test(3, Operator::EQUAL, &created), YES, "its directory's");
}

#[test]
fn address_families_compare_where_the_kernel_took_the_address() {
    let mut seen = opened();
    seen.opened = None;
    seen.syscall = ARCH.syscall_number("connect").unwrap();
    seen.result = Some(-111);
    seen.sockaddr = Captured::Whole([2, 0, 0, 80, 127, 0, 0, 1].into());
    let family = |value, seen: &Observation| {
        judge(
            rule().condition(Field::SADDR_FAM, Operator::EQUAL, value),
            seen,
        )
    };
    assert_eq!(family(2, &seen), YES);
    assert_eq!(family(10, &seen), NO);
    seen.result = Some(-9);
    assert_eq!(family(2, &seen), OPEN);
    assert_eq!(family(2, &opened()), NO, "openat takes none");
}

#[test]
fn the_exclude_list_takes_events_away() {
    let excluding = || Rule::new(FilterList::EXCLUDE, Action::Always);
    let at = places(&[("/bin/x", found(7)), ("/bin/y", found(8))]);
    let by = |conditions: &[Rule]| {
        let rules: Vec<_> = std::iter::once(rule())
            .chain(conditions.iter().cloned())
            .collect();
        settle(&rules, &opened(), &at)
    };
    let exe = |path: &str| excluding().text(Field::EXE, Operator::EQUAL, path);
    assert_eq!(by(&[exe("/bin/x")]), NO);
    assert_eq!(by(&[exe("/bin/y")]), YES);
    assert_eq!(by(&[exe("/bin/unknown")]), OPEN);
    let msgtype = |number| excluding().condition(Field::MSGTYPE, Operator::EQUAL, number);
    assert_eq!(by(&[msgtype(1300)]), NO);
    assert_eq!(by(&[msgtype(1307), excluding()]), YES);
    // A field that list does not know ends the kernel's walk.
    let ending = excluding().condition(Field::EUID, Operator::EQUAL, 5);
    assert_eq!(by(&[ending.clone(), msgtype(1300)]), YES);
    assert_eq!(by(&[exe("/bin/unknown"), ending, msgtype(1300)]), OPEN);
    // Groups beyond the primary one do not count there.
    let group = excluding().condition(Field::GID, Operator::EQUAL, 70);
    assert_eq!(by(&[group]), YES);
}
