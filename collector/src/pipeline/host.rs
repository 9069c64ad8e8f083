//! What the collector changes on the host, and puts back.

use crate::audit::client::{Client, ClientError};
use crate::audit::rules::{Placement, example_rules};
use crate::audit::settings::{Loaded, Restore, Settings};
use crate::audit::socket::{Delivery, EventSocket};
use crate::audit::status::StatusField;
use crate::config::{AuditConfig, Failure};
use crate::pipeline::RunError;
use crate::pipeline::rules::files::{RuleFiles, Undo};
use crate::pipeline::seat::{Claim, Seat};

/// The key of the example rules.
pub(super) const EXAMPLE_KEY: &str = "audit-collector-example";

/// `enabled` of `struct audit_status`: on, and on until the next boot.
const ENABLED: u32 = 1;
const LOCKED: u32 = 2;

/// The audit pid, settings and rules that are ours for the time of the run. Dropping it puts them back as well.
#[derive(Debug)]
pub(super) struct Host {
    restore: Option<Restore>,
    /// The audit pid where it is ours, or was before another took it.
    pub(super) seat: Option<Seat>,
    /// How to undo what loading rule files did.
    undo: Option<Undo>,
}

impl Host {
    /// Claims the audit pid where records are to come by unicast, then makes the settings and loads the rules asked for.
    pub(super) fn take_over(
        socket: &mut EventSocket,
        config: &AuditConfig,
        files: Option<&RuleFiles>,
    ) -> Result<Self, RunError> {
        let mut host = Self {
            restore: Some(Restore::begin(Client::connect()?)?),
            seat: None,
            undo: None,
        };
        let daemon = socket.delivery() == Delivery::Unicast;
        if daemon {
            socket.claim()?;
            host.seat = Some(Seat::taken(match config.reclaim {
                true => Claim::Again,
                false => Claim::Once,
            }));
        }
        let Some(restore) = &mut host.restore else {
            return Ok(host);
        };
        // What the files say of it stands where the configuration says nothing.
        let by_default = daemon && !files.is_some_and(|files| files.set(StatusField::Enabled));
        let enable = config.enable.unwrap_or(by_default) && restore.before().enabled == 0;
        if !daemon {
            if config.changes_kernel() {
                tracing::warn!(
                    "another audit daemon lives: its settings and rules are left as they are, whatever this configuration asks for"
                );
            }
            restore.apply(&Settings {
                enabled: enable.then_some(ENABLED),
                ..Settings::default()
            })?;
            return Ok(host);
        }
        restore.apply(&Settings {
            backlog_limit: config.backlog_limit,
            backlog_wait_time: config.backlog_wait_time,
            rate_limit: config.rate_limit,
            failure: config.failure.map(Failure::number),
            enabled: enable.then_some(ENABLED),
        })?;
        if let Some(files) = files {
            host.undo = files.load(restore, config)?;
        }
        if config.example_rules {
            let rules = example_rules(EXAMPLE_KEY);
            let mut loaded = 0;
            for rule in &rules {
                loaded += usize::from(restore.add_rule(rule, Placement::Last)? == Loaded::Added);
            }
            tracing::info!(
                "loaded {loaded} of {} example rules with the key {EXAMPLE_KEY}; they go at exit",
                rules.len()
            );
        }
        if config.immutable {
            restore.client().set(&Settings {
                enabled: Some(LOCKED),
                ..Settings::default()
            })?;
            tracing::warn!(
                "the audit configuration is locked until the next boot: nothing can be put back at exit"
            );
        }
        Ok(host)
    }

    /// Whether the kernel sends to another process, or to nobody, though we had been made its daemon.
    pub(super) fn is_displaced(&self) -> bool {
        self.seat.as_ref().is_some_and(Seat::is_displaced)
    }

    /// How many rules [`Host::put_back`] may have to take out and put in.
    pub(super) fn n_rules_to_undo(&self) -> usize {
        self.undo.as_ref().map_or(0, Undo::n_rules)
    }

    /// Takes out what was put in, gives the pid back. Later calls do nothing.
    pub(super) fn put_back(&mut self) {
        let Some(mut restore) = self.restore.take() else {
            return;
        };
        let released = match self.seat.take() {
            Some(seat) if seat.is_taken() => Err(ClientError::NotHolder),
            Some(seat) if !seat.is_displaced() => restore.client().release_pid(),
            _ => Ok(()),
        };
        match released {
            Ok(()) => {}
            Err(ClientError::NotHolder) => {
                tracing::warn!(
                    "another process is the audit daemon now: settings and rules are left to it as they are"
                );
                return restore.leave();
            }
            Err(error) => {
                tracing::warn!(%error, "the audit pid was not given back; the kernel will notice when it next sends a record");
            }
        }
        if let Some(undo) = self.undo.take()
            && let Err(error) = undo.run(restore.client())
        {
            tracing::error!(%error, "the audit rules are not as they were; `audit-collector rules list` shows what is in force");
        }
        let done = restore.restore();
        for (field, value) in done.changed_by_others {
            tracing::warn!(
                "{} was set to {value} by another program meanwhile; it was left so",
                field.name()
            );
        }
        for error in done.failed {
            tracing::error!(%error, "an audit setting or rule was not put back; `audit-collector status` and `audit-collector rules list` show what is in force");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.put_back();
    }
}
