//! The rules in the kernel.

use super::family::{Families, Number};
use crate::account::Account;

const RULE_LISTS: [&str; 6] = ["user", "task", "exit", "exclude", "filesystem", "io_uring"];
const RULE_RELOADS: [&str; 2] = ["done", "failed"];

pub(super) fn add(families: &mut Families, account: &Account) {
    // Rules that were never read are not "no rules".
    if !account.rules_loaded.is_empty() {
        families.counts("rules_loaded", &[], &RULE_LISTS, &account.rules_loaded);
    }
    // Where no rules are configured there is nothing to be in sync with.
    if let Some(in_sync) = account.rules_in_sync {
        families.set("rules_in_sync", &[], u32::from(in_sync));
        families.counts(
            "rules_reloads_total",
            &[],
            &RULE_RELOADS,
            &account.rules_reloads,
        );
    }
    for (key, events) in account.rule_events.counts() {
        families.set("rule_events_total", &[key], Number(events));
    }
    if let Some(at) = account.rules_changed {
        families.set("rules_last_change_timestamp_seconds", &[], at);
    }
}
