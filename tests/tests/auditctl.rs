//! `audit-collector auditctl` beside Debian's auditctl: the same arguments, the same state before, and then the same
//! stdout, the same exit code and the same rules and settings after.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use audit_collector_tests::audit_state::{AuditGuard, KEY, Settings};
use audit_collector_tests::built_folder;
use audit_collector_tests::requirement::{self, Requirement, find_program};
use collector::audit::client::Client;

/// Nobody's uid, so that no rule here ever matches.
const UID: u32 = 61_742;

/// What is compared of one invocation.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    rules: Vec<String>,
    settings: Settings,
}

/// How much of stdout has to be the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdout {
    Same,
    /// Usage and version are our own.
    OurOwn,
}

struct Bench {
    guard: AuditGuard,
    client: Client,
    settings: Settings,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let mut guard = AuditGuard::take().unwrap();
        Self {
            settings: guard.status().unwrap().into(),
            guard,
            client: Client::connect().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs the same with both programs, each after `before` has been run with the real one.
    fn compare(&mut self, before: &[&str], arguments: &[&str], stdout: Stdout) {
        let [real, ours] = [false, true].map(|ours| {
            self.reset();
            for line in before {
                let output = run(false, &words(line));
                assert!(output.status.success(), "{line}: {output:?}");
            }
            let output = run(ours, arguments);
            let mut outcome = self.outcome(&output);
            if stdout == Stdout::OurOwn {
                assert!(!outcome.stdout.is_empty(), "{arguments:?}");
                outcome.stdout.clear();
            }
            (
                outcome,
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        });
        assert_eq!(
            real.0, ours.0,
            "{arguments:?}\nauditctl: {}\nours: {}",
            real.1, ours.1
        );
        let is_error = real.0.code != Some(0);
        assert!(
            !is_error || stdout == Stdout::OurOwn || !ours.1.is_empty(),
            "{arguments:?}: not a word"
        );
    }

    fn compare_line(&mut self, before: &[&str], line: &str) {
        self.compare(before, &words(line), Stdout::Same);
    }

    /// The same for a file of these lines.
    fn compare_file(&mut self, lines: &str) {
        let path = self.folder.path().join("a.rules");
        fs::write(&path, lines).unwrap();
        self.compare(&[], &["-R", path.to_str().unwrap()], Stdout::Same);
    }

    fn outcome(&mut self, output: &Output) -> Outcome {
        let rules = self.client.rules().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        // How many records wait, or were lost, is another matter at every moment.
        let is_stable = |line: &&str| !line.starts_with("backlog ") && !line.starts_with("lost ");
        Outcome {
            code: output.status.code(),
            stdout: stdout.split_inclusive('\n').filter(is_stable).collect(),
            rules: rules.iter().map(ToString::to_string).collect(),
            settings: self.guard.status().unwrap().into(),
        }
    }

    fn reset(&mut self) {
        for rule in self.client.rules().unwrap() {
            self.client.delete_rule(&rule).unwrap();
        }
        let change = collector::audit::status::StatusChange {
            enabled: Some(self.settings.enabled),
            failure: Some(self.settings.failure),
            rate_limit: Some(self.settings.rate_limit),
            backlog_limit: Some(self.settings.backlog_limit),
            backlog_wait_time: self.settings.backlog_wait_time,
        };
        self.client.set(&change).unwrap();
        self.client.reset_lost().unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.reset();
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').filter(|word| !word.is_empty()).collect()
}

fn run(ours: bool, arguments: &[&str]) -> Output {
    let mut command = match ours {
        true => {
            let mut command = Command::new(built_folder().join("audit-collector"));
            command.arg("auditctl");
            command
        }
        false => Command::new(find_program("auditctl").unwrap()),
    };
    command.args(arguments).output().unwrap()
}

fn rule(name: &str) -> String {
    format!("always,exit -F arch=b64 -S openat -F uid={UID} -k {KEY}-{name}")
}

/// Everything is deleted here, so the machine must have no rules of its own.
fn can_run() -> bool {
    requirement::met(&[
        Requirement::AuditControl,
        Requirement::NoRules,
        Requirement::Program("auditctl"),
    ])
}

#[test]
fn the_status_and_the_settings_read_the_same() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new();
    for line in [
        "-s",
        "-s -i",
        "-b 321",
        "-b 0x10",
        "-f 0",
        "-r 7",
        "-e 0",
        "--backlog_wait_time 100",
        "--reset-lost",
        "--reset_backlog_wait_time_actual",
        "-c",
        "-i",
        "-t",
        // What auditctl refuses.
        "-s -x",
        "-s -l",
        "-e 3",
        "-e",
        "-e x",
        "-f 9",
        "-b x",
        "-b -1",
        "-r x",
        "--backlog_wait_time x",
        "-e 0 -s",
        "foo",
        "-Z",
        "--nonsense",
        "-k foo",
        "-p r",
        "-F uid=0",
        "-S open",
        "-q /a",
        "-q /nowhere/at/all,/nor/here",
        "-R",
        "-R /nowhere/at/all -i",
        "-R /nowhere/at/all",
        "-R /dev/null",
        "-m",
    ] {
        bench.compare_line(&[], line);
    }
    bench.compare(&[], &["-m", "audit-collector-test hello"], Stdout::Same);
    bench.compare(&[], &["-m", ""], Stdout::Same);
    // auditctl asks for the status twice and prints whichever answer comes first.
    bench.compare(&[], &["-f", "1", "-b", "65"], Stdout::OurOwn);
    bench.compare(&[], &[], Stdout::OurOwn);
    bench.compare(&[], &["-h"], Stdout::OurOwn);
    bench.compare(&[], &["-v"], Stdout::OurOwn);
}

#[test]
fn rules_come_and_go_the_same() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new();
    let add = |name: &str| format!("-a {}", rule(name));
    let (one, two) = (add("one"), add("two"));
    let twice = format!("-A {}", rule("one"));
    let delete = format!("-d {}", rule("one"));
    let bare = format!("-a always,exit -S openat -F uid={UID} -k {KEY}-bare");
    let b32 = format!("-a always,exit -F arch=b32 -S open -F uid={UID} -k {KEY}-b32");
    bench.compare_line(&[], "-l");
    bench.compare_line(&[], &one);
    bench.compare_line(&[], &format!("{one} -b 77"));
    bench.compare_line(&[], &bare);
    bench.compare_line(&[&one], &one);
    bench.compare_line(&[&one, &two], "-l");
    bench.compare_line(&[&one, &b32], "-l -i");
    bench.compare_line(&[&one, &two], &format!("-l -k {KEY}-two"));
    bench.compare_line(&[&one, &two], "-l -k none");
    bench.compare_line(&[&two, &one], &twice);
    bench.compare_line(&[&one, &twice], "-l");
    bench.compare_line(&[&one, &two], &delete);
    bench.compare_line(&[&two], &delete);
    bench.compare_line(&[&one, &two], &format!("-D -k {KEY}-one"));
    let more = add("one-more");
    bench.compare_line(&[&one, &two, &more], &format!("-l -k {KEY}-one"));
    bench.compare_line(&[&one, &two, &more], &format!("-D -k {KEY}-one"));
    let keys = format!("-a {} -k other", rule("first"));
    bench.compare_line(&[&keys, &two], "-l -k other");
    bench.compare_line(&[&keys, &two], &format!("-l -k {KEY}-first"));
    bench.compare_line(&[&keys, &two], "-D -k other");
    bench.compare_line(&[&one, &two], "-D");
    bench.compare_line(&[], "-D");
    bench.compare_line(&[], "-D -k none");
    bench.compare_line(&[], "-D -k");
    bench.compare_line(&[], "-D x");
    bench.compare_line(&[], "-l -k");
    bench.compare_line(&[], "-l -s");
    bench.compare_line(&[], &format!("-a always,exit -S opnat -F uid={UID}"));
    bench.compare_line(&[], &format!("-a always,nolist -S openat -F uid={UID}"));
    let watch = format!("-w /etc/hostname -p wa -k {KEY}-watch");
    bench.compare_line(&[], &watch);
    bench.compare_line(&[&watch], &format!("-W /etc/hostname -p wa -k {KEY}-watch"));
    bench.compare_line(&[&watch], "-W /etc/hostname");
    bench.compare_line(&[], &format!("-w /nowhere/at/all -p wa -k {KEY}-watch"));
    bench.compare_line(&[], "-w relative -p wa");
    bench.compare_line(&[], "-w /etc/hostname -p q");
}

#[test]
fn files_are_followed_the_same() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new();
    let add = |name: &str| format!("-a {}\n", rule(name));
    let (one, two) = (add("one"), add("two"));
    let delete = format!("-d {}\n", rule("one"));
    for text in [
        String::new(),
        format!("# a comment\n   # another\n\n   \n{one}{two}"),
        format!("-b 99\n{one}-f 0\n"),
        format!("{one}{one}{two}"),
        format!("-i\n{one}{one}{two}"),
        format!("-c\n{one}{one}{two}"),
        format!("{one}-c\n{one}{two}"),
        format!("{one}nonsense\n{two}"),
        format!("-i\n{one}nonsense\n{two}"),
        format!("-c\n-a always,exit -S opnat -k x\n{two}"),
        format!("{delete}{two}"),
        format!("{one}-D\n{two}"),
        format!("{one}-D -k {KEY}-one\n{two}"),
        format!("-b x\n{two}"),
        format!("-R other\n{two}"),
        format!("-l\n-s\n{two}"),
        format!("--reset-lost\n{two}"),
        format!("-q /nowhere/at/all,/nor/here\n{two}"),
        format!("  {one}  {two}"),
        one.trim().to_owned(),
    ] {
        bench.compare_file(&text);
    }
    let path = bench.folder.path().join("a.rules");
    let text = path.to_str().unwrap().to_owned();
    set_mode(&path, 0o666);
    bench.compare(&[], &["-R", &text], Stdout::Same);
}

#[test]
fn whoever_may_not_is_told_the_same() {
    if !can_run()
        || !requirement::met(&[
            Requirement::Program("setpriv"),
            Requirement::Program("unshare"),
        ])
    {
        return;
    }
    let bench = Bench::new();
    let rules = bench.folder.path().join("a.rules");
    fs::write(&rules, "-b 64\n").unwrap();
    // Another user may not be able to read the build folder.
    let copy = bench.folder.path().join("audit-collector");
    fs::copy(built_folder().join("audit-collector"), &copy).unwrap();
    set_mode(bench.folder.path(), 0o755);
    let file = format!("-R {}", rules.display());
    let rule = format!("always,exit -F uid={UID}");
    let lines = [
        "-s",
        "-s -i",
        "-l",
        "-l -i",
        "-l -k none",
        "-R /nowhere/at/all",
        &file,
        &format!("-a {rule}"),
        &format!("-d {rule}"),
        "foo",
        "-D",
        "-D -k x",
        "-e 0",
        "-b 64",
        "-e 9",
        "-m hello",
        "-t",
        "-q /a,/b",
        "--reset-lost",
        "--reset_backlog_wait_time_actual",
        "-w /etc/x -p w",
        "-W /etc/x",
        "-c",
        "-i",
    ];
    for who in [
        "unshare --user --map-root-user",
        "setpriv --reuid=61742 --clear-groups",
        "setpriv --bounding-set=-all --inh-caps=-all",
    ] {
        for line in lines {
            let run = |program: &[&str]| {
                let all = [words(who), program.to_vec(), words(line)].concat();
                let output = Command::new(all[0]).args(&all[1..]).output().unwrap();
                (
                    output.status.code(),
                    String::from_utf8(output.stdout).unwrap(),
                )
            };
            let real = find_program("auditctl").unwrap();
            let real = run(&[real.to_str().unwrap()]);
            let ours = run(&[copy.to_str().unwrap(), "auditctl"]);
            assert_eq!(real, ours, "{who}: {line}");
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
