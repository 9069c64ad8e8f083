//! One netlink socket for requests, and which of its messages answer them.
//!
//! Owns the socket, the sequence numbers, the deadline of each request, and the messages that answered none. Knows
//! nothing of what is asked or answered.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::{ANSWER_BYTES, ClientError, DEFAULT_TIMEOUT, Operation, UNRELATED_LIMIT, Unrelated};
use crate::audit::message::{self, Datagram, Kind};
use crate::audit::socket::{self, Batch, MemoryInfo, SocketError};
use crate::audit::sys::{self, Arrival};
use crate::clock::KtimeNs;

/// Wished size of the receive buffer: the kernel throws away the rest of a list when the reader is slow
/// (kernel/audit.c `audit_send_list_thread`).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// A socket of the audit protocol, bound to a port of its own.
#[derive(Debug)]
pub(super) struct Connection {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
    sequence: u32,
    timeout: Duration,
    /// Whether the kernel could not deliver something since the request was sent.
    overrun: bool,
    /// How often that was so since the socket was opened.
    overruns: u64,
    unrelated: VecDeque<Unrelated>,
}

impl Connection {
    pub(super) fn open() -> Result<Self, SocketError> {
        let mut socket = socket::open_socket()?;
        socket::size_receive_buffer(&socket, Some(RECEIVE_BUFFER))?;
        socket.bind_auto().map_err(|source| SocketError::System {
            operation: "bind",
            source,
        })?;
        Ok(Self {
            socket,
            buffer: vec![0; ANSWER_BYTES],
            sequence: 0,
            timeout: DEFAULT_TIMEOUT,
            overrun: false,
            overruns: 0,
            unrelated: VecDeque::new(),
        })
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) const fn overruns(&self) -> u64 {
        self.overruns
    }

    pub(super) fn memory_info(&self) -> io::Result<MemoryInfo> {
        MemoryInfo::of(&self.socket)
    }

    pub(super) fn take_unrelated(&mut self) -> VecDeque<Unrelated> {
        std::mem::take(&mut self.unrelated)
    }

    /// Sends a request that is answered by an acknowledgement alone, and returns its `error`.
    pub(super) fn command(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
    ) -> Result<i32, ClientError> {
        let deadline = self.send(operation, message_type, payload)?;
        loop {
            let answer =
                self.next_answer(
                    operation,
                    message_type,
                    deadline,
                    |datagram| match datagram.kind() {
                        Kind::Acknowledgement { error } => error
                            .map(Some)
                            .ok_or_else(|| malformed(operation, datagram)),
                        _ => Ok(None),
                    },
                )?;
            if let Some(error) = answer {
                return Ok(error);
            }
        }
    }

    /// Sends a request that is answered by an acknowledgement and one message, which `decode` reads; none where it
    /// cannot be read.
    pub(super) fn query<T>(
        &mut self,
        operation: Operation,
        message_type: u16,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, ClientError> {
        self.exchange(operation, message_type, |datagram| {
            match decode(datagram.payload) {
                None => Err(malformed(operation, datagram)),
                answer => Ok(answer),
            }
        })
    }

    /// Sends a request that is answered by an acknowledgement and a list, of which none may be missing. `take` gets
    /// its messages without the one that ends it.
    pub(super) fn list(
        &mut self,
        operation: Operation,
        message_type: u16,
        mut take: impl FnMut(&[u8]) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        self.exchange(operation, message_type, |datagram| match datagram.kind() {
            Kind::Done => Ok(Some(())),
            _ => take(datagram.payload).map(|()| None),
        })?;
        if self.overrun {
            return Err(ClientError::AnswerLost { operation });
        }
        Ok(())
    }

    /// Sends a request without a payload and gives its answers but for the acknowledgement to `take`, until that
    /// has all it needs.
    fn exchange<T>(
        &mut self,
        operation: Operation,
        message_type: u16,
        mut take: impl FnMut(&Datagram<'_>) -> Result<Option<T>, ClientError>,
    ) -> Result<T, ClientError> {
        let deadline = self.send(operation, message_type, &[])?;
        loop {
            let answer =
                self.next_answer(
                    operation,
                    message_type,
                    deadline,
                    |datagram| match datagram.kind() {
                        Kind::Acknowledgement { error } => {
                            let error = error.ok_or_else(|| malformed(operation, datagram))?;
                            ClientError::check(operation, error).map(|()| None)
                        }
                        _ if datagram.truncated() => Err(malformed(operation, datagram)),
                        _ => take(datagram),
                    },
                )?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
    }

    /// Sends a request and returns when to stop waiting for its answer.
    fn send(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
    ) -> Result<KtimeNs, ClientError> {
        let failed = |source| ClientError::System { operation, source };
        // What waits now answers nothing that is still asked. It must make room: a socket that has once been full
        // gets nothing more until it is empty (net/netlink/af_netlink.c `netlink_rcv_wake`).
        let deadline = KtimeNs::now().plus(self.timeout);
        while let Some(arrival) = self.read().map_err(failed)? {
            if let Some(datagram) = from_kernel(&self.buffer, arrival) {
                keep(&mut self.unrelated, &datagram);
            }
            if deadline <= KtimeNs::now() {
                break;
            }
        }
        self.overrun = false;
        // 0 is what records and messages of the kernel's own accord carry.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = message::request(message_type, self.sequence, payload);
        socket::send(&self.socket, &request).map_err(failed)?;
        // The kernel may have taken its time in there.
        Ok(KtimeNs::now().plus(self.timeout))
    }

    /// Waits for the next message that belongs to the request under way and gives it to `take`. Others are kept.
    fn next_answer<T>(
        &mut self,
        operation: Operation,
        message_type: u16,
        deadline: KtimeNs,
        take: impl FnOnce(&Datagram<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            let arrival = self
                .read()
                .map_err(|source| ClientError::System { operation, source })?;
            match arrival.map(|arrival| from_kernel(&self.buffer, arrival)) {
                Some(Some(datagram))
                    if datagram.sequence == self.sequence && is_answer(&datagram, message_type) =>
                {
                    return take(&datagram);
                }
                Some(Some(datagram)) => keep(&mut self.unrelated, &datagram),
                // However much others send, the wait has an end.
                Some(None) => self.time_left(operation, deadline).map(|_| ())?,
                None if self.overrun => return Err(ClientError::AnswerLost { operation }),
                None => self.wait(operation, deadline)?,
            }
        }
    }

    /// Reads one datagram into the buffer; none where nothing waits. Notes an overrun and goes on: what the buffer
    /// of the socket holds can still be read.
    fn read(&mut self) -> io::Result<Option<Arrival>> {
        let stride = self.buffer.len();
        loop {
            let mut arrival = [Arrival::default()];
            match sys::receive_many(self.socket.as_fd(), &mut self.buffer, stride, &mut arrival) {
                Ok(_) => return Ok(Some(arrival[0])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overrun = true;
                    self.overruns += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&self, operation: Operation, deadline: KtimeNs) -> Result<(), ClientError> {
        let left = self.time_left(operation, deadline)?;
        match sys::wait_readable(self.socket.as_fd(), left) {
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                Err(ClientError::System { operation, source })
            }
            _ => Ok(()),
        }
    }

    fn time_left(&self, operation: Operation, deadline: KtimeNs) -> Result<Duration, ClientError> {
        let left = deadline.since(KtimeNs::now());
        if left.is_zero() {
            return Err(ClientError::TimedOut {
                operation,
                after: self.timeout,
            });
        }
        Ok(left)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The datagram in `buffer`; none where it is shorter than a header, or not sent by the kernel: then it answers
/// nothing, whatever it says.
fn from_kernel(buffer: &[u8], arrival: Arrival) -> Option<Datagram<'_>> {
    let raw = &buffer[..arrival.length.min(buffer.len())];
    let datagram = Datagram::parse(raw, arrival.length, KtimeNs::now())?;
    (arrival.sender == 0).then_some(datagram)
}

fn is_answer(datagram: &Datagram<'_>, message_type: u16) -> bool {
    match datagram.kind() {
        Kind::Acknowledgement { .. } | Kind::Done => true,
        _ => datagram.message_type == message_type,
    }
}

fn keep(unrelated: &mut VecDeque<Unrelated>, datagram: &Datagram<'_>) {
    if unrelated.len() == UNRELATED_LIMIT {
        unrelated.pop_front();
    }
    let length = datagram.payload.len().min(Batch::DATAGRAM_BYTES);
    unrelated.push_back(Unrelated {
        message_type: datagram.message_type,
        sequence: datagram.sequence,
        payload: datagram.payload[..length].into(),
    });
}

fn malformed(operation: Operation, datagram: &Datagram<'_>) -> ClientError {
    ClientError::MalformedReply {
        operation,
        message_type: datagram.message_type,
        length: datagram.length,
    }
}
