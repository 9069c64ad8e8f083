//! What the kernel and the programs themselves have counted.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::{Program, ProgramInfo};
use collector_ebpf::{InFlight, Kept, LossReason, MAX_CONDITIONS, Note, TextCounters, TextReason};
use zerocopy::FromBytes as _;

use super::{Witness, WitnessError, kept_entries};
use crate::probe::error::{map_error, no_map};
use crate::probe::hooks::{Level, REASONS};

/// What the programs have counted, over all CPUs. `attempted = submitted + ring_full + in_flight_full`, apart from
/// samples being sent while the counters are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples the programs meant to send.
    pub attempted: u64,
    /// Samples put into the ring.
    pub submitted: u64,
    /// Bytes these take there.
    pub submitted_bytes: u64,
    /// Samples the ring had no room for.
    pub ring_full: u64,
    /// Calls that could not be remembered between entry and exit; at most so many samples are missing.
    pub in_flight_full: u64,
    /// Samples that are without what the kernel had noted for the records, because it could not be kept to the call's end.
    pub kept_full: u64,
    /// Strings and addresses that could not be read.
    pub unreadable: u64,
    /// Exits without a known entry; not an error.
    pub without_entry: u64,
    /// Records the kernel has given up since the programs were attached, by [`LossReason`]; none where no program was
    /// there to see it.
    pub lost_records: Option<[u64; LossReason::COUNT]>,
}

/// What the kernel counts of one program (`struct bpf_prog_info` of include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramFigures {
    /// The program.
    pub name: &'static str,
    /// Whether it is attached.
    pub attached: bool,
    /// How often and how long it ran; stays 0 while `kernel.bpf_stats_enabled` is 0.
    pub runs: u64,
    /// See above.
    pub run_time: Duration,
    /// Runs the kernel left out because the program was already running on that CPU (`recursion_misses`, since 5.12).
    pub missed_runs: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map.
    pub name: &'static str,
    /// Entries it has.
    pub entries: u64,
    /// Entries it can have.
    pub capacity: u64,
}

impl Witness {
    /// What happened to records behind the audit queue, by [`TextReason`], as far as programs are there to see it.
    ///
    /// # Errors
    /// [`WitnessError::Map`].
    pub fn text_counters(&self) -> Result<[TextCounters; TextReason::COUNT], WitnessError> {
        const NAME: &str = "TEXT_COUNTS";
        let map = self.ebpf.map(NAME).ok_or_else(|| no_map(NAME))?;
        let array: PerCpuArray<&MapData, [u8; size_of::<TextCounters>()]> =
            map.try_into().map_err(map_error(NAME, "open"))?;
        let mut sums = [TextCounters::default(); TextReason::COUNT];
        for (reason, sum) in (0..).zip(&mut sums) {
            let per_cpu = array.get(&reason, 0).map_err(map_error(NAME, "read"))?;
            for bytes in per_cpu.iter() {
                if let Ok(cpu) = TextCounters::read_from_bytes(bytes) {
                    *sum = sum.plus(cpu);
                }
            }
        }
        Ok(sums)
    }

    /// What the programs have counted so far.
    ///
    /// # Errors
    /// [`WitnessError::Map`].
    pub fn counters(&self) -> Result<Counters, WitnessError> {
        let map = self
            .ebpf
            .map("COUNTERS")
            .ok_or_else(|| no_map("COUNTERS"))?;
        let array: PerCpuArray<&MapData, [u8; size_of::<collector_ebpf::Counters>()]> =
            map.try_into().map_err(map_error("COUNTERS", "open"))?;
        let mut sum = collector_ebpf::Counters::default();
        for program in 0..array.len() {
            let per_cpu = array
                .get(&program, 0)
                .map_err(map_error("COUNTERS", "read"))?;
            for bytes in per_cpu.iter() {
                if let Ok(cpu) = collector_ebpf::Counters::read_from_bytes(bytes) {
                    sum = sum.plus(cpu);
                }
            }
        }
        Ok(Counters {
            attempted: sum.attempted,
            submitted: sum.submitted,
            submitted_bytes: sum.submitted_bytes,
            ring_full: sum.ring_full,
            in_flight_full: sum.in_flight_full,
            kept_full: sum.kept_full,
            unreadable: sum.unreadable,
            without_entry: sum.without_entry,
            lost_records: self.lost_records()?,
        })
    }

    /// The loaded programs as the kernel counts them. What it does not tell is 0.
    pub fn programs(&self) -> Vec<ProgramFigures> {
        let hooks = (self.hooks.programs()).map(|(name, attached)| (name, name, attached));
        (self.tracepoints.programs())
            .chain(hooks)
            .map(|(name, program, attached)| {
                let program = self.ebpf.program(program);
                let info = program.and_then(|program| program.info().ok());
                ProgramFigures {
                    name,
                    attached,
                    runs: info.as_ref().map_or(0, ProgramInfo::run_count),
                    run_time: info.as_ref().map_or(Duration::ZERO, ProgramInfo::run_time),
                    missed_runs: program.and_then(missed_runs).unwrap_or_default(),
                }
            })
            .collect()
    }

    /// The maps that can run full.
    ///
    /// # Errors
    /// [`WitnessError::Map`].
    pub fn maps(&self) -> Result<Vec<MapFill>, WitnessError> {
        let in_flight = self.config.in_flight;
        let fill = |name, entries, capacity| MapFill {
            name,
            entries,
            capacity: u64::from(capacity),
        };
        let mut maps = vec![
            fill("conditions", self.n_conditions, MAX_CONDITIONS),
            fill(
                "in_flight",
                self.n_entries::<{ size_of::<InFlight>() }>("IN_FLIGHT")?,
                in_flight,
            ),
        ];
        if self.level() == Level::AuditHooks {
            let notes = self.n_entries::<{ size_of::<Note>() }>("NOTES")?;
            maps.push(fill("notes", notes, in_flight));
            let kept = self.n_entries::<{ size_of::<Kept>() }>("KEPT")?;
            maps.push(fill("kept", kept, kept_entries(in_flight)));
        }
        Ok(maps)
    }

    /// How many entries a map keyed by task has, counted in one pass. Where the entry last seen was removed meanwhile the
    /// kernel begins again, which ends the pass: a busy map may have some more.
    fn n_entries<const BYTES: usize>(&self, name: &'static str) -> Result<u64, WitnessError> {
        let map = self.ebpf.map(name).ok_or_else(|| no_map(name))?;
        let elements: HashMap<&MapData, u64, [u8; BYTES]> =
            map.try_into().map_err(map_error(name, "open"))?;
        let mut seen = HashSet::new();
        for task in elements.keys() {
            if !seen.insert(task.map_err(map_error(name, "read"))?) {
                break;
            }
        }
        Ok(seen.len() as u64)
    }

    fn lost_records(&self) -> Result<Option<[u64; LossReason::COUNT]>, WitnessError> {
        const NAME: &str = "LOST";
        if !self.hooks.has(REASONS) {
            return Ok(None);
        }
        let map = self.ebpf.map(NAME).ok_or_else(|| no_map(NAME))?;
        let array: PerCpuArray<&MapData, u64> = map.try_into().map_err(map_error(NAME, "open"))?;
        let mut lost = [0; LossReason::COUNT];
        for (reason, lost) in (0..).zip(&mut lost) {
            let per_cpu = array.get(&reason, 0).map_err(map_error(NAME, "read"))?;
            *lost = per_cpu.iter().sum();
        }
        Ok(Some(lost))
    }
}

/// `bpf_prog_info` has this count as well, which aya does not hand out; fdinfo shows the same.
fn missed_runs(program: &Program) -> Option<u64> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}
