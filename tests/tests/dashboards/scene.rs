//! Four collectors on one kernel and a Prometheus that scrapes them, and what goes wrong, one thing after the other.
//!
//! Time goes [`SCALE`] times as fast as in the committed rules; the scrapes are as many times as frequent.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use audit_collector_tests::audit_state::{AuditGuard, KEY};
use audit_collector_tests::bpf_stats::BpfStats;
use audit_collector_tests::disk::TinyDisk;
use audit_collector_tests::displacement::{netlink_sockets_of, take_seat_of};
use audit_collector_tests::example::{self, Pace};
use audit_collector_tests::grafana::TimeRange;
use audit_collector_tests::process::{Collector, Stopped};
use audit_collector_tests::prometheus::{Prometheus, Series};
use audit_collector_tests::stream::Stream;
use audit_collector_tests::{wait, workload};
use collector::audit::client::{Client, UserMessage};
use collector::audit::record::RecordType;
use collector::audit::socket::EventSocket;
use collector::audit::status::StatusChange;
use nix::sys::socket::{NetlinkAddr, connect};
use tempfile::TempDir;

/// How many times as fast as the committed rules say.
pub(super) const SCALE: u64 = 20;
const PACE: Pace = Pace {
    scale: SCALE,
    scrape_interval: Duration::from_secs(1),
};
/// Each minute in the committed example.
const CANARY_SECONDS: u64 = 60 / SCALE;
/// How long an alert may take from its cause on. The one that takes longest waits for 45 s.
const SOON: Duration = Duration::from_secs(90);

const UID: u32 = 60_181;
/// Receive buffers by which sockets are told apart: of the daemon's events, and of what any collector asks the kernel.
const DAEMON_BUFFER: u32 = 2 << 20;
const CONTROL_BUFFER: u32 = 4 << 20;

/// The daemon, which has everything but is displaced in the end.
const DAEMON: &str = "daemon";
/// Reads beside it without eBPF, from a small buffer; its web config file is spoilt.
const BLIND: &str = "blind";
/// Reads beside it with eBPF; its disk is full, and the kernel no longer answers it.
const STUCK: &str = "stuck";
/// Reads beside it with a small eBPF ring, and goes.
const GONE: &str = "gone";

/// Everything that fires, and where.
pub(super) const ALERTS: [(&str, &str); 25] = [
    ("AuditCollectorDown", GONE),
    ("AuditEventsUnrecovered", DAEMON),
    ("AuditEventsUnrecovered", BLIND),
    ("AuditEventsUnrecovered", STUCK),
    ("AuditRecordsLost", BLIND),
    ("AuditDisabled", DAEMON),
    ("AuditDisabled", BLIND),
    ("AuditDisabled", STUCK),
    ("AuditDaemonPidTaken", DAEMON),
    ("AuditSinkStalled", STUCK),
    ("AuditSinkDropping", STUCK),
    ("AuditCanaryLate", DAEMON),
    ("AuditEventsBackfilled", DAEMON),
    ("AuditEventsBackfilled", STUCK),
    ("AuditBacklogNearLimit", DAEMON),
    ("AuditBacklogNearLimit", BLIND),
    ("AuditBacklogNearLimit", STUCK),
    ("AuditNotEnforced", DAEMON),
    ("AuditNotEnforced", BLIND),
    ("AuditNotEnforced", STUCK),
    ("AuditRulesDrifted", DAEMON),
    ("AuditWitnessAbsent", BLIND),
    ("AuditWitnessDropping", GONE),
    ("AuditStatusStale", STUCK),
    ("AuditConfigRefused", BLIND),
];

/// What may fire as well: the queue is full now and then while this one is still there, and it may look just then.
pub(super) const BY_CHANCE: (&str, &str) = ("AuditBacklogNearLimit", GONE);

/// What does not, and why not.
pub(super) const NOT_PROVOKED: [(&str, &str); 2] = [
    (
        "AuditPanicRisk",
        "no test has this kernel panic when it loses a record",
    ),
    (
        "AuditHostsVanished",
        "it compares with an hour ago, which the test's own tests with series of their own do",
    ),
];

pub(super) struct Scene {
    pub(super) prometheus: Prometheus,
    began: SystemTime,
    // Collectors before the guard: they end before the kernel's state is put back.
    daemon: Collector,
    blind: Collector,
    stuck: Collector,
    gone: Option<Collector>,
    seat: Option<EventSocket>,
    disk: TinyDisk,
    folder: TempDir,
    _stats: BpfStats,
    guard: AuditGuard,
}

impl Scene {
    pub(super) fn set() -> Self {
        let mut guard = AuditGuard::take().unwrap();
        guard.enable().unwrap();
        let stats = BpfStats::on().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("live.rules");
        let rule = format!("-a always,exit -F arch=b64 -S openat -F uid={UID} -k {KEY}-live\n");
        fs::write(&rules, rule).unwrap();
        let disk = TinyDisk::new("1m").unwrap();
        let waits = ["--reorder-window-ms=1000", "--reassembly-timeout-ms=500"];
        let start = |more: &[&str]| Collector::start(&[&waits, more].concat()).unwrap();
        let daemon = start(&[
            "--mode=daemon",
            &format!("--receive-buffer-bytes={DAEMON_BUFFER}"),
            &format!("--rules={}", rules.display()),
            "--rules-remove-at-exit",
            "--canary",
            &format!("--canary-interval-s={CANARY_SECONDS}"),
            // With copies of all records a loss for good could not be had.
            "--ebpf-text-mirror=off",
        ]);
        let beside = ["--mode=multicast", "--ebpf-text-mirror=off"];
        let web_config = folder.path().join("web.yml");
        fs::write(&web_config, "").unwrap();
        let blind = start(&[
            "--mode=multicast",
            "--ebpf=off",
            "--receive-buffer-bytes=64KiB",
            &format!("--web.config.file={}", web_config.display()),
        ]);
        let gone = start(&[&beside[..], &["--ebpf-ring-bytes=64KiB"]].concat());
        let stuck = Collector::start_writing_to(
            &disk.path().join("events"),
            &[&waits[..], &beside, &["--sink-queue-bytes=64KiB"]].concat(),
        )
        .unwrap();
        let hosts = [
            (DAEMON, &daemon),
            (BLIND, &blind),
            (STUCK, &stuck),
            (GONE, &gone),
        ];
        let hosts = hosts.map(|(name, collector)| (name, collector.address()));
        let prometheus = example::start(folder.path(), PACE, &hosts).unwrap();
        Self {
            prometheus,
            began: SystemTime::now(),
            daemon,
            blind,
            stuck,
            gone: Some(gone),
            seat: None,
            disk,
            folder,
            _stats: stats,
            guard,
        }
    }

    /// Work that nothing is lost of, for a while: nothing is told.
    pub(super) fn stay_quiet(&mut self) {
        let (began, enough) = (Instant::now(), Duration::from_secs(8));
        while began.elapsed() < enough {
            workload::run(UID, &["open", "--count", "5"]).unwrap();
            thread::sleep(Duration::from_millis(500));
        }
        let health = self
            .prometheus
            .query("count by (instance, reason) (instance:audit_collector_health:severity)");
        let said = named(health.unwrap(), ["instance", "reason"]);
        let well = [DAEMON, BLIND, STUCK, GONE].map(|host| (host.to_owned(), String::new()));
        let mut expected = BTreeSet::from(well);
        expected.insert((BLIND.to_owned(), "AuditWitnessAbsent".to_owned()));
        let output = Stream::parse(&fs::read(self.daemon.output()).unwrap());
        let losses: Vec<_> = output.loss_lines().collect();
        assert_eq!(
            said, expected,
            "the hosts' health; {DAEMON} told {losses:?}"
        );
    }

    /// A disk that fills up, a full queue in the kernel, a full ring, an overrun socket, a rate limit.
    pub(super) fn lose_events(&mut self) {
        let filled = fs::write(self.disk.path().join("filler"), vec![0; 2 << 20]);
        assert!(filled.is_err(), "the disk has room for everything");
        let began = Instant::now();
        self.set_limits(0, 64);
        while !self.has_fired("AuditEventsBackfilled") {
            assert!(began.elapsed() < SOON, "{:?}", self.fired());
            if self.gone.is_some() && self.has_fired("AuditWitnessDropping") {
                drop(self.gone.take());
                self.fill_the_queue();
            }
            let stopped: Vec<Stopped> = [Some(&self.blind), self.gone.as_ref()]
                .into_iter()
                .flatten()
                .map(|collector| Stopped::new(collector.pid()).unwrap())
                .collect();
            // No longer than it takes to fill their buffers: what a panel shows of it is the difference of two scrapes.
            workload::run(UID, &["open", "--processes", "2", "--count", "300"]).unwrap();
            drop(stopped);
            workload::run(UID, &["open", "--processes", "2", "--count", "1700"]).unwrap();
            self.let_them_catch_up();
            thread::sleep(Duration::from_secs(4));
        }
        assert!(self.gone.is_none(), "{:?}", self.fired());
        self.wait_for(&["AuditBacklogNearLimit"]);
        self.set_limits(20, 8192);
        let message = UserMessage::new(RecordType::USER, b"op=audit-collector-test").unwrap();
        let mut client = Client::connect().unwrap();
        for _ in 0..300 {
            client.user_message(&message).unwrap();
        }
        workload::run(UID, &["open", "--count", "200"]).unwrap();
        self.set_limits(0, 8192);
        // A hole in the serials shows by the next one after it.
        thread::sleep(Duration::from_secs(1));
        client.user_message(&message).unwrap();
        self.wait_for(&["AuditEventsUnrecovered"]);
    }

    /// Storms until every collector that still runs has seen the queue near its limit of 64, which each looks at once in a while: what Prometheus
    /// sees of it is their peak of the last minute.
    fn fill_the_queue(&self) {
        const NEAR: u64 = 52;
        // Each poll finds it so by chance.
        const LONG: Duration = Duration::from_secs(140);
        let collectors = [&self.daemon, &self.blind, &self.stuck];
        let peaks = || {
            let peaks = collectors.iter().map(|collector| {
                let metrics = collector.metrics().unwrap();
                metrics.count("kernel_backlog_peak_records", &[])
            });
            peaks.collect::<Vec<_>>()
        };
        let began = Instant::now();
        while peaks().iter().any(|peak| *peak < NEAR) {
            assert!(began.elapsed() < LONG, "{:?}", peaks());
            workload::run(UID, &["open", "--processes", "2", "--count", "2000"]).unwrap();
            self.let_them_catch_up();
        }
    }

    /// Waits until each that still runs has room for more in its ring and has lately heard of the kernel, so that what they lose, and how
    /// late they are, does not depend on how fast the machine is.
    fn let_them_catch_up(&self) {
        const LATELY: Duration = Duration::from_secs(2);
        for collector in [&self.daemon, &self.blind, &self.stuck] {
            let has = || {
                let metrics = collector.metrics().unwrap();
                let bytes = |name: &str| metrics.sum(name, &[("ringbuf", "observations")]);
                let has_room = bytes("ebpf_ringbuf_used_bytes")
                    .zip(bytes("ebpf_ringbuf_size_bytes"))
                    .is_none_or(|(used, size)| 2.0 * used < size);
                let heard = metrics.sum("kernel_status_last_success_timestamp_seconds", &[]);
                let heard = UNIX_EPOCH + Duration::from_secs_f64(heard.unwrap());
                has_room && heard.elapsed().is_ok_and(|age| age < LATELY)
            };
            wait::until(SOON, has, || {
                format!("{} does not catch up", collector.address())
            });
        }
    }

    /// What each of those that still run serves.
    pub(super) fn expositions(&self) -> Vec<String> {
        [&self.daemon, &self.blind, &self.stuck]
            .map(|collector| collector.get("/metrics").unwrap().body)
            .into()
    }

    /// The rules, the audit pid, the kernel's answers, a configuration.
    pub(super) fn lose_the_rest(&mut self) {
        fs::write(self.folder.path().join("web.yml"), "nonsense: 1\n").unwrap();
        for rule in self.guard.rules().unwrap() {
            self.guard.delete_rule(&rule).unwrap();
        }
        wait::until(
            SOON,
            || self.rules_known() == 0,
            || "rules are gone and still shown".to_owned(),
        );
        self.seat = Some(take_seat_of(self.daemon.pid(), DAEMON_BUFFER).unwrap());
        // Netlink refuses an answer of the kernel's to a socket that is tied to another port.
        let sockets = netlink_sockets_of(self.stuck.pid(), CONTROL_BUFFER).unwrap();
        tie(&sockets, std::process::id());
        let timeouts = || {
            let metrics = self.stuck.metrics().unwrap();
            metrics.count("kernel_status_errors_total", &[("error", "timeout")])
        };
        self.wait_for(&["AuditStatusStale"]);
        wait::until(
            SOON,
            || timeouts() > 0,
            || "no failure is counted".to_owned(),
        );
        tie(&sockets, 0);
        self.wait_for(&[
            "AuditCollectorDown",
            "AuditDaemonPidTaken",
            "AuditSinkStalled",
            "AuditSinkDropping",
            "AuditCanaryLate",
            "AuditConfigRefused",
            "AuditNotEnforced",
            "AuditRulesDrifted",
        ]);
    }

    pub(super) fn switch_auditing_off(&mut self) {
        let off = StatusChange {
            enabled: Some(0),
            ..StatusChange::default()
        };
        self.guard.set(&off).unwrap();
        self.wait_for(&["AuditDisabled"]);
    }

    /// Every alert that has fired so far, and where.
    pub(super) fn fired(&self) -> BTreeSet<(String, String)> {
        let series = self.prometheus.query(
            r#"group by (alertname, instance) (last_over_time(ALERTS{alertstate="firing"}[1h]))"#,
        );
        named(series.unwrap(), ["alertname", "instance"])
    }

    /// From the first scrape until now.
    pub(super) fn time_range(&self) -> TimeRange {
        TimeRange {
            length: self.began.elapsed().unwrap(),
            scrape_interval: PACE.scrape_interval,
        }
    }

    /// Ends what must end before the kernel's state is put back.
    pub(super) fn end(mut self) {
        fs::remove_file(self.disk.path().join("filler")).unwrap();
        for collector in [self.blind, self.stuck, self.daemon] {
            collector.stop().unwrap();
        }
        if let Some(seat) = &mut self.seat {
            seat.release().unwrap();
        }
    }

    /// Waits until each of `names` has fired wherever it should.
    fn wait_for(&self, names: &[&str]) {
        let missing = || names.iter().find(|name| !self.has_fired(name));
        wait::until(
            SOON,
            || missing().is_none(),
            || format!("{:?} does not fire; fired: {:?}", missing(), self.fired()),
        );
    }

    /// Whether this alert has fired wherever it should.
    fn has_fired(&self, name: &str) -> bool {
        let fired = self.fired();
        let mut hosts = ALERTS.iter().filter(|(alert, _)| *alert == name);
        hosts.all(|(name, host)| fired.contains(&((*name).to_owned(), (*host).to_owned())))
    }

    fn set_limits(&mut self, rate_limit: u32, backlog_limit: u32) {
        let change = StatusChange {
            rate_limit: Some(rate_limit),
            backlog_limit: Some(backlog_limit),
            backlog_wait_time: Some(0),
            ..StatusChange::default()
        };
        self.guard.set(&change).unwrap();
    }

    /// Rules in the kernel, as the collectors know them.
    fn rules_known(&self) -> u64 {
        [&self.daemon, &self.blind, &self.stuck]
            .map(|collector| collector.metrics().unwrap().count("rules_loaded", &[]))
            .iter()
            .sum()
    }
}

/// What two labels of each of `series` say; nothing where it has none of that name.
fn named(series: Vec<Series>, labels: [&str; 2]) -> BTreeSet<(String, String)> {
    let pairs = series
        .into_iter()
        .map(|mut one| labels.map(|label| one.labels.remove(label).unwrap_or_default()));
    pairs.map(|[first, second]| (first, second)).collect()
}

/// Has `sockets` take messages from netlink port `port` alone; the kernel's is 0.
fn tie(sockets: &[OwnedFd], port: u32) {
    for socket in sockets {
        connect(socket.as_raw_fd(), &NetlinkAddr::new(port, 0)).unwrap();
    }
}
