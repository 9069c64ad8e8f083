//! Where a netlink socket can be reached.

use std::os::fd::{AsFd, AsRawFd as _};

use netlink_sys::SocketAddr;
use nix::sys::socket::{NetlinkAddr, getsockname};

/// The address of a netlink socket: the port of a process's second one is not its pid.
///
/// # Errors
/// Where it is none.
pub fn address_of(socket: &impl AsFd) -> anyhow::Result<SocketAddr> {
    let name: NetlinkAddr = getsockname(socket.as_fd().as_raw_fd())?;
    Ok(SocketAddr::new(name.pid(), 0))
}
