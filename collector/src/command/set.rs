//! `audit-collector set`: the kernel's audit settings.
//!
//! Owns how values are written, and what is said about a change. Settings that were changed before one the kernel
//! refuses stay changed, and have been printed.

use std::io::Write;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use super::held_signals;
use super::{CommandError, Format};
use crate::audit::client::Client;
use crate::audit::feature::{Feature, FeatureLock, FeatureState};
use crate::audit::status::{StatusChange, StatusField, TickRate};
use crate::cli::EXIT_OK;

/// What to change; none of it by default.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Settings, but for the waiting time.
    pub settings: StatusChange,
    /// How long a task waits for room in the queue.
    pub backlog_wait_time: Option<WaitTime>,
    /// Counters to set to zero.
    pub resets: Vec<StatusField>,
    /// Features to switch.
    pub features: Vec<(Feature, Switch)>,
}

/// A waiting time as people write it: jiffies, or a duration with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitTime {
    /// The kernel's unit.
    Jiffies(u32),
    /// To be converted with the kernel's tick.
    Duration(Duration),
}

impl FromStr for WaitTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: Option<u32> = number.parse().ok();
        match (number, unit) {
            (Some(jiffies), "") => Ok(Self::Jiffies(jiffies)),
            (Some(ms), "ms") => Ok(Self::Duration(Duration::from_millis(ms.into()))),
            (Some(s), "s") => Ok(Self::Duration(Duration::from_secs(s.into()))),
            (Some(min), "min") => Ok(Self::Duration(Duration::from_secs(u64::from(min) * 60))),
            _ => Err("not a number of jiffies, nor a duration such as 500ms, 60s or 1min".into()),
        }
    }
}

/// `enabled` as people write it.
///
/// # Errors
/// For anything but 0, 1, 2, off, on, locked.
pub fn parse_enabled(text: &str) -> Result<u32, String> {
    Ok(match text {
        "0" | "off" => 0,
        "1" | "on" => 1,
        "2" | "locked" => 2,
        _ => return Err("not 0 (off), 1 (on) or 2 (locked, until the next reboot)".into()),
    })
}

/// `failure` as people write it.
///
/// # Errors
/// For anything but 0, 1, 2, silent, printk, panic.
pub fn parse_failure(text: &str) -> Result<u32, String> {
    Ok(match text {
        "0" | "silent" => 0,
        "1" | "printk" => 1,
        "2" | "panic" => 2,
        _ => return Err("not 0 (silent), 1 (printk) or 2 (panic)".into()),
    })
}

/// What becomes of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Off, and can be switched again.
    Off,
    /// On, and can be switched again.
    On,
    /// On until the next reboot.
    Locked,
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "off" => Self::Off,
            "on" => Self::On,
            "locked" => Self::Locked,
            _ => return Err("not off, on or locked (until the next reboot)".into()),
        })
    }
}

/// Makes the changes and prints each with the value before it; `enabled`, which may lock the others, last.
///
/// # Errors
/// Where the kernel refuses, or `out` cannot be written.
pub fn run(changes: &Changes, format: Format, out: &mut impl Write) -> Result<u8, CommandError> {
    let mut settings = changes.settings;
    settings.backlog_wait_time = match changes.backlog_wait_time {
        None => None,
        Some(WaitTime::Jiffies(jiffies)) => Some(jiffies),
        Some(WaitTime::Duration(duration)) => Some(
            TickRate::of_kernel()
                .ok_or_else(|| {
                    CommandError::Words("the kernel does not tell its tick; give jiffies".into())
                })?
                .jiffies(duration),
        ),
    };
    held_signals::hold();
    let mut client = Client::connect()?;
    let before = client.status()?;
    let mut told = Told {
        format,
        out,
        changes: Vec::new(),
    };
    for field in &changes.resets {
        let old = match field {
            StatusField::Lost => client.reset_lost()?,
            _ => client.reset_backlog_wait_time_actual()?,
        };
        told.tell(field.name(), old.into(), 0.into())?;
    }
    let features = match changes.features.is_empty() {
        true => None,
        false => Some(client.features()?),
    };
    for (feature, switch) in &changes.features {
        let (state, lock) = match switch {
            Switch::Off => (FeatureState::Off, FeatureLock::Open),
            Switch::On => (FeatureState::On, FeatureLock::Open),
            Switch::Locked => (FeatureState::On, FeatureLock::Locked),
        };
        let old = features.map_or(Value::Null, |features| {
            feature_value(features.is_on(*feature), features.is_locked(*feature))
        });
        client.set_feature(*feature, state, lock)?;
        let new = feature_value(state == FeatureState::On, lock == FeatureLock::Locked);
        told.tell(feature.name(), old, new)?;
    }
    for (field, value) in settings.fields() {
        client.set_field(field, value)?;
        told.tell(field.name(), before.field(field).into(), value.into())?;
    }
    told.end()?;
    Ok(EXIT_OK)
}

fn feature_value(on: bool, locked: bool) -> Value {
    match (on, locked) {
        (true, true) => "locked",
        (true, false) => "on",
        (false, true) => "off, locked",
        (false, false) => "off",
    }
    .into()
}

/// What was changed so far.
struct Told<'a, W> {
    format: Format,
    out: &'a mut W,
    changes: Vec<Value>,
}

impl<W: Write> Told<'_, W> {
    fn tell(&mut self, name: &str, old: Value, new: Value) -> Result<(), CommandError> {
        match self.format {
            Format::Json => self
                .changes
                .push(json!({ "name": name, "old": old, "new": new })),
            Format::Text => {
                let text = |value: &Value| match value {
                    Value::Null => "?".to_owned(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                writeln!(self.out, "{name} {} -> {}", text(&old), text(&new))?;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<(), CommandError> {
        match self.format {
            Format::Json => Ok(writeln!(
                self.out,
                "{:#}",
                json!({ "changes": self.changes })
            )?),
            Format::Text => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_have_a_unit_or_are_jiffies() {
        let parse = |text: &str| text.parse::<WaitTime>();
        assert_eq!(parse("15000"), Ok(WaitTime::Jiffies(15_000)));
        assert_eq!(
            parse("60s"),
            Ok(WaitTime::Duration(Duration::from_secs(60)))
        );
        assert_eq!(
            parse("500ms"),
            Ok(WaitTime::Duration(Duration::from_millis(500)))
        );
        assert_eq!(
            parse("2min"),
            Ok(WaitTime::Duration(Duration::from_secs(120)))
        );
        for wrong in ["", "s", "-1", "5x", "99999999999", "1.5s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_have_the_names_the_status_prints() {
        assert_eq!(parse_enabled("locked"), Ok(2));
        assert_eq!(parse_failure("printk"), Ok(1));
        assert!(parse_enabled("yes").is_err() && parse_failure("3").is_err());
        assert_eq!("locked".parse(), Ok(Switch::Locked));
    }
}
