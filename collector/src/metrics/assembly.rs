//! What came in, and what the reassembler made of it.

use super::family::{Families, Number};
use crate::account::Account;

pub(super) fn add(families: &mut Families, account: &Account) {
    let input = &account.input;
    for (name, value) in [
        ("records_received_total", input.records),
        ("received_bytes_total", input.bytes),
        ("records_parsed_total", input.parsed),
        ("records_malformed_total", input.malformed),
    ] {
        families.set(name, &[input.source], Number(value));
    }
    let assembly = &account.assembly;
    let passed_on = assembly.completed
        + assembly.standalone
        + assembly.timed_out
        + assembly.evicted
        + assembly.flushed;
    families.set("events_begun_total", &[], Number(assembly.begun));
    families.set("events_merged_total", &[], Number(passed_on));
    for (reason, value) in [
        ("timeout", assembly.timed_out),
        ("evicted", assembly.evicted),
        ("flushed", assembly.flushed),
    ] {
        families.set("events_incomplete_total", &[reason], Number(value));
    }
    for (name, value) in [
        ("events_late_records_total", assembly.late_records),
        ("events_pending", assembly.pending),
        ("events_pending_limit", assembly.pending_limit),
    ] {
        families.set(name, &[], Number(value));
    }
}
