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

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Unexplained>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them lack their observation.
    pub(super) fn unobserved(&self) -> usize {
        let unobserved = |event: &&Unexplained| matches!(event.lack, Lack::Observation { .. });
        self.0.iter().filter(unobserved).count()
    }

    pub(super) fn push(&mut self, event: Unexplained) {
        self.0.push_back(event);
    }

    /// Takes the oldest that has been here since `since` or longer.
    pub(super) fn take_older_than(&mut self, since: KtimeNs) -> Option<Unexplained> {
        self.0.pop_front_if(|event| event.since <= since)
    }
}
