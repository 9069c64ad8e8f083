//! How far stamps and clock may be apart.

use std::time::Duration;

use super::Correlator;
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::correlate::fragment;
use crate::event::{Output, State, StateChange};

impl Correlator {
    /// After a step of the clock the stamps of calls in flight say nothing.
    pub(super) fn recently_stepped(&self, now: KtimeNs) -> bool {
        self.stepped_at.is_some_and(|at| {
            now.since(at) < self.limits.longest_wait || self.progress.furthest() < at
        })
    }

    /// How far a stamp is from its call's entry where the clock ticks in time. What is farther is taken only when nothing
    /// nearer has come.
    pub(super) fn nearness(&self, now: KtimeNs) -> Duration {
        if self.recently_stepped(now) {
            Duration::MAX
        } else {
            fragment::TICK
        }
    }

    pub(super) fn tolerance(&self, now: KtimeNs) -> Duration {
        if self.recently_stepped(now) {
            Duration::MAX
        } else {
            Self::TOLERANCE
        }
    }

    /// Takes over the wall clock, and says where it was stepped.
    pub(super) fn follow_clock(
        &mut self,
        now: KtimeNs,
        offset: RealtimeOffset,
        out: &mut Vec<Output>,
    ) {
        let by = offset.0.saturating_sub(self.offset.0);
        self.offset = offset;
        if by.unsigned_abs() > Self::STEP_NS {
            self.stepped_at = Some(now);
            out.push(Output::State(State {
                time: offset.wall(now),
                what: StateChange::ClockStepped,
                message: format!("the wall clock was stepped by {} ms", by / 1_000_000),
            }));
        }
    }
}
