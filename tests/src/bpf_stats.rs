//! Whether the kernel measures what BPF programs cost, as a test found it and as it leaves it.

use std::fs;

use anyhow::Context as _;

const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// It does until this is dropped.
#[derive(Debug)]
pub struct BpfStats(String);

impl BpfStats {
    /// Switches it on.
    ///
    /// # Errors
    /// Where the kernel does not let us.
    pub fn on() -> anyhow::Result<Self> {
        let before = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
        fs::write(PATH, "1").with_context(|| format!("cannot write {PATH}"))?;
        Ok(Self(before))
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        let _ = fs::write(PATH, self.0.trim());
    }
}
