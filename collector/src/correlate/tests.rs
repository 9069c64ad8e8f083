//! The matcher against hand-made streams; time is a number here.

mod reported;

use std::time::Duration;

use super::matcher::{Correlator, Limits};
use super::witness::{Rules, Watch};
use crate::audit::event::{AuditEvent, Completion};
use crate::audit::gaps::Gap;
use crate::audit::parse::netlink_record;
use crate::audit::record::{Serial, Stamp};
use crate::audit::records::SyscallFields;
use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::Poll;
use crate::event::{Cause, Event, MatchedBy, Outcome, Output};
use crate::probe::hooks::Level;
use crate::probe::observation::{
    Captured, Credentials, Extent, Observation, PathArgument, Verdict,
};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

const EPOCH_MS: u64 = 1_700_000_000_000;
const OFFSET: RealtimeOffset = RealtimeOffset(EPOCH_MS as i64 * 1_000_000);
const GENERATION: u32 = 1;

/// Watches openat of the 64-bit arch; its rules report every such call.
struct Openat;

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
    fn judge_record(&self, _fields: &SyscallFields) -> Option<Verdict> {
        Some(Verdict::Inferred)
    }
    fn judge_observation(&self, _observation: &Observation) -> Option<Verdict> {
        Some(Verdict::Inferred)
    }
    fn keys(&self, _rule: u16) -> Vec<Box<[u8]>> {
        vec![(*b"opens").into()]
    }
}

/// Its rules report nothing.
struct NoRules;

impl Watch for NoRules {
    fn settle(&self, _: &Observation, _: &Places) -> Settled {
        Settled::Open
    }

    fn covers(&self, _arch: u32, _syscall: u32) -> bool {
        false
    }
    fn judge_record(&self, _fields: &SyscallFields) -> Option<Verdict> {
        None
    }
    fn judge_observation(&self, _observation: &Observation) -> Option<Verdict> {
        None
    }
    fn keys(&self, _rule: u16) -> Vec<Box<[u8]>> {
        Vec::new()
    }
}

struct Bench {
    correlator: Correlator,
    out: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
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

    fn observe(&mut self, observation: Observation) {
        let now = observation.taken;
        self.correlator.observation(observation, now, &mut self.out);
    }

    fn event(&mut self, event: AuditEvent) {
        let now = event.completed;
        self.correlator.audit_event(event, now, &mut self.out);
    }

    fn poll(&mut self, ms: u64, poll: Poll) {
        let explained: u64 = poll.reasons.iter().flatten().sum();
        let poll = Poll {
            at: at(ms),
            unexplained: poll.lost - explained,
            ..poll
        };
        self.correlator.poll(poll, &mut self.out);
    }

    fn tick(&mut self, ms: u64) {
        self.correlator.tick(at(ms), OFFSET, &mut self.out);
    }

    fn events(&self) -> Vec<&Event> {
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

fn rules(since: KtimeNs) -> Rules {
    Rules {
        watch: Box::new(Openat),
        generation: GENERATION,
        former_until: KtimeNs(0),
        since,
    }
}

fn no_rules(former_until: KtimeNs) -> Rules {
    Rules {
        watch: Box::new(NoRules),
        generation: GENERATION + 1,
        former_until,
        since: at(1_200),
    }
}

fn quiet() -> Poll {
    Poll {
        at: KtimeNs(0),
        status: None,
        lost: 0,
        reasons: None,
        unexplained: 0,
        missed_decisions: 0,
        socket_drops: 0,
        delivery: Delivery::Unicast,
        congested: 0,
        queue_full: 0,
        socket_empty: true,
        displaced: false,
    }
}

fn at(ms: u64) -> KtimeNs {
    KtimeNs(ms * 1_000_000)
}

fn observation(ms: u64, fd: i64) -> Observation {
    Observation {
        cpu: 0,
        sequence: ms,
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
        tty: Captured::Absent,
        comm: (*b"open").into(),
        exe: Captured::Whole((*b"/bin/open").into()),
        cwd: Captured::Whole((*b"/").into()),
        paths: vec![PathArgument {
            argument: 1,
            path: Captured::Whole((*b"/etc/hosts").into()),
        }],
        argv: Captured::Absent,
        sockaddr: Captured::Absent,
        exe_inode: None,
        title: Captured::Absent,
        groups: Captured::Absent,
        opened: None,
        verdict: Verdict::Inferred,
        rule: Some(0),
        rules_generation: GENERATION,
        report: None,
        extent: Extent::Whole,
    }
}

fn stamp(ms: u64, serial: u32) -> Stamp {
    Stamp {
        time: TimeMs(EPOCH_MS + ms),
        serial: Serial(serial),
    }
}

fn event_of(records: &[(u16, String)], stamp: Stamp, completion: Completion) -> AuditEvent {
    let records = records
        .iter()
        .map(|(record_type, body)| {
            let text = format!(
                "audit({}.{:03}:{}): {body}",
                stamp.time.0 / 1000,
                stamp.time.0 % 1000,
                stamp.serial.0
            );
            netlink_record(*record_type, text.as_bytes()).unwrap()
        })
        .collect();
    let read = at(stamp.time.0 - EPOCH_MS + 1);
    AuditEvent {
        stamp,
        records,
        completion,
        first_read: read,
        completed: read,
    }
}

fn syscall_event(ms: u64, serial: u32, fd: i64) -> AuditEvent {
    let body = format!(
        "arch=c000003e syscall=257 success=yes exit={fd} a0=ffffff9c a1=1000 a2=0 a3=0 items=1 ppid=1 pid=100 auid=0 uid=0 \
         gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm=\"open\" exe=\"/bin/open\" key=\"k\""
    );
    event_of(&[(1300, body)], stamp(ms, serial), Completion::Eoe)
}

fn fragment(ms: u64, serial: u32, path: &str) -> AuditEvent {
    let path = format!(
        "item=0 name=\"{path}\" inode=1 dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL"
    );
    event_of(
        &[(1307, "cwd=\"/\"".into()), (1302, path)],
        stamp(ms, serial),
        Completion::Timeout,
    )
}

fn drained() -> Poll {
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

#[test]
fn an_event_matches_whichever_side_comes_first() {
    let mut bench = Bench::new();
    bench.observe(observation(1_003, 3));
    bench.event(syscall_event(1_000, 7, 3));
    bench.event(syscall_event(1_004, 8, 4));
    bench.observe(observation(1_005, 4));
    let outcomes: Vec<_> = bench
        .events()
        .iter()
        .map(|event| (event.outcome, event.serial, event.cause))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Outcome::Matched, Some(Serial(7)), None),
            (Outcome::Matched, Some(Serial(8)), None)
        ]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn a_twin_is_matched_with_the_nearest_entry_and_the_rest_comes_back() {
    let mut bench = Bench::new();
    for ms in [1_000, 1_500, 2_000] {
        bench.observe(observation(ms, 3));
    }
    bench.event(syscall_event(1_497, 9, 3));
    bench.poll(
        2_100,
        Poll {
            lost: 2,
            ..drained()
        },
    );
    bench.tick(6_600);
    let events = bench.events();
    assert_eq!(
        events.iter().map(|event| event.outcome).collect::<Vec<_>>(),
        [Outcome::Matched, Outcome::Backfilled, Outcome::Backfilled]
    );
    assert_eq!(events[0].observation.as_ref().unwrap().entry, at(1_500));
    assert_eq!(events[1].between, (None, Some(Serial(9))));
    assert_eq!(events[2].between, (Some(Serial(9)), None));
    assert_eq!(events[1].serial, None);
    assert_eq!(events[1].rule_keys, Some(vec![(*b"opens").into()]));
    assert_eq!(events[1].cause, Some(Cause::BacklogLimit));
}

#[test]
fn an_observation_waits_as_long_as_the_kernel_queue_holds_records() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    let full = KernelStatus {
        enabled: 1,
        backlog: 50,
        backlog_limit: 64,
        ..KernelStatus::default()
    };
    bench.poll(
        20_000,
        Poll {
            status: Some(full),
            socket_empty: true,
            ..quiet()
        },
    );
    bench.tick(20_000);
    assert!(bench.events().is_empty());
    bench.event(syscall_event(998, 5, 3));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn an_observation_is_given_back_at_the_longest_wait_whatever_the_queue_says() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.tick(60_000);
    assert!(bench.events().is_empty());
    bench.tick(61_001);
    assert_eq!(bench.events()[0].outcome, Outcome::Backfilled);
}

#[test]
fn records_that_come_after_the_backfill_supersede_it_and_settle_nothing_twice() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.poll(1_500, drained());
    bench.tick(5_600);
    bench.event(syscall_event(1_000, 5, 3));
    let events = bench.events();
    assert_eq!(events[1].supersedes, Some(events[0].id));
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.expected, crosscheck.superseded), (1, 1));
    assert!(crosscheck.balances());
}

#[test]
fn an_event_without_an_observation_is_audit_only_after_its_wait() {
    let mut bench = Bench::new();
    bench.event(syscall_event(1_000, 5, 3));
    bench.tick(1_900);
    assert!(bench.events().is_empty());
    bench.tick(2_002);
    assert_eq!(
        (bench.events()[0].outcome, bench.events()[0].verdict),
        (Outcome::AuditOnly, Some(Verdict::Inferred))
    );
}

#[test]
fn what_no_program_watches_passes_at_once() {
    let mut bench = Bench::new();
    bench.event(event_of(
        &[(1112, "pid=1 uid=0 msg='op=login'".into())],
        stamp(1_000, 4),
        Completion::Standalone,
    ));
    assert_eq!(
        (bench.events()[0].outcome, bench.events()[0].verdict),
        (Outcome::AuditOnly, None)
    );
    assert_eq!(bench.correlator.crosscheck().unwatched, 1);
}

#[test]
fn an_event_that_lost_its_syscall_record_finds_its_observation_by_content() {
    let mut bench = Bench::new();
    let mut other = observation(1_001, 3);
    other.paths[0].path = Captured::Whole((*b"/etc/passwd").into());
    bench.observe(other);
    bench.observe(observation(1_002, 4));
    bench.event(fragment(1_000, 5, "/etc/hosts"));
    bench.tick(2_100);
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].outcome, events[0].matched_by),
        (Outcome::Matched, Some(MatchedBy::Content))
    );
    assert_eq!(events[0].observation.as_ref().unwrap().result, Some(4));
}

#[test]
fn fragments_of_calls_alike_are_told_apart_by_the_order_of_serials() {
    let mut bench = Bench::new();
    // Ten calls of one program, told apart by what they returned. The records of most are lost; of the last but one
    // only a fragment is left, and the last one is whole.
    for call in 0..10 {
        bench.observe(observation(1_000 + call, 20 + call as i64));
    }
    bench.event(syscall_event(1_000, 50, 20));
    bench.event(fragment(1_000, 58, "/etc/hosts"));
    bench.event(fragment(1_000, 52, "/etc/hosts"));
    bench.event(syscall_event(1_009, 59, 29));
    bench.tick(2_100);
    let given: Vec<_> = bench
        .events()
        .iter()
        .map(|event| {
            let observation = event.observation.as_ref().unwrap();
            (event.serial.unwrap().0, observation.result.unwrap())
        })
        .collect();
    assert_eq!(given, [(50, 20), (59, 29), (58, 28), (52, 22)]);
}

#[test]
fn a_fragment_that_contradicts_every_observation_takes_none() {
    let mut bench = Bench::new();
    bench.observe(observation(1_001, 3));
    bench.event(fragment(1_000, 5, "/etc/shadow"));
    bench.tick(2_100);
    assert_eq!(
        (
            bench.events()[0].outcome,
            bench.events()[0].observation.is_none()
        ),
        (Outcome::AuditOnly, true)
    );
}

#[test]
fn serials_missing_beyond_what_came_back_are_unrecovered() {
    let mut bench = Bench::new();
    bench.observe(observation(1_050, 3));
    bench.poll(
        1_500,
        Poll {
            socket_drops: 9,
            ..drained()
        },
    );
    let gap = Gap {
        first: Serial(6),
        last: Serial(8),
        count: 3,
        before: stamp(1_000, 5),
        after: stamp(1_100, 9),
        noticed: at(4_200),
    };
    bench.correlator.gap(gap);
    bench.tick(8_300);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Backfilled), 1);
    assert_eq!(
        crosscheck.by_cause[&(Outcome::Unrecovered, Cause::SocketOverrun)],
        2
    );
    assert_eq!(crosscheck.expected, 3);
    assert!(crosscheck.balances());
    let told = bench.out.iter().any(|output| {
        matches!(output, Output::Loss(loss) if loss.serials == Some((Serial(6), Serial(8))) && loss.count == 3)
    });
    assert!(told, "{:?}", bench.out);
}

#[test]
fn serials_are_not_missed_while_their_calls_still_wait_to_be_given_back() {
    let mut bench = Bench::new();
    bench.observe(observation(1_050, 3));
    bench.correlator.gap(Gap {
        first: Serial(6),
        last: Serial(6),
        count: 1,
        before: stamp(1_000, 5),
        after: stamp(1_100, 7),
        noticed: at(1_200),
    });
    // The stream has not moved past the call, so it cannot be said yet that it was lost.
    bench.tick(20_000);
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    bench.poll(20_500, drained());
    bench.tick(25_000);
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(crosscheck.total(Outcome::Backfilled), 1);
    assert_eq!(crosscheck.total(Outcome::Unrecovered), 0);
}

#[test]
fn a_maybe_without_an_event_is_counted_and_not_given_back() {
    let mut bench = Bench::new();
    bench.observe(Observation {
        verdict: Verdict::Maybe,
        ..observation(1_000, 3)
    });
    bench.poll(1_500, drained());
    bench.tick(5_600);
    assert!(bench.events().is_empty());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.maybe_unconfirmed, crosscheck.expected), (1, 0));
}

#[test]
fn an_observation_is_withdrawn_when_the_rule_behind_it_was_gone() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.correlator.rules_changed(no_rules(at(900)));
    bench.poll(1_500, drained());
    bench.tick(5_600);
    assert!(bench.events().is_empty());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!((crosscheck.withdrawn, crosscheck.expected), (1, 1));
    assert!(crosscheck.balances());
}

#[test]
fn a_step_of_the_clock_is_told_and_does_not_part_what_belongs_together() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    let stepped = RealtimeOffset(OFFSET.0 + 3_600_000_000_000);
    bench.correlator.tick(at(1_001), stepped, &mut bench.out);
    bench.event(AuditEvent {
        first_read: at(1_002),
        completed: at(1_002),
        ..syscall_event(3_601_000, 5, 3)
    });
    assert!(matches!(&bench.out[0], Output::State(state) if state.message.contains("3600000 ms")));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn causes_follow_from_the_evidence_and_stay_unknown_where_it_is_not_enough() {
    let limited = KernelStatus {
        enabled: 1,
        rate_limit: 100,
        backlog_limit: 8192,
        ..KernelStatus::default()
    };
    let base = Poll {
        at: at(2_000),
        socket_empty: true,
        ..quiet()
    };
    let cases = [
        (
            Poll {
                status: Some(limited),
                lost: 5,
                ..base
            },
            true,
            Cause::RateLimit,
        ),
        (
            Poll {
                lost: 5,
                ..Poll {
                    status: drained().status,
                    ..base
                }
            },
            true,
            Cause::BacklogLimit,
        ),
        (
            Poll {
                socket_drops: 5,
                ..base
            },
            true,
            Cause::SocketOverrun,
        ),
        (
            Poll {
                queue_full: 5,
                ..base
            },
            true,
            Cause::QueueFull,
        ),
        (
            Poll {
                status: Some(limited),
                lost: 5,
                socket_drops: 5,
                ..base
            },
            true,
            Cause::KernelUnknown,
        ),
        (base, true, Cause::KernelUnknown),
        (base, false, Cause::NoContext),
        (
            Poll {
                status: Some(KernelStatus {
                    enabled: 0,
                    ..limited
                }),
                ..base
            },
            true,
            Cause::AuditDisabled,
        ),
    ];
    for (poll, audit_context, cause) in cases {
        let mut bench = Bench::new();
        bench.observe(Observation {
            audit_context,
            ..observation(1_500, 3)
        });
        bench.poll(
            0,
            Poll {
                at: at(1_000),
                ..poll_without_loss(poll)
            },
        );
        bench.correlator.poll(poll, &mut bench.out);
        bench.tick(70_000);
        assert_eq!(bench.events()[0].cause, Some(cause), "{poll:?}");
    }
}

fn poll_without_loss(poll: Poll) -> Poll {
    Poll {
        lost: 0,
        reasons: None,
        unexplained: 0,
        missed_decisions: 0,
        socket_drops: 0,
        queue_full: 0,
        congested: 0,
        ..poll
    }
}

#[test]
fn a_full_window_settles_the_oldest_and_says_so() {
    let mut limits = Limits::new(Duration::from_secs(2), Duration::from_secs(4));
    limits.max_observations = 2;
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(limits, OFFSET);
    for ms in [1_000, 1_001, 1_002] {
        bench.observe(observation(ms, 3));
    }
    assert_eq!(bench.events().len(), 1);
    assert_eq!(bench.events()[0].cause, Some(Cause::WindowFull));
    assert!(bench.correlator.crosscheck().balances());
}

/// One call of the property test: when it entered, which of few descriptors it got (so that twins are common), whether the
/// kernel lost its event, and how late each side arrives.
#[derive(Clone, Debug)]
struct Call {
    entry: u64,
    fd: i64,
    lost: bool,
    event_delay: u64,
    observation_delay: u64,
}

fn call() -> impl proptest::strategy::Strategy<Value = Call> {
    use proptest::prelude::*;
    (
        0..2_000_u64,
        0..4_i64,
        any::<bool>(),
        0..900_u64,
        0..900_u64,
    )
        .prop_map(|(entry, fd, lost, event_delay, observation_delay)| Call {
            entry: 1_000 + entry,
            fd,
            lost,
            event_delay,
            observation_delay,
        })
}

proptest::proptest! {
    /// Whatever the order in which the two sides arrive, every call comes out once: matched if its event was
    /// delivered, else given back; and the ledger says so.
    #[test]
    fn every_call_comes_out_once(calls in proptest::collection::vec(call(), 0..60)) {
        let mut bench = Bench::new();
        let mut arrivals: Vec<(u64, usize, bool)> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            arrivals.push((call.entry + call.observation_delay, index, true));
            if !call.lost {
                arrivals.push((call.entry + call.event_delay, index, false));
            }
        }
        arrivals.sort_unstable();
        for (ms, index, observed) in arrivals {
            let call = &calls[index];
            if observed {
                let observation = Observation { sequence: index as u64 + 1, ..observation(call.entry, call.fd) };
                bench.correlator.observation(observation, at(ms), &mut bench.out);
            } else {
                let event = syscall_event(call.entry, index as u32 + 1, call.fd);
                let event = AuditEvent { first_read: at(ms), completed: at(ms), ..event };
                bench.correlator.audit_event(event, at(ms), &mut bench.out);
            }
            bench.correlator.tick(at(ms), OFFSET, &mut bench.out);
        }
        bench.poll(8_000, drained());
        bench.tick(12_000);
        let lost = calls.iter().filter(|call| call.lost).count();
        let outcome = |wanted| bench.events().iter().filter(|event| event.outcome == wanted).count();
        proptest::prop_assert_eq!(outcome(Outcome::Backfilled), lost);
        proptest::prop_assert_eq!(outcome(Outcome::Matched), calls.len() - lost);
        let ids: std::collections::HashSet<_> = bench.events().iter().map(|event| event.id).collect();
        proptest::prop_assert_eq!(ids.len(), calls.len());
        proptest::prop_assert!(bench.correlator.crosscheck().balances());
        proptest::prop_assert!(bench.correlator.is_idle());
    }
}

#[test]
fn a_call_that_blocked_after_its_first_record_is_matched_when_the_rest_comes_late() {
    let mut bench = Bench::new();
    let late = AuditEvent {
        completion: Completion::Late,
        ..syscall_event(1_000, 5, 3)
    };
    bench.event(late);
    bench.observe(observation(1_003, 3));
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].outcome, Outcome::Matched);
    assert!(matches!(
        events[0].id,
        crate::event::EventId::Audit { part: 1, .. }
    ));
}

#[test]
fn an_event_of_which_only_the_end_came_finds_its_observation() {
    let mut bench = Bench::new();
    bench.observe(observation(1_002, 4));
    bench.event(event_of(&[], stamp(1_000, 5), Completion::Eoe));
    bench.tick(2_100);
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].serial, events[0].matched_by),
        (Some(Serial(5)), Some(MatchedBy::Content))
    );
}

#[test]
fn what_entered_around_the_attachment_is_matched_where_it_was_seen_and_unwatched_where_not() {
    let mut bench = Bench::new();
    bench.correlator = Correlator::new(
        Limits::new(Duration::from_secs(2), Duration::from_secs(4)),
        OFFSET,
    );
    bench
        .correlator
        .witness_attached(rules(at(1_003)), Vec::new(), Level::Syscalls);
    bench.event(syscall_event(1_000, 5, 3));
    bench.observe(observation(1_004, 3));
    bench.event(syscall_event(1_000, 6, 4));
    bench.event(syscall_event(700, 7, 5));
    bench.tick(3_000);
    let events = bench.events();
    let outcomes: Vec<_> = events
        .iter()
        .map(|event| (event.serial, event.outcome, event.verdict))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Some(Serial(5)), Outcome::Matched, Some(Verdict::Inferred)),
            (Some(Serial(7)), Outcome::AuditOnly, None),
            (Some(Serial(6)), Outcome::AuditOnly, None),
        ]
    );
    assert!(bench.correlator.crosscheck().balances());
}

#[test]
fn a_rule_removed_after_the_call_does_not_make_its_loss_unmade() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.correlator.rules_changed(no_rules(at(1_100)));
    bench.poll(
        1_500,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.tick(6_000);
    assert_eq!(bench.events()[0].cause, Some(Cause::BacklogLimit));
}

#[test]
fn an_observation_of_rules_that_were_changed_twice_stands_only_as_long_as_the_kernel_held_them() {
    let settled = |ms| {
        let mut bench = Bench::new();
        bench.observe(observation(ms, 3));
        for (generation, former_until, since) in [(2, 1_100, 1_200), (3, 2_000, 2_100)] {
            bench.correlator.rules_changed(Rules {
                generation,
                since: at(since),
                ..no_rules(at(former_until))
            });
        }
        bench.poll(2_500, drained());
        bench.tick(7_000);
        let crosscheck = bench.correlator.crosscheck();
        (crosscheck.withdrawn, bench.events().len())
    };
    assert_eq!(settled(1_000), (0, 1));
    assert_eq!(settled(1_150), (1, 0));
}

#[test]
fn what_the_kernel_left_out_while_its_rules_were_changed_says_so_where_nothing_else_went_wrong() {
    let cause = |observed, lost| {
        let mut bench = Bench::new();
        bench.correlator.rules_unsettled(at(900), at(1_100));
        bench.correlator.rules_unsettled(at(1_050), at(1_200));
        bench.observe(observation(observed, 3));
        bench.poll(800, drained());
        bench.poll(2_500, Poll { lost, ..drained() });
        bench.tick(7_000);
        bench.events()[0].cause
    };
    assert_eq!(cause(1_150, 0), Some(Cause::RulesChanged));
    assert_eq!(cause(1_300, 0), Some(Cause::KernelUnknown));
    assert_eq!(cause(1_150, 1), Some(Cause::BacklogLimit));
}

#[test]
fn what_went_to_another_daemon_is_given_back_and_says_so() {
    let displaced = |displaced, lost| Poll {
        displaced,
        lost,
        ..drained()
    };
    let cause = |observed, lost| {
        let mut bench = Bench::new();
        for (ms, displaced_then) in [(1_000, false), (2_000, true), (3_000, true), (4_000, false)] {
            bench.poll(ms, displaced(displaced_then, 0));
        }
        bench.poll(5_000, displaced(false, lost));
        bench.observe(observation(observed, 3));
        bench.poll(6_000, drained());
        bench.tick(12_000);
        bench.events()[0].cause
    };
    for taken in [1_500, 2_500, 3_500] {
        assert_eq!(cause(taken, 0), Some(Cause::Displaced), "{taken}");
    }
    assert_eq!(cause(4_500, 0), Some(Cause::KernelUnknown));
    assert_eq!(cause(4_500, 1), Some(Cause::BacklogLimit));
    // Counted around the change of hands, a loss may be of either.
    let mut bench = Bench::new();
    bench.poll(1_000, displaced(false, 0));
    bench.observe(observation(1_500, 3));
    bench.poll(2_000, displaced(true, 4));
    bench.poll(3_000, displaced(true, 0));
    bench.tick(12_000);
    assert_eq!(bench.events()[0].cause, Some(Cause::KernelUnknown));
}

#[test]
fn a_clock_set_far_back_makes_nothing_come_out_twice() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.event(syscall_event(1_000, 5, 3));
    let back = RealtimeOffset(OFFSET.0 - 86_400_000_000_000);
    bench.correlator.tick(at(2_000), back, &mut bench.out);
    for (ms, serial) in [(3_000, 6), (70_000, 7)] {
        bench.observe(Observation {
            sequence: ms,
            ..observation(ms, 3)
        });
        let stamped = syscall_event(ms, serial, 3);
        let stamp = Stamp {
            time: TimeMs(stamped.stamp.time.0 - 86_400_000),
            ..stamped.stamp
        };
        bench.event(AuditEvent { stamp, ..stamped });
        bench.correlator.tick(at(ms + 5), back, &mut bench.out);
    }
    let outcomes: Vec<_> = bench.events().iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, [Outcome::Matched; 3]);
}

#[test]
fn what_the_stream_had_not_passed_at_the_end_is_not_called_lost_by_the_kernel() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    bench.poll(
        1_500,
        Poll {
            lost: 1,
            ..drained()
        },
    );
    bench.observe(observation(1_600, 4));
    bench.correlator.finish(at(1_700), &mut bench.out);
    let causes: Vec<_> = bench.events().iter().map(|event| event.cause).collect();
    assert_eq!(causes, [Some(Cause::BacklogLimit), Some(Cause::Stopped)]);
}

#[test]
fn what_the_stream_passed_may_still_be_in_the_reassembler() {
    let mut bench = Bench::new();
    bench.observe(observation(1_000, 3));
    // Ten seconds in the kernel's queue, then a poll that finds it empty while the event's end is still awaited.
    bench.poll(11_000, drained());
    bench.tick(11_050);
    assert!(bench.events().is_empty());
    let late = syscall_event(1_000, 5, 3);
    bench.event(AuditEvent {
        first_read: at(10_990),
        completed: at(12_990),
        ..late
    });
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

#[test]
fn arguments_of_32_bit_calls_match_by_their_low_halves() {
    let mut bench = Bench::new();
    let mut seen = observation(1_003, 3);
    (seen.arch, seen.args[0]) = (0x4000_0003, 0xffff_ff9c);
    bench.observe(seen);
    let body = "arch=40000003 syscall=257 success=yes exit=3 a0=ffffffffffffff9c a1=1000 a2=0 a3=0 items=0 ppid=1 pid=100 \
                auid=0 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=1 comm=\"a\" exe=\"/a\" key=(null)";
    bench.event(event_of(
        &[(1300, body.to_owned())],
        stamp(1_000, 5),
        Completion::Eoe,
    ));
    assert_eq!(bench.events()[0].outcome, Outcome::Matched);
}

fn maybe(ms: u64, result: i64) -> Observation {
    Observation {
        verdict: Verdict::Maybe,
        rule: None,
        ..observation(ms, result)
    }
}

#[test]
fn a_maybe_that_can_be_settled_is_expected_or_left_out() {
    let mut bench = Bench::new();
    bench.observe(maybe(1_000, 5));
    bench.observe(maybe(1_001, 6));
    bench.observe(maybe(1_002, 8));
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(
        (crosscheck.expected, crosscheck.pending_observations),
        (1, 1)
    );
    bench.poll(1_500, drained());
    bench.tick(5_600);
    let [event] = bench.events()[..] else {
        panic!("{:?}", bench.out);
    };
    assert_eq!(event.outcome, Outcome::Backfilled);
    assert_eq!(event.verdict, Some(Verdict::Inferred));
    assert_eq!(event.rule_keys.as_ref().unwrap()[0], (*b"opens").into());
    let crosscheck = bench.correlator.crosscheck();
    assert_eq!(
        (crosscheck.maybe_settled_yes, crosscheck.maybe_settled_no),
        (1, 1)
    );
    assert_eq!(crosscheck.maybe_unconfirmed, 1);
    assert!(crosscheck.balances());
}

#[test]
fn a_maybe_about_a_path_waits_until_the_path_was_looked_at() {
    let mut bench = Bench::new();
    bench.observe(maybe(1_000, 7));
    assert_eq!(bench.correlator.crosscheck().expected, 0);
    let mut places = Places::default();
    places.look([], at(1_900), at(1_901));
    bench.correlator.places_seen(places);
    assert_eq!(bench.correlator.crosscheck().expected, 1);
    bench.poll(2_000, drained());
    bench.tick(5_600);
    assert_eq!(bench.events()[0].outcome, Outcome::Backfilled);
    assert!(bench.correlator.crosscheck().balances());
}
