//! What the kernel noted for the records of a call, as the hooks on the audit code found it (`struct audit_context` and
//! `struct audit_names` of kernel/audit.h).

use collector_ebpf::{ContextFacts, NameEntry};
use zerocopy::FromBytes as _;

use crate::audit::record::RecordType;
use crate::audit::records::Inode;
use crate::byte_string::ByteString;
use crate::probe::observation::Captured;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// How many files the call named, as `items=` says.
    pub n_names: u32,
    /// The files, in the kernel's order; fewer than there are where they had no room.
    pub names: Vec<NotedFile>,
    /// The type of the record that only calls of its kind have.
    pub kind: Option<RecordType>,
    /// The beginning of what is in it, in the kernel's layout of that kind.
    pub special: [u64; 4],
    /// A pair of descriptors that the call made.
    pub descriptors: Option<[i32; 2]>,
    /// The process that a signal went to.
    pub target: Option<Target>,
    /// Whether there is a record of capabilities that a program gained.
    pub gained: bool,
    /// Whether there were more such processes.
    pub more_targets: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotedFile {
    /// The file as it was then; none where none was found.
    pub inode: Option<Inode>,
    /// What it is to the call, as `nametype=` says.
    pub role: &'static str,
    /// Whether it has no record.
    pub hidden: bool,
    /// Its name; absent where it has none.
    pub name: Captured<ByteString>,
    /// How much of the name is printed.
    pub printed: Printed,
    /// The capabilities it gives; none where the kernel did not look.
    pub capabilities: Option<FileCapabilities>,
}

/// How much of a name a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// All of it.
    Whole,
    /// So many bytes: the directory in it.
    Beginning(usize),
    /// The working directory in its place.
    Cwd,
}

/// Capabilities of a file (`cap_fp=` and its like).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCapabilities {
    /// Permitted.
    pub permitted: u64,
    /// Inheritable.
    pub inheritable: u64,
    /// Whether they are effective at once.
    pub effective: bool,
    /// The version of the attribute.
    pub version: u32,
    /// The user who is root where they count.
    pub root: u32,
}

/// A process that a signal went to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub pid: u32,
    /// Its login uid.
    pub auid: u32,
    /// Its user.
    pub uid: u32,
    /// Its session.
    pub session: u32,
    /// Its name.
    pub comm: ByteString,
}

impl Notes {
    /// Reads what goes before the names.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (facts, _) = ContextFacts::read_from_prefix(bytes).ok()?;
        let [pid, auid, uid, session] = facts.target;
        let end = facts.target_comm.iter().position(|byte| *byte == 0);
        Some(Self {
            n_names: facts.names,
            names: Vec::new(),
            kind: u16::try_from(facts.kind)
                .ok()
                .filter(|kind| *kind != 0)
                .map(RecordType),
            special: facts.special,
            descriptors: (facts.descriptors[0] >= 0).then_some(facts.descriptors),
            target: (pid != 0).then(|| Target {
                pid,
                auid,
                uid,
                session,
                comm: facts.target_comm[..end.unwrap_or(facts.target_comm.len())].into(),
            }),
            gained: facts.flags & ContextFacts::AUX != 0,
            more_targets: facts.flags & ContextFacts::AUX_PIDS != 0,
        })
    }

    /// Whether all files are here.
    pub fn has_all_names(&self) -> bool {
        self.names.len() as u64 == u64::from(self.n_names)
    }
}

/// The word for an `AUDIT_TYPE_*` of include/linux/audit.h.
const fn nametype(role: u8) -> &'static str {
    match role {
        1 => "NORMAL",
        2 => "PARENT",
        3 => "DELETE",
        4 => "CREATE",
        _ => "UNKNOWN",
    }
}

impl NotedFile {
    /// Reads an entry and the text of its name.
    pub(super) fn read(
        bytes: &[u8],
        whole: impl FnOnce(ByteString) -> Captured<ByteString>,
    ) -> Option<Self> {
        let (entry, text) = NameEntry::read_from_prefix(bytes).ok()?;
        let device = |dev: u32| (dev >> 20, dev & 0xf_ffff);
        Some(Self {
            // `AUDIT_INO_UNSET`
            inode: (entry.inode != u64::MAX).then(|| Inode {
                inode: entry.inode,
                dev: device(entry.dev),
                mode: entry.mode,
                ouid: entry.uid,
                ogid: entry.gid,
                rdev: device(entry.rdev),
            }),
            role: nametype(entry.role),
            hidden: entry.hidden != 0,
            name: if entry.named != 0 {
                whole(text.into())
            } else {
                Captured::Absent
            },
            printed: match usize::try_from(entry.printed) {
                Err(_) => Printed::Whole,
                Ok(0) => Printed::Cwd,
                Ok(length) => Printed::Beginning(length),
            },
            capabilities: (entry.version != u32::MAX).then_some(FileCapabilities {
                permitted: entry.permitted,
                inheritable: entry.inheritable,
                effective: entry.effective != 0,
                version: entry.version,
                root: entry.root,
            }),
        })
    }
}
