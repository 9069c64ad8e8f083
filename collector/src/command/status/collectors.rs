//! The collectors' accounts, for a person and as JSON.
//!
//! What others chose (keys, names of users) is cut and has its control characters escaped, so that it can neither break a
//! table nor a terminal.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::line;
use crate::account_socket::Found;
use crate::account_socket::document::{
    CauseRow, Counts, Document, KeyRow, SyscallRow, Table, UidRow,
};
use crate::clock::TimeMs;
use crate::enrich::users::UserNames;

/// Longest name in a table, in characters.
const LONGEST_NAME: usize = 40;

/// The accounts found, and when that was.
pub(super) struct Collectors {
    found: Vec<Found>,
    now: TimeMs,
}

impl Collectors {
    /// Gives the users of the accounts names.
    pub(super) fn new(mut found: Vec<Found>, now: TimeMs, names: &mut UserNames) -> Self {
        for document in found
            .iter_mut()
            .filter_map(|found| found.account.as_mut().ok())
        {
            for row in &mut document.uids.rows {
                let name = names.user(row.uid);
                row.name = name.map(|name| String::from_utf8_lossy(name).into_owned());
            }
        }
        Self { found, now }
    }

    /// One block per collector; one line where none runs.
    pub(super) fn text(&self, folder: &Path) -> String {
        if self.found.is_empty() {
            let folder = printable(&folder.to_string_lossy());
            return format!("no collector runs (there is no socket of one in {folder})\n");
        }
        let blocks: Vec<String> = (self.found.iter())
            .map(|found| match &found.account {
                Ok(document) => text(document, self.now),
                Err(error) => {
                    let socket = printable(&found.socket.to_string_lossy());
                    format!("{socket}: {error}\n")
                }
            })
            .collect();
        blocks.join("\n")
    }

    /// A list with the document of each; of one that cannot be read its socket and why.
    pub(super) fn json(&self) -> Value {
        (self.found.iter())
            .map(|found| match &found.account {
                Ok(document) => json!(document),
                Err(error) => json!({
                    "socket": found.socket.to_string_lossy(),
                    "error": error.to_string(),
                }),
            })
            .collect()
    }
}

fn text(document: &Document, now: TimeMs) -> String {
    let collector = &document.collector;
    let age = |since: u64| span(Duration::from_millis(now.0.saturating_sub(since)));
    let level = match &document.level {
        Some(level) => format!("eBPF witness at level {}", printable(level)),
        None => "no eBPF witness".to_owned(),
    };
    let events = &document.events;
    let mut text = line(
        "collector",
        &collector.pid.to_string(),
        &format!(
            "audit-collector {}, {}, {level}",
            printable(&collector.version),
            printable(&document.source)
        ),
    );
    text.push_str(&line("running for", &age(collector.started_ms), ""));
    text.push_str(&line(
        "account of",
        &format!("{} ago", age(document.time_ms)),
        "",
    ));
    for (name, value, note) in [
        (
            "expected",
            events.expected,
            "events that the kernel should have reported",
        ),
        ("matched", events.matched, "came, and eBPF saw them too"),
        (
            "backfilled",
            events.backfilled,
            "did not come, and eBPF gave them back",
        ),
        (
            "unrecovered",
            events.unrecovered,
            "did not come, and nobody has them",
        ),
        (
            "withdrawn",
            events.withdrawn,
            "were not asked for after all",
        ),
        ("pending", events.pending, "may still come"),
        (
            "audit_only",
            events.audit_only,
            "came, and eBPF should have seen them",
        ),
        (
            "uncertain",
            events.uncertain,
            "came, while observations were lost",
        ),
        (
            "unwatched",
            events.unwatched,
            "came, and no program of ours watches such",
        ),
        (
            "maybe",
            events.maybe,
            "calls that did not come, and need not have",
        ),
        (
            "kernel_lost",
            events.kernel_lost_records,
            "records that the kernel counts as lost meanwhile",
        ),
    ] {
        text.push_str(&line(name, &value.to_string(), note));
    }
    if !document.causes.is_empty() {
        text.push_str(&causes(&document.causes));
    }
    text.push_str(&table("rule key", &document.keys, key_name));
    text.push_str(&table("call", &document.syscalls, syscall_name));
    text.push_str(&table("uid", &document.uids, uid_name));
    text
}

fn causes(rows: &[CauseRow]) -> String {
    let names = rows.iter();
    let names = names.map(|row| format!("{}: {}", printable(&row.stage), printable(&row.cause)));
    let figures = rows
        .iter()
        .map(|row| vec![row.counted, row.backfilled, row.unrecovered, row.uncertain]);
    let columns = ["counted as lost", "backfilled", "unrecovered", "uncertain"];
    columns_of("cause", &columns, names.zip(figures).collect())
}

fn table<Row>(title: &str, table: &Table<Row>, named: fn(&Row) -> (String, Counts)) -> String {
    let rest = [("(other)", table.other), ("(unknown)", table.unknown)].into_iter();
    let rest = rest.filter(|(_, counts)| counts.expected > 0);
    let rows = table.rows.iter().map(named);
    let rows: Vec<_> = rows
        .chain(rest.map(|(name, counts)| (name.to_owned(), counts)))
        .map(|(name, counts)| {
            let Counts {
                expected,
                matched,
                backfilled,
                unrecovered,
                withdrawn,
            } = counts;
            (
                name,
                vec![expected, matched, backfilled, unrecovered, withdrawn],
            )
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = [
        "expected",
        "matched",
        "backfilled",
        "unrecovered",
        "withdrawn",
    ];
    columns_of(title, &columns, rows)
}

fn columns_of(title: &str, columns: &[&str], rows: Vec<(String, Vec<u64>)>) -> String {
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let width = names
        .chain([title.chars().count(), 24])
        .max()
        .unwrap_or_default()
        + 2;
    let mut text = format!("\n{title:<width$}");
    for column in columns {
        text.push_str(&format!(
            "{column:>width$}",
            width = column.len().max(12) + 2
        ));
    }
    text.push('\n');
    for (name, figures) in rows {
        text.push_str(&format!("{name:<width$}"));
        for (column, figure) in columns.iter().zip(figures) {
            text.push_str(&format!(
                "{figure:>width$}",
                width = column.len().max(12) + 2
            ));
        }
        text.push('\n');
    }
    text
}

fn key_name(row: &KeyRow) -> (String, Counts) {
    let name = match (row.key.as_str(), &row.key_hex) {
        ("", None) => "(no key)".to_owned(),
        (_, Some(hex)) => printable(hex),
        (key, None) => printable(&key.replace('\u{1}', ", ")),
    };
    (name, row.counts)
}

fn syscall_name(row: &SyscallRow) -> (String, Counts) {
    let name = row.name.clone().unwrap_or_else(|| row.number.to_string());
    let name = match row.arch == std::env::consts::ARCH {
        true => printable(&name),
        false => printable(&format!("{name} ({})", row.arch)),
    };
    (name, row.counts)
}

fn uid_name(row: &UidRow) -> (String, Counts) {
    let name = match &row.name {
        Some(name) => printable(&format!("{name} ({})", row.uid)),
        None => row.uid.to_string(),
    };
    (name, row.counts)
}

/// Fit for a table and a terminal.
fn printable(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => name.push(character),
            _ => name.extend(character.escape_debug()),
        }
    }
    match name.char_indices().nth(LONGEST_NAME) {
        None => name,
        Some(_) => {
            let kept: String = name.chars().take(LONGEST_NAME - 1).collect();
            format!("{kept}…")
        }
    }
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1} s", span.as_secs_f64()),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Tally};
    use crate::account_socket::{Identity, ReadError};
    use crate::event::{Cause, Outcome};
    use crate::probe::hooks::Level;

    fn document() -> Document {
        let mut account = Account {
            at: TimeMs(3_000_000),
            level: Some(Level::Syscalls),
            ..Account::default()
        };
        account.input.source = "daemon";
        account.losses.insert(Cause::RateLimit, 9);
        let crosscheck = &mut account.crosscheck;
        crosscheck
            .by_cause
            .insert((Outcome::Backfilled, Cause::RateLimit), 4);
        let tally = |backfilled| Tally {
            backfilled,
            ..Tally::default()
        };
        for (key, backfilled) in [(&b"\x1b[2Jone\x01two"[..], 3), (b"\xff\xfe", 2), (b"", 1)] {
            crosscheck
                .by_key
                .count(Some(&key.into()), tally(backfilled));
        }
        crosscheck
            .by_syscall
            .count(Some(&(0xc000_003e, 257)), tally(6));
        crosscheck.by_syscall.count(Some(&(0x1234, 99)), tally(1));
        crosscheck.by_uid.count(Some(&0), tally(6));
        crosscheck.by_uid.count(None, tally(2));
        let identity = Identity {
            pid: 77,
            version: "0.1.0".to_owned(),
            started_ms: 0,
        };
        Document::of(&account, &identity)
    }

    fn collectors(account: Result<Document, ReadError>) -> Collectors {
        let found = Found {
            socket: "/run/x/account-77.sock".into(),
            account,
        };
        Collectors::new(
            vec![found],
            TimeMs(3_723_000),
            &mut UserNames::of_this_host(),
        )
    }

    #[test]
    fn every_breakdown_has_a_table_and_hostile_keys_do_no_harm() {
        let text = collectors(Ok(document())).text(Path::new("/"));
        assert!(
            text.bytes()
                .all(|byte| byte == b'\n' || !byte.is_ascii_control()),
            "{text:?}"
        );
        for wanted in [
            "collector                 77                        audit-collector 0.1.0, daemon, eBPF witness at level syscalls",
            "running for               1 h 2 min",
            "account of                12 min 3 s ago",
            "kernel: rate_limit                        9             4             0             0",
            "\\u{1b}[2Jone, two                      3             0             3             0             0",
            "FFFE                                   2             0             2             0             0",
            "(no key)                               1             0             1             0             0",
            "openat                                 6             0             6             0             0",
            "99 (00001234)                          1             0             1             0             0",
            "root (0)                               6             0             6             0             0",
            "(unknown)                              2             0             2             0             0",
        ] {
            assert!(
                text.lines().any(|line| line == wanted),
                "{wanted}\nin\n{text}"
            );
        }
    }

    #[test]
    fn a_long_key_is_cut_and_columns_stay_in_line() {
        let mut document = document();
        document.keys.rows[0].key = "k".repeat(300);
        let text = collectors(Ok(document)).text(Path::new("/"));
        let cut = format!("{}…  ", "k".repeat(LONGEST_NAME - 1));
        let line = text.lines().find(|line| line.starts_with(&cut)).unwrap();
        let heading = text
            .lines()
            .find(|line| line.starts_with("rule key"))
            .unwrap();
        assert_eq!(line.chars().count(), heading.chars().count());
    }

    #[test]
    fn json_is_the_document_with_names() {
        let json = collectors(Ok(document())).json();
        assert_eq!(json[0]["uids"]["rows"][0]["name"], "root");
        assert_eq!(json[0]["causes"][0]["cause"], "rate_limit");
        assert_eq!(json[0]["keys"]["rows"][0]["backfilled"], 3);
    }

    #[test]
    fn where_there_is_no_account_one_line_says_so() {
        let none = Collectors {
            found: Vec::new(),
            now: TimeMs(0),
        };
        let text = none.text(Path::new("/run/x"));
        assert_eq!(
            text,
            "no collector runs (there is no socket of one in /run/x)\n"
        );
        assert_eq!(none.json(), json!([]));
        let other = collectors(Err(ReadError::Version { version: 9 }));
        assert!(
            other
                .text(Path::new("/"))
                .starts_with("/run/x/account-77.sock: the account has version 9")
        );
        assert_eq!(other.json()[0]["socket"], "/run/x/account-77.sock");
    }
}
