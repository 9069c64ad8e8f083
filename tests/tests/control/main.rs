//! Every request of the client, against the running kernel, and every refusal that can be had from it.
//!
//! Each test holds the machine's lock, filters by a user and a key of its own, and leaves the audit state as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod cycles;
mod daemon;
mod features;
mod messages;
mod refusals;
mod rules;
mod settings;
mod status;
mod subtrees;
mod sys;
mod tty;

use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::requirement::{self, Requirement};
use collector::audit::arch::Arch;
use collector::audit::rules::Rule;

/// A user nobody else is.
const UID: u32 = 64_022;

/// The audit state, ours alone; none where this machine cannot run the test, which has been said.
fn take() -> Option<AuditGuard> {
    requirement::met(&[Requirement::AuditControl, Requirement::DaemonSeat])
        .then(|| AuditGuard::take().unwrap())
}

/// A rule for our user alone.
fn rule() -> Rule {
    rule_for(UID, Arch::NATIVE, &["openat"], "control")
}
