//! Whether what was loaded last is in force: written by who loads, read by the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};

/// What came of loading the configuration: at start, and of what is loaded again while the collector runs.
#[derive(Debug, Default)]
pub struct LoadState {
    refused: AtomicBool,
    last_success: AtomicU64,
}

impl LoadState {
    /// The configuration was loaded now.
    pub fn loaded(&self) {
        let now = RealtimeOffset::sample().wall(KtimeNs::now());
        self.last_success.store(now.0, Ordering::Relaxed);
        self.refused.store(false, Ordering::Relaxed);
    }

    /// It could not be loaded again; what was loaded before stays in force.
    pub fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the last attempt succeeded.
    pub fn last_reload_succeeded(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// When it was loaded last; none where it never was.
    pub fn last_success(&self) -> Option<TimeMs> {
        match self.last_success.load(Ordering::Relaxed) {
            0 => None,
            time => Some(TimeMs(time)),
        }
    }
}
