//! io_uring as the workload needs it.

use std::ffi::CStr;
use std::io;
use std::net::SocketAddrV4;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};

/// How many operations one call may hand over.
pub const ENTRIES: usize = 64;
/// After so many milliseconds without work the polling thread sleeps.
const POLLER_IDLE_MS: u32 = 1_000;

/// What a ring is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// Open for reading.
    Open(&'a CStr),
    /// Create a file.
    Create(&'a CStr),
    /// Give a file another name.
    Rename(&'a CStr, &'a CStr),
    /// Remove a file.
    Unlink(&'a CStr),
    /// Connect a socket.
    Connect(i32, &'a SocketAddrV4),
    /// Close a descriptor.
    Close(i32),
}

/// Who does what a ring is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The thread that asks, within its call, as far as nothing has to be waited for.
    Caller,
    /// Worker threads of the kernel's.
    Workers,
    /// The ring's polling thread.
    Poller,
}

/// A ring, and who works on it.
pub struct Ring {
    ring: IoUring,
    worker: Worker,
}

impl Ring {
    /// A ring of its own.
    ///
    /// # Errors
    /// The errno: `ENOSYS` where the kernel has no io_uring, `EPERM` where it is switched off.
    pub fn new(worker: Worker) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        if worker == Worker::Poller {
            builder.setup_sqpoll(POLLER_IDLE_MS);
        }
        let ring = builder.build(ENTRIES as u32)?;
        Ok(Self { ring, worker })
    }

    /// Has all `operations` done and waits for their ends, by one call where the caller works itself. Returns their results
    /// in the order of `operations`: a descriptor, 0, or an errno below zero.
    ///
    /// Where the kernel refuses the call, the process ends: it may still be about to read what the operations name.
    ///
    /// # Panics
    /// For more than [`ENTRIES`] operations.
    pub fn perform(&mut self, operations: &[Operation<'_>]) -> Vec<i32> {
        let addresses: Vec<_> = operations.iter().map(address).collect();
        for (number, (operation, address)) in operations.iter().zip(&addresses).enumerate() {
            let flags = match self.worker {
                Worker::Workers => Flags::ASYNC,
                Worker::Caller | Worker::Poller => Flags::empty(),
            };
            let entry = entry(operation, address)
                .flags(flags)
                .user_data(number as u64);
            // SAFETY: what the entry points to, `operations` and `addresses` hold until this function has seen the
            // operation's end, below; it does not return before.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            pushed.expect("there is an entry for each of the few operations");
        }
        let mut results = vec![0; operations.len()];
        let mut ended = 0;
        while ended < operations.len() {
            match self.ring.submit_and_wait(operations.len() - ended) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    eprintln!("io_uring_enter: {error}");
                    std::process::abort();
                }
            }
            for completion in self.ring.completion() {
                results[completion.user_data() as usize] = completion.result();
                ended += 1;
            }
        }
        results
    }
}

fn entry(operation: &Operation<'_>, address: &libc::sockaddr_in) -> Entry {
    const HERE: types::Fd = types::Fd(libc::AT_FDCWD);
    match operation {
        Operation::Open(path) => opcode::OpenAt::new(HERE, path.as_ptr())
            .flags(libc::O_RDONLY | libc::O_CLOEXEC)
            .build(),
        Operation::Create(path) => opcode::OpenAt::new(HERE, path.as_ptr())
            .flags(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC)
            .mode(0o600)
            .build(),
        Operation::Rename(from, to) => {
            opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
        }
        Operation::Unlink(path) => opcode::UnlinkAt::new(HERE, path.as_ptr()).build(),
        Operation::Connect(socket, _) => opcode::Connect::new(
            types::Fd(*socket),
            std::ptr::from_ref(address).cast(),
            size_of_val(address) as u32,
        )
        .build(),
        Operation::Close(descriptor) => opcode::Close::new(types::Fd(*descriptor)).build(),
    }
}

/// The address of a `Connect`; zeros for others.
fn address(operation: &Operation<'_>) -> libc::sockaddr_in {
    let (address, port) = match operation {
        Operation::Connect(_, address) => (u32::from(*address.ip()), address.port()),
        _ => (0, 0),
    };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: address.to_be(),
        },
        sin_zero: [0; 8],
    }
}
