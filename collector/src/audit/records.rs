//! What the records of a system call event say, as numbers and decoded strings.
//!
//! Owns the meaning of SYSCALL, EXECVE, PATH and SOCKADDR records, read from the raw text and never from what an enriched
//! log adds. Each reader gives none for a record of another type and for one that lacks a number it must have:
//! a cut record must not turn into zeros. Formats: kernel/auditsc.c `audit_log_exit` and `audit_log_task_info`.

mod execve;
mod name;
mod uring;

use memchr::{memmem, memrchr};

pub use execve::ExecveFields;
pub use uring::UringFields;

use crate::audit::fields::{Fields, Text, Value, is_hex, name_number};
use crate::audit::record::{Record, RecordType};
use crate::audit::rules::KEY_SEPARATOR;

/// A SYSCALL record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallFields<'a> {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The call's number on that architecture.
    pub syscall: u32,
    /// Whether it succeeded; none where the task ended inside the call.
    pub success: Option<bool>,
    /// Its result; none where the task ended inside the call.
    pub exit: Option<i64>,
    /// The first four arguments.
    pub args: [u64; 4],
    /// How many objects the call named. The event has a PATH record for each, but for those the kernel hides: the
    /// directory of a message queue.
    pub items: u32,
    /// The parent's process id (tgid) in the first pid namespace.
    pub ppid: u32,
    /// The process id (tgid) in the first pid namespace.
    pub pid: u32,
    /// Login uid; [`u32::MAX`] where unset.
    pub auid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// File system user id.
    pub fsuid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// File system group id.
    pub fsgid: u32,
    /// The controlling terminal; none for `(none)`.
    pub tty: Option<Text<'a>>,
    /// Session id; [`u32::MAX`] where unset.
    pub session: u32,
    /// The task's name, 15 bytes at most; none where the record was cut before it.
    pub comm: Option<Text<'a>>,
    /// The executable's path; none for a task without one.
    pub exe: Option<Text<'a>>,
    /// The security context, as a single LSM prints it; none where none does.
    pub subject: Option<Text<'a>>,
    /// The keys of the rule that matched, for [`split_keys`]; none where it has none.
    pub keys: Option<Text<'a>>,
}

impl<'a> SyscallFields<'a> {
    /// Reads a SYSCALL record.
    pub fn from_record(record: Record<'a>) -> Option<Self> {
        if record.record_type != RecordType::SYSCALL {
            return None;
        }
        let (mut arch, mut syscall, mut success, mut exit) = (None, None, None, None);
        let (mut args, mut items, mut session) = ([None; 4], None, None);
        let (mut ppid, mut pid, mut auid, mut uid, mut gid) = (None, None, None, None, None);
        let (mut euid, mut suid, mut fsuid) = (None, None, None);
        let (mut egid, mut sgid, mut fsgid) = (None, None, None);
        let (mut tty, mut comm, mut exe, mut subject, mut keys) = (None, None, None, None, None);
        for field in record.fields() {
            let value = field.value;
            match name_number(field.name) {
                name::ARCH => arch = value.as_hex_u64().and_then(|arch| arch.try_into().ok()),
                name::SYSCALL => syscall = value.as_u64().and_then(|call| call.try_into().ok()),
                name::SUCCESS => success = yes_or_no(value),
                name::EXIT => exit = value.as_i64(),
                name::A0 => args[0] = value.as_hex_u64(),
                name::A1 => args[1] = value.as_hex_u64(),
                name::A2 => args[2] = value.as_hex_u64(),
                name::A3 => args[3] = value.as_hex_u64(),
                name::ITEMS => items = value.as_u64().and_then(|items| items.try_into().ok()),
                name::PPID => ppid = value.as_id(),
                name::PID => pid = value.as_id(),
                name::AUID => auid = value.as_id(),
                name::UID => uid = value.as_id(),
                name::GID => gid = value.as_id(),
                name::EUID => euid = value.as_id(),
                name::SUID => suid = value.as_id(),
                name::FSUID => fsuid = value.as_id(),
                name::EGID => egid = value.as_id(),
                name::SGID => sgid = value.as_id(),
                name::FSGID => fsgid = value.as_id(),
                name::TTY => tty = Text::trusted(value),
                name::SES => session = value.as_id(),
                name::COMM => comm = Text::untrusted(value),
                name::EXE => exe = Text::untrusted(value),
                name::KEY => keys = Text::untrusted(value),
                // The last but for the key, and written as it is: a label may look like fields.
                name::SUBJ => {
                    subject = Text::trusted(value);
                    keys = key_of_call(record).and_then(Text::untrusted);
                    break;
                }
                _ => {}
            }
        }
        Some(Self {
            arch: arch?,
            syscall: syscall?,
            success,
            exit,
            args: [args[0]?, args[1]?, args[2]?, args[3]?],
            items: items?,
            ppid: ppid?,
            pid: pid?,
            auid: auid?,
            uid: uid?,
            gid: gid?,
            euid: euid?,
            suid: suid?,
            fsuid: fsuid?,
            egid: egid?,
            sgid: sgid?,
            fsgid: fsgid?,
            tty,
            session: session?,
            comm,
            exe,
            subject,
            keys,
        })
    }
}

/// What the `key` field of a SYSCALL record says, where it has one: the last word, as the kernel writes it last (kernel/auditsc.c
/// `audit_log_exit`), and as hex where it has a space in it.
pub fn key_of_call(record: Record<'_>) -> Option<Value<'_>> {
    let begin = memrchr(b' ', record.body)?;
    let last = Fields::new(&record.body[begin..]).next()?;
    (last.name == b"key").then_some(last.value)
}

/// How many objects the call named, as a SYSCALL record says: found from the front, where no text of anybody's choice stands before it.
pub fn items_of_call(record: Record<'_>) -> Option<u32> {
    let begin = memmem::find(record.body, b" items=")?;
    let items = Fields::new(&record.body[begin..]).next()?;
    items.value.as_u64()?.try_into().ok()
}

/// The keys in what a `key` field says. A rule with several has them joined by 0x01, which makes the kernel write hex.
pub fn split_keys(joined: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let keys = joined.split(|byte| *byte == KEY_SEPARATOR);
    keys.filter(|key| !key.is_empty())
}

/// What a PATH record says an object was to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameType {
    /// An object the call worked on.
    Normal,
    /// The directory it lies in.
    Parent,
    /// An object the call made.
    Create,
    /// An object the call removed.
    Delete,
    /// The kernel did not know.
    Unknown,
}

/// A PATH record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathFields<'a> {
    /// Its number within the event, from 0.
    pub item: u32,
    /// The path as the call named it, relative to the event's CWD where it is not absolute; none for `(null)`.
    pub name: Option<Text<'a>>,
    /// What the object is; none where the lookup found none.
    pub inode: Option<Inode>,
    /// What the object was to the call; none where the record does not say so.
    pub nametype: Option<NameType>,
}

/// The object of a PATH record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Inode number.
    pub inode: u64,
    /// Major and minor number of the device it lies on.
    pub dev: (u32, u32),
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub ouid: u32,
    /// Group.
    pub ogid: u32,
    /// Major and minor number of the device it is.
    pub rdev: (u32, u32),
}

impl<'a> PathFields<'a> {
    /// Reads a PATH record.
    pub fn from_record(record: Record<'a>) -> Option<Self> {
        if record.record_type != RecordType::PATH {
            return None;
        }
        let (mut item, mut name, mut nametype) = (None, None, None);
        let (mut inode, mut dev, mut mode) = (None, None, None);
        let (mut ouid, mut ogid, mut rdev) = (None, None, None);
        for field in record.fields() {
            let value = field.value;
            match name_number(field.name) {
                name::ITEM => item = value.as_u64().and_then(|item| item.try_into().ok()),
                name::NAME => name = Text::untrusted(value),
                name::INODE => inode = value.as_u64(),
                name::DEV => dev = device(value),
                name::MODE => mode = value.as_octal_u64().and_then(|mode| mode.try_into().ok()),
                name::OUID => ouid = value.as_id(),
                name::OGID => ogid = value.as_id(),
                name::RDEV => rdev = device(value),
                // Linux before 4.3 and some logs call it objtype.
                name::NAMETYPE | name::OBJTYPE => {
                    nametype = Some(match value.raw() {
                        b"NORMAL" => NameType::Normal,
                        b"PARENT" => NameType::Parent,
                        b"CREATE" => NameType::Create,
                        b"DELETE" => NameType::Delete,
                        _ => NameType::Unknown,
                    });
                }
                _ => {}
            }
        }
        let inode = (|| {
            Some(Inode {
                inode: inode?,
                dev: dev?,
                mode: mode?,
                ouid: ouid?,
                ogid: ogid?,
                rdev: rdev?,
            })
        })();
        Some(Self {
            item: item?,
            name,
            inode,
            nametype,
        })
    }
}

/// A SOCKADDR record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SockaddrFields<'a> {
    /// The `struct sockaddr` as the call passed it, in the byte order of the machine.
    pub saddr: Text<'a>,
}

impl<'a> SockaddrFields<'a> {
    /// Reads a SOCKADDR record.
    pub fn from_record(record: Record<'a>) -> Option<Self> {
        if record.record_type != RecordType::SOCKADDR {
            return None;
        }
        match record.field(b"saddr")? {
            Value::Bare(hex) if is_hex(hex) => Some(Self {
                saddr: Text::Hex(hex),
            }),
            _ => None,
        }
    }
}

fn yes_or_no(value: Value<'_>) -> Option<bool> {
    match value.raw() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// `fd:01`: major and minor number in hex.
fn device(value: Value<'_>) -> Option<(u32, u32)> {
    let Value::Bare(raw) = value else { return None };
    let colon = memchr::memchr(b':', raw)?;
    let part = |hex| Value::Bare(hex).as_hex_u64()?.try_into().ok();
    Some((part(&raw[..colon])?, part(&raw[colon + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::{log_line, netlink_record};

    const SYSCALL: &str = "arch=c000003e syscall=257 success=no exit=-13 a0=ffffff9c a1=7ffd0a a2=0 a3=0 items=1 \
        ppid=10 pid=11 auid=4294967295 uid=1 gid=2 euid=3 suid=4 fsuid=5 egid=6 sgid=7 fsgid=8 tty=(none) \
        ses=4294967295 comm=612062 exe=\"/usr/bin/cat\" subj=unconfined key=";

    fn record(record_type: RecordType, body: &str) -> Record<'_> {
        Record {
            body: body.as_bytes(),
            ..netlink_record(record_type.0, b"audit(1.000:1): ").unwrap()
        }
    }

    #[test]
    fn a_syscall_record_is_read_whole() {
        let body = format!("{SYSCALL}\"opens\"");
        let fields = SyscallFields::from_record(record(RecordType::SYSCALL, &body)).unwrap();
        let expected = SyscallFields {
            arch: 0xc000_003e,
            syscall: 257,
            success: Some(false),
            exit: Some(-13),
            args: [0xffff_ff9c, 0x7ffd0a, 0, 0],
            items: 1,
            ppid: 10,
            pid: 11,
            auid: u32::MAX,
            uid: 1,
            gid: 2,
            euid: 3,
            suid: 4,
            fsuid: 5,
            egid: 6,
            sgid: 7,
            fsgid: 8,
            tty: None,
            session: u32::MAX,
            comm: Some(Text::Plain(b"a b")),
            exe: Some(Text::Plain(b"/usr/bin/cat")),
            subject: Some(Text::Plain(b"unconfined")),
            keys: Some(Text::Plain(b"opens")),
        };
        assert_eq!(fields, expected);
    }

    #[test]
    fn several_keys_come_apart_and_none_is_none() {
        for (key, keys) in [
            ("6F6E650174776F", &[&b"one"[..], b"two"][..]),
            ("(null)", &[]),
            ("\"one\"", &[b"one"]),
        ] {
            let body = format!("{SYSCALL}{key}");
            let record = record(RecordType::SYSCALL, &body);
            let fields = SyscallFields::from_record(record).unwrap();
            assert_eq!(fields.keys, key_of_call(record).and_then(Text::untrusted));
            assert_eq!(Some(fields.items), items_of_call(record));
            let joined = fields.keys.map(Text::decode).unwrap_or_default();
            assert_eq!(split_keys(&joined).collect::<Vec<_>>(), keys, "{key}");
        }
        let cut = SYSCALL.rsplit_once(" key=").unwrap().0;
        assert!(key_of_call(record(RecordType::SYSCALL, cut)).is_none());
    }

    #[test]
    fn a_security_context_passes_for_no_other_field() {
        for label in [
            "a key=\"false\" uid=0 pid=1 (enforce)",
            "a key=\"x uid=0 pid=1 (enforce)",
            "a exe=\"/bin/false items=7 (enforce)",
        ] {
            let body = SYSCALL.replace("unconfined", label) + "\"true\"";
            let record = record(RecordType::SYSCALL, &body);
            let fields = SyscallFields::from_record(record).unwrap();
            assert_eq!((fields.uid, fields.pid, fields.items), (1, 11, 1));
            assert_eq!(fields.exe, Some(Text::Plain(b"/usr/bin/cat")));
            assert_eq!(fields.keys, Some(Text::Plain(b"true")));
            assert_eq!(key_of_call(record), Some(Value::Quoted(b"true")));
            assert_eq!(items_of_call(record), Some(1));
        }
    }

    #[test]
    fn a_cut_syscall_record_is_none_rather_than_zeros() {
        let body = &SYSCALL[..SYSCALL.find("egid").unwrap()];
        assert_eq!(
            SyscallFields::from_record(record(RecordType::SYSCALL, body)),
            None
        );
    }

    #[test]
    fn a_task_that_ended_inside_its_call_has_no_result() {
        let body = SYSCALL.replace(" success=no exit=-13", "");
        let fields = SyscallFields::from_record(record(RecordType::SYSCALL, &body)).unwrap();
        assert_eq!((fields.success, fields.exit), (None, None));
    }

    #[test]
    fn an_enriched_line_gives_the_numbers_and_not_the_names() {
        let line = format!(
            "type=SYSCALL msg=audit(1.000:1): {SYSCALL}(null)\u{1d}ARCH=x86_64 SYSCALL=openat AUID=\"unset\" UID=\"root\""
        );
        let record = log_line(line.as_bytes()).unwrap();
        assert_eq!(SyscallFields::from_record(record).unwrap().uid, 1);
        let name = record
            .enrichment_fields()
            .find(|field| field.name == b"UID");
        assert_eq!(name.map(|field| field.value), Some(Value::Quoted(b"root")));
    }

    #[test]
    fn a_path_has_an_inode_only_where_the_lookup_found_one() {
        let found = "item=1 name=\"/dev/sda\" inode=301 dev=00:05 mode=060660 ouid=0 ogid=6 rdev=08:10 nametype=NORMAL cap_fp=0";
        let path = PathFields::from_record(record(RecordType::PATH, found)).unwrap();
        assert_eq!(path.name, Some(Text::Plain(b"/dev/sda")));
        let inode = path.inode.unwrap();
        assert_eq!(
            (inode.inode, inode.dev, inode.mode, inode.rdev),
            (301, (0, 5), 0o60660, (8, 16))
        );
        let missing = "item=0 name=(null) nametype=UNKNOWN cap_fp=0";
        let path = PathFields::from_record(record(RecordType::PATH, missing)).unwrap();
        assert_eq!(
            (path.name, path.inode, path.nametype),
            (None, None, Some(NameType::Unknown))
        );
    }

    #[test]
    fn a_socket_address_is_bytes() {
        let ipv4 = "saddr=020000357F0000350000000000000000";
        let address = SockaddrFields::from_record(record(RecordType::SOCKADDR, ipv4)).unwrap();
        assert_eq!(
            address.saddr.decode()[..8],
            [2, 0, 0, 0x35, 127, 0, 0, 0x35]
        );
        assert_eq!(
            SockaddrFields::from_record(record(RecordType::SOCKADDR, "saddr=0200003")),
            None
        );
    }
}
