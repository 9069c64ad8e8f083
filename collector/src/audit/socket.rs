//! The sockets that audit records arrive on.
//!
//! Owns one netlink socket for records, and nothing of what the records say. Non-blocking: wait for readability with
//! [`EventSocket::wait`], then call [`EventSocket::receive`] until it says [`Received::Empty`].
//!
//! Bounds: a [`Batch`] holds at most [`Batch::MAX_DATAGRAMS`] datagrams of [`Batch::DATAGRAM_BYTES`] each, allocated
//! once; records that arrive while the audit pid is claimed are kept, at most [`KEPT_LIMIT`].

mod claim;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_AUDIT;
use tracing::warn;

use crate::audit::client::Client;
use crate::audit::message::{self, Datagram};
use crate::audit::status::{self, StatusField};
use crate::audit::sys::{self, Arrival};
use crate::clock::KtimeNs;

/// Most datagrams kept while waiting for the acknowledgement of [`EventSocket::claim`]. The kernel acknowledges before
/// it sends the first record (`auditd_set`), so more than a few are kept only on kernels that do not.
pub const KEPT_LIMIT: usize = 8192;

/// `AUDIT_NLGRP_READLOG`.
const READLOG_GROUP: u32 = 1;

/// How records reach a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The kernel sends to the registered daemon and keeps what it cannot deliver for a while; ENOBUFS is congestion.
    Unicast,
    /// The kernel sends to whoever listens and forgets; ENOBUFS is loss.
    Multicast,
}

/// Why a socket for records could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel has no audit subsystem, or was told at boot not to start it.
    #[error("this kernel has no audit subsystem (CONFIG_AUDIT), or was booted with audit=0")]
    NoAudit,
    /// Joining the multicast group was refused.
    #[error("listening to audit records is refused: CAP_AUDIT_READ is missing")]
    MissingAuditRead,
    /// A system call failed.
    #[error("cannot {operation} the audit socket")]
    System {
        /// What was tried: `open`, `bind`, `join the multicast group of`, `read the receive buffer of`.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Reading failed in a way that reading again will not mend. ENOBUFS is not among these: see [`Received::Overrun`].
#[derive(Debug, thiserror::Error)]
#[error("cannot read the audit socket")]
pub struct ReceiveError {
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// What one call of [`EventSocket::receive`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The batch holds this many datagrams; more may wait. It can be 0, where all that was read was skipped.
    Datagrams(usize),
    /// Nothing waits.
    Empty,
    /// The receive buffer was full (ENOBUFS): congestion on unicast, loss on multicast. The socket stays usable and
    /// what is in the buffer can still be read.
    Overrun,
}

/// What a socket has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams handed out.
    pub datagrams: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Times the socket reported ENOBUFS.
    pub overruns: u64,
    /// Datagrams cut by the read buffer; they are handed out all the same.
    pub truncated: u64,
    /// Datagrams not sent by the kernel; skipped.
    pub foreign: u64,
    /// Datagrams shorter than a header; skipped.
    pub malformed: u64,
}

/// The memory of a socket, from `SO_MEMINFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Datagrams the kernel could not put into the receive buffer, modulo 2³². On unicast these are attempts: the
    /// kernel tries again.
    pub drops: u32,
    /// Bytes waiting in the receive buffer, with the kernel's own overhead.
    pub queued: u32,
    /// Size of the receive buffer in bytes, on the same terms.
    pub receive_buffer: u32,
}

impl MemoryInfo {
    /// The figures of `socket`, which may be a duplicate of the descriptor that is read from.
    ///
    /// # Errors
    /// What `getsockopt(SO_MEMINFO)` reports; it exists since Linux 4.12.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let info = sys::memory_info(socket.as_fd())?;
        Ok(Self {
            drops: info[8],
            queued: info[0],
            receive_buffer: info[1],
        })
    }
}

/// How large the receive buffer became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveBuffer {
    /// Its size in bytes as the kernel accounts for it: twice what is asked for, because it counts its own overhead.
    pub bytes: usize,
    /// How that size came about.
    pub grant: Grant,
}

/// What became of the wish for a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing was asked for: the system's default.
    Default,
    /// As asked.
    Full,
    /// Less than asked: `net.core.rmem_max` limits it, and going past it needs CAP_NET_ADMIN.
    Limited,
}

/// Buffers for datagrams, allocated once and used again for every read.
#[derive(Debug)]
pub struct Batch {
    buffer: Vec<u8>,
    arrivals: [Arrival; Self::MAX_DATAGRAMS],
    /// Which slots hold a datagram worth handing out.
    filled: Vec<usize>,
    times: [KtimeNs; Self::MAX_DATAGRAMS],
}

impl Batch {
    /// Most datagrams one read takes.
    pub const MAX_DATAGRAMS: usize = sys::MAX_BATCH;

    /// Room for one datagram. The longest record known is 8,970 bytes (libaudit), a PATH name in hex 8,192, USER_TTY
    /// has no limit; what is longer is cut and counted.
    pub const DATAGRAM_BYTES: usize = 32 * 1024;

    /// A batch of the full size. Memory is used only as far as datagrams reach.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; Self::MAX_DATAGRAMS * Self::DATAGRAM_BYTES],
            arrivals: [Arrival::default(); Self::MAX_DATAGRAMS],
            filled: Vec::with_capacity(Self::MAX_DATAGRAMS),
            times: [KtimeNs::default(); Self::MAX_DATAGRAMS],
        }
    }

    /// The datagrams of the last read, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.filled.iter().filter_map(|slot| self.slot(*slot))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.filled.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// How many bytes they have in all, headers and what is no record included.
    pub fn n_bytes(&self) -> usize {
        let length = |slot: &usize| self.arrivals[*slot].length.min(Self::DATAGRAM_BYTES);
        self.filled.iter().map(length).sum()
    }

    fn slot(&self, slot: usize) -> Option<Datagram<'_>> {
        let length = self.arrivals[slot].length;
        let start = slot * Self::DATAGRAM_BYTES;
        let raw = &self.buffer[start..start + length.min(Self::DATAGRAM_BYTES)];
        Datagram::parse(raw, length, self.times[slot])
    }

    fn clear(&mut self) {
        self.filled.clear();
    }

    fn push_kept(&mut self, kept: &Kept) {
        let slot = self.filled.len();
        let start = slot * Self::DATAGRAM_BYTES;
        self.buffer[start..start + kept.raw.len()].copy_from_slice(&kept.raw);
        self.arrivals[slot] = Arrival {
            length: kept.length,
            sender: 0,
        };
        self.times[slot] = kept.arrived;
        self.filled.push(slot);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// A datagram that arrived while we waited for something else.
#[derive(Debug)]
struct Kept {
    raw: Box<[u8]>,
    length: usize,
    arrived: KtimeNs,
}

/// A socket that audit records arrive on.
#[derive(Debug)]
pub struct EventSocket {
    socket: netlink_sys::Socket,
    delivery: Delivery,
    receive_buffer: ReceiveBuffer,
    counts: Counts,
    kept: VecDeque<Kept>,
    sequence: u32,
    /// Whether the kernel sends to this socket because of [`EventSocket::claim`].
    claimed: bool,
}

impl EventSocket {
    /// A socket the kernel sends records to once it has claimed the audit pid ([`EventSocket::claim`]).
    /// `receive_buffer` is in bytes of payload and overhead as a person would count them; the kernel doubles it.
    ///
    /// # Errors
    /// Where the kernel has no audit subsystem or a system call fails. A receive buffer smaller than wished is not an
    /// error: see [`EventSocket::receive_buffer`].
    pub fn unicast(receive_buffer: Option<usize>) -> Result<Self, SocketError> {
        Self::open(Delivery::Unicast, receive_buffer)
    }

    /// A socket that listens beside a daemon (`AUDIT_NLGRP_READLOG`); needs CAP_AUDIT_READ. Records flow from now on.
    ///
    /// # Errors
    /// As [`EventSocket::unicast`], and where the capability is missing.
    pub fn multicast(receive_buffer: Option<usize>) -> Result<Self, SocketError> {
        let socket = Self::open(Delivery::Multicast, receive_buffer)?;
        socket
            .socket
            .add_membership(READLOG_GROUP)
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EPERM) => SocketError::MissingAuditRead,
                _ => SocketError::System {
                    operation: "join the multicast group of",
                    source,
                },
            })?;
        Ok(socket)
    }

    /// From now on the kernel tells of no overrun (`NETLINK_NO_ENOBUFS`) and puts new datagrams into the buffer as soon as
    /// there is room, in place of dropping all until the buffer is empty. What it dropped shows in [`MemoryInfo::drops`] alone.
    ///
    /// # Errors
    /// Where the kernel refuses the option.
    pub fn leave_out_overruns(&mut self) -> Result<(), SocketError> {
        let set = self.socket.set_no_enobufs(true);
        set.map_err(|source| SocketError::System {
            operation: "set up",
            source,
        })
    }

    fn open(delivery: Delivery, receive_buffer: Option<usize>) -> Result<Self, SocketError> {
        let mut socket = open_socket()?;
        let receive_buffer = size_receive_buffer(&socket, receive_buffer)?;
        socket.bind_auto().map_err(|source| SocketError::System {
            operation: "bind",
            source,
        })?;
        Ok(Self {
            socket,
            delivery,
            receive_buffer,
            counts: Counts::default(),
            kept: VecDeque::new(),
            sequence: 0,
            claimed: false,
        })
    }

    /// How records reach this socket.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The number that the kernel knows this socket by and no other.
    ///
    /// # Errors
    /// What `getsockopt(SO_COOKIE)` reports; it exists since Linux 4.6.
    pub fn cookie(&self) -> io::Result<u64> {
        sys::cookie(self.as_fd())
    }

    /// The receive buffer that was got.
    pub fn receive_buffer(&self) -> ReceiveBuffer {
        self.receive_buffer
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Reads what waits, at most `max` datagrams and no more than the batch holds. What was in the batch is gone.
    /// Never blocks.
    ///
    /// # Errors
    /// Only for what reading again will not mend; never for ENOBUFS, EINTR or an empty socket.
    pub fn receive(&mut self, batch: &mut Batch, max: usize) -> Result<Received, ReceiveError> {
        batch.clear();
        let max = max.clamp(1, Batch::MAX_DATAGRAMS);
        if !self.kept.is_empty() {
            let count = self.kept.len().min(max);
            for kept in self.kept.drain(..count) {
                batch.push_kept(&kept);
            }
            self.count(batch);
            return Ok(Received::Datagrams(count));
        }
        match self.read(batch, max) {
            Ok(()) => {
                self.count(batch);
                Ok(Received::Datagrams(batch.len()))
            }
            Err(source) => match source.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    self.counts.overruns += 1;
                    Ok(Received::Overrun)
                }
                _ if source.kind() == io::ErrorKind::WouldBlock => Ok(Received::Empty),
                _ => Err(ReceiveError { source }),
            },
        }
    }

    /// Waits until something can be read, at most `timeout`; whether something can.
    ///
    /// # Errors
    /// What `poll(2)` reports, but EINTR, which ends the wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ReceiveError> {
        if !self.kept.is_empty() {
            return Ok(true);
        }
        match sys::wait_readable(self.socket.as_fd(), timeout) {
            Err(source) if source.kind() == io::ErrorKind::Interrupted => Ok(false),
            waited => waited.map_err(|source| ReceiveError { source }),
        }
    }

    /// Drops, bytes waiting and buffer size as the kernel has them.
    ///
    /// # Errors
    /// What `getsockopt(SO_MEMINFO)` reports; it exists since Linux 4.12.
    pub fn meminfo(&self) -> io::Result<MemoryInfo> {
        MemoryInfo::of(&self.socket)
    }

    /// One read into `batch`: everything but datagrams of others and such without a header.
    fn read(&mut self, batch: &mut Batch, max: usize) -> io::Result<()> {
        let read = loop {
            match sys::receive_many(
                self.socket.as_fd(),
                &mut batch.buffer,
                Batch::DATAGRAM_BYTES,
                &mut batch.arrivals[..max],
            ) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let now = KtimeNs::now();
        for slot in 0..read {
            batch.times[slot] = now;
            if batch.arrivals[slot].sender != 0 {
                self.counts.foreign += 1;
            } else if batch.slot(slot).is_none() {
                self.counts.malformed += 1;
            } else {
                batch.filled.push(slot);
            }
        }
        Ok(())
    }

    fn count(&mut self, batch: &Batch) {
        self.counts.datagrams += batch.len() as u64;
        for datagram in batch.iter() {
            self.counts.bytes += datagram.raw.len() as u64;
            self.counts.truncated += u64::from(datagram.truncated());
        }
    }
}

impl Drop for EventSocket {
    /// Closing a socket does not release the pid: the kernel notices only when it next has something to send.
    fn drop(&mut self) {
        if !self.claimed {
            return;
        }
        // It may have been released over another socket, and somebody else may hold it by now.
        let released = Client::connect().and_then(|mut client| {
            if client.status()?.pid == std::process::id() {
                client.release_pid()?;
            }
            Ok(())
        });
        if let Err(error) = released {
            warn!(error = %error, "the audit pid was not released");
        }
    }
}

impl AsRawFd for EventSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A netlink socket of the audit protocol, not yet bound, non-blocking.
pub(super) fn open_socket() -> Result<netlink_sys::Socket, SocketError> {
    let socket =
        netlink_sys::Socket::new(NETLINK_AUDIT).map_err(|source| match source.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => SocketError::NoAudit,
            _ => SocketError::System {
                operation: "open",
                source,
            },
        })?;
    socket
        .set_non_blocking(true)
        .map_err(|source| SocketError::System {
            operation: "set up",
            source,
        })?;
    Ok(socket)
}

/// Asks the kernel once more to make this process the audit daemon and to send to `socket`, a duplicate of the descriptor of an
/// [`EventSocket`] that had claimed the pid. The answer goes to whoever reads the socket; the status tells what came of it.
///
/// # Errors
/// Where the request cannot be sent.
pub fn claim_again(socket: &impl AsFd) -> io::Result<()> {
    // Whoever reached our socket may have tied it to a port that is not the kernel's, which then cannot send to it.
    let fd = socket.as_fd().as_raw_fd();
    let kernel = nix::sys::socket::NetlinkAddr::new(0, 0);
    nix::sys::socket::connect(fd, &kernel)?;
    let change = status::encode_set(StatusField::Pid, std::process::id());
    let request = message::request(message::AUDIT_SET, 1, &change);
    nix::sys::socket::sendto(fd, &request, &kernel, nix::sys::socket::MsgFlags::empty())?;
    Ok(())
}

/// Raises (or lowers) the receive buffer as far as it goes and says what came of it.
pub(super) fn size_receive_buffer(
    socket: &netlink_sys::Socket,
    wanted: Option<usize>,
) -> Result<ReceiveBuffer, SocketError> {
    let failed = |source| SocketError::System {
        operation: "size the receive buffer of",
        source,
    };
    if let Some(wanted) = wanted {
        // The kernel doubles the value, so half of what an int holds is the most that can be asked for.
        let bytes = i32::try_from(wanted).unwrap_or(i32::MAX).min(i32::MAX / 2);
        if sys::force_receive_buffer(socket.as_fd(), bytes).is_err() {
            sys::set_receive_buffer(socket.as_fd(), bytes).map_err(failed)?;
        }
    }
    let bytes = socket.get_rx_buf_sz().map_err(failed)?;
    let grant = match wanted {
        None => Grant::Default,
        Some(wanted) if bytes / 2 >= wanted => Grant::Full,
        Some(_) => Grant::Limited,
    };
    Ok(ReceiveBuffer { bytes, grant })
}

/// Sends a whole request to the kernel. The kernel works on it before the call returns.
pub(super) fn send(socket: &netlink_sys::Socket, request: &[u8]) -> io::Result<()> {
    loop {
        match socket.send_to(request, &SocketAddr::new(0, 0), 0) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
