//! CWD and PATH records: the files a call named, as far as the observation tells (kernel/auditsc.c `audit_log_name`).

use super::record::{RebuiltRecord, Source};
use crate::audit::record::RecordType;
use crate::audit::records::Inode;
use crate::byte_string::ByteString;
use crate::probe::names::{self, Role};
use crate::probe::notes::{FileCapabilities, Notes, Printed};
use crate::probe::observation::{Captured, FileInode, Observation};

/// The PATH records of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Those that are surely there, in the kernel's order.
    pub(super) entries: Vec<Entry>,
    /// Whether there are no others, so that each has its number.
    pub(super) complete: bool,
    /// Whether there is one at all: then there is a CWD record too. None where that is not known.
    pub(super) any: Option<bool>,
}

/// One PATH record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    name: Text,
    inode: Found,
    capabilities: Capabilities,
    /// `nametype=`
    role: (Source, &'static str),
}

/// `name=`
#[derive(Clone, Debug)]
enum Text {
    Known(Source, Vec<u8>),
    /// It has none.
    None,
    Unknown,
}

/// The fields about the object.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// It was found.
    Yes(Source, Inode),
    /// It was not, and the record has no such fields.
    No,
}

/// The capabilities a file gives (`cap_fp=` and its like).
#[derive(Clone, Copy, Debug)]
enum Capabilities {
    /// Of what was not found the kernel prints zeros.
    None,
    /// As noted.
    Known(Source, FileCapabilities),
    /// The kernel did not look.
    NotAsked,
    Unknown,
}

/// What is known of the files of `seen`.
pub(super) fn files(seen: &Observation) -> Files {
    if let Some(notes) = &seen.notes {
        return noted(seen, notes);
    }
    let list = names::of(seen);
    if list.complete && list.known.is_empty() {
        return Files {
            entries: Vec::new(),
            complete: true,
            any: Some(false),
        };
    }
    if let Some(not_found) = not_found(seen) {
        return not_found;
    }
    // Through a link that leads elsewhere the kernel notes several directories, and what was created twice; of calls that open
    // nothing, which path an entry is of is not told.
    let surely_named = |name: &&names::Name| {
        name.certain
            && (list.complete || name.role == Role::Normal)
            && seen.opened.is_some()
            && name.found().is_some()
    };
    let sure = list.known.iter().filter(surely_named);
    let entries: Vec<_> = sure
        .map(|name| Entry {
            name: match name.role {
                Role::Parent => directory(seen),
                _ => named(seen),
            },
            inode: Found::Yes(Source::File, inode(&name.inode)),
            capabilities: Capabilities::Unknown,
            role: (Source::Derived, name.role.name()),
        })
        .collect();
    let complete = list.complete && entries.len() == list.known.len();
    Files {
        any: if entries.is_empty() {
            named_any(seen)
        } else {
            Some(true)
        },
        entries,
        complete,
    }
}

/// The kernel's own list.
fn noted(seen: &Observation, notes: &Notes) -> Files {
    let shown = notes.names.iter().filter(|file| !file.hidden);
    let entries = shown.map(|file| Entry {
        name: match (&file.name, file.printed) {
            (Captured::Absent, _) => Text::None,
            (_, Printed::Cwd) => cwd(seen),
            (Captured::Whole(name), Printed::Whole) => Text::Known(Source::Context, name.to_vec()),
            (Captured::Whole(name) | Captured::Truncated(name), Printed::Beginning(length)) => {
                let beginning = name.get(..length).map(<[u8]>::to_vec);
                beginning.map_or(Text::Unknown, |name| Text::Known(Source::Context, name))
            }
            // What the programs had no room for may be an argument of the call.
            (Captured::Truncated(name), _) => argument(seen, name),
            _ => Text::Unknown,
        },
        inode: match file.inode {
            Some(inode) => Found::Yes(Source::Context, inode),
            None => Found::No,
        },
        capabilities: match file.capabilities {
            Some(capabilities) => Capabilities::Known(Source::Context, capabilities),
            None => Capabilities::NotAsked,
        },
        role: (Source::Context, file.role),
    });
    Files {
        entries: entries.collect(),
        complete: notes.has_all_names(),
        any: Some(notes.n_names > 0),
    }
}

/// The path argument that begins with `name`.
fn argument(seen: &Observation, name: &[u8]) -> Text {
    let found = seen.paths.iter().find_map(|path| match &path.path {
        Captured::Whole(path) if path.starts_with(name) => Some((Source::Memory, path)),
        Captured::Late(path) if path.starts_with(name) => Some((Source::MemoryLate, path)),
        _ => None,
    });
    found.map_or(Text::Unknown, |(source, path)| {
        Text::Known(source, path.to_vec())
    })
}

/// A call that looked one path up and found nothing there.
fn not_found(seen: &Observation) -> Option<Files> {
    const ENOENT: i64 = -(libc::ENOENT as i64);
    let [path] = seen.paths.as_slice() else {
        return None;
    };
    let whole = path.path.whole()?;
    if seen.result != Some(ENOENT) || whole.is_empty() || !names::only_looks_up(seen) {
        return None;
    }
    Some(Files {
        entries: vec![Entry {
            name: named(seen),
            inode: Found::No,
            capabilities: Capabilities::None,
            role: (Source::Derived, "UNKNOWN"),
        }],
        complete: true,
        any: Some(true),
    })
}

/// Whether the kernel noted a name: it does as soon as it has copied one from the caller's memory.
fn named_any(seen: &Observation) -> Option<bool> {
    let copied = |path: &Captured<ByteString>| match path {
        Captured::Whole(path) | Captured::Late(path) => !path.is_empty(),
        _ => false,
    };
    seen.paths
        .iter()
        .any(|path| copied(&path.path))
        .then_some(true)
}

/// The path that the call named.
fn named(seen: &Observation) -> Text {
    match seen.paths.first().map(|path| &path.path) {
        Some(Captured::Whole(path)) => Text::Known(Source::Memory, path.to_vec()),
        Some(Captured::Late(path)) => Text::Known(Source::MemoryLate, path.to_vec()),
        _ => Text::Unknown,
    }
}

/// The directory part of the path that the call named, or the working directory.
fn directory(seen: &Observation) -> Text {
    let Text::Known(source, path) = named(seen) else {
        return Text::Unknown;
    };
    if let Some(directory) = names::directory_part(&path) {
        return Text::Known(source, directory.to_vec());
    }
    cwd(seen)
}

fn cwd(seen: &Observation) -> Text {
    match &seen.cwd {
        Captured::Whole(cwd) => Text::Known(Source::Task, cwd.to_vec()),
        _ => Text::Unknown,
    }
}

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

impl Capabilities {
    /// kernel/auditsc.c `audit_log_fcaps`
    fn write(self, record: &mut RebuiltRecord) {
        const NAMES: [&str; 5] = ["cap_fp", "cap_fi", "cap_fe", "cap_fver", "cap_frootid"];
        match self {
            Self::None => {
                for name in NAMES {
                    record.plain(name, Source::Derived, 0);
                }
            }
            Self::Known(source, file) => {
                record.plain("cap_fp", source, capabilities(file.permitted));
                record.plain("cap_fi", source, capabilities(file.inheritable));
                record.plain("cap_fe", source, u8::from(file.effective));
                record.plain("cap_fver", source, format_args!("{:x}", file.version));
                record.plain("cap_frootid", source, file.root.cast_signed());
            }
            Self::NotAsked => {
                for name in ["cap_fe", "cap_fver", "cap_fp", "cap_fi"] {
                    record.plain(name, Source::Context, "?");
                }
            }
            Self::Unknown => {
                for name in NAMES {
                    record.unknown(name);
                }
            }
        }
    }
}

/// kernel/auditsc.c `audit_log_cap`
fn capabilities(set: u64) -> String {
    match set {
        0 => "0".to_owned(),
        set => format!("{set:016x}"),
    }
}

/// `%#ho`
fn octal(mode: u32) -> String {
    match mode {
        0 => "0".to_owned(),
        mode => format!("0{mode:o}"),
    }
}

impl Entry {
    /// Its record; `item` is its number, where that is known.
    pub(super) fn record(&self, item: Option<usize>) -> RebuiltRecord {
        let mut record = RebuiltRecord::new(RecordType::PATH);
        match item {
            Some(item) => record.plain("item", Source::Derived, item),
            None => record.unknown("item"),
        }
        match &self.name {
            Text::Known(source, name) => record.untrusted("name", *source, name),
            Text::None => record.plain("name", Source::Context, "(null)"),
            Text::Unknown => record.unknown("name"),
        }
        match self.inode {
            Found::Yes(source, inode) => {
                let device = |(major, minor)| format!("{major:02x}:{minor:02x}");
                record.plain("inode", source, inode.inode);
                record.plain("dev", source, device(inode.dev));
                record.plain("mode", source, octal(inode.mode));
                record.plain("ouid", source, inode.ouid);
                record.plain("ogid", source, inode.ogid);
                record.plain("rdev", source, device(inode.rdev));
            }
            Found::No => {}
        }
        let (source, role) = self.role;
        record.plain("nametype", source, role);
        self.capabilities.write(&mut record);
        record
    }
}
