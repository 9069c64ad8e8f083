//! What the collector settles by itself is what the kernel does: every kind of rule on files, executables, groups and
//! addresses, over calls that come near them in every way. Not one verdict may be wrong; how many stay open is said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_collector_tests::audit_state::KEY;
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::witnesses::Witnesses;
use audit_collector_tests::{built_folder, changes, workload};
use collector::audit::arch::Arch;
use collector::audit::records::SyscallFields;
use collector::audit::rules::{Action, Field, FilterList, Operator, Rule};
use collector::byte_string::ByteString;
use collector::probe::hooks::Level;
use collector::probe::mirror::Mirror;
use collector::probe::observation::{Observation, Verdict};
use collector::probe::resolve::Resolver;
use collector::probe::settle::Settled;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const UID: u32 = 60_043;

/// Set out once; the rules change.
struct Bench {
    witnesses: Witnesses,
    root: tempfile::TempDir,
    binds: Vec<PathBuf>,
    generation: u32,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for bind in self.binds.drain(..).rev() {
            let _ = umount2(&bind, MntFlags::MNT_DETACH);
        }
    }
}

/// How the verdicts of one set of rules came out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Score {
    reported: u64,
    not_reported: u64,
    open: u64,
    /// By the programs.
    judged: u64,
}

impl Score {
    /// Prints and counts one.
    fn add(&mut self, name: &str, one: &Self) {
        println!(
            "{name:<24} {:>8} {:>4} {:>5} {:>7}",
            one.reported, one.not_reported, one.open, one.judged
        );
        self.reported += one.reported;
        self.not_reported += one.not_reported;
        self.open += one.open;
        self.judged += one.judged;
    }
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut bench = Self {
            // Where the kernel's own decision is seen, nothing is left to settle.
            witnesses: Witnesses::set_out(Level::Syscalls).unwrap(),
            root,
            binds: Vec::new(),
            generation: 0,
        };
        bench.run(&["--rounds", "0"]);
        // Each inside the other, by another name.
        std::fs::write(bench.at("out/x"), "x").unwrap();
        std::fs::write(bench.at("in/x"), "x").unwrap();
        bench.bind("in", "out/bound");
        bench.bind("out", "in/bound");
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn bind(&mut self, from: &str, to: &str) {
        let to = self.at(to);
        let nothing: Option<&str> = None;
        mount(
            Some(&self.at(from)),
            &to,
            nothing,
            MsFlags::MS_BIND,
            nothing,
        )
        .unwrap();
        self.binds.push(to);
    }

    fn run(&self, arguments: &[&str]) {
        let root = self.root.path().to_str().unwrap();
        let command = [&["files", "--root", root], arguments].concat();
        workload::run(UID, &command).unwrap();
    }

    /// Runs the workloads that open nothing that is counted.
    fn change(&self) {
        let root = self.root.path().to_str().unwrap();
        for arguments in [
            &["changes", "--root", root][..],
            &["--chroot", root, "changes", "--root", "/"],
        ] {
            workload::run(UID, arguments).unwrap();
        }
    }

    /// Loads `rules`, runs the workloads, and compares.
    fn score(&mut self, rules: &[Rule], act: impl Fn(&Self)) -> Score {
        for rule in rules {
            self.witnesses.guard.add_rule(rule).unwrap();
        }
        // As the kernel holds them: classes of calls come back as calls.
        let held: Vec<Rule> = self
            .witnesses
            .guard
            .rules()
            .unwrap()
            .into_iter()
            .filter(|rule| rules.iter().any(|own| own.conditions == rule.conditions))
            .collect();
        assert_eq!(held.len(), rules.len());
        let mirror = Mirror::compile(&held);
        self.generation += 1;
        self.witnesses
            .programs
            .set_rules(&mirror, self.generation)
            .unwrap();
        let mut resolver = Resolver::default();
        resolver.follow(&held);
        resolver.look();
        self.witnesses.programs.attach().unwrap();
        act(self);
        self.witnesses.programs.detach().unwrap();
        let places = resolver.look().unwrap_or_default();
        let reported = self.reported();
        for rule in &held {
            self.witnesses.guard.delete_rule(rule).unwrap();
        }
        let seen = self.witnesses.observations().unwrap();

        let mut score = Score::default();
        let mut missing = reported.clone();
        for observation in &seen {
            let key = key(observation);
            missing.remove(&key);
            let settled = match observation.verdict {
                Verdict::Inferred | Verdict::Exact => {
                    score.judged += 1;
                    Settled::Reported(0)
                }
                Verdict::Maybe => {
                    let settled = mirror.settle(observation, &places);
                    match settled {
                        Settled::Reported(_) => score.reported += 1,
                        Settled::NotReported => score.not_reported += 1,
                        Settled::Open => score.open += 1,
                    }
                    settled
                }
            };
            let truth = reported.contains(&key);
            let right = match settled {
                Settled::Reported(_) => truth,
                Settled::NotReported => !truth,
                Settled::Open => true,
            };
            assert!(
                right,
                "{settled:?} and the kernel {}: {}\n{}\n{:?}",
                if truth { "did" } else { "did not" },
                rules
                    .iter()
                    .map(Rule::to_string)
                    .collect::<Vec<_>>()
                    .join("\n"),
                shown(observation),
                collector::probe::names::of(observation),
            );
        }
        assert!(missing.is_empty(), "not seen: {missing:x?} by {rules:?}");
        score
    }

    /// The calls of the user that the kernel reported.
    fn reported(&mut self) -> BTreeSet<Key> {
        let quiet = requirement::patience(Duration::from_millis(200));
        let events = self.witnesses.events(UID, quiet).unwrap();
        events
            .iter()
            .filter_map(|event| event.records.iter().find_map(SyscallFields::from_record))
            .map(|fields| (fields.pid, fields.syscall, fields.args))
            .collect()
    }
}

/// The calls of the workloads have a number among their arguments, or an address of their own.
type Key = (u32, u32, [u64; 4]);

fn key(observation: &Observation) -> Key {
    let [a0, a1, a2, a3, ..] = observation.args;
    (observation.tgid, observation.syscall, [a0, a1, a2, a3])
}

fn shown(seen: &Observation) -> String {
    let text = |bytes: Option<&ByteString>| {
        bytes.map_or_else(String::new, |bytes| bytes.escape_ascii().to_string())
    };
    let named: Vec<String> = (seen.paths.iter())
        .map(|path| text(path.path.value()))
        .collect();
    format!(
        "{:?} of {named:?} from {}, arguments {:x?}, result {:?}\n{:?}\n{:?}\n{:?}",
        Arch(seen.arch).syscall_name(seen.syscall),
        text(seen.cwd.value()),
        seen.args,
        seen.result,
        seen.opened,
        seen.noted,
        seen.standing,
    )
}

fn openat() -> Rule {
    Rule::always_exit()
        .arch(Arch::X86_64)
        .syscalls(Arch::X86_64, &["openat"])
}

/// Ends a rule as every rule of a test ends.
fn own(rule: Rule) -> Rule {
    rule.condition(Field::UID, Operator::EQUAL, UID).key(KEY)
}

fn never(mut rule: Rule) -> Rule {
    rule.action = Action::Never;
    rule
}

fn path(rule: Rule, field: Field, operator: Operator, path: &Path) -> Rule {
    rule.text(field, operator, path.as_os_str().as_bytes())
}

#[test]
fn settled_verdicts_are_what_the_kernel_does() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Ebpf]) {
        return;
    }
    let mut bench = Bench::new();
    let equal = Operator::EQUAL;
    let program = built_folder().join("workload");
    let number = |file: &str| std::fs::symlink_metadata(bench.at(file)).unwrap().ino() as u32;
    let watched = |file: &str| own(path(openat(), Field::WATCH, equal, &bench.at(file)));
    let dir = |file: &str| path(openat(), Field::DIR, equal, &bench.at(file));
    let with = |field, operator, value| own(openat().condition(field, operator, value));
    let exe = |operator, program: &Path| own(path(openat(), Field::EXE, operator, program));
    let excluded = |program: &Path| {
        let rule = Rule::new(FilterList::EXCLUDE, Action::Always);
        path(rule, Field::EXE, equal, program).condition(Field::UID, equal, UID)
    };
    let other_program = Path::new("/usr/bin/env");
    let sets: Vec<(&str, Vec<Rule>)> = vec![
        ("dir", vec![own(dir("in"))]),
        (
            "dir, writing",
            vec![own(dir("in").condition(Field::PERM, equal, 2))],
        ),
        ("dir behind a mount", vec![own(dir("out/bound"))]),
        ("dir with mounts below", vec![own(dir("out"))]),
        ("dir below", vec![own(dir("in/sub"))]),
        ("never dir", vec![never(own(dir("in"))), own(openat())]),
        ("path", vec![watched("in/a")]),
        ("path of a new file", vec![watched("in/new")]),
        ("path of a link", vec![watched("in/link")]),
        ("path of a hard link", vec![watched("in/hard")]),
        ("path of a directory", vec![watched("in/sub")]),
        ("never path", vec![never(watched("in/a")), own(openat())]),
        ("inode", vec![with(Field::INODE, equal, number("out/h"))]),
        (
            "inode!=",
            vec![with(Field::INODE, Operator::NOT_EQUAL, number("out/h"))],
        ),
        ("obj_uid", vec![with(Field::OBJ_UID, equal, UID)]),
        (
            "obj_uid!=",
            vec![with(Field::OBJ_UID, Operator::NOT_EQUAL, UID)],
        ),
        ("obj_gid", vec![with(Field::OBJ_GID, equal, 0)]),
        ("filetype", vec![with(Field::FILETYPE, equal, 0o040_000)]),
        (
            "filetype!=",
            vec![with(Field::FILETYPE, Operator::NOT_EQUAL, 0o100_000)],
        ),
        ("devmajor", vec![with(Field::DEVMAJOR, equal, 1)]),
        (
            "devminor!=",
            vec![with(Field::DEVMINOR, Operator::NOT_EQUAL, 0)],
        ),
        (
            "uid!=obj_uid",
            vec![with(Field::FIELD_COMPARE, Operator::NOT_EQUAL, 1)],
        ),
        ("uid=euid", vec![with(Field::FIELD_COMPARE, equal, 11)]),
        ("auid=uid", vec![with(Field::FIELD_COMPARE, equal, 10)]),
        ("exe", vec![exe(equal, &program)]),
        ("exe!=", vec![exe(Operator::NOT_EQUAL, &program)]),
        ("another exe", vec![exe(equal, other_program)]),
        ("gid", vec![with(Field::GID, equal, UID)]),
        ("another gid", vec![with(Field::GID, equal, 0)]),
        ("gid!=", vec![with(Field::EGID, Operator::NOT_EQUAL, 0)]),
        ("excluded exe", vec![excluded(&program), own(openat())]),
        (
            "another excluded exe",
            vec![excluded(other_program), own(openat())],
        ),
    ];
    let chroot = bench.root.path().to_str().unwrap().to_owned();
    let mut total = Score::default();
    println!("{:<24} reported  not  open  judged", "rules");
    for (name, rules) in sets {
        let score = bench.score(&rules, |bench| {
            bench.run(&["--rounds", "1"]);
            let command = ["--chroot", &chroot, "files", "--root", "/"];
            workload::run(UID, &command).unwrap();
        });
        total.add(name, &score);
    }
    println!("{total:?}");
    let settled = total.reported + total.not_reported;
    assert!(
        total.reported > 200 && total.not_reported > 1_000,
        "{total:?}"
    );
    assert!(total.open * 4 < settled, "{total:?}");

    let family = |family| {
        own(Rule::always_exit()
            .arch(Arch::X86_64)
            .syscalls(Arch::X86_64, &["connect"])
            .condition(Field::SADDR_FAM, equal, family))
    };
    for number in [1, 2, 10] {
        let score = bench.score(&[family(number)], |_| {
            workload::run(UID, &["connect"]).unwrap();
        });
        println!("saddr_fam={number}: {score:?}");
        assert_eq!((score.open, score.judged), (0, 0));
    }
}

/// Rules on all calls of [`changes`].
fn changing() -> Rule {
    Rule::always_exit()
        .arch(Arch::X86_64)
        .syscalls(Arch::X86_64, &changes::CALLS)
}

#[test]
fn what_calls_do_to_files_is_settled_as_the_kernel_does() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Ebpf]) {
        return;
    }
    let mut bench = Bench::new();
    let equal = Operator::EQUAL;
    let differs = Operator::NOT_EQUAL;
    let number = |file: &str| std::fs::symlink_metadata(bench.at(file)).unwrap().ino() as u32;
    let watched = |file: &str| path(changing(), Field::WATCH, equal, &bench.at(file));
    let dir = |file: &str| path(changing(), Field::DIR, equal, &bench.at(file));
    let with = |field, operator, value| changing().condition(field, operator, value);
    let only = |permissions| move |rule: Rule| rule.condition(Field::PERM, equal, permissions);
    let writing = only(2 | 8);
    let sets: Vec<(&str, Vec<Rule>)> = vec![
        ("dir", vec![dir("in")]),
        ("dir, wa", vec![writing(dir("in"))]),
        ("dir below", vec![dir("in/sub")]),
        ("dir behind a mount", vec![dir("out/bound")]),
        ("never dir", vec![never(dir("out")), changing()]),
        ("path", vec![watched("in/a")]),
        ("path, wa", vec![writing(watched("out/c"))]),
        (
            "path, succeeding",
            vec![watched("in/a").condition(Field::SUCCESS, equal, 1)],
        ),
        ("path of a new file", vec![watched("in/new")]),
        ("path of a directory", vec![watched("in/sub")]),
        ("never path", vec![never(watched("in/a")), changing()]),
        ("inode", vec![with(Field::INODE, equal, number("out/h"))]),
        ("inode!=", vec![with(Field::INODE, differs, number("in/a"))]),
        ("obj_uid", vec![with(Field::OBJ_UID, equal, UID)]),
        ("obj_uid=0", vec![with(Field::OBJ_UID, equal, 0)]),
        ("filetype", vec![with(Field::FILETYPE, equal, 0o100_000)]),
        (
            "filetype!=",
            vec![with(Field::FILETYPE, differs, 0o040_000)],
        ),
        ("devmajor", vec![with(Field::DEVMAJOR, equal, 0)]),
        ("uid!=obj_uid", vec![with(Field::FIELD_COMPARE, differs, 1)]),
    ];
    let mut total = Score::default();
    println!("{:<24} reported  not  open  judged", "rules");
    for (name, rules) in sets {
        let rules: Vec<Rule> = rules.into_iter().map(own).collect();
        let score = bench.score(&rules, Bench::change);
        total.add(name, &score);
    }
    println!("{total:?}");
}

#[test]
fn what_the_task_list_said_of_a_task_is_known_for_each_of_its_calls() {
    if !requirement::met(&[Requirement::AuditControl, Requirement::Ebpf]) {
        return;
    }
    let mut bench = Bench::new();
    let task = |action| own(Rule::new(FilterList::TASK, action));
    // The workload becomes the user first, and its children are made then.
    let forks = |_: &Bench| {
        workload::run(UID, &["forks", "--count", "8"]).unwrap();
    };
    let always = bench.score(&[task(Action::Always)], forks);
    println!("always: {always:?}");
    assert!(always.judged > 8 * 3, "{always:?}");
    let before_exit = bench.score(&[task(Action::Always), never(own(openat()))], forks);
    assert!(before_exit.judged > 8 * 3, "{before_exit:?}");
    let never = bench.score(&[task(Action::Never), own(openat())], forks);
    println!("never: {never:?}");
    assert_eq!((never.judged, never.open), (0, 8), "{never:?}");
}
