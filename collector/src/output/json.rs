//! JSON lines, schema version 1 (docs/stream.md).
//!
//! Owns the wire form of the stream: names, order, nulls. One output becomes one line. Does no I/O, but for the names
//! of users where those are asked for.

mod event;
mod object;
mod operations;
mod record;
mod writer;

use std::fmt;

use crate::audit::record::Serial;
use crate::clock::TimeMs;
use crate::enrich::users::UserNames;
use crate::event::{Event, EventId, Loss, LossUnit, Output, State, StateChange};
use crate::output::identity::Identity;
use writer::Object;

/// The schema's version, the `v` of every line.
const VERSION: u32 = 1;

/// Renders outputs as JSON lines.
#[derive(Debug)]
pub struct JsonRenderer {
    identity: Identity,
    users: Option<UserNames>,
    /// Counts loss and state lines, for their ids.
    told: u64,
}

impl JsonRenderer {
    /// A renderer for the stream of one boot of one host. With `users`, ids get names.
    pub fn new(identity: Identity, users: Option<UserNames>) -> Self {
        Self {
            identity,
            users,
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
        line.plain("id", self.id(event.id));
        match event.serial {
            Some(serial) => line.number("serial", serial.0),
            None => {
                line.null("serial");
                between(event.between, line);
            }
        }
        line.plain("time", Rfc3339(event.time));
        let mut records = event.audit.iter().flat_map(|audit| &audit.records);
        match records.next().and_then(|record| record.node.as_deref()) {
            Some(node) => line.bytes("host", node),
            None => line.string("host", &self.identity.host),
        }
        if let Some(earlier) = event.supersedes {
            line.plain("supersedes", self.id(earlier));
        }
        event::write(event, self.users.as_mut(), line);
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
                array.plain(Rfc3339(from));
                array.plain(Rfc3339(to));
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
        line.plain("time", Rfc3339(time));
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

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot = self.boot;
        match self.id {
            EventId::Audit { time, serial, part } => {
                write!(f, "{boot}:{}.{}", time.0, serial.0)?;
                match part {
                    0 => Ok(()),
                    part => write!(f, ".{part}"),
                }
            }
            EventId::Ebpf {
                taken,
                cpu,
                sequence,
            } => write!(f, "{boot}:e{}.{cpu}.{sequence}", taken.0),
        }
    }
}

/// A time as RFC 3339 writes it, in UTC with milliseconds.
struct Rfc3339(TimeMs);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0.0 / 1_000, self.0.0 % 1_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
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
