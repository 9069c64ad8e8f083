//! Names and properties of the record types.
