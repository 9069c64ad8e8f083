//! The `records` of an event: each as the kernel wrote it. And its `rebuilt` records: each as it would have.

use crate::audit::event::Records;
use crate::audit::record::Provenance;
use crate::output::json::writer::Object;
use crate::rebuild::{Rebuilt, RebuiltRecord, Source};

/// Adds `records`.
pub(super) fn write(records: &Records, line: &mut Object<'_>) {
    line.array("records", |array| {
        for record in records {
            array.object(|object| {
                match record.record_type.name() {
                    Some(name) => object.string("type", name),
                    None => object.plain("type", record.record_type),
                }
                object.bytes("body", record.body);
                if let Some(enrichment) = record.enrichment {
                    object.bytes("enrichment", enrichment);
                }
                if let Provenance::Mirror(cause) = record.provenance {
                    object.string("provenance", "mirror");
                    object.string("cause", cause.name());
                }
            });
        }
    });
}

/// Adds `rebuilt`.
pub(super) fn write_rebuilt(rebuilt: &Rebuilt, line: &mut Object<'_>) {
    line.object("rebuilt", |object| {
        object.boolean("complete", rebuilt.is_complete());
        object.array("unknown_records", |array| {
            for record_type in &rebuilt.unknown {
                array.string(record_type.name().unwrap_or("?"));
            }
        });
        object.array("records", |array| {
            for record in &rebuilt.records {
                array.object(|object| write_rebuilt_record(record, object));
            }
        });
    });
}

fn write_rebuilt_record(record: &RebuiltRecord, object: &mut Object<'_>) {
    object.plain("type", record.record_type);
    object.bytes("body", &record.body);
    let names = |name: &str, source: Option<Source>, object: &mut Object<'_>| {
        let of_source = record.fields.iter().filter(|field| field.source == source);
        if of_source.clone().next().is_some() {
            object.array(name, |array| {
                of_source.for_each(|field| array.string(&field.name))
            });
        }
    };
    names("unknown", None, object);
    object.object("from", |object| {
        for source in Source::ALL {
            names(source.name(), Some(source), object);
        }
    });
}
