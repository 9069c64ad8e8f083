//! `audit-collector verify`: how far a backfilled event can be trusted on this machine, field by field.
//!
//! Owns how the table reads, for a person and as JSON. What is in it was found by [`crate::verify`].

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::command::Format;
use crate::verify::{Place, Table, Tally};

/// Prints `table`. What a program would have told that the kernel skipped is unknown in it, so `missed_runs` says how often
/// that happened.
///
/// # Errors
/// Where `out` cannot be written.
pub fn report(
    table: &Table,
    missed_runs: u64,
    format: Format,
    out: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Text => out.write_all(text(table, missed_runs).as_bytes())?,
        Format::Json => writeln!(out, "{:#}", as_json(table, missed_runs))?,
    }
    out.flush()
}

fn rows(table: &Table) -> impl Iterator<Item = (&Place, &Tally)> {
    let compared = |(_, tally): &(&Place, &Tally)| tally.compared() > 0;
    table.fields.iter().filter(compared)
}

fn text(table: &Table, missed_runs: u64) -> String {
    if table.events == 0 {
        return "no event that both witnesses reported came whole: nothing was compared\n"
            .to_owned();
    }
    let sum = table.sum();
    let mut text = format!(
        "{} events compared with what eBPF alone makes of them: {} fields, {} identical, {} unknown, {} wrong\n",
        table.events,
        sum.compared(),
        percent(sum.identical, &sum),
        percent(sum.unknown, &sum),
        percent(sum.wrong, &sum),
    );
    let mut line = |cells: [&str; 6]| {
        let [record, field, compared, identical, unknown, wrong] = cells;
        let _ = writeln!(
            text,
            "{record:<10} {field:<12} {compared:>9} {identical:>10} {unknown:>9} {wrong:>9}"
        );
    };
    line([
        "record",
        "field",
        "compared",
        "identical",
        "unknown",
        "wrong",
    ]);
    for ((record, field), tally) in rows(table) {
        line([
            record,
            field,
            &tally.compared().to_string(),
            &percent(tally.identical, tally),
            &tally.unknown.to_string(),
            &tally.wrong.to_string(),
        ]);
    }
    if missed_runs > 0 {
        let _ = writeln!(
            text,
            "the kernel skipped {missed_runs} runs of programs: what they would have told is unknown"
        );
    }
    for ((record, field), tally) in rows(table) {
        if let Some(example) = &tally.example {
            let _ = writeln!(
                text,
                "{record} {field}: of {}, the kernel wrote {}, and eBPF makes it {}",
                example.call,
                example.audit.as_deref().unwrap_or("nothing"),
                example.rebuilt.as_deref().unwrap_or("nothing"),
            );
        }
    }
    text
}

/// Three places, so that one in a hundred thousand shows; rounded down, so that 100 means all.
fn percent(part: u64, of: &Tally) -> String {
    let whole = u128::from(of.compared().max(1));
    let thousandths = u128::from(part) * 100_000 / whole;
    format!("{}.{:03}%", thousandths / 1_000, thousandths % 1_000)
}

fn as_json(table: &Table, missed_runs: u64) -> Value {
    let fields: Vec<Value> = rows(table)
        .map(|((record, field), tally)| {
            json!({
                "record": record,
                "field": field,
                "compared": tally.compared(),
                "identical": tally.identical,
                "unknown": tally.unknown,
                "wrong": tally.wrong,
                "example": tally.example.as_ref().map(|example| json!({
                    "call": example.call,
                    "audit": example.audit,
                    "rebuilt": example.rebuilt,
                })),
            })
        })
        .collect();
    json!({ "events": table.events, "missed_runs": missed_runs, "fields": fields })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::verify::Example;

    fn table() -> Table {
        let mut table = Table {
            events: 3,
            ..Table::default()
        };
        let uid = table.fields.entry(("SYSCALL", "uid")).or_default();
        uid.identical = 2;
        uid.wrong = 1;
        uid.example = Some(Arc::new(Example {
            call: "openat".to_owned(),
            audit: Some("1".to_owned()),
            rebuilt: None,
        }));
        table
    }

    fn printed(table: &Table, missed_runs: u64, format: Format) -> String {
        let mut out = Vec::new();
        report(table, missed_runs, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_has_what_was_compared_and_an_example_of_what_was_wrong() {
        let text = printed(&table(), 0, Format::Text);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0].contains("3 fields, 66.666% identical, 0.000% unknown, 33.333% wrong"),
            "{text}"
        );
        let cells: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(cells, ["SYSCALL", "uid", "3", "66.666%", "0", "1"]);
        assert_eq!(
            lines[3],
            "SYSCALL uid: of openat, the kernel wrote 1, and eBPF makes it nothing"
        );
        assert!(printed(&Table::default(), 0, Format::Text).contains("nothing was compared"));
    }

    #[test]
    fn programs_that_the_kernel_skipped_are_told() {
        let text = printed(&table(), 7, Format::Text);
        assert!(text.contains("the kernel skipped 7 runs"), "{text}");
    }

    #[test]
    fn json_has_the_same() {
        let value: Value = serde_json::from_str(&printed(&table(), 7, Format::Json)).unwrap();
        assert_eq!(value["missed_runs"], 7);
        assert_eq!(value["events"], 3);
        assert_eq!(value["fields"][0]["wrong"], 1);
        assert_eq!(value["fields"][0]["example"]["audit"], "1");
    }
}
