//! What the collector hands to its sinks: merged events, loss events and state events.
//!
//! Owns the domain types of the stream and the closed vocabularies (outcome, stage, cause) that the ledger, the
//! metrics and the renderers share. Knows nothing of JSON or of any wire format.

pub mod lacking;

use crate::audit::event::AuditEvent;
use crate::audit::record::{RecordType, Serial};
use crate::audit::rules::Keys;
use crate::clock::TimeMs;
use crate::probe::observation::{Observation, Verdict};

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Both witnesses reported it.
    Matched,
    /// The kernel should have reported it, did not, and eBPF gave it back.
    Backfilled,
    /// Only the audit stream reported it.
    AuditOnly,
    /// Only the audit stream reported it, and observations were being lost: what that means cannot be said.
    Uncertain,
    /// The kernel stamped it, and neither witness has it.
    Unrecovered,
}

impl Outcome {
    /// Every outcome, for metrics created at zero.
    pub const ALL: [Self; 5] = [
        Self::Matched,
        Self::Backfilled,
        Self::AuditOnly,
        Self::Uncertain,
        Self::Unrecovered,
    ];

    /// The name in metrics and in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Backfilled => "backfilled",
            Self::AuditOnly => "audit_only",
            Self::Uncertain => "uncertain",
            Self::Unrecovered => "unrecovered",
        }
    }
}

/// Where something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Inside the kernel's audit subsystem.
    Kernel,
    /// Between the kernel's audit queue and our socket.
    Netlink,
    /// Inside the collector.
    Collector,
    /// On the way from the BPF programs.
    Ebpf,
    /// In a sink.
    Sink,
}

impl Stage {
    /// The name in metrics and in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Netlink => "netlink",
            Self::Collector => "collector",
            Self::Ebpf => "ebpf",
            Self::Sink => "sink",
        }
    }
}

/// Why something was lost. Each cause belongs to one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The kernel's audit queue was longer than `backlog_limit` (kernel/audit.c `audit_log_start`).
    BacklogLimit,
    /// More records in a second than `rate_limit` (kernel/audit.c `audit_log_end`).
    RateLimit,
    /// The kernel had no memory for a record, or for all of it.
    OutOfMemory,
    /// The daemon did not read, and the queue of what is to be sent to it again was full (kernel/audit.c
    /// `kauditd_retry_skb`, `kauditd_hold_skb`).
    RetryOverflow,
    /// There was no daemon, and the queue of what is kept for one was full (kernel/audit.c `kauditd_hold_skb`).
    HoldOverflow,
    /// The task had no audit context: it is older than auditing, or a task rule exempts it.
    NoContext,
    /// Auditing was switched off.
    AuditDisabled,
    /// The rules in the kernel were being changed: for a moment they were not those the witness judged by.
    RulesChanged,
    /// The kernel lost it, and the evidence does not tell why.
    KernelUnknown,
    /// Another process was the audit daemon in our place, or nobody was: the kernel did not send to us.
    Displaced,
    /// Our socket's receive buffer was full (ENOBUFS, SO_MEMINFO drops).
    SocketOverrun,
    /// A datagram was longer than the read buffer.
    SocketTruncated,
    /// A queue of the collector was full.
    QueueFull,
    /// A record could not be parsed.
    Malformed,
    /// Too many events were being assembled or matched.
    WindowFull,
    /// The ring buffer was full.
    RingFull,
    /// The map of calls in flight was full.
    InFlightFull,
    /// The kernel left out runs of the programs.
    MissedRun,
    /// The collector ended before it was decided whether the event was lost.
    Stopped,
    /// The collector was not running.
    NotRunning,
    /// The sink could not be written.
    SinkError,
}

impl Cause {
    /// Every cause, for metrics created at zero.
    pub const ALL: [Self; 21] = [
        Self::BacklogLimit,
        Self::RateLimit,
        Self::OutOfMemory,
        Self::RetryOverflow,
        Self::HoldOverflow,
        Self::NoContext,
        Self::AuditDisabled,
        Self::RulesChanged,
        Self::KernelUnknown,
        Self::Displaced,
        Self::SocketOverrun,
        Self::SocketTruncated,
        Self::QueueFull,
        Self::Malformed,
        Self::WindowFull,
        Self::RingFull,
        Self::InFlightFull,
        Self::MissedRun,
        Self::Stopped,
        Self::NotRunning,
        Self::SinkError,
    ];

    /// Those for which records can be lost of which there is a copy.
    pub const COPIED: [Self; 7] = [
        Self::RetryOverflow,
        Self::HoldOverflow,
        Self::KernelUnknown,
        Self::Displaced,
        Self::SocketOverrun,
        Self::QueueFull,
        Self::Stopped,
    ];

    /// Where this cause acts.
    pub const fn stage(self) -> Stage {
        match self {
            Self::BacklogLimit
            | Self::RateLimit
            | Self::OutOfMemory
            | Self::RetryOverflow
            | Self::HoldOverflow
            | Self::NoContext
            | Self::AuditDisabled
            | Self::RulesChanged
            | Self::KernelUnknown => Stage::Kernel,
            Self::Displaced | Self::SocketOverrun | Self::SocketTruncated => Stage::Netlink,
            Self::QueueFull
            | Self::Malformed
            | Self::WindowFull
            | Self::Stopped
            | Self::NotRunning => Stage::Collector,
            Self::RingFull | Self::InFlightFull | Self::MissedRun => Stage::Ebpf,
            Self::SinkError => Stage::Sink,
        }
    }

    /// The name in metrics and in the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BacklogLimit => "backlog_limit",
            Self::RateLimit => "rate_limit",
            Self::OutOfMemory => "out_of_memory",
            Self::RetryOverflow => "retry_overflow",
            Self::HoldOverflow => "hold_overflow",
            Self::NoContext => "no_context",
            Self::AuditDisabled => "audit_disabled",
            Self::RulesChanged => "rules_changed",
            Self::KernelUnknown => "unknown",
            Self::Displaced => "displaced",
            Self::SocketOverrun => "socket_overrun",
            Self::SocketTruncated => "socket_truncated",
            Self::QueueFull => "queue_full",
            Self::Malformed => "malformed",
            Self::WindowFull => "window_full",
            Self::RingFull => "ring_full",
            Self::InFlightFull => "in_flight_full",
            Self::MissedRun => "missed_run",
            Self::Stopped => "stopped",
            Self::NotRunning => "not_running",
            Self::SinkError => "sink_error",
        }
    }
}

/// A line of the stream.
#[derive(Clone, Debug)]
pub enum Output {
    /// One event of the host.
    Event(Box<Event>),
    /// Something was lost.
    Loss(Loss),
    /// The collector's own state changed.
    State(State),
}

/// A merged event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unique for ever together with the boot id.
    pub id: EventId,
    /// The kernel's serial; none where none was consumed or none is known.
    pub serial: Option<Serial>,
    /// For an event without a serial: the serials between whose events it fell, where they are known.
    pub between: (Option<Serial>, Option<Serial>),
    /// Time of the call as in the stamp.
    pub time: TimeMs,
    /// What became of it.
    pub outcome: Outcome,
    /// How it is known that the kernel meant to report it; none for events no witness of ours watches.
    pub verdict: Option<Verdict>,
    /// Why the audit stream did not have it, or not all of it.
    pub cause: Option<Cause>,
    /// How the two parts were found to belong together; none where there is only one.
    pub matched_by: Option<MatchedBy>,
    /// The keys of the rule that asks for the event, for events that do not say it themselves; none where it is not known which
    /// rule that is.
    pub rule_keys: Option<Keys>,
    /// The types of records that the exclude list keeps from it, of those that are missed where they do not come.
    pub excluded: Vec<RecordType>,
    /// The audit stream's part.
    pub audit: Option<AuditEvent>,
    /// The eBPF witness's part.
    pub observation: Option<Box<Observation>>,
    /// The `id` of an event emitted earlier that this one replaces: a backfilled one whose records came late after all.
    pub supersedes: Option<EventId>,
}

/// How an observation and an audit event were matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchedBy {
    /// Both carry the serial.
    Serial,
    /// By process, arch, call, arguments and result, nearest in time.
    Key,
    /// The SYSCALL record was lost; by what the remaining records say (paths, directory, address) and the neighbouring serials.
    Content,
}

/// What makes an event's id, beside the boot id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventId {
    /// The stamp of the kernel; `part` counts from 0 and is above it only for records that came after their event.
    Audit {
        /// The stamp's time: a serial alone repeats after 2³² events.
        time: TimeMs,
        /// The stamp's serial.
        serial: Serial,
        /// 0, or the number of the late part.
        part: u16,
    },
    /// The observation's own number.
    Ebpf {
        /// When the sample was taken.
        taken: crate::clock::KtimeNs,
        /// The CPU it was taken on.
        cpu: u16,
        /// That CPU's count.
        sequence: u64,
    },
}

/// A run of losses of one cause, as the stream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it is told.
    pub time: TimeMs,
    /// Why, which also says where.
    pub cause: Cause,
    /// How many records or observations were lost; see `unit`.
    pub count: u64,
    /// What `count` counts.
    pub unit: LossUnit,
    /// Of how many of these events eBPF told in place of the audit stream; none where somebody counted what was lost, and it is not
    /// known whose it was.
    pub recovered: Option<u64>,
    /// The first and the last serial known to be missing; others in between may have come.
    pub serials: Option<(Serial, Serial)>,
    /// Where none is known: the serials between which it happened, as far as these are known.
    pub between: (Option<Serial>, Option<Serial>),
    /// Between which times it happened.
    pub span: Option<(TimeMs, TimeMs)>,
}

/// What a loss counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossUnit {
    /// Audit records.
    Records,
    /// Audit events.
    Events,
    /// eBPF observations.
    Observations,
}

/// A change of the collector's own state, as the stream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// When.
    pub time: TimeMs,
    /// What happened: `started`, `stopped`, `rules_changed`, `status_changed`, `clock_stepped`, …
    pub what: StateChange,
    /// One line for a person.
    pub message: String,
}

/// What kind of change a [`State`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateChange {
    /// The collector began.
    Started,
    /// The collector ended in order; the message holds the account.
    Stopped,
    /// The rules in the kernel changed.
    RulesChanged,
    /// The rules in the kernel are no longer the configured ones, or others than before are missing or too many.
    RulesDrifted,
    /// The rules in the kernel are the configured ones again.
    RulesInSync,
    /// The collector put the configured rules back, or could not.
    RulesEnforced,
    /// The kernel sends to another daemon, or to nobody, in place of us.
    Displaced,
    /// The kernel sends to us again.
    Reclaimed,
    /// A setting of the kernel's audit subsystem changed.
    StatusChanged,
    /// The wall clock was stepped.
    ClockStepped,
    /// The witness changed: attached, detached, became uncertain.
    WitnessChanged,
}
