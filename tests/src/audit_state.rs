//! The kernel's audit state as a test found it, and the way back there.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use collector::audit::arch::Arch;
use collector::audit::client::{Client, ClientError};
use collector::audit::rules::{Field, Operator, Placement, Rule};
use collector::audit::status::{KernelStatus, StatusChange};

use crate::lock::KernelLock;

/// Every rule of a test begins its key with this, so that one left behind by a killed test is recognised.
pub const KEY: &str = "audit-collector-test";

/// How long the kernel may take to notice that a daemon is gone.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// Holds the machine's lock and the state as it was; puts it back when dropped, in a panic too.
#[derive(Debug)]
pub struct AuditGuard {
    client: Client,
    before: Settings,
    rules: Vec<Rule>,
    // Declared last: released after the state is back.
    _lock: KernelLock,
}

/// What of the status is a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// As in [`KernelStatus`], like the others.
    pub enabled: u32,
    /// See above.
    pub failure: u32,
    /// See above.
    pub rate_limit: u32,
    /// See above.
    pub backlog_limit: u32,
    /// See above.
    pub backlog_wait_time: Option<u32>,
    /// See above.
    pub pid: u32,
}

impl From<KernelStatus> for Settings {
    fn from(status: KernelStatus) -> Self {
        Self {
            enabled: status.enabled,
            failure: status.failure,
            rate_limit: status.rate_limit,
            backlog_limit: status.backlog_limit,
            backlog_wait_time: status.backlog_wait_time,
            pid: status.pid,
        }
    }
}

impl AuditGuard {
    /// Waits for the machine's lock and notes the state.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn take() -> anyhow::Result<Self> {
        let lock = KernelLock::acquire()?;
        let mut client = Client::connect()?;
        for rule in client.rules()? {
            if rule.keys().any(|key| key.starts_with(KEY.as_bytes())) {
                client
                    .delete_rule(&rule)
                    .context("cannot remove a killed test's rule")?;
            }
        }
        Ok(Self {
            before: client.status()?.into(),
            rules: client.rules()?,
            client,
            _lock: lock,
        })
    }

    /// The connection, for requests whose effect a test takes back itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Switches auditing on until the guard is dropped, with room for a burst that waits rather than loses.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn enable(&mut self) -> anyhow::Result<()> {
        self.set(&StatusChange {
            enabled: Some(1),
            rate_limit: Some(0),
            backlog_limit: Some(8192),
            failure: Some(0),
            ..StatusChange::default()
        })
    }

    /// The same, with auditing off: rules have no effect.
    ///
    /// # Errors
    /// Where the kernel does not answer or refuses.
    pub fn take_quiet() -> anyhow::Result<Self> {
        let mut guard = Self::take()?;
        guard.set(&StatusChange {
            enabled: Some(0),
            ..StatusChange::default()
        })?;
        Ok(guard)
    }

    /// The status now.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn status(&mut self) -> anyhow::Result<KernelStatus> {
        Ok(self.client.status()?)
    }

    /// The rules now.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn rules(&mut self) -> anyhow::Result<Vec<Rule>> {
        Ok(self.client.rules()?)
    }

    /// Loads a rule until the guard is dropped.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_rule(&mut self, rule: &Rule) -> anyhow::Result<()> {
        Ok(self.client.add_rule(rule)?)
    }

    /// The same, at one end of its list.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_rule_at(&mut self, rule: &Rule, placement: Placement) -> anyhow::Result<()> {
        Ok(self.client.add_rule_at(rule, placement)?)
    }

    /// Takes a rule out.
    ///
    /// # Errors
    /// Where the kernel does not have it.
    pub fn delete_rule(&mut self, rule: &Rule) -> anyhow::Result<()> {
        Ok(self.client.delete_rule(rule)?)
    }

    /// Changes settings until the guard is dropped.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set(&mut self, change: &StatusChange) -> anyhow::Result<()> {
        Ok(self.client.set(change)?)
    }

    /// Fails unless every setting is as the guard found it and the rules are those plus `added`.
    ///
    /// # Errors
    /// With both states in the message.
    pub fn check_restored(&mut self, added: &[Rule]) -> anyhow::Result<()> {
        let now = Settings::from(self.status()?);
        ensure!(
            now == self.before,
            "settings were {:?} and are {now:?}",
            self.before
        );
        let mut expected = self.rules.clone();
        expected.extend_from_slice(added);
        let rules = self.client.rules()?;
        ensure!(
            rules.len() == expected.len() && expected.iter().all(|rule| rules.contains(rule)),
            "rules were {:?} and are {:?}",
            texts(&expected),
            texts(&rules)
        );
        Ok(())
    }

    fn restore(&mut self) -> anyhow::Result<()> {
        for rule in self.client.rules()? {
            if !self.rules.contains(&rule) {
                match self.client.delete_rule(&rule) {
                    Ok(()) | Err(ClientError::NoSuchRule { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let now = Settings::from(self.client.status()?);
        let changed = |before: u32, now: u32| (before != now).then_some(before);
        self.client.set(&StatusChange {
            enabled: changed(self.before.enabled, now.enabled),
            failure: changed(self.before.failure, now.failure),
            rate_limit: changed(self.before.rate_limit, now.rate_limit),
            backlog_limit: changed(self.before.backlog_limit, now.backlog_limit),
            backlog_wait_time: self
                .before
                .backlog_wait_time
                .filter(|before| Some(*before) != now.backlog_wait_time),
        })?;
        // A daemon that was killed is noticed only when the kernel next sends to it.
        let began = Instant::now();
        while self.client.status()?.pid != self.before.pid && began.elapsed() < RELEASE_TIME {
            thread::sleep(Duration::from_millis(50));
        }
        self.check_restored(&[])
    }
}

impl Drop for AuditGuard {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            if thread::panicking() {
                eprintln!("the audit state could not be put back: {error:#}");
            } else {
                panic!("the audit state could not be put back: {error:#}");
            }
        }
    }
}

/// A rule that audits `syscalls` of `arch` by user `uid` alone, under `key` behind [`KEY`].
pub fn rule_for(uid: u32, arch: Arch, syscalls: &[&str], key: &str) -> Rule {
    Rule::always_exit()
        .arch(arch)
        .syscalls(arch, syscalls)
        .condition(Field::UID, Operator::EQUAL, uid)
        .key(format!("{KEY}-{key}"))
}

fn texts(rules: &[Rule]) -> Vec<String> {
    rules.iter().map(Rule::to_string).collect()
}
