//! io_uring operations that ran inside a call.
//!
//! Their records are part of the call's event and come before the others, and so do their observations: these wait for
//! the one of the call, and are one with it from then on. What finds no call is an event of its own, which the kernel
//! writes too, where a rule of the exit list leaves the call out.

use std::collections::HashMap;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::{Record, RecordType, Stamp};
use crate::clock::KtimeNs;
use crate::correlate::observations::Pending;
use crate::probe::observation::{Observation, Report};

/// By thread, which is in one call at a time.
#[derive(Debug, Default)]
pub(super) struct Operations {
    by_thread: HashMap<u32, Pending>,
    n_bytes: usize,
}

impl Operations {
    /// Threads inside a call that did such operations; of more, those that wait longest stand alone.
    const CAPACITY: usize = 4_096;
    /// Operations of one call that are kept together.
    const PER_CALL: usize = 4_096;
    /// Bytes of their samples, of all calls together.
    const MAX_BYTES: usize = 64 << 20;

    /// Keeps operations until their call is observed; returns what can find no call any more.
    pub(super) fn hold(&mut self, pending: Pending) -> Option<Pending> {
        let thread = pending.observation.tid;
        self.n_bytes += pending.observation.n_bytes;
        if let Some(held) = self.by_thread.get_mut(&thread)
            && held.observation.operations.len() < Self::PER_CALL
            && same_event(&held.observation, &pending.observation)
        {
            join(&mut held.observation, *pending.observation);
        } else if let Some(former) = self.by_thread.insert(thread, pending) {
            self.n_bytes -= former.observation.n_bytes;
            return Some(former);
        }
        if self.by_thread.len() <= Self::CAPACITY && self.n_bytes <= Self::MAX_BYTES {
            return None;
        }
        let oldest = self.by_thread.iter().min_by_key(|(_, held)| held.arrived);
        let thread = oldest.map(|(thread, _)| *thread)?;
        self.take(thread)
    }

    fn take(&mut self, thread: u32) -> Option<Pending> {
        let held = self.by_thread.remove(&thread)?;
        self.n_bytes -= held.observation.n_bytes;
        Some(held)
    }

    /// Adds to the observation of a call what was held for it.
    pub(super) fn join_call(&mut self, call: &mut Observation) {
        let held = self.by_thread.get(&call.tid);
        if held.is_some_and(|held| same_event(&held.observation, call))
            && let Some(held) = self.take(call.tid)
        {
            join(call, *held.observation);
        }
    }

    /// Takes the operations whose records have this stamp.
    pub(super) fn take_by_stamp(&mut self, stamp: Stamp) -> Option<Pending> {
        let has_stamp = |held: &Pending| {
            let report = held.observation.report;
            report.and_then(|report| report.stamp()) == Some(stamp)
        };
        let mut found = self.by_thread.iter().filter(|(_, held)| has_stamp(held));
        let thread = found.next().map(|(thread, _)| *thread)?;
        self.take(thread)
    }

    /// Takes those that have waited since `since` or longer.
    pub(super) fn take_older_than(&mut self, since: KtimeNs) -> Vec<Pending> {
        let is_old = |held: &mut Pending| held.arrived <= since;
        let old = self.by_thread.extract_if(|_, held| is_old(held));
        let old: Vec<Pending> = old.map(|(_, held)| held).collect();
        self.n_bytes -= old
            .iter()
            .map(|held| held.observation.n_bytes)
            .sum::<usize>();
        old
    }

    pub(super) fn len(&self) -> usize {
        self.by_thread.len()
    }
}

/// Whether an event has records of io_uring operations.
pub(super) fn has_operations(event: &AuditEvent) -> bool {
    event.records.iter().any(is_operation)
}

/// Whether an event is the part of a call's that is written while the call lasts.
pub(super) fn is_part_of_call(event: &AuditEvent) -> bool {
    event.completion != Completion::Eoe
        && !event.records.is_empty()
        && event.records.iter().all(is_operation)
}

fn is_operation(record: Record<'_>) -> bool {
    record.record_type == RecordType::URINGOP
}

/// Whether both are of one audit context: of one thread, with the time of one entry and no two serials.
fn same_event(one: &Observation, other: &Observation) -> bool {
    let (Some(one), Some(other)) = (one.report, other.report) else {
        return false;
    };
    let serials_differ =
        one.serial.is_some() && other.serial.is_some() && one.serial != other.serial;
    one.time == other.time && !serials_differ
}

/// Adds to `event` what `part` says. An operation without serial and loss was excluded by a rule, and has no record.
fn join(event: &mut Observation, part: Observation) {
    event.n_bytes += part.n_bytes;
    let recorded = |report: &Report| report.serial.is_some() || report.first_lost.is_some();
    let operations = part.operations.into_iter();
    if event.is_call() {
        event
            .operations
            .extend(operations.filter(|operation| recorded(&operation.report)));
    } else {
        event.operations.extend(operations);
    }
    if let (Some(report), Some(of_part)) = (&mut event.report, part.report) {
        // The operations came first.
        let (first, then) = if event.extent == part.extent {
            (report.first_lost, of_part.first_lost)
        } else {
            (of_part.first_lost, report.first_lost)
        };
        report.first_lost = first.or(then);
        report.lost_records += of_part.lost_records;
        report.serial = report.serial.or(of_part.serial);
    }
}
