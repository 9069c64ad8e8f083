//! Reading files and folders of rules.
//!
//! Owns opening, the bounds, and the check of who may have written a file. Changes nothing and needs no privileges
//! beyond reading.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::order::{self, Arranged};
use super::place::{Place, SourceLine, printable};

/// Most bytes of a file.
pub const FILE_BYTES: u64 = 8 << 20;

/// Most bytes of a line.
pub const LINE_BYTES: usize = 32 << 10;

/// Most lines with something on them, of all files together.
pub const LINES: usize = 65_536;

/// Most files.
pub const FILES: usize = 4_096;

/// Who may have written a file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever. For looking at rules.
    Anyone,
    /// Root alone: the file is root's, not writable by everybody, and a regular file. For loading, as auditctl asks.
    Root,
}

/// Why rules could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or folder could not be read.
    #[error("cannot read {}", printable(path.as_os_str().as_bytes()))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A folder has no file of rules in it.
    #[error("no *.rules file in {}", printable(path.as_os_str().as_bytes()))]
    NoRules {
        /// The folder.
        path: PathBuf,
    },
    /// A folder has something in it that is called like a file of rules and is none.
    #[error("{} is not a regular file", printable(path.as_os_str().as_bytes()))]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else than root may have written the file.
    #[error(
        "{} is not loaded: {why}",
        printable(path.as_os_str().as_bytes())
    )]
    NotTrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A file is too long.
    #[error(
        "{} is longer than {FILE_BYTES} bytes",
        printable(path.as_os_str().as_bytes())
    )]
    FileTooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is too long.
    #[error("{place}: the line is longer than {LINE_BYTES} bytes")]
    LineTooLong {
        /// The line.
        place: Place,
    },
    /// There are too many lines.
    #[error("more than {LINES} lines of rules")]
    TooManyLines,
    /// There are too many files.
    #[error("more than {FILES} files of rules")]
    TooManyFiles,
}

/// The lines of `paths` in the order they are loaded in, without comments and empty ones.
pub(super) fn read(paths: &[impl AsRef<Path>], trust: Trust) -> Result<Arranged, ReadError> {
    let mut lines = Vec::new();
    let mut arrange = paths.len() > 1;
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path.is_dir() {
            arrange = true;
            files.extend(files_of(path)?);
        } else {
            files.push(path.to_owned());
        }
        if files.len() > FILES {
            return Err(ReadError::TooManyFiles);
        }
    }
    for file in files {
        split(&file, &contents(&file, trust)?, &mut lines)?;
    }
    Ok(match arrange {
        true => order::arrange(lines),
        false => Arranged {
            lines,
            replaced: Vec::new(),
        },
    })
}

/// The lines of one file in their order, without comments and empty ones.
///
/// # Errors
/// Where it cannot be read, is out of bounds, or must not be trusted.
pub fn read_file(path: &Path, trust: Trust) -> Result<Vec<SourceLine>, ReadError> {
    let mut lines = Vec::new();
    split(path, &contents(path, trust)?, &mut lines)?;
    Ok(lines)
}

/// The `*.rules` of a folder in the order of `ls -v`, without hidden ones.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let failed = |source| ReadError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut names: Vec<OsString> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_bytes();
        if bytes.ends_with(b".rules") && !bytes.starts_with(b".") {
            if names.len() == FILES {
                return Err(ReadError::TooManyFiles);
            }
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(ReadError::NoRules {
            path: folder.to_owned(),
        });
    }
    names.sort_by(|a, b| order::by_version(a.as_bytes(), b.as_bytes()));
    let files: Vec<PathBuf> = names.into_iter().map(|name| folder.join(name)).collect();
    for path in &files {
        // A named pipe would be waited for. Who names one knows what is to come out of it.
        match fs::metadata(path) {
            Ok(about) if !about.is_file() => {
                return Err(ReadError::NotAFile { path: path.clone() });
            }
            _ => {}
        }
    }
    Ok(files)
}

fn contents(path: &Path, trust: Trust) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let file = File::options()
        .read(true)
        .custom_flags(match trust {
            Trust::Anyone => 0,
            Trust::Root => libc::O_NONBLOCK,
        })
        .open(path)
        .map_err(failed)?;
    if trust == Trust::Root {
        let about = file.metadata().map_err(failed)?;
        let why = match about {
            _ if !about.is_file() => Some("it is not a regular file"),
            _ if about.uid() != 0 => Some("it is not owned by root"),
            _ if about.mode() & libc::S_IWOTH != 0 => Some("everybody may write it"),
            _ => None,
        };
        if let Some(why) = why {
            return Err(ReadError::NotTrusted {
                path: path.to_owned(),
                why,
            });
        }
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(ReadError::FileTooLong {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn split(path: &Path, bytes: &[u8], lines: &mut Vec<SourceLine>) -> Result<(), ReadError> {
    let file: Arc<Path> = path.into();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if matches!(text.trim_ascii(), [] | [b'#', ..]) {
            continue;
        }
        let place = Place {
            file: Arc::clone(&file),
            line,
        };
        if text.len() > LINE_BYTES {
            return Err(ReadError::LineTooLong { place });
        }
        if lines.len() == LINES {
            return Err(ReadError::TooManyLines);
        }
        lines.push(SourceLine {
            place,
            text: text.into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn texts(arranged: &Arranged) -> Vec<String> {
        arranged.lines.iter().map(SourceLine::printable).collect()
    }

    #[test]
    fn a_folder_is_read_as_augenrules_does_and_a_file_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("10-b.rules", "-w /ten\n-e 2\n");
        write("9-a.rules", "# a comment\n\n   # another\n-w /nine\n-D\n");
        write(".11-hidden.rules", "-w /hidden\n");
        write("12-note.txt", "-w /note\n");
        let whole = read(&[folder.path()], Trust::Anyone).unwrap();
        assert_eq!(texts(&whole), ["-D", "-w /nine", "-w /ten", "-e 2"]);
        assert_eq!(whole.lines[1].place.line, 4);
        let one = read(&[folder.path().join("9-a.rules")], Trust::Anyone).unwrap();
        assert_eq!(texts(&one), ["-w /nine", "-D"]);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.rules");
        let error = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            read(&[&file], Trust::Anyone).unwrap_err().to_string()
        };
        let long = [b"-D\n".as_slice(), &[b'x'; LINE_BYTES + 1]].concat();
        assert!(error(&long).ends_with("a.rules:2: the line is longer than 32768 bytes"));
        let many = b"x\n".repeat(LINES + 1);
        assert_eq!(error(&many), "more than 65536 lines of rules");
        assert!(error(&vec![b'\n'; FILE_BYTES as usize + 1]).contains("is longer than 8388608"));
        fs::remove_file(&file).unwrap();
        let empty = read(&[folder.path()], Trust::Anyone).unwrap_err();
        assert!(empty.to_string().starts_with("no *.rules file in "));
        assert!(matches!(
            read(&[&file], Trust::Anyone),
            Err(ReadError::Io { .. })
        ));
    }

    #[test]
    fn a_pipe_in_a_folder_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("a.rules");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = read(&[folder.path()], Trust::Anyone).unwrap_err();
        assert!(matches!(error, ReadError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn what_others_may_have_written_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.rules");
        fs::write(&file, "-D\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap();
        assert!(matches!(
            read(&[&file], Trust::Root),
            Err(ReadError::NotTrusted { .. })
        ));
        assert!(read(&[&file], Trust::Anyone).is_ok());
        assert!(matches!(
            read(&["/dev/null"], Trust::Root),
            Err(ReadError::NotTrusted { .. })
        ));
    }
}
