//! What an event says, decoded from both witnesses.
//!
//! The audit stream's word comes first; what it does not say is taken from the observation, and for a matched event
//! each such field is listed in `from_ebpf`. What neither says is listed in `missing` where the kernel would have said it.

mod missing;

use smallvec::SmallVec;

use crate::audit::event::Records;
use crate::audit::fields::{Text, Value};
use crate::audit::record::{Provenance, Record, RecordType};
use crate::audit::records::{
    ExecveFields, Inode, PathFields, SockaddrFields, SyscallFields, split_keys,
};
use crate::byte_string::ByteString;
use crate::digits;
use crate::enrich::users::UserNames;
use crate::event::{Event, MatchedBy};
use crate::output::abi::{arch_name, errno_name, is_error, syscall_name};
use crate::output::json::operations::{self, Source};
use crate::output::json::writer::Object;
use crate::output::json::{object, record};
use crate::probe::names;
use crate::probe::observation::{Captured, Extent, FileInode, Observation, PathArgument};
use crate::rebuild::rebuild;

/// The id that means "unset".
const UNSET: u32 = u32::MAX;

/// Memory that is used again from event to event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    execve: ExecveFields,
    /// What a string is decoded into.
    text: Vec<u8>,
}

/// Adds all of `event` that is decoded, and its records.
pub(super) fn write(
    event: &Event,
    users: Option<&mut UserNames>,
    scratch: &mut Scratch,
    line: &mut Object<'_>,
) {
    let Scratch { execve, text } = scratch;
    let none = Records::default();
    let records = event.audit.as_ref().map_or(&none, |audit| &audit.records);
    let parts = Parts::read(event, records, execve);
    // What was copied in the kernel is eBPF's word.
    let mirrored = |record: Record<'_>| record.provenance != Provenance::Stream;
    let copied = records.iter().any(mirrored);
    let by_stream = event.audit.is_some() && (!copied || !records.iter().all(mirrored));
    let source = match (by_stream, copied || event.observation.is_some()) {
        (true, false) => Some("audit"),
        (false, true) => Some("ebpf"),
        (true, true) => Some("both"),
        (false, false) => None,
    };
    line.optional("source", source);
    line.string("outcome", event.outcome.name());
    line.optional("verdict", event.verdict.map(|verdict| verdict.name()));
    if let Some(matched_by) = event.matched_by {
        line.string("matched_by", matched_by_name(matched_by));
    }
    let missing = parts.missing(event);
    line.boolean("complete", missing.is_empty());
    line.array("missing", |array| {
        for what in &missing {
            array.string(what);
        }
    });
    line.optional("cause", event.cause.map(|cause| cause.name()));

    let mut filled = Filled {
        both: event.audit.is_some() && event.observation.is_some(),
        names: SmallVec::new(),
    };
    parts.write_syscall(&mut filled, line);
    if operations::write(parts.records, parts.observation, line) == Source::Ebpf {
        filled.note("operations");
    }
    parts.write_process(&mut filled, users, text, line);
    parts.write_paths(&mut filled, text, line);
    parts.write_socket(&mut filled, text, line);
    match parts.keys {
        Keys::Said(keys) => {
            let joined = match keys {
                Some(keys) => keys.decode_into(text),
                None => &[],
            };
            line.byte_list("keys", split_keys(joined).map(Some));
        }
        Keys::OfRule(keys) => line.byte_list("keys", keys.iter().map(|key| Some(&**key))),
    }
    if filled.both {
        line.array("from_ebpf", |array| {
            for name in &filled.names {
                array.string(name);
            }
        });
    }
    record::write(parts.records, line);
    if let (None, Some(seen)) = (&event.audit, &event.observation) {
        let rebuilt = rebuild(seen, event.rule_keys.as_deref());
        record::write_rebuilt(&rebuilt, line);
    }
}

const fn matched_by_name(matched_by: MatchedBy) -> &'static str {
    match matched_by {
        MatchedBy::Serial => "serial",
        MatchedBy::Key => "key",
        MatchedBy::Content => "content",
    }
}

/// Which fields of an event both witnesses reported came from eBPF.
struct Filled {
    both: bool,
    names: SmallVec<[&'static str; 16]>,
}

impl Filled {
    /// The audit stream's value, or else the observation's.
    fn pick<T>(&mut self, name: &'static str, audit: Option<T>, ebpf: Option<T>) -> Option<T> {
        if audit.is_none() && ebpf.is_some() {
            self.note(name);
        }
        audit.or(ebpf)
    }

    fn note(&mut self, name: &'static str) {
        if self.both {
            self.names.push(name);
        }
    }
}

/// An event taken apart.
struct Parts<'a> {
    records: &'a Records,
    observation: Option<&'a Observation>,
    call: Option<SyscallFields<'a>>,
    execve: Option<&'a ExecveFields>,
    paths: SmallVec<[PathFields<'a>; 4]>,
    cwd: Option<Text<'a>>,
    title: Option<Text<'a>>,
    saddr: Option<Text<'a>>,
    keys: Keys<'a>,
}

/// The keys of an event.
enum Keys<'a> {
    /// As a record says them; none where it says that there is none.
    Said(Option<Text<'a>>),
    /// No record says any: those of the rule that asks for the event.
    OfRule(&'a [ByteString]),
}

impl<'a> Parts<'a> {
    fn read(event: &'a Event, records: &'a Records, execve: &'a mut ExecveFields) -> Self {
        let call = records.iter().find_map(SyscallFields::from_record);
        let of_type = |wanted| {
            records
                .iter()
                .find(move |record| record.record_type == wanted)
        };
        let keys = match &call {
            Some(call) => Keys::Said(call.keys),
            None => match records.iter().find_map(|record| record.field(b"key")) {
                Some(keys) => Keys::Said(Text::untrusted(keys)),
                None => Keys::OfRule(event.rule_keys.as_deref().unwrap_or_default()),
            },
        };
        let mut paths: SmallVec<[PathFields<'_>; 4]> =
            records.iter().filter_map(PathFields::from_record).collect();
        paths.sort_by_key(|path| path.item);
        Self {
            records,
            observation: event.observation.as_deref(),
            call,
            execve: execve.read(records).then_some(&*execve),
            paths,
            cwd: of_type(RecordType::CWD).and_then(|record| record.text(b"cwd")),
            title: of_type(RecordType::PROCTITLE).and_then(|record| record.text(b"proctitle")),
            saddr: records
                .iter()
                .find_map(SockaddrFields::from_record)
                .map(|fields| fields.saddr),
            keys,
        }
    }

    fn write_syscall(&self, filled: &mut Filled, line: &mut Object<'_>) {
        let (call, seen) = (self.call.as_ref(), self.observation);
        let seen = seen.filter(|seen| seen.is_call());
        let Some((arch, number)) = filled.pick(
            "syscall",
            call.map(|call| (call.arch, call.syscall)),
            seen.map(|seen| (seen.arch, seen.syscall)),
        ) else {
            return;
        };
        let seen_result = seen.filter(|_| call.is_none()).and_then(|seen| seen.result);
        let exit = call.and_then(|call| call.exit).or(seen_result);
        let success = call
            .and_then(|call| call.success)
            .or(seen_result.map(|result| !is_error(result)));
        line.object("syscall", |object| {
            match arch_name(arch) {
                Some(name) => object.string("arch", name),
                None => object.plain("arch", format_args!("{arch:08x}")),
            }
            object.optional("name", syscall_name(arch, number));
            object.number("number", number);
            object.array("args", |array| {
                let from_audit = call.map_or(&[][..], |call| &call.args);
                let from_ebpf = seen.map_or(&[][..], |seen| seen.arguments());
                let rest = from_ebpf.get(from_audit.len()..).unwrap_or_default();
                for argument in from_audit.iter().chain(rest) {
                    array.written(|out| {
                        out.extend_from_slice(b"0x");
                        digits::hex(out, *argument, 1);
                    });
                }
            });
            match success {
                Some(success) => object.boolean("success", success),
                None => object.null("success"),
            }
            match exit {
                Some(exit) => object.number("exit", exit),
                None => object.null("exit"),
            }
            let errno = exit.filter(|_| success == Some(false)).and_then(errno_name);
            object.optional("errno", errno);
            if let Some(took) = seen.and_then(|seen| seen.duration()) {
                let took = took.as_nanos();
                object.number("duration_ns", i128::try_from(took).unwrap_or(i128::MAX));
            }
        });
        if call.is_some() && seen.is_some_and(|seen| seen.extent == Extent::Whole) {
            filled.note("syscall.args[4]");
            filled.note("syscall.args[5]");
        }
        if seen.is_some_and(|seen| seen.duration().is_some()) {
            filled.note("syscall.duration_ns");
        }
    }

    fn write_process(
        &self,
        filled: &mut Filled,
        mut users: Option<&mut UserNames>,
        buffer: &mut Vec<u8>,
        line: &mut Object<'_>,
    ) {
        let (call, seen) = (self.call.as_ref(), self.observation);
        let other = self
            .records
            .iter()
            .find(|record| call.is_none() && record.field(b"pid").is_some());
        if call.is_none() && seen.is_none() && other.is_none() {
            return;
        }
        let credentials = seen.map(|seen| &seen.credentials);
        line.object("process", |object| {
            let mut id = |name: &'static str,
                          path: &'static str,
                          audit: Option<u32>,
                          ebpf: Option<u32>,
                          object: &mut Object<'_>| {
                let said = other.and_then(|record| record.field(name.as_bytes()));
                let audit = audit.or_else(|| said.and_then(Value::as_id));
                match filled.pick(path, audit, ebpf) {
                    None => None,
                    Some(UNSET) => {
                        object.null(name);
                        None
                    }
                    Some(value) => {
                        object.number(name, value);
                        Some(value)
                    }
                }
            };
            macro_rules! ids {
                ($($name:literal $field:ident),* $(,)?) => {
                    $(
                        let number = id(
                            $name,
                            concat!("process.", $name),
                            call.map(|call| call.$field),
                            credentials.map(|ids| ids.$field),
                            object,
                        );
                        if let (Some(number), Some(users)) = (number, users.as_deref_mut()) {
                            write_name($name, number, users, object);
                        }
                    )*
                };
            }
            id(
                "pid",
                "process.pid",
                call.map(|call| call.pid),
                seen.map(|seen| seen.tgid),
                object,
            );
            id(
                "tid",
                "process.tid",
                None,
                seen.map(|seen| seen.tid),
                object,
            );
            id(
                "ppid",
                "process.ppid",
                call.map(|call| call.ppid),
                seen.map(|seen| seen.ppid),
                object,
            );
            ids!(
                "auid" auid, "uid" uid, "gid" gid, "euid" euid, "suid" suid, "fsuid" fsuid,
                "egid" egid, "sgid" sgid, "fsgid" fsgid, "ses" session,
            );

            let said = |name: &[u8]| other.and_then(|record| record.text(name));
            let texts = [
                (
                    "tty",
                    "process.tty",
                    call.and_then(|call| call.tty),
                    // A SYSCALL record says that there is none.
                    seen.filter(|_| call.is_none())
                        .and_then(|seen| seen.tty.value()),
                ),
                (
                    "comm",
                    "process.comm",
                    call.and_then(|call| call.comm),
                    seen.map(|seen| &seen.comm),
                ),
                (
                    "exe",
                    "process.exe",
                    call.and_then(|call| call.exe),
                    seen.and_then(|seen| seen.exe.value()),
                ),
                (
                    "cwd",
                    "process.cwd",
                    self.cwd,
                    seen.and_then(|seen| seen.cwd.value()),
                ),
                (
                    "subj",
                    "process.subj",
                    call.and_then(|call| call.subject),
                    None,
                ),
            ];
            for (name, path, audit, ebpf) in texts {
                let audit = audit.or_else(|| said(name.as_bytes()));
                let ebpf = ebpf.map(|bytes| Text::Plain(bytes));
                if let Some(text) = filled.pick(path, audit, ebpf) {
                    object.bytes(name, text.decode_into(buffer));
                }
            }
            self.write_argv(filled, object);
            let seen_title = seen
                .and_then(|seen| seen.title.value())
                .map(|title| Text::Plain(title));
            // Rules may have kept the record away from an event that the audit stream has.
            let seen_title = seen_title.filter(|_| self.records.is_empty());
            if let Some(title) = self.title.or(seen_title) {
                object.byte_list("title", split_nul(title.decode_into(buffer)));
            }
        });
    }

    fn write_argv(&self, filled: &mut Filled, object: &mut Object<'_>) {
        if let Some(execve) = self.execve {
            object.byte_list("argv", execve.argv());
        } else if let Some(argv) = self.observation.and_then(|seen| seen.argv.value()) {
            filled.note("process.argv");
            object.byte_list("argv", split_nul(argv));
        }
    }

    fn write_paths(&self, filled: &mut Filled, buffer: &mut Vec<u8>, line: &mut Object<'_>) {
        let lacking = match &self.call {
            Some(call) => self.paths.len() < call.items as usize,
            None => self.paths.is_empty(),
        };
        let seen = self.observation.filter(|_| lacking);
        let seen = seen.map_or(&[][..], |seen| &seen.paths);
        if self.paths.is_empty() && seen.is_empty() {
            return;
        }
        line.array("paths", |array| {
            for path in &self.paths {
                array.object(|object| object::write_path(path, buffer, object));
            }
            // The file that was opened is the first one named, and its directory stands before it as in PATH records.
            let mut named = self.opened_names();
            for path in seen {
                let own = named.pop();
                for parent in named.drain(..) {
                    array.object(|object| self.write_directory(&parent, path, object));
                }
                array.object(|object| {
                    object.number("argument", path.argument);
                    if let Some(name) = path.path.value() {
                        object.bytes("name", name);
                    }
                    match path.path {
                        Captured::Truncated(_) => object.boolean("truncated", true),
                        Captured::Late(_) => object.boolean("late", true),
                        Captured::Unreadable => object.boolean("unreadable", true),
                        Captured::Absent | Captured::Whole(_) => {}
                    }
                    if let Some(name) = own {
                        object.string("nametype", name.role.name());
                        object::write_inode(&inode(&name.inode), object);
                    }
                });
            }
        });
        if !seen.is_empty() {
            filled.note("paths");
        }
    }

    /// What is surely known of the file that was opened.
    fn opened_names(&self) -> names::Entries {
        let seen = self.observation.filter(|seen| seen.opened.is_some());
        let mut known = seen.map_or_else(names::Entries::new, |seen| names::of(seen).known);
        known.retain(|name| name.certain);
        known
    }

    /// The directory of the file that `path` names.
    fn write_directory(&self, parent: &names::Name, path: &PathArgument, object: &mut Object<'_>) {
        let whole = path.path.whole();
        let cwd = || self.observation?.cwd.whole().map(|cwd| &cwd[..]);
        if let Some(path) = whole
            && let Some(name) = names::directory_part(path).or_else(cwd)
        {
            object.bytes("name", name);
        }
        object.string("nametype", parent.role.name());
        object::write_inode(&inode(&parent.inode), object);
    }

    fn write_socket(&self, filled: &mut Filled, buffer: &mut Vec<u8>, line: &mut Object<'_>) {
        let seen = self.observation.and_then(|seen| seen.sockaddr.value());
        let seen = seen.map(|bytes| Text::Plain(bytes));
        let Some(address) = filled.pick("socket", self.saddr, seen) else {
            return;
        };
        let bytes = address.decode_into(buffer);
        line.object("socket", |object| object::write_socket(bytes, object));
    }
}

/// What the kernel would have printed of a file.
fn inode(seen: &FileInode) -> Inode {
    Inode {
        inode: seen.number,
        dev: seen.dev,
        mode: u32::from(seen.mode),
        ouid: seen.uid,
        ogid: seen.gid,
        rdev: seen.rdev,
    }
}

/// The strings of a list in which each is followed by NUL, the last one perhaps not.
fn split_nul(list: &[u8]) -> impl Iterator<Item = Option<&[u8]>> + Clone {
    let list = list.strip_suffix(b"\0").unwrap_or(list);
    list.split(|byte| *byte == 0).map(Some)
}

/// The name of the user or group behind an id, where it has one.
fn write_name(field: &str, id: u32, users: &mut UserNames, object: &mut Object<'_>) {
    let name = match field {
        "auid" | "uid" | "euid" | "suid" | "fsuid" => users.user(id),
        "gid" | "egid" | "sgid" | "fsgid" => users.group(id),
        _ => None,
    };
    if let Some(name) = name {
        object.suffixed_bytes(field, "_name", name);
    }
}
