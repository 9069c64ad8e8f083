//! The audit witness: netlink, records, events, rules, status.

pub mod capture;
pub mod client;
pub mod event;
pub mod fields;
pub mod gaps;
pub mod parse;
pub mod reassemble;
pub mod record;
pub mod records;
pub mod rules;
pub mod socket;
pub mod status;
mod sys;
pub mod types;
