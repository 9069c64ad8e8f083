//! The language of auditctl(8): rules and settings as people write them, on a command line or in a rule file.
//!
//! Owns the way from words to [`Directive`]s and from rules back to words. What a host has to be asked (ids of names,
//! whether a path is a directory) comes through [`Host`], so nothing here does I/O. Where files of rules come from and
//! how they are loaded is `crate::ruleset`.

pub mod calls;
mod commands;
pub mod comparisons;
mod condition;
pub mod directive;
pub mod errno;
pub mod families;
pub mod fault;
mod fields;
pub mod filesystems;
pub mod host;
mod number;
mod options;
mod print;
mod reading;
mod syscalls;
mod target;
#[cfg(test)]
mod tests;
mod text;
mod watch;
mod words;

pub use directive::{Directive, Line};
pub use fault::Fault;
pub use host::Host;
pub use words::{ARGUMENTS_LIMIT, LINE_LIMIT, Word, words};

use crate::audit::arch::Arch;
use reading::Reading;

/// What the words of a line ask for, on a machine of architecture `arch`. No words ask for nothing.
///
/// # Errors
/// All faults of the line, as far as one does not follow from another.
pub fn parse(words: &[Word], host: &dyn Host, arch: Arch) -> Result<Line, Vec<Fault>> {
    Reading::new(host, arch).read(words)
}

/// What a line of a rule file asks for on this machine. A comment and an empty line ask for nothing.
///
/// # Errors
/// As [`parse`]; also for what stands on command lines only.
pub fn parse_line(line: &[u8], host: &dyn Host) -> Result<Line, Vec<Fault>> {
    let words = words(line).map_err(|fault| vec![fault])?;
    let line = parse(&words, host, Arch::NATIVE)?;
    for directive in &line.directives {
        let what = match directive {
            Directive::Read { .. } => "a rule file cannot read another with `-R`",
            Directive::Help => "`-h` is for command lines",
            _ => continue,
        };
        let end = words.last().map_or(0, |word| word.span().end);
        return Err(vec![Fault::new(words[0].at..end, what)]);
    }
    Ok(line)
}

/// What the arguments of an auditctl command ask for on this machine.
///
/// # Errors
/// As [`parse`].
pub fn parse_arguments(
    arguments: &[impl AsRef<[u8]>],
    host: &dyn Host,
) -> Result<Line, Vec<Fault>> {
    let words = words::arguments(arguments).map_err(|fault| vec![fault])?;
    parse(&words, host, Arch::NATIVE)
}
