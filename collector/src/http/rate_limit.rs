//! A bucket of tokens: one request takes one, one comes back every interval, and no more than the burst is held.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often requests are answered.
#[derive(Debug)]
pub(super) struct RateLimit {
    interval: Duration,
    burst: u32,
    /// What is in the bucket, and as of when.
    bucket: Mutex<(f64, Instant)>,
}

impl RateLimit {
    /// A full bucket. `interval` is above zero.
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst,
            bucket: Mutex::new((f64::from(burst), Instant::now())),
        }
    }

    /// Whether a request at `now` is to be answered.
    pub(super) fn allows(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *bucket;
        let back = now.saturating_duration_since(since).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (tokens + back).min(f64::from(self.burst));
        let allowed = tokens >= 1.0;
        *bucket = (tokens - f64::from(u8::from(allowed)), now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_answered_and_then_one_an_interval() {
        let limit = RateLimit::new(Duration::from_secs(1), 2);
        let now = Instant::now();
        let at = |ms| limit.allows(now + Duration::from_millis(ms));
        assert_eq!([at(0), at(0), at(10)], [true, true, false]);
        assert_eq!([at(1_100), at(1_200)], [true, false]);
        assert_eq!([at(9_000), at(9_000), at(9_000)], [true, true, false]);
    }
}
