//! Calls at a steady rate: how long until they are told, and what the programs use meanwhile.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use audit_collector_tests::audit_state::{AuditGuard, rule_for};
use audit_collector_tests::workload::Held;
use collector::audit::arch::Arch;

use crate::allocations::Allocations;
use crate::figure::grouped;
use crate::report::{Column, Group, Report, Target};
use crate::rounds::{Extent, Sample, Session, Subject};
use crate::taker::{Taker, Who};
use crate::watcher::{PERIOD, Seen, Watcher};

/// Whose calls they are.
const UID: u32 = 60_911;

/// Calls a second.
const RATES: [u32; 3] = [100, 1_000, 10_000];

/// What the last calls may take to be told. The draining after it is not measured: the collector is asked then how far it is.
const TAIL: Duration = Duration::from_millis(300);

/// Seconds of calls before any allocation is counted, and while they are.
const WARM_UP: u32 = 2;
const COUNTED: u32 = 3;

const TAKERS: [Who; 3] = [Who::Auditd, Who::AuditdAndLaurel, Who::Ours];

const LATENCY: [Column; 5] = [
    Column::new("p50_ms", "p50, ms", 2),
    Column::new("p99_ms", "p99, ms", 2),
    Column::new("p999_ms", "p99.9, ms", 2),
    Column::new("most_ms", "most, ms", 2),
    Column::new("told_percent", "told, %", 2),
];

const USAGE: [Column; 10] = [
    Column::new("own_ms", "CPU ms per 1,000 events", 2),
    Column::new("laurel_ms", "of laurel", 2),
    Column::new("kauditd_ms", "of kauditd", 2),
    Column::new("user_space_ms", "user space in all", 2),
    Column::new("resident_mib", "resident MiB", 1),
    Column::new("ring_mib", "of which rings", 1),
    Column::new("ringless_mib", "the rest", 1),
    Column::new("anonymous_mib", "of which RssAnon", 1),
    Column::new("allocations", "allocations per event", 2),
    Column::new("told_percent", "told, %", 2),
];

/// What holds of both benches.
const HOW: &str = "One process makes openat and close of /dev/null at a steady rate; every openat is audited. \
    Nobody loses anything: callers may wait for room in the kernel's queue. auditd and laurel as Debian configures them, \
    the collector as it is by itself, as the daemon at level syscalls, with JSON to a file.";

/// From the call to its line in the file.
pub(crate) fn latency(session: &Session) -> anyhow::Result<Report> {
    let seconds = match session.extent {
        Extent::Usual => 5,
        Extent::Full => 30,
    };
    let mut report = Report {
        bench: "latency",
        title: "Latency: from the call to the line in the sink",
        how: vec![
            HOW.into(),
            format!(
                "The time is that from right before the call until another process sees its line in the file, at which it looks \
                 every {} µs; {seconds} s of calls in each round.",
                PERIOD.as_micros()
            ),
        ],
        groups: Vec::new(),
        ratios: Vec::new(),
    };
    for rate in RATES {
        let steady = Steady { rate, seconds };
        let group = steady.compare(session, &LATENCY, Steady::measure)?;
        let target = Target::AtMost(50.0);
        let what = format!("{}: p99, ms", steady.title());
        let ours = Who::Ours.name();
        report
            .ratios
            .extend(group.figure(what, "p99_ms", ours, 2, target));
        report.groups.push(group);
    }
    Ok(report)
}

/// What it takes to keep up.
pub(crate) fn usage(session: &Session) -> anyhow::Result<Report> {
    let seconds = match session.extent {
        Extent::Usual => 10,
        Extent::Full => 60,
    };
    let mut report = Report {
        bench: "steady",
        title: "Steady rates: memory and CPU",
        how: vec![
            HOW.into(),
            format!(
                "{seconds} s of calls in each round; memory at their end. Rings are what of the BPF maps is mapped and resident (a ring's pages \
                 are mapped twice, and count twice). Allocations are counted in runs of their own, by probes at the functions of \
                 the C library, by the threads there are {WARM_UP} s after the first call, for {COUNTED} s and a little: those of events and of all \
                 that the programs do meanwhile."
            ),
        ],
        groups: Vec::new(),
        ratios: Vec::new(),
    };
    let ours = Who::Ours.name();
    for rate in RATES {
        let steady = Steady { rate, seconds };
        let group = steady.compare(session, &USAGE, Steady::measure_and_count)?;
        report.ratios.extend(group.ratio(
            format!("{}: user space, of auditd + laurel", steady.title()),
            "user_space_ms",
            ours,
            Who::AuditdAndLaurel.name(),
            Some(Target::AtMost(0.5)),
        ));
        report.ratios.extend(group.figure(
            format!("{}: resident without rings, MiB", steady.title()),
            "ringless_mib",
            ours,
            1,
            Target::AtMost(40.0),
        ));
        report.groups.push(group);
    }
    Ok(report)
}

#[derive(Clone, Copy)]
struct Steady {
    rate: u32,
    seconds: u32,
}

impl Steady {
    fn title(self) -> String {
        format!("{} events/s", grouped(f64::from(self.rate), 0))
    }

    fn compare(
        self,
        session: &Session,
        columns: &[Column],
        measure: fn(Self, Who) -> anyhow::Result<Sample>,
    ) -> anyhow::Result<Group> {
        let subjects = TAKERS
            .map(|who| Subject::new(who.name(), move || measure(self, who)))
            .into();
        session.alternate(&self.title(), columns, subjects)
    }

    fn measure(self, who: Who) -> anyhow::Result<Sample> {
        let (mut guard, mut taker) = audited(who)?;
        let (file, number) = taker.output().context("nobody writes")?;
        let watcher = Watcher::start(file, number);
        let count = self.rate * self.seconds;
        let held = self.calls(count)?;
        let before = taker.used()?;
        let made = held.go().times()?;
        thread::sleep(TAIL);
        let (used, memory) = (taker.used()?.since(before), taker.memory()?);
        taker.drain(&mut guard, u64::from(count))?;
        let seen = watcher.stop()?;
        taker.stop()?;
        ensure!(made.len() == count as usize, "not all calls were made");
        let mut sample = latencies(&made, &seen)?;
        let thousands = f64::from(count) / 1_000.0;
        used.tell_per(thousands, &mut sample);
        memory.tell(&mut sample);
        Ok(sample)
    }

    /// The same, and how often the programs ask for memory.
    fn measure_and_count(self, who: Who) -> anyhow::Result<Sample> {
        let mut sample = self.measure(who)?;
        sample.insert("allocations", self.allocations(who)?);
        Ok(sample)
    }

    /// How often memory is asked for on behalf of one event, once the programs have their buffers.
    fn allocations(self, who: Who) -> anyhow::Result<f64> {
        let (mut guard, mut taker) = audited(who)?;
        let (first, counted) = (self.rate * WARM_UP, self.rate * COUNTED);
        self.calls(first)?.go().times()?;
        let held = self.calls(counted)?;
        let allocations = Allocations::of(&taker.pids())?;
        held.go().times()?;
        thread::sleep(TAIL);
        let asked = allocations.count()?;
        drop(allocations);
        taker.drain(&mut guard, u64::from(first + counted))?;
        taker.stop()?;
        Ok(asked as f64 / f64::from(counted))
    }

    /// A process that will make so many calls.
    fn calls(self, count: u32) -> anyhow::Result<Held> {
        let (rate, calls) = (self.rate.to_string(), count.to_string());
        let held = Held::start(UID, &["pace", "--rate", &rate, "--count", &calls])?;
        // Until it has become the user and waits.
        thread::sleep(Duration::from_millis(100));
        Ok(held)
    }
}

/// Has the calls audited, and `who` take the records.
fn audited(who: Who) -> anyhow::Result<(AuditGuard, Taker)> {
    let mut guard = AuditGuard::take()?;
    guard.add_rule(&rule_for(UID, Arch::NATIVE, &["openat"], "bench"))?;
    guard.enable()?;
    let taker = Taker::start(who, &[])?;
    Ok((guard, taker))
}

/// What the times of the calls and those of their lines come to.
fn latencies(made: &[u64], seen: &[Seen]) -> anyhow::Result<Sample> {
    let mut first: Vec<Option<u64>> = vec![None; made.len()];
    for line in seen {
        let call = (line.call as usize).checked_sub(1);
        let place = call.and_then(|call| first.get_mut(call));
        // An event that is told twice counts once.
        place
            .with_context(|| format!("call {} was never made", line.call))?
            .get_or_insert(line.at.0);
    }
    let mut waits: Vec<u64> = made
        .iter()
        .zip(&first)
        .filter_map(|(made, seen)| Some((*seen)?.saturating_sub(*made)))
        .collect();
    ensure!(!waits.is_empty(), "no call was told");
    waits.sort_unstable();
    let ms = |permille: usize| waits[(waits.len() - 1) * permille / 1_000] as f64 / 1e6;
    Ok(Sample::from([
        ("p50_ms", ms(500)),
        ("p99_ms", ms(990)),
        ("p999_ms", ms(999)),
        ("most_ms", ms(1_000)),
        (
            "told_percent",
            waits.len() as f64 / made.len() as f64 * 100.0,
        ),
    ]))
}

#[cfg(test)]
mod tests {
    use collector::clock::KtimeNs;

    use super::*;

    #[test]
    fn a_call_told_twice_counts_at_its_first_line_and_one_never_told_is_missing() {
        let seen = [(1, 2_000_000), (2, 5_000_000), (1, 9_000_000)];
        let seen = seen.map(|(call, at)| Seen {
            call,
            at: KtimeNs(at),
        });
        let sample = latencies(&[1_000_000, 2_000_000, 3_000_000, 4_000_000], &seen).unwrap();
        assert_eq!(sample["p50_ms"], 1.0);
        assert_eq!(sample["most_ms"], 3.0);
        assert_eq!(sample["told_percent"], 50.0);
        assert!(latencies(&[1], &seen).is_err());
        assert!(latencies(&[1], &[]).is_err());
    }
}
