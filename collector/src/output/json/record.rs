//! The `records` of an event: each as the kernel wrote it.

use crate::audit::record::Record;
use crate::output::json::writer::Object;

/// Adds `records`.
pub(super) fn write(records: &[Record], line: &mut Object<'_>) {
    line.array("records", |array| {
        for record in records {
            array.object(|object| {
                match record.record_type.name() {
                    Some(name) => object.string("type", name),
                    None => object.plain("type", record.record_type),
                }
                object.bytes("body", &record.body);
                if let Some(enrichment) = &record.enrichment {
                    object.bytes("enrichment", enrichment);
                }
            });
        }
    });
}
