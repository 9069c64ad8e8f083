//! Records into events.
