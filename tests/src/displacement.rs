//! Another process that becomes the audit daemon while the first one lives.
//!
//! The kernel gives the audit pid to another process only once it cannot reach the socket of the one that holds it
//! (kernel/audit.c `audit_replace`). While that socket is open, what is left is to tie it to a port that is not the
//! kernel's: netlink then refuses the kernel's messages (net/netlink/af_netlink.c `netlink_getsockbyportid`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use collector::audit::socket::{EventSocket, MemoryInfo};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockaddrLike as _, connect, getsockname, recv,
};

use crate::sys;

/// Duplicates of the netlink sockets of process `pid` whose receive buffer is `receive_buffer`, in bytes as asked for.
///
/// # Errors
/// Where there is none.
pub fn netlink_sockets_of(pid: u32, receive_buffer: u32) -> anyhow::Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let number = entry?.file_name().to_string_lossy().parse()?;
        // A descriptor may be gone by now.
        let Ok(descriptor) = sys::descriptor_of(pid, number) else {
            continue;
        };
        let is_netlink = getsockname::<NetlinkAddr>(descriptor.as_raw_fd())
            .is_ok_and(|name| name.family() == Some(AddressFamily::Netlink));
        let size = MemoryInfo::of(&descriptor.as_fd()).map(|info| info.receive_buffer);
        // The kernel doubles what is asked for.
        if is_netlink && size.is_ok_and(|size| size == 2 * receive_buffer) {
            sockets.push(descriptor);
        }
    }
    ensure!(
        !sockets.is_empty(),
        "process {pid} has no socket of that size"
    );
    Ok(sockets)
}

/// Makes this process the audit daemon in the place of process `pid`, which lives and whose event socket has the receive
/// buffer `receive_buffer`, in bytes as asked for, and no other of its sockets has.
///
/// # Errors
/// Where there is no such socket, or the kernel does not play along.
pub fn take_seat_of(pid: u32, receive_buffer: u32) -> anyhow::Result<EventSocket> {
    let mut seat = EventSocket::unicast(None)?;
    ensure!(
        seat.claim().is_err(),
        "the kernel gives the pid of a live daemon away"
    );
    for socket in netlink_sockets_of(pid, receive_buffer)? {
        // Any port but the kernel's, 0.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(std::process::id(), 0))
            .context("cannot tie the socket to another port")?;
    }
    // The refusal of the first attempt may still wait.
    while recv(
        seat.as_fd().as_raw_fd(),
        &mut [0; 64],
        MsgFlags::MSG_DONTWAIT,
    )
    .is_ok()
    {}
    seat.claim()
        .context("the kernel does not give the pid away")?;
    Ok(seat)
}
