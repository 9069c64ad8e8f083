//! Calls in great number, each written down by its maker (see [`crate::journal`]).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use anyhow::{Context as _, ensure};
use collector::audit::arch::Arch;
use collector::audit::rules::{Field, Operator, Rule};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{getpid, getppid, gettid};
use serde_json::{Value, json};

use crate::audit_state::rule_for;
use crate::journal::{Call, Clock, Journal};
use crate::sys::{self, Argument, Reading};

/// What a storm consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// openat of one file; the mode argument tells the calls apart.
    Open,
    /// A program that ends at once, with arguments that tell the calls apart.
    Exec,
    /// Addresses nobody listens at: of datagrams over IPv4, which succeeds, and names of sockets, which does not.
    Connect,
    /// All of these and more: files created, renamed, linked and removed, folders, links, signals, failures.
    Mixed,
}

/// Who makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Makers {
    /// Processes of one thread.
    Processes,
    /// Threads of one process.
    Threads,
}

/// The calls of every storm, by user `uid`. An openat without a mode is that of a loader.
pub fn rules(uid: u32) -> [Rule; 2] {
    let opened = rule_for(uid, Arch::NATIVE, &["openat"], "storm-open");
    let others = [
        "execve",
        "connect",
        "unlinkat",
        "renameat2",
        "mkdirat",
        "fchmodat",
        "linkat",
        "symlinkat",
        "truncate",
        "kill",
    ];
    let mode = Field::named("a3").expect("the fourth argument is a field");
    [
        opened.condition(mode, Operator::NOT_EQUAL, 0),
        rule_for(uid, Arch::NATIVE, &others, "storm"),
    ]
}

/// Has `n_makers` make `count` rounds of calls each at the same time; files go to `folder`, which must be the user's.
///
/// # Errors
/// Where something that must work does not.
pub fn run(
    kind: Kind,
    makers: Makers,
    n_makers: u32,
    count: u32,
    folder: &Path,
) -> anyhow::Result<Journal> {
    std::env::set_current_dir("/")?;
    let exe = std::env::current_exe()?;
    let mut journal = Journal {
        exe: exe.display().to_string(),
        comm: exe
            .file_name()
            .context("no name")?
            .to_string_lossy()
            .into_owned(),
        cwd: "/".into(),
        calls: Vec::new(),
    };
    let program = std::fs::canonicalize("/bin/true").context("cannot find /bin/true")?;
    let maker = |number: u32| Maker {
        number,
        folder: folder.display().to_string(),
        program: program.display().to_string(),
        calls: Vec::new(),
    };
    match makers {
        Makers::Threads => {
            let threads: Vec<_> = (0..n_makers)
                .map(|number| {
                    let maker = maker(number);
                    std::thread::spawn(move || maker.make(kind, count))
                })
                .collect();
            for thread in threads {
                let calls = thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                journal.calls.extend(calls);
            }
        }
        Makers::Processes => {
            let mut files = Vec::new();
            for number in 0..n_makers {
                let mut file = File::from(memfd_create(c"journal", MFdFlags::MFD_CLOEXEC)?);
                files.push(file.try_clone()?);
                let maker = maker(number);
                sys::in_child(AssertUnwindSafe(move || {
                    let calls = maker.make(kind, count).expect("a call could not be made");
                    let mut writer = BufWriter::new(&mut file);
                    serde_json::to_writer(&mut writer, &calls).expect("the journal is written");
                    writer.flush().expect("the journal is written");
                }))?;
            }
            ensure!(sys::all_children_succeeded(), "a maker failed");
            for mut file in files {
                file.rewind()?;
                let mut text = Vec::new();
                file.read_to_end(&mut text)?;
                let calls: Vec<Call> = serde_json::from_slice(&text)?;
                journal.calls.extend(calls);
            }
        }
    }
    Ok(journal)
}

/// A process or thread that makes calls and writes them down.
struct Maker {
    number: u32,
    folder: String,
    program: String,
    calls: Vec<Call>,
}

/// Sockets to connect; each may be connected again and again.
struct Sockets {
    datagram: UdpSocket,
    unix: UnixDatagram,
}

const CWD: Argument<'static> = Argument::Number(sys::AT_FDCWD as u32 as u64);

impl Maker {
    fn make(mut self, kind: Kind, count: u32) -> anyhow::Result<Vec<Call>> {
        let sockets = Sockets {
            datagram: UdpSocket::bind("0.0.0.0:0")?,
            unix: UnixDatagram::unbound()?,
        };
        for round in 0..count {
            match kind {
                Kind::Open => self.open("/dev/null", libc::O_RDONLY, self.mode(round)),
                Kind::Exec => self.execute(round)?,
                Kind::Connect if round % 4 == 3 => self.connect_unix(&sockets, round),
                Kind::Connect => self.connect(&sockets, round),
                Kind::Mixed => self.mix(&sockets, round)?,
            }
        }
        Ok(self.calls)
    }

    /// Not 0, which is what calls have that are none of ours.
    fn mode(&self, round: u32) -> u32 {
        (self.number << 20) | (round + 1)
    }

    /// A path nobody else names, with a space, which records have to encode.
    fn path(&self, what: &str, round: u32) -> String {
        format!("{}/{what} {}.{round}", self.folder, self.number)
    }

    fn mix(&mut self, sockets: &Sockets, round: u32) -> anyhow::Result<()> {
        let mode = self.mode(round);
        match round % 8 {
            0 => self.open("/dev/null", libc::O_RDONLY, mode),
            1 => self.connect(sockets, round),
            2 => self.connect_unix(sockets, round),
            3 => {
                let path = self.path("none", round);
                self.open(&path, libc::O_RDONLY, mode);
                self.fail_to_execute(round)?;
            }
            4 => {
                let process = Argument::Number(u64::from(std::process::id()));
                let number = Argument::Number(u64::from(mode));
                // The third argument is none of the call's, but reported with it.
                self.call(Reading::Kill, &[process, Argument::Number(0), number], &[]);
            }
            5 => self.use_file(round)?,
            6 => self.use_folder(round)?,
            _ => self.execute(round)?,
        }
        Ok(())
    }

    fn use_file(&mut self, round: u32) -> anyhow::Result<()> {
        let [first, linked, renamed] =
            ["file", "linked", "renamed"].map(|what| self.path(what, round));
        self.open(&first, libc::O_CREAT | libc::O_WRONLY, 0o600);
        let number = Argument::Number;
        self.call_with(Reading::Fchmodat, &first, &[number(0o640)])?;
        let path = CString::new(&*first)?;
        let arguments = [Argument::Text(&path), number(100)];
        self.call(Reading::Truncate, &arguments, &[&first]);
        let [from, to] = [CString::new(&*first)?, CString::new(&*linked)?];
        let arguments = [CWD, Argument::Text(&from), CWD, Argument::Text(&to)];
        self.call(Reading::Linkat, &arguments, &[&first, &linked]);
        let to = CString::new(&*renamed)?;
        let arguments = [CWD, Argument::Text(&from), CWD, Argument::Text(&to)];
        self.call(Reading::Renameat2, &arguments, &[&first, &renamed]);
        for path in [&linked, &renamed, &first] {
            self.call_with(Reading::Unlinkat, path, &[number(0)])?;
        }
        Ok(())
    }

    fn use_folder(&mut self, round: u32) -> anyhow::Result<()> {
        let [folder, link] = ["folder", "link"].map(|what| self.path(what, round));
        let number = Argument::Number;
        self.call_with(Reading::Mkdirat, &folder, &[number(0o700)])?;
        self.call_with(Reading::Mkdirat, &folder, &[number(0o700)])?;
        let [target, place] = [CString::new(&*folder)?, CString::new(&*link)?];
        let arguments = [Argument::Text(&target), CWD, Argument::Text(&place)];
        self.call(Reading::Symlinkat, &arguments, &[&folder, &link]);
        self.open(
            &link,
            libc::O_DIRECTORY | libc::O_NOFOLLOW,
            self.mode(round),
        );
        self.call_with(Reading::Unlinkat, &link, &[number(0)])?;
        let flags = number(libc::AT_REMOVEDIR as u64);
        self.call_with(Reading::Unlinkat, &folder, &[flags])
    }

    fn open(&mut self, path: &str, flags: i32, mode: u32) {
        let text = CString::new(path).expect("paths of ours have no NUL");
        let numbers = [(flags | libc::O_CLOEXEC) as u64, u64::from(mode)].map(Argument::Number);
        let arguments = [CWD, Argument::Text(&text), numbers[0], numbers[1]];
        let result = self.call(Reading::Openat, &arguments, &[path]);
        if result >= 0 {
            sys::close(result as i32);
        }
    }

    /// `call(AT_FDCWD, path, others…)`
    fn call_with(
        &mut self,
        call: Reading,
        path: &str,
        others: &[Argument<'_>],
    ) -> anyhow::Result<()> {
        let text = CString::new(path)?;
        let arguments = [&[CWD, Argument::Text(&text)], others].concat();
        self.call(call, &arguments, &[path]);
        Ok(())
    }

    fn connect(&mut self, sockets: &Sockets, round: u32) {
        let port = u16::try_from(1 + round % 60_000).expect("60,000 is less than 65,536");
        let [_, _, high, low] = round.to_be_bytes();
        let ip = [127, self.number as u8 + 1, high, low];
        let mut address = [0; 16];
        address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        address[2..4].copy_from_slice(&port.to_be_bytes());
        address[4..8].copy_from_slice(&ip);
        let [a, b, c, d] = ip;
        let told = json!({"family": "inet", "address": format!("{a}.{b}.{c}.{d}"), "port": port});
        self.connect_to(sockets.datagram.as_raw_fd(), &address, told);
    }

    fn connect_unix(&mut self, sockets: &Sockets, round: u32) {
        let name = format!("storm {}.{round}", self.number);
        let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
        address.push(0);
        address.extend_from_slice(name.as_bytes());
        let told = json!({"family": "unix", "abstract": name});
        self.connect_to(sockets.unix.as_raw_fd(), &address, told);
    }

    fn connect_to(&mut self, socket: RawFd, address: &[u8], told: Value) {
        let number = Argument::Number;
        let arguments = [
            number(socket as u64),
            Argument::Bytes(address),
            number(address.len() as u64),
        ];
        self.call(Reading::Connect, &arguments, &[]);
        if let Some(call) = self.calls.last_mut() {
            call.socket = told;
        }
    }

    /// Makes a call and writes it down.
    fn call(&mut self, call: Reading, arguments: &[Argument<'_>], paths: &[&str]) -> i64 {
        let before = Clock::Coarse.now_ms();
        let (args, result) = sys::make(call, arguments);
        self.note(call.name(), args, result, before, paths);
        result
    }

    fn note(&mut self, name: &str, args: [u64; 4], result: i64, before: u64, paths: &[&str]) {
        self.calls.push(Call {
            pid: getpid().as_raw() as u32,
            tid: gettid().as_raw() as u32,
            ppid: getppid().as_raw() as u32,
            name: name.into(),
            args,
            result,
            between: (before, Clock::Precise.now_ms()),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            socket: Value::Null,
            argv: Vec::new(),
        });
    }

    fn execute(&mut self, round: u32) -> anyhow::Result<()> {
        let argument = format!("storm {}.{round}", self.number);
        let [program, text] = [CString::new(&*self.program)?, CString::new(&*argument)?];
        let before = Clock::Coarse.now_ms();
        let (pid, args, succeeded) = sys::execute(&program, &[c"true", &text])?;
        ensure!(succeeded, "{} failed", self.program);
        let path = self.program.clone();
        self.note("execve", args, 0, before, &[&path]);
        let parent = getpid().as_raw() as u32;
        if let Some(call) = self.calls.last_mut() {
            (call.pid, call.tid, call.ppid) = (pid, pid, parent);
            call.argv = vec!["true".into(), argument];
        }
        Ok(())
    }

    fn fail_to_execute(&mut self, round: u32) -> anyhow::Result<()> {
        let path = self.path("program", round);
        let text = CString::new(&*path)?;
        let argv: [&CStr; 2] = [c"program", c"an argument"];
        let before = Clock::Coarse.now_ms();
        let (args, result) = sys::execute_nothing(&text, &argv);
        self.note("execve", args, result, before, &[&path]);
        if let Some(call) = self.calls.last_mut() {
            call.argv = argv
                .map(|text| text.to_string_lossy().into_owned())
                .to_vec();
        }
        Ok(())
    }
}
