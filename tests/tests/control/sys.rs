//! Socket filters; the only unsafe code of these tests.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Makes the kernel drop messages before they reach `socket`, as if they had never been sent: all of them, or those of
/// one type. The sender is told that they arrived.
pub(crate) fn withhold(socket: &impl AsFd, message_type: Option<u16>) {
    let instruction = |code: u32, jump_if_not: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_if_not,
        k: value,
    };
    let drop = instruction(libc::BPF_RET | libc::BPF_K, 0, 0);
    let accept = instruction(libc::BPF_RET | libc::BPF_K, 0, u32::MAX);
    let mut program = match message_type {
        None => vec![drop],
        Some(message_type) => vec![
            // The type lies behind the length; filters read in network order, netlink writes in the machine's.
            instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 4),
            instruction(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                1,
                u32::from(message_type.to_be()),
            ),
            drop,
            accept,
        ],
    };
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set_option(socket, libc::SO_ATTACH_FILTER, &filter);
}

/// Lets everything through again.
pub(crate) fn let_through(socket: &impl AsFd) {
    set_option(socket, libc::SO_DETACH_FILTER, &0);
}

/// Makes the receive buffer of `socket` as small as the kernel allows: room for one message.
pub(crate) fn shrink_receive_buffer(socket: &impl AsFd) {
    set_option(socket, libc::SO_RCVBUF, &0);
}

fn set_option<T>(socket: &impl AsFd, name: libc::c_int, value: &T) {
    // SAFETY: the kernel reads as many bytes as `T` has, which are initialised: an int, or a program's length and the
    // address of its instructions, which live until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            std::ptr::from_ref(value).cast(),
            std::mem::size_of::<T>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "setsockopt: {}", io::Error::last_os_error());
}
