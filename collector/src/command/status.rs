//! `audit-collector status`: the kernel's audit status, and the accounts of the collectors that run.
//!
//! Owns how they read, for a person and as JSON, once or again and again. Asks the kernel and the collectors, and changes
//! nothing.

mod collectors;
mod kernel;
mod watch;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::account_socket::{self, FolderError};
use crate::audit::client::{Client, ClientError};
use crate::clock::{KtimeNs, RealtimeOffset};
use crate::command::Format;
use crate::enrich::users::UserNames;
use collectors::Collectors;
pub use kernel::Report;
use watch::Screen;

/// Why the status could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The kernel did not tell.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The collectors' sockets cannot be looked for.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The answer could not be written.
    #[error("cannot write the status")]
    Write(#[from] io::Error),
}

impl StatusError {
    /// Whether the kernel refuses for want of a capability, or from within this namespace.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_refusal())
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// How to answer. While watching, JSON is one line each time.
    pub format: Format,
    /// How long to wait before asking again; none for asking once.
    pub watch: Option<Duration>,
    /// Where the collectors' sockets are.
    pub account_folder: PathBuf,
}

/// Prints the status. While watching, it ends only when `out` cannot be written; a failure after the first answer is shown
/// in place of one, and asked about again.
///
/// # Errors
/// Where the kernel refuses to tell, the folder cannot be read, or `out` cannot be written.
pub fn run(request: &Request, out: &mut (impl Write + IsTerminal)) -> Result<(), StatusError> {
    let mut names = UserNames::of_this_host();
    let Some(pause) = request.watch else {
        let answer = Answer::ask(request, &mut names)?;
        match request.format {
            Format::Text => out.write_all(answer.text(request).as_bytes())?,
            Format::Json => writeln!(out, "{:#}", answer.json())?,
        }
        return Ok(out.flush()?);
    };
    let screen = Screen::of(out.is_terminal(), pause);
    let mut answer = Ok(Answer::ask(request, &mut names)?);
    loop {
        match (request.format, &answer) {
            (Format::Json, Ok(answer)) => writeln!(out, "{}", answer.json())?,
            (Format::Json, Err(error)) => {
                writeln!(out, "{}", serde_json::json!({ "error": error }))?;
            }
            (Format::Text, Ok(answer)) => screen.show(&answer.text(request), out)?,
            (Format::Text, Err(error)) => screen.show(&format!("{error}\n"), out)?,
        }
        out.flush()?;
        thread::sleep(pause);
        answer = Answer::ask(request, &mut names).map_err(|error| error.to_string());
    }
}

/// What was found out.
struct Answer {
    kernel: Report,
    collectors: Collectors,
}

impl Answer {
    fn ask(request: &Request, names: &mut UserNames) -> Result<Self, StatusError> {
        let kernel = Report::read(&mut Client::connect()?)?;
        let found = account_socket::find(&request.account_folder)?;
        let now = RealtimeOffset::sample().wall(KtimeNs::now());
        let collectors = Collectors::new(found, now, names);
        Ok(Self { kernel, collectors })
    }

    fn text(&self, request: &Request) -> String {
        let mut text = self.kernel.text();
        text.push('\n');
        text.push_str(&self.collectors.text(&request.account_folder));
        text
    }

    fn json(&self) -> serde_json::Value {
        let mut json = self.kernel.json();
        json["collectors"] = self.collectors.json();
        json
    }
}

/// A line of the answer: what, how much, and what that means.
fn line(name: &str, value: &str, note: &str) -> String {
    let line = format!("{name:<26}{value:<26}{note}");
    format!("{}\n", line.trim_end())
}

/// The name of process `pid`; none for 0 and where it cannot be read.
pub(super) fn process_name(pid: u32) -> Option<String> {
    if pid == 0 {
        return None;
    }
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_ascii_end().escape_ascii().to_string())
}
