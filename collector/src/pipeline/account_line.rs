//! The account in one line, for a person who watches the collector run.

use std::fmt::Write as _;

use crate::account::Account;
use crate::event::Outcome;

/// Expected, matched, backfilled and lost, the latter two by cause.
pub fn line(account: &Account) -> String {
    let crosscheck = &account.crosscheck;
    let settled = crosscheck.settled_expected();
    let mut line = format!(
        "expected {}: matched {}, backfilled {}{}, unrecovered {}{}, pending {}",
        crosscheck.expected,
        settled.matched,
        settled.backfilled,
        causes(account, Outcome::Backfilled),
        settled.unrecovered,
        causes(account, Outcome::Unrecovered),
        crosscheck.pending_observations,
    );
    let audit_only = crosscheck.total(Outcome::AuditOnly) + crosscheck.unwatched;
    let _ = write!(
        line,
        " | from audit alone {audit_only} | kernel lost {} records",
        account.kernel.lost
    );
    let uncertain = crosscheck.total(Outcome::Uncertain);
    if uncertain > 0 {
        let _ = write!(
            line,
            ", uncertain {uncertain}{}",
            causes(account, Outcome::Uncertain)
        );
    }
    for (cause, count) in &account.losses {
        let _ = write!(line, ", {} {count}", cause.name());
    }
    let dropped: u64 = account
        .sinks
        .values()
        .flat_map(|sink| sink.dropped.values())
        .sum();
    if dropped > 0 {
        let _ = write!(line, " | the output dropped {dropped} lines");
    }
    line
}

fn causes(account: &Account, outcome: Outcome) -> String {
    let named: Vec<_> = account
        .crosscheck
        .by_cause
        .iter()
        .filter(|((of, _), _)| *of == outcome)
        .map(|((_, cause), events)| format!("{} {events}", cause.name()))
        .collect();
    if named.is_empty() {
        String::new()
    } else {
        format!(" ({})", named.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Cause;
    use crate::probe::observation::Verdict;

    #[test]
    fn says_what_became_of_the_expected() {
        let mut account = Account::default();
        account.crosscheck.expected = 5;
        account
            .crosscheck
            .settled
            .insert((Verdict::Inferred, Outcome::Matched), 3);
        account
            .crosscheck
            .settled
            .insert((Verdict::Maybe, Outcome::Matched), 9);
        account
            .crosscheck
            .settled
            .insert((Verdict::Inferred, Outcome::Backfilled), 2);
        account
            .crosscheck
            .by_cause
            .insert((Outcome::Backfilled, Cause::RateLimit), 2);
        account.losses.insert(Cause::RateLimit, 10);
        account.kernel.lost = 10;
        assert_eq!(
            line(&account),
            "expected 5: matched 3, backfilled 2 (rate_limit 2), unrecovered 0, pending 0 | from audit alone 0 | \
             kernel lost 10 records, rate_limit 10"
        );
    }
}
