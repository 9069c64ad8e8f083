//! The audit witness: netlink, records, events, rules, status.

pub mod arch;
pub mod capture;
pub mod client;
pub mod copies;
pub mod event;
pub mod feature;
pub mod fields;
pub mod gaps;
pub mod language;
pub mod message;
pub mod parse;
pub mod privilege;
pub mod reassemble;
pub mod record;
pub mod records;
pub mod rules;
pub mod settings;
pub mod socket;
pub mod status;
mod sys;
pub mod types;
