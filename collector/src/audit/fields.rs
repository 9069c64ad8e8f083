//! The name=value fields of a record body.
