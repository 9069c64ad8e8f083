//! audit-collector: accounts for every event the kernel's audit subsystem should have reported.
//!
//! The tree is the data flow, from the kernel to the sink:
//!
//! ```text
//! audit::socket ─▶ audit::parse ─▶ audit::reassemble ──┐ AuditEvent
//!   (own socket) audit::client ─▶ status, rules ─────┐ │
//!                                                    ▼ ▼
//! probe::ring ─▶ probe::decode ─▶ Observation ─▶ correlate ─▶ event::Output ─▶ output
//!                                                    │
//!                                                    └─▶ correlate::ledger ─▶ metrics ─▶ http
//! ```
//!
//! `parse`, `reassemble`, `correlate` and the renderers do no I/O and read no clock: they take bytes
//! and a time. Sockets, `/proc`, BPF and files live in `audit::socket`, `audit::client`, `probe::load`,
//! `probe::ring`, `output::sink`, `http` and `pipeline`.

pub mod account;
pub mod account_socket;
pub mod audit;
pub mod byte_string;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod core;
pub mod correlate;
mod digits;
pub mod enrich;
pub mod event;
pub mod http;
mod lanes;
pub mod metrics;
pub mod output;
pub mod pipeline;
pub mod probe;
pub mod rebuild;
pub mod ruleset;
pub mod verify;
