//! Any stamps at any times: no panic, gaps are disjoint and counted as told, and never the half of all serials.
//!
//! `cargo fuzz run -s none gaps` runs it with the pinned toolchain.
#![no_main]

use std::time::Duration;

use collector::audit::gaps::GapTracker;
use collector::audit::record::{Serial, Stamp};
use collector::clock::{KtimeNs, TimeMs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut tracker = GapTracker::new(Duration::from_secs(3), TimeMs(0));
    let mut out = Vec::new();
    let (mut serial, mut time, mut now) = (u32::MAX - 100, 1_000_000u64, 0u64);
    let mut n_steps = 0;
    for step in data.chunks_exact(4) {
        let jump = i32::from(step[0] as i8) << (step[1] & 31);
        serial = serial.wrapping_add_signed(jump);
        time = time.saturating_add_signed(i64::from(step[2] as i8) << (step[1] >> 5));
        now += u64::from(step[3]) * 10_000_000;
        let stamp = Stamp {
            time: TimeMs(time),
            serial: Serial(serial),
        };
        tracker.saw(stamp, KtimeNs(now));
        tracker.tick(KtimeNs(now), &mut out);
        n_steps += 1;
    }
    tracker.flush(KtimeNs(now), &mut out);
    let counts = tracker.counts();
    assert_eq!(counts.gaps, out.len() as u64);
    assert_eq!(counts.missing, out.iter().map(|gap| gap.count).sum::<u64>());
    assert!(counts.missing <= n_steps * u64::from(GapTracker::MAX_JUMP));
    for gap in &out {
        assert_eq!(
            u64::from(gap.last.0.wrapping_sub(gap.first.0)) + 1,
            gap.count
        );
        assert!(gap.first.ahead_of(gap.before.serial) > 0);
        assert!(gap.after.serial.ahead_of(gap.last) > 0);
    }
});
