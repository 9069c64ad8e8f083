//! What the correlator is told of the host, and what it tells of the stream's progress.

use collector_ebpf::{LossReason, TextReason};

use super::Correlator;
use crate::clock::KtimeNs;
use crate::correlate::evidence::{Evidence, Poll};
use crate::correlate::witness::{Rules, Witness};
use crate::event::{Cause, LossUnit, Output, State, StateChange};
use crate::probe::hooks::Level;

impl Correlator {
    /// The witness watches from `rules.since` on.
    pub fn witness_attached(&mut self, rules: Rules, exempt: Vec<u32>, level: Level) {
        self.witness = Some(Witness::new(rules, exempt, level));
    }

    /// The witness watches no longer: what happens from `at` on comes from the audit stream alone.
    pub fn witness_detached(&mut self, at: KtimeNs) {
        if let Some(witness) = &mut self.witness {
            witness.detach(at);
        }
    }

    /// Every observation taken before `at` has been handed over. Where this is told, an event waits for its observation
    /// as long as that may still be on its way.
    pub fn witness_passed(&mut self, at: KtimeNs) {
        self.witness_passed = self.witness_passed.max(Some(at));
    }

    /// The rules in force changed; observations judged against others are judged again when they are settled.
    pub fn rules_changed(&mut self, rules: Rules) {
        self.rules_unsettled(rules.former_until, rules.since);
        if let Some(witness) = &mut self.witness {
            witness.change_rules(rules);
        }
    }

    /// From `from` to `until` the kernel may have held other rules than those the witness judged by.
    pub fn rules_unsettled(&mut self, from: KtimeNs, until: KtimeNs) {
        self.evidence.rules_unsettled(from, until);
    }

    /// The kernel keeps nothing for a daemon that it cannot reach.
    pub fn kernel_keeps_nothing(&mut self) {
        self.evidence.kernel_keeps_nothing();
    }

    /// The stream is known to have been read before `at`, by an earlier run.
    pub fn resumed(&mut self, at: KtimeNs) {
        self.resumed_at = Some(at);
    }

    /// Since `since` the kernel lacks rules that the witness judges by; none where it has had them all since `now`.
    pub fn rules_missing(&mut self, since: Option<KtimeNs>, now: KtimeNs) {
        self.evidence.rules_missing(since, now);
    }

    /// Auditing was switched off at `at`, and may be on again since.
    pub fn auditing_switched_off(&mut self, at: KtimeNs) {
        self.evidence.switched_off(at);
    }

    /// Other processes' calls are exempt now.
    pub fn exempt_changed(&mut self, exempt: Vec<u32>) {
        if let Some(witness) = &mut self.witness {
            witness.exempt = exempt;
        }
    }

    /// What a poll of the kernel's status and of the event socket found.
    pub fn poll(&mut self, poll: Poll) {
        if poll.drained() && !self.evidence.was_congested() {
            self.progress.note(poll.at, poll.asked);
        }
        let reasons = poll.reasons.unwrap_or_default();
        let explained = std::iter::zip(LossReason::ALL.map(Cause::of_reason), reasons);
        let others = [
            (Evidence::cause_of_lost(&poll), poll.unexplained),
            (Cause::SocketOverrun, poll.socket_drops),
            (Cause::HoldOverflow, poll.not_held),
            (Cause::QueueFull, poll.queue_full),
        ];
        let since = self.evidence.last_poll().unwrap_or(poll.at);
        for (cause, count) in explained.chain(others) {
            if count > 0 {
                let when = (since, poll.at);
                self.losses
                    .count(cause, count, LossUnit::Records, when, self.offset);
            }
        }
        self.evidence.add(poll);
    }

    /// Something else was lost: observations, unreadable datagrams.
    pub fn lose(&mut self, cause: Cause, count: u64, unit: LossUnit, at: KtimeNs) {
        self.losses.count(cause, count, unit, (at, at), self.offset);
    }

    /// Up to when everything that was queued has surely come through, if it has come at all.
    pub(crate) fn stream_passed(&mut self, now: KtimeNs) -> KtimeNs {
        // Records that the stream has passed may still be on their way through the reassembler and the wait for a match; and
        // what was lost of them, the poll after that has told. Without polls, nothing will.
        let latest = now.minus(self.limits.settle_wait);
        let polled = self
            .evidence
            .last_status()
            .map_or(latest, |asked| asked.max(latest.minus(Self::POLL_WAIT)));
        self.progress.known_at(latest.min(polled))
    }

    /// Up to when everything that was queued has been read.
    pub(crate) fn furthest_passed(&self) -> KtimeNs {
        self.progress.furthest()
    }

    /// What has waited since then or for longer is not waited for any more, as the stream stands still; nothing is where it moves.
    pub(crate) fn overdue_since(&self, now: KtimeNs) -> KtimeNs {
        let longest_ago = now.minus(self.limits.longest_wait);
        if self.progress.moved_at() <= longest_ago {
            longest_ago
        } else {
            KtimeNs(0)
        }
    }

    /// Why a record was lost of which the kernel's text tells; none where it was not.
    pub(crate) fn cause_of_text(&self, reason: TextReason) -> Option<Cause> {
        let cause = Cause::of_text(reason)?;
        // What another daemon does not take, or nobody, was not on its way to us.
        let to_others = self.evidence.is_displaced() && cause != Cause::SocketOverrun;
        Some(if to_others { Cause::Displaced } else { cause })
    }

    /// Why a record that left the kernel's queue at `taken` did not come.
    pub(crate) fn cause_behind_the_queue(&self, taken: KtimeNs) -> Cause {
        self.evidence.cause_behind(taken)
    }

    /// Says when observations begin to be lost, and when that is over.
    pub(super) fn follow_certainty(&mut self, now: KtimeNs, out: &mut Vec<Output>) {
        let lost_since = self
            .evidence
            .unobserved_since(now.minus(Self::CERTAIN_AFTER));
        let message = match (lost_since, self.crosscheck.uncertain_since) {
            (Some(at), None) => {
                self.crosscheck.uncertain_since = Some(at);
                "observations are being lost: what the audit stream alone reports is uncertain, and events that it lost as well are not known"
            }
            (None, Some(_)) => {
                self.crosscheck.uncertain_since = None;
                "no observations are being lost any more: every event is accounted for again"
            }
            _ => return,
        };
        out.push(Output::State(State {
            time: self.offset.wall(now),
            what: StateChange::WitnessChanged,
            message: message.to_owned(),
        }));
    }
}
