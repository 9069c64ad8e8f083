//! The audit pid while the collector is the daemon: noticing that the kernel no longer sends to us, and taking it back.
//!
//! The kernel gives the pid to another process only once it cannot reach ours: the socket is closed, or tied to a port
//! that is not the kernel's, which a process that may reach into ours can do (Linux 6.12, kernel/audit.c `audit_replace`,
//! `auditd_reset`). And it gives the pid back to us only on the same terms. Decides; what is sent and read is the
//! control thread's.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::event::StateChange;
use crate::pipeline::News;
use crate::ruleset::printable;

/// What becomes of the pid when another process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is left there.
    Once,
    /// It is taken back as soon as the kernel allows.
    Again,
}

/// Who is the audit daemon, as far as that has been noticed.
#[derive(Debug)]
pub(super) struct Seat {
    own: u32,
    claim: Claim,
    /// Who holds the pid in our place, 0 for nobody; none while we do.
    holder: Option<u32>,
    /// Requests refused since we lost it.
    refused: u32,
    next: Option<Instant>,
}

impl Seat {
    /// How long a live holder is left alone after a refusal, at most; each request makes the kernel write a record.
    const LONGEST_WAIT: Duration = Duration::from_secs(60);

    /// Ours.
    pub(super) fn taken(claim: Claim) -> Self {
        Self {
            own: std::process::id(),
            claim,
            holder: None,
            refused: 0,
            next: None,
        }
    }

    /// Whether the kernel sends to another process, or to nobody.
    pub(super) const fn is_displaced(&self) -> bool {
        self.holder.is_some()
    }

    /// Whether another process is the daemon.
    pub(super) fn is_taken(&self) -> bool {
        self.holder.is_some_and(|holder| holder != 0)
    }

    /// Takes note of who holds the pid, as the status says.
    pub(super) fn note(&mut self, pid: u32) -> Option<News> {
        let holder = (pid != self.own).then_some(pid);
        if holder == self.holder {
            return None;
        }
        self.holder = holder;
        (self.refused, self.next) = (0, None);
        let Some(holder) = holder else {
            let text = "the kernel sends audit records to us again".to_owned();
            return Some((StateChange::Reclaimed, text));
        };
        let who = match holder {
            0 => "no process is the audit daemon any more".to_owned(),
            pid => format!("process {pid}{} is the audit daemon now", name_of(pid)),
        };
        let what = match self.claim {
            Claim::Once => "reclaim is off, so that it stays so",
            Claim::Again => "we take the audit pid back as soon as the kernel allows",
        };
        let text =
            format!("{who}: no records come to us, what happens is known from eBPF alone; {what}");
        Some((StateChange::Displaced, text))
    }

    /// Whether the kernel is to be asked for the pid now: at once where nobody lives that holds it.
    pub(super) fn asks_now(&self, now: Instant) -> bool {
        self.claim == Claim::Again
            && self
                .holder
                .is_some_and(|holder| !is_alive(holder) || self.next.is_none_or(|next| now >= next))
    }

    /// The kernel was asked and did not give it. Says so the first time.
    pub(super) fn refused(&mut self, now: Instant) -> Option<String> {
        let holder = self.holder?;
        self.refused = self.refused.saturating_add(1);
        let wait = Duration::from_secs(1 << self.refused.min(6)).min(Self::LONGEST_WAIT);
        self.next = Some(now + wait);
        (self.refused == 1).then(|| {
            format!("the kernel does not give the audit pid back while process {holder} lives; it is asked again until it does")
        })
    }
}

fn is_alive(pid: u32) -> bool {
    pid != 0 && Path::new("/proc").join(pid.to_string()).exists()
}

/// The name of a process in brackets, nothing where it cannot be read.
fn name_of(pid: u32) -> String {
    std::fs::read(format!("/proc/{pid}/comm"))
        .map(|name| format!(" ({})", printable(name.trim_ascii_end())))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_hands_is_told_once() {
        let own = std::process::id();
        let mut seat = Seat::taken(Claim::Once);
        assert_eq!(seat.note(own), None);
        let (what, text) = seat.note(1).unwrap();
        assert_eq!(what, StateChange::Displaced);
        assert!(
            text.contains("process 1 (") && text.contains("reclaim is off"),
            "{text}"
        );
        assert_eq!(seat.note(1), None);
        assert!(seat.is_displaced() && seat.is_taken());
        assert!(seat.note(0).unwrap().1.starts_with("no process"));
        assert!(seat.is_displaced() && !seat.is_taken());
        assert!(!seat.asks_now(Instant::now()));
        assert_eq!(seat.note(own).unwrap().0, StateChange::Reclaimed);
        assert!(!seat.is_displaced());
    }

    #[test]
    fn a_live_holder_is_asked_ever_more_rarely_and_a_dead_one_is_not_waited_for() {
        let mut now = Instant::now();
        let mut seat = Seat::taken(Claim::Again);
        assert!(!seat.asks_now(now));
        seat.note(1);
        let mut asked = 0;
        for second in 0..600 {
            if seat.asks_now(now) {
                asked += 1;
                assert_eq!(seat.refused(now).is_some(), second == 0);
            }
            now += Duration::from_secs(1);
        }
        assert!((10..20).contains(&asked), "{asked}");
        // No process has this id (PID_MAX_LIMIT, include/linux/threads.h).
        seat.note(1 << 30);
        seat.refused(now);
        assert!(seat.asks_now(now));
    }
}
