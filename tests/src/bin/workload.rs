//! Makes system calls that tests count. Every command prints a JSON report of what it did.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command as Process;

use anyhow::{Context as _, ensure};
use audit_collector_tests::storm::{self, Kind, Makers};
use audit_collector_tests::timing::Timed;
use audit_collector_tests::workload::Report;
use audit_collector_tests::{changes, files, ring, sys, timing};
use clap::{Parser, Subcommand, ValueEnum};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

#[derive(Parser)]
struct Cli {
    /// Become this user and group first
    #[arg(long)]
    uid: Option<u32>,
    /// Log in as this user first, as whoever begins a session does
    #[arg(long)]
    auid: Option<u32>,
    /// Have this directory for a root, before that
    #[arg(long)]
    chroot: Option<PathBuf>,
    /// Wait for the end of standard input before the first call
    #[arg(long)]
    held: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// openat and close of one file, over and over; the mode argument numbers the calls
    Open {
        /// Processes that do so at the same time
        #[arg(long, default_value_t = 1)]
        processes: u32,
        /// Calls of each
        #[arg(long)]
        count: u32,
        /// The number of the first call
        #[arg(long, default_value_t = 1)]
        first: u32,
        /// The file
        #[arg(long, default_value = "/dev/null")]
        path: PathBuf,
        /// Give all calls the same mode, so that they are alike to the last argument
        #[arg(long)]
        identical: bool,
    },
    /// openat and close of one file at a steady rate; the mode argument numbers the calls. Prints when each was made
    Pace {
        /// Calls a second
        #[arg(long)]
        rate: u32,
        /// How many
        #[arg(long)]
        count: u32,
    },
    /// One call over and over; prints the CPU time of each batch
    Time {
        /// Which call
        call: Timed,
        /// How many batches
        #[arg(long)]
        batches: u32,
        /// Calls of each
        #[arg(long)]
        count: u32,
    },
    /// Execute a program with awkward arguments
    Exec,
    /// Connect to addresses of every family; nobody listens there
    Connect,
    /// Open a long path, one too long, a relative one, one relative to a descriptor, and one with odd bytes
    Paths,
    /// openat by the 32-bit way in
    Compat {
        /// Calls
        #[arg(long)]
        count: u32,
    },
    /// openat in several threads at the same time
    Threads {
        /// Threads
        #[arg(long)]
        threads: u32,
        /// Calls of each
        #[arg(long)]
        count: u32,
    },
    /// Open files in every way that decides about rules on files
    Files {
        /// Where they are; filled where it is empty
        #[arg(long)]
        root: PathBuf,
        /// How many times
        #[arg(long, default_value_t = 1)]
        rounds: u32,
    },
    /// Calls in great number, each of them written down; prints the journal
    Storm {
        /// Of which calls
        kind: Kind,
        /// Who makes them
        #[arg(long, value_enum, default_value = "processes")]
        makers: Makers,
        /// How many of these at the same time
        #[arg(long, default_value_t = 2)]
        n_makers: u32,
        /// Rounds of each
        #[arg(long)]
        count: u32,
        /// Where files go
        #[arg(long, default_value = "/tmp")]
        folder: PathBuf,
    },
    /// Become this program
    Become {
        /// The program and its arguments
        #[arg(required = true)]
        program: Vec<OsString>,
    },
    /// Change and ask about files in every way that decides about rules on files, without opening them
    Changes {
        /// Where they are; filled by `files`
        #[arg(long)]
        root: PathBuf,
    },
    /// openat by io_uring
    Ring {
        /// Who does it
        #[arg(long)]
        worker: Worker,
        /// Calls
        #[arg(long)]
        count: u32,
        /// How many at a time
        #[arg(long, default_value_t = 1)]
        batch: u32,
    },
    /// Make, rename, open and remove a file and connect a socket by io_uring
    RingKinds {
        /// Who does it
        #[arg(long)]
        worker: Worker,
    },
    /// openat once in each of many processes, which follow each other fast
    Forks {
        /// Processes
        #[arg(long)]
        count: u32,
    },
}

/// Who does what a ring is asked to do.
#[derive(Clone, Copy, ValueEnum)]
enum Worker {
    /// The thread that asks
    Caller,
    /// Worker threads of the kernel's
    Workers,
    /// The ring's polling thread
    Poller,
}

impl From<Worker> for ring::Worker {
    fn from(worker: Worker) -> Self {
        match worker {
            Worker::Caller => Self::Caller,
            Worker::Workers => Self::Workers,
            Worker::Poller => Self::Poller,
        }
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(root) = &cli.chroot {
        nix::unistd::chroot(root).context("cannot change the root")?;
        std::env::set_current_dir("/")?;
    }
    if let Some(auid) = cli.auid {
        std::fs::write("/proc/self/loginuid", auid.to_string()).context("cannot log in")?;
    }
    if let Some(uid) = cli.uid {
        become_user(uid)?;
    }
    if cli.held {
        io::copy(&mut io::stdin(), &mut io::sink())?;
    }
    let report = match cli.command {
        Command::Open {
            processes,
            count,
            first,
            path,
            identical,
        } => {
            let numbering = if identical {
                Numbering::Identical
            } else {
                Numbering::From(first)
            };
            open(processes, count, &c_string(path.as_os_str())?, numbering)?
        }
        Command::Pace { rate, count } => {
            let times = timing::paced(rate, count)?;
            return Ok(serde_json::to_writer(io::stdout().lock(), &times)?);
        }
        Command::Time {
            call,
            batches,
            count,
        } => {
            let times = timing::batches(call, batches, count)?;
            return Ok(serde_json::to_writer(io::stdout().lock(), &times)?);
        }
        Command::Exec => exec()?,
        Command::Connect => connect()?,
        Command::Paths => paths()?,
        Command::Compat { count } => compat(count)?,
        Command::Threads { threads, count } => in_threads(threads, count)?,
        Command::Files { root, rounds } => files::use_all(&root, rounds)?,
        Command::Storm {
            kind,
            makers,
            n_makers,
            count,
            folder,
        } => {
            let journal = storm::run(kind, makers, n_makers, count, &folder)?;
            return Ok(serde_json::to_writer(io::stdout().lock(), &journal)?);
        }
        Command::Become { program } => return Err(become_program(&program)),
        Command::Changes { root } => changes::make_all(&root)?,
        Command::Ring {
            worker,
            count,
            batch,
        } => ring::open(worker.into(), count, batch)?,
        Command::RingKinds { worker } => ring::all_kinds(worker.into())?,
        Command::Forks { count } => forks(count)?,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn become_user(uid: u32) -> anyhow::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).context("cannot leave all groups")?;
    setresgid(group, group, group).context("cannot change the group")?;
    setresuid(user, user, user).context("cannot change the user")
}

/// Returns only where it cannot.
fn become_program(program: &[OsString]) -> anyhow::Error {
    let error = Process::new(&program[0]).args(&program[1..]).exec();
    anyhow::Error::new(error).context("cannot run the program")
}

#[derive(Clone, Copy)]
enum Numbering {
    From(u32),
    Identical,
}

impl Numbering {
    /// As most commands number their calls: 0 is what a call without a number has.
    const FROM_ONE: Self = Self::From(1);

    /// The mode argument of call `call` of process or thread `maker`, both from 0.
    fn mode(self, maker: u32, call: u32) -> u32 {
        match self {
            Self::From(first) => (maker << 24) | (call + first),
            Self::Identical => 0,
        }
    }
}

fn open_once(path: &CString, mode: u32) -> io::Result<()> {
    sys::openat(sys::AT_FDCWD, path, mode).map(sys::close)
}

fn open(
    processes: u32,
    count: u32,
    path: &CString,
    numbering: Numbering,
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    if processes == 1 {
        let began = sys::cpu_time()?;
        for call in 0..count {
            report.add(&open_once(path, numbering.mode(0, call)));
        }
        report.cpu_ns = (sys::cpu_time()? - began).as_nanos() as u64;
        report.pids.push(std::process::id());
        return Ok(report);
    }
    for maker in 0..processes {
        let pid = sys::in_child(|| {
            for call in 0..count {
                let result = open_once(path, numbering.mode(maker, call));
                assert!(result.is_ok(), "{result:?}");
            }
        })?;
        report.pids.push(pid);
    }
    ensure!(
        sys::all_children_succeeded(),
        "a child could not open the file"
    );
    report.calls = u64::from(processes) * u64::from(count);
    Ok(report)
}

fn exec() -> anyhow::Result<Report> {
    let plain = |texts: &[&str]| texts.iter().map(OsString::from).collect::<Vec<_>>();
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let vectors = [
        plain(&["simple"]),
        plain(&["a b", " leading", "trailing ", ""]),
        plain(&["\"quoted\"", "it's", "back\\slash", "a=b", "\u{1d}"]),
        plain(&["line\nbreak", "tab\there", "a0=\"forged\" exit=0"]),
        vec![bytes(b"\xff\xfe invalid"), bytes(b"caf\xc3\xa9")],
        (0..200)
            .map(|n| OsString::from(format!("argument-{n}")))
            .collect(),
        vec![OsString::from("x".repeat(6_000)), OsString::from("after")],
    ];
    let mut report = Report::default();
    for arguments in vectors {
        let mut child = Process::new("/bin/true").args(arguments).spawn()?;
        report.pids.push(child.id());
        ensure!(child.wait()?.success(), "/bin/true failed");
        report.add(&Ok(()));
    }
    Ok(report)
}

fn connect() -> anyhow::Result<Report> {
    let mut report = Report::default();
    report.add(&TcpStream::connect("127.0.0.1:1"));
    report.add(&TcpStream::connect("[::1]:1"));
    report.add(&UnixStream::connect("/nonexistent/a socket"));
    let name = SocketAddr::from_abstract_name(b"audit-collector\0workload")?;
    report.add(&UnixStream::connect_addr(&name));
    report.pids.push(std::process::id());
    Ok(report)
}

fn paths() -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut add = |folder: i32, path: &OsStr, mode: u32| -> anyhow::Result<()> {
        let result = sys::openat(folder, &c_string(path)?, mode);
        report.add(&result);
        if let Ok(descriptor) = result {
            sys::close(descriptor);
        }
        Ok(())
    };
    let folder = sys::openat(sys::AT_FDCWD, c"/usr", 0xfff)?;
    std::env::set_current_dir("/usr/share")?;
    // The longest path there may be: 4,095 bytes and the NUL.
    let long = format!("/{}dev/null", "./".repeat(2_043));
    assert_eq!(long.len(), 4_095);
    add(sys::AT_FDCWD, long.as_ref(), 1)?;
    add(
        sys::AT_FDCWD,
        format!("/tmp/{}", "n".repeat(255)).as_ref(),
        2,
    )?;
    add(
        sys::AT_FDCWD,
        format!("/tmp/{}", "n".repeat(300)).as_ref(),
        3,
    )?;
    add(sys::AT_FDCWD, "doc".as_ref(), 4)?;
    add(sys::AT_FDCWD, "../bin/env".as_ref(), 5)?;
    add(folder, "bin".as_ref(), 6)?;
    add(sys::AT_FDCWD, "no such file".as_ref(), 7)?;
    add(sys::AT_FDCWD, OsStr::from_bytes(b"odd \xff\n\"bytes\""), 8)?;
    sys::close(folder);
    // The folder itself was one of the calls.
    report.add(&Ok(()));
    report.pids.push(std::process::id());
    Ok(report)
}

#[cfg(target_arch = "x86_64")]
fn compat(count: u32) -> anyhow::Result<Report> {
    ensure!(sys::compat_getppid() > 0, "getppid failed");
    let mut report = Report::default();
    for call in 0..count {
        let result = sys::compat_openat(c"/dev/null", Numbering::FROM_ONE.mode(0, call));
        report.add(&result);
        if let Ok(descriptor) = result {
            sys::close(descriptor);
        }
    }
    report.pids.push(std::process::id());
    Ok(report)
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_count: u32) -> anyhow::Result<Report> {
    anyhow::bail!("there is no int 0x80 on this machine")
}

fn in_threads(threads: u32, count: u32) -> anyhow::Result<Report> {
    let makers: Vec<_> = (0..threads)
        .map(|maker| {
            std::thread::spawn(move || {
                let path = CString::from(c"/dev/null");
                let mut report = Report::default();
                for call in 0..count {
                    report.add(&open_once(&path, Numbering::FROM_ONE.mode(maker, call)));
                }
                report
            })
        })
        .collect();
    let mut report = Report::default();
    for maker in makers {
        let part = maker
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        report.calls += part.calls;
        for (errno, times) in part.results {
            *report.results.entry(errno).or_default() += times;
        }
    }
    report.pids.push(std::process::id());
    Ok(report)
}

fn forks(count: u32) -> anyhow::Result<Report> {
    let path = CString::from(c"/dev/null");
    let mut report = Report::default();
    for call in 0..count {
        let pid = sys::in_child(|| {
            let result = open_once(&path, Numbering::FROM_ONE.mode(0, call));
            assert!(result.is_ok(), "{result:?}");
        })?;
        report.pids.push(pid);
        // Few at a time: a user has a limit of processes.
        if call % 32 == 31 {
            ensure!(
                sys::all_children_succeeded(),
                "a child could not open the file"
            );
        }
    }
    ensure!(
        sys::all_children_succeeded(),
        "a child could not open the file"
    );
    report.calls = u64::from(count);
    Ok(report)
}

fn c_string(text: &OsStr) -> anyhow::Result<CString> {
    CString::new(text.as_bytes()).context("a path has a NUL")
}
