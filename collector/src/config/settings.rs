//! The settings as a person gives them, and what makes a [`Config`] of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Deserializer};

use super::{
    AccountFolder, AuditConfig, Bounded, ByteSize, Config, ConfigError, DEFAULT_LISTEN, EbpfConfig,
    EbpfUse, Failure, Format, Level, Listen, MergeConfig, Mode, OutputConfig, RuleKey, RulesConfig,
    Target, TelemetryPath, TextMirror, VerifyPerSecond, WebSettings,
};
use crate::verify::Sampling;

/// The largest config file that is read, in bytes.
pub(super) const FILE_LIMIT: u64 = 1 << 20;

/// The settings as a person gives them: the flags of `run`, and the keys of the config file under the same names with
/// `_` for `-`.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[group(skip)]
pub struct Settings {
    /// How to get the records [default: auto]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Switch auditing on, and back at exit [default: true as the daemon, false in multicast]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable: Option<bool>,
    /// Most records the kernel sends in a second, 0 for no limit [default: leave as it is]
    #[arg(long, value_name = "RECORDS")]
    pub rate_limit: Option<Bounded<0, { u32::MAX }>>,
    /// Most records the kernel queues, 0 for no limit [default: leave as it is]
    #[arg(long, value_name = "RECORDS")]
    pub backlog_limit: Option<Bounded<0, { u32::MAX }>>,
    /// How long a task waits for room in the kernel's queue, in jiffies, at most 600 s [default: leave as it is]
    #[arg(long, value_name = "JIFFIES")]
    pub backlog_wait_time: Option<Bounded<0, 600_000>>,
    /// What the kernel does when it loses a record [default: leave as it is]
    #[arg(long, value_enum)]
    pub failure: Option<Failure>,
    /// Lock the audit configuration until the next boot: nothing can be put back then [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub immutable: Option<bool>,
    /// Receive buffer of the event socket [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    pub receive_buffer_bytes: Option<ReceiveBufferBytes>,
    /// By multicast, go on receiving after an overrun before all that waits was read (NETLINK_NO_ENOBUFS) [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_enobufs: Option<bool>,
    /// Most bytes of records that were read and wait to be matched; what comes above is dropped and counted [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub record_queue_bytes: Option<RecordQueueBytes>,
    /// Load a small example rule set, and take it out at exit [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub example_rules: Option<bool>,
    /// Load rules from this file, or from the *.rules of this folder; may be given again. Beside another daemon they are
    /// compared only
    #[arg(long, value_name = "PATH")]
    pub rules: Option<Vec<PathBuf>>,
    /// A further key for each rule loaded
    #[arg(long, value_name = "KEY")]
    pub rules_key: Option<RuleKey>,
    /// Put the rules back when another program changes them [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rules_enforce: Option<bool>,
    /// Put rules and settings at exit back as they were before the rules were loaded [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rules_remove_at_exit: Option<bool>,
    /// Take the audit pid back when another process has taken it [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub reclaim: Option<bool>,
    /// Remember in this file how far the audit stream was read, so that the next start tells what was missed in between
    #[arg(long, value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Write every datagram to this file as received; a file of that name is overwritten
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Use the eBPF witness [default: auto]
    #[arg(long, value_enum)]
    pub ebpf: Option<EbpfUse>,
    /// Ring buffer of the eBPF programs, a power of two [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub ebpf_ring_bytes: Option<RingBytes>,
    /// Calls the eBPF programs follow at a time [default: 16384]
    #[arg(long, value_name = "CALLS")]
    pub ebpf_in_flight: Option<Bounded<64, 1_048_576>>,
    /// Which records are copied behind the kernel's audit queue, to be given back to the byte: those it is seen to lose
    /// there, all (costs a copy of each), or off [default: lost]
    #[arg(long, value_enum)]
    pub ebpf_text_mirror: Option<TextMirror>,
    /// Ring buffer for those, a power of two [default: 8MiB]
    #[arg(long, value_name = "SIZE")]
    pub ebpf_text_ring_bytes: Option<RingBytes>,
    /// Log level of the eBPF programs [default: warn]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub bpf_log: Option<Level>,
    /// How long an event may wait for its end-of-event record [default: 2000]
    #[arg(long, value_name = "MS")]
    pub reassembly_timeout_ms: Option<Bounded<10, 60_000>>,
    /// Most events assembled at a time [default: 8192]
    #[arg(long, value_name = "EVENTS")]
    pub max_events: Option<Bounded<16, 1_048_576>>,
    /// How long one witness waits for the other [default: 5000]
    #[arg(long, value_name = "MS")]
    pub reorder_window_ms: Option<Bounded<10, 60_000>>,
    /// Most matched events in a second that are rebuilt from eBPF alone and compared, or all [default: 20]
    #[arg(long, value_name = "EVENTS|all")]
    pub verify_per_second: Option<VerifyPerSecond>,
    /// Where events go: stdout or a file to append to [default: stdout]
    #[arg(long, short, value_name = "stdout|FILE")]
    pub output: Option<Target>,
    /// Form of the events [default: json]
    #[arg(long, short, value_enum)]
    pub format: Option<Format>,
    /// Most bytes that wait for the output; what comes above is dropped and counted [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub sink_queue_bytes: Option<SinkQueueBytes>,
    /// Add user and group names to the events [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub resolve_ids: Option<bool>,
    /// A line with the account on stderr every so often, 0 for never [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub account_interval_s: Option<Bounded<0, 86_400>>,
    /// Folder of the socket from which `audit-collector status` reads the account, or off [default: /run/audit-collector]
    #[arg(long, value_name = "FOLDER|off")]
    pub account_folder: Option<AccountFolder>,
    /// Where HTTP is served: an address, :PORT for all of this host, or off; may be given again [default: 127.0.0.1:10470]
    #[arg(
        long = "web.listen-address",
        alias = "listen",
        value_name = "ADDRESS|off"
    )]
    #[serde(default, alias = "listen", deserialize_with = "addresses")]
    pub web_listen_address: Option<Vec<Listen>>,
    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH")]
    pub web_telemetry_path: Option<TelemetryPath>,
    /// TLS, users and headers, in the format of Prometheus's exporters; read again for each connection
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Most rule keys with a metric of their own; events with others count as key "other" [default: 32]
    #[arg(long, value_name = "KEYS")]
    pub metrics_rule_keys: Option<Bounded<0, 1_000>>,
    /// Send a message through the audit subsystem now and then, and time it until it is written [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub canary: Option<bool>,
    /// How often [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub canary_interval_s: Option<Bounded<1, 86_400>>,
    /// Log level of the collector, on stderr [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub log: Option<Level>,
}

/// A receive buffer: from the kernel's smallest to 1 GiB.
pub type ReceiveBufferBytes = ByteSize<4_096, { 1 << 30 }>;
/// The queue between the event socket and the matching: from 64 KiB to 4 GiB.
pub type RecordQueueBytes = ByteSize<65_536, { 1 << 32 }>;
/// A BPF ring buffer: from 64 KiB to 1 GiB.
pub type RingBytes = ByteSize<65_536, { 1 << 30 }>;
/// The queue of a sink: from 64 KiB to 4 GiB.
pub type SinkQueueBytes = ByteSize<65_536, { 1 << 32 }>;

impl Settings {
    /// Reads a config file. The error names the file, the line and the key.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        if std::fs::metadata(path).map_err(read)?.len() > FILE_LIMIT {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::from_toml(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    pub(super) fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let before = &text.as_bytes()[..start];
            let line = memchr::memchr_iter(b'\n', before).count();
            let key = text
                .lines()
                .nth(line)
                .and_then(|line| line.split_once('='))
                .map(|(key, _)| key.trim())
                .filter(|key| !key.is_empty() && !error.message().contains(&format!("`{key}`")));
            let message = error.message().trim_end().replace('\n', ", ");
            ConfigError::File {
                path: path.to_owned(),
                line: line + 1,
                what: key.map_or(message.clone(), |key| format!("{key}: {message}")),
            }
        })
    }

    /// Every event is compared, and none is written or served: another collector may run beside this one.
    pub fn of_verify() -> Self {
        Self {
            output: Some(Target::File(PathBuf::from("/dev/null"))),
            web_listen_address: Some(vec![Listen::Off]),
            account_interval_s: Bounded::try_from(0).ok(),
            verify_per_second: "all".parse().ok(),
            ..Self::default()
        }
    }

    /// Without what belongs to the one collector these settings were written for: its place as the daemon, and its files.
    pub fn beside_another(self) -> Self {
        Self {
            mode: None,
            state_file: None,
            capture: None,
            canary: None,
            ..self
        }
    }

    /// These settings, and those of `below` where these say nothing.
    pub fn over(self, below: Self) -> Self {
        macro_rules! over {
            ($($field:ident),* $(,)?) => {
                Self { $($field: self.$field.or(below.$field)),* }
            };
        }
        over!(
            mode,
            enable,
            rate_limit,
            backlog_limit,
            backlog_wait_time,
            failure,
            immutable,
            receive_buffer_bytes,
            no_enobufs,
            record_queue_bytes,
            example_rules,
            rules,
            rules_key,
            rules_enforce,
            rules_remove_at_exit,
            reclaim,
            state_file,
            capture,
            ebpf,
            ebpf_ring_bytes,
            ebpf_in_flight,
            ebpf_text_mirror,
            ebpf_text_ring_bytes,
            bpf_log,
            reassembly_timeout_ms,
            max_events,
            reorder_window_ms,
            verify_per_second,
            output,
            format,
            sink_queue_bytes,
            resolve_ids,
            account_interval_s,
            account_folder,
            web_listen_address,
            web_telemetry_path,
            web_config_file,
            metrics_rule_keys,
            canary,
            canary_interval_s,
            log,
        )
    }

    /// Fills in the defaults and checks what settings mean to each other.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let mode = self.mode.unwrap_or_default();
        let daemon_only = [
            ("rate_limit", self.rate_limit.is_some()),
            ("backlog_limit", self.backlog_limit.is_some()),
            ("backlog_wait_time", self.backlog_wait_time.is_some()),
            ("failure", self.failure.is_some()),
            ("immutable", self.immutable == Some(true)),
            ("example_rules", self.example_rules == Some(true)),
            ("rules_key", self.rules_key.is_some()),
            ("rules_enforce", self.rules_enforce == Some(true)),
            (
                "rules_remove_at_exit",
                self.rules_remove_at_exit == Some(true),
            ),
            ("reclaim", self.reclaim == Some(true)),
        ];
        if mode == Mode::Multicast
            && let Some((setting, _)) = daemon_only.into_iter().find(|(_, given)| *given)
        {
            return Err(ConfigError::Conflict {
                setting,
                why: "mode multicast leaves rules and settings to the daemon beside it",
            });
        }
        if self.immutable == Some(true) && self.enable == Some(false) {
            return Err(ConfigError::Conflict {
                setting: "immutable",
                why: "locks auditing on, and enable is false",
            });
        }
        if mode == Mode::Daemon && self.no_enobufs == Some(true) {
            return Err(ConfigError::Conflict {
                setting: "no_enobufs",
                why: "an overrun loses nothing in mode daemon, and tells that the kernel keeps records back",
            });
        }
        let rules = self.rules_config()?;
        let ring = |setting, given: Option<RingBytes>, default| {
            u32::try_from(given.map_or(default, ByteSize::get))
                .ok()
                .filter(|bytes| bytes.is_power_of_two())
                .ok_or(ConfigError::Conflict {
                    setting,
                    why: "the kernel takes powers of two only",
                })
        };
        let ring_bytes = ring("ebpf_ring_bytes", self.ebpf_ring_bytes, 64 << 20)?;
        let text_ring_bytes = ring("ebpf_text_ring_bytes", self.ebpf_text_ring_bytes, 8 << 20)?;
        let ms = |setting: Option<u32>, default| {
            Duration::from_millis(u64::from(setting.unwrap_or(default)))
        };
        let account_interval_s = self.account_interval_s.map_or(10, Bounded::get);
        let web = self.web()?;
        Ok(Config {
            audit: AuditConfig {
                mode,
                enable: self.enable,
                rate_limit: self.rate_limit.map(Bounded::get),
                backlog_limit: self.backlog_limit.map(Bounded::get),
                backlog_wait_time: self.backlog_wait_time.map(Bounded::get),
                failure: self.failure,
                immutable: self.immutable.unwrap_or_default(),
                receive_buffer: self.receive_buffer_bytes.map_or(16 << 20, ByteSize::get),
                no_enobufs: self.no_enobufs.unwrap_or_default(),
                queue_bytes: self.record_queue_bytes.map_or(64 << 20, ByteSize::get),
                example_rules: self.example_rules.unwrap_or_default(),
                rules,
                reclaim: self.reclaim.unwrap_or_default(),
                state_file: self.state_file,
                capture: self.capture,
            },
            ebpf: EbpfConfig {
                r#use: self.ebpf.unwrap_or_default(),
                ring_bytes,
                in_flight: self.ebpf_in_flight.map_or(16_384, Bounded::get),
                text_mirror: self.ebpf_text_mirror.unwrap_or_default(),
                text_ring_bytes,
                log: self.bpf_log.unwrap_or(Level::Warn),
            },
            merge: MergeConfig {
                reassembly_timeout: ms(self.reassembly_timeout_ms.map(Bounded::get), 2_000),
                max_events: self.max_events.map_or(8_192, |n| n.get() as usize),
                reorder_window: ms(self.reorder_window_ms.map(Bounded::get), 5_000),
                verify: self
                    .verify_per_second
                    .map_or_else(Sampling::default, VerifyPerSecond::get),
            },
            output: OutputConfig {
                target: self.output.unwrap_or_default(),
                format: self.format.unwrap_or_default(),
                queue_bytes: self.sink_queue_bytes.map_or(64 << 20, |size| {
                    usize::try_from(size.get()).unwrap_or(usize::MAX)
                }),
                resolve_ids: self.resolve_ids.unwrap_or_default(),
            },
            account_interval: (account_interval_s > 0)
                .then(|| Duration::from_secs(u64::from(account_interval_s))),
            account_folder: self.account_folder.unwrap_or_default().path(),
            web,
            canary: self.canary.unwrap_or_default().then(|| {
                let seconds = self.canary_interval_s.map_or(60, Bounded::get);
                Duration::from_secs(u64::from(seconds))
            }),
            metrics_rule_keys: self.metrics_rule_keys.map_or(32, |n| n.get() as usize),
            log: self.log.unwrap_or(Level::Info),
        })
    }

    fn web(&self) -> Result<Option<WebSettings>, ConfigError> {
        let asked = self.web_listen_address.clone().unwrap_or_default();
        let mut listen: Vec<_> = asked
            .iter()
            .filter_map(|listen| match listen {
                Listen::Off => None,
                Listen::At(address) => Some(*address),
            })
            .collect();
        if asked.contains(&Listen::Off) {
            return match listen.is_empty() {
                true => Ok(None),
                false => Err(ConfigError::Conflict {
                    setting: "web_listen_address",
                    why: "is both off and an address",
                }),
            };
        }
        if listen.is_empty() {
            listen.push(
                DEFAULT_LISTEN
                    .parse()
                    .expect("DEFAULT_LISTEN is an address, as a test shows"),
            );
        }
        Ok(Some(WebSettings {
            listen,
            telemetry_path: self.web_telemetry_path.clone().unwrap_or_default(),
            config_file: self.web_config_file.clone(),
        }))
    }

    fn rules_config(&self) -> Result<RulesConfig, ConfigError> {
        let rules = RulesConfig {
            paths: self.rules.clone().unwrap_or_default(),
            key: self.rules_key.clone(),
            enforce: self.rules_enforce.unwrap_or_default(),
            remove_at_exit: self.rules_remove_at_exit.unwrap_or_default(),
        };
        let needs_rules = [
            ("rules_key", rules.key.is_some()),
            ("rules_enforce", rules.enforce),
            ("rules_remove_at_exit", rules.remove_at_exit),
        ];
        if rules.paths.is_empty()
            && let Some((setting, _)) = needs_rules.into_iter().find(|(_, given)| *given)
        {
            return Err(ConfigError::Conflict {
                setting,
                why: "there are no rules",
            });
        }
        if !rules.paths.is_empty() && self.example_rules == Some(true) {
            return Err(ConfigError::Conflict {
                setting: "example_rules",
                why: "there are rules already",
            });
        }
        Ok(rules)
    }
}

/// Addresses in a list, or one without.
fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Listen>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "neither a text nor a list of texts")]
    enum Given {
        One(String),
        Many(Vec<String>),
    }
    let given = match Given::deserialize(deserializer)? {
        Given::One(one) => vec![one],
        Given::Many(many) => many,
    };
    let addresses = given.iter().map(|text| text.parse());
    addresses
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(serde::de::Error::custom)
}
