//! `run`: the ends of the data path and the order in which they start and stop.
//!
//! ```text
//! event socket ─ netlink ──packets──┐
//! kernel ─────── control ──totals───┼─▶ merge (the core) ─▶ sink thread
//! rings ──────── samples, texts ────┘      └─▶ account ─▶ http, account line
//! ```
//!
//! Start: rule files read, socket, settings, rules, witness, and only then is anything judged. Stop: the witness first, so that nothing
//! is expected any more; then what is on its way; then the host is put back; then the readers, the core and the sink end.

mod account_line;
mod canary;
mod control;
mod host;
mod inlet;
mod mark;
mod merge;
mod netlink;
mod packet;
mod peak;
mod probe;
mod rules;
mod running;
mod samples;
mod seat;
mod sys;
mod texts;

use std::future::Future;
use std::sync::Arc;

use crate::account::Account;
use crate::audit::capture::CaptureError;
use crate::audit::client::ClientError;
use crate::audit::socket::{ReceiveError, SocketError};
use crate::config::Config;
use crate::event::StateChange;
use crate::http;
use crate::output::sink::SinkError;
use crate::pipeline::running::Running;
use crate::probe::load::WitnessError;
pub use account_line::line as account_line;
pub use rules::files::RulesError;

/// A change to tell in the stream and in the log.
type News = (StateChange, String);

/// Why the collector could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel refused a request.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The rule files cannot be had.
    #[error(transparent)]
    Rules(#[from] RulesError),
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
    /// The event socket's number could not be read.
    #[error("cannot tell the event socket from others (SO_COOKIE)")]
    Cookie(#[source] std::io::Error),
    /// The ring buffer cannot be watched.
    #[error("cannot watch the ring buffer of the eBPF programs")]
    Ring(#[source] std::io::Error),
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
            Self::Rules(error) => error.is_refusal(),
            Self::Socket(error) => matches!(error, SocketError::MissingAuditRead),
            Self::Witness(error) => matches!(error, WitnessError::Permission { .. }),
            _ => false,
        }
    }

    /// Whether what was given to the collector is wrong: nothing of the host was touched.
    pub const fn is_usage(&self) -> bool {
        match self {
            Self::Rules(error) => error.is_usage(),
            Self::Http(error) => matches!(error, http::HttpError::Config(_)),
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
    let mut running = Running::start(config).await?;
    let failure = running.watch(shutdown).await;
    let stopped = running.stop().await;
    match failure {
        Some(failure) => Err(failure),
        None => stopped,
    }
}
