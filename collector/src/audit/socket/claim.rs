//! Claiming the audit pid, and giving it back.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::{Batch, EventSocket, KEPT_LIMIT, Kept, send};
use crate::audit::client::{Client, ClientError, Operation};
use crate::audit::message::{self, Kind};
use crate::audit::status::{self, StatusField};
use crate::audit::sys;
use crate::clock::KtimeNs;

/// How long [`EventSocket::claim`] waits for the kernel's answer.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

impl EventSocket {
    /// Registers this process as the audit daemon, with this socket as the one records are sent to. Records that
    /// arrive before the kernel's answer are handed out by the next [`EventSocket::receive`].
    ///
    /// # Errors
    /// [`ClientError::PidHeld`] where another daemon lives, and whatever else the kernel refuses.
    pub fn claim(&mut self) -> Result<(), ClientError> {
        let operation = Operation::Claim;
        self.sequence = self.sequence.wrapping_add(1);
        let change = status::encode_set(StatusField::Pid, std::process::id());
        let request = message::request(message::AUDIT_SET, self.sequence, &change);
        send(&self.socket, &request).map_err(|source| ClientError::System { operation, source })?;
        let answer = self.await_acknowledgement(operation);
        // Where the answer did not come, the kernel may have registered us all the same.
        self.claimed |= !matches!(answer, Ok(..0));
        match answer? {
            error @ ..0 => Err(ClientError::refused(operation, -error)),
            _ => Ok(()),
        }
    }

    /// Gives the audit pid back. What the kernel had already sent can still be received. The request goes over a
    /// socket of its own, so that its answer need not be looked for behind a full buffer of records.
    ///
    /// # Errors
    /// [`ClientError::NotHolder`] where another process holds the pid, and whatever else the kernel refuses.
    pub fn release(&mut self) -> Result<(), ClientError> {
        Client::connect()?.release_pid()?;
        self.claimed = false;
        Ok(())
    }

    /// Waits for the answer to request `self.sequence` and keeps everything else.
    fn await_acknowledgement(&mut self, operation: Operation) -> Result<i32, ClientError> {
        let deadline = KtimeNs::now().plus(CLAIM_TIMEOUT);
        let mut batch = Batch::new();
        loop {
            let left = deadline.since(KtimeNs::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut {
                    operation,
                    after: CLAIM_TIMEOUT,
                });
            }
            let records = self.kept.len();
            if records + Batch::MAX_DATAGRAMS > KEPT_LIMIT {
                return Err(ClientError::AnswerBehind { operation, records });
            }
            match sys::wait_readable(self.socket.as_fd(), left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                ready => {
                    ready.map_err(|source| ClientError::System { operation, source })?;
                }
            }
            batch.clear();
            match self.read(&mut batch, Batch::MAX_DATAGRAMS) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.counts.overruns += 1;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(source) => return Err(ClientError::System { operation, source }),
            }
            let mut answer = None;
            for datagram in batch.iter() {
                match datagram.kind() {
                    Kind::Acknowledgement { error } if datagram.sequence == self.sequence => {
                        answer = Some(error.ok_or(ClientError::MalformedReply {
                            operation,
                            message_type: datagram.message_type,
                            length: datagram.length,
                        }));
                    }
                    _ => self.kept.push_back(Kept {
                        raw: datagram.raw.into(),
                        length: datagram.length,
                        arrived: datagram.arrived,
                    }),
                }
            }
            if let Some(answer) = answer {
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::socket::SocketError;

    #[test]
    fn an_answer_behind_more_records_than_are_kept_is_not_called_late() {
        let mut socket = match EventSocket::unicast(None) {
            Err(SocketError::NoAudit) => return,
            opened => opened.unwrap(),
        };
        let record = || Kept {
            raw: Box::default(),
            length: 0,
            arrived: KtimeNs(0),
        };
        socket.kept.extend((0..KEPT_LIMIT).map(|_| record()));
        let error = socket.await_acknowledgement(Operation::Claim).unwrap_err();
        assert!(
            matches!(error, ClientError::AnswerBehind { records, .. } if records == KEPT_LIMIT),
            "{error}"
        );
        assert!(ClientError::LABELS.contains(&error.label()));
    }
}
