//! Bytes of a ring sample into an observation.
//!
//! Owns the way from the ABI of [`collector_ebpf`] to [`Observation`]. The bytes come from our own programs, but a
//! wrong length or a version of another build must not do harm: every length is checked, unknown strings are passed
//! over, and no input panics.

use collector_ebpf::{
    FileFacts, LossReason, NOTED_NAMES, NameFacts, Sample, StringHeader, StringKind, TITLE_BYTES,
    VERSION, flags, string_flags,
};
use smallvec::SmallVec;
use zerocopy::FromBytes as _;

use crate::audit::record::Serial;
use crate::byte_string::ByteString;
use crate::clock::{KtimeNs, TimeMs};
use crate::probe::load::SENDERS;
use crate::probe::mirror::{rule_number, verdict};
use crate::probe::notes::{NotedFile, Notes};
use crate::probe::observation::{
    Captured, Credentials, Extent, FileInode, NotedName, Observation, OpenedFile, Operation,
    PathArgument, Report, Role, Standing, Verdict,
};

/// What the kernel appends to the path of a file that has been removed.
const DELETED: &[u8] = b" (deleted)";

/// What is wrong with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the fixed part.
    #[error("sample of {length} bytes is shorter than its fixed part of {least}")]
    Short {
        /// Bytes there are.
        length: usize,
        /// Bytes there should be at least.
        least: usize,
    },
    /// Made by programs of another build.
    #[error("sample of version {version}, kind {kind} is not one of ours")]
    Unknown {
        /// Its version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// Lengths within the sample contradict each other.
    #[error(
        "sample says it is {says} bytes long with a fixed part of {fixed}, but {length} bytes came"
    )]
    Length {
        /// What it says.
        says: u32,
        /// Its fixed part.
        fixed: u16,
        /// What came.
        length: usize,
    },
    /// A string goes beyond the end.
    #[error("string at byte {at} of the sample goes beyond its end")]
    String {
        /// Where.
        at: usize,
    },
    /// The programs' ruling is none we know.
    #[error("sample with ruling {ruling}, which no program sends")]
    Ruling {
        /// The number.
        ruling: u8,
    },
}

/// Which of [`crate::probe::load::SENDERS`] sent a sample, by its [`Sample::sequence`]. One that does not tell, or names
/// none of them, counts as that of sys_exit.
pub fn program_of(sample: &[u8]) -> usize {
    let at = std::mem::offset_of!(Sample, sequence);
    let sequence = sample.get(at..).and_then(<[u8]>::first_chunk);
    let program = sequence.map(|bytes| (u64::from_ne_bytes(*bytes) & 7) as usize);
    program
        .filter(|program| *program < SENDERS.len())
        .unwrap_or(1)
}

/// Reads one sample.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Observation, DecodeError> {
    let short = || DecodeError::Short {
        length: bytes.len(),
        least: size_of::<Sample>(),
    };
    let (sample, _) = Sample::read_from_prefix(bytes).map_err(|_| short())?;
    if sample.version != VERSION || sample.kind != 1 {
        return Err(DecodeError::Unknown {
            version: sample.version,
            kind: sample.kind,
        });
    }
    let fixed = usize::from(sample.fixed);
    if sample.length as usize != bytes.len()
        || fixed < size_of::<Sample>()
        || fixed > bytes.len()
        || fixed % 8 != 0
    {
        return Err(DecodeError::Length {
            says: sample.length,
            fixed: sample.fixed,
            length: bytes.len(),
        });
    }
    let ruling = collector_ebpf::Ruling(u32::from(sample.ruling));
    let reported = sample.flags & flags::REPORTED != 0;
    let verdict = if reported {
        Some(Verdict::Exact)
    } else {
        verdict(ruling)
    };
    let verdict = verdict
        .filter(|_| ruling <= collector_ebpf::Ruling::YES)
        .ok_or(DecodeError::Ruling {
            ruling: sample.ruling,
        })?;
    let [uid, gid, suid, sgid, euid, egid, fsuid, fsgid] = sample.ids;
    let mut observation = Observation {
        cpu: sample.cpu as u16,
        sequence: sample.sequence,
        n_bytes: bytes.len(),
        entry: KtimeNs(sample.entry_ns),
        taken: KtimeNs(sample.taken_ns),
        tgid: sample.tgid,
        tid: sample.tid,
        ppid: sample.ppid,
        arch: sample.arch,
        syscall: sample.syscall,
        args: sample.args,
        result: (sample.flags & flags::RESULT != 0)
            .then(|| collector_ebpf::audited_result(sample.result)),
        credentials: Credentials {
            auid: sample.auid,
            uid,
            gid,
            euid,
            suid,
            fsuid,
            egid,
            sgid,
            fsgid,
            session: sample.session,
        },
        audit_context: sample.flags & flags::AUDIT_CONTEXT != 0,
        task_always: sample.flags & flags::TASK_ALWAYS != 0,
        personality: sample.personality,
        subject: if sample.flags & flags::LABELS == 0 {
            Captured::Absent
        } else {
            Captured::Unreadable
        },
        tty: Captured::Absent,
        comm: until_nul(&sample.comm).into(),
        exe: Captured::Absent,
        cwd: Captured::Absent,
        paths: SmallVec::new(),
        argv: Captured::Absent,
        sockaddr: Captured::Absent,
        exe_inode: None,
        title: Captured::Absent,
        groups: Captured::Absent,
        opened: None,
        notes: None,
        noted: None,
        standing: Vec::new(),
        verdict,
        rule: rule_number(sample.rule),
        rules_generation: sample.generation,
        report: reported.then(|| report(&sample.report)),
        key: Captured::Absent,
        operations: Vec::new(),
        extent: extent(sample.flags),
    };
    let mut at = fixed;
    while at < bytes.len() {
        let beyond = DecodeError::String { at };
        let rest = bytes.get(at..).ok_or(beyond)?;
        let (header, rest) = StringHeader::read_from_prefix(rest).map_err(|_| beyond)?;
        let string = rest.get(..usize::from(header.length)).ok_or(beyond)?;
        place(&mut observation, &header, string);
        at += (size_of::<StringHeader>() + string.len()).next_multiple_of(8);
    }
    if !observation.is_call() {
        become_operation(&mut observation);
    }
    Ok(observation)
}

const fn extent(flags: u32) -> Extent {
    if flags & flags::IN_CALL != 0 {
        Extent::InCall
    } else if flags & flags::OPERATION != 0 {
        Extent::Operation
    } else if flags & flags::END_ONLY != 0 {
        Extent::EndOnly
    } else {
        Extent::Whole
    }
}

/// Puts what a sample says of an operation where it belongs, so that nobody takes its number for a call's.
fn become_operation(observation: &mut Observation) {
    let Some(report) = observation.report else {
        return;
    };
    observation.operations.push(Operation {
        number: observation.syscall,
        result: observation.result.take(),
        items: observation.args[0] as u32,
        tgid: observation.tgid,
        ppid: observation.ppid,
        credentials: observation.credentials,
        key: observation.key.clone(),
        report,
    });
    // What is noted while the call lasts is the call's.
    if observation.extent == Extent::InCall {
        observation.notes = None;
    }
    (observation.arch, observation.syscall) = (0, 0);
    observation.args = [0; 6];
}

fn report(report: &collector_ebpf::Report) -> Report {
    let milliseconds = u64::from(report.stamp_nsec) / 1_000_000;
    let first_lost = usize::from(report.first_lost).checked_sub(1);
    Report {
        time: TimeMs(
            report
                .stamp_sec
                .saturating_mul(1000)
                .saturating_add(milliseconds),
        ),
        serial: (report.serial != 0).then_some(Serial(report.serial)),
        lost_records: report.lost.iter().map(|lost| u32::from(*lost)).sum(),
        first_lost: first_lost.and_then(|reason| LossReason::ALL.get(reason).copied()),
        preceded: report.preceded != 0,
    }
}

/// Puts a string where it belongs.
fn place(observation: &mut Observation, header: &StringHeader, string: &[u8]) {
    let kind = header.kind;
    let whole = |string: ByteString| captured(string, header.flags);
    if kind == StringKind::Path as u8 {
        observation.paths.push(PathArgument {
            argument: header.argument,
            path: whole(string.into()),
        });
    } else if kind == StringKind::Sockaddr as u8 {
        observation.sockaddr = whole(string.into());
    } else if kind == StringKind::Argv as u8 {
        observation.argv = whole(arguments(string));
    } else if kind == StringKind::Exe as u8 {
        observation.exe = whole(path(string, header.flags));
    } else if kind == StringKind::Cwd as u8 {
        observation.cwd = whole(path(string, header.flags));
    } else if kind == StringKind::Tty as u8 {
        observation.tty = whole(string.into());
    } else if kind == StringKind::Opened as u8 {
        place_file(observation, header.argument, string);
    } else if kind == StringKind::OpenedPath as u8 {
        if let Some(opened) = &mut observation.opened {
            opened.path = whole(path(string, header.flags));
        }
    } else if kind == StringKind::Lineage as u8 {
        if let Some(opened) = &mut observation.opened {
            opened.lineage = numbers(string, header.flags, u64::from_ne_bytes);
        }
    } else if kind == StringKind::ExeFile as u8 {
        observation.exe_inode = file_facts(string).map(|facts| file_inode(&facts));
    } else if kind == StringKind::Title as u8 {
        observation.title = if header.flags & string_flags::KEPT != 0 {
            Captured::Whole(string.into())
        } else {
            captured(string, header.flags).and_then(title)
        };
    } else if kind == StringKind::Key as u8 {
        observation.key = whole(string.into());
    } else if kind == StringKind::Groups as u8 {
        observation.groups = numbers(string, header.flags, u32::from_ne_bytes);
    } else if kind == StringKind::Subject as u8 {
        observation.subject = whole(string.into());
    } else if kind == StringKind::Context as u8 {
        observation.notes = Notes::read(string).map(Box::new);
    } else if kind == StringKind::Name as u8
        && let Some(notes) = &mut observation.notes
    {
        notes.names.extend(NotedFile::read(string, whole));
    } else if kind == StringKind::Noted as u8 {
        observation.noted = noted(string);
    } else if kind == StringKind::Standing as u8
        && let Some((dev, lineage)) = string.split_first_chunk()
    {
        observation.standing.push(Standing {
            dev: device(u64::from_ne_bytes(*dev) as u32),
            lineage: numbers(lineage, header.flags, u64::from_ne_bytes),
        });
    }
}

/// A value by the flags it came with.
fn captured<T>(value: T, flags: u8) -> Captured<T> {
    if flags & string_flags::UNREADABLE != 0 {
        Captured::Unreadable
    } else if flags & string_flags::TRUNCATED != 0 {
        Captured::Truncated(value)
    } else if flags & string_flags::LATE != 0 {
        Captured::Late(value)
    } else {
        Captured::Whole(value)
    }
}

/// The files noted; none where there are fewer than the programs send.
fn noted(string: &[u8]) -> Option<Box<[Option<NotedName>; NOTED_NAMES]>> {
    let (names, _) = <[NameFacts; NOTED_NAMES]>::read_from_prefix(string).ok()?;
    Some(Box::new(names.map(noted_name)))
}

/// None where there never was one, and for roles that no kernel has.
fn noted_name(facts: NameFacts) -> Option<NotedName> {
    let role = match facts.role {
        // An entry begins with the number of no file.
        0 if facts.inode == 0 => return None,
        0 => Role::Unknown,
        1 => Role::Normal,
        2 => Role::Parent,
        3 => Role::Delete,
        4 => Role::Create,
        _ => return None,
    };
    Some(NotedName {
        role,
        inode: FileInode {
            number: facts.inode,
            dev: device(facts.dev),
            rdev: device(facts.rdev),
            mode: facts.mode as u16,
            uid: facts.uid,
            gid: facts.gid,
            magic: 0,
        },
        name: facts.name.checked_sub(1),
        changed: facts.changed != 0,
    })
}

/// Puts the file that the result names, or its directory, where it belongs.
fn place_file(observation: &mut Observation, argument: u8, string: &[u8]) {
    let Some(facts) = file_facts(string) else {
        return;
    };
    let inode = file_inode(&facts);
    match (argument, &mut observation.opened) {
        (0, opened) => {
            *opened = Some(OpenedFile {
                inode,
                directory: None,
                created: facts.open_mode & FileFacts::CREATED != 0,
                flags: facts.open_flags,
                path: Captured::Absent,
                lineage: Captured::Absent,
            });
        }
        (1, Some(opened)) => opened.directory = Some(inode),
        _ => {}
    }
}

fn file_facts(string: &[u8]) -> Option<FileFacts> {
    FileFacts::read_from_prefix(string)
        .ok()
        .map(|(facts, _)| facts)
}

fn file_inode(facts: &FileFacts) -> FileInode {
    FileInode {
        number: facts.inode,
        dev: device(facts.dev),
        rdev: device(facts.rdev),
        mode: facts.mode as u16,
        uid: facts.uid,
        gid: facts.gid,
        magic: facts.magic,
    }
}

/// Major and minor of a `dev_t` (include/linux/kdev_t.h).
const fn device(dev: u32) -> (u32, u32) {
    (dev >> 20, dev & 0xf_ffff)
}

/// Numbers of `N` bytes each.
fn numbers<const N: usize, T>(
    string: &[u8],
    flags: u8,
    number: impl Fn([u8; N]) -> T,
) -> Captured<Box<[T]>> {
    let (whole, _) = string.as_chunks::<N>();
    captured(whole.iter().map(|bytes| number(*bytes)).collect(), flags)
}

/// The beginning of an argument vector as `proctitle=` shows it (kernel/auditsc.c `audit_log_proctitle`, mm/util.c
/// `get_cmdline`); none where the kernel goes on into the environment.
fn title(memory: &[u8]) -> Option<ByteString> {
    let mut title = memory;
    if title.len() < TITLE_BYTES && title.last().is_some_and(|last| *last != 0) {
        title = &title[..title.iter().position(|byte| *byte == 0)?];
    }
    let is_printed = |byte: &u8| matches!(byte, 0x20..=0x7e | 0xa0..);
    let end = title.iter().rposition(is_printed)?;
    Some(title[..=end].into())
}

/// The memory of an argument vector, where each string ends with a NUL, as strings joined by NUL.
fn arguments(memory: &[u8]) -> ByteString {
    memory.strip_suffix(b"\0").unwrap_or(memory).into()
}

/// A path from its names, the last one first.
fn path(names: &[u8], flags: u8) -> ByteString {
    if flags & string_flags::COMPONENTS == 0 {
        return names.into();
    }
    // A name without its NUL was cut off, and says nothing.
    let whole = names
        .iter()
        .rposition(|byte| *byte == 0)
        .unwrap_or_default();
    let names = &names[..whole];
    let behind = match flags & (string_flags::DELETED | string_flags::DETACHED) {
        0 => &[][..],
        _ => DELETED,
    };
    let mut path = ByteString::with_capacity(1 + names.len() + behind.len());
    for name in names.split(|byte| *byte == 0).rev() {
        // Each NUL ends a name, so there is no empty one except where there is none at all.
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path.extend_from_slice(behind);
    path
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests;
