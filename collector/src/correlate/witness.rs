//! The eBPF witness as it stands: what it watches, since when, and what its rules say.
//!
//! All times are monotonic, so that a step of the wall clock moves none of them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audit::record::RecordType;
use crate::audit::records::SyscallFields;
use crate::audit::rules::Keys;
use crate::clock::KtimeNs;
use crate::probe::hooks::Level;
use crate::probe::observation::{Observation, Verdict};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

/// What the eBPF witness watches, and what the rules say; implemented by the rule mirror.
pub trait Watch {
    /// Whether a call of this number can produce an observation.
    fn covers(&self, arch: u32, syscall: u32) -> bool;
    /// What the rules in force say of a call the kernel reported; none where no rule asks for it.
    fn judge_record(&self, fields: &SyscallFields<'_>) -> Option<Verdict>;
    /// What the rules in force say of an observed call; none where no rule asks for it.
    fn judge_observation(&self, observation: &Observation) -> Option<Verdict>;
    /// What all that is known of an observed call says of a *maybe*.
    fn settle(&self, observation: &Observation, places: &Places) -> Settled;
    /// Whether the exclude list surely drops the record of this type from the event of an observed call.
    fn excludes(&self, observation: &Observation, places: &Places, record_type: RecordType)
    -> bool;
    /// The keys of the exit rule at this place of the list.
    fn keys(&self, rule: u16) -> Keys;
}

/// A set of rules the witness judges by from some time on.
pub struct Rules {
    /// What they say.
    pub watch: Box<dyn Watch + Send>,
    /// Observations name the set they were judged by.
    pub generation: u32,
    /// Up to here the kernel was seen to hold the rules before.
    pub former_until: KtimeNs,
    /// From here on the witness judges by these.
    pub since: KtimeNs,
}

pub(super) struct Witness {
    rules: Rules,
    /// Generations before the one in force, and up to when the kernel was seen to hold each.
    former: VecDeque<(u32, KtimeNs)>,
    attached: KtimeNs,
    detached: Option<KtimeNs>,
    /// What the paths in the rules stand for.
    pub(super) places: Places,
    pub(super) level: Level,
    /// Calls of these processes are not watched: our own, and the audit daemon's.
    pub(super) exempt: Vec<u32>,
}

impl Witness {
    /// A stamp is the coarse clock at entry: a tick behind it, and more on a machine whose ticks are late.
    const STAMP_LAG: Duration = Duration::from_millis(250);
    /// Former generations that are remembered: at one change a second, those of the minute that an observation waits for a stream that
    /// stands still. What waits longer under rules that change all the time is judged by those in force.
    const FORMER: usize = 64;

    pub(super) fn new(rules: Rules, exempt: Vec<u32>, level: Level) -> Self {
        Self {
            attached: rules.since,
            rules,
            former: VecDeque::new(),
            detached: None,
            places: Places::default(),
            level,
            exempt,
        }
    }

    pub(super) fn detach(&mut self, at: KtimeNs) {
        self.detached = Some(at);
    }

    pub(super) fn change_rules(&mut self, rules: Rules) {
        if self.former.len() == Self::FORMER {
            self.former.pop_front();
        }
        self.former
            .push_back((self.rules.generation, rules.former_until));
        self.rules = rules;
    }

    /// Whether the witness may have seen something that was stamped at `stamp`.
    pub(super) fn watched_at(&self, stamp: KtimeNs) -> bool {
        self.attached <= stamp.plus(Self::STAMP_LAG)
            && self.detached.is_none_or(|detached| stamp <= detached)
    }

    pub(super) fn watches(&self, fields: &SyscallFields<'_>) -> bool {
        // The hooks see every call that the kernel reports.
        !self.exempt.contains(&fields.pid)
            && (self.level == Level::AuditHooks
                || self.rules.watch.covers(fields.arch, fields.syscall))
    }

    /// Whether, and how surely, the witness should have seen a call it did not; none where that cannot be said.
    pub(super) fn should_have_seen(
        &self,
        fields: &SyscallFields<'_>,
        stamp: KtimeNs,
        read: KtimeNs,
    ) -> Option<Verdict> {
        match self.level {
            Level::Syscalls => {
                let judged = self.attached.max(self.rules.since);
                let watched = self.surely_watched(judged, stamp, read);
                watched.then(|| self.rules.watch.judge_record(fields))?
            }
            Level::AuditHooks => self.should_have_seen_event(stamp, read),
        }
    }

    /// The same of an event that the kernel decided to report, whatever it is of: the hooks see each such decision.
    pub(super) fn should_have_seen_event(&self, stamp: KtimeNs, read: KtimeNs) -> Option<Verdict> {
        let watched =
            self.level == Level::AuditHooks && self.surely_watched(self.attached, stamp, read);
        watched.then_some(Verdict::Exact)
    }

    fn surely_watched(&self, since: KtimeNs, stamp: KtimeNs, read: KtimeNs) -> bool {
        let detached = |detached| stamp.plus(Self::STAMP_LAG) < detached && read < detached;
        stamp >= since.plus(Self::STAMP_LAG) && self.detached.is_none_or(detached)
    }

    /// Settles a *maybe* where that can be done by the rules it was judged by.
    pub(super) fn settle(&self, observation: &Observation) -> Settled {
        let current = self.rules.generation == observation.rules_generation;
        if observation.verdict != Verdict::Maybe || !current {
            return Settled::Open;
        }
        self.rules.watch.settle(observation, &self.places)
    }

    /// Whether the kernel should have reported a call, for all that is known now: the rules may have changed under it,
    /// and its process may have become the audit daemon.
    pub(super) fn stands_by(&self, observation: &Observation) -> bool {
        if observation.report.is_some() {
            return true;
        }
        if self.exempt.contains(&observation.tgid) {
            return false;
        }
        let held = |(generation, until): &(u32, KtimeNs)| {
            *generation == observation.rules_generation && observation.taken < *until
        };
        observation.rules_generation == self.rules.generation
            || self.former.iter().any(held)
            || matches!(
                self.rules.watch.judge_observation(observation),
                Some(Verdict::Inferred | Verdict::Exact)
            )
    }

    /// The types of records that the exclude list drops from the event of an observed call, of those that are missed where
    /// they do not come.
    pub(super) fn excluded(&self, observation: &Observation) -> Vec<RecordType> {
        let missed = [
            RecordType::PATH,
            RecordType::EXECVE,
            RecordType::SOCKADDR,
            RecordType::URINGOP,
            RecordType::EOE,
        ];
        let missed = missed.into_iter();
        missed
            .filter(|of| self.excludes(observation, *of))
            .collect()
    }

    /// Whether a rule surely keeps records of this type out of the event of an observed call.
    pub(super) fn excludes(&self, observation: &Observation, record_type: RecordType) -> bool {
        let watch = &self.rules.watch;
        watch.excludes(observation, &self.places, record_type)
    }

    /// The keys of the rule an observation was judged by; none where that is not known, or not the rules in force.
    pub(super) fn keys(&self, observation: &Observation) -> Option<Keys> {
        let current = self.rules.generation == observation.rules_generation;
        let rule = observation.rule.filter(|_| current)?;
        Some(self.rules.watch.keys(rule))
    }
}
