//! The settings of `run`: one list of them, given as flags or in a TOML file, checked once into a [`Config`].
//!
//! Owns names, units, bounds and defaults of the settings. Every bound lives in the type of its setting, so that a flag
//! and a line of the file are refused with the same words. Knows nothing of what the settings do.

mod settings;
mod state;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use crate::audit::status::StatusField;
use crate::verify::Sampling;
use settings::FILE_LIMIT;
pub use settings::{ReceiveBufferBytes, RecordQueueBytes, RingBytes, Settings, SinkQueueBytes};
pub use state::LoadState;
pub use value::{AccountFolder, Bounded, ByteSize, RuleKey, TelemetryPath, VerifyPerSecond};

/// Where `/metrics` is served unless told otherwise. The port lies outside 9100–9999, which Prometheus exporters share
/// out among themselves, below the kernel's ephemeral ports (32768), and is not assigned in IANA's registry as Debian
/// ships it (/etc/services), so that the collector neither takes another exporter's place nor finds it taken by chance.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:10470";

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read config file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is larger than any config.
    #[error("config file {} is larger than {FILE_LIMIT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line of the file is wrong.
    #[error("{}:{line}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key and what is wrong with it.
        what: String,
    },
    /// Two settings exclude each other.
    #[error("{setting}: {why}")]
    Conflict {
        /// The setting that cannot be had.
        setting: &'static str,
        /// Why not.
        why: &'static str,
    },
}

/// How the collector gets the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The daemon where none is registered, else multicast.
    #[default]
    Auto,
    /// Claims the audit pid and receives by unicast.
    Daemon,
    /// Reads beside another daemon and changes nothing.
    Multicast,
}

/// What the kernel does when it loses a record (`AUDIT_FAIL_*`). Panic, which the kernel knows too, is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Failure {
    /// Nothing.
    Silent,
    /// A line in the kernel log.
    Printk,
}

impl Failure {
    /// The number the kernel takes.
    pub const fn number(self) -> u32 {
        match self {
            Self::Silent => 0,
            Self::Printk => 1,
        }
    }
}

/// Whether the eBPF witness takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EbpfUse {
    /// Where this machine allows it.
    #[default]
    Auto,
    /// Yes; without it the collector does not start.
    On,
    /// No.
    Off,
}

/// Which records are copied behind the kernel's audit queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TextMirror {
    /// None.
    Off,
    /// Those that the kernel is seen to lose there.
    #[default]
    Lost,
    /// All.
    All,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may need a person's eye as well.
    Warn,
    /// What happens in the large as well.
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The name as a `tracing` filter takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of the merged events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON lines, docs/stream.md.
    #[default]
    Json,
    /// auditd's raw format, which ausearch reads.
    Raw,
}

/// Where the merged events go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Target {
    /// Standard output.
    #[default]
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stdout" | "-" => Self::Stdout,
            _ => Self::File(PathBuf::from(text)),
        }
    }
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text.to_owned()))
    }
}

/// Where HTTP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        // A port alone means every address, as it does to other exporters.
        let address = match text.strip_prefix(':') {
            Some(port) => format!("[::]:{port}").parse(),
            None => text.parse(),
        };
        address.map(Self::At).map_err(|_| {
            format!("'{text}' is neither an address such as {DEFAULT_LISTEN} or :10470 nor off")
        })
    }
}

/// The settings of `run`, checked and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The kernel's audit subsystem.
    pub audit: AuditConfig,
    /// The eBPF witness.
    pub ebpf: EbpfConfig,
    /// Assembly and matching.
    pub merge: MergeConfig,
    /// The stream.
    pub output: OutputConfig,
    /// How often the account line is printed; none for never.
    pub account_interval: Option<Duration>,
    /// The folder of the account socket; none for no socket.
    pub account_folder: Option<PathBuf>,
    /// HTTP; none where it is served nowhere.
    pub web: Option<WebSettings>,
    /// How often a message of our own is sent into the audit subsystem; none for never.
    pub canary: Option<Duration>,
    /// Most rule keys that have a metric of their own.
    pub metrics_rule_keys: usize,
    /// The collector's log level.
    pub log: Level,
}

/// What is asked of the kernel's audit subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// How to get the records.
    pub mode: Mode,
    /// Whether to switch auditing on; none for only as the daemon.
    pub enable: Option<bool>,
    /// Records per second, 0 for no limit; none leaves the kernel's.
    pub rate_limit: Option<u32>,
    /// Records in the queue, 0 for no limit; none leaves the kernel's.
    pub backlog_limit: Option<u32>,
    /// Longest wait for room in the queue, in jiffies; none leaves the kernel's.
    pub backlog_wait_time: Option<u32>,
    /// What the kernel does at a loss; none leaves the kernel's.
    pub failure: Option<Failure>,
    /// Whether to lock the configuration until the next boot.
    pub immutable: bool,
    /// Receive buffer of the event socket, in bytes.
    pub receive_buffer: u64,
    /// Whether the event socket is to receive after an overrun before it is empty, where records come by multicast.
    pub no_enobufs: bool,
    /// Most bytes of records read that wait for the core.
    pub queue_bytes: u64,
    /// Whether to load the example rules.
    pub example_rules: bool,
    /// The rules to load, or to compare with.
    pub rules: RulesConfig,
    /// Whether to take the audit pid back from another process.
    pub reclaim: bool,
    /// Where it is remembered how far the audit stream was read.
    pub state_file: Option<PathBuf>,
    /// Where every datagram is written.
    pub capture: Option<PathBuf>,
}

/// How HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// Where; at least one address.
    pub listen: Vec<SocketAddr>,
    /// The path of the metrics.
    pub telemetry_path: TelemetryPath,
    /// TLS, users and headers, in the format of Prometheus's exporters.
    pub config_file: Option<PathBuf>,
}

/// What is asked of rule files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesConfig {
    /// Files, and folders of `*.rules`; none for leaving the rules as they are.
    pub paths: Vec<PathBuf>,
    /// A further key for each rule loaded.
    pub key: Option<RuleKey>,
    /// Whether to put them back when another program changes them.
    pub enforce: bool,
    /// Whether to undo at exit what loading them did.
    pub remove_at_exit: bool,
}

/// What is asked of the eBPF witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EbpfConfig {
    /// Whether it takes part.
    pub r#use: EbpfUse,
    /// Size of the ring buffer in bytes, a power of two.
    pub ring_bytes: u32,
    /// Calls followed at a time.
    pub in_flight: u32,
    /// Which records are copied behind the kernel's audit queue.
    pub text_mirror: TextMirror,
    /// Size of the ring buffer for those in bytes, a power of two.
    pub text_ring_bytes: u32,
    /// Log level of the programs.
    pub log: Level,
}

/// Bounds of assembly and matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeConfig {
    /// How long an event may wait for its end-of-event record.
    pub reassembly_timeout: Duration,
    /// Most events assembled at a time.
    pub max_events: usize,
    /// How long one witness waits for the other.
    pub reorder_window: Duration,
    /// Which matched events are rebuilt from eBPF alone and compared.
    pub verify: Sampling,
}

/// The stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// Where it goes.
    pub target: Target,
    /// Its form.
    pub format: Format,
    /// Most bytes that wait for the target.
    pub queue_bytes: usize,
    /// Whether user and group names are added.
    pub resolve_ids: bool,
}

impl AuditConfig {
    /// Whether the configuration itself makes this setting.
    pub const fn makes(&self, field: StatusField) -> bool {
        match field {
            StatusField::Enabled => self.enable.is_some() || self.immutable,
            StatusField::Failure => self.failure.is_some(),
            StatusField::RateLimit => self.rate_limit.is_some(),
            StatusField::BacklogLimit => self.backlog_limit.is_some(),
            StatusField::BacklogWaitTime => self.backlog_wait_time.is_some(),
            _ => false,
        }
    }

    /// Whether settings or rules are asked for that only the daemon makes.
    pub const fn changes_kernel(&self) -> bool {
        self.rate_limit.is_some()
            || self.backlog_limit.is_some()
            || self.backlog_wait_time.is_some()
            || self.failure.is_some()
            || self.immutable
            || self.example_rules
            || self.rules.key.is_some()
            || self.rules.enforce
            || self.rules.remove_at_exit
            || self.reclaim
    }
}

impl Default for Config {
    fn default() -> Self {
        Settings::default()
            .resolve()
            .expect("the defaults agree with each other, as a test shows")
    }
}

#[cfg(test)]
mod tests;
