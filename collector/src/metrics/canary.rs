//! The canary, where there is one.

use super::family::{Families, Number};
use crate::account::Account;

pub(super) fn add(families: &mut Families, account: &Account) {
    let Some(canary) = &account.canary else {
        return;
    };
    families.set("canary_sent_total", &[], Number(canary.sent));
    families.set("canary_received_total", &[], Number(canary.received));
    let interval = canary.interval.as_secs_f64();
    families.set("canary_interval_seconds", &[], interval);
    let at = canary.last_success;
    families.set("canary_last_success_timestamp_seconds", &[], at);
    families.histogram("canary_latency_seconds", &[], &canary.latency);
}
