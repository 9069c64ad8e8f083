//! The language of auditctl(8): rules and settings as people write them, on a command line or in a rule file.
//!
//! Owns the way from words to [`Directive`]s and from rules back to words. What a host has to be asked (ids of names,
//! whether a path is a directory) comes through [`Host`], so nothing here does I/O. Where files of rules come from and
//! how they are loaded is `crate::ruleset`.

pub mod calls;
pub mod directive;
pub mod errno;
pub mod families;
pub mod fault;
pub mod filesystems;
pub mod host;
mod print;
mod text;

pub use directive::{Directive, Line};
pub use fault::Fault;
pub use host::Host;
