//! `run`: the ends of the data path and the order in which they start and stop.
//!
//! ```text
//! event socket ─ netlink ──packets──┐
//! ring buffer ── ring ─────packets──┼─▶ merge (the core) ─▶ sink thread
//! kernel ─────── control ──totals───┘      └─▶ account ─▶ http, account line
//! ```
//!
//! Start: socket, settings, rules, witness, and only then is anything judged. Stop: the witness first, so that nothing
//! is expected any more; then what is on its way; then the host is put back; then the readers, the core and the sink end.

mod account_line;
mod control;
mod host;
mod merge;
mod netlink;
mod packet;
mod probe;
mod ring;
mod sys;

use std::future::Future;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch as channel};

use crate::account::Account;
use crate::audit::capture::{CaptureError, CaptureWriter};
use crate::audit::client::{Client, ClientError};
use crate::audit::reassemble;
use crate::audit::socket::{Delivery, EventSocket, Grant, ReceiveError, SocketError};
use crate::audit::status::KernelStatus;
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::config::{Config, Listen, Mode};
use crate::core::{Core, CoreConfig};
use crate::correlate::witness;
use crate::event::StateChange;
use crate::http;
use crate::output::render::Renderer;
use crate::output::sink::{Batch, SinkError, SinkHandle};
use crate::output::{self, identity::Identity};
use crate::pipeline::control::{Command, Control, Figures, Rules};
use crate::pipeline::host::Host;
use crate::pipeline::merge::{Inlets, Merge, Totals};
use crate::pipeline::probe::Loaded;
use crate::probe::load::WitnessError;
pub use account_line::line as account_line;

/// How long what is on its way may take at the end.
const DRAIN: Duration = Duration::from_millis(1_500);
/// How long the kernel may take to answer one request.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long putting the host back may take.
const RESTORE: Duration = Duration::from_secs(2);
/// How long the sink may take to write what waits at the end.
const SINK_DEADLINE: Duration = Duration::from_secs(2);

/// Why the collector could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel refused a request.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The event socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The event socket could not be read.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The eBPF witness was asked for and cannot be had.
    #[error("the eBPF witness was asked for (--ebpf on) and cannot be had")]
    Witness(#[from] WitnessError),
    /// The output could not be opened.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The metrics address could not be had.
    #[error(transparent)]
    Http(#[from] http::HttpError),
    /// The capture file could not be made.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The boot id or the host's name could not be read.
    #[error("cannot tell which machine this is")]
    Identity(#[source] std::io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A part of the collector ended before it was asked to.
    #[error("the {part} ended unexpectedly; this is a fault of the collector, please report it")]
    Died {
        /// Which.
        part: &'static str,
    },
}

impl RunError {
    /// Whether the kernel refuses for want of a capability, or from within this namespace.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Client(error) => error.is_refusal(),
            Self::Socket(error) => matches!(error, SocketError::MissingAuditRead),
            Self::Witness(error) => matches!(error, WitnessError::Permission { .. }),
            _ => false,
        }
    }
}

/// Runs until `shutdown`, then drains everything in order, puts the host back and returns the last account.
///
/// # Errors
/// Where a part that cannot be done without cannot be had at the start, or fails for good later.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<Arc<Account>, RunError> {
    let server = match config.listen {
        Listen::At(address) => Some(http::Server::bind(address).await?),
        Listen::Off => None,
    };
    let sink = SinkHandle::spawn(output::sink_config(&config.output))?;
    let identity = Identity::of_this_machine().map_err(RunError::Identity)?;
    // Short, as the end must not wait for a kernel that does not answer.
    let mut client = Client::connect()?.with_timeout(KERNEL_TIMEOUT);
    let delivery = delivery(config.audit.mode, &client.status()?);
    // Before we listen: the kernel reports each program that is loaded.
    let loaded = Loaded::new(&config.ebpf)?;
    let mut socket = open_socket(delivery, config.audit.receive_buffer)?;
    let capture = config
        .audit
        .capture
        .as_deref()
        .map(|path| CaptureWriter::create(path, delivery))
        .transpose()?;
    let host = Host::take_over(&mut socket, &config.audit)?;

    let status = client.status()?;
    let rules = Rules {
        confirmed: KtimeNs::now(),
        loaded: client.rules()?,
        generation: 1,
    };

    let (packets, datagrams) = mpsc::channel(netlink::QUEUE_PACKETS);
    let (sample_packets, samples) = mpsc::channel(ring::QUEUE_PACKETS);
    let (tell, messages) = mpsc::channel(control::QUEUE_MESSAGES);
    let (commands, command_queue) = sync_channel(control::QUEUE_COMMANDS);
    let (stop, stopping) = channel::channel(false);
    let (account, accounts) = channel::channel(Arc::new(Account::default()));
    let (sink_stopped, mut output_gone) = channel::channel(false);
    let (alive, control_ended) = oneshot::channel();
    let rules_doubted = Arc::new(AtomicU64::new(0));
    let reader_counts = Arc::new(netlink::Counts::default());
    let ring_counts = Arc::new(ring::Counts::default());

    let mut core = Core::new(
        &CoreConfig {
            source: source(delivery),
            reassembly: reassemble::Limits {
                timeout: config.merge.reassembly_timeout,
                max_events: config.merge.max_events,
                ..reassemble::Limits::default()
            },
            reorder_window: config.merge.reorder_window,
        },
        RealtimeOffset::sample(),
    );
    let (probe, ring) = match loaded {
        None => (None, None),
        Some(loaded) => {
            let started = loaded.watch(&rules, status.pid, Arc::clone(&ring_counts))?;
            let in_force = witness::Rules {
                watch: started.mirror,
                generation: rules.generation,
                former_until: KtimeNs(0),
                since: started.since,
            };
            core.correlator.witness_attached(in_force, started.exempt);
            (Some(started.probe), Some(started.ring))
        }
    };
    let level = match &probe {
        Some(_) => "eBPF witness at level syscalls",
        None => "no eBPF witness",
    };
    let started = format!(
        "audit-collector {} on Linux {}: {}, {level}, {} rules",
        env!("CARGO_PKG_VERSION"),
        kernel_release(),
        source(delivery),
        rules.loaded.len(),
    );
    tracing::info!("{started}");

    let event_socket = socket
        .as_fd()
        .try_clone_to_owned()
        .map_err(RunError::Thread)?;
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
        rules_doubted: Arc::clone(&rules_doubted),
        alive,
    };
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control.run(&command_queue))
        .map_err(RunError::Thread)?;

    let mut merge = Merge {
        core,
        renderer: Renderer::new(&config.output, identity),
        sink,
        account,
        sink_stopped,
        commands: commands.clone(),
        rules_doubted,
        reader: Arc::clone(&reader_counts),
        ring: Arc::clone(&ring_counts),
        delivery,
        batch: Batch::default(),
        last: Totals::default(),
        published: Account::default(),
    };
    merge.state(StateChange::Started, started);
    let inlets = Inlets {
        datagrams,
        samples,
        messages,
    };
    let mut merge = tokio::spawn(merge.run(inlets, SINK_DEADLINE));
    let mut reader = tokio::spawn(netlink::read(
        socket,
        capture,
        packets,
        reader_counts,
        stopping.clone(),
    ));
    let mut ring_reader = ring.map(|ring| {
        tokio::spawn(ring::read(
            ring,
            sample_packets,
            ring_counts,
            stopping.clone(),
        ))
    });
    let web = server
        .map(|server| tokio::spawn(server.serve(accounts.clone(), stopped(stopping.clone()))));
    let told = config
        .account_interval
        .map(|every| tokio::spawn(tell_account(accounts.clone(), every)));

    let mut failure = None;
    let mut last = None;
    let mut ring_ended = None;
    tokio::select! {
        () = shutdown => {}
        _ = output_gone.wait_for(|gone| *gone) => tracing::info!("nobody reads the output any more; stopping"),
        ended = &mut reader => failure = Some(ended_early(ended)),
        // Only a panic ends these before they are told to. The host is put back all the same.
        ended = &mut merge => last = Some(ended),
        ended = async { ring_reader.as_mut().expect("the branch is off without it").await }, if ring_reader.is_some() => {
            failure = Some(RunError::Died { part: "reader of the ring buffer" });
            ring_ended = Some(ended);
        }
        _ = control_ended => failure = Some(RunError::Died { part: "control thread" }),
    }

    // Nothing is expected from now on; what is on its way may still arrive. The queue has room: only one other command is
    // ever in it.
    let _ = commands.try_send(Command::DetachWitness);
    drain(&accounts).await;
    let (done, restored) = sync_channel(1);
    let _ = commands.try_send(Command::Restore(done));
    let restored = tokio::task::spawn_blocking(move || restored.recv_timeout(RESTORE));
    if !matches!(restored.await, Ok(Ok(()))) {
        tracing::error!(
            "the kernel's audit settings may not be as they were; `auditctl -s` and `auditctl -l` show them"
        );
    }
    stop.send_replace(true);
    if failure.is_none()
        && let Ok(Err(error)) = reader.await
    {
        failure = Some(RunError::Receive(error));
    }
    if let Some(reader) = ring_reader.filter(|_| ring_ended.is_none()) {
        ring_ended = Some(reader.await);
    }
    if let Some(Ok(Err(error))) = ring_ended {
        tracing::error!(%error, "the ring buffer could not be read");
    }
    // The last poll comes after the last read, so that an empty socket then means that all was read.
    let _ = commands.try_send(Command::Stop);
    drop(commands);
    let last = match last {
        Some(ended) => ended,
        None => merge.await,
    };
    let control = tokio::task::spawn_blocking(move || control.join());
    let _ = tokio::time::timeout(KERNEL_TIMEOUT, control).await;
    if let Some(web) = web {
        let _ = tokio::time::timeout(KERNEL_TIMEOUT, web).await;
    }
    let last = last.map_err(|_| RunError::Died { part: "core" })?;
    if let Some(told) = told {
        told.abort();
        say(&account_line(&last));
    }
    failure.map_or(Ok(last), Err)
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

fn open_socket(delivery: Delivery, receive_buffer: u64) -> Result<EventSocket, SocketError> {
    let wished = usize::try_from(receive_buffer).ok();
    let socket = match delivery {
        Delivery::Unicast => EventSocket::unicast(wished)?,
        Delivery::Multicast => EventSocket::multicast(wished)?,
    };
    let got = socket.receive_buffer();
    if got.grant == Grant::Limited {
        tracing::warn!(
            wished = receive_buffer,
            got = got.bytes,
            "the receive buffer is smaller than wished: raise net.core.rmem_max or give the collector CAP_NET_ADMIN"
        );
    }
    Ok(socket)
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

fn ended_early(ended: Result<Result<(), ReceiveError>, tokio::task::JoinError>) -> RunError {
    match ended {
        Ok(Err(error)) => RunError::Receive(error),
        Ok(Ok(())) | Err(_) => RunError::Died {
            part: "reader of the event socket",
        },
    }
}
