//! What a line means only on a certain host.

/// What the language asks the host a rule is meant for.
pub trait Host {
    /// The id of a user, by name.
    fn user_id(&self, name: &str) -> Option<u32>;

    /// The id of a group, by name.
    fn group_id(&self, name: &str) -> Option<u32>;

    /// Whether `path` is a directory now. `-w` then watches all below it.
    fn is_directory(&self, path: &[u8]) -> bool;
}
