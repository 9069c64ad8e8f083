//! Rule files: reading them, what they ask for, whether the kernel has it, and bringing it there.
//!
//! ```text
//! paths ─▶ source ─▶ order ─▶ language::parse_line ─▶ RuleSet ─▶ wanted ─▶ difference, load
//!                                                        └─────▶ check
//! ```
//!
//! Owns files and folders of rules, their order, and the end state they ask for. The language of a line is
//! [`crate::audit::language`], the requests are [`crate::audit::client`]. Knows nothing of commands and output.
//!
//! A file alone is taken in its own order, as `auditctl -R` does. A folder, or more than one path, is put together as
//! augenrules(8) does: `*.rules` in the order of `ls -v`, the last `-D` first, then the last `-b`, the last `-f`, the
//! rest, and the last `-e` at the very end.
//!
//! Bounds: [`source::FILE_BYTES`] per file, [`source::LINE_BYTES`] per line, [`source::LINES`] lines and
//! [`source::FILES`] files in all.

pub mod check;
mod difference;
mod host;
mod load;
mod order;
mod place;
mod plan;
mod replace;
mod set;
pub mod source;
mod wanted;

pub use difference::{Difference, difference};
pub use host::LocalHost;
pub use load::{Changed, LineError, LoadError, Loaded, Refusal, load, with_sources};
pub use place::{Place, SourceLine, printable};
pub use replace::replace;
pub use set::{Entry, OnError, RuleSet};
pub use source::{ReadError, Trust};
pub use wanted::{Asked, Setting, Wanted, WantedRule, has_key_like};
