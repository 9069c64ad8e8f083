//! Audit events that lack something, until the next poll tells what was being lost.

use std::collections::VecDeque;

use crate::audit::event::AuditEvent;
use crate::clock::KtimeNs;
use crate::correlate::observations::Pending;
use crate::event::MatchedBy;
use crate::probe::observation::Verdict;

/// One of them.
#[derive(Debug)]
pub(super) struct Unexplained {
    pub(super) event: AuditEvent,
    /// 0, or the number of the late part.
    pub(super) part: u16,
    pub(super) lack: Lack,
    /// Since when it waits for a poll.
    pub(super) since: KtimeNs,
}

/// What one lacks.
#[derive(Debug)]
pub(super) enum Lack {
    /// Its observation.
    Observation {
        /// How it is known that the witness should have seen it.
        verdict: Verdict,
        /// Its stamp on the monotonic clock.
        stamp: KtimeNs,
    },
    /// Records, so that its observation speaks for these.
    Records { observation: Pending, by: MatchedBy },
}

impl Unexplained {
    fn n_bytes(&self) -> usize {
        let observation = match &self.lack {
            Lack::Observation { .. } => 0,
            Lack::Records { observation, .. } => observation.observation.n_bytes,
        };
        self.event.records.capacity() + observation
    }
}

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Unexplained>,
    n_bytes: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Bytes that their records and observations hold.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// How many of them lack their observation.
    pub(super) fn unobserved(&self) -> usize {
        let unobserved = |event: &&Unexplained| matches!(event.lack, Lack::Observation { .. });
        self.events.iter().filter(unobserved).count()
    }

    pub(super) fn push(&mut self, event: Unexplained) {
        self.n_bytes += event.n_bytes();
        self.events.push_back(event);
    }

    /// Takes the oldest that has been here since `since` or longer.
    pub(super) fn take_older_than(&mut self, since: KtimeNs) -> Option<Unexplained> {
        let oldest = self.events.pop_front_if(|event| event.since <= since)?;
        self.n_bytes -= oldest.n_bytes();
        Some(oldest)
    }
}
