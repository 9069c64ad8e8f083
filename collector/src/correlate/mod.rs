//! Matches the audit stream with the eBPF witness, and says of each event what became of it.
//!
//! Owns matching, the windows in which both sides wait for each other, the evidence that tells causes of loss, and the
//! ledger. Takes [`AuditEvent`](crate::audit::event::AuditEvent)s, [`Observation`](crate::probe::observation::Observation)s,
//! status samples and a time; gives [`Output`](crate::event::Output)s. Must not know sockets, BPF, files or wire formats,
//! and reads no clock.
//!
//! Bounds: [`Limits`](limits::Limits) caps how many observations and events wait; what is settled early because of them
//! is counted with the cause `window_full`.

pub mod evidence;
mod fragment;
mod given_back;
pub mod key;
pub mod ledger;
pub mod limits;
mod losses;
pub mod matcher;
mod neighbours;
mod observations;
mod operations;
mod progress;
mod queues;
mod serials;
mod spare;
mod unexplained;
mod waiting;
pub mod witness;

#[cfg(test)]
mod tests;
