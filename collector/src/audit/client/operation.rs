//! What can be asked of the kernel.

use std::fmt;

use super::TtyStatus;
use crate::audit::feature::{Feature, FeatureLock, FeatureState};
use crate::audit::privilege::Capability;
use crate::audit::record::RecordType;
use crate::audit::status::StatusField;

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading the status.
    GetStatus,
    /// Changing one setting.
    Set {
        /// Which.
        field: StatusField,
        /// To what.
        value: u32,
    },
    /// Setting a counter back to zero.
    Reset {
        /// Which.
        field: StatusField,
    },
    /// Registering as the audit daemon.
    Claim,
    /// Giving the audit pid back.
    Release,
    /// Reading the rules.
    ListRules,
    /// Adding a rule.
    AddRule,
    /// Removing a rule.
    DeleteRule,
    /// Reading the features.
    GetFeatures,
    /// Switching a feature.
    SetFeature {
        /// Which.
        feature: Feature,
        /// Which way.
        state: FeatureState,
        /// Whether it is to stay so.
        lock: FeatureLock,
    },
    /// Writing a record of user space.
    UserMessage {
        /// Its type.
        message_type: RecordType,
    },
    /// Reading whether what is typed is recorded.
    GetTty,
    /// Setting whether what is typed is recorded.
    SetTty {
        /// How.
        status: TtyStatus,
    },
    /// Reading who sent the daemon a signal.
    SignalInfo,
    /// Dropping the watches of what was unmounted.
    Trim,
    /// Extending watches to a subtree mounted elsewhere.
    MakeEquivalent,
}

impl Operation {
    /// The capability the kernel asks for (kernel/audit.c `audit_netlink_ok`).
    pub const fn capability(self) -> Capability {
        match self {
            Self::UserMessage { .. } => Capability::AuditWrite,
            _ => Capability::AuditControl,
        }
    }

    /// Whether the kernel refuses this while the configuration is locked (`enabled` 2).
    pub(super) const fn is_locked_with_the_configuration(self) -> bool {
        matches!(
            self,
            Self::Set { .. } | Self::AddRule | Self::DeleteRule | Self::Trim | Self::MakeEquivalent
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GetStatus => write!(f, "read the audit status"),
            Self::Set { field, value } => write!(f, "set {} to {value}", field.name()),
            Self::Reset { field } => write!(f, "reset {}", field.name()),
            Self::Claim => write!(f, "claim the audit pid"),
            Self::Release => write!(f, "release the audit pid"),
            Self::ListRules => write!(f, "list the audit rules"),
            Self::AddRule => write!(f, "add an audit rule"),
            Self::DeleteRule => write!(f, "delete an audit rule"),
            Self::GetFeatures => write!(f, "read the audit features"),
            Self::SetFeature {
                feature,
                state,
                lock,
            } => {
                let state = match state {
                    FeatureState::Off => "off",
                    FeatureState::On => "on",
                };
                let lock = match lock {
                    FeatureLock::Open => "",
                    FeatureLock::Locked => " and lock it",
                };
                write!(f, "switch {} {state}{lock}", feature.name())
            }
            Self::UserMessage { message_type } => {
                write!(f, "send a user message of type {}", message_type.0)
            }
            Self::GetTty => write!(f, "read the tty audit status"),
            Self::SetTty { .. } => write!(f, "set the tty audit status"),
            Self::SignalInfo => write!(f, "read who sent the audit daemon a signal"),
            Self::Trim => write!(f, "trim the watched subtrees"),
            Self::MakeEquivalent => write!(f, "make two subtrees equivalent"),
        }
    }
}
