//! The two clocks of the collector, as plain numbers.
//!
//! Owns the time types and reads the clocks; the core modules only ever receive the values.
//! Monotonic time is `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns()`, so that a sample taken in
//! the kernel and a datagram read in user space lie on one axis.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KtimeNs(pub u64);

impl KtimeNs {
    /// The time now.
    pub fn now() -> Self {
        Self(clock_ns(libc::CLOCK_MONOTONIC))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This time, `later` later.
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(duration_ns(later)))
    }

    /// This time, `earlier` earlier; never before the start of the clock.
    pub fn minus(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(duration_ns(earlier)))
    }
}

/// Milliseconds since the epoch, the resolution of an audit stamp (`audit(sec.ms:serial)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeMs(pub u64);

/// `CLOCK_REALTIME` minus `CLOCK_MONOTONIC` in nanoseconds; changes only when the clock is stepped or slewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealtimeOffset(pub i64);

impl RealtimeOffset {
    /// Samples both clocks. Of several tries the one with the shortest distance between its two monotonic
    /// readings counts, so that being descheduled in between does not spoil it.
    pub fn sample() -> Self {
        let mut best = (u64::MAX, 0);
        for _ in 0..5 {
            let before = clock_ns(libc::CLOCK_MONOTONIC);
            let real = clock_ns(libc::CLOCK_REALTIME);
            let after = clock_ns(libc::CLOCK_MONOTONIC);
            let spread = after.saturating_sub(before);
            if spread < best.0 {
                best = (spread, real as i64 - (before + spread / 2) as i64);
            }
        }
        Self(best.1)
    }

    /// The wall-clock time of a monotonic instant.
    pub fn wall(self, at: KtimeNs) -> TimeMs {
        TimeMs((at.0 as i64).saturating_add(self.0).max(0) as u64 / 1_000_000)
    }

    /// The monotonic instant of a wall-clock time; the start of the clock for times before it.
    pub fn monotonic(self, at: TimeMs) -> KtimeNs {
        let ns = (at.0 as i64).saturating_mul(1_000_000);
        KtimeNs(ns.saturating_sub(self.0).max(0) as u64)
    }
}

fn duration_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let time = nix::time::ClockId::from_raw(clock)
        .now()
        .expect("CLOCK_MONOTONIC and CLOCK_REALTIME exist on every Linux");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_turns_monotonic_into_wall_and_back() {
        let offset = RealtimeOffset(1_700_000_000_000_000_000);
        let at = KtimeNs(5_000_000_000);
        assert_eq!(offset.wall(at), TimeMs(1_700_000_005_000));
        assert_eq!(offset.monotonic(TimeMs(1_700_000_005_000)), at);
        assert_eq!(offset.monotonic(TimeMs(0)), KtimeNs(0));
    }

    #[test]
    fn sampled_offset_agrees_with_the_system_clock() {
        let wall = RealtimeOffset::sample().wall(KtimeNs::now());
        let system = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64;
        assert!(system.abs_diff(wall.0) < 1_000, "{system} and {}", wall.0);
    }
}
