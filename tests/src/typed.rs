//! What was typed on a terminal, as a program tells the kernel: the one record whose length nothing limits.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, ensure};
use collector::audit::client::{Client, TtyStatus};
use collector::audit::record::RecordType;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};

/// `NLM_F_REQUEST | NLM_F_ACK` of include/uapi/linux/netlink.h.
const REQUEST: u16 = 5;
/// `sizeof(struct nlmsghdr)`.
const HEADER: usize = 16;

/// Has the kernel write a USER_TTY record of these bytes, two digits of each where one is no printable character.
///
/// # Errors
/// Where the kernel refuses.
pub fn tell(bytes: &[u8]) -> anyhow::Result<()> {
    let mut client = Client::connect()?;
    let before = client.tty()?;
    let enabled = true;
    client.set_tty(TtyStatus { enabled, ..before })?;
    let sent = send(bytes);
    client.set_tty(before)?;
    sent
}

/// By a socket of its own, with room for a message of any length.
fn send(bytes: &[u8]) -> anyhow::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkAudit,
    )?;
    let length = HEADER + bytes.len();
    setsockopt(&socket, sockopt::SndBufForce, &(2 * length))?;
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(RecordType::USER_TTY.0.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(bytes);
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())
        .with_context(|| format!("cannot send {length} bytes"))?;
    let mut answer = [0; 64];
    let read = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let error = answer[..read].get(HEADER..HEADER + 4);
    ensure!(error == Some(&[0; 4]), "the kernel answered {error:?}");
    Ok(())
}
