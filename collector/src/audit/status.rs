//! The kernel's audit status, `struct audit_status` of include/uapi/linux/audit.h.
//!
//! Owns the layout of the status on the wire and the counters that turn the kernel's 32-bit samples into totals.
//! No I/O; the one clock it asks is the resolution of the coarse clock, for the kernel's tick.

use std::time::Duration;

use crate::audit::message;

/// The eleven fields of `struct audit_status`, in the kernel's units. A field is none where the kernel's reply was
/// too short to hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStatus {
    /// 0 disabled, 1 enabled, 2 enabled and locked until reboot.
    pub enabled: u32,
    /// What the kernel does when it loses a record: 0 nothing, 1 printk, 2 panic.
    pub failure: u32,
    /// Process id of the registered audit daemon as seen from our pid namespace, 0 for none.
    pub pid: u32,
    /// Records per second, 0 for no limit.
    pub rate_limit: u32,
    /// Records the queue may hold, 0 for no limit.
    pub backlog_limit: u32,
    /// Records lost since boot or the last reset, modulo 2³².
    pub lost: u32,
    /// Records in the queue now.
    pub backlog: u32,
    /// `AUDIT_FEATURE_BITMAP_*`.
    pub feature_bitmap: Option<u32>,
    /// Longest time a task waits for room in the queue, in jiffies.
    pub backlog_wait_time: Option<u32>,
    /// Sum of the times tasks have waited, in jiffies, modulo 2³².
    pub backlog_wait_time_actual: Option<u32>,
}

/// Length of the oldest `struct audit_status`, up to and with `backlog`.
pub const SHORTEST: usize = 32;

/// Length of today's `struct audit_status`.
pub const LENGTH: usize = 44;

/// A reply is too short to be a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit status of {length} bytes is shorter than the oldest one, {SHORTEST}")]
pub struct StatusTooShort {
    /// Its length in bytes.
    pub length: usize,
}

impl KernelStatus {
    /// Reads the payload of an `AUDIT_GET` reply. Fields a shorter reply lacks are none; what a longer one adds is
    /// ignored.
    ///
    /// # Errors
    /// Where it is shorter than the oldest struct.
    pub fn decode(payload: &[u8]) -> Result<Self, StatusTooShort> {
        let word = |index: usize| message::u32_at(payload, index * 4);
        let required = |index| {
            word(index).ok_or(StatusTooShort {
                length: payload.len(),
            })
        };
        // Word 0 is the mask, which a reply leaves at zero.
        Ok(Self {
            backlog: required(7)?,
            enabled: required(1)?,
            failure: required(2)?,
            pid: required(3)?,
            rate_limit: required(4)?,
            backlog_limit: required(5)?,
            lost: required(6)?,
            feature_bitmap: word(8),
            backlog_wait_time: word(9),
            backlog_wait_time_actual: word(10),
        })
    }

    /// The value of `field`; none where the kernel's reply was too short to hold it.
    pub fn field(&self, field: StatusField) -> Option<u32> {
        match field {
            StatusField::Enabled => Some(self.enabled),
            StatusField::Failure => Some(self.failure),
            StatusField::Pid => Some(self.pid),
            StatusField::RateLimit => Some(self.rate_limit),
            StatusField::BacklogLimit => Some(self.backlog_limit),
            StatusField::BacklogWaitTime => self.backlog_wait_time,
            StatusField::Lost => Some(self.lost),
            StatusField::BacklogWaitTimeActual => self.backlog_wait_time_actual,
        }
    }
}

/// A field of the status that can be set (`AUDIT_STATUS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusField {
    /// `AUDIT_STATUS_ENABLED`
    Enabled,
    /// `AUDIT_STATUS_FAILURE`
    Failure,
    /// `AUDIT_STATUS_PID`
    Pid,
    /// `AUDIT_STATUS_RATE_LIMIT`
    RateLimit,
    /// `AUDIT_STATUS_BACKLOG_LIMIT`
    BacklogLimit,
    /// `AUDIT_STATUS_BACKLOG_WAIT_TIME`
    BacklogWaitTime,
    /// `AUDIT_STATUS_LOST`
    Lost,
    /// `AUDIT_STATUS_BACKLOG_WAIT_TIME_ACTUAL`
    BacklogWaitTimeActual,
}

impl StatusField {
    /// The kernel's name of the field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Failure => "failure",
            Self::Pid => "pid",
            Self::RateLimit => "rate_limit",
            Self::BacklogLimit => "backlog_limit",
            Self::BacklogWaitTime => "backlog_wait_time",
            Self::Lost => "lost",
            Self::BacklogWaitTimeActual => "backlog_wait_time_actual",
        }
    }

    /// Its bit in the mask, and which word of the struct it is.
    const fn place(self) -> (u32, usize) {
        match self {
            Self::Enabled => (0x01, 1),
            Self::Failure => (0x02, 2),
            Self::Pid => (0x04, 3),
            Self::RateLimit => (0x08, 4),
            Self::BacklogLimit => (0x10, 5),
            Self::Lost => (0x40, 6),
            Self::BacklogWaitTime => (0x20, 9),
            Self::BacklogWaitTimeActual => (0x80, 10),
        }
    }
}

/// Which settings to change, and to what; in the kernel's units as in [`KernelStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusChange {
    /// 0 disabled, 1 enabled, 2 enabled and locked until reboot.
    pub enabled: Option<u32>,
    /// 0 silent, 1 printk, 2 panic.
    pub failure: Option<u32>,
    /// Records per second, 0 for no limit.
    pub rate_limit: Option<u32>,
    /// Records, 0 for no limit.
    pub backlog_limit: Option<u32>,
    /// Jiffies.
    pub backlog_wait_time: Option<u32>,
}

impl StatusChange {
    /// The changes in the order to make them: limits before auditing is switched on, and the switch, which may lock
    /// all others, last.
    pub fn fields(&self) -> impl Iterator<Item = (StatusField, u32)> {
        [
            (StatusField::BacklogLimit, self.backlog_limit),
            (StatusField::BacklogWaitTime, self.backlog_wait_time),
            (StatusField::RateLimit, self.rate_limit),
            (StatusField::Failure, self.failure),
            (StatusField::Enabled, self.enabled),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, value?)))
    }
}

/// The payload of an `AUDIT_SET` request for one field. One field per request tells which of them the kernel refuses.
pub(super) fn encode_set(field: StatusField, value: u32) -> [u8; LENGTH] {
    let (mask, word) = field.place();
    let mut payload = [0; LENGTH];
    payload[..4].copy_from_slice(&mask.to_ne_bytes());
    payload[word * 4..word * 4 + 4].copy_from_slice(&value.to_ne_bytes());
    payload
}

/// How a sample changed a [`WrappingTotal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// By how much the total grew.
    pub added: u64,
    /// Whether the kernel's counter had been reset.
    pub reset: bool,
}

/// A total over samples of one of the kernel's 32-bit counters, which wraps and which anyone may reset.
///
/// The rule: the first sample is the start and counts nothing. A sample not below the last one adds the difference.
/// A sample below it is a wrap if that means an advance of less than [`WrappingTotal::WRAP_LIMIT`], else a reset, and
/// then the sample itself is what came since. So a reset never adds more than the counter's own value, and a wrap is
/// not taken for one as long as fewer than `WRAP_LIMIT` are added between two samples. A reset after which the counter
/// passes its old value before the next sample looks like an advance; no reader of samples can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrappingTotal {
    last: Option<u32>,
    total: u64,
    resets: u64,
}

/// Records the kernel lost, as samples of `lost`.
pub type LostCounter = WrappingTotal;

impl WrappingTotal {
    /// Most a counter is believed to advance across its wrap between two samples.
    pub const WRAP_LIMIT: u32 = 1 << 28;

    /// Takes a sample.
    pub fn observe(&mut self, sample: u32) -> Step {
        let step = match self.last {
            None => Step::default(),
            Some(last) => {
                let advance = sample.wrapping_sub(last);
                if sample >= last || advance < Self::WRAP_LIMIT {
                    Step {
                        added: u64::from(advance),
                        reset: false,
                    }
                } else {
                    Step {
                        added: u64::from(sample),
                        reset: true,
                    }
                }
            }
        };
        self.last = Some(sample);
        self.apply(step)
    }

    /// Takes the value the counter had when we reset it ourselves ([`crate::audit::client::Client::reset_lost`]), so
    /// that nothing between the last sample and the reset is missed.
    pub fn observe_reset(&mut self, old: u32) -> Step {
        let before = self.observe(old);
        self.last = Some(0);
        self.resets += 1;
        Step {
            reset: true,
            ..before
        }
    }

    /// The sum since the first sample.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How often the counter was reset.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    fn apply(&mut self, step: Step) -> Step {
        self.total += step.added;
        self.resets += u64::from(step.reset);
        step
    }
}

/// Ticks per second of the running kernel (CONFIG_HZ), the unit of its waiting times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickRate(u32);

impl TickRate {
    /// Asks the kernel: the coarse clock advances once per tick and its resolution says so
    /// (kernel/time/posix-timers.c `posix_get_coarse_res`). None where the answer is not a plausible tick.
    pub fn of_kernel() -> Option<Self> {
        let resolution = nix::time::ClockId::CLOCK_MONOTONIC_COARSE.res().ok()?;
        if resolution.tv_sec() != 0 {
            return None;
        }
        Self::from_resolution(u64::try_from(resolution.tv_nsec()).ok()?)
    }

    /// The rate whose tick lasts `ns` nanoseconds; none outside 10 to 10,000 per second.
    fn from_resolution(ns: u64) -> Option<Self> {
        let hz = u32::try_from((1_000_000_000 + ns / 2).checked_div(ns)?).ok()?;
        (10..=10_000).contains(&hz).then_some(Self(hz))
    }

    /// Ticks per second.
    pub fn hz(self) -> u32 {
        self.0
    }

    /// How long `jiffies` ticks last.
    pub fn duration(self, jiffies: u64) -> Duration {
        let hz = u64::from(self.0);
        Duration::from_secs(jiffies / hz) + Duration::from_nanos(jiffies % hz * 1_000_000_000 / hz)
    }

    /// How many ticks `duration` is, rounded up; `u32::MAX` for what does not fit.
    pub fn jiffies(self, duration: Duration) -> u32 {
        let ticks = (duration.as_nanos() * u128::from(self.0)).div_ceil(1_000_000_000);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(words: usize) -> Vec<u8> {
        (0..words as u32).flat_map(u32::to_ne_bytes).collect()
    }

    #[test]
    fn status_of_any_length_from_the_oldest_on_is_read() {
        let oldest = KernelStatus::decode(&payload(8)).unwrap();
        assert_eq!((oldest.enabled, oldest.backlog), (1, 7));
        assert_eq!(oldest.feature_bitmap, None);
        let today = KernelStatus::decode(&payload(11)).unwrap();
        assert_eq!(today.backlog_wait_time, Some(9));
        assert_eq!(today.backlog_wait_time_actual, Some(10));
        assert_eq!(KernelStatus::decode(&payload(40)).unwrap(), today);
        // Half a field is no field.
        let mut odd = payload(11);
        odd.truncate(43);
        assert_eq!(
            KernelStatus::decode(&odd).unwrap().backlog_wait_time_actual,
            None
        );
        assert_eq!(
            KernelStatus::decode(&payload(7)),
            Err(StatusTooShort { length: 28 })
        );
        assert!(KernelStatus::decode(&[]).is_err());
    }

    #[test]
    fn each_field_is_set_with_its_own_mask_and_word() {
        let set = encode_set(StatusField::BacklogWaitTime, 77);
        assert_eq!(set[..4], 0x20_u32.to_ne_bytes());
        let status = KernelStatus::decode(&set).unwrap();
        assert_eq!(
            status,
            KernelStatus {
                feature_bitmap: Some(0),
                backlog_wait_time: Some(77),
                backlog_wait_time_actual: Some(0),
                ..KernelStatus::default()
            }
        );
        assert_eq!(encode_set(StatusField::Pid, 5)[12..16], 5_u32.to_ne_bytes());
    }

    #[test]
    fn auditing_is_switched_last() {
        let change = StatusChange {
            enabled: Some(2),
            rate_limit: Some(1),
            ..StatusChange::default()
        };
        let fields: Vec<_> = change.fields().collect();
        assert_eq!(
            fields,
            [(StatusField::RateLimit, 1), (StatusField::Enabled, 2)]
        );
    }

    #[test]
    fn a_reset_never_makes_the_total_jump() {
        for last in [1_u32, 1000, 1 << 31, 3_000_000_000] {
            let mut lost = LostCounter::default();
            lost.observe(0);
            lost.observe(last);
            let step = lost.observe(0);
            assert_eq!(
                step,
                Step {
                    added: 0,
                    reset: true
                },
                "after {last}"
            );
            assert_eq!(lost.observe(4).added, 4);
            assert_eq!(lost.total(), u64::from(last) + 4);
            assert_eq!(lost.resets(), 1);
        }
    }

    #[test]
    fn a_wrap_counts_across_two_to_the_32() {
        let mut lost = LostCounter::default();
        lost.observe(u32::MAX - 9);
        assert_eq!(
            lost.observe(10),
            Step {
                added: 20,
                reset: false
            }
        );
        assert_eq!((lost.total(), lost.resets()), (20, 0));
    }

    #[test]
    fn what_was_lost_before_the_start_is_not_ours() {
        let mut lost = LostCounter::default();
        assert_eq!(lost.observe(5_000), Step::default());
        assert_eq!(lost.total(), 0);
    }

    #[test]
    fn a_reset_of_our_own_misses_nothing() {
        let mut lost = LostCounter::default();
        lost.observe(100);
        assert_eq!(
            lost.observe_reset(130),
            Step {
                added: 30,
                reset: true
            }
        );
        assert_eq!(
            lost.observe(5),
            Step {
                added: 5,
                reset: false
            }
        );
        assert_eq!((lost.total(), lost.resets()), (35, 1));
    }

    #[test]
    fn ticks_become_time_and_back() {
        let rate = TickRate::from_resolution(4_000_000).unwrap();
        assert_eq!(rate.hz(), 250);
        assert_eq!(rate.duration(15_000), Duration::from_secs(60));
        assert_eq!(rate.duration(1), Duration::from_millis(4));
        assert_eq!(rate.jiffies(Duration::from_secs(60)), 15_000);
        assert_eq!(rate.jiffies(Duration::from_millis(1)), 1);
        assert_eq!(rate.jiffies(Duration::MAX), u32::MAX);
        // HZ=300 has a tick that is no whole number of nanoseconds.
        assert_eq!(TickRate::from_resolution(3_333_333).unwrap().hz(), 300);
        assert_eq!(TickRate::from_resolution(0), None);
        assert_eq!(TickRate::from_resolution(1), None);
    }

    #[test]
    fn the_running_kernel_tells_its_tick() {
        let rate = TickRate::of_kernel().unwrap();
        assert!([100, 250, 300, 1000].contains(&rate.hz()), "{rate:?}");
    }
}
