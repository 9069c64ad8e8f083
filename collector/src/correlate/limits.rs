//! How long the matcher waits, and for how much.

use std::time::Duration;

/// Times and capacities.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an audit event waits for its observation.
    pub event_wait: Duration,
    /// How long an observation waits at least; longer than it takes an event without its end to time out and wait.
    pub observation_wait: Duration,
    /// How long a record may still be on its way to a match after it was read: until its event times out and has waited.
    pub settle_wait: Duration,
    /// How long an observation waits at most for an audit stream that has not moved past it and does not move at all. While
    /// it moves, it will get there.
    pub longest_wait: Duration,
    /// Observations that may wait.
    pub max_observations: usize,
    /// Bytes of the samples of those.
    pub max_observation_bytes: usize,
    /// Audit events that may wait.
    pub max_events: usize,
    /// Bytes of the records of those.
    pub max_event_bytes: usize,
}

impl Limits {
    /// Limits that fit a reassembly timeout: an observation waits `reorder_window`, and never less than an event that
    /// lost its end takes to get here.
    pub fn new(reassembly_timeout: Duration, reorder_window: Duration) -> Self {
        let event_wait = Duration::from_secs(1);
        let least = reassembly_timeout + event_wait + Duration::from_millis(500);
        Self {
            event_wait,
            observation_wait: reorder_window.max(least),
            settle_wait: least,
            longest_wait: Duration::from_secs(60),
            max_observations: 262_144,
            max_observation_bytes: 256 << 20,
            max_events: 65_536,
            max_event_bytes: 64 << 20,
        }
    }
}
