//! System calls by way of io_uring, which no tracepoint of system calls sees.

mod sys;

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

pub use self::sys::{ENTRIES, Operation, Ring, Worker};
use crate::workload::Report;

/// Opens and closes a file `count` times, `batch` at a time.
///
/// # Errors
/// Where there is no io_uring, or it does not do all that.
pub fn open(worker: Worker, count: u32, batch: u32) -> anyhow::Result<Report> {
    ensure!(
        batch > 0 && batch as usize <= ENTRIES && count.is_multiple_of(batch),
        "{count} operations cannot be done {batch} at a time"
    );
    let mut ring = Ring::new(worker).context("cannot set up a ring")?;
    let mut report = Report::default();
    for _ in 0..count / batch {
        let operations = vec![Operation::Open(c"/dev/null"); batch as usize];
        for result in ring.perform(&operations) {
            add(&mut report, result);
            crate::sys::close(result);
        }
    }
    report.pids.push(std::process::id());
    Ok(report)
}

/// Creates a file, gives it another name, opens and removes it, and connects a socket to where nobody listens.
///
/// # Errors
/// As [`open`].
pub fn all_kinds(worker: Worker) -> anyhow::Result<Report> {
    let mut ring = Ring::new(worker).context("cannot set up a ring")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| CString::new(format!("{}/{name}", folder.path().display()));
    let (first, second) = (path("created by a ring")?, path("renamed")?);
    let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    let mut report = Report::default();
    let mut last = 0;
    for operation in [
        Operation::Create(&first),
        Operation::Rename(&first, &second),
        Operation::Open(&second),
        Operation::Unlink(&second),
        Operation::Connect(socket.as_raw_fd(), &target),
    ] {
        let result = ring.perform(&[operation])[0];
        add(&mut report, result);
        last = result;
        if let Operation::Create(_) | Operation::Open(_) = operation {
            let closed = ring.perform(&[Operation::Close(result)])[0];
            add(&mut report, closed);
        }
    }
    ensure!(last == -libc::ECONNREFUSED, "connect came to {last}");
    report.pids.push(std::process::id());
    Ok(report)
}

/// Why there are no rings to be had; none where there are.
pub fn refused() -> Option<io::Error> {
    Ring::new(Worker::Caller).err()
}

fn add(report: &mut Report, result: i32) {
    let result = if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(())
    };
    report.add(&result);
}
