//! Changing the kernel's audit settings and rules for a while, and putting them back.
//!
//! Owns the memory of what was changed. [`Restore::restore`] undoes exactly that: settings that were not touched, and
//! settings that somebody else changed in the meantime, stay as they are. Dropping a [`Restore`] does the same as a
//! last resort. What a killed process leaves behind nobody undoes.

use tracing::warn;

use crate::audit::client::{Client, ClientError};
use crate::audit::rules::{Placement, Rule};
use crate::audit::status::{KernelStatus, StatusChange, StatusField};

/// The settings a run asks for; none leaves a setting as it is. Units as in [`KernelStatus`].
pub type Settings = StatusChange;

/// What became of a rule that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It was added, and will be removed.
    Added,
    /// It was there before, and will stay.
    Existed,
}

/// What [`Restore::restore`] did.
#[derive(Debug, Default)]
pub struct Restoration {
    /// Settings that have their old value again.
    pub settings: Vec<StatusField>,
    /// Rules removed.
    pub rules: usize,
    /// Settings that somebody else had changed, with their value now; they were left alone.
    pub changed_by_others: Vec<(StatusField, u32)>,
    /// What could not be undone.
    pub failed: Vec<ClientError>,
}

/// A setting that was changed.
#[derive(Clone, Copy, Debug)]
struct Changed {
    field: StatusField,
    old: u32,
    new: u32,
}

/// Changes settings and rules, and remembers how to undo it.
#[derive(Debug)]
pub struct Restore {
    client: Client,
    before: KernelStatus,
    changed: Vec<Changed>,
    rules: Vec<Rule>,
}

impl Restore {
    /// Notes the status as it is now.
    ///
    /// # Errors
    /// Where the status cannot be read.
    pub fn begin(mut client: Client) -> Result<Self, ClientError> {
        let before = client.status()?;
        Ok(Self {
            client,
            before,
            changed: Vec::new(),
            rules: Vec::new(),
        })
    }

    /// The status as it was at the beginning.
    pub fn before(&self) -> &KernelStatus {
        &self.before
    }

    /// The connection, for requests that change nothing.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Makes the settings that differ from what is in force.
    ///
    /// # Errors
    /// The first setting the kernel refuses is named. The ones before it were made and will be undone.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), ClientError> {
        let now = self.client.status()?;
        for (field, new) in settings.fields() {
            let old = now.field(field);
            if old == Some(new) {
                continue;
            }
            self.client.set_field(field, new)?;
            // A kernel that accepts a setting also reports it.
            if let Some(old) = old {
                self.note(field, old, new);
            }
        }
        Ok(())
    }

    /// Notes a setting that was changed in another way, so that it is undone as if it had been changed here.
    pub fn note(&mut self, field: StatusField, old: u32, new: u32) {
        match self.changed.iter_mut().find(|c| c.field == field) {
            Some(changed) => changed.new = new,
            None => self.changed.push(Changed { field, old, new }),
        }
    }

    /// Leaves everything as it is now.
    pub fn leave(mut self) {
        self.changed.clear();
        self.rules.clear();
    }

    /// Adds a rule, unless it is loaded already.
    ///
    /// # Errors
    /// Whatever the kernel refuses but a duplicate.
    pub fn add_rule(&mut self, rule: &Rule, placement: Placement) -> Result<Loaded, ClientError> {
        match self.client.add_rule_at(rule, placement) {
            Ok(()) => {
                self.rules.push(rule.clone());
                Ok(Loaded::Added)
            }
            Err(ClientError::RuleExists { .. }) => Ok(Loaded::Existed),
            Err(error) => Err(error),
        }
    }

    /// Undoes everything, the last change first. Failures do not keep the rest from being undone.
    pub fn restore(mut self) -> Restoration {
        self.undo()
    }

    fn undo(&mut self) -> Restoration {
        let mut done = Restoration::default();
        for rule in std::mem::take(&mut self.rules).iter().rev() {
            match self.client.delete_rule(rule) {
                Ok(()) => done.rules += 1,
                // Somebody else has removed it.
                Err(ClientError::NoSuchRule { .. }) => {}
                Err(error) => done.failed.push(error),
            }
        }
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            return done;
        }
        let now = match self.client.status() {
            Ok(now) => now,
            Err(error) => {
                done.failed.push(error);
                return done;
            }
        };
        for Changed { field, old, new } in changed.into_iter().rev() {
            match now.field(field) {
                Some(value) if value != new => done.changed_by_others.push((field, value)),
                _ => match self.client.set_field(field, old) {
                    Ok(()) => done.settings.push(field),
                    Err(error) => done.failed.push(error),
                },
            }
        }
        done
    }
}

impl Restoration {
    /// Whether everything that was ours to undo is undone.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        for error in self.undo().failed {
            warn!(error = %error, "audit settings were not put back");
        }
    }
}
