//! auditd's raw log format, which ausearch and aureport read.
//!
//! Records of the audit stream come out exactly as the kernel wrote them, with the end-of-event record where there was
//! one. What the kernel did not write is in records of types of our own ([`GIVEN_BACK`], [`LOSS`], [`STATE`]), one line
//! each, so that nobody can take it for the kernel's: their numbers lie in a range no kernel uses and from which the kernel takes
//! no messages, so that no process can forge one through it. ausearch finds them by number (`-m 2090`). An event
//! without a serial has serial 0, which the kernel gives out once in 2³² events; ausearch shows those of one millisecond together.
//!
//! Strings are written as the kernel writes untrusted ones: in quotes, or as hex where they hold a space, a quote, a
//! control character or a byte above 0x7e.

use std::io::Write as _;

use crate::audit::event::Completion;
use crate::audit::parse::write_log_line;
use crate::audit::record::{Provenance, Record, RecordType, Serial, Stamp};
use crate::byte_string::ByteString;
use crate::clock::TimeMs;
use crate::event::{Event, Loss, Output, State};
use crate::output::abi::{is_error, syscall_name};
use crate::output::identity::Identity;
use crate::output::json::{Id, change_name, unit_name};
use crate::probe::names;
use crate::probe::observation::{Captured, Observation};

/// A call that the audit stream did not report, or not whole, as eBPF saw it; an event some of whose records were copied in the
/// kernel; or one of which nothing is known.
pub const GIVEN_BACK: RecordType = RecordType(2090);
/// Something was lost.
pub const LOSS: RecordType = RecordType(2091);
/// The collector's own state changed.
pub const STATE: RecordType = RecordType(2092);

/// Renders outputs as lines of an audit log.
#[derive(Debug)]
pub struct RawRenderer {
    identity: Identity,
}

impl RawRenderer {
    /// A renderer for the stream of one boot of one host.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Appends the lines of `output`, each with its line end.
    pub fn render(&mut self, output: &Output, out: &mut Vec<u8>) {
        match output {
            Output::Event(event) => self.event(event, out),
            Output::Loss(loss) => write_loss(loss, out),
            Output::State(state) => write_state(state, out),
        }
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) {
        if let Some(audit) = &event.audit {
            for record in &audit.records {
                write_log_line(&record, out);
            }
            if audit.completion == Completion::Eoe {
                let node = audit.records.first().and_then(|record| record.node);
                let Stamp { time, serial } = audit.stamp;
                let eoe = own(RecordType::EOE, time, Some(serial), b"");
                write_log_line(&Record { node, ..eoe }, out);
            }
            // Where all records came from is told beside them.
            let by_stream = audit.mirrored.is_none();
            if by_stream && (event.observation.is_none() || has_call(event)) {
                return;
            }
        }
        self.given_back(event, out);
    }

    /// What only the collector knows of an event.
    fn given_back(&self, event: &Event, out: &mut Vec<u8>) {
        let mut body = Body::new();
        body.word("op", event.outcome.name());
        body.word("cause", event.cause.map_or("?", |cause| cause.name()));
        body.word(
            "verdict",
            event.verdict.map_or("?", |verdict| verdict.name()),
        );
        let boot = &self.identity.boot_id;
        body.name("id");
        Id { boot, id: event.id }.append(&mut body.0);
        if event.serial.is_none() {
            for (name, serial) in [("after", event.between.0), ("before", event.between.1)] {
                if let Some(serial) = serial {
                    body.display(name, serial.0);
                }
            }
        }
        if let Some(seen) = event.observation.as_deref() {
            body.observation(seen);
        }
        // Several keys are joined as auditctl joins them, which makes the value hex.
        if let Some(keys) = event.rule_keys.as_ref().filter(|keys| !keys.is_empty()) {
            body.untrusted("key", &keys.join(&[0x01][..]));
        }
        let record = own(GIVEN_BACK, event.time, event.serial, &body.0);
        write_log_line(&record, out);
    }
}

/// Whether the audit stream's part says itself which call it was.
fn has_call(event: &Event) -> bool {
    let mut records = event.audit.iter().flat_map(|audit| &audit.records);
    records.any(|record| record.record_type == RecordType::SYSCALL)
}

fn write_loss(loss: &Loss, out: &mut Vec<u8>) {
    let mut body = Body::new();
    body.word("op", "loss");
    body.word("stage", loss.cause.stage().name());
    body.word("cause", loss.cause.name());
    body.display("count", loss.count);
    body.word("unit", unit_name(loss.unit));
    if let Some(recovered) = loss.recovered {
        body.display("recovered", recovered);
    }
    if let Some((first, last)) = loss.serials {
        body.display("first", first.0);
        body.display("last", last.0);
    }
    let (after, before) = loss.between;
    for (name, serial) in [("after", after), ("before", before)] {
        if let Some(serial) = serial {
            body.display(name, serial.0);
        }
    }
    if let Some((from, to)) = loss.span {
        body.display("from", Seconds(from));
        body.display("to", Seconds(to));
    }
    write_log_line(&own(LOSS, loss.time, None, &body.0), out);
}

fn write_state(state: &State, out: &mut Vec<u8>) {
    let mut body = Body::new();
    body.word("op", change_name(state.what));
    body.untrusted("message", state.message.as_bytes());
    write_log_line(&own(STATE, state.time, None, &body.0), out);
}

fn own(record_type: RecordType, time: TimeMs, serial: Option<Serial>, body: &[u8]) -> Record<'_> {
    Record {
        record_type,
        stamp: Stamp {
            time,
            serial: serial.unwrap_or(Serial(0)),
        },
        node: None,
        body,
        enrichment: None,
        provenance: Provenance::Stream,
    }
}

/// A time as stamps have it.
struct Seconds(TimeMs);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0.0 / 1_000, self.0.0 % 1_000)
    }
}

/// The body of a record of ours.
struct Body(Vec<u8>);

impl Body {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(b' ');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
    }

    /// A word of our own.
    fn word(&mut self, name: &str, word: &str) {
        self.name(name);
        self.0.extend_from_slice(word.as_bytes());
    }

    fn display(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        write!(self.0, "{value}").expect("writing to a vector cannot fail");
    }

    /// A string somebody else chose, by the rules of kernel/audit.c `audit_log_n_untrustedstring`.
    fn untrusted(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        let unsafe_byte = |byte: &u8| *byte == b'"' || *byte < 0x21 || *byte > 0x7e;
        if bytes.iter().any(unsafe_byte) {
            self.hex(bytes);
        } else {
            self.0.push(b'"');
            self.0.extend_from_slice(bytes);
            self.0.push(b'"');
        }
    }

    fn hex(&mut self, bytes: &[u8]) {
        for byte in bytes {
            write!(self.0, "{byte:02X}").expect("writing to a vector cannot fail");
        }
    }

    fn captured(&mut self, name: &str, value: &Captured<ByteString>) {
        match value {
            Captured::Absent => {}
            Captured::Whole(bytes) => self.untrusted(name, bytes),
            Captured::Late(bytes) => {
                self.untrusted(name, bytes);
                self.word(&format!("{name}_late"), "yes");
            }
            Captured::Truncated(bytes) => {
                self.untrusted(name, bytes);
                self.word(&format!("{name}_truncated"), "yes");
            }
            Captured::Unreadable => self.word(name, "?"),
        }
    }

    /// Names are the kernel's where the value is; the call is named `call` because ausearch -i would take `syscall` for
    /// one of another table.
    fn observation(&mut self, seen: &Observation) {
        if seen.is_call() {
            self.display("arch", format_args!("{:x}", seen.arch));
            self.word("call", syscall_name(seen.arch, seen.syscall).unwrap_or("?"));
            self.display("nr", seen.syscall);
        }
        for operation in &seen.operations {
            self.display("uring_op", operation.number);
            if let Some(result) = operation.result {
                self.display("uring_exit", result);
            }
        }
        if let Some(result) = seen.result {
            self.word("success", if is_error(result) { "no" } else { "yes" });
            self.display("exit", result);
        }
        for (i, argument) in seen.arguments().iter().enumerate() {
            self.display(&format!("a{i}"), format_args!("{argument:x}"));
        }
        let ids = &seen.credentials;
        for (name, id) in [
            ("ppid", seen.ppid),
            ("pid", seen.tgid),
            ("tid", seen.tid),
            ("auid", ids.auid),
            ("uid", ids.uid),
            ("gid", ids.gid),
            ("euid", ids.euid),
            ("suid", ids.suid),
            ("fsuid", ids.fsuid),
            ("egid", ids.egid),
            ("sgid", ids.sgid),
            ("fsgid", ids.fsgid),
            ("ses", ids.session),
        ] {
            self.display(name, id);
        }
        match &seen.tty {
            Captured::Absent => self.word("tty", "(none)"),
            tty => self.captured("tty", tty),
        }
        self.untrusted("comm", &seen.comm);
        self.captured("exe", &seen.exe);
        self.captured("cwd", &seen.cwd);
        for path in &seen.paths {
            self.captured(&format!("path{}", path.argument), &path.path);
        }
        // As in a PATH record; of a directory beside it, the JSON stream tells.
        let names = names::of(seen).known;
        if let Some(opened) = names
            .iter()
            .rfind(|name| name.certain && name.found().is_some() && seen.opened.is_some())
        {
            let inode = &opened.inode;
            self.display("inode", inode.number);
            for (name, (major, minor)) in [("dev", inode.dev), ("rdev", inode.rdev)] {
                self.display(name, format_args!("{major:02x}:{minor:02x}"));
            }
            self.display("mode", format_args!("0{:o}", inode.mode));
            self.display("ouid", inode.uid);
            self.display("ogid", inode.gid);
            self.word("nametype", opened.role.name());
        }
        // Hex in any case, as in PROCTITLE: the arguments lie apart by NUL.
        if let (None, Some(title)) = (seen.argv.value(), seen.title.value()) {
            self.name("proctitle");
            self.hex(title);
        }
        if let Some(argv) = seen.argv.value() {
            self.name("proctitle");
            self.hex(argv);
            if let Captured::Truncated(_) = seen.argv {
                self.word("proctitle_truncated", "yes");
            }
        }
        if let Some(address) = seen.sockaddr.value() {
            self.name("saddr");
            self.hex(address);
            if let Captured::Late(_) = seen.sockaddr {
                self.word("saddr_late", "yes");
            }
        }
    }
}

#[cfg(test)]
mod tests;
