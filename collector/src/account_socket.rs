//! The account as another process of this host reads it: a unix socket that gives one JSON document to whoever connects.
//!
//! Owns where the sockets are, how they come and go, and the document. Each collector has a socket of its own,
//! `account-PID.sock`, so that two on a host are not in each other's way and `status` finds both. Only root, and the user
//! the collector runs as, can connect; nothing is read from them.
//!
//! Bounds: the server's `CLIENTS` and `CLIENT_TIME`, the client's `SOCKETS` and `DOCUMENT_BYTES`.

mod client;
pub mod document;
mod folder;
mod server;

pub use client::{Found, ReadError, find};
pub use document::{Document, Identity};
pub use folder::FolderError;
pub use server::{OpenError, Server};

#[cfg(test)]
mod tests;
