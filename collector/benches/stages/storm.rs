//! Storms of calls, as the eBPF programs at level `syscalls` and the kernel's records tell of them.
//!
//! Eight processes open files that they name in 64 buffers each, one every 20 µs in all, so that many calls are alike but for the
//! file. Each storm has later times and serials than the one before. Used by benches and, by its path, by `tests/allocations`.

use std::time::Duration;

use collector::audit::arch::Arch;
use collector::audit::event::{AuditEvent, Completion};
use collector::audit::parse;
use collector::audit::rules::Rule;
use collector::audit::socket::Delivery;
use collector::audit::status::KernelStatus;
use collector::clock::{KtimeNs, RealtimeOffset};
use collector::correlate::evidence::{Evidence, Poll};
use collector::correlate::limits;
use collector::correlate::matcher::Correlator;
use collector::correlate::witness::Rules;
use collector::event::Output;
use collector::probe::decode::decode;
use collector::probe::hooks::Level;
use collector::probe::mirror::Mirror;
use collector::probe::observation::Observation;
use collector_ebpf::{
    FileFacts, Ruling, Sample, StringHeader, StringKind, VERSION, flags, string_flags,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Calls of a storm; `cargo xtask instructions` divides by it.
pub(crate) const CALLS: u64 = 10_240;
/// From the begin of a storm to the next: longer than anything of it is remembered.
const SECONDS: u64 = 70;
/// When the first begins: there have been as many polls before as are kept.
const BEGAN: Duration = Duration::from_secs(1_000);
pub(crate) const OFFSET: RealtimeOffset = RealtimeOffset(1_800_000_000_000_000_000);
const GENERATION: u32 = 1;
const PROCESSES: u64 = 8;
const BUFFERS: u64 = 64;
const INTERVAL: Duration = Duration::from_micros(20);
/// Samples that the reader of the ring hands over at once.
const BATCH: usize = 256;
/// Of a kernel with 250 of them a second.
const CLOCK_TICK_MS: u64 = 4;

/// One of many storms, by its number.
#[derive(Clone, Copy)]
pub(crate) struct Storm(pub(crate) u64);

/// What comes at once.
pub(crate) struct Batch {
    pub(crate) now: KtimeNs,
    pub(crate) observations: Vec<Observation>,
    pub(crate) events: Vec<AuditEvent>,
}

impl Storm {
    fn began(self) -> KtimeNs {
        KtimeNs(0).plus(BEGAN + Duration::from_secs(self.0 * SECONDS))
    }

    fn calls(self) -> Vec<Call> {
        let call = |number| Call {
            number,
            entry: self.began().plus(INTERVAL * number as u32),
            serial: (self.0 * CALLS + number) as u32,
        };
        (0..CALLS).map(call).collect()
    }

    pub(crate) fn samples(self) -> Vec<Vec<u8>> {
        self.calls().iter().map(Call::sample).collect()
    }

    /// All that is seen of it, where of those calls that `came` says the kernel sends the events.
    pub(crate) fn batches(self, came: impl Fn(u64) -> bool) -> Vec<Batch> {
        let calls = self.calls();
        let batch = |calls: &[Call]| Batch {
            now: calls[calls.len() - 1].entry.plus(Duration::from_millis(3)),
            observations: calls
                .iter()
                .map(|call| decode(&call.sample()).unwrap())
                .collect(),
            events: calls
                .iter()
                .filter(|call| came(call.number))
                .map(Call::event)
                .collect(),
        };
        calls.chunks(BATCH).map(batch).collect()
    }

    /// Lets the time until the next go by; the first poll says that so many records were lost.
    pub(crate) fn pass(
        self,
        mut lost: u64,
        correlator: &mut Correlator,
        outputs: &mut Vec<Output>,
    ) {
        for second in 1..SECONDS {
            let now = self.began().plus(Duration::from_secs(second));
            correlator.poll(poll(now, lost));
            correlator.tick(now, OFFSET, outputs);
            recycle(correlator, outputs);
            lost = 0;
        }
    }
}

pub(crate) fn limits() -> limits::Limits {
    limits::Limits::new(Duration::from_secs(2), Duration::from_secs(5))
}

/// With a witness at level `syscalls`, after some minutes of polls.
pub(crate) fn witnessed() -> Correlator {
    let mut correlator = Correlator::new(limits(), OFFSET);
    correlator.witness_attached(rules(), Vec::new(), Level::Syscalls);
    for second in 0..Evidence::CAPACITY as u64 {
        correlator.poll(poll(KtimeNs(second * 1_000_000_000), 0));
    }
    correlator
}

/// As the core does, with about as many batches to a tick as in a storm.
pub(crate) fn hand_over(
    correlator: &mut Correlator,
    batches: Vec<Batch>,
    outputs: &mut Vec<Output>,
) {
    const TICK: usize = 10;
    for (number, batch) in (1_usize..).zip(batches) {
        for observation in batch.observations {
            correlator.observation(observation, batch.now, outputs);
        }
        for event in batch.events {
            correlator.audit_event(event, batch.now, outputs);
        }
        if number.is_multiple_of(TICK) {
            correlator.tick(batch.now, OFFSET, outputs);
        }
        recycle(correlator, outputs);
    }
}

pub(crate) fn recycle(correlator: &mut Correlator, outputs: &mut Vec<Output>) {
    for output in outputs.drain(..) {
        if let Output::Event(event) = output {
            correlator.recycle(event);
        }
    }
}

struct Call {
    number: u64,
    entry: KtimeNs,
    serial: u32,
}

impl Call {
    fn pid(&self) -> u32 {
        2_000 + (self.number % PROCESSES) as u32
    }

    fn buffer(&self) -> u64 {
        0x5584_ad5c_5000 + self.number / PROCESSES % BUFFERS * 64
    }

    fn path(&self) -> String {
        format!("data/{:02}/file-{:06}", self.number % 100, self.number)
    }

    /// As sys_exit sends it.
    fn sample(&self) -> Vec<u8> {
        let file = FileFacts {
            inode: 10_000_000 + self.number,
            magic: 0xef53,
            dev: 0xfe << 20,
            mode: 0o100_644,
            open_flags: 0x8000,
            open_mode: 0x1d,
            ..FileFacts::default()
        };
        let components = string_flags::COMPONENTS;
        let mut area = Vec::new();
        for (kind, argument, flags, string) in [
            (StringKind::Path, 1, 0, self.path().as_bytes()),
            (StringKind::Exe, 0, components, b"storm\0bin\0usr\0"),
            (StringKind::Cwd, 0, components, b"maker\0storm\0srv\0"),
            (StringKind::Tty, 0, 0, b"pts1"),
            (StringKind::Opened, 0, 0, file.as_bytes()),
            (StringKind::Title, 0, 0, b"/usr/bin/storm\0--files\0data\0"),
        ] {
            let header = StringHeader {
                length: string.len() as u16,
                kind: kind as u8,
                argument,
                flags,
                padding: [0; 3],
            };
            area.extend_from_slice(header.as_bytes());
            area.extend_from_slice(string);
            area.resize(area.len().next_multiple_of(8), 0);
        }
        let sample = Sample {
            length: (size_of::<Sample>() + area.len()) as u32,
            fixed: size_of::<Sample>() as u16,
            version: VERSION,
            kind: 1,
            sequence: (self.number / PROCESSES + 1) << 3 | 1,
            entry_ns: self.entry.0,
            taken_ns: self.entry.0 + 8_000,
            args: [0xffff_ff9c, self.buffer(), 0, 0, 0, 0],
            result: 3,
            cpu: (self.number % PROCESSES) as u32,
            flags: flags::RESULT | flags::AUDIT_CONTEXT,
            tgid: self.pid(),
            tid: self.pid(),
            ppid: 1_999,
            arch: Arch::X86_64.0,
            syscall: 257,
            generation: GENERATION,
            rule: 0,
            ruling: Ruling::YES.0 as u8,
            session: 1,
            auid: 1_000,
            ids: [1_000; 8],
            comm: *b"storm\0\0\0\0\0\0\0\0\0\0\0",
            ..Sample::new_zeroed()
        };
        [sample.as_bytes(), &area].concat()
    }

    /// As the kernel reports it.
    fn event(&self) -> AuditEvent {
        let ms = OFFSET.wall(self.entry).0 / CLOCK_TICK_MS * CLOCK_TICK_MS;
        let stamp = format!("audit({}.{:03}:{}): ", ms / 1_000, ms % 1_000, self.serial);
        let (buffer, pid, path) = (self.buffer(), self.pid(), self.path());
        let inode = 10_000_000 + self.number;
        let texts = [
            (
                1300,
                format!(
                    "arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1={buffer:x} a2=0 a3=0 items=1 ppid=1999 pid={pid} \
                     auid=1000 uid=1000 gid=1000 euid=1000 suid=1000 fsuid=1000 egid=1000 sgid=1000 fsgid=1000 tty=pts1 ses=1 \
                     comm=\"storm\" exe=\"/usr/bin/storm\" key=\"storm\""
                ),
            ),
            (1307, "cwd=\"/srv/storm/maker\"".to_owned()),
            (
                1302,
                format!(
                    "item=0 name=\"{path}\" inode={inode} dev=fe:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL \
                     cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0 cap_frootid=0"
                ),
            ),
            (
                1327,
                "proctitle=2F7573722F62696E2F73746F726D002D2D66696C65730064617461".to_owned(),
            ),
        ];
        let texts = texts.map(|(record_type, body)| (record_type, stamp.clone() + &body));
        let records = texts
            .each_ref()
            .map(|(record_type, text)| parse::netlink_record(*record_type, text.as_bytes()));
        let records = records.map(Result::unwrap);
        let read = self.entry.plus(Duration::from_millis(1));
        AuditEvent {
            stamp: records[0].stamp,
            records: records.into_iter().collect(),
            completion: Completion::Eoe,
            mirrored: None,
            first_read: read,
            completed: read,
        }
    }
}

/// The rule that asks for the calls.
fn rules() -> Rules {
    let rule = Rule::always_exit()
        .arch(Arch::X86_64)
        .syscalls(Arch::X86_64, &["openat"])
        .key("storm");
    Rules {
        watch: Box::new(Mirror::compile(&[rule])),
        generation: GENERATION,
        former_until: KtimeNs(0),
        since: KtimeNs(0),
    }
}

/// A poll that finds the kernel's queue and the event socket empty, and so many records lost since the last.
fn poll(at: KtimeNs, lost: u64) -> Poll {
    Poll {
        asked: at,
        at,
        status: Some(KernelStatus {
            enabled: 1,
            backlog_limit: 8_192,
            ..KernelStatus::default()
        }),
        lost,
        reasons: None,
        unexplained: lost,
        not_held: 0,
        missed_decisions: 0,
        socket_drops: 0,
        delivery: Delivery::Unicast,
        congested: 0,
        queue_full: 0,
        socket_empty: true,
        displaced: false,
        unobserved: None,
    }
}
