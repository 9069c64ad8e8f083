//! The document: the account as JSON, version 1.
//!
//! Owns its names; the same types write and read it. Times are milliseconds since 1970. Counts never go down while a
//! collector runs, but for `pending` and for a row that `other` has taken up.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Breakdown, Tally};
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::event::{Cause, Outcome};
use crate::output::abi::{arch_name, syscall_name};

/// The schema's version, the `v` of each document.
pub const VERSION: u32 = 1;

/// Whose account it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// When it began.
    pub started_ms: u64,
}

impl Identity {
    /// This process, which begins now.
    pub fn of_this_process() -> Self {
        let TimeMs(started_ms) = RealtimeOffset::sample().wall(KtimeNs::now());
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms,
        }
    }
}

/// The account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub v: u32,
    /// Whose it is.
    pub collector: Identity,
    /// When it was taken.
    pub time_ms: u64,
    /// `daemon` or `multicast`; empty before the first record could have come.
    pub source: String,
    /// `syscalls` or `audit-hooks`; none without an eBPF witness.
    pub level: Option<String>,
    /// The expected events, and what else came.
    pub events: Events,
    /// What was lost and why, as far as anything was; see [`CauseRow`].
    pub causes: Vec<CauseRow>,
    /// Settled events by rule key.
    pub keys: Table<KeyRow>,
    /// Settled events by call.
    pub syscalls: Table<SyscallRow>,
    /// Settled events by real user id.
    pub uids: Table<UidRow>,
}

/// Identity: `expected = matched + backfilled + unrecovered + withdrawn + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that the kernel should have reported.
    pub expected: u64,
    /// Both witnesses reported them.
    pub matched: u64,
    /// eBPF gave them back.
    pub backfilled: u64,
    /// Neither witness has them.
    pub unrecovered: u64,
    /// Nobody expects them any more.
    pub withdrawn: u64,
    /// Not settled yet.
    pub pending: u64,
    /// Events of the audit stream that the witness should have seen, and did not.
    pub audit_only: u64,
    /// The same, at a time when observations were lost.
    pub uncertain: u64,
    /// Events of the audit stream that no program of ours watches.
    pub unwatched: u64,
    /// Observed calls of which it is not known whether the kernel should have reported them, and that it did not report.
    pub maybe: u64,
    /// Records that the kernel counts as lost.
    pub kernel_lost_records: u64,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseRow {
    /// Where.
    pub stage: String,
    /// Why.
    pub cause: String,
    /// What somebody counted as lost: records of the kernel and of the sockets, observations of eBPF.
    pub counted: u64,
    /// Events that the audit stream did not have, and eBPF gave back.
    pub backfilled: u64,
    /// Events that neither has.
    pub unrecovered: u64,
    /// Events that came, and whose observation may have been lost by this.
    pub uncertain: u64,
}

/// A breakdown. Its rows, `other` and `unknown` add up to the totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table<Row> {
    /// Most events first.
    pub rows: Vec<Row>,
    /// What is too rare for a row.
    pub other: Counts,
    /// Of what the value is not known.
    pub unknown: Counts,
}

/// Settled events; `expected` is their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `Events`")]
pub struct Counts {
    pub expected: u64,
    pub matched: u64,
    pub backfilled: u64,
    pub unrecovered: u64,
    pub withdrawn: u64,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// As the kernel holds it, several joined by U+0001; empty for rules without a key.
    pub key: String,
    /// Its bytes in hex, where the text is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hex: Option<String>,
    /// What became of its events.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallRow {
    /// The architecture, eight hex digits where it has no name.
    pub arch: String,
    /// The number.
    pub number: u32,
    /// The name, where it has one.
    pub name: Option<String>,
    /// What became of its events.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UidRow {
    /// The real user id.
    pub uid: u32,
    /// The name, which the collector leaves to the reader to look up.
    pub name: Option<String>,
    /// What became of its events.
    #[serde(flatten)]
    pub counts: Counts,
}

impl Document {
    /// The account of a collector.
    pub fn of(account: &Account, identity: &Identity) -> Self {
        let crosscheck = &account.crosscheck;
        let settled = crosscheck.settled_expected();
        let TimeMs(time_ms) = account.at;
        Self {
            v: VERSION,
            collector: identity.clone(),
            time_ms,
            source: account.input.source.to_owned(),
            level: account.level.map(|level| level.name().to_owned()),
            events: Events {
                expected: crosscheck.expected,
                matched: settled.matched,
                backfilled: settled.backfilled,
                unrecovered: settled.unrecovered,
                withdrawn: settled.withdrawn,
                pending: crosscheck.pending_observations,
                audit_only: crosscheck.total(Outcome::AuditOnly),
                uncertain: crosscheck.total(Outcome::Uncertain),
                unwatched: crosscheck.unwatched,
                maybe: crosscheck.maybe_unconfirmed,
                kernel_lost_records: account.kernel.lost,
            },
            causes: Cause::ALL
                .into_iter()
                .filter_map(|cause| CauseRow::of(account, cause))
                .collect(),
            keys: Table::of(&crosscheck.by_key, |key, counts| KeyRow {
                key: String::from_utf8_lossy(key).into_owned(),
                key_hex: str::from_utf8(key).is_err().then(|| hex(key)),
                counts,
            }),
            syscalls: Table::of(&crosscheck.by_syscall, |(arch, number), counts| {
                let name = arch_name(*arch);
                SyscallRow {
                    arch: name.map_or_else(|| format!("{arch:08x}"), str::to_owned),
                    number: *number,
                    name: syscall_name(*arch, *number).map(str::to_owned),
                    counts,
                }
            }),
            uids: Table::of(&crosscheck.by_uid, |uid, counts| UidRow {
                uid: *uid,
                name: None,
                counts,
            }),
        }
    }
}

impl CauseRow {
    /// None where nothing was lost by it.
    fn of(account: &Account, cause: Cause) -> Option<Self> {
        let of = |counts: Option<&u64>| counts.copied().unwrap_or_default();
        let by_cause = &account.crosscheck.by_cause;
        let row = Self {
            stage: cause.stage().name().to_owned(),
            cause: cause.name().to_owned(),
            counted: of(account.losses.get(&cause)),
            backfilled: of(by_cause.get(&(Outcome::Backfilled, cause))),
            unrecovered: of(by_cause.get(&(Outcome::Unrecovered, cause))),
            uncertain: of(by_cause.get(&(Outcome::Uncertain, cause))),
        };
        let events = row.backfilled + row.unrecovered + row.uncertain;
        (row.counted + events > 0).then_some(row)
    }
}

impl<Row> Table<Row> {
    fn of<V: Ord + std::hash::Hash + Clone, const ROWS: usize>(
        breakdown: &Breakdown<V, ROWS>,
        row: impl Fn(&V, Counts) -> Row,
    ) -> Self {
        let rows = breakdown.rows().into_iter();
        Self {
            rows: rows
                .map(|(value, tally)| row(value, tally.into()))
                .collect(),
            other: breakdown.other().into(),
            unknown: breakdown.unknown().into(),
        }
    }
}

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        Self {
            expected: tally.expected(),
            matched: tally.matched,
            backfilled: tally.backfilled,
            unrecovered: tally.unrecovered,
            withdrawn: tally.withdrawn,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
