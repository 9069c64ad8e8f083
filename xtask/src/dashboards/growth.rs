//! By how much counters grew, also where a collector was started in the meantime.
//!
//! `increase()` counts from the first sample it sees. What a collector tells right at its start is in the first sample already, and
//! where that is not smaller than the last one before the restart, nothing shows that the counter began anew. All that the counters
//! of a young process hold is of late.

use super::rules::HOST;

/// What of `selector` is more than nothing, where the process is younger than `seconds`.
fn of_young(selector: &str, seconds: u32) -> String {
    format!(
        "{selector} > 0 and on ({HOST}) (time() - process_start_time_seconds{{job=\"audit-collector\"}} < {seconds})"
    )
}

/// By how much each counter that `selector` selects grew within the last hour.
pub(super) fn within_the_hour(selector: &str) -> String {
    let young = of_young(selector, 3_600);
    // What the process before had counted is part of it, so that the greater of the two is nearer to the truth.
    format!(
        "max without (young) (label_replace({young}, \"young\", \"1\", \"\", \"\") or increase({selector}[1h]))"
    )
}

/// The sum, by all labels but `without`, of what each counter that `selector` selects grew by within the last five minutes; only where it
/// did.
pub(super) fn of_late(selector: &str, without: &str) -> String {
    let young = of_young(selector, 300);
    format!(
        "(sum without ({without}) ({young}) or sum without ({without}) (increase({selector}[5m])) > 0)"
    )
}
