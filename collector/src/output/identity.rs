//! Which machine, and which boot of it, the stream tells of.

use std::fs;
use std::io;

/// Makes ids unique for ever and names the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kernel's id of this boot (random(4)): serials start again with each boot.
    pub boot_id: String,
    /// The host's name.
    pub host: String,
}

impl Identity {
    /// Asks this machine's kernel.
    pub fn of_this_machine() -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let host = nix::unistd::gethostname()?;
        Ok(Self {
            boot_id: boot_id.trim_end().to_owned(),
            host: host.to_string_lossy().into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_an_identity() {
        let identity = Identity::of_this_machine().unwrap();
        assert_eq!(identity.boot_id.len(), 36, "{identity:?}");
        assert!(!identity.host.is_empty());
    }
}
