//! The running account of the collector: every number it exports, as one plain value.
//!
//! Owns the data types of the account. The pipeline's core updates one `Account` and publishes copies of it; metrics,
//! the account line and `status` only read such copies, so that all of them say the same. Counters here never go down.

mod breakdown;
mod identities;
mod rule_events;

use std::collections::BTreeMap;
use std::time::Duration;

use collector_ebpf::LossReason;

pub use breakdown::{Breakdown, Tally};
pub use rule_events::RuleEvents;

use crate::audit::record::Stamp;
use crate::audit::status::KernelStatus;
use crate::byte_string::ByteString;
use crate::clock::{KtimeNs, TimeMs};
use crate::event::{Cause, Outcome};
use crate::probe::hooks::Level;
use crate::probe::observation::Verdict;
use crate::verify::Table;

/// Everything the collector counts.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// When this copy was taken.
    pub at: TimeMs,
    /// What came in.
    pub input: Input,
    /// What was copied in the kernel.
    pub mirror: Mirror,
    /// What the reassembler did.
    pub assembly: Assembly,
    /// Serials.
    pub serials: Serials,
    /// What the cross-check found.
    pub crosscheck: Crosscheck,
    /// Records, events or observations lost, by cause (see each cause's `unit` in the stream).
    pub losses: BTreeMap<Cause, u64>,
    /// The kernel's own figures.
    pub kernel: Kernel,
    /// The sockets, by the name the `socket` label has: `events`, `control`.
    pub sockets: BTreeMap<&'static str, Socket>,
    /// What the eBPF witness can tell; none without one.
    pub level: Option<Level>,
    /// The eBPF witness, where it is attached.
    pub ebpf: Option<Ebpf>,
    /// The rules in the kernel by list name, as last read.
    pub rules_loaded: BTreeMap<&'static str, u64>,
    /// When the rules were last seen to change.
    pub rules_changed: Option<TimeMs>,
    /// Whether they are the configured ones; none where none are configured, or they have not been compared.
    pub rules_in_sync: Option<bool>,
    /// How often the configured rules were put back, by result (`done`, `failed`).
    pub rules_reloads: BTreeMap<&'static str, u64>,
    /// Events by the key of the rule that reported them.
    pub rule_events: RuleEvents,
    /// The canary; none where none is sent.
    pub canary: Option<Canary>,
    /// The sinks, by name.
    pub sinks: BTreeMap<String, Sink>,
    /// What came of rebuilding matched events from eBPF alone.
    pub verify: Table,
    /// From the kernel's stamp to the hand-over to the sinks.
    pub merge_latency: Histogram,
    /// From the first record or observation of an event to its completion.
    pub merge_wait: Histogram,
}

/// Identity: `records = parsed + malformed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The mode's name, the `source` label: `daemon`, `multicast`, `replay`.
    pub source: &'static str,
    /// Records read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records parsed.
    pub parsed: u64,
    /// Records that could not be parsed.
    pub malformed: u64,
}

/// Records whose text was copied behind the kernel's queue. Identity:
/// `received = confirmed + given_back + put_behind + malformed + cut + unjudged + waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Texts taken in.
    pub received: u64,
    /// Copies whose record came by the audit stream, or was told to be lost by a text of its own.
    pub confirmed: u64,
    /// Records given back, by why the stream lost them.
    pub given_back: BTreeMap<Cause, u64>,
    /// Records that are told to come behind the rest of their event.
    pub put_behind: u64,
    /// Texts that could not be parsed.
    pub malformed: u64,
    /// Texts longer than what is sent of one.
    pub cut: u64,
    /// Copies given up because too many waited.
    pub unjudged: u64,
    /// Copies that wait for their record.
    pub waiting: u64,
}

/// Identity: `begun = emitted + pending + evicted`, where `emitted` is the sum over the reasons but `evicted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    /// Events begun.
    pub begun: u64,
    /// Events ended by their end-of-event record.
    pub completed: u64,
    /// Events of types that stand alone.
    pub standalone: u64,
    /// Events handed on at the timeout.
    pub timed_out: u64,
    /// Events handed on because too many were in flight.
    pub evicted: u64,
    /// Events handed on when the input ended.
    pub flushed: u64,
    /// Records that came after their event had been handed on.
    pub late_records: u64,
    /// Records that repeat one of the same event to the byte.
    pub duplicate_records: u64,
    /// Events in flight.
    pub pending: u64,
    /// How many may be.
    pub pending_limit: u64,
}

/// Holes in the serials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serials {
    /// Gaps that outlived the reorder window.
    pub gaps: u64,
    /// Serials in them.
    pub missing: u64,
    /// The furthest serial seen.
    pub furthest: Option<Stamp>,
}

/// Identity: `expected = matched + backfilled + unrecovered + withdrawn + pending`, over the verdicts exact and inferred; what is
/// settled of them is the sum of each breakdown as well.
#[derive(Clone, Debug, Default)]
pub struct Crosscheck {
    /// Events the witness or the serials say the kernel should have reported.
    pub expected: u64,
    /// Events settled, by verdict and outcome. Events no witness watches (messages from user space …) are not in here.
    pub settled: BTreeMap<(Verdict, Outcome), u64>,
    /// Backfilled and unrecovered events, by cause.
    pub by_cause: BTreeMap<(Outcome, Cause), u64>,
    /// Expected events that are settled, by the key of the rule that asks for them: as the kernel holds it, several joined by
    /// 0x01, cut at [`Crosscheck::KEY_BYTES`]; empty for a rule without one.
    pub by_key: Breakdown<ByteString, 64>,
    /// The same by call: `AUDIT_ARCH_*` and number.
    pub by_syscall: Breakdown<(u32, u32), 128>,
    /// The same by real user id.
    pub by_uid: Breakdown<u32, 64>,
    /// Observations whose verdict the rules in force at their time, learnt of later, do not bear out.
    pub withdrawn: u64,
    /// Observations with a `maybe` verdict that no audit event came for: no event is known to be missing.
    pub maybe_unconfirmed: u64,
    /// Observations with a `maybe` verdict of which the collector found that the kernel reports the call: expected
    /// since, and counted as such.
    pub maybe_settled_yes: u64,
    /// The same of which it found that the kernel does not: left out.
    pub maybe_settled_no: u64,
    /// Events of the audit stream that no eBPF program of ours watches.
    pub unwatched: u64,
    /// Expected observations waiting for their audit event.
    pub pending_observations: u64,
    /// Audit events waiting for their observation.
    pub pending_events: u64,
    /// Audit events whose records came after they had been backfilled.
    pub superseded: u64,
    /// Since when observations have been lost; none where none were within the last 10 s.
    pub uncertain_since: Option<KtimeNs>,
}

/// The kernel's status as polled.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The last status read.
    pub status: Option<KernelStatus>,
    /// The most records that a status read within the last minute showed waiting in the kernel's queue.
    pub backlog_peak: u64,
    /// When.
    pub last_success: Option<TimeMs>,
    /// Whether the registered daemon was this process then.
    pub daemon_is_self: Option<bool>,
    /// Records lost as the kernel counts them, across wraps and resets, since the collector started.
    pub lost: u64,
    /// Times `lost` went backwards.
    pub lost_resets: u64,
    /// Time tasks were blocked on the queue since the collector started; none where the kernel does not tell, or in a unit
    /// that is not known.
    pub backlog_wait: Option<Duration>,
    /// Failed polls, by the error's name.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Messages of our own that are sent to the kernel and timed until they are handed to the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Canary {
    /// How far apart they are sent.
    pub interval: Duration,
    /// Sent, also where the kernel refused them.
    pub sent: u64,
    /// Seen again, and handed to the sink.
    pub received: u64,
    /// When one was last seen again; before the first, since when they have been sent.
    pub last_success: TimeMs,
    /// From the sending to the hand-over.
    pub latency: Histogram,
}

/// One netlink socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// Times it reported ENOBUFS.
    pub overruns: u64,
    /// Datagrams the kernel dropped at it (SK_MEMINFO_DROPS).
    pub drops: u64,
    /// Size of the receive buffer in bytes.
    pub receive_buffer: u64,
    /// Bytes waiting in it.
    pub queued: u64,
}

/// The eBPF witness. Identities: `attempted = submitted + refused`, of the drops `ring_full` and `in_flight_full`;
/// `submitted = read + still in the ring`.
#[derive(Clone, Debug, Default)]
pub struct Ebpf {
    /// Programs by name, and whether each is attached.
    pub programs: BTreeMap<&'static str, bool>,
    /// Samples the programs tried to send.
    pub attempted: u64,
    /// Samples they sent.
    pub submitted: u64,
    /// Samples read from the ring, by program.
    pub read: BTreeMap<&'static str, u64>,
    /// Samples that did not come through, by reason (`ring_full`, `in_flight_full`, `missed_run`, `undecodable`).
    pub dropped: BTreeMap<&'static str, u64>,
    /// Records the kernel has given up since the witness watches, by [`LossReason`]; none where no program sees that.
    pub lost_records: Option<[u64; LossReason::COUNT]>,
    /// Texts of records on their way through a ring of their own.
    pub texts: Texts,
    /// Arguments and strings that could not be read.
    pub unreadable: u64,
    /// Size of the ring in bytes.
    pub ring_size: u64,
    /// Bytes in it not yet read.
    pub ring_used: u64,
    /// The most that was in it within the last minute.
    pub ring_used_peak: u64,
    /// What the kernel measured of each program; only of those it has measured, as `kernel.bpf_stats_enabled` asks.
    pub runs: BTreeMap<&'static str, ProgramRuns>,
    /// Times each program was skipped because it was running already on that CPU.
    pub missed_runs: BTreeMap<&'static str, u64>,
    /// Failed updates of maps, by map: of `in_flight` and `kept` by the programs, of the others by us.
    pub map_update_errors: BTreeMap<&'static str, u64>,
    /// Maps by name: entries and capacity.
    pub maps: BTreeMap<&'static str, (u64, u64)>,
}

/// Texts of records from the kernel. Identity, while no program is running: `submitted = read + still in the ring`.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Records that the kernel dropped because it was booted without `audit=1`, and does not count.
    pub not_held: u64,
    /// Records that found our multicast socket full.
    pub overruns: u64,
    /// Texts put into the ring.
    pub submitted: u64,
    /// Texts read from it.
    pub read: u64,
    /// Texts that did not come through, by reason (`ring_full`, `unreadable`, `missed_run`, `undecodable`).
    pub dropped: BTreeMap<&'static str, u64>,
    /// Size of the ring in bytes; 0 where no texts are sent.
    pub ring_size: u64,
    /// Bytes in it not yet read.
    pub ring_used: u64,
    /// The most that was in it within the last minute.
    pub ring_used_peak: u64,
}

/// The kernel's figures of one BPF program (`struct bpf_prog_info` of include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Times it ran.
    pub runs: u64,
    /// Time it ran.
    pub time: Duration,
}

/// One sink. Identity: `handed_over = delivered + dropped + queued`.
#[derive(Clone, Debug, Default)]
pub struct Sink {
    /// Lines handed to it.
    pub handed_over: u64,
    /// Lines written.
    pub delivered: u64,
    /// Bytes written.
    pub delivered_bytes: u64,
    /// Lines given up, by reason (`queue_full`, `write_error`, `deadline`).
    pub dropped: BTreeMap<&'static str, u64>,
    /// Lines waiting.
    pub queued: u64,
    /// Bytes waiting.
    pub queued_bytes: u64,
    /// Bytes that may wait.
    pub queue_capacity_bytes: u64,
    /// Failed writes by kind (`disk_full`, `closed`, `other`).
    pub errors: BTreeMap<&'static str, u64>,
    /// Writes that repeat a failed one.
    pub retries: u64,
    /// Time of the oldest line waiting; none where none waits.
    pub oldest_pending: Option<TimeMs>,
    /// Time each write took.
    pub delivery_duration: Histogram,
    /// Whether the last write succeeded.
    pub up: bool,
    /// When a write last succeeded.
    pub last_success: Option<TimeMs>,
}

/// A histogram with fixed buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations in each bucket of [`Histogram::BOUNDS`], not cumulative; the last is for what is above them all.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// Sum of all observations in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Upper bounds in seconds.
    ///
    /// A write into the page cache takes tens of microseconds; an event that is given back has waited for the reorder window,
    /// and seldom for more than a minute.
    pub const BOUNDS: [f64; 16] = [
        0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 60.0,
    ];

    /// Adds one observation.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
    }
}

impl Crosscheck {
    /// As long as the kernel lets all keys of a rule be together (`AUDIT_MAX_KEY_LEN`, include/uapi/linux/audit.h).
    pub const KEY_BYTES: usize = 256;

    /// The expected events that are settled: verdicts exact and inferred.
    pub fn settled_expected(&self) -> Tally {
        let count = |outcome| {
            let verdicts = [Verdict::Exact, Verdict::Inferred].into_iter();
            verdicts
                .filter_map(|verdict| self.settled.get(&(verdict, outcome)))
                .sum()
        };
        Tally {
            matched: count(Outcome::Matched),
            backfilled: count(Outcome::Backfilled),
            unrecovered: count(Outcome::Unrecovered),
            withdrawn: self.withdrawn,
        }
    }

    /// How many events have `outcome`, whatever the verdict.
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.settled
            .iter()
            .filter(|((_, o), _)| *o == outcome)
            .map(|(_, n)| n)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_a_bound_counts_in_the_bucket_it_closes() {
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(1));
        histogram.observe(Duration::from_secs(61));
        assert_eq!(histogram.counts[2], 1);
        assert_eq!(histogram.counts[Histogram::BOUNDS.len()], 1);
    }
}
