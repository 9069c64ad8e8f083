//! What runs while the collector runs: started together, watched together, stopped in order.

use std::future::{Future, pending};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::{JoinError, JoinHandle};

use crate::account::{Account, RuleEvents};
use crate::account_socket;
use crate::audit::capture::CaptureWriter;
use crate::audit::client::Client;
use crate::audit::reassemble::{self, Repeats};
use crate::audit::socket::{Delivery, EventSocket, Grant, ReceiveError, SocketError};
use crate::audit::status::{KernelStatus, LostCounter};
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::config::{AuditConfig, Config, Mode};
use crate::core::{Core, CoreConfig};
use crate::correlate::witness;
use crate::event::{Cause, LossUnit, StateChange};
use crate::http;
use crate::output::render::Renderer;
use crate::output::sink::{Batch, SinkHandle};
use crate::output::{self, identity::Identity};
use crate::pipeline::RunError;
use crate::pipeline::account_line::line as account_line;
use crate::pipeline::control::{self, Command, Control, Figures};
use crate::pipeline::host::Host;
use crate::pipeline::mark::{self, Mark};
use crate::pipeline::merge::{self, AllRead, Inlets, Merge, Totals};
use crate::pipeline::probe::{Loaded, Probe, Readers};
use crate::pipeline::rules::files::RuleFiles;
use crate::pipeline::rules::held::Held;
use crate::pipeline::rules::{Configured, Upkeep};
use crate::pipeline::samples::{self, Samples};
use crate::pipeline::texts::{self, Texts};
use crate::pipeline::{canary, netlink, sys};
use crate::probe::features;
use crate::probe::hooks::Level;
use crate::probe::texts::TextMirror;

/// How long what is on its way may take at the end.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long the kernel may take to answer one request.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long putting the host back may take, and how much longer for each rule: the kernel needs some 12 ms to delete one
/// (kernel/auditfilter.c `audit_del_rule` waits for an RCU grace period).
const RESTORE: Duration = Duration::from_secs(2);
const RESTORE_RULE: Duration = Duration::from_millis(30);
/// How long the sink may take to write what waits at the end.
const SINK_DEADLINE: Duration = Duration::from_secs(2);

/// The running parts; those that can end by themselves are none once they have.
pub(super) struct Running {
    commands: SyncSender<Command>,
    accounts: channel::Receiver<Arc<Account>>,
    stop: channel::Sender<bool>,
    output_gone: channel::Receiver<bool>,
    reader: Option<JoinHandle<Result<(), ReceiveError>>>,
    all_read: oneshot::Receiver<()>,
    merge: Option<JoinHandle<Arc<Account>>>,
    control: thread::JoinHandle<()>,
    /// How long putting the host back may take.
    restore_time: Duration,
    control_ended: oneshot::Receiver<()>,
    web: Option<JoinHandle<()>>,
    account_socket: Option<JoinHandle<()>>,
    told: Option<JoinHandle<()>>,
    marks: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts everything: rule files are read, then socket, settings, rules, witness, and only then is anything judged.
    pub(super) async fn start(config: Config) -> Result<Self, RunError> {
        let files = RuleFiles::read(&config.audit)?;
        let server = match &config.web {
            Some(web) => Some(http::Server::bind(web).await?),
            None => None,
        };
        let account_socket = config.account_folder.as_deref().and_then(account_socket);
        let sink = SinkHandle::spawn(output::sink_config(&config.output))?;
        let identity = Identity::of_this_machine().map_err(RunError::Identity)?;
        // Short, as the end must not wait for a kernel that does not answer.
        let mut client = Client::connect()?.with_timeout(KERNEL_TIMEOUT);
        let delivery = delivery(config.audit.mode, &client.status()?);
        // Before we listen: the kernel reports each program that is loaded.
        let loaded = Loaded::new(&config.ebpf)?;
        let mut socket = open_socket(delivery, &config.audit)?;
        let capture = config
            .audit
            .capture
            .as_deref()
            .map(|path| CaptureWriter::create(path, delivery))
            .transpose()?;
        let host = Host::take_over(&mut socket, &config.audit, files.as_ref())?;
        let configured = files.map(|files| match delivery {
            Delivery::Unicast if config.audit.rules.enforce => {
                Configured::new(files.of_ours(), Upkeep::PutBack)
            }
            Delivery::Unicast => Configured::new(files.of_ours(), Upkeep::Compare),
            Delivery::Multicast => Configured::new(files.of_others(), Upkeep::Compare),
        });

        let status = client.status()?;
        let rules = Held {
            confirmed: KtimeNs::now(),
            loaded: client.rules()?,
            generation: 1,
        };

        let (packets, datagrams) = mpsc::channel(netlink::QUEUE_PACKETS);
        let (tell, messages) = mpsc::channel(control::QUEUE_MESSAGES);
        let (commands, command_queue) = sync_channel(control::QUEUE_COMMANDS);
        let (stop, stopping) = channel::channel(false);
        let (account, accounts) = channel::channel(Arc::new(Account::default()));
        let (sink_stopped, output_gone) = channel::channel(false);
        let (alive, control_ended) = oneshot::channel();
        let (read_all, all_read) = oneshot::channel();
        let rules_doubted = Arc::new(AtomicU64::new(0));
        let reader_counts = Arc::new(netlink::Counts::default());
        let sample_counts = Arc::new(samples::Counts::default());
        let text_counts = Arc::new(texts::Counts::default());
        let text_mirror = loaded.as_ref().map_or(TextMirror::Off, Loaded::text_mirror);

        let offset = RealtimeOffset::sample();
        let mut core = Core::new(
            &CoreConfig {
                source: source(delivery),
                reassembly: reassemble::Limits {
                    timeout: config.merge.reassembly_timeout,
                    max_events: config.merge.max_events,
                    repeats: match text_mirror {
                        TextMirror::Off => Repeats::Duplicates,
                        TextMirror::Lost | TextMirror::All => Repeats::Records,
                    },
                    ..reassemble::Limits::default()
                },
                reorder_window: config.merge.reorder_window,
                began: offset.wall(KtimeNs::now()),
                verify: config.merge.verify,
                texts: text_mirror,
            },
            offset,
        );
        let (probe, ring, text_ring) = match loaded {
            None => (None, None, None),
            Some(loaded) => {
                let readers = Readers {
                    samples: Arc::clone(&sample_counts),
                    texts: Arc::clone(&text_counts),
                    socket: match delivery {
                        Delivery::Unicast => None,
                        Delivery::Multicast => Some(socket.cookie().map_err(RunError::Cookie)?),
                    },
                };
                let started = loaded.watch(&rules, status.pid, readers)?;
                let in_force = witness::Rules {
                    watch: started.mirror,
                    generation: rules.generation,
                    former_until: KtimeNs(0),
                    since: started.since,
                };
                let level = started.probe.level();
                core.correlator
                    .witness_attached(in_force, started.exempt, level);
                (Some(started.probe), Some(started.ring), started.texts)
            }
        };
        sys::hand_back_memory();
        let level = probe.as_ref().map(Probe::level);
        let started = format!(
            "audit-collector {} on Linux {}: {}, {}, {} rules",
            env!("CARGO_PKG_VERSION"),
            kernel_release(),
            source(delivery),
            in_words(probe.as_ref()),
            rules.loaded.len(),
        );
        tracing::info!("{started}");

        let event_socket = socket
            .as_fd()
            .try_clone_to_owned()
            .map_err(RunError::Thread)?;
        let n_rules = u32::try_from(host.n_rules_to_undo()).unwrap_or(u32::MAX);
        let restore_time = RESTORE + RESTORE_RULE.saturating_mul(n_rules);
        let keys = control::keys(&rules.loaded);
        let (canary_sender, canary_receiver) = config
            .canary
            .map(canary::pair)
            .transpose()
            .map_err(RunError::Thread)?
            .unzip();
        let control = Control {
            figures: Figures::since(&status),
            client,
            host,
            probe,
            event_socket,
            delivery,
            reader: Arc::clone(&reader_counts),
            core: tell,
            rules,
            canary: canary_sender,
            configured,
            rules_read: None,
            rules_doubted: Arc::clone(&rules_doubted),
            alive,
        };
        if features::holds_records() == Some(false) {
            core.correlator.kernel_keeps_nothing();
        }
        let marks = config.audit.state_file.as_deref().map(|path| {
            resume(&mut core, path, &identity.boot_id, &status);
            let keep = mark::keep(path.to_owned(), identity.boot_id.clone(), accounts.clone());
            tokio::spawn(keep)
        });
        let (samples, runtime) = Samples::of_core(ring, sample_counts).map_err(RunError::Ring)?;
        let control = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.run(&command_queue));
        let control = match control {
            Ok(control) => control,
            Err(error) => {
                // Only so may it end inside another runtime.
                runtime.shutdown_background();
                return Err(RunError::Thread(error));
            }
        };
        // From here on nothing fails: what was changed on the host is the control thread's to put back.

        let mut merge = Merge {
            core,
            renderer: Renderer::new(&config.output, identity),
            sink,
            account,
            sink_stopped,
            commands: commands.clone(),
            rules_doubted,
            reader: Arc::clone(&reader_counts),
            samples,
            texts: Texts::new(text_ring, text_counts),
            delivery,
            batch: Batch::default(),
            most_waiting: 0,
            last: Totals::default(),
            published: Account {
                level,
                rule_events: RuleEvents::new(config.metrics_rule_keys),
                ..Account::default()
            },
            canary: canary_receiver,
        };
        merge.expect_keys(&keys);
        merge.state(StateChange::Started, started);
        let inlets = Inlets {
            datagrams,
            messages,
            all_read: AllRead {
                stopping: stopping.clone(),
                done: Some(read_all),
            },
        };
        let merge =
            tokio::task::spawn_blocking(move || runtime.block_on(merge.run(inlets, SINK_DEADLINE)));
        let queue = netlink::Queue {
            core: packets,
            bytes: config.audit.queue_bytes,
            counts: reader_counts,
        };
        let reader = tokio::task::spawn_blocking({
            let stop = stopping.clone();
            move || netlink::read(socket, capture, &queue, &stop)
        });
        let web = server
            .map(|server| tokio::spawn(server.serve(accounts.clone(), stopped(stopping.clone()))));
        let account_socket = account_socket.map(|server| {
            let identity = account_socket::Identity::of_this_process();
            tokio::spawn(server.serve(accounts.clone(), identity, stopped(stopping.clone())))
        });
        let told = config
            .account_interval
            .map(|every| tokio::spawn(tell_account(accounts.clone(), every)));

        Ok(Self {
            commands,
            accounts,
            stop,
            output_gone,
            reader: Some(reader),
            all_read,
            merge: Some(merge),
            control,
            restore_time,
            control_ended,
            web,
            account_socket,
            told,
            marks,
        })
    }

    /// Waits for `shutdown`, or for a part that ends before it is told to; says which that was. Only a panic or a socket
    /// that cannot be read does that.
    pub(super) async fn watch(&mut self, shutdown: impl Future<Output = ()>) -> Option<RunError> {
        let died = |part| Some(RunError::Died { part });
        tokio::select! {
            () = shutdown => None,
            _ = self.output_gone.wait_for(|gone| *gone) => {
                tracing::info!("nobody reads the output any more; stopping");
                None
            }
            ended = end_of(&mut self.reader) => match ended {
                Ok(Err(error)) => Some(RunError::Receive(error)),
                Ok(Ok(())) | Err(_) => died("reader of the event socket"),
            },
            _ = end_of(&mut self.merge) => died("core"),
            _ = &mut self.control_ended => died("control thread"),
        }
    }

    /// Stops in order: the witness, so that nothing is expected any more; what is on its way; the host is put back; then
    /// the readers, the last poll, the core and the sink.
    pub(super) async fn stop(mut self) -> Result<Arc<Account>, RunError> {
        // The queue has room: only one other command is ever in it.
        let _ = self.commands.try_send(Command::DetachWitness);
        drain(&self.accounts).await;
        let (done, restored) = sync_channel(1);
        let time = self.restore_time;
        let _ = self.commands.try_send(Command::Restore(done));
        let restored = tokio::task::spawn_blocking(move || restored.recv_timeout(time));
        if !matches!(restored.await, Ok(Ok(()))) {
            tracing::error!(
                "the kernel's audit settings may not be as they were; `audit-collector status` and `audit-collector rules list` show them"
            );
        }
        self.stop.send_replace(true);
        let read = match self.reader.take() {
            Some(reader) => reader.await,
            None => Ok(Ok(())),
        };
        // It is gone where the core is.
        let _ = self.all_read.await;
        // The last poll comes after the last read, so that an empty socket then means that all was read.
        let _ = self.commands.try_send(Command::Stop);
        drop(self.commands);
        let last = match self.merge.take() {
            Some(merge) => merge.await.ok(),
            None => None,
        };
        let control = self.control;
        let control = tokio::task::spawn_blocking(move || control.join());
        let _ = tokio::time::timeout(KERNEL_TIMEOUT, control).await;
        for server in [self.web, self.account_socket].into_iter().flatten() {
            let _ = tokio::time::timeout(KERNEL_TIMEOUT, server).await;
        }
        if let Some(marks) = self.marks {
            let _ = tokio::time::timeout(KERNEL_TIMEOUT, marks).await;
        }
        let last = last.ok_or(RunError::Died { part: "core" })?;
        if let Some(told) = self.told {
            told.abort();
            say(&account_line(&last));
        }
        match read {
            Ok(Err(error)) => Err(RunError::Receive(error)),
            _ => Ok(last),
        }
    }
}

/// Waits for a task and forgets it then; for ever where there is none.
async fn end_of<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    let ended = match task {
        Some(task) => task.await,
        None => pending().await,
    };
    *task = None;
    ended
}

/// How records reach us in `mode`: `auto` leaves a daemon that is registered its place.
fn delivery(mode: Mode, status: &KernelStatus) -> Delivery {
    match mode {
        Mode::Daemon => Delivery::Unicast,
        Mode::Multicast => Delivery::Multicast,
        Mode::Auto if status.pid == 0 => Delivery::Unicast,
        Mode::Auto => Delivery::Multicast,
    }
}

fn source(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Unicast => "daemon",
        Delivery::Multicast => "multicast",
    }
}

fn open_socket(delivery: Delivery, config: &AuditConfig) -> Result<EventSocket, SocketError> {
    let wished = usize::try_from(config.receive_buffer).ok();
    let mut socket = match delivery {
        Delivery::Unicast => EventSocket::unicast(wished)?,
        Delivery::Multicast => EventSocket::multicast(wished)?,
    };
    let got = socket.receive_buffer();
    if got.grant == Grant::Limited {
        tracing::warn!(
            wished = config.receive_buffer,
            got = got.bytes,
            "the receive buffer is smaller than wished: raise net.core.rmem_max or give the collector CAP_NET_ADMIN"
        );
    }
    if delivery == Delivery::Multicast && config.no_enobufs {
        socket.leave_out_overruns()?;
    }
    Ok(socket)
}

/// The socket for `status`, without which everything else works.
fn account_socket(folder: &Path) -> Option<account_socket::Server> {
    let opened = account_socket::Server::open(folder);
    opened
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "`audit-collector status` cannot show this collector's account (--account-folder names another folder, or off)"
            );
        })
        .ok()
}

/// What the witness can tell, and why no more.
fn in_words(probe: Option<&Probe>) -> String {
    let Some(probe) = probe else {
        return "no eBPF witness".to_owned();
    };
    let level = probe.level().name();
    match probe.limited_by() {
        None => format!("eBPF witness at level {level}"),
        Some(reason) => {
            let above = Level::AuditHooks.name();
            format!("eBPF witness at level {level} (not {above}: {reason})")
        }
    }
}

/// Goes on where the last run had ended, and tells what the kernel counted as lost since.
fn resume(core: &mut Core, path: &Path, boot_id: &str, status: &KernelStatus) {
    let now = KtimeNs::now();
    match Mark::read(path, boot_id) {
        Ok(Some(mark)) => {
            core.resume(mark.stamp, now);
            let mut lost = LostCounter::default();
            lost.observe(mark.lost);
            let lost = lost.observe(status.lost).added;
            if lost > 0 {
                core.lose(Cause::NotRunning, lost, LossUnit::Records, now);
            }
        }
        Ok(None) => {}
        Err(error) => {
            let path = path.display();
            tracing::warn!(%error, %path, "the state file cannot be read; what was missed since the last run is not told");
        }
    }
}

fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "of unknown release".to_owned(),
        |name| name.release().to_string_lossy().into_owned(),
    )
}

/// Waits until nothing waits for its counterpart, at most [`DRAIN`].
async fn drain(accounts: &channel::Receiver<Arc<Account>>) {
    let mut accounts = accounts.clone();
    // What was read just now shows in the account only after it was next published.
    tokio::time::sleep(2 * merge::PUBLISH).await;
    let idle = accounts.wait_for(|account| {
        let crosscheck = &account.crosscheck;
        account.assembly.pending + crosscheck.pending_observations + crosscheck.pending_events == 0
    });
    let _ = tokio::time::timeout(DRAIN, idle).await;
}

async fn stopped(mut stopping: channel::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn tell_account(accounts: channel::Receiver<Arc<Account>>, every: Duration) {
    let mut interval = tokio::time::interval(every);
    interval.tick().await;
    loop {
        interval.tick().await;
        let line = account_line(&accounts.borrow());
        say(&line);
    }
}

/// A closed standard error is no reason to end.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
