//! Everything that is asked of the kernel while the collector runs: status, rules, the witness's maps.
//!
//! Owns the control connection, the loaded BPF programs and what was changed on the host, on a thread of its own, so
//! that a slow answer never delays a record. Tells the core what it finds in totals, so that a message the core had no
//! room for is made good by the next.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::account;
use crate::audit::client::Client;
use crate::audit::rules::Rule;
use crate::audit::socket::{self, Delivery, MemoryInfo};
use crate::audit::status::{KernelStatus, TickRate, WrappingTotal};
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::event::StateChange;
use crate::pipeline::host::Host;
use crate::pipeline::peak::Peak;
use crate::pipeline::probe::Probe;
use crate::pipeline::rules::Configured;
use crate::pipeline::rules::held::Held;
use crate::pipeline::{News, canary, netlink};
use crate::probe::mirror::Mirror;
use crate::probe::places::Places;

/// How often status is read: so that what it shows is noticed within a second. A loss is attributed within one such
/// interval.
const POLL: Duration = Duration::from_millis(900);
/// How often the rules are read without a sign that they changed, at least. The record of a change comes behind all others
/// that wait, and not at all while auditing is off or another process is the daemon.
const REREAD_RULES: Duration = Duration::from_secs(10);
/// How often at most; in between, as often as takes a hundredth of the time.
const REREAD_SOONEST: Duration = Duration::from_millis(500);
const REREAD_SHARE: u32 = 100;
/// How soon after a reading they are read again where a record says that they changed: who changes one rule often changes many.
const REREAD_PAUSE: Duration = Duration::from_millis(100);
/// How much older than the change its record's stamp may be.
const STAMP_LAG: Duration = Duration::from_millis(10);
/// How long before its record is stamped a change of the rules may be in force.
const CHANGE_TO_STAMP: Duration = Duration::from_millis(20);
/// Messages that may wait for the core.
pub(super) const QUEUE_MESSAGES: usize = 64;
/// Commands that may wait for the control thread.
pub(super) const QUEUE_COMMANDS: usize = 16;

/// What the others ask of the control thread.
#[derive(Debug)]
pub(super) enum Command {
    /// A record says that the rules changed.
    RereadRules,
    /// Take the programs off their hooks.
    DetachWitness,
    /// Put the host back as it was, and say when that is done.
    Restore(std::sync::mpsc::SyncSender<()>),
    /// Say the last figures and end.
    Stop,
}

/// What the control thread tells the core.
pub(super) enum Message {
    Polled(Box<Polled>),
    /// The rules in the kernel are others than before.
    Rules {
        mirror: Option<Box<Mirror>>,
        generation: u32,
        /// Up to here the kernel held the rules before.
        former_until: KtimeNs,
        at: KtimeNs,
        n_rules: usize,
        /// The keys of the rules.
        keys: Vec<Box<[u8]>>,
    },
    /// From `from` to `until` the kernel may have held other rules for a while than before and after.
    RulesUnsettled {
        from: KtimeNs,
        until: KtimeNs,
    },
    /// Since when the kernel lacks configured rules by which calls are judged all the same; none where it has them all.
    RulesMissing(Option<KtimeNs>),
    /// Something else changed.
    News(News),
    Exempt(Vec<u32>),
    WitnessDetached {
        at: KtimeNs,
    },
}

/// Totals at one moment.
pub(super) struct Polled {
    /// Nothing in it is older.
    pub(super) asked: KtimeNs,
    pub(super) at: KtimeNs,
    /// The status if this poll could read it.
    pub(super) status: Option<KernelStatus>,
    pub(super) kernel: account::Kernel,
    pub(super) socket: account::Socket,
    /// The socket of requests.
    pub(super) control_socket: account::Socket,
    /// Canaries sent.
    pub(super) canaries: u64,
    /// Records given up by the reader.
    pub(super) queue_full: u64,
    /// Whether the event socket is known to hold nothing.
    pub(super) socket_empty: bool,
    /// Whether the kernel sends to another daemon, or to nobody, though we had been made its daemon.
    pub(super) displaced: bool,
    pub(super) ebpf: Option<account::Ebpf>,
    pub(super) rules_loaded: BTreeMap<&'static str, u64>,
    /// None where no rules are configured, or they have not been compared yet.
    pub(super) rules_in_sync: Option<bool>,
    pub(super) rules_reloads: BTreeMap<&'static str, u64>,
    /// What the paths in the rules stand for; none where no rule has one, or nobody asks.
    pub(super) places: Option<Places>,
}

/// The control thread's state.
pub(super) struct Control {
    pub(super) client: Client,
    pub(super) host: Host,
    pub(super) probe: Option<Probe>,
    /// The event socket, for its figures.
    pub(super) event_socket: OwnedFd,
    pub(super) delivery: Delivery,
    pub(super) reader: Arc<netlink::Counts>,
    pub(super) core: mpsc::Sender<Message>,
    pub(super) figures: Figures,
    pub(super) rules: Held,
    pub(super) canary: Option<canary::Sender>,
    /// The rules that are to be loaded, where there are any.
    pub(super) configured: Option<Configured>,
    /// When this thread last read the rules, and how long that took.
    pub(super) rules_read: Option<(Instant, Duration)>,
    /// Since when a record has put the rules in doubt; 0 while none has.
    pub(super) rules_doubted: Arc<AtomicU64>,
    /// Dropped when the thread ends, however it ends.
    pub(super) alive: oneshot::Sender<()>,
}

/// What is summed up over polls.
#[derive(Debug)]
pub(super) struct Figures {
    kernel: account::Kernel,
    backlog: Peak,
    lost: WrappingTotal,
    wait: WrappingTotal,
    drops: WrappingTotal,
    control_drops: WrappingTotal,
    last_control_socket: account::Socket,
    last_socket: account::Socket,
    ticks: Option<TickRate>,
}

impl Figures {
    /// Counting starts at what `status` shows now.
    pub(super) fn since(status: &KernelStatus) -> Self {
        let mut figures = Self {
            kernel: account::Kernel::default(),
            backlog: Peak::default(),
            lost: WrappingTotal::default(),
            wait: WrappingTotal::default(),
            drops: WrappingTotal::default(),
            control_drops: WrappingTotal::default(),
            last_control_socket: account::Socket::default(),
            last_socket: account::Socket::default(),
            ticks: TickRate::of_kernel(),
        };
        // The sockets are new: all they ever dropped is ours.
        figures.drops.observe(0);
        figures.control_drops.observe(0);
        figures.read(status);
        figures
    }

    fn read(&mut self, status: &KernelStatus) {
        self.lost.observe(status.lost);
        if let Some(wait) = status.backlog_wait_time_actual {
            self.wait.observe(wait);
        }
        self.kernel.status = Some(*status);
        self.kernel.backlog_peak = self.backlog.note(KtimeNs::now(), u64::from(status.backlog));
        self.kernel.daemon_is_self = Some(status.pid == std::process::id());
        self.kernel.last_success = Some(RealtimeOffset::sample().wall(KtimeNs::now()));
        self.kernel.lost = self.lost.total();
        self.kernel.lost_resets = self.lost.resets();
        // A wait in an unknown unit is not exported.
        self.kernel.backlog_wait = self
            .ticks
            .filter(|_| status.backlog_wait_time_actual.is_some())
            .map(|ticks| ticks.duration(self.wait.total()));
    }
}

impl Control {
    /// Works until it is told to stop, then puts the host back if nobody asked for it before.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        // Known from the start, so that the first figures say it.
        let configured = self.configured.as_mut();
        let news = configured.and_then(|configured| configured.compare(&self.rules.loaded));
        self.announce(news);
        let mut next_poll = Instant::now();
        loop {
            // First, so that no flood of commands keeps the polls out.
            if Instant::now() >= next_poll {
                next_poll = Instant::now() + POLL;
                self.poll();
            }
            let now = Instant::now();
            if self.next_reading(now) <= now {
                self.reread_rules();
            }
            let now = Instant::now();
            let next = next_poll.min(self.next_reading(now));
            match commands.recv_timeout(next.saturating_duration_since(now)) {
                Ok(Command::RereadRules) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::DetachWitness) => self.detach_witness(),
                Ok(Command::Restore(done)) => {
                    // What changes from here on is our own doing.
                    self.configured = None;
                    self.host.put_back();
                    let _ = done.send(());
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The last figures are those of the end.
        self.poll();
        self.host.put_back();
        let _ = self.alive.send(());
    }

    fn poll(&mut self) {
        let asked = KtimeNs::now();
        let mut displaced = self.host.is_displaced();
        let status = match self.client.status() {
            Ok(status) => {
                self.announce_holder(&status);
                displaced |= self.host.is_displaced();
                let status = self.claim_again().unwrap_or(status);
                self.note_holder(&status);
                self.figures.read(&status);
                self.send_canary(&status);
                Some(status)
            }
            Err(error) => {
                let label = error.label();
                let errors = self.figures.kernel.errors.entry(label).or_default();
                *errors += 1;
                if *errors == 1 {
                    tracing::warn!(%error, "the kernel's audit status cannot be read; further failures are counted only");
                }
                None
            }
        };
        // Taken after the status, so that an empty queue followed by an empty socket means that all is through.
        let at = KtimeNs::now();
        let (socket, socket_empty) = self.socket_figures();
        let polled = Polled {
            asked,
            at,
            status,
            kernel: self.figures.kernel.clone(),
            socket,
            control_socket: self.control_socket_figures(),
            canaries: self.canary.as_ref().map_or(0, canary::Sender::sent),
            queue_full: self.reader.inlet.queue_full.load(Ordering::Relaxed),
            socket_empty,
            displaced,
            ebpf: self.probe.as_mut().map(Probe::figures),
            rules_loaded: self.rules.by_list(),
            rules_in_sync: self.configured.as_ref().and_then(Configured::in_sync),
            rules_reloads: self
                .configured
                .as_ref()
                .map(|configured| configured.reloads().clone())
                .unwrap_or_default(),
            places: self.probe.as_mut().and_then(Probe::look_at_places),
        };
        self.tell(Message::Polled(Box::new(polled)));
    }

    /// The event socket's figures, and whether it is known to hold nothing.
    fn socket_figures(&mut self) -> (account::Socket, bool) {
        let figures = &mut self.figures;
        figures.last_socket.overruns = self.reader.overruns.load(Ordering::Relaxed);
        let info = match MemoryInfo::of(&self.event_socket) {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "the event socket's memory figures cannot be read; the last ones stand");
                return (figures.last_socket, false);
            }
        };
        figures.drops.observe(info.drops);
        figures.last_socket.receive_buffer = u64::from(info.receive_buffer);
        figures.last_socket.queued = u64::from(info.queued);
        // On unicast the kernel counts attempts it repeats; they are no losses.
        if self.delivery == Delivery::Multicast {
            figures.last_socket.drops = figures.drops.total();
        }
        (figures.last_socket, info.queued == 0)
    }

    /// The figures of the socket of requests.
    fn control_socket_figures(&mut self) -> account::Socket {
        let figures = &mut self.figures;
        let socket = &mut figures.last_control_socket;
        socket.overruns = self.client.overruns();
        match self.client.memory_info() {
            Ok(info) => {
                figures.control_drops.observe(info.drops);
                socket.drops = figures.control_drops.total();
                socket.receive_buffer = u64::from(info.receive_buffer);
                socket.queued = u64::from(info.queued);
            }
            Err(error) => {
                tracing::debug!(%error, "the control socket's memory figures cannot be read; the last ones stand");
            }
        }
        *socket
    }

    /// While auditing is off the kernel would drop it, and nobody would be to blame.
    fn send_canary(&mut self, status: &KernelStatus) {
        if let Some(canary) = &mut self.canary
            && status.enabled != 0
        {
            canary.send_if_due(&mut self.client, Instant::now());
        }
    }

    /// Says so where the kernel begins to send to another process, or to us again.
    fn announce_holder(&mut self, status: &KernelStatus) {
        let seat = self.host.seat.as_mut();
        let news = seat.and_then(|seat| seat.note(status.pid));
        self.announce(news);
    }

    /// Asks for the audit pid where that is wanted now; the status after that.
    fn claim_again(&mut self) -> Option<KernelStatus> {
        let seat = self.host.seat.as_ref()?;
        if !seat.asks_now(Instant::now()) {
            return None;
        }
        if let Err(error) = socket::claim_again(&self.event_socket) {
            tracing::warn!(%error, "the kernel cannot be asked for the audit pid");
        }
        let status = self.client.status().ok()?;
        self.announce_holder(&status);
        if let Some(seat) = self.host.seat.as_mut().filter(|seat| seat.is_displaced())
            && let Some(refused) = seat.refused(Instant::now())
        {
            tracing::warn!("{refused}");
        }
        Some(status)
    }

    /// The daemon's own calls are never audited, so a new daemon changes who is exempt.
    fn note_holder(&mut self, status: &KernelStatus) {
        if let Some(probe) = &mut self.probe {
            match probe.exempt_holder(status.pid) {
                Ok(None) => {}
                Ok(Some(exempt)) => self.tell(Message::Exempt(exempt)),
                Err(error) => {
                    tracing::warn!(%error, "the audit daemon's process cannot be exempted from the witness")
                }
            }
        }
    }

    /// When the rules are to be read, by what is known at `now`.
    fn next_reading(&self, now: Instant) -> Instant {
        let Some((read, took)) = self.rules_read else {
            return now;
        };
        if self.rules_doubted.load(Ordering::Relaxed) != 0 {
            return read + REREAD_PAUSE;
        }
        match &self.configured {
            Some(configured) if self.keeps_rules() && configured.is_due(now) => now,
            _ => read + (took * REREAD_SHARE).clamp(REREAD_SOONEST, REREAD_RULES),
        }
    }

    /// Whether rules that drifted are ours to put back. While another process is the daemon they are not.
    fn keeps_rules(&self) -> bool {
        self.host.seat.is_some() && !self.host.is_displaced()
    }

    fn reread_rules(&mut self) {
        // What puts the rules in doubt from here on is not answered by this reading.
        let doubted = KtimeNs(self.rules_doubted.swap(0, Ordering::Relaxed));
        // The kernel writes the record of a change right after it.
        let former_until = self.rules.confirmed.max(doubted.minus(CHANGE_TO_STAMP));
        let began = Instant::now();
        let read = self.read_rules();
        self.rules_read = Some((began, began.elapsed()));
        let Some(read) = read else {
            return;
        };
        let differed = read.0 != self.rules.loaded;
        let Some((loaded, asked)) = self.keep_rules(read) else {
            return;
        };
        if loaded == self.rules.loaded {
            // Changed and changed back, by us or before we looked. The last reading may have seen to the record already.
            if differed || doubted.plus(STAMP_LAG) > self.rules.confirmed {
                self.tell(Message::RulesUnsettled {
                    from: former_until,
                    until: asked,
                });
            }
            self.rules.confirmed = asked;
            return;
        }
        let generation = self.rules.generation + 1;
        let configured = self
            .configured
            .as_ref()
            .filter(|_| self.host.seat.is_some());
        let judged_by = configured.and_then(|configured| configured.judged_by(&loaded));
        self.tell(Message::RulesMissing(
            judged_by.as_ref().map(|_| former_until),
        ));
        let judged_by = judged_by.as_deref().unwrap_or(&loaded);
        let mirror = match &mut self.probe {
            None => None,
            Some(probe) => match probe.judge_by(judged_by, generation) {
                Ok(mirror) => Some(mirror),
                Err(error) => {
                    tracing::error!(%error, "the witness cannot take over the new rules yet; it goes on with the last ones");
                    return;
                }
            },
        };
        let n_rules = loaded.len();
        let keys = keys(&loaded);
        let at = KtimeNs::now();
        self.rules = Held {
            loaded,
            generation,
            confirmed: asked,
        };
        self.tell(Message::Rules {
            mirror,
            generation,
            former_until,
            at,
            n_rules,
            keys,
        });
    }

    /// The kernel's rules, and a time at which it held them.
    fn read_rules(&mut self) -> Option<(Vec<Rule>, KtimeNs)> {
        let asked = KtimeNs::now();
        match self.client.rules() {
            Ok(rules) => Some((rules, asked)),
            Err(error) => {
                tracing::warn!(%error, "the audit rules cannot be read; the cross-check goes on with the last ones");
                None
            }
        }
    }

    /// Compares what was read with the configured rules, and puts those back where that is asked for, before anything is
    /// judged by others. Returns what the kernel holds then.
    fn keep_rules(&mut self, read: (Vec<Rule>, KtimeNs)) -> Option<(Vec<Rule>, KtimeNs)> {
        let ours = self.keeps_rules();
        let Some(configured) = &mut self.configured else {
            return Some(read);
        };
        // How the rules of the last reading compare is known.
        let news = match configured.in_sync() {
            Some(_) if read.0 == self.rules.loaded => None,
            _ => configured.compare(&read.0),
        };
        let now = Instant::now();
        if !ours || !configured.is_due(now) {
            self.announce(news);
            return Some(read);
        }
        let done = configured.put_back(&mut self.client, now);
        self.announce(news);
        self.announce(Some(done));
        let read = self.read_rules()?;
        if let Some(configured) = &mut self.configured {
            let news = configured.compare(&read.0);
            self.announce(news);
        }
        Some(read)
    }

    /// Tells what changed in the log and in the stream.
    fn announce(&self, news: Option<News>) {
        let Some((what, text)) = news else { return };
        match what {
            StateChange::RulesInSync | StateChange::Reclaimed => tracing::info!("{text}"),
            _ => tracing::warn!("{text}"),
        }
        self.tell(Message::News((what, text)));
    }

    fn detach_witness(&mut self) {
        if let Some(probe) = &mut self.probe {
            // The programs go one after the other: what happens from now on may be half seen.
            let at = KtimeNs::now();
            probe.detach();
            self.tell(Message::WitnessDetached { at });
        }
    }

    /// The control thread may wait: nothing of the data path is behind it.
    fn tell(&self, message: Message) {
        // The core ends only after this thread's last message, so a failure means that it died, which `run` reports.
        let _ = self.core.blocking_send(message);
    }
}

/// The keys of `rules`, in their order.
pub(super) fn keys(rules: &[Rule]) -> Vec<Box<[u8]>> {
    rules.iter().flat_map(Rule::keys).map(Into::into).collect()
}
