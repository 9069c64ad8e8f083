//! Holes in the serials of the audit stream.
