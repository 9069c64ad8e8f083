//! How far a backfilled event can be trusted: events that both witnesses reported are rebuilt from eBPF alone, by the very code that
//! gives lost ones back, and compared with what the kernel wrote, field by field.
//!
//! Owns which events are taken and what came out. Must not change an event, do I/O, or read a clock. What it keeps is one
//! counter per field of a closed table and one short example of each that was wrong.

mod compare;
mod table;

pub use table::{Example, Place, Table, Tally};

use crate::audit::arch::Arch;
use crate::audit::event::{Completion, Records};
use crate::audit::record::RecordType;
use crate::clock::KtimeNs;
use crate::event::{Event, MatchedBy, Outcome};
use crate::rebuild::rebuild;

/// Which events are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// At most so many in a second, 0 for none.
    PerSecond(u32),
    /// All of them.
    All,
}

impl Default for Sampling {
    /// So few that it does not show: each takes some 20 µs.
    fn default() -> Self {
        Self::PerSecond(20)
    }
}

/// Takes events and compares them.
#[derive(Debug, Default)]
pub struct Verifier {
    sampling: Sampling,
    /// How many may be taken before the next second is begun.
    left: u32,
    second: u64,
    table: Table,
}

impl Verifier {
    /// One that has compared nothing.
    pub fn new(sampling: Sampling) -> Self {
        Self {
            sampling,
            ..Self::default()
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: KtimeNs) {
        const SECOND: u64 = 1_000_000_000;
        let second = now.0 / SECOND + 1;
        if let Sampling::PerSecond(most) = self.sampling
            && second != self.second
        {
            self.second = second;
            self.left = most;
        }
    }

    /// Compares `event`, where there is something to compare and it is to be taken.
    pub fn event(&mut self, event: &Event) {
        let Some((records, rebuilt_from)) = parts(event) else {
            return;
        };
        match self.sampling {
            Sampling::All => {}
            Sampling::PerSecond(_) if self.left > 0 => self.left -= 1,
            Sampling::PerSecond(_) => return,
        }
        let rebuilt = rebuild(rebuilt_from, event.rule_keys.as_deref());
        let call = Arch(rebuilt_from.arch).syscall_name(rebuilt_from.syscall);
        compare::compare(call.unwrap_or("?"), records, &rebuilt, &mut self.table);
    }

    /// What came out so far.
    pub const fn table(&self) -> &Table {
        &self.table
    }
}

/// The two sides of an event that came whole. One that was matched by its content says that its SYSCALL record was lost; and what
/// has a cause lacks something else.
fn parts(event: &Event) -> Option<(&Records, &crate::probe::observation::Observation)> {
    let whole = event.outcome == Outcome::Matched
        && event.cause.is_none()
        && event.matched_by.is_some_and(|by| by != MatchedBy::Content);
    let audit = event.audit.as_ref().filter(|_| whole)?;
    let has_call = audit
        .records
        .iter()
        .any(|record| record.record_type == RecordType::SYSCALL);
    if audit.completion != Completion::Eoe || !has_call {
        return None;
    }
    Some((&audit.records, event.observation.as_deref()?))
}

#[cfg(test)]
mod tests;
