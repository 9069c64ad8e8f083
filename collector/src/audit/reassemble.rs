//! Records into events.
//!
//! Owns the events in flight: which records share a stamp, when an event is handed on and why. Knows nothing of what
//! records say beyond their type. No I/O, no clock: time comes with each call, and [`Reassembler::tick`] must be
//! called every 100 ms or so, for a deadline must not wait for the next record.
//!
//! When an event is handed on:
//! - at its end-of-event record; where that was lost by the stream and copied in the kernel, once the stream has passed that
//!   time ([`Reassembler::stream_passed`]), as other records of the event may still wait in our socket; and where the kernel is
//!   known to send one of its records later ([`Reassembler::put_behind`]), once that has come;
//! - at once where its type stands alone;
//! - after [`Limits::grace`] where all it has are records that may stand alone (AVC, CONFIG_CHANGE, LOGIN …):
//!   inside a system call they precede its SYSCALL record by the time the call still takes, mostly microseconds, and
//!   outside of one nothing follows them. The SYSCALL record of a call that blocks for longer comes as a late event;
//! - at [`Limits::timeout`] after its first record; whatever comes later is a late event.
//!
//! The memory of an event is used again for a later one, where it is given back ([`Reassembler::recycle`]).
//!
//! Bounds: events in flight, records and bytes of one event, bytes of all, stamps remembered (see [`Limits`]). An event
//! over a bound is handed on as it is, and its further records become a late event: nothing is dropped
//! but exact duplicates, where records may come twice ([`Repeats`]). Identity: `begun = completed + standalone + timed_out + flushed + evicted + pending`.

mod behind;
mod memory;
mod order;
mod spare;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::BuildHasher;
use std::time::Duration;

use crate::account::Assembly;
use crate::audit::event::{AuditEvent, Completion, Records};
use crate::audit::record::{Provenance, Record, RecordType, Stamp};
use crate::audit::types::Standing;
use crate::clock::KtimeNs;
use crate::event::Cause;
use behind::Behind;
use memory::HandedOn;
use spare::Spare;

/// Bounds of a [`Reassembler`]. The default fits a live stream.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From an event's first record to its being handed on without an end-of-event record.
    pub timeout: Duration,
    /// The same for events with nothing but records that may stand alone.
    pub grace: Duration,
    /// Events in flight.
    pub max_events: usize,
    /// Records of one event.
    pub max_records_per_event: usize,
    /// Bytes of one event's records.
    pub max_bytes_per_event: usize,
    /// Bytes of all records in flight.
    pub max_bytes: usize,
    /// Events remembered at most after they were handed on, to tell late records and repeated ones, and the last half as many
    /// surely; as many again of those that were handed on before their end.
    pub remembered: usize,
    /// What ends an event.
    pub end: EventEnd,
    /// What a record is that repeats another of its event to the byte.
    pub repeats: Repeats,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            grace: Duration::from_millis(200),
            max_events: 16_384,
            max_records_per_event: 4_096,
            max_bytes_per_event: 8 << 20,
            max_bytes: 64 << 20,
            remembered: 32_768,
            end: EventEnd::EndOfEvent,
            repeats: Repeats::Duplicates,
        }
    }
}

/// The record that ends a system call's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEnd {
    /// EOE, as the kernel and auditd's plugin interface deliver it.
    EndOfEvent,
    /// EOE or PROCTITLE, the last record before it since Linux 3.11: auditd leaves EOE out of its logs.
    Proctitle,
}

/// What a record is that repeats another of its event to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// The same one again, as where two logs overlap.
    Duplicates,
    /// One of its own: each comes once, and the kernel does write two that are alike.
    Records,
}

/// An event's stamp, and in a log of many hosts its host. One host's serials repeat at other times only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    stamp: Stamp,
    node: u64,
}

struct Pending {
    /// Tells this event from an earlier or later one under the same key.
    id: u64,
    records: Records,
    /// Of each record, where records may come twice.
    hashes: Vec<u64>,
    bytes: usize,
    first_read: KtimeNs,
    /// Whether records of this event were handed on before.
    late: bool,
    /// Whether no record came that must have an end-of-event record.
    may_stand_alone: bool,
    /// Whether its end has come: it only waits for what the stream may still bring.
    ended: bool,
    mirrored: Option<Cause>,
}

/// When an event is due, unless it is gone by then.
#[derive(Clone, Copy)]
struct Ticket {
    key: Key,
    id: u64,
    begun: KtimeNs,
}

/// Joins records to events. See the module for when an event is handed on.
pub struct Reassembler {
    limits: Limits,
    hasher: RandomState,
    pending: HashMap<Key, Pending>,
    pending_bytes: usize,
    /// All events in flight by age, and some that are gone already.
    by_age: VecDeque<Ticket>,
    /// Those that began with a record that may stand alone.
    in_grace: VecDeque<Ticket>,
    /// Those whose end was copied in the kernel, by when.
    ended: VecDeque<Ticket>,
    behind: Behind,
    handed_on: HandedOn,
    spare: Spare,
    counts: Assembly,
}

impl Reassembler {
    /// A reassembler with nothing in flight.
    pub fn new(limits: Limits) -> Self {
        let counts = Assembly {
            pending_limit: limits.max_events as u64,
            ..Assembly::default()
        };
        Self {
            hasher: RandomState::new(),
            pending: HashMap::new(),
            pending_bytes: 0,
            by_age: VecDeque::new(),
            in_grace: VecDeque::new(),
            ended: VecDeque::new(),
            behind: Behind::default(),
            handed_on: HandedOn::new(limits.remembered),
            spare: Spare::default(),
            counts,
            limits,
        }
    }

    /// Takes one record in, and appends to `out` what is ready: events the record ends, and those whose time is over.
    #[inline(never)] // A stage: its instructions are counted apart (`cargo xtask instructions`).
    pub fn push(&mut self, record: &Record<'_>, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        self.tick(now, out);
        let key = self.key(record);
        if record.record_type == RecordType::EOE {
            self.end(key, record.provenance, now, out);
        } else {
            self.add(key, record, now, out);
        }
        self.assert_balance();
    }

    /// Takes the memory of an event back that nobody needs any more.
    pub fn recycle(&mut self, records: Records) {
        self.spare.keep(records);
    }

    /// Keeps no more room than what is in flight needs.
    pub fn shrink(&mut self) {
        self.pending.shrink_to_fit();
        self.by_age.shrink_to_fit();
        self.in_grace.shrink_to_fit();
        self.ended.shrink_to_fit();
        self.spare = Spare::default();
    }

    /// The kernel sends this record, which has not come, behind others of its event.
    pub fn put_behind(&mut self, record: &Record<'_>, now: KtimeNs) {
        let (key, hash) = (self.key(record), self.hash(record));
        self.behind.expect(key, hash, now);
    }

    fn hash(&self, record: &Record<'_>) -> u64 {
        self.hasher.hash_one((record.record_type, record.body))
    }

    /// All that the kernel sent before `passed` has been pushed: appends to `out` the events that only waited for that.
    pub fn stream_passed(&mut self, passed: KtimeNs, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        while let Some(ticket) = self.ended.front().copied()
            && ticket.begun < passed
        {
            self.ended.pop_front();
            // The beginning may be among what the kernel is to send again: the event then waits like one without an end.
            if self.is_live(&ticket) && self.pending[&ticket.key].has_call() {
                self.hand_on(ticket.key, Completion::Eoe, now, out);
            }
        }
        self.assert_balance();
    }

    /// Lets time pass: appends to `out` the events whose time is over.
    pub fn tick(&mut self, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        self.behind.forget(now);
        while let Some(ticket) = self.in_grace.front().copied() {
            if now.since(ticket.begun) < self.limits.grace {
                break;
            }
            self.in_grace.pop_front();
            if self.is_live(&ticket) && self.pending[&ticket.key].may_stand_alone {
                self.hand_on(ticket.key, Completion::Standalone, now, out);
            }
        }
        while let Some(ticket) = self.by_age.front().copied() {
            if now.since(ticket.begun) < self.limits.timeout {
                break;
            }
            self.by_age.pop_front();
            if self.is_live(&ticket) {
                self.hand_on(ticket.key, Completion::Timeout, now, out);
            }
        }
        self.assert_balance();
    }

    /// Appends to `out` all events in flight, oldest first: the input has ended.
    pub fn flush(&mut self, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        self.in_grace.clear();
        self.ended.clear();
        while let Some(ticket) = self.by_age.pop_front() {
            if self.is_live(&ticket) {
                self.hand_on(ticket.key, Completion::Flushed, now, out);
            }
        }
        self.assert_balance();
    }

    /// What was done so far. Late events count by what ended them, like others.
    pub fn counts(&self) -> Assembly {
        Assembly {
            pending: self.pending.len() as u64,
            ..self.counts
        }
    }

    fn key(&self, record: &Record<'_>) -> Key {
        let node = record.node;
        Key {
            stamp: record.stamp,
            node: node.map_or(0, |node| self.hasher.hash_one(node)),
        }
    }

    fn is_live(&self, ticket: &Ticket) -> bool {
        self.pending
            .get(&ticket.key)
            .is_some_and(|pending| pending.id == ticket.id)
    }

    /// An end-of-event record. It says nothing of its own, so one for an event handed on before is left out.
    fn end(&mut self, key: Key, provenance: Provenance, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        if !self.pending.contains_key(&key) {
            if self.handed_on.get(&key).is_some() {
                return;
            }
            // All other records were lost, but the kernel did report this event.
            self.begin(key, Standing::Inside, now);
        }
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        match provenance {
            Provenance::Stream if self.behind.expects(&key) => pending.ended = true,
            Provenance::Stream => self.hand_on(key, Completion::Eoe, now, out),
            Provenance::Mirror(cause) => {
                pending.mirrored = pending.mirrored.or(Some(cause));
                pending.ended = true;
                self.ended.push_back(Ticket {
                    key,
                    id: pending.id,
                    begun: now,
                });
            }
        }
    }

    fn add(&mut self, key: Key, record: &Record<'_>, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        let record_type = record.record_type;
        let repeatable = self.limits.repeats == Repeats::Duplicates;
        let hash = (repeatable || !self.behind.is_empty()).then(|| self.hash(record));
        let repeated = hash.filter(|_| repeatable);
        let pending = match self.pending.get_mut(&key) {
            Some(pending) => pending,
            None => {
                let seen = self.handed_on.get(&key);
                if repeated.is_some_and(|hash| seen.is_some_and(|seen| seen.contains(hash))) {
                    self.counts.duplicate_records += 1;
                    return;
                }
                let late = seen.is_some();
                self.begin(key, record_type.standing(), now);
                let Some(pending) = self.pending.get_mut(&key) else {
                    return;
                };
                pending.late = late;
                pending
            }
        };
        // Several operations of io_uring in one call may have records that are alike.
        let repeated = repeated.filter(|_| record_type != RecordType::URINGOP);
        if repeated.is_some_and(|hash| pending.has(record, hash)) {
            self.counts.duplicate_records += 1;
            return;
        }
        self.counts.late_records += u64::from(pending.late);
        self.pending_bytes += weight(record);
        self.spare.make_room(&mut pending.records, record);
        pending.add(record, hash);
        let full = pending.records.len() >= self.limits.max_records_per_event
            || pending.bytes >= self.limits.max_bytes_per_event;
        let alone = pending.records.len() == 1 && record_type.stands_alone();
        let last = self.limits.end == EventEnd::Proctitle && record_type == RecordType::PROCTITLE;
        let came_behind = hash.is_some_and(|hash| self.behind.came(&key, hash)) && pending.ended;
        if alone {
            self.hand_on(key, Completion::Standalone, now, out);
        } else if last || came_behind {
            self.hand_on(key, Completion::Eoe, now, out);
        } else if full {
            self.hand_on(key, Completion::Evicted, now, out);
        }
        while (self.pending.len() > self.limits.max_events
            || self.pending_bytes > self.limits.max_bytes)
            && let Some(oldest) = self.take_oldest()
        {
            self.hand_on(oldest, Completion::Evicted, now, out);
        }
    }

    /// The first record of an event has come.
    fn begin(&mut self, key: Key, standing: Standing, now: KtimeNs) {
        self.counts.begun += 1;
        let id = self.counts.begun;
        let may_stand_alone = standing == Standing::Either;
        if standing != Standing::Alone {
            self.sweep();
            let ticket = Ticket {
                key,
                id,
                begun: now,
            };
            self.by_age.push_back(ticket);
            if may_stand_alone {
                self.in_grace.push_back(ticket);
            }
        }
        let pending = Pending {
            id,
            records: self.spare.records(),
            hashes: self.spare.hashes(),
            bytes: 0,
            first_read: now,
            late: false,
            may_stand_alone,
            ended: false,
            mirrored: None,
        };
        self.pending.insert(key, pending);
    }

    /// Most events end long before their time: removes their tickets before they pile up.
    fn sweep(&mut self) {
        if self.by_age.len().max(self.in_grace.len()) <= 2 * self.pending.len() + 1024 {
            return;
        }
        let pending = &self.pending;
        let live = |ticket: &Ticket| {
            let event = pending.get(&ticket.key);
            event.is_some_and(|event| event.id == ticket.id)
        };
        self.by_age.retain(live);
        self.in_grace.retain(live);
        self.ended.retain(live);
    }

    /// The oldest event in flight; its ticket is used up.
    fn take_oldest(&mut self) -> Option<Key> {
        while let Some(ticket) = self.by_age.pop_front() {
            if self.is_live(&ticket) {
                return Some(ticket.key);
            }
        }
        None
    }

    fn hand_on(&mut self, key: Key, why: Completion, now: KtimeNs, out: &mut Vec<AuditEvent>) {
        let Some(mut pending) = self.pending.remove(&key) else {
            return;
        };
        self.pending_bytes -= pending.bytes;
        let more_may_come = match why {
            Completion::Eoe | Completion::Late => self.behind.expects(&key),
            Completion::Standalone => pending.may_stand_alone,
            Completion::Timeout | Completion::Evicted | Completion::Flushed => true,
        };
        // Its end did come; whatever made it leave before the stream had passed.
        let why = if pending.ended { Completion::Eoe } else { why };
        if pending.mirrored.is_some() {
            order::restore(&mut pending.records);
        }
        let count = match why {
            Completion::Eoe | Completion::Late => &mut self.counts.completed,
            Completion::Standalone => &mut self.counts.standalone,
            Completion::Timeout => &mut self.counts.timed_out,
            Completion::Evicted => &mut self.counts.evicted,
            Completion::Flushed => &mut self.counts.flushed,
        };
        *count += 1;
        self.handed_on.remember(key, &pending.hashes);
        if more_may_come {
            self.handed_on.keep_open(key);
        }
        self.spare.keep_hashes(pending.hashes);
        out.push(AuditEvent {
            stamp: key.stamp,
            records: pending.records,
            completion: if pending.late { Completion::Late } else { why },
            mirrored: pending.mirrored,
            first_read: pending.first_read,
            completed: now,
        });
    }

    fn assert_balance(&self) {
        debug_assert!(
            {
                let n = self.counts();
                let emitted = n.completed + n.standalone + n.timed_out + n.flushed;
                n.begun == emitted + n.evicted + n.pending
            },
            "{:?}",
            self.counts()
        );
    }
}

impl Pending {
    fn has(&self, record: &Record<'_>, hash: u64) -> bool {
        std::iter::zip(&self.hashes, &self.records).any(|(seen, other)| {
            *seen == hash && other.record_type == record.record_type && other.body == record.body
        })
    }

    /// Whether the record is there that a call's or an operation's event begins with.
    fn has_call(&self) -> bool {
        let types = [RecordType::SYSCALL, RecordType::URINGOP];
        self.records
            .iter()
            .any(|record| types.contains(&record.record_type))
    }

    fn add(&mut self, record: &Record<'_>, hash: Option<u64>) {
        self.may_stand_alone &= record.record_type.standing() == Standing::Either;
        if let Provenance::Mirror(cause) = record.provenance {
            self.mirrored = self.mirrored.or(Some(cause));
        }
        self.bytes += weight(record);
        self.hashes.extend(hash);
        self.records.push(record);
    }
}

/// What a record takes in memory, about.
fn weight(record: &Record<'_>) -> usize {
    size_of::<Record<'_>>() + record.body.len() + record.enrichment.map_or(0, <[u8]>::len)
}
