//! `audit-collector doctor`: what this machine allows, what follows from it, and how to mend it.
//!
//! Owns the judgement of each finding. Changes nothing that outlasts it: it opens sockets and loads trivial BPF
//! programs, and closes both. Where auditing is on, joining and leaving the multicast group makes two records.

mod audit;
mod witness;

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::audit::privilege::{Capability, Privileges};
use crate::command::Format;
use crate::probe::features::Features;
use crate::probe::hooks::Level;

/// Exit code where `run` could not work, the one test harnesses take for "skipped" (GNU Automake).
pub const EXIT_CANNOT_RUN: u8 = 77;

/// How a finding bears on `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Good,
    /// `run` works, but does less or does it worse.
    Limits,
    /// `run` cannot work.
    Prevents,
}

impl State {
    /// The word in the answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Limits => "limits",
            Self::Prevents => "prevents",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How it bears on `run`.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What follows from it.
    pub follows: String,
    /// How to mend it; none where it is good or cannot be mended.
    pub remedy: Option<String>,
}

impl Finding {
    fn good(subject: &'static str, found: impl Into<String>, follows: impl Into<String>) -> Self {
        Self {
            subject,
            state: State::Good,
            found: found.into(),
            follows: follows.into(),
            remedy: None,
        }
    }

    fn bad(
        subject: &'static str,
        state: State,
        found: impl Into<String>,
        follows: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            state,
            found: found.into(),
            follows: follows.into(),
            remedy: None,
        }
    }

    fn mend(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// All findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// In the order they are shown.
    pub findings: Vec<Finding>,
    /// What the eBPF witness can tell here; none where it cannot work.
    pub level: Option<Level>,
}

/// Examines the machine, prints what was found, and returns the exit code: 0, or [`EXIT_CANNOT_RUN`].
///
/// # Errors
/// Where `out` cannot be written.
pub fn run(format: Format, out: &mut impl Write) -> io::Result<u8> {
    let diagnosis = Diagnosis::make();
    match format {
        Format::Text => out.write_all(diagnosis.text().as_bytes())?,
        Format::Json => writeln!(out, "{:#}", diagnosis.json())?,
    }
    Ok(diagnosis.exit_code())
}

impl Diagnosis {
    /// Examines the machine.
    pub fn make() -> Self {
        let mut findings = Vec::new();
        match Privileges::of_this_process() {
            Ok(privileges) => {
                findings.extend(namespaces(&privileges));
                let release = kernel_release();
                findings.extend(
                    Capability::ALL
                        .into_iter()
                        .filter_map(|c| capability(c, privileges.has(c), release)),
                );
            }
            Err(error) => findings.push(
                Finding::bad(
                    "privileges",
                    State::Limits,
                    error.to_string(),
                    "which capabilities are held cannot be told",
                )
                .mend("mount /proc"),
            ),
        }
        findings.extend(audit::examine());
        let features = Features::detect();
        findings.extend(witness::judge(&features));
        let level = features.level();
        Self { findings, level }
    }

    /// Whether `run` can work here.
    pub fn can_run(&self) -> bool {
        self.findings.iter().all(|f| f.state != State::Prevents)
    }

    /// 0 where `run` can work, else [`EXIT_CANNOT_RUN`].
    pub fn exit_code(&self) -> u8 {
        if self.can_run() { 0 } else { EXIT_CANNOT_RUN }
    }

    /// One line per finding, and one more for each remedy.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let Finding {
                subject,
                found,
                follows,
                ..
            } = finding;
            let state = finding.state.name();
            text.push_str(&format!("{state:<9} {subject:<20} {found}: {follows}\n"));
            if let Some(remedy) = &finding.remedy {
                text.push_str(&format!("{:<31}to mend: {remedy}\n", ""));
            }
        }
        let last = match (self.can_run(), self.level) {
            (false, _) => "cannot work here".to_owned(),
            (true, None) => "can work here, without the eBPF witness".to_owned(),
            (true, Some(level)) => {
                format!(
                    "can work here, with the eBPF witness at level {}",
                    level.name()
                )
            }
        };
        text.push_str(&format!("audit-collector run {last}\n"));
        text
    }

    /// The same as one JSON object.
    pub fn json(&self) -> Value {
        let findings: Vec<_> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "subject": finding.subject,
                    "state": finding.state.name(),
                    "found": finding.found,
                    "follows": finding.follows,
                    "remedy": finding.remedy,
                })
            })
            .collect();
        json!({
            "can_run": self.can_run(),
            "level": self.level.map(Level::name),
            "findings": findings,
        })
    }
}

/// Major and minor number of the running kernel; zeros where they cannot be read.
fn kernel_release() -> (u32, u32) {
    nix::sys::utsname::uname()
        .ok()
        .and_then(|names| parse_release(names.release().to_str()?))
        .unwrap_or_default()
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// An error with its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(error.to_string().lines().next().unwrap_or_default());
        cause = error.source();
    }
    line
}

fn namespaces(privileges: &Privileges) -> impl Iterator<Item = Finding> {
    [
        (
            "user namespace",
            privileges.initial_user_namespace,
            State::Prevents,
            "the kernel answers audit requests from here",
            "the kernel refuses every audit request from another user namespace",
        ),
        (
            "pid namespace",
            privileges.initial_pid_namespace,
            State::Prevents,
            "the kernel takes audit settings from here",
            "the kernel takes audit requests only from the initial pid namespace",
        ),
        (
            "network namespace",
            privileges.initial_net_namespace,
            State::Limits,
            "records reach a multicast socket opened here",
            "records by multicast are sent to the initial network namespace only; mode daemon works",
        ),
    ]
    .into_iter()
    .map(|(subject, initial, severity, good, bad)| match initial {
        Some(true) => Finding::good(subject, "the initial one", good),
        Some(false) => Finding::bad(subject, severity, "not the initial one", bad).mend(
            "run on the host or, in a container, in the host's namespaces (--pid=host --net=host --userns=host)",
        ),
        None => Finding::bad(
            subject,
            State::Limits,
            "not known",
            "/proc does not tell",
        ),
    })
}

/// What holding or lacking a capability means; none where its lack does not matter.
fn capability(capability: Capability, held: bool, release: (u32, u32)) -> Option<Finding> {
    let (state, good, bad) = match capability {
        Capability::AuditControl => (
            State::Prevents,
            "status, settings, rules and the audit pid can be had",
            "neither status nor rules can be read, and the audit pid cannot be claimed",
        ),
        Capability::AuditRead => (
            State::Limits,
            "records can be read by multicast beside a daemon",
            "mode multicast cannot work",
        ),
        Capability::AuditWrite => (
            State::Limits,
            "records of our own can be written",
            "no test records of our own can be written",
        ),
        Capability::Bpf => (
            State::Limits,
            "BPF programs can be loaded",
            "the eBPF witness cannot work, so nothing is cross-checked or backfilled",
        ),
        Capability::Perfmon => (
            State::Limits,
            "BPF programs can trace",
            "the eBPF witness cannot work, so nothing is cross-checked or backfilled",
        ),
        Capability::NetAdmin => (
            State::Limits,
            "receive buffers can be larger than net.core.rmem_max",
            "receive buffers end at net.core.rmem_max",
        ),
        // BPF maps count against the control group since Linux 5.11.
        Capability::SysResource if !held && release >= (5, 11) => {
            return Some(Finding::good(
                capability.name(),
                "missing",
                "not needed since Linux 5.11",
            ));
        }
        Capability::SysResource => (
            State::Limits,
            "the limit on locked memory can be raised for BPF maps",
            "BPF maps may not fit the limit on locked memory",
        ),
        // Stands in for CAP_BPF and CAP_PERFMON, which are judged by themselves.
        Capability::SysAdmin => return None,
    };
    Some(if held {
        Finding::good(capability.name(), "held", good)
    } else {
        Finding::bad(capability.name(), state, "missing", bad).mend(format!(
            "run as root, or with AmbientCapabilities={} in the unit, or --cap-add in a container",
            capability.name()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_prevents_changes_the_exit_code() {
        let good = Finding::good("a", "b", "c");
        let limits = Finding::bad("a", State::Limits, "b", "c");
        let prevents = Finding::bad("a", State::Prevents, "b", "c").mend("d");
        let of = |findings: &[Finding]| Diagnosis {
            findings: findings.to_vec(),
            level: Some(Level::Syscalls),
        };
        let can = of(&[good.clone(), limits.clone()]);
        assert_eq!(can.exit_code(), 0);
        assert!(can.text().ends_with("at level syscalls\n"));
        assert_eq!(can.json()["level"], "syscalls");
        let cannot = of(&[good, limits, prevents]);
        assert_eq!(cannot.exit_code(), EXIT_CANNOT_RUN);
        assert!(cannot.text().contains("to mend: d\n"));
        assert!(cannot.text().ends_with("cannot work here\n"));
        assert_eq!(cannot.json()["findings"][2]["state"], "prevents");
    }

    #[test]
    fn a_foreign_user_namespace_prevents_whatever_the_capabilities() {
        let state = |initial| {
            let mut privileges = Privileges::of_this_process().unwrap();
            privileges.initial_user_namespace = Some(initial);
            namespaces(&privileges).next().unwrap().state
        };
        assert_eq!(state(true), State::Good);
        assert_eq!(state(false), State::Prevents);
    }

    #[test]
    fn a_missing_capability_is_named_with_its_remedy() {
        let missing = |c, release| capability(c, false, release).unwrap();
        let control = missing(Capability::AuditControl, (6, 1));
        assert_eq!(control.state, State::Prevents);
        assert!(control.remedy.unwrap().contains("CAP_AUDIT_CONTROL"));
        assert_eq!(
            missing(Capability::SysResource, (5, 10)).state,
            State::Limits
        );
        assert_eq!(missing(Capability::SysResource, (5, 11)).state, State::Good);
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(parse_release("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_release("5.10"), Some((5, 10)));
        assert_eq!(parse_release("odd"), None);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let diagnosis = Diagnosis::make();
        for subject in ["audit", "BTF", "receive buffer", "lockdown", "ring buffer"] {
            assert!(
                diagnosis.findings.iter().any(|f| f.subject == subject),
                "{subject}"
            );
        }
    }
}
