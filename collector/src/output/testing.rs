//! Outputs built by hand, for the tests of both renderers.

use proptest::prelude::*;

use smallvec::smallvec;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::{Provenance, Record, RecordType, Serial, Stamp};
use crate::clock::{KtimeNs, TimeMs};
use crate::event::{Cause, Event, EventId, Loss, LossUnit, MatchedBy, Outcome, State, StateChange};
use crate::output::identity::Identity;
use crate::probe::observation::{
    Captured, Credentials, Extent, Observation, PathArgument, Verdict,
};

pub(super) const TIME: TimeMs = TimeMs(1_700_000_000_123);

/// The records of an `openat` that was refused.
pub(super) const BODIES: [(RecordType, &str); 4] = [
    (
        RecordType::SYSCALL,
        "arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7ffd0a a2=0 a3=0 items=1 ppid=10 pid=11 \
         auid=1000 uid=1 gid=2 euid=0 suid=0 fsuid=0 egid=0 sgid=2 fsgid=2 tty=(none) ses=4294967295 comm=612062 \
         exe=\"/usr/bin/cat\" subj=unconfined key=6F6E650174776F",
    ),
    (RecordType::CWD, "cwd=\"/root\""),
    (
        RecordType::PATH,
        "item=0 name=2F6574632FFF inode=5 dev=fd:01 mode=0100640 ouid=0 ogid=42 rdev=00:00 nametype=NORMAL cap_fp=0",
    ),
    (RecordType::PROCTITLE, "proctitle=636174002F6574632FFF"),
];

pub(super) fn identity() -> Identity {
    Identity {
        boot_id: "0b9f3a52-7d7a-4c35-9f0e-4d9a4f0f6c11".to_owned(),
        host: "host.example".to_owned(),
    }
}

pub(crate) fn audit_event(records: &[(RecordType, &str)], completion: Completion) -> AuditEvent {
    let pairs: Vec<_> = records
        .iter()
        .map(|(record_type, body)| (record_type.0, body.as_bytes()))
        .collect();
    audit_event_of(&pairs, completion)
}

pub(crate) fn audit_event_of(records: &[(u16, &[u8])], completion: Completion) -> AuditEvent {
    let stamp = Stamp {
        time: TIME,
        serial: Serial(455),
    };
    AuditEvent {
        stamp,
        records: records
            .iter()
            .map(|(record_type, body)| Record {
                record_type: RecordType(*record_type),
                stamp,
                node: None,
                body,
                enrichment: None,
                provenance: Provenance::Stream,
            })
            .collect(),
        completion,
        mirrored: None,
        first_read: KtimeNs(1),
        completed: KtimeNs(2),
    }
}

pub(crate) fn observation() -> Observation {
    Observation {
        cpu: 1,
        sequence: 42,
        n_bytes: 500,
        entry: KtimeNs(5_000_000_000),
        taken: KtimeNs(5_000_012_345),
        tgid: 11,
        tid: 12,
        ppid: 10,
        arch: 0xc000_003e,
        syscall: 257,
        args: [0xffff_ff9c, 0x7ffd0a, 0, 0, 0x55, 0x66],
        result: Some(-13),
        credentials: Credentials {
            auid: 1000,
            uid: 1,
            gid: 2,
            sgid: 2,
            fsgid: 2,
            session: u32::MAX,
            ..Credentials::default()
        },
        audit_context: true,
        task_always: false,
        personality: 0,
        subject: Captured::Absent,
        tty: Captured::Absent,
        comm: b"a b"[..].into(),
        exe: Captured::Whole(b"/usr/bin/cat"[..].into()),
        cwd: Captured::Whole(b"/root"[..].into()),
        paths: smallvec![PathArgument {
            argument: 1,
            path: Captured::Whole(b"/etc/\xff"[..].into()),
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
        rules_generation: 1,
        report: None,
        key: Captured::Absent,
        operations: Vec::new(),
        extent: Extent::Whole,
    }
}

/// An event of which nothing but its serial is known.
pub(crate) fn event() -> Event {
    Event {
        id: EventId::Audit {
            time: TIME,
            serial: Serial(455),
            part: 0,
        },
        serial: Some(Serial(455)),
        between: (None, None),
        time: TIME,
        outcome: Outcome::Matched,
        verdict: Some(Verdict::Inferred),
        cause: None,
        matched_by: None,
        rule_keys: None,
        excluded: Vec::new(),
        audit: None,
        observation: None,
        supersedes: None,
    }
}

pub(crate) fn matched() -> Event {
    Event {
        matched_by: Some(MatchedBy::Key),
        audit: Some(audit_event(&BODIES, Completion::Eoe)),
        observation: Some(Box::new(observation())),
        ..event()
    }
}

pub(super) fn backfilled() -> Event {
    Event {
        id: EventId::Ebpf {
            taken: KtimeNs(5_000_012_345),
            cpu: 1,
            sequence: 42,
        },
        serial: None,
        between: (Some(Serial(455)), Some(Serial(470))),
        outcome: Outcome::Backfilled,
        cause: Some(Cause::BacklogLimit),
        rule_keys: Some(smallvec![(*b"etc-write").into()]),
        excluded: Vec::new(),
        observation: Some(Box::new(observation())),
        ..event()
    }
}

pub(super) fn execve() -> Event {
    let syscall = BODIES[0].1.replace(
        "syscall=257 success=no exit=-13",
        "syscall=59 success=yes exit=0",
    );
    let records = [
        (RecordType::SYSCALL, syscall.as_str()),
        (
            RecordType::EXECVE,
            "argc=5 a0=\"sh\" a1=\"-c\" a2=6120620A226322 a3=FF78 a4=\"\"",
        ),
    ];
    Event {
        outcome: Outcome::AuditOnly,
        audit: Some(audit_event(&records, Completion::Eoe)),
        ..event()
    }
}

pub(super) fn user_login() -> Event {
    let records = [(
        RecordType::USER_LOGIN,
        "pid=7 uid=0 auid=1000 ses=3 subj=unconfined msg='op=login pid=1 acct=\"it's\" exe=\"/bin/fake\" res=failed'",
    )];
    Event {
        outcome: Outcome::AuditOnly,
        verdict: None,
        audit: Some(audit_event(&records, Completion::Standalone)),
        ..event()
    }
}

pub(super) fn loss() -> Loss {
    Loss {
        time: TIME,
        cause: Cause::RateLimit,
        count: 9,
        unit: LossUnit::Events,
        recovered: Some(7),
        serials: Some((Serial(460), Serial(469))),
        between: (None, None),
        span: Some((TimeMs(TIME.0 - 1_000), TIME)),
    }
}

pub(super) fn state() -> State {
    State {
        time: TIME,
        what: StateChange::Started,
        message: "mode=daemon \"quoted\"\nsecond line".to_owned(),
    }
}

/// Bodies that look like records, or like nothing.
pub(super) fn hostile_body() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 9] = [
        b"arch=c000003e ",
        b"syscall=59 success=yes exit=-9223372036854775808 ",
        b"a0=FF a1=ffffffffffffffff ",
        b"argc=99999999999 a65535=41 a0[0]=41 ",
        b"name=\"\xff\" item=4294967295 ",
        b"saddr=0200 ",
        b"key=\"x\ny\" ",
        b"\n\r\0\x1d\"'",
        b"pid=-1 uid=1 msg='x='",
    ];
    proptest::collection::vec(
        prop_oneof![
            proptest::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
            proptest::collection::vec(any::<u8>(), 0..30),
        ],
        0..6,
    )
    .prop_map(|pieces| pieces.concat())
}
