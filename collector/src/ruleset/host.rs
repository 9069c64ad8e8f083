//! The host this program runs on, as the language asks for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::audit::language::Host;

/// Asks this host's databases of users and groups, and its file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalHost;

impl Host for LocalHost {
    fn user_id(&self, name: &str) -> Option<u32> {
        Some(uzers::get_user_by_name(name)?.uid())
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        Some(uzers::get_group_by_name(name)?.gid())
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).is_dir()
    }
}
