//! How far what is given back can be trusted, field by field.

use super::family::{Families, Number};
use crate::account::Account;

pub(super) fn add(families: &mut Families, account: &Account) {
    let verified = account.verify.events;
    families.set("verified_events_total", &[], Number(verified));
    for ((record, field), tally) in &account.verify.fields {
        let labels = [*record, *field];
        for (name, count) in [
            ("field_compared_total", tally.compared()),
            ("field_unknown_total", tally.unknown),
            ("field_mismatch_total", tally.wrong),
        ] {
            families.set(name, &labels, Number(count));
        }
    }
}
