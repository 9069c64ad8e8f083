//! The data path without its ends: from bytes of a datagram, samples and polls to lines for the sinks.
//!
//! Owns the order of the stages and the account they keep. Does no I/O and reads no clock, so that `run` and `replay`
//! are the same program with other ends.

use std::time::Duration;

use crate::account::{Account, Input};
use crate::audit::event::AuditEvent;
use crate::audit::gaps::{Gap, GapTracker};
use crate::audit::parse;
use crate::audit::reassemble::{self, Reassembler};
use crate::audit::record::{Record, RecordType, Serial};
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::Poll;
use crate::correlate::limits::Limits;
use crate::correlate::matcher::Correlator;
use crate::event::{Cause, LossUnit, Output};
use crate::probe::observation::Observation;
use crate::verify::{Sampling, Verifier};

/// Parse, reassemble, watch the serials, correlate, verify.
pub struct Core {
    offset: RealtimeOffset,
    input: Input,
    reassembler: Reassembler,
    gaps: GapTracker,
    /// What there is to match audit events with; also reached by the pipeline when the witness or the rules change.
    pub correlator: Correlator,
    verifier: Verifier,
    malformed: u64,
    events: Vec<AuditEvent>,
    judged: Vec<Gap>,
    outputs: Vec<Output>,
}

/// What shapes a [`Core`].
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The `source` label of what comes in.
    pub source: &'static str,
    /// Bounds of the reassembler.
    pub reassembly: reassemble::Limits,
    /// How long a missing serial may still come.
    pub reorder_window: Duration,
    /// Which matched events are rebuilt and compared.
    pub verify: Sampling,
}

impl Core {
    /// A core that has seen nothing.
    pub fn new(config: &CoreConfig, offset: RealtimeOffset) -> Self {
        Self {
            offset,
            input: Input {
                source: config.source,
                ..Input::default()
            },
            reassembler: Reassembler::new(config.reassembly.clone()),
            gaps: GapTracker::new(config.reorder_window),
            correlator: Correlator::new(
                Limits::new(config.reassembly.timeout, config.reorder_window),
                offset,
            ),
            verifier: Verifier::new(config.verify),
            malformed: 0,
            events: Vec::new(),
            judged: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// A datagram of the audit socket, without its netlink header.
    pub fn datagram(&mut self, record_type: u16, text: &[u8], now: KtimeNs) {
        self.input.records += 1;
        self.input.bytes += text.len() as u64;
        match parse::netlink_record(record_type, text) {
            Ok(record) => self.parsed(record, now),
            Err(error) => self.malformed(&error, now),
        }
    }

    /// A line of an audit log.
    pub fn log_line(&mut self, line: &[u8], now: impl FnOnce(&Record) -> KtimeNs) {
        self.input.records += 1;
        self.input.bytes += line.len() as u64;
        match parse::log_line(line) {
            Ok(record) => {
                let now = now(&record);
                self.parsed(record, now);
            }
            Err(error) => self.malformed(&error, KtimeNs(0)),
        }
    }

    /// An observation of the eBPF witness.
    pub fn observation(&mut self, observation: Observation, now: KtimeNs) {
        self.correlator
            .observation(observation, now, &mut self.outputs);
    }

    /// What a poll of the kernel's status and of the event socket found.
    pub fn poll(&mut self, poll: Poll) {
        self.correlator.poll(poll);
    }

    /// Something was lost on the way to the core.
    pub fn lose(&mut self, cause: Cause, count: u64, unit: LossUnit, at: KtimeNs) {
        self.correlator.lose(cause, count, unit, at);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: KtimeNs, offset: RealtimeOffset) {
        self.offset = offset;
        self.verifier.tick(now);
        // Losses of one kind are told once a tick, however many there were.
        if self.malformed > 0 {
            let malformed = std::mem::take(&mut self.malformed);
            self.lose(Cause::Malformed, malformed, LossUnit::Records, now);
        }
        self.reassembler.tick(now, &mut self.events);
        self.pass_on(now);
        self.gaps.tick(now, &mut self.judged);
        for gap in self.judged.drain(..) {
            self.correlator.gap(gap);
        }
        self.correlator.tick(now, offset, &mut self.outputs);
    }

    /// The input has ended: everything that waits is settled.
    pub fn finish(&mut self, now: KtimeNs) {
        self.tick(now, self.offset);
        self.reassembler.flush(now, &mut self.events);
        self.pass_on(now);
        self.gaps.flush(now, &mut self.judged);
        for gap in self.judged.drain(..) {
            self.correlator.gap(gap);
        }
        self.correlator.finish(now, &mut self.outputs);
    }

    /// A line of the core's owner, in order with the others.
    pub fn say(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// What is ready for the sinks, in order.
    pub fn outputs(&mut self) -> std::vec::Drain<'_, Output> {
        for output in &self.outputs {
            if let Output::Event(event) = output {
                self.verifier.event(event);
            }
        }
        self.outputs.drain(..)
    }

    /// Writes the core's part of the account.
    pub fn account(&self, now: TimeMs, account: &mut Account) {
        account.at = now;
        account.input = self.input;
        account.assembly = self.reassembler.counts();
        account.serials = self.gaps.counts();
        account.crosscheck = self.correlator.crosscheck();
        account.losses.clone_from(self.correlator.losses());
        account.verify.clone_from(self.verifier.table());
        (account.merge_latency, account.merge_wait) = self.correlator.histograms();
    }

    fn parsed(&mut self, record: Record, now: KtimeNs) {
        self.input.parsed += 1;
        if switches_off(&record) {
            let at = self.offset.monotonic(record.stamp.time);
            self.correlator.auditing_switched_off(at);
        }
        // auditd's own records carry serials of its own count, and the lines of ours that have none carry 0.
        let of_kernel = !record.record_type.is_from_daemon() && record.stamp.serial != Serial(0);
        if of_kernel {
            self.gaps.saw(record.stamp, now);
        }
        self.reassembler.push(record, now, &mut self.events);
        self.pass_on(now);
    }

    fn malformed(&mut self, error: &parse::ParseError, now: KtimeNs) {
        self.input.malformed += 1;
        self.malformed += 1;
        if self.malformed == 1 {
            tracing::warn!(%error, at = now.0, "an audit record could not be parsed; it is counted and left out");
        }
    }

    fn pass_on(&mut self, now: KtimeNs) {
        for event in self.events.drain(..) {
            self.correlator.audit_event(event, now, &mut self.outputs);
        }
    }
}

/// Whether a record tells that auditing was switched off (kernel/audit.c `audit_log_config_change`). Switching it on leaves none.
fn switches_off(record: &Record) -> bool {
    record.record_type == RecordType::CONFIG_CHANGE
        && record
            .field(b"audit_enabled")
            .is_some_and(|enabled| enabled.as_u64() == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ours_without_a_serial_leaves_no_hole_in_a_log() {
        let config = CoreConfig {
            source: "replay",
            reassembly: reassemble::Limits::default(),
            reorder_window: Duration::from_secs(5),
            verify: Sampling::default(),
        };
        let mut core = Core::new(&config, RealtimeOffset(0));
        for line in [
            "type=UNKNOWN[2092] msg=audit(1700000000.000:0): op=started",
            "type=USER_LOGIN msg=audit(1700000000.001:500000): pid=1 uid=0 msg='op=login'",
            "not a record",
        ] {
            core.log_line(line.as_bytes(), |record| {
                KtimeNs(record.stamp.time.0 * 1_000_000)
            });
        }
        core.finish(KtimeNs(1_700_000_100_000_000_000));
        let mut account = Account::default();
        core.account(TimeMs(0), &mut account);
        assert_eq!(
            (account.serials.missing, account.crosscheck.expected),
            (0, 0)
        );
        let input = account.input;
        assert_eq!((input.records, input.parsed, input.malformed), (3, 2, 1));
        assert_eq!(account.losses[&Cause::Malformed], 1);
    }
}
