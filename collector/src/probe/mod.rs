//! The eBPF witness, user side: what the kernel allows, loading, the rule mirror, the ring, decoding.

pub mod btf;
pub mod calls;
mod compile;
pub mod decode;
pub mod error;
pub mod features;
mod files;
pub mod hooks;
pub mod load;
mod log;
pub mod mirror;
pub mod names;
pub mod notes;
pub mod observation;
pub mod places;
mod program;
pub mod resolve;
pub mod ring;
pub mod settle;
pub mod texts;
mod tracepoints;
mod watch;
