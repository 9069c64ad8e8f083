//! Waiting for what must come.

use std::thread;
use std::time::{Duration, Instant};

/// The shortest and the longest time until one looks again; between them it is a tenth of what one has waited, as looking costs
/// something too.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

/// What `look` finds once it finds something.
///
/// # Panics
/// With what `missing` says, where it has found nothing for as long as `limit`.
#[track_caller]
pub fn for_some<T>(
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
    missing: impl FnOnce() -> String,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = began.elapsed();
        assert!(waited < limit, "waited {limit:?}: {}", missing());
        thread::sleep((waited / 10).clamp(SHORTEST, LONGEST));
    }
}

/// Returns once `holds`.
///
/// # Panics
/// As [`for_some`].
#[track_caller]
pub fn until(limit: Duration, mut holds: impl FnMut() -> bool, missing: impl FnOnce() -> String) {
    for_some(limit, || holds().then_some(()), missing);
}
