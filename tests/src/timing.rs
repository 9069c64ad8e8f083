//! Calls whose time is taken: at a steady rate, or as fast as they can be made.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use collector::clock::KtimeNs;
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::sys;

/// What is called over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Timed {
    /// getppid, which does next to nothing.
    Getppid,
    /// openat and close of `/dev/null`.
    Open,
}

const PATH: &CStr = c"/dev/null";

/// `count` times openat and close, `rate` a second; the mode argument numbers them from 1. When each was made, in ns of
/// `CLOCK_MONOTONIC`. What is late is caught up with.
///
/// # Errors
/// The errno.
pub fn paced(rate: u32, count: u32) -> io::Result<Vec<u64>> {
    // By itself the kernel wakes a sleeper some 50 µs late.
    prctl::set_timerslack(1)?;
    let first = KtimeNs::now();
    (1..=count)
        .map(|call| {
            let since = Duration::from_secs(1) * call / rate;
            sleep_until(first.plus(since))?;
            let now = KtimeNs::now();
            open(call)?;
            Ok(now.0)
        })
        .collect()
}

/// The CPU time of this process for each of `n_batches` batches of `count` calls, in ns.
///
/// # Errors
/// The errno.
pub fn batches(call: Timed, n_batches: u32, count: u32) -> io::Result<Vec<u64>> {
    (0..n_batches)
        .map(|batch| {
            let began = sys::cpu_time()?;
            for number in 1..=count {
                match call {
                    Timed::Getppid => sys::call(libc::SYS_getppid, [0; 5]).map(drop)?,
                    Timed::Open => open(batch * count + number)?,
                }
            }
            Ok((sys::cpu_time()? - began).as_nanos() as u64)
        })
        .collect()
}

fn open(number: u32) -> io::Result<()> {
    sys::openat(sys::AT_FDCWD, PATH, number).map(sys::close)
}

fn sleep_until(time: KtimeNs) -> io::Result<()> {
    let time = TimeSpec::from_duration(Duration::from_nanos(time.0));
    let clock = ClockId::CLOCK_MONOTONIC;
    clock_nanosleep(clock, ClockNanosleepFlags::TIMER_ABSTIME, &time)?;
    Ok(())
}
