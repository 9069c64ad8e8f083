//! What this kernel allows the eBPF witness to do.
//!
//! Owns the questions, each with an answer for a person; `doctor` prints them, loading does not depend on them.

use aya::programs::ProgramType;

use crate::audit::privilege::{Capability, Privileges};
use crate::probe::btf::KERNEL_BTF;
use crate::probe::hooks::Level;

/// What was found out. Fields that are `Err` hold the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// `uname -r`.
    pub release: String,
    /// The kernel shows its types, which the programs need.
    pub btf: Result<(), String>,
    /// Every structure member the programs read is there.
    pub layout: Result<(), String>,
    /// Raw tracepoint programs.
    pub raw_tracepoint: Result<(), String>,
    /// Tracepoint programs with BTF, which the witness uses.
    pub btf_tracepoint: Result<(), String>,
    /// The ring buffer map (5.8).
    pub ring_buffer: Result<(), String>,
    /// Programs on function entry and exit, which the level `audit-hooks` needs.
    pub function_tracing: Result<(), String>,
    /// Every member of `struct audit_context` that those read is there.
    pub context_layout: Result<(), String>,
    /// `none`, `integrity` or `confidentiality`; none where the kernel does not say.
    pub lockdown: Option<String>,
    /// Capabilities that loading needs and this process lacks.
    pub missing_capabilities: Vec<Capability>,
}

impl Features {
    /// Asks the running kernel. Takes some milliseconds, changes nothing.
    pub fn detect() -> Self {
        let missing_capabilities = missing_for_bpf();
        let supported = |program_type| match aya::sys::is_program_supported(program_type) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the kernel does not know this kind of program".to_owned()),
            Err(error) => Err(one_line(&error)),
        };
        let btf = std::fs::metadata(KERNEL_BTF)
            .map(|_| ())
            .map_err(|error| format!("{KERNEL_BTF}: {error}"));
        let layout = crate::probe::btf::KernelTypes::running()
            .and_then(|types| types.layout())
            .map(|_| ())
            .map_err(|error| error.to_string());
        // Both are programs of type tracing; the kind on tracepoints needs no more than that.
        let btf_tracepoint = btf
            .clone()
            .and_then(|()| supported(ProgramType::RawTracePoint));
        Self {
            release: release(),
            btf,
            layout,
            raw_tracepoint: supported(ProgramType::RawTracePoint),
            btf_tracepoint,
            ring_buffer: match aya::sys::is_map_supported(aya::maps::MapType::RingBuf) {
                Ok(true) => Ok(()),
                Ok(false) => Err("the kernel has no ring buffer map (5.8)".to_owned()),
                Err(error) => Err(one_line(&error)),
            },
            function_tracing: supported(ProgramType::Tracing),
            context_layout: crate::probe::btf::KernelTypes::running()
                .and_then(|types| types.context_layout())
                .map(|_| ())
                .map_err(|error| error.to_string()),
            lockdown: lockdown(),
            missing_capabilities,
        }
    }

    /// What the witness can tell here; none where it cannot work.
    pub fn level(&self) -> Option<Level> {
        let works = self.layout.is_ok() && self.btf_tracepoint.is_ok() && self.ring_buffer.is_ok();
        let hooks = self.function_tracing.is_ok() && self.context_layout.is_ok();
        works.then_some(match hooks {
            true => Level::AuditHooks,
            false => Level::Syscalls,
        })
    }
}

/// The capabilities that loading BPF programs needs and this process lacks. `CAP_SYS_ADMIN` stands for both.
pub fn missing_for_bpf() -> Vec<Capability> {
    let Ok(privileges) = Privileges::of_this_process() else {
        return Vec::new();
    };
    if privileges.has(Capability::SysAdmin) {
        return Vec::new();
    }
    [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !privileges.has(*capability))
        .collect()
}

/// The page size, which the ring is made of.
pub(crate) fn page_size() -> u32 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u32::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// Whether the kernel labels tasks, and so has `subj=` in what it writes of one: only then this file can be read
/// (security/security.c `security_getprocattr`).
pub(super) fn labels_tasks() -> bool {
    std::fs::read("/proc/self/attr/current").is_ok_and(|label| !label.is_empty())
}

/// Whether it is AppArmor that does.
pub(super) fn apparmor_labels_tasks() -> bool {
    std::fs::read("/proc/self/attr/apparmor/current").is_ok_and(|label| !label.is_empty())
}

/// `uname -r`, or `?`.
pub(crate) fn release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_else(|_| "?".to_owned())
}

/// The lockdown mode in force, the word in brackets of `none [integrity] confidentiality`; none where the kernel does not
/// say.
pub fn lockdown() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let (_, after) = text.split_once('[')?;
    Some(after.split_once(']')?.0.to_owned())
}

/// Whether the kernel keeps records while there is no daemon; none where it cannot be told. It does where it was booted with
/// `audit=1` (kernel/audit.c `audit_default`).
pub(crate) fn holds_records() -> Option<bool> {
    let line = std::fs::read_to_string("/proc/cmdline").ok()?;
    Some(audit_default(&line))
}

/// What the last `audit=` on the kernel's command line says (kernel/audit.c `audit_enable`).
fn audit_default(line: &str) -> bool {
    line.split_ascii_whitespace()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.strip_prefix("audit="))
        .last()
        .is_some_and(|value| !matches!(value, "0" | "off"))
}

/// Whether BPF programs may not read the kernel's memory, which the witness cannot do without.
pub fn confidential() -> bool {
    lockdown().as_deref() == Some("confidentiality")
}

fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_audit_counts() {
        for (line, holds) in [
            ("root=/dev/sda1 quiet\n", false),
            ("audit=1", true),
            ("audit=on x=y", true),
            ("audit=1 audit=0", false),
            ("audit=off", false),
            ("audit_backlog_limit=64 noaudit=1", false),
            ("quiet -- audit=1", false),
        ] {
            assert_eq!(audit_default(line), holds, "{line}");
        }
    }

    #[test]
    fn detecting_never_fails() {
        let features = Features::detect();
        assert!(!features.release.is_empty());
        if features.missing_capabilities.is_empty() && features.btf.is_ok() {
            assert_eq!(features.layout, Ok(()));
        }
    }
}
