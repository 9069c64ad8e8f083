//! The signals that would end a command between two requests to the kernel.

use std::sync::OnceLock;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

static BEFORE: OnceLock<Option<SigSet>> = OnceLock::new();

/// Holds back SIGHUP, SIGINT, SIGQUIT and SIGTERM in this thread, from which the command starts no other: what was begun
/// is finished first, and told.
pub(super) fn hold() {
    BEFORE.get_or_init(|| {
        let signals = SigSet::from_iter([
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ]);
        signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()
    });
}

/// Lets a signal take effect that came while a command held it back. For the end of the program, when all is said.
pub fn release() {
    if let Some(Some(before)) = BEFORE.get() {
        // It was this thread's mask before, so the kernel accepts it.
        let _ = before.thread_set_mask();
    }
}
