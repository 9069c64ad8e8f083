//! What was lost, by where and why, and the holes in the serials.

use super::family::{Families, Number};
use crate::account::Account;
use crate::event::Cause;

pub(super) fn add(families: &mut Families, account: &Account) {
    for cause in Cause::ALL {
        let lost = account.losses.get(&cause).copied().unwrap_or_default();
        let labels = [cause.stage().name(), cause.name()];
        families.set("lost_records_total", &labels, Number(lost));
    }
    for cause in Cause::COPIED {
        let given_back = account.mirror.given_back.get(&cause);
        let labels = [cause.stage().name(), cause.name()];
        let given_back = given_back.copied().unwrap_or_default();
        families.set("recovered_records_total", &labels, Number(given_back));
    }
    families.set("serial_gaps_total", &[], Number(account.serials.gaps));
    families.set("serial_missing_total", &[], Number(account.serials.missing));
}
