//! Reads the accounts of the collectors that run on this host.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Document, VERSION};
use super::folder::{self, FolderError};

/// Longest document that is read; a full one has some 60 KiB.
const DOCUMENT_BYTES: u64 = 1 << 20;
/// How long a collector may take for each part of it.
const TIME: Duration = Duration::from_secs(2);

/// A collector that runs.
#[derive(Debug)]
pub struct Found {
    /// Its socket.
    pub socket: PathBuf,
    /// Its account.
    pub account: Result<Document, ReadError>,
}

/// Why an account cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket.
    #[error("cannot read the account")]
    Read(#[from] io::Error),
    /// Not what a collector says.
    #[error("not an account")]
    Parse(#[from] serde_json::Error),
    /// A collector of another version.
    #[error("the account has version {version}, and this program knows version {VERSION}")]
    Version {
        /// Which.
        version: u64,
    },
}

/// The collectors whose sockets are in `folder`, by process.
///
/// # Errors
/// Where the folder cannot be read.
pub fn find(folder: &Path) -> Result<Vec<Found>, FolderError> {
    let sockets = folder::sockets(folder)?.into_iter();
    let found = sockets.filter_map(|(_, socket)| match read(&socket) {
        // Left behind by one that was killed, or gone since we looked.
        Err(ReadError::Read(error))
            if [ErrorKind::ConnectionRefused, ErrorKind::NotFound].contains(&error.kind()) =>
        {
            None
        }
        account => Some(Found { socket, account }),
    });
    Ok(found.collect())
}

fn read(socket: &Path) -> Result<Document, ReadError> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIME))?;
    let mut text = Vec::new();
    stream.take(DOCUMENT_BYTES).read_to_end(&mut text)?;
    let value: serde_json::Value = serde_json::from_slice(&text)?;
    match value["v"].as_u64() {
        Some(version) if version != u64::from(VERSION) => Err(ReadError::Version { version }),
        _ => Ok(serde_json::from_value(value)?),
    }
}
