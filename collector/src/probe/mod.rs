//! The eBPF witness, user side: what the kernel allows, loading, the rule mirror, the ring, decoding.

pub mod btf;
pub mod calls;
mod compile;
pub mod decode;
pub mod error;
pub mod features;
pub mod load;
mod log;
pub mod mirror;
pub mod names;
pub mod observation;
pub mod ring;
mod watch;
