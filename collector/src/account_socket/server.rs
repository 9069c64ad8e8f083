//! Serves the account on the collector's socket.
//!
//! A client has `CLIENT_TIME` to take its document; a client that does not read holds nothing up but its own place,
//! of which there are `CLIENTS`. Whoever comes when all are taken waits in the kernel's queue.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::document::{Document, Identity};
use super::folder::{self, FolderError};
use crate::account::Account;

/// Most clients at a time.
const CLIENTS: usize = 8;
/// How long one may take to read.
const CLIENT_TIME: Duration = Duration::from_secs(2);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The socket itself.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket that is there and does not serve yet. It goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes this process's socket in `folder`, and the folder where it is not there; takes sockets away that collectors
    /// left behind which were killed. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the folder is not safe, or the socket cannot be made.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        folder::prepare(folder)?;
        folder::sweep(folder);
        let path = folder.join(folder::socket_name(std::process::id()));
        let error = |source| OpenError::Listen {
            path: path.clone(),
            source,
        };
        let listener = UnixListener::bind(&path).map_err(error)?;
        let server = Self {
            listener,
            path: path.clone(),
        };
        // Whoever connects before is turned away by `is_welcome`.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(error)?;
        Ok(server)
    }

    /// Serves until `shutdown`.
    pub async fn serve(
        self,
        accounts: watch::Receiver<Arc<Account>>,
        identity: Identity,
        shutdown: impl Future<Output = ()>,
    ) {
        let identity = Arc::new(identity);
        let places = Arc::new(Semaphore::new(CLIENTS));
        let mut clients = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                () = &mut shutdown => break,
                stream = self.accept() => stream,
            };
            while clients.try_join_next().is_some() {}
            let Some(stream) = stream else { continue };
            let place = tokio::select! {
                () = &mut shutdown => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let (account, identity) = (Arc::clone(&accounts.borrow()), Arc::clone(&identity));
            clients.spawn(async move {
                // One that does not take it in time is cut off.
                let _taken_or_not = timeout(CLIENT_TIME, answer(stream, &account, &identity)).await;
                drop(place);
            });
        }
    }

    /// The next client that may know.
    async fn accept(&self) -> Option<UnixStream> {
        match self.listener.accept().await {
            Ok((stream, _)) => is_welcome(&stream).then_some(stream),
            Err(error) => {
                // Out of descriptors, or the client went away: neither goes by asking again at once.
                tracing::debug!(%error, "cannot accept a client of the account socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_welcome(stream: &UnixStream) -> bool {
    let own = geteuid().as_raw();
    (stream.peer_cred()).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn answer(mut stream: UnixStream, account: &Account, identity: &Identity) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Document::of(account, identity))?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}
