//! Liveness and readiness, as JSON that names what fails.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::account::Account;
use crate::clock::TimeMs;

/// How old the account may be before the pipeline counts as stuck, for readiness and for liveness.
const STALE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// The body of a health answer.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Health {
    status: &'static str,
    failing: Vec<Failing>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Failing {
    component: String,
    problem: String,
}

impl Health {
    fn of(failing: Vec<Failing>) -> Self {
        let status = if failing.is_empty() { "ok" } else { "failing" };
        Self { status, failing }
    }
}

fn failing(component: impl Into<String>, problem: impl Into<String>) -> Failing {
    Failing {
        component: component.into(),
        problem: problem.into(),
    }
}

pub(super) fn answer(health: &Health) -> Response {
    let status = if health.failing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = serde_json::to_vec(health).unwrap_or_default();
    body.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn age(at: TimeMs, now: TimeMs) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

/// Alive: the pipeline has not begun yet, or publishes its account.
pub(super) fn liveness(account: &Account, now: TimeMs) -> Health {
    let began = account.at != TimeMs::default();
    let age = age(account.at, now);
    Health::of(
        (began && age > STALE.1)
            .then(|| failing("pipeline", format!("no account for {} s", age.as_secs())))
            .into_iter()
            .collect(),
    )
}

/// Ready: every part that takes part works.
pub(super) fn readiness(account: &Account, now: TimeMs) -> Health {
    let mut problems = Vec::new();
    if account.at == TimeMs::default() {
        problems.push(failing("pipeline", "not started"));
        return Health::of(problems);
    }
    let stale = age(account.at, now);
    if stale > STALE.0 {
        let problem = format!("no account for {} s", stale.as_secs());
        problems.push(failing("pipeline", problem));
    }
    if account.input.source != "replay" {
        match account.kernel.last_success {
            None => problems.push(failing("kernel_status", "never read")),
            Some(at) if age(at, account.at) > STALE.0 => {
                let seconds = age(at, account.at).as_secs();
                problems.push(failing(
                    "kernel_status",
                    format!("not read for {seconds} s"),
                ));
            }
            Some(_) => {}
        }
    }
    let programs = account.ebpf.iter().flat_map(|ebpf| &ebpf.programs);
    for (program, _) in programs.filter(|(_, attached)| !**attached) {
        problems.push(failing(format!("ebpf:{program}"), "not attached"));
    }
    for (name, _) in account.sinks.iter().filter(|(_, sink)| !sink.up) {
        problems.push(failing(format!("sink:{name}"), "the last write failed"));
    }
    Health::of(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Ebpf, Kernel, Sink};

    #[test]
    fn each_part_that_fails_is_named() {
        let now = TimeMs(1_700_000_000_000);
        let mut account = Account {
            at: now,
            kernel: Kernel {
                last_success: Some(now),
                ..Kernel::default()
            },
            ..Account::default()
        };
        assert_eq!(readiness(&account, now).failing, []);
        account.kernel.last_success = Some(TimeMs(now.0 - 60_000));
        account.ebpf = Some(Ebpf {
            programs: [("sys_exit", false), ("sys_enter", true)].into(),
            ..Ebpf::default()
        });
        account.sinks.insert("file".to_owned(), Sink::default());
        let names = |health: Health| -> Vec<String> {
            health.failing.into_iter().map(|f| f.component).collect()
        };
        assert_eq!(
            names(readiness(&account, now)),
            ["kernel_status", "ebpf:sys_exit", "sink:file"]
        );
        let later = TimeMs(now.0 + 61_000);
        assert_eq!(names(liveness(&account, now)), [""; 0]);
        assert_eq!(names(liveness(&account, later)), ["pipeline"]);
    }
}
