//! The thread around the core: takes what the readers and the control thread bring, hands lines to the sink, publishes the account.

use std::collections::BTreeMap;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use collector_ebpf::LossReason;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::account::{Account, Ebpf};
use crate::audit::parse;
use crate::audit::record::{Record, RecordType};
use crate::audit::rules::KEY_SEPARATOR;
use crate::audit::socket::Delivery;
use crate::audit::status::KernelStatus;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::core::Core;
use crate::correlate::evidence::Poll;
use crate::correlate::matcher::Due;
use crate::correlate::witness::Rules;
use crate::event::{Cause, Event, EventId, LossUnit, Output, State, StateChange};
use crate::output::render::Renderer;
use crate::output::sink::{Batch, SinkHandle, Submitted};
use crate::pipeline::control::{Command, Message, Polled};
use crate::pipeline::packet::Packet;
use crate::pipeline::samples::Samples;
use crate::pipeline::texts::Texts;
use crate::pipeline::{canary, netlink, sys};
use crate::probe::hooks::is_behind_the_queue;
use crate::probe::load::TRACEPOINTS;

/// How often waiting events are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Lines are handed to the sink in batches of about so many bytes: after a storm there may be tens of megabytes at once, of which
/// each is to be free again as soon as it is written.
const BATCH_BYTES: usize = 256 << 10;
/// So many events and observations that wait take memory worth handing back.
const MANY: u64 = 4_096;
/// How often the account is published between polls.
pub(super) const PUBLISH: Duration = Duration::from_millis(250);

/// The ends the task is tied to. All receivers closing ends it.
pub(super) struct Inlets {
    pub(super) datagrams: mpsc::Receiver<Packet>,
    pub(super) messages: mpsc::Receiver<Message>,
    /// Told once all that came by the socket and the rings has been taken in, and no more is to come.
    pub(super) all_read: AllRead,
}

/// What the end of the reading hangs on, and who waits for it.
pub(super) struct AllRead {
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// The task's state.
pub(super) struct Merge {
    pub(super) core: Core,
    pub(super) renderer: Renderer,
    pub(super) sink: SinkHandle,
    pub(super) account: watch::Sender<Arc<Account>>,
    pub(super) commands: SyncSender<Command>,
    pub(super) rules_doubted: Arc<AtomicU64>,
    pub(super) reader: Arc<netlink::Counts>,
    pub(super) samples: Samples,
    pub(super) texts: Texts,
    pub(super) sink_stopped: watch::Sender<bool>,
    pub(super) delivery: Delivery,
    pub(super) batch: Batch,
    /// Most events and observations that have waited since memory was last handed back.
    pub(super) most_waiting: u64,
    pub(super) last: Totals,
    pub(super) published: Account,
    pub(super) canary: Option<canary::Receiver>,
}

/// What the last poll showed, to tell what is new in the next.
#[derive(Default)]
pub(super) struct Totals {
    lost: u64,
    reasons: [u64; LossReason::COUNT],
    /// Records the kernel counted as lost for which no program saw the reason, as told so far.
    unexplained: u64,
    missed_decisions: u64,
    not_held: u64,
    drops: u64,
    overruns: u64,
    queue_full: u64,
    truncated: u64,
    replace_requests: u64,
    ebpf_dropped: BTreeMap<&'static str, u64>,
    texts_dropped: BTreeMap<&'static str, u64>,
    status: Option<KernelStatus>,
}

impl Totals {
    /// What is new among the kernel's reasons for losing records, and how many more it has lost than there are reasons
    /// for. The status is read before the reasons, so that a loss in between is not taken for one without a reason.
    fn explain(&mut self, polled: &Polled) -> (Option<[u64; LossReason::COUNT]>, u64) {
        let totals = polled.ebpf.as_ref().and_then(|ebpf| ebpf.lost_records);
        let reasons = totals.map(|totals| {
            let before = std::mem::replace(&mut self.reasons, totals);
            std::array::from_fn(|reason| totals[reason].saturating_sub(before[reason]))
        });
        let explained: u64 = self.reasons.iter().sum();
        let unexplained = polled
            .kernel
            .lost
            .saturating_sub(explained + self.unexplained);
        self.unexplained += unexplained;
        (reasons, unexplained)
    }
}

impl AllRead {
    /// The witness is detached by the time of the stop, so that what was read then was all.
    fn tell(&mut self) {
        if *self.stopping.borrow()
            && let Some(done) = self.done.take()
        {
            let _ = done.send(());
        }
    }
}

impl Merge {
    /// Works until every inlet is closed, settles what is left and closes the sink.
    pub(super) async fn run(mut self, mut inlets: Inlets, sink_deadline: Duration) -> Arc<Account> {
        // By the clock and not by the runtime's timer, which has its turn only where nothing else waits: that is for waking up.
        let (mut next_tick, mut next_publish) = (Instant::now(), Instant::now());
        let mut alarm = pin!(tokio::time::sleep_until(next_tick));
        let (mut datagrams_open, mut messages_open) = (true, true);
        let mut more_samples = false;
        while datagrams_open || messages_open || more_samples {
            tokio::select! {
                packet = inlets.datagrams.recv(), if datagrams_open => match packet {
                    Some(packet) => self.datagrams(&packet),
                    None => datagrams_open = false,
                },
                message = inlets.messages.recv(), if messages_open => match message {
                    Some(message) => {
                        // What a poll finds is in the account with all that follows from it, or not at all.
                        if matches!(message, Message::Polled(_)) {
                            next_tick = Instant::now();
                        }
                        self.message(message, inlets.datagrams.is_empty());
                    }
                    None => messages_open = false,
                },
                () = self.samples.gathered() => {}
                () = ready(()), if more_samples => {}
                () = alarm.as_mut() => {}
            }
            more_samples = self.samples.hand_over(&mut self.core);
            if !datagrams_open && !more_samples {
                self.texts.hand_over(&mut self.core);
                inlets.all_read.tell();
            }
            if Instant::now() >= next_tick {
                next_tick = match self.tick() {
                    Due::Now => Instant::now(),
                    Due::Later => Instant::now() + TICK,
                };
                alarm.as_mut().reset(next_tick);
            }
            self.hand_on();
            if Instant::now() >= next_publish {
                next_publish = Instant::now() + PUBLISH;
                self.publish();
            }
        }
        self.finish(sink_deadline)
    }

    fn tick(&mut self) -> Due {
        self.texts.hand_over(&mut self.core);
        self.follow_stream();
        self.core.tick(KtimeNs::now(), RealtimeOffset::sample())
    }

    fn follow_stream(&mut self) {
        if let Some(passed) = self.reader.inlet.taken_in() {
            self.core.stream_passed(passed, KtimeNs::now());
        }
    }

    fn datagrams(&mut self, packet: &Packet) {
        // What was lost before any of these were sent has its place before them.
        self.texts.hand_over(&mut self.core);
        let now = KtimeNs::now();
        let mut rules_changed = None;
        for (record_type, _, payload) in packet.iter() {
            if RecordType(record_type) == RecordType::CONFIG_CHANGE {
                let record = parse::netlink_record(record_type, payload).ok();
                let record = record.filter(speaks_of_rules);
                rules_changed = rules_changed.or(record.map(|record| record.stamp.time));
            }
            self.core.datagram(record_type, payload, now);
        }
        self.reader
            .inlet
            .queued_bytes
            .fetch_sub(packet.n_bytes() as u64, Ordering::Relaxed);
        self.follow_stream();
        if let Some(stamp) = rules_changed {
            self.doubt_rules(RealtimeOffset::sample().monotonic(stamp));
        }
    }

    /// A record says that the rules changed: the control thread is to read them again.
    fn doubt_rules(&self, since: KtimeNs) {
        let doubted = &self.rules_doubted;
        let first = doubted.compare_exchange(0, since.0, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            // It looks again with every poll, should the queue be full.
            let _ = self.commands.try_send(Command::RereadRules);
        }
    }

    fn message(&mut self, message: Message, datagrams_empty: bool) {
        match message {
            Message::Polled(polled) => self.polled(*polled, datagrams_empty),
            Message::Rules {
                mirror,
                generation,
                former_until,
                at,
                n_rules,
                keys,
            } => {
                self.expect_keys(&keys);
                if let Some(mirror) = mirror {
                    self.core.correlator.rules_changed(Rules {
                        watch: mirror,
                        generation,
                        former_until,
                        since: at,
                    });
                }
                self.published.rules_changed = Some(wall(at));
                self.state(
                    StateChange::RulesChanged,
                    format!("the kernel holds {n_rules} audit rules now"),
                );
            }
            Message::RulesUnsettled { from, until } => {
                self.core.correlator.rules_unsettled(from, until);
                self.published.rules_changed = Some(wall(until));
            }
            Message::RulesMissing(since) => {
                self.core.correlator.rules_missing(since, KtimeNs::now());
            }
            Message::News((what, text)) => self.state(what, text),
            Message::Exempt(exempt) => self.core.correlator.exempt_changed(exempt),
            Message::WitnessDetached { at } => {
                self.core.correlator.witness_detached(at);
                self.state(
                    StateChange::WitnessChanged,
                    "the eBPF witness was detached".to_owned(),
                );
            }
        }
    }

    fn polled(&mut self, mut polled: Polled, datagrams_empty: bool) {
        let at = polled.at;
        let new = |last: &mut u64, total: u64| total.saturating_sub(std::mem::replace(last, total));
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (reasons, unexplained) = self.last.explain(&polled);
        let unobserved = self.ebpf_losses(&polled, at);
        let not_held = polled.ebpf.as_ref().map_or(0, |ebpf| ebpf.texts.not_held);
        let last = &mut self.last;
        let drops = new(&mut last.drops, polled.socket.drops);
        let overruns = new(&mut last.overruns, polled.socket.overruns);
        let poll = Poll {
            asked: polled.asked,
            at,
            status: polled.status,
            lost: new(&mut last.lost, polled.kernel.lost),
            reasons,
            unexplained,
            not_held: new(&mut last.not_held, not_held),
            missed_decisions: new(&mut last.missed_decisions, missed_decisions(&polled)),
            socket_drops: drops,
            delivery: self.delivery,
            // On multicast it is a loss, and shows in the drops.
            congested: if self.delivery == Delivery::Unicast {
                overruns
            } else {
                0
            },
            queue_full: new(&mut last.queue_full, polled.queue_full),
            socket_empty: polled.socket_empty && datagrams_empty,
            displaced: polled.displaced,
            unobserved,
        };
        let truncated = new(&mut last.truncated, read(&self.reader.truncated));
        let replaced = new(
            &mut last.replace_requests,
            read(&self.reader.replace_requests),
        );
        self.core.poll(poll);
        if let Some(places) = polled.places.take() {
            self.core.correlator.places_seen(places);
        }
        if truncated > 0 {
            self.core
                .lose(Cause::SocketTruncated, truncated, LossUnit::Records, at);
        }
        if replaced > 0 {
            self.state(
                StateChange::StatusChanged,
                "another process tried to take the audit pid".to_owned(),
            );
        }
        self.status_changes(polled.status);
        self.published.kernel = polled.kernel;
        self.published.sockets.insert("events", polled.socket);
        self.published
            .sockets
            .insert("control", polled.control_socket);
        if let Some(canary) = &mut self.canary {
            canary.sent(polled.canaries);
        }
        self.published.ebpf = polled.ebpf;
        self.published.rules_loaded = polled.rules_loaded;
        self.published.rules_in_sync = polled.rules_in_sync;
        self.published.rules_reloads = polled.rules_reloads;
    }

    /// Tells of observations lost since the last poll; the first of their causes.
    fn ebpf_losses(&mut self, polled: &Polled, at: KtimeNs) -> Option<Cause> {
        let ebpf = polled.ebpf.as_ref()?;
        let mut first = None;
        for (reason, cause) in [
            ("ring_full", Cause::RingFull),
            ("in_flight_full", Cause::InFlightFull),
            ("undecodable", Cause::Malformed),
            ("missed_run", Cause::MissedRun),
        ] {
            let total = ebpf.dropped.get(reason).copied().unwrap_or_default();
            let last = self.last.ebpf_dropped.entry(reason).or_default();
            let count = total.saturating_sub(std::mem::replace(last, total));
            if count > 0 {
                self.core.lose(cause, count, LossUnit::Observations, at);
                first = first.or(Some(cause));
            }
        }
        for (reason, cause) in [
            ("ring_full", Cause::RingFull),
            ("unreadable", Cause::Malformed),
            ("undecodable", Cause::Malformed),
            ("missed_run", Cause::MissedRun),
        ] {
            let total = ebpf.texts.dropped.get(reason).copied().unwrap_or_default();
            let last = self.last.texts_dropped.entry(reason).or_default();
            let count = total.saturating_sub(std::mem::replace(last, total));
            if count > 0 {
                self.core.lose(cause, count, LossUnit::Observations, at);
            }
        }
        first
    }

    fn status_changes(&mut self, status: Option<KernelStatus>) {
        let Some(status) = status else { return };
        let Some(last) = self.last.status.replace(status) else {
            return;
        };
        let fields = [
            ("enabled", last.enabled, status.enabled),
            ("failure", last.failure, status.failure),
            ("pid", last.pid, status.pid),
            ("rate_limit", last.rate_limit, status.rate_limit),
            ("backlog_limit", last.backlog_limit, status.backlog_limit),
        ];
        let changed: Vec<_> = fields
            .iter()
            .filter(|(_, before, now)| before != now)
            .map(|(name, before, now)| format!("{name} from {before} to {now}"))
            .collect();
        if !changed.is_empty() {
            let message = format!(
                "the kernel's audit settings changed: {}",
                changed.join(", ")
            );
            self.state(StateChange::StatusChanged, message);
        }
    }

    pub(super) fn state(&mut self, what: StateChange, message: String) {
        let time = wall(KtimeNs::now());
        self.core.say(Output::State(State {
            time,
            what,
            message,
        }));
    }

    /// Renders what is ready and hands it to the sink.
    fn hand_on(&mut self) {
        let now = wall(KtimeNs::now());
        for loss in self.sink.recovered(now) {
            self.core.say(Output::Loss(loss));
        }
        let mut canaries = Vec::new();
        let mut all_queued = true;
        self.core.each_output(|output| {
            if let Output::Event(event) = output {
                each_rule_key(event, |key| self.published.rule_events.count(key));
                let canary = self.canary.as_ref();
                canaries.extend(canary.and_then(|canary| canary.sent_at(event)));
            }
            self.renderer.render_into(output, &mut self.batch);
            if self.batch.n_bytes() >= BATCH_BYTES {
                all_queued &= submit(&mut self.sink, &mut self.batch, &self.sink_stopped);
            }
        });
        if !self.batch.is_empty() {
            all_queued &= submit(&mut self.sink, &mut self.batch, &self.sink_stopped);
        }
        if all_queued {
            self.canaries_arrived(&canaries);
        }
    }

    /// What a storm took is not needed after it.
    fn hand_back_memory(&mut self) {
        let crosscheck = &self.published.crosscheck;
        let waiting = crosscheck.pending_observations + crosscheck.pending_events;
        self.most_waiting = self.most_waiting.max(waiting);
        let written = self.published.sinks.values().all(|sink| sink.queued == 0);
        if self.most_waiting >= MANY && waiting <= MANY / 64 && written {
            self.most_waiting = 0;
            self.core.shrink();
            sys::hand_back_memory();
        }
    }

    fn canaries_arrived(&mut self, sent: &[KtimeNs]) {
        if let Some(canary) = &mut self.canary {
            for sent in sent {
                let now = KtimeNs::now();
                canary.arrived(*sent, now, wall(now));
            }
        }
    }

    /// Rules are loaded with these keys: each is to be seen in the metrics before its first event.
    pub(super) fn expect_keys(&mut self, keys: &[Box<[u8]>]) {
        for key in keys {
            self.published.rule_events.expect(key);
        }
    }

    fn publish(&mut self) {
        self.published.canary = self.canary.as_ref().map(canary::Receiver::figures);
        self.core.account(wall(KtimeNs::now()), &mut self.published);
        self.published
            .sinks
            .insert(self.sink.name().to_owned(), self.sink.counts());
        debug_assert_eq!(self.published.broken_identities(), [""; 0]);
        self.account.send_replace(Arc::new(self.published.clone()));
        self.hand_back_memory();
    }

    fn finish(mut self, sink_deadline: Duration) -> Arc<Account> {
        self.follow_stream();
        self.core.finish(KtimeNs::now());
        self.publish();
        let summary = super::account_line::line(&self.published);
        self.state(StateChange::Stopped, summary);
        self.hand_on();
        self.publish();
        let name = self.sink.name().to_owned();
        let closed = self.sink.close(sink_deadline);
        self.published.sinks.insert(name, closed.counts);
        debug_assert_eq!(self.published.broken_identities(), [""; 0]);
        // The programs are detached and the ring has been read to its end.
        let witness = self.published.ebpf.as_ref();
        debug_assert!(witness.is_none_or(Ebpf::is_settled), "{witness:?}");
        Arc::new(self.published)
    }
}

/// Hands a batch to the sink and begins the next; whether it waits for the target now.
fn submit(sink: &mut SinkHandle, batch: &mut Batch, stopped: &watch::Sender<bool>) -> bool {
    match sink.submit(batch.take()) {
        Submitted::Queued => return true,
        Submitted::Dropped => {
            tracing::debug!("the sink's queue is full; lines are dropped and counted")
        }
        Submitted::Stopped => {
            stopped.send_replace(true);
        }
    }
    false
}

/// The keys of the rules that reported a call; none where its event has been counted already, by a line before.
fn each_rule_key(event: &Event, each: impl FnMut(&[u8])) {
    let is_first = !matches!(event.id, EventId::Audit { part: 1.., .. });
    if !is_first || event.supersedes.is_some() {
        return;
    }
    let of_call = |record: &Record<'_>| {
        matches!(
            record.record_type,
            RecordType::SYSCALL | RecordType::URINGOP
        )
    };
    let records = event.audit.iter().flat_map(|audit| &audit.records);
    let call = records.into_iter().find(of_call);
    match call.map(|call| call.decoded(b"key")) {
        Some(Some(keys)) => keys.split(|byte| *byte == KEY_SEPARATOR).for_each(each),
        Some(None) => {}
        None => {
            let keys = event.rule_keys.iter().flatten();
            keys.map(|key| &**key).for_each(each);
        }
    }
}

/// Whether a CONFIG_CHANGE record tells of rules and not of settings: `op=add_rule`, `remove_rule`, `updated_rules`,
/// `autoremove_rule` (kernel/audit.c, auditfilter.c, audit_watch.c, audit_tree.c, audit_fsnotify.c).
fn speaks_of_rules(record: &Record<'_>) -> bool {
    record
        .field(b"op")
        .is_none_or(|op| memchr::memmem::find(op.raw(), b"rule").is_some())
}

/// Runs of the programs on the audit code that the kernel left out.
fn missed_decisions(polled: &Polled) -> u64 {
    let missed = polled.ebpf.iter().flat_map(|ebpf| &ebpf.missed_runs);
    missed
        .filter(|(program, _)| !TRACEPOINTS.contains(program) && !is_behind_the_queue(program))
        .map(|(_, runs)| runs)
        .sum()
}

fn wall(at: KtimeNs) -> TimeMs {
    RealtimeOffset::sample().wall(at)
}
