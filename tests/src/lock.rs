//! One user of the kernel's audit state at a time, across all processes of the machine.

use std::fs::{File, OpenOptions};

use anyhow::Context as _;

/// Where the lock lies; whoever changes audit state by hand can hold it with flock(1).
pub const PATH: &str = "/run/lock/audit-collector.lock";

/// Held until dropped.
#[derive(Debug)]
pub struct KernelLock {
    _file: File,
}

impl KernelLock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn acquire() -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(PATH)
            .with_context(|| format!("cannot open {PATH}"))?;
        file.lock().with_context(|| format!("cannot lock {PATH}"))?;
        Ok(Self { _file: file })
    }
}
