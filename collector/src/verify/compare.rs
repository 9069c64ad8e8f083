//! One event's records against those rebuilt of it.

use std::sync::Arc;

use super::table::{self, Example, Place, Table};
use crate::audit::event::Records;
use crate::audit::fields::Value;
use crate::audit::record::{Record, RecordType};
use crate::audit::types::Standing;
use crate::rebuild::{Rebuilt, RebuiltRecord};

/// Compares the records of a call named `call`, which came whole and with their end-of-event record.
pub(super) fn compare(call: &str, records: &Records, rebuilt: &Rebuilt, table: &mut Table) {
    table.events += 1;
    let mut comparison = Comparison { call, table };
    let mut ordered = true;
    // Where the records stand among the kernel's, in our order.
    let mut last = None;
    let mut taken = vec![false; records.len()];
    for ours in &rebuilt.records {
        if ours.record_type == RecordType::EOE {
            comparison.identical(table::record(RecordType::EOE));
            continue;
        }
        let Some((at, theirs)) = counterpart(ours, records, &taken) else {
            let place = table::record(ours.record_type);
            comparison.wrong(place, None, Some(&ours.body));
            continue;
        };
        taken[at] = true;
        ordered &= last < Some(at);
        last = Some(at);
        comparison.identical(table::record(ours.record_type));
        ordered &= comparison.fields(theirs, ours, rebuilt);
    }
    for (record, _) in records.iter().zip(taken).filter(|(_, taken)| !taken) {
        let record_type = record.record_type;
        let place = table::record(record_type);
        // What other parts of the kernel write into an event is not rebuilt.
        if rebuilt.may_have(record_type) || record_type.standing() != Standing::Inside {
            comparison.unknown(place);
            for field in record.fields() {
                comparison.unknown(table::field(record_type, field.name));
            }
        } else {
            comparison.wrong(place, Some(record.body), None);
        }
    }
    if ordered {
        comparison.identical(table::order());
    } else {
        let types = |types: Vec<String>| types.join(" ").into_bytes();
        let audit = types(records.iter().map(|r| r.record_type.to_string()).collect());
        let ours = types(
            rebuilt
                .records
                .iter()
                .map(|r| r.record_type.to_string())
                .collect(),
        );
        comparison.wrong(table::order(), Some(&audit), Some(&ours));
    }
}

/// The record of the kernel's that `ours` is to be compared with: the next of its type, and of PATH records the one of the same
/// number, or where that is not known the next one that is the same to the call.
fn counterpart<'a>(
    ours: &RebuiltRecord,
    records: &'a Records,
    taken: &[bool],
) -> Option<(usize, Record<'a>)> {
    let same = |record: &Record<'_>, name: &str| {
        let Some(field) = ours.field(name).filter(|field| field.source.is_some()) else {
            return true;
        };
        let theirs = record.field(name.as_bytes());
        theirs.is_some_and(|value| is_text(value, ours.text(field)))
    };
    let numbered = ours.field("item").is_some_and(|item| item.source.is_some());
    let told_by: &[&str] = match ours.record_type {
        RecordType::PATH if numbered => &["item"],
        RecordType::PATH => &["nametype", "name"],
        _ => &[],
    };
    let mut places = records.iter().zip(taken).enumerate();
    places
        .find(|(_, (record, taken))| {
            !**taken
                && record.record_type == ours.record_type
                && told_by.iter().all(|name| same(record, name))
        })
        .map(|(at, (record, _))| (at, record))
}

/// Whether `value` was written as `text`.
fn is_text(value: Value<'_>, text: &[u8]) -> bool {
    match value {
        Value::Bare(bare) => bare == text,
        Value::Quoted(inner) => {
            text.strip_prefix(b"\"")
                .and_then(|text| text.strip_suffix(b"\""))
                == Some(inner)
        }
        Value::SingleQuoted(_) | Value::Unterminated(_) => false,
    }
}

struct Comparison<'a> {
    call: &'a str,
    table: &'a mut Table,
}

impl Comparison<'_> {
    /// Compares the fields of two records; whether they come in the same order.
    fn fields(&mut self, record: Record<'_>, ours: &RebuiltRecord, rebuilt: &Rebuilt) -> bool {
        let record_type = record.record_type;
        let mut ordered = true;
        let mut next = 0;
        let mut taken = vec![false; ours.fields.len()];
        for theirs in record.fields() {
            let place = table::field(record_type, theirs.name);
            let named = |at: &usize| ours.fields[*at].name.as_bytes() == theirs.name;
            // From where the last one was, as a list of arguments may be long.
            let Some(at) = (next..taken.len()).chain(0..next).find(named) else {
                // The rest of a list of which only the beginning is known.
                if record_type == RecordType::EXECVE && rebuilt.may_have(record_type) {
                    self.unknown(place);
                } else {
                    self.wrong(place, Some(theirs.value.raw()), None);
                }
                continue;
            };
            taken[at] = true;
            ordered &= at >= next;
            next = at;
            let field = &ours.fields[at];
            let text = ours.text(field);
            if field.source.is_none() {
                self.unknown(place);
            } else if is_text(theirs.value, text) {
                self.identical(place);
            } else {
                self.wrong(place, Some(theirs.value.raw()), Some(text));
            }
        }
        for (field, _) in ours.fields.iter().zip(taken).filter(|(_, taken)| !taken) {
            // Of what is not known it is not said that it is there.
            if field.source.is_some() {
                let place = table::field(record_type, field.name.as_bytes());
                self.wrong(place, None, Some(ours.text(field)));
            }
        }
        ordered
    }

    fn identical(&mut self, place: Place) {
        self.table.fields.entry(place).or_default().identical += 1;
    }

    fn unknown(&mut self, place: Place) {
        self.table.fields.entry(place).or_default().unknown += 1;
    }

    fn wrong(&mut self, place: Place, audit: Option<&[u8]>, rebuilt: Option<&[u8]>) {
        let tally = self.table.fields.entry(place).or_default();
        tally.wrong += 1;
        tally.example.get_or_insert_with(|| {
            let shown = |bytes: &[u8]| {
                let cut = &bytes[..bytes.len().min(Example::BYTES)];
                let more = if cut.len() < bytes.len() { "…" } else { "" };
                format!("{}{more}", cut.escape_ascii())
            };
            Arc::new(Example {
                call: self.call.to_owned(),
                audit: audit.map(shown),
                rebuilt: rebuilt.map(shown),
            })
        });
    }
}

#[cfg(test)]
mod tests;
