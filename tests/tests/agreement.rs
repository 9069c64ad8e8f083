//! Both witnesses saw the same calls: all that an audit event and its observation both carry agrees, field by field.
//!
//! Reads both witnesses through the library and pairs them by itself, so that an error of the correlator cannot hide one
//! of the witnesses.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use audit_collector_tests::audit_state::rule_for;
use audit_collector_tests::requirement::{self, Requirement, patience};
use audit_collector_tests::witnesses::Witnesses;
use audit_collector_tests::workload;
use collector::audit::arch::Arch;
use collector::audit::event::{AuditEvent, Completion};
use collector::audit::fields::Text;
use collector::audit::record::RecordType;
use collector::audit::records::{
    ExecveFields, Inode, NameType, PathFields, SockaddrFields, SyscallFields,
};
use collector::audit::status::TickRate;
use collector::byte_string::ByteString;
use collector::clock::RealtimeOffset;
use collector::probe::hooks::Level;
use collector::probe::mirror::Mirror;
use collector::probe::names::{self, Role};
use collector::probe::observation::{Captured, Observation};

const UID: u32 = 60_041;

/// How far a stamp may lie behind the call's entry: so many ticks pass before another processor keeps the time in place of one that
/// does not run (kernel/time/tick-sched.c, `MAX_STALLED_JIFFIES`), the last two may be begun, and both times are cut to milliseconds.
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
fn stamp_behind() -> Duration {
    let tick = TickRate::of_kernel().unwrap();
    patience(tick.duration(5 + 2)) + Duration::from_millis(1)
}

#[test]
fn both_witnesses_agree_on_every_field_they_share() {
    if !requirement::met(&[
        Requirement::AuditControl,
        Requirement::Ebpf,
        Requirement::CompatCalls,
    ]) {
        return;
    }
    let mut witnesses = Witnesses::set_out(Level::AuditHooks).unwrap();
    let rules = [
        rule_for(
            UID,
            Arch::X86_64,
            &["openat", "execve", "connect"],
            "agreement",
        ),
        rule_for(UID, Arch::I386, &["openat", "getppid"], "agreement"),
    ];
    for rule in &rules {
        witnesses.guard.add_rule(rule).unwrap();
    }
    let programs = &mut witnesses.programs;
    programs.set_rules(&Mirror::compile(&rules), 1).unwrap();
    programs.attach().unwrap();
    let offset = RealtimeOffset::sample();

    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let folder = root.path().to_str().unwrap();
    let commands: [&[&str]; 8] = [
        &["files", "--root", folder, "--rounds", "2"],
        &["open", "--processes", "2", "--count", "50"],
        &["exec"],
        &["connect"],
        &["paths"],
        &["compat", "--count", "20"],
        &["threads", "--threads", "4", "--count", "25"],
        &["forks", "--count", "60"],
    ];
    for command in commands {
        workload::run(UID, command).unwrap();
    }
    let events = witnesses
        .events(UID, patience(Duration::from_secs(1)))
        .unwrap();
    for event in &events {
        assert_eq!(event.completion, Completion::Eoe, "{event:?}");
    }
    let mut observations = witnesses.observations().unwrap();
    // The hooks see events of others too: those of the requests that a test itself makes.
    observations.retain(|observation| observation.credentials.uid == UID);

    let mut table = Table::default();
    let mut calls: BTreeMap<Key, Vec<Observation>> = BTreeMap::new();
    for observation in observations {
        calls
            .entry(Key::of(&observation))
            .or_default()
            .push(observation);
    }
    let mut without = Vec::new();
    for event in &events {
        let fields = event
            .records
            .iter()
            .find_map(SyscallFields::from_record)
            .unwrap();
        let key = Key::of_record(&fields);
        match calls.get_mut(&key).filter(|twins| !twins.is_empty()) {
            // Twins come in the order of their entry.
            Some(twins) => {
                let observation = twins.remove(0);
                table.compare(event, &fields, &observation, offset);
            }
            None => without.push(key),
        }
    }
    let unmatched: Vec<_> = calls
        .into_iter()
        .filter(|(_, left)| !left.is_empty())
        .collect();
    println!("{} events compared\n{table}", events.len());
    assert!(without.is_empty(), "no observation of {without:?}");
    assert!(unmatched.is_empty(), "no event of {unmatched:?}");
    assert!(events.len() > 350, "only {} events", events.len());
    assert!(table.mismatches.is_empty(), "{:#?}", table.mismatches);
    for field in [
        "syscall", "arch", "a0", "a3", "exit", "pid", "ppid", "auid", "uid", "fsgid", "ses", "tty",
        "comm", "exe", "cwd", "path", "argv", "saddr", "time", "items", "nametype", "inode", "dev",
        "mode", "ouid", "ogid", "rdev", "title",
    ] {
        assert!(table.rows.contains_key(field), "{field} was never compared");
    }
}

/// What tells calls apart for both witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid: u32,
    arch: u32,
    syscall: u32,
    args: [u64; 4],
}

impl Key {
    fn of(observation: &Observation) -> Self {
        let [a0, a1, a2, a3, ..] = observation.args;
        Self {
            pid: observation.tgid,
            arch: observation.arch,
            syscall: observation.syscall,
            args: [a0, a1, a2, a3],
        }
    }

    fn of_record(fields: &SyscallFields<'_>) -> Self {
        Self {
            pid: fields.pid,
            arch: fields.arch,
            syscall: fields.syscall,
            args: fields.args,
        }
    }
}

/// How often each field was compared, and how that came out.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, Row>,
    mismatches: Vec<String>,
}

#[derive(Default)]
struct Row {
    equal: u64,
    /// The sample had no room for all of it; what it has is the beginning.
    shortened: u64,
    unreadable: u64,
    unequal: u64,
}

impl Table {
    fn compare(
        &mut self,
        event: &AuditEvent,
        fields: &SyscallFields<'_>,
        seen: &Observation,
        offset: RealtimeOffset,
    ) {
        let entered = offset.wall(seen.entry);
        let behind = entered.0.checked_sub(event.stamp.time.0);
        let in_time = behind.is_some_and(|ms| Duration::from_millis(ms) <= stamp_behind());
        self.row("time", in_time, &event.stamp.time, &entered);
        self.same("syscall", &fields.syscall, &seen.syscall);
        self.same("arch", &fields.arch, &seen.arch);
        for (name, index) in [("a0", 0), ("a1", 1), ("a2", 2), ("a3", 3)] {
            self.same(name, &fields.args[index], &seen.args[index]);
        }
        self.same("exit", &fields.exit, &seen.result);
        self.same("pid", &fields.pid, &seen.tgid);
        self.same("ppid", &fields.ppid, &seen.ppid);
        let ids = &seen.credentials;
        for (name, audit, ebpf) in [
            ("auid", fields.auid, ids.auid),
            ("uid", fields.uid, ids.uid),
            ("gid", fields.gid, ids.gid),
            ("euid", fields.euid, ids.euid),
            ("suid", fields.suid, ids.suid),
            ("fsuid", fields.fsuid, ids.fsuid),
            ("egid", fields.egid, ids.egid),
            ("sgid", fields.sgid, ids.sgid),
            ("fsgid", fields.fsgid, ids.fsgid),
            ("ses", fields.session, ids.session),
        ] {
            self.same(name, &audit, &ebpf);
        }
        self.text("tty", fields.tty, &seen.tty);
        self.text("exe", fields.exe, &seen.exe);
        let comm = fields.comm.map(Text::decode);
        self.same("comm", &comm.as_deref(), &Some(&*seen.comm));
        let record = |wanted| {
            let mut records = event.records.iter();
            records.find(move |record| record.record_type == wanted)
        };
        if let Some(cwd) = record(RecordType::CWD).and_then(|record| record.decoded(b"cwd")) {
            self.bytes("cwd", Some(&cwd), &seen.cwd);
        }
        let named = event
            .records
            .iter()
            .filter_map(PathFields::from_record)
            .find(|path| path.nametype != Some(NameType::Parent) && path.name.is_some());
        if let (Some(audit), Some(ebpf)) = (named, seen.paths.first()) {
            self.text("path", audit.name, &ebpf.path);
        }
        if seen.opened.is_some() {
            self.names(event, seen);
        }
        if let Some(audit) =
            record(RecordType::PROCTITLE).and_then(|record| record.decoded(b"proctitle"))
        {
            self.bytes("title", Some(&audit), &seen.title);
        }
        if let Some(execve) = ExecveFields::from_records(&event.records) {
            let arguments: Vec<&[u8]> = execve.argv().flatten().collect();
            self.bytes("argv", Some(&arguments.join(&0)), &seen.argv);
        }
        if let Some(audit) = event.records.iter().find_map(SockaddrFields::from_record) {
            self.text("saddr", Some(audit.saddr), &seen.sockaddr);
        }
    }

    /// Every file that the observation is sure of is in a record, and where it is sure that there are no others, every
    /// record is of one it gives.
    fn names(&mut self, event: &AuditEvent, seen: &Observation) {
        let names = names::of(seen);
        let mut audit: Vec<_> = event
            .records
            .iter()
            .filter_map(PathFields::from_record)
            .collect();
        audit.sort_by_key(|path| path.item);
        let role = |path: &PathFields<'_>| match path.nametype {
            Some(NameType::Normal) => Some(Role::Normal),
            Some(NameType::Parent) => Some(Role::Parent),
            Some(NameType::Create) => Some(Role::Create),
            _ => None,
        };
        for name in &names.known {
            // Through a link that leads nowhere the kernel notes some entries twice, of which one has no inode.
            let record = audit
                .iter()
                .filter(|path| role(path) == Some(name.role))
                .max_by_key(|path| path.inode.is_some());
            let Some(path) = record else {
                self.row("nametype", !name.certain, &audit, name);
                continue;
            };
            self.row("nametype", true, path, name);
            let seen = Inode {
                inode: name.inode.number,
                dev: name.inode.dev,
                mode: u32::from(name.inode.mode),
                ouid: name.inode.uid,
                ogid: name.inode.gid,
                rdev: name.inode.rdev,
            };
            let Some(inode) = &path.inode else {
                self.row("inode", false, path, name);
                continue;
            };
            self.same("inode", &inode.inode, &seen.inode);
            self.same("dev", &inode.dev, &seen.dev);
            self.same("mode", &inode.mode, &seen.mode);
            self.same("ouid", &inode.ouid, &seen.ouid);
            self.same("ogid", &inode.ogid, &seen.ogid);
            self.same("rdev", &inode.rdev, &seen.rdev);
        }
        if names.complete {
            let roles: Vec<_> = names.known.iter().map(|name| Some(name.role)).collect();
            let others = audit.iter().any(|path| !roles.contains(&role(path)));
            let counted = audit.len() <= roles.len() && !others;
            self.row("items", counted, &audit, &names);
        }
    }

    fn same<T: PartialEq + Debug>(&mut self, name: &'static str, audit: &T, ebpf: &T) {
        self.row(name, audit == ebpf, audit, ebpf);
    }

    fn text(&mut self, name: &'static str, audit: Option<Text<'_>>, ebpf: &Captured<ByteString>) {
        self.bytes(name, audit.map(Text::decode).as_deref(), ebpf);
    }

    fn bytes(&mut self, name: &'static str, audit: Option<&[u8]>, ebpf: &Captured<ByteString>) {
        match ebpf {
            Captured::Unreadable => self.rows.entry(name).or_default().unreadable += 1,
            Captured::Truncated(start) if audit.is_some_and(|whole| whole.starts_with(start)) => {
                self.rows.entry(name).or_default().shortened += 1;
            }
            Captured::Absent | Captured::Whole(_) | Captured::Late(_) | Captured::Truncated(_) => {
                let ebpf = ebpf.value().map(|bytes| &**bytes);
                let text =
                    |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
                self.row(name, audit == ebpf, &text(audit), &text(ebpf));
            }
        }
    }

    fn row(&mut self, name: &'static str, equal: bool, audit: &impl Debug, ebpf: &impl Debug) {
        let row = self.rows.entry(name).or_default();
        if equal {
            row.equal += 1;
        } else {
            row.unequal += 1;
            self.mismatches
                .push(format!("{name}: audit {audit:?}, eBPF {ebpf:?}"));
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "field     equal  shortened  unreadable  unequal")?;
        for (name, row) in &self.rows {
            writeln!(
                f,
                "{name:<8} {:>6}  {:>9}  {:>10}  {:>7}",
                row.equal, row.shortened, row.unreadable, row.unequal
            )?;
        }
        Ok(())
    }
}
