//! The switches of the audit subsystem that can be locked.

/// A switch of the audit subsystem that can be locked (`AUDIT_FEATURE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// The login user of a task can be set while it is unset, and not after.
    OnlyUnsetLoginuid,
    /// The login user of a task cannot be changed once it is set, whatever its capabilities.
    LoginuidImmutable,
}
