//! System calls of the audit sockets; the only unsafe code of this module.
//!
//! Owns what neither `netlink-sys` nor `nix` offers: `recvmmsg` with sender addresses, `SO_MEMINFO`, `SO_COOKIE`,
//! `SO_RCVBUFFORCE`, and a wait for one descriptor. Knows nothing of audit.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Most datagrams one call of [`receive_many`] reads.
pub(super) const MAX_BATCH: usize = 64;

/// What `recvmmsg` said about one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Length of the datagram as sent, which may be more than the buffer took.
    pub(super) length: usize,
    /// Netlink port of the sender; 0 is the kernel.
    pub(super) sender: u32,
}

/// Reads datagrams until none waits or `arrivals` is full, the n-th into `buffer[n * stride..]`. Never blocks.
///
/// Returns how many were read, at least one. At most [`MAX_BATCH`] are read by one call.
///
/// # Errors
/// `WouldBlock` when nothing waits; otherwise what `recvmmsg(2)` reports, `ENOBUFS` among it. An error found after
/// the first datagram is kept by the kernel and reported by the next call.
pub(super) fn receive_many(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    stride: usize,
    arrivals: &mut [Arrival],
) -> io::Result<usize> {
    // SAFETY: all three are plain C structs of integers and raw pointers, for which all-zero bytes are valid.
    let (mut names, mut vectors, mut headers): (
        [libc::sockaddr_nl; MAX_BATCH],
        [libc::iovec; MAX_BATCH],
        [libc::mmsghdr; MAX_BATCH],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };

    let mut wanted = 0;
    for (slot, chunk) in buffer
        .chunks_exact_mut(stride)
        .take(arrivals.len().min(MAX_BATCH))
        .enumerate()
    {
        vectors[slot] = libc::iovec {
            iov_base: chunk.as_mut_ptr().cast(),
            iov_len: chunk.len(),
        };
        let header = &mut headers[slot].msg_hdr;
        header.msg_name = (&raw mut names[slot]).cast();
        header.msg_namelen = mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[slot];
        header.msg_iovlen = 1;
        wanted += 1;
    }

    // SAFETY: the first `wanted` headers point to live names, vectors and disjoint chunks of `buffer` with their true
    // lengths, none of which is moved or read before the call returns; a null timeout is allowed.
    let read = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            wanted as libc::c_uint,
            // The types of the flags differ between C libraries, hence the inferred cast.
            (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
            std::ptr::null_mut(),
        )
    };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    let read = read as usize;
    for slot in 0..read {
        arrivals[slot] = Arrival {
            length: headers[slot].msg_len as usize,
            sender: names[slot].nl_pid,
        };
    }
    Ok(read)
}

/// Waits until `fd` is readable or has an error pending, at most `timeout`; false when the time ran out.
///
/// # Errors
/// What `poll(2)` reports, `Interrupted` among it.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: one pollfd and one timespec, both alive for the call; a null signal mask changes nothing.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ready > 0)
}

/// The number of `SO_COOKIE`, which no other socket has or ever had; kernels since 4.6.
pub(super) fn cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = mem::size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of the number, and any bytes are a valid one.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// The counters of `SO_MEMINFO` (include/uapi/linux/sock_diag.h `SK_MEMINFO_*`); kernels since 4.12.
pub(super) fn memory_info(fd: BorrowedFd<'_>) -> io::Result<[u32; 9]> {
    let mut info = [0_u32; 9];
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of the array, and any bytes are valid integers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}

/// Sets the receive buffer past `net.core.rmem_max`; needs CAP_NET_ADMIN. The kernel doubles the value.
pub(super) fn force_receive_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SO_RCVBUFFORCE, bytes)
}

/// Sets the receive buffer, cut to `net.core.rmem_max`. The kernel doubles the value.
pub(super) fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SO_RCVBUF, bytes)
}

/// `asm-generic/socket.h`; libc does not name it on every target. The value is the same on all that audit supports
/// but parisc and sparc, which this crate does not.
const SO_MEMINFO: libc::c_int = 55;

fn set_option(fd: BorrowedFd<'_>, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads one int, whose size is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            mem::size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
