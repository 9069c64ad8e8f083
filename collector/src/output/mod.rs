//! From [`crate::event::Output`] to bytes that leave the collector.
//!
//! The renderers ([`json`], [`raw`]) turn one output into the lines of one format and do no I/O; [`sink`] carries finished
//! lines to standard output or a file and knows no format. What a line says beyond the domain's words (names of calls and
//! errors, socket addresses) is decoded here, at the edge; the domain types stay bytes and numbers.

pub mod abi;
pub mod identity;
pub mod json;
pub mod raw;
pub mod render;
pub mod sink;
pub mod sockaddr;
#[cfg(test)]
pub(crate) mod testing;

use crate::config::{OutputConfig, Target};

/// The sink that `config` asks for.
pub fn sink_config(config: &OutputConfig) -> sink::SinkConfig {
    let name = match config.target {
        Target::Stdout => "stdout",
        Target::File(_) => "file",
    };
    sink::SinkConfig {
        name: name.to_owned(),
        target: config.target.clone(),
        queue_bytes: config.queue_bytes,
    }
}
