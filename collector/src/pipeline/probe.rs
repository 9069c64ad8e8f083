//! The eBPF witness as the pipeline sees it: probing, the rules it judges by, whom it leaves out, its figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::account;
use crate::audit::rules::Rule;
use crate::clock::KtimeNs;
use crate::config::{self, EbpfConfig, EbpfUse, Level};
use crate::pipeline::peak::Peak;
use crate::pipeline::rules::held::Held;
use crate::pipeline::{samples, texts};
use crate::probe::hooks;
use crate::probe::load::{
    Counters, LogLevel, Reads, SENDERS, Witness, WitnessConfig, WitnessError,
};
use crate::probe::mirror::Mirror;
use crate::probe::places::Places;
use crate::probe::resolve::Resolver;
use crate::probe::ring::Ring;
use crate::probe::texts::{TextCounters, TextMirror, TextReason};

/// The loaded programs.
pub(super) struct Probe {
    witness: Witness,
    counts: Arc<samples::Counts>,
    holder: u32,
    ring_size: u64,
    text_counts: Arc<texts::Counts>,
    text_ring_size: u64,
    /// The programs' counters, and the samples that had been read by then.
    last: (Counters, [u64; SENDERS.len()]),
    last_texts: [TextCounters; TextReason::COUNT],
    missed_runs: BTreeMap<&'static str, u64>,
    /// By map, under its name in metrics.
    update_errors: BTreeMap<&'static str, u64>,
    peak: Peak,
    text_peak: Peak,
    resolver: Resolver,
}

/// A witness that has begun to watch.
pub(super) struct Started {
    pub(super) probe: Probe,
    pub(super) ring: Ring,
    pub(super) texts: Option<Ring>,
    pub(super) mirror: Box<Mirror>,
    pub(super) since: KtimeNs,
    pub(super) exempt: Vec<u32>,
}

/// The loaded programs before they watch.
pub(super) struct Loaded {
    probe: Probe,
    ring: Ring,
    texts: Option<Ring>,
}

/// How what the programs send is read, and what of it has been.
pub(super) struct Readers {
    pub(super) samples: Arc<samples::Counts>,
    pub(super) texts: Arc<texts::Counts>,
    /// The cookie of our multicast socket; none where we are the daemon.
    pub(super) socket: Option<u64>,
}

impl Loaded {
    /// Loads the programs; none where eBPF is off, or cannot be had and need not be. To be done before auditing is
    /// switched on, as the kernel reports each program that is loaded (kernel/bpf/syscall.c `bpf_audit_prog`).
    pub(super) fn new(config: &EbpfConfig) -> Result<Option<Self>, WitnessError> {
        let loaded = match config.r#use {
            EbpfUse::Off => return Ok(None),
            EbpfUse::Auto | EbpfUse::On => Self::load(config),
        };
        match loaded {
            Err(error) if config.r#use == EbpfUse::Auto => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "no eBPF witness: losses can be seen in the audit stream only, and nothing is given back; `audit-collector doctor` says what is missing"
                );
                Ok(None)
            }
            loaded => loaded.map(Some),
        }
    }

    fn load(config: &EbpfConfig) -> Result<Self, WitnessError> {
        let mut witness = Witness::load(&WitnessConfig {
            level: hooks::Level::AuditHooks,
            ring_bytes: config.ring_bytes,
            in_flight: config.in_flight,
            text_mirror: text_mirror(config.text_mirror),
            text_ring_bytes: config.text_ring_bytes,
            own_tgid: std::process::id(),
            reads: Reads::default(),
            log_level: log_level(config.log),
        })?;
        if let Some(reason) = witness.hooks_refused() {
            tracing::info!(
                reason,
                "the kernel's own decisions cannot be watched; the loaded rules say what is expected"
            );
        }
        for (program, reason) in witness.refused() {
            tracing::info!(
                program,
                reason,
                "a function behind the audit queue cannot be watched; what it would tell of losses is not known"
            );
        }
        let ring = witness.take_ring()?;
        let texts = witness.take_texts()?;
        let probe = Probe {
            witness,
            counts: Arc::default(),
            holder: 0,
            ring_size: ring.size(),
            text_counts: Arc::default(),
            text_ring_size: texts.as_ref().map_or(0, Ring::size),
            last: Default::default(),
            last_texts: Default::default(),
            missed_runs: BTreeMap::new(),
            update_errors: BTreeMap::new(),
            peak: Peak::default(),
            text_peak: Peak::default(),
            resolver: Resolver::default(),
        };
        Ok(Self { probe, ring, texts })
    }

    /// Which texts of records they send.
    pub(super) fn text_mirror(&self) -> TextMirror {
        self.probe.witness.text_mirror()
    }

    /// Gives the programs the rules and attaches them. `holder` is who holds the audit pid.
    pub(super) fn watch(
        self,
        rules: &Held,
        holder: u32,
        readers: Readers,
    ) -> Result<Started, WitnessError> {
        let Self {
            mut probe,
            ring,
            texts,
        } = self;
        probe.counts = readers.samples;
        probe.text_counts = readers.texts;
        probe.witness.follow_socket(readers.socket)?;
        let mirror = probe.judge_by(&rules.loaded, rules.generation)?;
        let exempt = probe
            .exempt_holder(holder)?
            .unwrap_or_else(|| probe.exempt());
        probe.witness.attach()?;
        Ok(Started {
            probe,
            ring,
            texts,
            mirror,
            since: KtimeNs::now(),
            exempt,
        })
    }
}

impl Probe {
    /// Judges calls by `rules` from now on.
    pub(super) fn judge_by(
        &mut self,
        rules: &[Rule],
        generation: u32,
    ) -> Result<Box<Mirror>, WitnessError> {
        let mirror = Mirror::compile(rules);
        let set = self.witness.set_rules(&mirror, generation);
        self.count_update(set)?;
        self.resolver.follow(rules);
        Ok(Box::new(mirror))
    }

    /// Looks at what the paths in the rules stand for.
    pub(super) fn look_at_places(&mut self) -> Option<Places> {
        self.resolver.look()
    }

    /// Leaves out the audit daemon's own calls, which the kernel never reports (kernel/auditsc.c `auditd_test_task`); the
    /// new list where the daemon is another than before.
    pub(super) fn exempt_holder(&mut self, holder: u32) -> Result<Option<Vec<u32>>, WitnessError> {
        if holder == self.holder {
            return Ok(None);
        }
        self.holder = holder;
        let exempt = self.exempt();
        let set = self.witness.set_exempt(&exempt);
        self.count_update(set)?;
        Ok(Some(exempt))
    }

    fn count_update(&mut self, done: Result<(), WitnessError>) -> Result<(), WitnessError> {
        if let Err(WitnessError::Map { map, .. }) = &done {
            let name = match *map {
                "CONDITIONS" => "conditions",
                "PLANS" => "plans",
                _ => "control",
            };
            *self.update_errors.entry(name).or_default() += 1;
        }
        done
    }

    fn exempt(&self) -> Vec<u32> {
        let own = std::process::id();
        let mut exempt = vec![own];
        if self.holder != 0 && self.holder != own {
            exempt.push(self.holder);
        }
        exempt
    }

    /// What the programs can tell on this kernel.
    pub(super) fn level(&self) -> hooks::Level {
        self.witness.level()
    }

    /// Why they cannot tell more; none where they can tell everything.
    pub(super) fn limited_by(&self) -> Option<&str> {
        self.witness.hooks_refused()
    }

    /// Takes the programs off their hooks. The ring can still be read.
    pub(super) fn detach(&mut self) {
        if let Err(error) = self.witness.detach() {
            tracing::warn!(%error, "the witness was not detached; the kernel does it when this process ends");
        }
    }

    /// What was counted of the texts of records.
    fn texts(&mut self) -> account::Texts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // First, so that no more can have been read than was sent.
        let counts = &self.text_counts;
        let (n_read, read_bytes) = (read(&counts.read), read(&counts.read_bytes));
        let undecodable = read(&counts.undecodable);
        match self.witness.text_counters() {
            Ok(counters) => self.last_texts = counters,
            Err(error) => {
                tracing::debug!(%error, "the counters of texts cannot be read; the last ones stand");
            }
        }
        let sum = self
            .last_texts
            .iter()
            .fold(TextCounters::default(), |sum, of| sum.plus(*of));
        let seen = |reason: TextReason| self.last_texts[reason as usize].seen;
        let used = sum.submitted_bytes.saturating_sub(read_bytes);
        account::Texts {
            not_held: seen(TextReason::NotHeld),
            overruns: seen(TextReason::SocketOverrun),
            submitted: sum.submitted,
            read: n_read,
            dropped: [
                ("ring_full", sum.ring_full),
                ("unreadable", sum.unreadable),
                ("missed_run", self.missed_runs_of(Behind::TheQueue)),
                ("undecodable", undecodable),
            ]
            .into(),
            ring_size: self.text_ring_size,
            ring_used: used,
            ring_used_peak: self.text_peak.note(KtimeNs::now(), used),
        }
    }

    fn missed_runs_of(&self, watch: Behind) -> u64 {
        let of =
            |program: &&str| hooks::is_behind_the_queue(program) == (watch == Behind::TheQueue);
        let missed = self.missed_runs.iter();
        missed
            .filter(|(program, _)| of(program))
            .map(|(_, runs)| runs)
            .sum()
    }

    /// What the programs and the ring's reader have counted.
    pub(super) fn figures(&mut self) -> account::Ebpf {
        self.witness.flush_log();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // First, so that no more can have been read than was sent.
        let samples = self.counts.read.each_ref().map(read);
        match self.witness.counters() {
            Ok(counters) => self.last = (counters, samples),
            Err(error) => {
                tracing::debug!(%error, "the programs' counters cannot be read; the last ones stand");
            }
        }
        let (counters, samples) = self.last;
        let programs = self.witness.programs();
        for program in &programs {
            // Put together from files, one of which may have been unreadable.
            let missed = self.missed_runs.entry(program.name).or_default();
            *missed = program.missed_runs.max(*missed);
        }
        self.update_errors
            .insert("in_flight", counters.in_flight_full);
        self.update_errors.insert("kept", counters.kept_full);
        let used = counters
            .submitted_bytes
            .saturating_sub(read(&self.counts.read_bytes));
        account::Ebpf {
            programs: programs
                .iter()
                .map(|program| (program.name, program.attached))
                .collect(),
            attempted: counters.attempted,
            submitted: counters.submitted,
            read: std::iter::zip(self.witness.senders().iter().copied(), samples).collect(),
            dropped: [
                ("ring_full", counters.ring_full),
                ("in_flight_full", counters.in_flight_full),
                ("missed_run", self.missed_runs_of(Behind::Elsewhere)),
                ("undecodable", read(&self.counts.undecodable)),
            ]
            .into(),
            lost_records: counters.lost_records,
            texts: self.texts(),
            unreadable: counters.unreadable,
            ring_size: self.ring_size,
            ring_used: used,
            ring_used_peak: self.peak.note(KtimeNs::now(), used),
            runs: programs
                .iter()
                // Nothing was measured unless the host asks for it.
                .filter(|program| program.runs > 0)
                .map(|program| {
                    let runs = account::ProgramRuns {
                        runs: program.runs,
                        time: program.run_time,
                    };
                    (program.name, runs)
                })
                .collect(),
            missed_runs: self.missed_runs.clone(),
            map_update_errors: self.update_errors.clone(),
            maps: self
                .witness
                .maps()
                .unwrap_or_default()
                .into_iter()
                .map(|map| (map.name, (map.entries, map.capacity)))
                .collect(),
        }
    }
}

/// What programs watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    TheQueue,
    Elsewhere,
}

const fn text_mirror(mirror: config::TextMirror) -> TextMirror {
    match mirror {
        config::TextMirror::Off => TextMirror::Off,
        config::TextMirror::Lost => TextMirror::Lost,
        config::TextMirror::All => TextMirror::All,
    }
}

/// The programs know three levels.
const fn log_level(level: Level) -> LogLevel {
    match level {
        Level::Off => LogLevel::Off,
        Level::Error | Level::Warn | Level::Info => LogLevel::Warn,
        Level::Debug | Level::Trace => LogLevel::Debug,
    }
}
