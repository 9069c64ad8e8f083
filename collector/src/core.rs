//! The data path without its ends: from bytes of a datagram, samples and polls to lines for the sinks.
//!
//! Owns the order of the stages and the account they keep. Does no I/O and reads no clock, so that `run` and `replay`
//! are the same program with other ends.

use std::mem;
use std::time::Duration;

use crate::account::{Account, Input, Mirror};
use crate::audit::copies::{Came, Copies, Copy};
use crate::audit::event::AuditEvent;
use crate::audit::gaps::{Gap, GapTracker};
use crate::audit::parse;
use crate::audit::reassemble::{self, Reassembler};
use crate::audit::record::{Provenance, Record, RecordType, Stamp};
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::correlate::evidence::Poll;
use crate::correlate::limits::Limits;
use crate::correlate::matcher::{Correlator, Due};
use crate::event::{Cause, LossUnit, Output};
use crate::probe::observation::Observation;
use crate::probe::texts::{Text, TextMirror, TextReason};
use crate::verify::{Sampling, Verifier};

/// Parse, reassemble, watch the serials, correlate, verify.
pub struct Core {
    offset: RealtimeOffset,
    input: Input,
    mirror: Mirror,
    /// Where every record is copied: what came of the copies.
    copies: Option<Copies>,
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
    /// Since when the kernel sends to us; 0 for a log.
    pub began: TimeMs,
    /// Which matched events are rebuilt and compared.
    pub verify: Sampling,
    /// Which texts of records come from the kernel.
    pub texts: TextMirror,
}

impl Core {
    /// For how many outputs memory is kept: after a storm there may be many more at once.
    const SPARE_OUTPUTS: usize = 4_096;

    /// A core that has seen nothing.
    pub fn new(config: &CoreConfig, offset: RealtimeOffset) -> Self {
        Self {
            offset,
            input: Input {
                source: config.source,
                ..Input::default()
            },
            mirror: Mirror::default(),
            copies: (config.texts == TextMirror::All).then(Copies::default),
            reassembler: Reassembler::new(config.reassembly.clone()),
            gaps: GapTracker::new(config.reorder_window, config.began),
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

    /// An earlier run of this boot had read the stream up to `furthest`: what comes next tells what was missed since.
    pub fn resume(&mut self, furthest: Stamp, now: KtimeNs) {
        self.gaps.resume(furthest);
        self.correlator.resumed(now);
    }

    /// A datagram of the audit socket, without its netlink header.
    pub fn datagram(&mut self, record_type: u16, text: &[u8], now: KtimeNs) {
        self.input.records += 1;
        self.input.bytes += text.len() as u64;
        if let Some(copies) = &mut self.copies
            && copies.came(record_type, text, now) == Came::Late
        {
            // Its copy has been given back for it.
            self.input.parsed += 1;
            return;
        }
        match parse::netlink_record(record_type, text) {
            Ok(record) => {
                self.input.parsed += 1;
                self.parsed(&record, now);
            }
            Err(error) => self.malformed(&error, now),
        }
    }

    /// A line of an audit log.
    pub fn log_line(&mut self, line: &[u8], now: impl FnOnce(&Record<'_>) -> KtimeNs) {
        self.input.records += 1;
        self.input.bytes += line.len() as u64;
        match parse::log_line(line) {
            Ok(record) => {
                let now = now(&record);
                self.input.parsed += 1;
                self.parsed(&record, now);
            }
            Err(error) => self.malformed(&error, KtimeNs(0)),
        }
    }

    /// The text of a record from behind the kernel's queue. To be handed over before what came by the socket since it was
    /// taken, so that an event's end does not overtake records of it that were lost before.
    pub fn text(&mut self, text: &Text<'_>, now: KtimeNs) {
        self.mirror.received += 1;
        if !text.whole {
            self.mirror.cut += 1;
            return;
        }
        let (record_type, bytes) = (text.record_type, text.bytes);
        if text.reason == TextReason::PutBehind {
            match parse::netlink_record(record_type, bytes) {
                Ok(record) => {
                    self.mirror.put_behind += 1;
                    self.reassembler.put_behind(&record, now);
                }
                Err(_) => self.mirror.malformed += 1,
            }
            return;
        }
        match (self.correlator.cause_of_text(text.reason), &mut self.copies) {
            (Some(cause), copies) => {
                if let Some(copies) = copies {
                    copies.lost(record_type, bytes);
                }
                self.give_back(record_type, bytes, cause, now);
            }
            (None, Some(copies)) => {
                let unjudged = copies.copied(Copy {
                    record_type,
                    text: bytes.into(),
                    taken: text.taken,
                });
                if unjudged > 0 {
                    self.mirror.unjudged += unjudged;
                    self.lose(Cause::WindowFull, unjudged, LossUnit::Records, now);
                }
            }
            // Nobody asked for it.
            (None, None) => self.mirror.unjudged += 1,
        }
    }

    /// All that the kernel sent us before `passed` has been handed over.
    pub fn stream_passed(&mut self, passed: KtimeNs, now: KtimeNs) {
        self.reassembler
            .stream_passed(passed, now, &mut self.events);
        self.pass_on(now);
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

    /// Lets time pass; when it should next.
    pub fn tick(&mut self, now: KtimeNs, offset: RealtimeOffset) -> Due {
        self.offset = offset;
        self.verifier.tick(now);
        // Losses of one kind are told once a tick, however many there were.
        if self.malformed > 0 {
            let malformed = mem::take(&mut self.malformed);
            self.lose(Cause::Malformed, malformed, LossUnit::Records, now);
        }
        self.judge_copies(now);
        self.reassembler.tick(now, &mut self.events);
        self.pass_on(now);
        self.gaps.tick(now, &mut self.judged);
        for gap in self.judged.drain(..) {
            self.correlator.gap(gap);
        }
        self.correlator.tick(now, offset, &mut self.outputs)
    }

    /// A storm is over: keeps no more room than what waits and what is remembered needs.
    pub fn shrink(&mut self) {
        self.reassembler.shrink();
        self.correlator.shrink();
        self.events.shrink_to_fit();
        self.outputs.shrink_to_fit();
    }

    /// The input has ended: everything that waits is settled.
    pub fn finish(&mut self, now: KtimeNs) {
        self.tick(now, self.offset);
        if let Some(mut copies) = self.copies.take() {
            let passed = self.correlator.furthest_passed();
            while let Some(copy) = copies.take_due(now, |_| true) {
                // Of what the stream had not passed it cannot be said that it was lost.
                let cause = if copy.taken <= passed {
                    self.correlator.cause_behind_the_queue(copy.taken)
                } else {
                    Cause::Stopped
                };
                self.give_back(copy.record_type, &copy.text, cause, now);
            }
            self.copies = Some(copies);
        }
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

    /// Hands what is ready for the sinks to `each`, in order. What memory it held is used again.
    pub fn each_output(&mut self, mut each: impl FnMut(&Output)) {
        let mut outputs = mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            if let Output::Event(event) = &output {
                self.verifier.event(event);
            }
            each(&output);
            if let Output::Event(mut event) = output {
                if let Some(audit) = event.audit.take() {
                    self.reassembler.recycle(audit.records);
                }
                self.correlator.recycle(event);
            }
        }
        if outputs.capacity() <= Self::SPARE_OUTPUTS {
            self.outputs = outputs;
        }
    }

    /// Writes the core's part of the account.
    pub fn account(&self, now: TimeMs, account: &mut Account) {
        account.at = now;
        account.input = self.input;
        account.mirror.clone_from(&self.mirror);
        if let Some(copies) = &self.copies {
            account.mirror.waiting = copies.len() as u64;
            account.mirror.confirmed = copies.confirmed();
        }
        account.assembly = self.reassembler.counts();
        account.serials = self.gaps.counts();
        account.crosscheck = self.correlator.crosscheck();
        account.losses.clone_from(self.correlator.losses());
        account.verify.clone_from(self.verifier.table());
        (account.merge_latency, account.merge_wait) = self.correlator.histograms();
    }

    fn parsed(&mut self, record: &Record<'_>, now: KtimeNs) {
        if switches_off(record) {
            let at = self.offset.monotonic(record.stamp.time);
            self.correlator.auditing_switched_off(at);
        }
        // auditd's own records carry serials of its own count, and of our lines many carry none.
        let of_kernel =
            !record.record_type.is_from_daemon() && !record.record_type.is_from_collector();
        if of_kernel && self.gaps.saw(record.stamp, now) {
            self.correlator.came_late(record.stamp);
        }
        self.reassembler.push(record, now, &mut self.events);
        self.pass_on(now);
    }

    /// Puts a record that the stream lost in its place.
    fn give_back(&mut self, record_type: u16, text: &[u8], cause: Cause, now: KtimeNs) {
        match parse::netlink_record(record_type, text) {
            Ok(record) => {
                *self.mirror.given_back.entry(cause).or_default() += 1;
                let provenance = Provenance::Mirror(cause);
                let record = Record {
                    provenance,
                    ..record
                };
                self.parsed(&record, now);
            }
            Err(error) => {
                self.mirror.malformed += 1;
                tracing::debug!(%error, "the text of a record from the kernel cannot be parsed");
            }
        }
    }

    /// Gives back the records whose copies have not been confirmed though the stream has moved past them.
    fn judge_copies(&mut self, now: KtimeNs) {
        let Some(mut copies) = self.copies.take() else {
            return;
        };
        copies.tick(now);
        let passed = self.correlator.stream_passed(now);
        let passed = passed.max(self.correlator.overdue_since(now));
        let due = |copy: &Copy| copy.taken <= passed;
        while let Some(copy) = copies.take_due(now, due) {
            let cause = self.correlator.cause_behind_the_queue(copy.taken);
            self.give_back(copy.record_type, &copy.text, cause, now);
        }
        self.copies = Some(copies);
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
fn switches_off(record: &Record<'_>) -> bool {
    record.record_type == RecordType::CONFIG_CHANGE
        && record
            .field(b"audit_enabled")
            .is_some_and(|enabled| enabled.as_u64() == Some(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Outcome;

    proptest! {
        /// The kernel's serials go on at 0 behind the last one (`audit_serial`), and 0 is as good as any.
        #[test]
        fn serials_that_wrap_leave_no_hole_but_those_of_lost_events(
            lost in proptest::collection::vec(any::<bool>(), 1..24),
            before in 0_u32..12,
        ) {
            let config = CoreConfig {
                source: "daemon",
                reassembly: reassemble::Limits::default(),
                reorder_window: Duration::from_secs(5),
                began: TimeMs(0),
                verify: Sampling::default(),
                texts: TextMirror::Off,
            };
            let mut core = Core::new(&config, RealtimeOffset(0));
            let first = u32::MAX - before;
            let came = |index: usize| index == 0 || index + 1 == lost.len() || !lost[index];
            for index in (0..lost.len()).filter(|index| came(*index)) {
                let serial = first.wrapping_add(index as u32);
                for (record_type, body) in [(1300, "arch=c000003e syscall=257 items=0"), (1320, "")] {
                    let text = format!("audit(1700000000.{index:03}:{serial}): {body}");
                    core.datagram(record_type, text.as_bytes(), KtimeNs(index as u64));
                }
            }
            core.finish(KtimeNs(1_000_000_000));
            let mut account = Account::default();
            core.account(TimeMs(0), &mut account);
            let missing = (0..lost.len()).filter(|index| !came(*index)).count() as u64;
            prop_assert_eq!(account.serials.missing, missing);
            prop_assert_eq!(account.assembly.completed, lost.len() as u64 - missing);
            prop_assert_eq!(account.crosscheck.expected, missing);
        }
    }

    #[test]
    fn a_line_of_ours_without_a_serial_leaves_no_hole_in_a_log() {
        let config = CoreConfig {
            source: "replay",
            reassembly: reassemble::Limits::default(),
            reorder_window: Duration::from_secs(5),
            began: TimeMs(0),
            verify: Sampling::default(),
            texts: TextMirror::Off,
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

    fn at(ms: u64) -> KtimeNs {
        KtimeNs(1_700_000_000_000_000_000 + ms * 1_000_000)
    }

    fn live(texts: TextMirror) -> Core {
        let config = CoreConfig {
            source: "daemon",
            reassembly: reassemble::Limits {
                repeats: reassemble::Repeats::Records,
                ..reassemble::Limits::default()
            },
            reorder_window: Duration::from_secs(1),
            began: TimeMs(0),
            verify: Sampling::default(),
            texts,
        };
        Core::new(&config, RealtimeOffset(0))
    }

    fn body(serial: u32, body: &str) -> Vec<u8> {
        format!("audit(1700000000.000:{serial}): {body}").into_bytes()
    }

    fn text(reason: TextReason, ms: u64, record_type: u16, bytes: &[u8]) -> Text<'_> {
        Text {
            reason,
            taken: at(ms),
            record_type,
            bytes,
            whole: true,
        }
    }

    /// Outcome, cause and number of records of the events so far.
    fn events(core: &mut Core) -> Vec<(Outcome, Option<Cause>, usize)> {
        let mut events = Vec::new();
        core.each_output(|output| {
            if let Output::Event(event) = output {
                let audit = event.audit.as_ref();
                let records = audit.map_or(0, |audit| audit.records.len());
                events.push((event.outcome, event.cause, records));
            }
        });
        events
    }

    fn account(core: &Core) -> Account {
        let mut account = Account::default();
        core.account(TimeMs(0), &mut account);
        assert_eq!(account.broken_identities(), [""; 0]);
        account
    }

    #[test]
    fn a_record_that_was_lost_behind_the_queue_is_given_back_once_and_leaves_no_hole() {
        let mut core = live(TextMirror::Lost);
        core.datagram(1112, &body(1, "pid=1 msg=''"), at(0));
        let lost = body(2, "pid=2 msg=''");
        core.text(&text(TextReason::RetryOverflow, 1, 1112, &lost), at(2));
        core.datagram(1112, &body(3, "pid=3 msg=''"), at(3));
        core.finish(at(5_000));
        let cause = Some(Cause::RetryOverflow);
        assert_eq!(
            events(&mut core),
            [
                (Outcome::AuditOnly, None, 1),
                (Outcome::Backfilled, cause, 1),
                (Outcome::AuditOnly, None, 1),
            ]
        );
        let account = account(&core);
        assert_eq!(account.serials.missing, 0);
        assert_eq!((account.input.records, account.crosscheck.expected), (2, 1));
        assert_eq!(account.mirror.given_back[&Cause::RetryOverflow], 1);
    }

    #[test]
    fn a_cut_text_is_not_passed_off_as_a_record() {
        let mut core = live(TextMirror::Lost);
        let lost = body(2, "pid=2 msg=''");
        let cut = Text {
            whole: false,
            ..text(TextReason::NotHeld, 1, 1112, &lost)
        };
        core.text(&cut, at(2));
        core.finish(at(5_000));
        assert_eq!(events(&mut core), []);
        assert_eq!(account(&core).mirror.cut, 1);
    }

    #[test]
    fn of_all_copies_only_those_are_given_back_whose_record_does_not_come() {
        let mut core = live(TextMirror::All);
        let came = body(1, "pid=1 msg=''");
        let known = body(2, "pid=2 msg=''");
        let unknown = body(3, "pid=3 msg=''");
        for bytes in [&came, &known, &unknown] {
            core.text(&text(TextReason::Queued, 1, 1112, bytes), at(1));
        }
        core.text(&text(TextReason::HoldOverflow, 2, 1112, &known), at(2));
        core.datagram(1112, &came, at(3));
        core.tick(at(59_000), RealtimeOffset(0));
        assert_eq!(account(&core).mirror.waiting, 1);
        core.tick(at(61_002), RealtimeOffset(0));
        // It comes after all.
        core.datagram(1112, &unknown, at(61_003));
        core.finish(at(70_000));
        assert_eq!(
            events(&mut core),
            [
                (Outcome::Backfilled, Some(Cause::HoldOverflow), 1),
                (Outcome::AuditOnly, None, 1),
                (Outcome::Backfilled, Some(Cause::KernelUnknown), 1),
            ]
        );
        let mirror = account(&core).mirror;
        assert_eq!((mirror.received, mirror.confirmed), (4, 2));
    }
}
