//! Registers file descriptors with the runtime, and hands memory back; the only unsafe code of the pipeline.

use std::io;

use tokio::io::unix::AsyncFd;

use crate::probe::ring::Ring;

/// The ring buffer, woken when the programs say so.
pub(super) fn watch_ring(ring: Ring) -> io::Result<AsyncFd<Ring>> {
    // SAFETY: `Ring` owns its map's descriptor, keeps it open until it is dropped, and names no other.
    unsafe { AsyncFd::register(ring) }.map_err(Into::into)
}

/// Hands memory that is free again back to the kernel. glibc keeps it otherwise, and what it took to read the kernel's types
/// is never needed again.
pub(super) fn hand_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` only looks at memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}
