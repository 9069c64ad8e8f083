//! A matcher on a bench: hand-made streams, and what came of them.

use std::time::Duration;

use smallvec::smallvec;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::{Provenance, Record, RecordType, Serial, Stamp};
use crate::audit::records::SyscallFields;
use crate::audit::rules::Keys;
use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::Poll;
use crate::correlate::limits::Limits;
use crate::correlate::matcher::Correlator;
use crate::correlate::witness::{Rules, Watch};
use crate::event::{Event, Output};
use crate::probe::hooks::Level;
use crate::probe::observation::{
    Captured, Credentials, Extent, Observation, PathArgument, Verdict,
};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

pub(super) const EPOCH_MS: u64 = 1_700_000_000_000;
pub(super) const OFFSET: RealtimeOffset = RealtimeOffset(EPOCH_MS as i64 * 1_000_000);
pub(super) const GENERATION: u32 = 1;

/// Watches openat of the 64-bit arch; its rules report every such call.
pub(super) struct Openat;

impl Watch for Openat {
    /// As the result says, but 7 only once the rules' paths were looked at.
    fn settle(&self, observation: &Observation, places: &Places) -> Settled {
        match observation.result {
            Some(5) => Settled::Reported(0),
            Some(6) => Settled::NotReported,
            Some(7) if *places != Places::default() => Settled::Reported(0),
            _ => Settled::Open,
        }
    }

    fn covers(&self, _arch: u32, syscall: u32) -> bool {
        syscall == 257
    }
    fn judge_record(&self, _fields: &SyscallFields<'_>) -> Option<Verdict> {
        Some(Verdict::Inferred)
    }
    fn judge_observation(&self, _observation: &Observation) -> Option<Verdict> {
        Some(Verdict::Inferred)
    }
    fn excludes(&self, _: &Observation, _: &Places, _: RecordType) -> bool {
        false
    }
    fn keys(&self, _rule: u16) -> Keys {
        smallvec![(*b"opens").into()]
    }
}

/// Its rules report nothing.
pub(super) struct NoRules;

impl Watch for NoRules {
    fn settle(&self, _: &Observation, _: &Places) -> Settled {
        Settled::Open
    }

    fn covers(&self, _arch: u32, _syscall: u32) -> bool {
        false
    }
    fn judge_record(&self, _fields: &SyscallFields<'_>) -> Option<Verdict> {
        None
    }
    fn judge_observation(&self, _observation: &Observation) -> Option<Verdict> {
        None
    }
    fn excludes(&self, _: &Observation, _: &Places, _: RecordType) -> bool {
        false
    }
    fn keys(&self, _rule: u16) -> Keys {
        Keys::new()
    }
}

pub(super) struct Bench {
    pub(super) correlator: Correlator,
    pub(super) out: Vec<Output>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut correlator = Correlator::new(
            Limits::new(Duration::from_secs(2), Duration::from_secs(4)),
            OFFSET,
        );
        correlator.witness_attached(rules(KtimeNs(0)), Vec::new(), Level::Syscalls);
        Self {
            correlator,
            out: Vec::new(),
        }
    }

    pub(super) fn observe(&mut self, observation: Observation) {
        let now = observation.taken;
        self.correlator.observation(observation, now, &mut self.out);
    }

    pub(super) fn event(&mut self, event: AuditEvent) {
        let now = event.completed;
        self.correlator.audit_event(event, now, &mut self.out);
    }

    pub(super) fn poll(&mut self, ms: u64, poll: Poll) {
        let explained: u64 = poll.reasons.iter().flatten().sum();
        let poll = Poll {
            asked: at(ms),
            at: at(ms),
            unexplained: poll.lost - explained,
            ..poll
        };
        self.correlator.poll(poll);
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.correlator.tick(at(ms), OFFSET, &mut self.out);
    }

    pub(super) fn events(&self) -> Vec<&Event> {
        self.out
            .iter()
            .filter_map(|output| {
                if let Output::Event(event) = output {
                    Some(&**event)
                } else {
                    None
                }
            })
            .collect()
    }
}

pub(super) fn rules(since: KtimeNs) -> Rules {
    Rules {
        watch: Box::new(Openat),
        generation: GENERATION,
        former_until: KtimeNs(0),
        since,
    }
}

pub(super) fn no_rules(former_until: KtimeNs) -> Rules {
    Rules {
        watch: Box::new(NoRules),
        generation: GENERATION + 1,
        former_until,
        since: at(1_200),
    }
}

pub(super) fn quiet() -> Poll {
    Poll {
        asked: KtimeNs(0),
        at: KtimeNs(0),
        status: None,
        lost: 0,
        reasons: None,
        unexplained: 0,
        not_held: 0,
        missed_decisions: 0,
        socket_drops: 0,
        delivery: Delivery::Unicast,
        congested: 0,
        queue_full: 0,
        socket_empty: true,
        displaced: false,
        unobserved: None,
    }
}

pub(super) fn at(ms: u64) -> KtimeNs {
    KtimeNs(ms * 1_000_000)
}

pub(super) fn observation(ms: u64, fd: i64) -> Observation {
    Observation {
        cpu: 0,
        sequence: ms,
        n_bytes: 500,
        entry: at(ms),
        taken: KtimeNs(at(ms).0 + 10_000),
        tgid: 100,
        tid: 100,
        ppid: 1,
        arch: 0xc000_003e,
        syscall: 257,
        args: [0xffff_ff9c, 0x1000, 0, 0, 0, 0],
        result: Some(fd),
        credentials: Credentials::default(),
        audit_context: true,
        task_always: false,
        personality: 0,
        subject: Captured::Absent,
        tty: Captured::Absent,
        comm: (*b"open").into(),
        exe: Captured::Whole((*b"/bin/open").into()),
        cwd: Captured::Whole((*b"/").into()),
        paths: smallvec![PathArgument {
            argument: 1,
            path: Captured::Whole((*b"/etc/hosts").into()),
        }],
        argv: Captured::Absent,
        sockaddr: Captured::Absent,
        exe_inode: None,
        title: Captured::Absent,
        groups: Captured::Absent,
        opened: None,
        notes: None,
        noted: None,
        standing: Vec::new(),
        verdict: Verdict::Inferred,
        rule: Some(0),
        rules_generation: GENERATION,
        report: None,
        key: Captured::Absent,
        operations: Vec::new(),
        extent: Extent::Whole,
    }
}

pub(super) fn stamp(ms: u64, serial: u32) -> Stamp {
    Stamp {
        time: TimeMs(EPOCH_MS + ms),
        serial: Serial(serial),
    }
}

pub(super) fn event_of(
    records: &[(u16, String)],
    stamp: Stamp,
    completion: Completion,
) -> AuditEvent {
    let records = records
        .iter()
        .map(|(record_type, body)| Record {
            record_type: RecordType(*record_type),
            stamp,
            node: None,
            body: body.as_bytes(),
            enrichment: None,
            provenance: Provenance::Stream,
        })
        .collect();
    let read = at(stamp.time.0 - EPOCH_MS + 1);
    AuditEvent {
        stamp,
        records,
        completion,
        mirrored: None,
        first_read: read,
        completed: read,
    }
}

/// The whole event of a call of which it is not said what it opened.
pub(super) fn syscall_event(ms: u64, serial: u32, fd: i64) -> AuditEvent {
    event_of(
        &[(1300, syscall_record(fd, 0))],
        stamp(ms, serial),
        Completion::Eoe,
    )
}

/// The whole event of one that opened `path`.
pub(super) fn open_event(ms: u64, serial: u32, fd: i64, path: &str) -> AuditEvent {
    let records = [(1300, syscall_record(fd, 1)), (1302, path_record(path))];
    event_of(&records, stamp(ms, serial), Completion::Eoe)
}

/// What is left of such an event where the kernel had no room for the rest.
pub(super) fn open_event_without_path(ms: u64, serial: u32, fd: i64) -> AuditEvent {
    let records = [(1300, syscall_record(fd, 1)), (1307, "cwd=\"/\"".into())];
    event_of(&records, stamp(ms, serial), Completion::Timeout)
}

/// One that opened `path`.
pub(super) fn open_observation(ms: u64, fd: i64, path: &str) -> Observation {
    Observation {
        paths: smallvec![PathArgument {
            argument: 1,
            path: Captured::Whole(path.as_bytes().into()),
        }],
        ..observation(ms, fd)
    }
}

pub(super) fn syscall_record(fd: i64, items: u32) -> String {
    format!(
        "arch=c000003e syscall=257 success=yes exit={fd} a0=ffffff9c a1=1000 a2=0 a3=0 items={items} ppid=1 pid=100 auid=0 uid=0 \
         gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm=\"open\" exe=\"/bin/open\" key=\"k\""
    )
}

fn path_record(path: &str) -> String {
    format!(
        "item=0 name=\"{path}\" inode=1 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL"
    )
}

pub(super) fn fragment(ms: u64, serial: u32, path: &str) -> AuditEvent {
    event_of(
        &[(1307, "cwd=\"/\"".into()), (1302, path_record(path))],
        stamp(ms, serial),
        Completion::Timeout,
    )
}

pub(super) fn drained() -> Poll {
    Poll {
        status: Some(KernelStatus {
            enabled: 1,
            backlog_limit: 64,
            ..KernelStatus::default()
        }),
        socket_empty: true,
        ..quiet()
    }
}
