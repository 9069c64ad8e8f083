//! Options that are neither rules nor settings: lists, the status, messages, and what is done once.
//!
//! Owns what stands beside them on a line. Each ends its line: auditctl looks at nothing after it.

use super::Directive;
use super::fault::Fault;
use super::options::{Found, Switch};
use super::words::Word;
use crate::audit::feature::Feature;
use crate::audit::status::StatusField;

/// What a line asks for that has nothing but `-D`, `-l`, `-R` or `-s` on it, with what these take.
pub(super) fn whole_line(words: &[Word]) -> Option<Vec<Directive>> {
    let texts: [&[u8]; 3] =
        std::array::from_fn(|index| words.get(index).map_or(&b""[..], |word| &word.text));
    let key = || (!texts[2].is_empty()).then(|| texts[2].into());
    Some(match (words.len(), texts) {
        (1, [b"-D", ..]) => vec![Directive::DeleteAll { key: None }],
        (3, [b"-D", b"-k", _]) => vec![Directive::DeleteAll { key: key() }],
        (1, [b"-l", ..]) => vec![Directive::List { key: None }],
        (2, [b"-l", b"-i", _]) => vec![Directive::Interpret, Directive::List { key: None }],
        (3, [b"-l", b"-k", _]) => vec![Directive::List { key: key() }],
        (2, [b"-s", b"-i", _]) => vec![Directive::Interpret, Directive::Status],
        (2, [b"-R", path, _]) => vec![Directive::Read { path: path.into() }],
        _ => return None,
    })
}

/// What an option asks for.
pub(super) fn command(found: &Found, words: &[Word]) -> Result<Directive, Fault> {
    let refused = |what: &str| Err(Fault::new(found.span.clone(), what));
    Ok(match found.option {
        Switch::Continue => Directive::ContinueOnErrors,
        Switch::Ignore => Directive::IgnoreErrors,
        Switch::Trim => Directive::Trim,
        Switch::Version => Directive::Version,
        Switch::Help => Directive::Help,
        Switch::ResetLost => Directive::Reset {
            field: StatusField::Lost,
        },
        Switch::ResetWaitTime => Directive::Reset {
            field: StatusField::BacklogWaitTimeActual,
        },
        Switch::LoginuidImmutable => Directive::Lock {
            feature: Feature::LoginuidImmutable,
        },
        Switch::Status if words.len() <= 2 => Directive::Status,
        Switch::Status => return refused("`-s` takes nothing but `-i` beside it"),
        Switch::List => return refused("`-l` takes nothing but `-i` or `-k key` beside it"),
        Switch::DeleteAll => return refused("`-D` takes nothing but `-k key` beside it"),
        Switch::Read => return refused("`-R` takes nothing but a file beside it"),
        Switch::Message => message(&found.value, words)?,
        Switch::Equivalent => equivalent(&found.value)?,
        _ => {
            let fault = Fault::new(found.span.clone(), "signals are not sent from here");
            let suggestion = "send it to the process that `-s` shows, or ask the service manager";
            return Err(fault.suggest(suggestion));
        }
    })
}

fn message(value: &Word, words: &[Word]) -> Result<Directive, Fault> {
    if words.len() > 2 {
        let what = "`-m` takes one text and nothing else beside it";
        return Err(Fault::new(value.span(), what));
    }
    match value.text.iter().position(|byte| !(32..128).contains(byte)) {
        Some(at) => {
            let what = "a message is of printable ASCII characters";
            Err(Fault::new(value.span_of(at..at + 1), what))
        }
        None => Ok(Directive::Message {
            text: value.text.clone().into(),
        }),
    }
}

fn equivalent(value: &Word) -> Result<Directive, Fault> {
    let mut parts = value.text.split(|byte| *byte == b',');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(mount), Some(subtree), None) if !mount.is_empty() && !subtree.is_empty() => {
            Ok(Directive::MakeEquivalent {
                mount: mount.into(),
                subtree: subtree.into(),
            })
        }
        _ => {
            let what = "`-q` takes a mount point, a comma and a subtree";
            Err(Fault::new(value.span(), what))
        }
    }
}
