//! From [`crate::event::Output`] to bytes that leave the collector.
//!
//! Renderers turn one output into the lines of one format and do no I/O; `sink` carries finished
//! lines to standard output or a file and knows no format. Wire types stay in here: the domain types carry no serde.

pub mod sink;
