//! Loading and attaching the BPF programs, and what goes into their maps and comes out of their counters.
//!
//! Owns the only code that talks to the kernel about BPF, beside [`super::ring`]. Loading and attaching are two steps,
//! so that no call is judged before there are rules.

mod figures;

use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData, RingBuf};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use collector_ebpf::{
    Active, Condition, ContextLayout, Control, EXEMPT_PROCESSES, InFlight, Kept, Layout,
    MAX_CONDITIONS, Note, Plans, QueueLayout, SYSCALL_NUMBERS, TextMirror,
};
use zerocopy::IntoBytes as _;

use crate::probe::btf::{KernelTypes, Records};
use crate::probe::error::{map_error, no_map, object_error};
use crate::probe::features;
use crate::probe::hooks::{Hooks, Level, in_words};
use crate::probe::log::Forward;
use crate::probe::mirror::Mirror;
use crate::probe::ring::Ring;
use crate::probe::tracepoints::Tracepoints;

pub use self::figures::{Counters, MapFill, ProgramFigures};
pub use crate::probe::error::WitnessError;
pub use crate::probe::tracepoints::TRACEPOINTS;

/// The programs as the build script compiled them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collector-ebpf"));
/// The programs that send samples, by the number that [`Sample::sequence`](collector_ebpf::Sample::sequence) gives them;
/// all but the first two at the level `audit-hooks` only.
pub const SENDERS: [&str; 5] = [
    "sys_enter",
    "sys_exit",
    "audit_log_exit",
    "audit_free",
    "audit_log_uring",
];
/// The maps of [`Witness::maps`]; the last two at the level `audit-hooks` only.
pub const MAPS: [&str; 4] = ["conditions", "in_flight", "notes", "kept"];
/// The most entries of the map `KEPT`, of 4 KiB each. Few tasks have one at a time: from the end of their event's records
/// to the end of their call the kernel only clears its audit context.
const KEPT_ENTRIES: u32 = 1024;
/// How long a buffer of rules rests after it went out of force before it is written again. Programs run for
/// microseconds, and may still be reading it.
const BUFFER_REST: Duration = Duration::from_millis(20);

/// How the witness is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessConfig {
    /// The most that the programs are to tell, where the kernel lets them.
    pub level: Level,
    /// Size of the ring: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// How many calls can be between entry and exit at a time.
    pub in_flight: u32,
    /// Which texts of records are sent, where the kernel has what that takes.
    pub text_mirror: TextMirror,
    /// Size of the ring for those, as [`Self::ring_bytes`].
    pub text_ring_bytes: u32,
    /// Our own process, which is never observed.
    pub own_tgid: u32,
    /// How the programs read what is reached from the current task.
    pub reads: Reads,
    /// What the programs log through aya-log.
    pub log_level: LogLevel,
}

/// How the programs read the kernel's memory, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// By loads of members whose types the verifier knows; where it refuses them, as below.
    #[default]
    Typed,
    /// By a helper for each, which takes some ten times as long.
    ByHelper,
}

impl Default for WitnessConfig {
    fn default() -> Self {
        Self {
            level: Level::AuditHooks,
            ring_bytes: 8 << 20,
            in_flight: 8192,
            text_mirror: TextMirror::default(),
            text_ring_bytes: 8 << 20,
            own_tgid: std::process::id(),
            reads: Reads::default(),
            log_level: LogLevel::Off,
        }
    }
}

/// What the BPF programs log. At `Off` the verifier removes the code that would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What was lost.
    Warn,
    /// And each sample.
    Debug,
}

impl LogLevel {
    /// aya-log's number.
    const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Warn => aya_log::Level::Warn as u8,
            Self::Debug => aya_log::Level::Debug as u8,
        }
    }
}

/// The loaded programs.
pub struct Witness {
    ebpf: Ebpf,
    config: WitnessConfig,
    /// What [`PLANS`](Plans) holds in the kernel.
    plans: Vec<Plans>,
    control: Control,
    /// How many conditions of `CONDITIONS` are in force.
    n_conditions: u64,
    /// When the rules were last changed.
    changed: Option<Instant>,
    tracepoints: Tracepoints,
    hooks: Hooks,
    texts: TextMirror,
    logger: Option<EbpfLogger<Forward>>,
}

impl Witness {
    /// Loads the programs and creates their maps. Nothing is observed before [`Self::attach`].
    ///
    /// # Errors
    /// No types, no permission, a verifier that says no, no memory.
    pub fn load(config: &WitnessConfig) -> Result<Self, WitnessError> {
        let least = features::page_size();
        for bytes in [config.ring_bytes, config.text_ring_bytes] {
            if !bytes.is_power_of_two() || bytes < least {
                return Err(WitnessError::RingSize { bytes, least });
            }
        }
        let types = KernelTypes::running()?;
        match Self::load_knowing(&types, config) {
            // A helper that the kernel does not have reads as a refusal.
            Err(error @ (WitnessError::Verifier { .. } | WitnessError::Permission { .. }))
                if config.reads == Reads::Typed =>
            {
                let error = &error as &dyn std::error::Error;
                tracing::info!(
                    error,
                    "the programs are loaded anew, with helpers to read the kernel's memory by"
                );
                let reads = Reads::ByHelper;
                Self::load_knowing(&types, &WitnessConfig { reads, ..*config })
            }
            loaded => loaded,
        }
    }

    fn load_knowing(types: &KernelTypes, config: &WitnessConfig) -> Result<Self, WitnessError> {
        let layout = types.layout()?;
        let queue = types.queue_layout();
        let texts = queue
            .as_ref()
            .map_or(TextMirror::Off, |_| config.text_mirror);
        let queue = queue.as_ref().copied().unwrap_or_default();
        let offsets = |context| Offsets {
            layout,
            queue,
            context,
            texts,
        };
        let records = Records::of(types);
        let btf = Btf::from_sys_fs().map_err(|error| object_error(error.into()))?;
        let with_decisions = || {
            let context = types.context_layout()?;
            let mut ebpf = object(config, &offsets(Some(context)), &records)?;
            let hooks = Hooks::with_decisions(&mut ebpf, &btf)?;
            Ok((ebpf, hooks))
        };
        let hooked = match config.level {
            Level::Syscalls => Err("not asked for".to_owned()),
            Level::AuditHooks => match with_decisions() {
                // With helpers they may pass.
                Err(error @ WitnessError::Verifier { .. }) if config.reads == Reads::Typed => {
                    return Err(error);
                }
                hooked => hooked.map_err(|error| in_words(&error)),
            },
        };
        let (mut ebpf, mut hooks) = match hooked {
            Ok(hooked) => hooked,
            // The other programs are told that there are none.
            Err(reason) => (
                object(config, &offsets(None), &records)?,
                Hooks::without_decisions(reason),
            ),
        };
        hooks.load_others(&mut ebpf, &btf, texts);
        let tracepoints = Tracepoints::load(&mut ebpf, &btf)?;
        let logger = (config.log_level != LogLevel::Off)
            .then(|| EbpfLogger::init_with_logger(&mut ebpf, Forward).ok())
            .flatten();
        let mut witness = Self {
            ebpf,
            config: *config,
            plans: vec![Plans::NONE; SYSCALL_NUMBERS as usize],
            control: Control::default(),
            n_conditions: 0,
            changed: None,
            tracepoints,
            hooks,
            texts,
            logger,
        };
        // The maps begin with zeros, which would be a program for each call.
        let mut plans = witness.array::<{ size_of::<Plans>() }>("PLANS")?;
        for syscall in 0..SYSCALL_NUMBERS {
            write(&mut plans, "PLANS", syscall, Plans::NONE.as_bytes())?;
        }
        Ok(witness)
    }

    /// Attaches the programs. Calls that have begun before are not observed.
    ///
    /// # Errors
    /// [`WitnessError::Program`], [`WitnessError::Permission`], [`WitnessError::Map`].
    pub fn attach(&mut self) -> Result<(), WitnessError> {
        if self.tracepoints.all_detached() {
            self.forget_calls()?;
        }
        // Before the tracepoints: a call whose entry was seen can count on them.
        self.hooks.attach(&mut self.ebpf)?;
        self.tracepoints.attach(&mut self.ebpf)
    }

    /// Takes the programs off their hooks. Calls that have begun are not observed any more; what is in the ring stays.
    ///
    /// # Errors
    /// [`WitnessError::Program`].
    pub fn detach(&mut self) -> Result<(), WitnessError> {
        self.tracepoints.detach(&mut self.ebpf)?;
        self.hooks.detach(&mut self.ebpf)
    }

    /// What the programs can tell on this kernel.
    pub fn level(&self) -> Level {
        self.hooks.level()
    }

    /// How the programs read the kernel's memory.
    pub fn reads(&self) -> Reads {
        self.config.reads
    }

    /// Why the kernel does not have the programs on its audit code; none where it has them.
    pub fn hooks_refused(&self) -> Option<&str> {
        self.hooks.refusal()
    }

    /// The programs that the kernel does not have for itself, and why.
    pub fn refused(&self) -> &[(&'static str, String)] {
        self.hooks.refused()
    }

    /// Puts another set of rules in force, all at once: what is judged while this runs is judged by the old ones.
    /// Waits up to 20 ms where the last change was that recent.
    ///
    /// # Errors
    /// [`WitnessError::Map`]; the old rules stay in force.
    pub fn set_rules(&mut self, mirror: &Mirror, generation: u32) -> Result<(), WitnessError> {
        if let Some(changed) = self.changed {
            std::thread::sleep(BUFFER_REST.saturating_sub(changed.elapsed()));
        }
        let buffer = 1 - (self.control.active.buffer & 1);
        let mut conditions = self.array::<{ size_of::<Condition>() }>("CONDITIONS")?;
        for (index, condition) in (0..).zip(mirror.conditions()) {
            let place = buffer * MAX_CONDITIONS + index;
            write(&mut conditions, "CONDITIONS", place, condition.as_bytes())?;
        }
        let mut array = open_array::<{ size_of::<Plans>() }>(&mut self.ebpf, "PLANS")?;
        for (syscall, (held, new)) in (0..).zip(self.plans.iter_mut().zip(mirror.plans())) {
            let mut plans = *held;
            plans.plans[buffer as usize] = *new;
            if plans != *held {
                write(&mut array, "PLANS", syscall, plans.as_bytes())?;
                // At once: where a later write fails, the next attempt still knows what the kernel has.
                *held = plans;
            }
        }
        let control = Control {
            active: Active { buffer, generation },
            ..self.control
        };
        self.set_control(control)?;
        self.n_conditions = mirror.conditions().len() as u64;
        self.changed = Some(Instant::now());
        Ok(())
    }

    /// Exempts processes from observation beside our own: the registered audit daemon is never audited.
    ///
    /// # Errors
    /// [`WitnessError::TooManyExempt`], [`WitnessError::Map`].
    pub fn set_exempt(&mut self, tgids: &[u32]) -> Result<(), WitnessError> {
        let mut exempt = [0; EXEMPT_PROCESSES];
        let Some(room) = exempt.get_mut(..tgids.len()) else {
            return Err(WitnessError::TooManyExempt {
                count: tgids.len(),
                most: EXEMPT_PROCESSES,
            });
        };
        room.copy_from_slice(tgids);
        self.set_control(Control {
            exempt,
            ..self.control
        })
    }

    /// Says by which multicast socket records reach us, by its cookie; none where we are the daemon.
    ///
    /// # Errors
    /// [`WitnessError::Map`].
    pub fn follow_socket(&mut self, cookie: Option<u64>) -> Result<(), WitnessError> {
        self.set_control(Control {
            socket: cookie.unwrap_or_default(),
            ..self.control
        })
    }

    /// The reading end of the ring; it can be taken once.
    ///
    /// # Errors
    /// [`WitnessError::Map`], also when it has been taken already.
    pub fn take_ring(&mut self) -> Result<Ring, WitnessError> {
        self.take("RING", self.config.ring_bytes)
    }

    /// The same of the ring with the texts of records; none where none are sent.
    ///
    /// # Errors
    /// As [`Self::take_ring`].
    pub fn take_texts(&mut self) -> Result<Option<Ring>, WitnessError> {
        if self.texts == TextMirror::Off {
            return Ok(None);
        }
        self.take("TEXTS", self.config.text_ring_bytes).map(Some)
    }

    fn take(&mut self, name: &'static str, bytes: u32) -> Result<Ring, WitnessError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| no_map(name))?;
        let ring: RingBuf<MapData> = map.try_into().map_err(map_error(name, "open"))?;
        Ok(Ring::new(ring, bytes))
    }

    /// Which texts of records are sent.
    pub fn text_mirror(&self) -> TextMirror {
        self.texts
    }

    /// Hands on what the programs have logged, as `tracing` events of the target `ebpf`. To be called now and then where
    /// [`WitnessConfig::log_level`] is above `Off`.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// The programs that send samples on this kernel, in the order of [`SENDERS`].
    pub fn senders(&self) -> &'static [&'static str] {
        match self.level() {
            Level::Syscalls => &TRACEPOINTS,
            Level::AuditHooks => &SENDERS,
        }
    }

    /// Empties the maps of what tasks are about: nobody has seen how that ended which began before a [`Self::detach`].
    fn forget_calls(&mut self) -> Result<(), WitnessError> {
        empty::<{ size_of::<InFlight>() }>(&mut self.ebpf, "IN_FLIGHT")?;
        empty::<{ size_of::<Note>() }>(&mut self.ebpf, "NOTES")?;
        empty::<{ size_of::<Kept>() }>(&mut self.ebpf, "KEPT")
    }

    fn set_control(&mut self, control: Control) -> Result<(), WitnessError> {
        let mut array = self.array::<{ size_of::<Control>() }>("CONTROL")?;
        write(&mut array, "CONTROL", 0, control.as_bytes())?;
        self.control = control;
        Ok(())
    }

    fn array<const BYTES: usize>(
        &mut self,
        name: &'static str,
    ) -> Result<Array<&mut MapData, [u8; BYTES]>, WitnessError> {
        open_array(&mut self.ebpf, name)
    }
}

/// How many entries the map `KEPT` has.
fn kept_entries(in_flight: u32) -> u32 {
    in_flight.clamp(1, KEPT_ENTRIES)
}

/// What the programs are told when they are loaded.
struct Offsets {
    layout: Layout,
    queue: QueueLayout,
    /// None for no hooks that tell the kernel's decisions.
    context: Option<ContextLayout>,
    texts: TextMirror,
}

/// Creates the maps.
fn object(
    config: &WitnessConfig,
    offsets: &Offsets,
    records: &Records,
) -> Result<Ebpf, WitnessError> {
    let texts = offsets.texts as u32;
    // Where it cannot be told, no record is said to have been dropped for it.
    let holds_records = u32::from(features::holds_records().unwrap_or(true));
    let log_level = config.log_level.number();
    let typed = u32::from(config.reads == Reads::Typed);
    let in_flight = config.in_flight.max(1);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("LAYOUT", offsets.layout.as_bytes(), true)
        .override_global("QUEUE_LAYOUT", offsets.queue.as_bytes(), true)
        .override_global("TEXT_MIRROR", &texts, true)
        .override_global("HOLDS_RECORDS", &holds_records, true)
        .override_global("OWN_TGID", &config.own_tgid, true)
        .override_global("TYPED", &typed, true)
        .override_global("LABELS", &records.labels, true)
        .override_global("LABEL_LAYOUT", records.label.as_bytes(), true)
        .override_global("NOTING_LAYOUT", records.noting.as_bytes(), true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .map_max_entries("RING", config.ring_bytes)
        .map_max_entries("IN_FLIGHT", in_flight);
    let text_ring = match offsets.texts {
        TextMirror::Off => features::page_size(),
        TextMirror::Lost | TextMirror::All => config.text_ring_bytes,
    };
    loader.map_max_entries("TEXTS", text_ring);
    if let Some(context) = &offsets.context {
        loader
            .override_global("CONTEXT_LAYOUT", context.as_bytes(), true)
            .override_global("HOOKS", &1_u32, true)
            .map_max_entries("NOTES", in_flight)
            .map_max_entries("KEPT", kept_entries(in_flight));
    } else {
        loader
            .map_max_entries("NOTES", 1)
            .map_max_entries("KEPT", 1)
            .map_max_entries("SCRATCH", TRACEPOINTS.len() as u32)
            .map_max_entries("COUNTERS", TRACEPOINTS.len() as u32);
    }
    if config.log_level == LogLevel::Off {
        loader.map_max_entries("AYA_LOGS", features::page_size());
    }
    loader.load(OBJECT).map_err(object_error)
}

/// Removes every element of a map that is by task.
fn empty<const BYTES: usize>(ebpf: &mut Ebpf, name: &'static str) -> Result<(), WitnessError> {
    let map = ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
    let mut elements: HashMap<&mut MapData, u64, [u8; BYTES]> =
        map.try_into().map_err(map_error(name, "open"))?;
    let tasks: Vec<u64> = elements
        .keys()
        .collect::<Result<_, _>>()
        .map_err(map_error(name, "read"))?;
    for task in tasks {
        elements.remove(&task).map_err(map_error(name, "write"))?;
    }
    Ok(())
}

/// Not a method: what borrows the maps only leaves the rest of the [`Witness`] at hand.
fn open_array<'a, const BYTES: usize>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<Array<&'a mut MapData, [u8; BYTES]>, WitnessError> {
    let map: &mut Map = ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
    map.try_into().map_err(map_error(name, "open"))
}

fn write<const BYTES: usize>(
    array: &mut Array<&mut MapData, [u8; BYTES]>,
    map: &'static str,
    index: u32,
    value: &[u8],
) -> Result<(), WitnessError> {
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(value);
    array.set(index, bytes, 0).map_err(map_error(map, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_is_no_power_of_two_is_refused_before_anything_is_loaded() {
        let config = WitnessConfig {
            ring_bytes: 5000,
            ..WitnessConfig::default()
        };
        let error = Witness::load(&config).err().unwrap().to_string();
        assert!(error.contains("not 5000"), "{error}");
    }
}
