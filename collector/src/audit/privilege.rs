//! What the kernel lets this process do: capabilities and namespaces.
//!
//! Owns the names of the capabilities the collector may need and reads them from `/proc/self`. Decides nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A capability the collector uses (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Larger receive buffers than `net.core.rmem_max`.
    NetAdmin,
    /// Everything BPF before Linux 5.8.
    SysAdmin,
    /// Locked memory past its limit, for BPF maps before Linux 5.11.
    SysResource,
    /// Writing records of user space.
    AuditWrite,
    /// Audit status, settings, rules, the audit pid.
    AuditControl,
    /// Listening to audit records by multicast.
    AuditRead,
    /// Loading tracing programs.
    Perfmon,
    /// Loading BPF programs and creating maps.
    Bpf,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AuditControl,
        Self::AuditRead,
        Self::AuditWrite,
        Self::Bpf,
        Self::Perfmon,
        Self::NetAdmin,
        Self::SysResource,
        Self::SysAdmin,
    ];

    /// The name as in capabilities(7).
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::AuditWrite => "CAP_AUDIT_WRITE",
            Self::AuditControl => "CAP_AUDIT_CONTROL",
            Self::AuditRead => "CAP_AUDIT_READ",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::AuditWrite => 29,
            Self::AuditControl => 30,
            Self::AuditRead => 37,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }
}

/// The privileges of this process. A namespace is none where `/proc` does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    effective: u64,
    /// Whether this is the initial user namespace.
    pub initial_user_namespace: Option<bool>,
    /// Whether this is the initial pid namespace.
    pub initial_pid_namespace: Option<bool>,
    /// Whether this is the initial network namespace, or at least that of process 1.
    pub initial_net_namespace: Option<bool>,
}

impl Privileges {
    /// Reads them from `/proc/self`.
    ///
    /// # Errors
    /// Where `/proc/self/status` cannot be read or has no `CapEff` line.
    pub fn of_this_process() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let effective = effective_set(&status).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/self/status has no CapEff",
            )
        })?;
        Ok(Self {
            effective,
            initial_user_namespace: namespace("self", "user").map(|inode| inode == INITIAL_USER),
            initial_pid_namespace: namespace("self", "pid").map(|inode| inode == INITIAL_PID),
            initial_net_namespace: initial_net_namespace(),
        })
    }

    /// Privileges as a test wants them, in the initial user namespace.
    #[cfg(test)]
    pub(super) fn of(capabilities: &[Capability], initial_pid_namespace: bool) -> Self {
        Self {
            effective: capabilities
                .iter()
                .fold(0, |set, capability| set | 1 << capability.bit()),
            initial_user_namespace: Some(true),
            initial_pid_namespace: Some(initial_pid_namespace),
            initial_net_namespace: Some(true),
        }
    }

    /// Whether `capability` is in the effective set, or CAP_SYS_ADMIN that stands in for it (CAP_BPF and CAP_PERFMON
    /// were split from it). In a user namespace of its own that says little.
    pub fn has(&self, capability: Capability) -> bool {
        let is_set = |capability: Capability| self.effective >> capability.bit() & 1 == 1;
        match capability {
            Capability::Bpf | Capability::Perfmon => {
                is_set(capability) || is_set(Capability::SysAdmin)
            }
            _ => is_set(capability),
        }
    }
}

/// `PROC_USER_INIT_INO` of include/linux/proc_ns.h; fixed since Linux 3.8.
const INITIAL_USER: u64 = 0xEFFF_FFFD;
/// `PROC_PID_INIT_INO`.
const INITIAL_PID: u64 = 0xEFFF_FFFC;

/// `PROC_NET_INIT_INO`, which newer kernels have; older ones number it like any other.
const INITIAL_NET: u64 = 0xEFFF_FFF9;

fn initial_net_namespace() -> Option<bool> {
    let own = namespace("self", "net")?;
    if own == INITIAL_NET {
        return Some(true);
    }
    // Reading it takes CAP_SYS_PTRACE.
    Some(own == namespace("1", "net")?)
}

fn namespace(process: &str, kind: &str) -> Option<u64> {
    let inode = fs::metadata(format!("/proc/{process}/ns/{kind}"))
        .ok()?
        .ino();
    Some(inode)
}

fn effective_set(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000002040000000\n";
        let privileges = Privileges {
            effective: effective_set(status).unwrap(),
            initial_user_namespace: None,
            initial_pid_namespace: None,
            initial_net_namespace: None,
        };
        let held: Vec<_> = Capability::ALL
            .into_iter()
            .filter(|capability| privileges.has(*capability))
            .collect();
        assert_eq!(held, [Capability::AuditControl, Capability::AuditRead]);
        let admin = Privileges {
            effective: 1 << 21,
            ..privileges
        };
        assert!(admin.has(Capability::Bpf) && admin.has(Capability::Perfmon));
        assert!(!admin.has(Capability::AuditControl));
        assert_eq!(effective_set("Name:\tx\n"), None);
        assert_eq!(effective_set("CapEff:\tzz\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        Privileges::of_this_process().unwrap();
    }
}
