//! The folder of the sockets, and which socket in it is whose.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};

/// Most sockets looked at, of collectors that live and of such as were killed.
const SOCKETS: usize = 64;

/// Why the folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made, or not read.
    #[error("cannot use {}", path.display())]
    Use {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others could put a socket of theirs in the place of ours.
    #[error("{} is not a folder that only root and its owner, this user, may write", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
    },
}

/// Makes the folder where it is not there, and sees to it that nobody else may write in it.
pub(super) fn prepare(path: &Path) -> Result<(), FolderError> {
    let error = |source| FolderError::Use {
        path: path.to_owned(),
        source,
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => return Err(error(source)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(error)?;
    let ours = found.uid() == geteuid().as_raw() || found.uid() == 0;
    if !found.is_dir() || !ours || found.mode() & 0o022 != 0 {
        return Err(FolderError::Unsafe {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// The name of the socket of process `pid`.
pub(super) fn socket_name(pid: u32) -> String {
    format!("account-{pid}.sock")
}

/// The sockets there are, by process; none where there is no folder.
pub(super) fn sockets(path: &Path) -> Result<Vec<(u32, PathBuf)>, FolderError> {
    let error = |source| FolderError::Use {
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(error)?,
    };
    let mut sockets = Vec::new();
    for entry in entries.take(SOCKETS) {
        let entry = entry.map_err(error)?;
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if let Some(pid) = pid_of(&entry.file_name())
            && is_socket
        {
            sockets.push((pid, entry.path()));
        }
    }
    sockets.sort_unstable();
    Ok(sockets)
}

/// Removes the sockets of collectors that were killed: nobody listens, and there is no such process. A process that
/// cannot be seen from here may live in another pid namespace, and then it listens.
pub(super) fn sweep(path: &Path) {
    for (pid, socket) in sockets(path).unwrap_or_default() {
        let refused = UnixStream::connect(&socket)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        let own = pid == std::process::id();
        let gone = || match i32::try_from(pid) {
            Ok(pid) => kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH),
            Err(_) => true,
        };
        if refused && (own || gone()) {
            // Another collector may have been quicker.
            let _ = fs::remove_file(socket);
        }
    }
}

fn pid_of(name: &OsStr) -> Option<u32> {
    let digits = name.to_str()?.strip_prefix("account-")?;
    digits.strip_suffix(".sock")?.parse().ok()
}
