//! The names of fields as numbers.

use crate::audit::fields::name_number;

macro_rules! names {
    ($($constant:ident = $name:literal,)*) => {
        $(pub(super) const $constant: u64 = name_number($name);)*
    };
}

names! {
    ARCH = b"arch",
    SYSCALL = b"syscall",
    SUCCESS = b"success",
    EXIT = b"exit",
    A0 = b"a0",
    A1 = b"a1",
    A2 = b"a2",
    A3 = b"a3",
    ITEMS = b"items",
    PPID = b"ppid",
    PID = b"pid",
    AUID = b"auid",
    UID = b"uid",
    GID = b"gid",
    EUID = b"euid",
    SUID = b"suid",
    FSUID = b"fsuid",
    EGID = b"egid",
    SGID = b"sgid",
    FSGID = b"fsgid",
    TTY = b"tty",
    SES = b"ses",
    COMM = b"comm",
    EXE = b"exe",
    SUBJ = b"subj",
    KEY = b"key",
    ITEM = b"item",
    NAME = b"name",
    INODE = b"inode",
    DEV = b"dev",
    MODE = b"mode",
    OUID = b"ouid",
    OGID = b"ogid",
    RDEV = b"rdev",
    NAMETYPE = b"nametype",
    OBJTYPE = b"objtype",
}
