//! The path of `-w` and `-W`.
//!
//! Owns which paths can be watched, and whether as a file or as a tree.

use super::fault::Fault;
use super::fields::PATH_LIMIT;
use super::host::Host;
use super::words::Word;
use crate::audit::rules::Watched;

/// Most bytes of the last part of a path (`NAME_MAX`).
const NAME_LIMIT: usize = 255;

/// What `-w` with this path watches.
pub(super) fn watched<'a>(value: &'a Word, host: &dyn Host) -> Result<Watched<'a>, Fault> {
    let path = value.text.as_slice();
    let refused = |what: String| Err(Fault::new(value.span(), what));
    if path.len() >= PATH_LIMIT {
        return refused(format!("a watched path has less than {PATH_LIMIT} bytes"));
    }
    if path.first() != Some(&b'/') {
        return refused("a watched path begins with `/`".to_owned());
    }
    let path = without_end(path);
    let name = path.rsplit(|byte| *byte == b'/').next();
    if name.is_some_and(|name| name.len() > NAME_LIMIT) {
        return refused(format!(
            "the last part of a watched path has at most {NAME_LIMIT} bytes"
        ));
    }
    Ok(if host.is_directory(path) {
        Watched::Directory(path)
    } else {
        Watched::Path(path)
    })
}

/// A path without slashes at its end. auditctl leaves `//` as it is.
fn without_end(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    match end {
        Some(last) => &path[..=last],
        None if path.len() > 2 => &path[..1],
        None => path,
    }
}
