//! Names and properties of the record types.
//!
//! Owns the table number ↔ name as libaudit prints it (`type=` of a log line) and what is known per type about
//! whether an end-of-event record follows. Knows nothing of bodies.

use std::fmt;

use crate::audit::record::RecordType;

/// Whether records of a type share their stamp with a system call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Always an event of its own, without an end-of-event record.
    Alone,
    /// Part of a system call's event where one was active when the kernel logged it, else an event of its own.
    Either,
    /// Only ever part of an event that ends with an end-of-event record.
    Inside,
}

impl RecordType {
    /// Whether an end-of-event record follows records of this type, as far as the type tells
    /// (callers of `audit_log_start` in Linux 6.18).
    ///
    /// `SECCOMP` and `ANOM_ABEND` are logged with an audit context, but outside the span in which it is in use:
    /// before system call entry and at signal delivery. Unknown types are taken for [`Standing::Either`].
    pub const fn standing(self) -> Standing {
        match self {
            Self::USER
            | Self::KERNEL
            | Self::NETFILTER_PKT
            | Self::SECCOMP
            | Self::ANOM_ABEND
            | Self(1100..=1299 | 2100..=2999) => Standing::Alone,
            Self::SYSCALL
            | Self::PATH
            | Self::IPC
            | Self::SOCKETCALL
            | Self::SOCKADDR
            | Self::CWD
            | Self::EXECVE
            | Self::IPC_SET_PERM
            | Self::MQ_OPEN
            | Self::MQ_SENDRECV
            | Self::MQ_NOTIFY
            | Self::MQ_GETSETATTR
            | Self::FD_PAIR
            | Self::OBJ_PID
            | Self::EOE
            | Self::BPRM_FCAPS
            | Self::CAPSET
            | Self::MMAP
            | Self::PROCTITLE
            | Self::KERN_MODULE
            | Self::TIME_INJOFFSET
            | Self::TIME_ADJNTPVAL
            | Self::URINGOP
            | Self::OPENAT2 => Standing::Inside,
            _ => Standing::Either,
        }
    }

    /// Whether records of this type are always an event of their own, so that nothing more is to be waited for.
    pub const fn stands_alone(self) -> bool {
        matches!(self.standing(), Standing::Alone)
    }

    /// Whether auditd made records of this type up itself. Their serials are auditd's own count, not the kernel's,
    /// and must not be taken for it when serials are checked for holes.
    pub const fn is_from_daemon(self) -> bool {
        matches!(self.0, 1200..=1299)
    }

    /// Whether it is one of our own in auditd's log format, whose serial may be 0 for none.
    pub const fn is_from_collector(self) -> bool {
        matches!(self.0, 2090..=2092)
    }

    /// The type `text` names, as in `type=` of a log line: a name of the table, or `UNKNOWN[number]`.
    pub fn from_name(text: &[u8]) -> Option<Self> {
        if let Some(number) = text.strip_prefix(b"UNKNOWN[") {
            let digits = number.strip_suffix(b"]")?;
            return std::str::from_utf8(digits).ok()?.parse().ok().map(Self);
        }
        Self::named(text)
    }
}

impl fmt::Display for RecordType {
    /// The name as libaudit prints it, `UNKNOWN[number]` for a type without one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "UNKNOWN[{}]", self.0),
        }
    }
}

macro_rules! record_types {
    ($($name:ident = $number:literal,)*) => {
        impl RecordType {
            $(
                #[doc = concat!("`AUDIT_", stringify!($name), "`")]
                pub const $name: Self = Self($number);
            )*

            /// Every type that has a name, by number.
            pub const NAMED: &[Self] = &[$(Self::$name,)*];

            /// The name as libaudit prints it; none for a type it (and the kernel's header) does not name.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            fn named(text: &[u8]) -> Option<Self> {
                $(const $name: &[u8] = stringify!($name).as_bytes();)*
                match text {
                    $($name => Some(Self($number)),)*
                    _ => None,
                }
            }
        }
    };
}

// libaudit 3.0.9 (msg_typetab), and from include/uapi/linux/audit.h up to Linux 6.18 what it does not name yet.
record_types! {
    USER = 1005,
    LOGIN = 1006,
    USER_AUTH = 1100,
    USER_ACCT = 1101,
    USER_MGMT = 1102,
    CRED_ACQ = 1103,
    CRED_DISP = 1104,
    USER_START = 1105,
    USER_END = 1106,
    USER_AVC = 1107,
    USER_CHAUTHTOK = 1108,
    USER_ERR = 1109,
    CRED_REFR = 1110,
    USYS_CONFIG = 1111,
    USER_LOGIN = 1112,
    USER_LOGOUT = 1113,
    ADD_USER = 1114,
    DEL_USER = 1115,
    ADD_GROUP = 1116,
    DEL_GROUP = 1117,
    DAC_CHECK = 1118,
    CHGRP_ID = 1119,
    TEST = 1120,
    TRUSTED_APP = 1121,
    USER_SELINUX_ERR = 1122,
    USER_CMD = 1123,
    USER_TTY = 1124,
    CHUSER_ID = 1125,
    GRP_AUTH = 1126,
    SYSTEM_BOOT = 1127,
    SYSTEM_SHUTDOWN = 1128,
    SYSTEM_RUNLEVEL = 1129,
    SERVICE_START = 1130,
    SERVICE_STOP = 1131,
    GRP_MGMT = 1132,
    GRP_CHAUTHTOK = 1133,
    MAC_CHECK = 1134,
    ACCT_LOCK = 1135,
    ACCT_UNLOCK = 1136,
    USER_DEVICE = 1137,
    SOFTWARE_UPDATE = 1138,
    DAEMON_START = 1200,
    DAEMON_END = 1201,
    DAEMON_ABORT = 1202,
    DAEMON_CONFIG = 1203,
    DAEMON_ROTATE = 1205,
    DAEMON_RESUME = 1206,
    DAEMON_ACCEPT = 1207,
    DAEMON_CLOSE = 1208,
    DAEMON_ERR = 1209,
    SYSCALL = 1300,
    PATH = 1302,
    IPC = 1303,
    SOCKETCALL = 1304,
    CONFIG_CHANGE = 1305,
    SOCKADDR = 1306,
    CWD = 1307,
    EXECVE = 1309,
    IPC_SET_PERM = 1311,
    MQ_OPEN = 1312,
    MQ_SENDRECV = 1313,
    MQ_NOTIFY = 1314,
    MQ_GETSETATTR = 1315,
    KERNEL_OTHER = 1316,
    FD_PAIR = 1317,
    OBJ_PID = 1318,
    TTY = 1319,
    EOE = 1320,
    BPRM_FCAPS = 1321,
    CAPSET = 1322,
    MMAP = 1323,
    NETFILTER_PKT = 1324,
    NETFILTER_CFG = 1325,
    SECCOMP = 1326,
    PROCTITLE = 1327,
    FEATURE_CHANGE = 1328,
    KERN_MODULE = 1330,
    FANOTIFY = 1331,
    TIME_INJOFFSET = 1332,
    TIME_ADJNTPVAL = 1333,
    BPF = 1334,
    EVENT_LISTENER = 1335,
    URINGOP = 1336,
    OPENAT2 = 1337,
    DM_CTRL = 1338,
    DM_EVENT = 1339,
    AVC = 1400,
    SELINUX_ERR = 1401,
    AVC_PATH = 1402,
    MAC_POLICY_LOAD = 1403,
    MAC_STATUS = 1404,
    MAC_CONFIG_CHANGE = 1405,
    MAC_UNLBL_ALLOW = 1406,
    MAC_CIPSOV4_ADD = 1407,
    MAC_CIPSOV4_DEL = 1408,
    MAC_MAP_ADD = 1409,
    MAC_MAP_DEL = 1410,
    MAC_IPSEC_ADDSA = 1411,
    MAC_IPSEC_DELSA = 1412,
    MAC_IPSEC_ADDSPD = 1413,
    MAC_IPSEC_DELSPD = 1414,
    MAC_IPSEC_EVENT = 1415,
    MAC_UNLBL_STCADD = 1416,
    MAC_UNLBL_STCDEL = 1417,
    MAC_CALIPSO_ADD = 1418,
    MAC_CALIPSO_DEL = 1419,
    IPE_ACCESS = 1420,
    IPE_CONFIG_CHANGE = 1421,
    IPE_POLICY_LOAD = 1422,
    LANDLOCK_ACCESS = 1423,
    LANDLOCK_DOMAIN = 1424,
    MAC_TASK_CONTEXTS = 1425,
    MAC_OBJ_CONTEXTS = 1426,
    APPARMOR = 1500,
    APPARMOR_AUDIT = 1501,
    APPARMOR_ALLOWED = 1502,
    APPARMOR_DENIED = 1503,
    APPARMOR_HINT = 1504,
    APPARMOR_STATUS = 1505,
    APPARMOR_ERROR = 1506,
    APPARMOR_KILL = 1507,
    ANOM_PROMISCUOUS = 1700,
    ANOM_ABEND = 1701,
    ANOM_LINK = 1702,
    ANOM_CREAT = 1703,
    INTEGRITY_DATA = 1800,
    INTEGRITY_METADATA = 1801,
    INTEGRITY_STATUS = 1802,
    INTEGRITY_HASH = 1803,
    INTEGRITY_PCR = 1804,
    INTEGRITY_RULE = 1805,
    INTEGRITY_EVM_XATTR = 1806,
    INTEGRITY_POLICY_RULE = 1807,
    INTEGRITY_USERSPACE = 1808,
    KERNEL = 2000,
    ANOM_LOGIN_FAILURES = 2100,
    ANOM_LOGIN_TIME = 2101,
    ANOM_LOGIN_SESSIONS = 2102,
    ANOM_LOGIN_ACCT = 2103,
    ANOM_LOGIN_LOCATION = 2104,
    ANOM_MAX_DAC = 2105,
    ANOM_MAX_MAC = 2106,
    ANOM_AMTU_FAIL = 2107,
    ANOM_RBAC_FAIL = 2108,
    ANOM_RBAC_INTEGRITY_FAIL = 2109,
    ANOM_CRYPTO_FAIL = 2110,
    ANOM_ACCESS_FS = 2111,
    ANOM_EXEC = 2112,
    ANOM_MK_EXEC = 2113,
    ANOM_ADD_ACCT = 2114,
    ANOM_DEL_ACCT = 2115,
    ANOM_MOD_ACCT = 2116,
    ANOM_ROOT_TRANS = 2117,
    ANOM_LOGIN_SERVICE = 2118,
    ANOM_LOGIN_ROOT = 2119,
    ANOM_ORIGIN_FAILURES = 2120,
    ANOM_SESSION = 2121,
    RESP_ANOMALY = 2200,
    RESP_ALERT = 2201,
    RESP_KILL_PROC = 2202,
    RESP_TERM_ACCESS = 2203,
    RESP_ACCT_REMOTE = 2204,
    RESP_ACCT_LOCK_TIMED = 2205,
    RESP_ACCT_UNLOCK_TIMED = 2206,
    RESP_ACCT_LOCK = 2207,
    RESP_TERM_LOCK = 2208,
    RESP_SEBOOL = 2209,
    RESP_EXEC = 2210,
    RESP_SINGLE = 2211,
    RESP_HALT = 2212,
    RESP_ORIGIN_BLOCK = 2213,
    RESP_ORIGIN_BLOCK_TIMED = 2214,
    RESP_ORIGIN_UNBLOCK_TIMED = 2215,
    USER_ROLE_CHANGE = 2300,
    ROLE_ASSIGN = 2301,
    ROLE_REMOVE = 2302,
    LABEL_OVERRIDE = 2303,
    LABEL_LEVEL_CHANGE = 2304,
    USER_LABELED_EXPORT = 2305,
    USER_UNLABELED_EXPORT = 2306,
    DEV_ALLOC = 2307,
    DEV_DEALLOC = 2308,
    FS_RELABEL = 2309,
    USER_MAC_POLICY_LOAD = 2310,
    ROLE_MODIFY = 2311,
    USER_MAC_CONFIG_CHANGE = 2312,
    USER_MAC_STATUS = 2313,
    CRYPTO_TEST_USER = 2400,
    CRYPTO_PARAM_CHANGE_USER = 2401,
    CRYPTO_LOGIN = 2402,
    CRYPTO_LOGOUT = 2403,
    CRYPTO_KEY_USER = 2404,
    CRYPTO_FAILURE_USER = 2405,
    CRYPTO_REPLAY_USER = 2406,
    CRYPTO_SESSION = 2407,
    CRYPTO_IKE_SA = 2408,
    CRYPTO_IPSEC_SA = 2409,
    VIRT_CONTROL = 2500,
    VIRT_RESOURCE = 2501,
    VIRT_MACHINE_ID = 2502,
    VIRT_INTEGRITY_CHECK = 2503,
    VIRT_CREATE = 2504,
    VIRT_DESTROY = 2505,
    VIRT_MIGRATE_IN = 2506,
    VIRT_MIGRATE_OUT = 2507,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_number() {
        for &record_type in RecordType::NAMED {
            let name = record_type.to_string();
            assert_eq!(RecordType::from_name(name.as_bytes()), Some(record_type));
        }
        assert_eq!(RecordType(1399).to_string(), "UNKNOWN[1399]");
        assert_eq!(
            RecordType::from_name(b"UNKNOWN[1399]"),
            Some(RecordType(1399))
        );
    }

    #[test]
    fn the_table_is_that_of_libaudit_and_the_kernel() {
        let rows = include_str!("../../testdata/record-types.tsv").lines();
        let expected: Vec<_> = rows
            .filter(|row| !row.starts_with('#'))
            .map(|row| {
                let mut columns = row.split('\t');
                let number = columns.next().unwrap().parse().unwrap();
                (RecordType(number), columns.next().unwrap())
            })
            .collect();
        let ours: Vec<_> = RecordType::NAMED
            .iter()
            .map(|record_type| (*record_type, record_type.name().unwrap()))
            .collect();
        assert_eq!(ours, expected);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in [
            &b"SYSCAL"[..],
            b"",
            b"syscall",
            b"UNKNOWN[",
            b"UNKNOWN[]",
            b"UNKNOWN[65536]",
            b"UNKNOWN[-1]",
            b"UNKNOWN[1300",
        ] {
            assert_eq!(RecordType::from_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn standing_follows_the_kernel() {
        for alone in [
            1005, 1100, 1107, 1199, 1200, 1299, 1326, 1701, 2000, 2100, 2999,
        ] {
            assert_eq!(RecordType(alone).standing(), Standing::Alone, "{alone}");
        }
        for either in [1006, 1305, 1319, 1325, 1331, 1334, 1400, 1423, 1800, 1999] {
            assert_eq!(RecordType(either).standing(), Standing::Either, "{either}");
        }
        for inside in [1300, 1302, 1306, 1307, 1309, 1320, 1327, 1336] {
            assert_eq!(RecordType(inside).standing(), Standing::Inside, "{inside}");
        }
    }
}
