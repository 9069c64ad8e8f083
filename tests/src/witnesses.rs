//! Both witnesses side by side, read through the library: what the kernel reports, and what the programs saw.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use collector::audit::event::AuditEvent;
use collector::audit::parse::netlink_record;
use collector::audit::reassemble::{Limits, Reassembler};
use collector::audit::records::SyscallFields;
use collector::audit::socket::{Batch, EventSocket, Received};
use collector::audit::status::StatusChange;
use collector::clock::KtimeNs;
use collector::probe::decode::decode;
use collector::probe::hooks::Level;
use collector::probe::load::{Witness, WitnessConfig};
use collector::probe::observation::Observation;
use collector::probe::ring::Ring;

use crate::audit_state::AuditGuard;

/// Auditing on, with room for all, and the programs loaded; no rules yet, and nothing attached.
pub struct Witnesses {
    /// The kernel's settings and rules.
    pub guard: AuditGuard,
    /// The programs.
    pub programs: Witness,
    ring: Ring,
    socket: EventSocket,
}

impl Witnesses {
    /// Sets them out, with programs of `level` where the kernel allows it.
    ///
    /// # Errors
    /// Where the kernel refuses one of the two.
    pub fn set_out(level: Level) -> anyhow::Result<Self> {
        let mut guard = AuditGuard::take()?;
        guard.set(&StatusChange {
            enabled: Some(1),
            rate_limit: Some(0),
            backlog_limit: Some(65_536),
            ..StatusChange::default()
        })?;
        let mut programs = Witness::load(&WitnessConfig {
            level,
            ring_bytes: 64 << 20,
            ..WitnessConfig::default()
        })?;
        Ok(Self {
            guard,
            ring: programs.take_ring()?,
            programs,
            socket: EventSocket::multicast(Some(64 << 20))?,
        })
    }

    /// What the programs have seen since the last time.
    ///
    /// # Errors
    /// Where a sample was lost, or cannot be read.
    pub fn observations(&mut self) -> anyhow::Result<Vec<Observation>> {
        let mut seen = Vec::new();
        self.ring
            .drain(usize::MAX, |sample| seen.push(decode(sample)));
        let counters = self.programs.counters()?;
        ensure!(
            (counters.ring_full, counters.in_flight_full) == (0, 0),
            "samples were lost: {counters:?}"
        );
        let seen: Result<_, _> = seen.into_iter().collect();
        seen.context("a sample cannot be read")
    }

    /// The events of calls of user `uid` that come until the kernel has no more and none has come for as long as `quiet`.
    ///
    /// # Errors
    /// Where records were lost, or cannot be read.
    pub fn events(&mut self, uid: u32, quiet: Duration) -> anyhow::Result<Vec<AuditEvent>> {
        let mut batch = Batch::new();
        let mut reassembler = Reassembler::new(Limits::default());
        let mut events = Vec::new();
        let mut last = Instant::now();
        while last.elapsed() < quiet {
            match self.socket.receive(&mut batch, Batch::MAX_DATAGRAMS)? {
                Received::Datagrams(_) => {}
                Received::Overrun => anyhow::bail!("records were lost at the socket"),
                Received::Empty => {
                    std::thread::sleep(Duration::from_millis(5));
                    if self.guard.status()?.backlog > 0 {
                        last = Instant::now();
                    }
                    continue;
                }
            }
            for datagram in batch.iter() {
                let record = netlink_record(datagram.message_type, datagram.payload)?;
                reassembler.push(&record, KtimeNs::now(), &mut events);
                last = Instant::now();
            }
        }
        events.retain(|event: &AuditEvent| {
            let fields = event.records.iter().find_map(SyscallFields::from_record);
            fields.is_some_and(|fields| fields.uid == uid)
        });
        Ok(events)
    }
}
