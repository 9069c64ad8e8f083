//! JSON lines, schema version 1 (docs/stream.md).
//!
//! Owns the wire form of the stream: names, order, nulls. One output becomes one line. Does no I/O, but for the names
//! of users where those are asked for.

mod event;
mod object;
mod operations;
mod record;
mod writer;

use crate::audit::record::Serial;
use crate::clock::TimeMs;
use crate::digits;
use crate::enrich::users::UserNames;
use crate::event::{Event, EventId, Loss, LossUnit, Output, State, StateChange};
use crate::output::identity::Identity;
use event::Scratch;
use writer::Object;

/// The schema's version, the `v` of every line.
const VERSION: u32 = 1;

/// Renders outputs as JSON lines.
#[derive(Debug)]
pub struct JsonRenderer {
    identity: Identity,
    users: Option<UserNames>,
    scratch: Scratch,
    /// Counts loss and state lines, for their ids.
    told: u64,
}

impl JsonRenderer {
    /// A renderer for the stream of one boot of one host. With `users`, ids get names.
    pub fn new(identity: Identity, users: Option<UserNames>) -> Self {
        Self {
            identity,
            users,
            scratch: Scratch::default(),
            told: 0,
        }
    }

    /// Appends the line of `output`, its line end included.
    pub fn render(&mut self, output: &Output, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.number("v", VERSION);
        match output {
            Output::Event(event) => self.event(event, &mut line),
            Output::Loss(loss) => self.loss(loss, &mut line),
            Output::State(state) => self.state(state, &mut line),
        }
        line.end();
        out.push(b'\n');
    }

    fn event(&mut self, event: &Event, line: &mut Object<'_>) {
        line.string("kind", "event");
        line.written("id", |out| self.id(event.id).append(out));
        match event.serial {
            Some(serial) => line.number("serial", serial.0),
            None => {
                line.null("serial");
                between(event.between, line);
            }
        }
        line.written("time", |out| append_rfc3339(event.time, out));
        let first = event.audit.as_ref().and_then(|audit| audit.records.first());
        match first.and_then(|record| record.node) {
            Some(node) => line.bytes("host", node),
            None => line.string("host", &self.identity.host),
        }
        if let Some(earlier) = event.supersedes {
            line.written("supersedes", |out| self.id(earlier).append(out));
        }
        event::write(event, self.users.as_mut(), &mut self.scratch, line);
    }

    fn loss(&mut self, loss: &Loss, line: &mut Object<'_>) {
        line.string("kind", "loss");
        self.common(loss.time, 'l', line);
        line.string("stage", loss.cause.stage().name());
        line.string("cause", loss.cause.name());
        line.number("count", loss.count);
        line.string("unit", unit_name(loss.unit));
        match loss.recovered {
            Some(recovered) => line.number("recovered", recovered),
            None => line.null("recovered"),
        }
        match loss.serials {
            Some((first, last)) => line.array("serials", |array| {
                array.number(Some(first.0));
                array.number(Some(last.0));
            }),
            None => {
                line.null("serials");
                between(loss.between, line);
            }
        }
        match loss.span {
            Some((from, to)) => line.array("span", |array| {
                array.written(|out| append_rfc3339(from, out));
                array.written(|out| append_rfc3339(to, out));
            }),
            None => line.null("span"),
        }
    }

    fn state(&mut self, state: &State, line: &mut Object<'_>) {
        line.string("kind", "state");
        self.common(state.time, 's', line);
        line.string("what", change_name(state.what));
        line.string("message", &state.message);
    }

    /// What loss and state lines share with events.
    fn common(&mut self, time: TimeMs, letter: char, line: &mut Object<'_>) {
        self.told += 1;
        let (boot, told) = (&self.identity.boot_id, self.told);
        line.string("id", &format!("{boot}:{letter}{}.{told}", time.0));
        line.null("serial");
        line.written("time", |out| append_rfc3339(time, out));
        line.string("host", &self.identity.host);
    }

    fn id(&self, id: EventId) -> Id<'_> {
        Id {
            boot: &self.identity.boot_id,
            id,
        }
    }
}

/// The serials something without one fell between.
fn between((before, after): (Option<Serial>, Option<Serial>), line: &mut Object<'_>) {
    line.array("between", |array| {
        array.number(before.map(|serial| serial.0));
        array.number(after.map(|serial| serial.0));
    });
}

/// The name of what a loss counts.
pub(super) const fn unit_name(unit: LossUnit) -> &'static str {
    match unit {
        LossUnit::Records => "records",
        LossUnit::Events => "events",
        LossUnit::Observations => "observations",
    }
}

/// The name of what a state line tells.
pub(super) const fn change_name(change: StateChange) -> &'static str {
    match change {
        StateChange::Started => "started",
        StateChange::Stopped => "stopped",
        StateChange::RulesChanged => "rules_changed",
        StateChange::RulesDrifted => "rules_drifted",
        StateChange::RulesInSync => "rules_in_sync",
        StateChange::RulesEnforced => "rules_enforced",
        StateChange::Displaced => "displaced",
        StateChange::Reclaimed => "reclaimed",
        StateChange::StatusChanged => "status_changed",
        StateChange::ClockStepped => "clock_stepped",
        StateChange::WitnessChanged => "witness_changed",
    }
}

/// An event's id with its boot: the same for the same event, whenever it is rendered.
pub(super) struct Id<'a> {
    pub(super) boot: &'a str,
    pub(super) id: EventId,
}

impl Id<'_> {
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.boot.as_bytes());
        match self.id {
            EventId::Audit { time, serial, part } => {
                out.push(b':');
                digits::decimal(out, time.0);
                out.push(b'.');
                digits::decimal(out, serial.0);
                if part > 0 {
                    out.push(b'.');
                    digits::decimal(out, part);
                }
            }
            EventId::Ebpf {
                taken,
                cpu,
                sequence,
            } => {
                out.extend_from_slice(b":e");
                digits::decimal(out, taken.0);
                out.push(b'.');
                digits::decimal(out, cpu);
                out.push(b'.');
                digits::decimal(out, sequence);
            }
        }
    }
}

/// Appends a time as RFC 3339 writes it, in UTC with milliseconds.
fn append_rfc3339(time: TimeMs, out: &mut Vec<u8>) {
    let (seconds, ms) = (time.0 / 1_000, time.0 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    for (number, width, behind) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3_600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (ms, 3, b'Z'),
    ] {
        digits::padded(out, number, width);
        out.push(behind);
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years begin in March here, so that the leap day is their last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    const DAYS_FROM_0000_03_01: u64 = 719_468;
    let days = days + DAYS_FROM_0000_03_01;
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests;
