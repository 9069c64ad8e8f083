//! Registers file descriptors with the runtime; the only unsafe code of the pipeline.

use std::io;

use tokio::io::unix::AsyncFd;

use crate::audit::socket::EventSocket;
use crate::probe::ring::Ring;

/// The event socket, woken when it can be read.
pub(super) fn watch_socket(socket: EventSocket) -> io::Result<AsyncFd<EventSocket>> {
    // SAFETY: `EventSocket` owns its descriptor, keeps it open until it is dropped, and names no other.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

/// The ring buffer, woken when the programs say so.
pub(super) fn watch_ring(ring: Ring) -> io::Result<AsyncFd<Ring>> {
    // SAFETY: `Ring` owns its map's descriptor, keeps it open until it is dropped, and names no other.
    unsafe { AsyncFd::register(ring) }.map_err(Into::into)
}
