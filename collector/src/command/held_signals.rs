//! The signals that would end a command between two requests to the kernel.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Holds back SIGHUP, SIGINT, SIGQUIT and SIGTERM. One that came meanwhile takes effect when this is dropped: what was
/// begun is finished first.
#[derive(Debug)]
pub(super) struct HeldSignals {
    before: Option<SigSet>,
}

impl HeldSignals {
    /// Holds them back in this thread, from which the command starts no other.
    pub(super) fn hold() -> Self {
        let signals = SigSet::from_iter([
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ]);
        Self {
            before: signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok(),
        }
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was this thread's mask before, so the kernel accepts it.
            let _ = before.thread_set_mask();
        }
    }
}
