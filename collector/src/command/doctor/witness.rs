//! What the kernel allows the eBPF witness.

use std::fs;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use btf_rs::Btf;

use super::{Finding, State, with_causes};

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

const NO_WITNESS: &str = "the eBPF witness cannot work, so nothing is cross-checked or backfilled";

pub(super) fn examine() -> Vec<Finding> {
    let btf = Btf::from_file(VMLINUX_BTF);
    let mut findings = vec![match &btf {
        Ok(_) => Finding::good(
            "BTF",
            VMLINUX_BTF,
            "offsets in the kernel's structs are known",
        ),
        Err(error) => Finding::bad(
            "BTF",
            State::Limits,
            format!("{VMLINUX_BTF}: {error}"),
            NO_WITNESS,
        )
        .mend("boot a kernel with CONFIG_DEBUG_INFO_BTF"),
    }];
    findings.push(tracepoints(btf.ok().as_ref()));
    findings.push(probe(
        "tracing programs",
        is_program_supported(ProgramType::RawTracePoint).map_err(|error| with_causes(&error)),
        "raw tracepoint programs load",
    ));
    findings.push(probe(
        "ring buffer",
        is_map_supported(MapType::RingBuf).map_err(|error| with_causes(&error)),
        "observations reach user space",
    ));
    findings.push(functions(
        is_program_supported(ProgramType::Tracing).map_err(|error| with_causes(&error)),
    ));
    findings.push(lockdown(fs::read_to_string(LOCKDOWN).ok().as_deref()));
    findings
}

/// Whether the kernel has the tracepoints at the entry and exit of every system call. The types the kernel keeps for
/// them say so; tracefs need not be mounted.
fn tracepoints(btf: Option<&Btf>) -> Finding {
    let subject = "tracepoints";
    let missing: Vec<_> = ["sys_enter", "sys_exit"]
        .into_iter()
        .filter(|name| {
            let in_btf = btf.is_some_and(|btf| {
                btf.resolve_types_by_name(&format!("btf_trace_{name}"))
                    .is_ok_and(|types| !types.is_empty())
            });
            let in_tracefs = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
                .iter()
                .any(|root| Path::new(&format!("{root}/events/raw_syscalls/{name}")).exists());
            !in_btf && !in_tracefs
        })
        .collect();
    if missing.is_empty() {
        return Finding::good(
            subject,
            "raw_syscalls sys_enter and sys_exit",
            "every system call can be watched",
        );
    }
    Finding::bad(
        subject,
        State::Limits,
        format!("raw_syscalls {} not found", missing.join(" and ")),
        NO_WITNESS,
    )
    .mend("boot a kernel with CONFIG_FTRACE_SYSCALLS")
}

fn probe(subject: &'static str, supported: Result<bool, String>, good: &str) -> Finding {
    match supported {
        Ok(true) => Finding::good(subject, "allowed", good),
        Ok(false) => Finding::bad(subject, State::Limits, "not in this kernel", NO_WITNESS)
            .mend("boot Linux 5.8 or newer, with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS"),
        Err(error) => Finding::bad(subject, State::Limits, error, NO_WITNESS)
            .mend("give CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN)"),
    }
}

fn functions(supported: Result<bool, String>) -> Finding {
    let subject = "function tracing";
    let without = "verdicts are inferred from the rules, not read from the kernel's own decision";
    match supported {
        Ok(true) => Finding::good(
            subject,
            "allowed",
            "the kernel's own decision on each call can be read",
        ),
        Ok(false) => Finding::bad(subject, State::Limits, "not in this kernel", without).mend(
            "boot a kernel with CONFIG_FUNCTION_TRACER and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        ),
        Err(error) => Finding::bad(subject, State::Limits, error, without),
    }
}

/// Judges the text of /sys/kernel/security/lockdown, for instance `none [integrity] confidentiality`.
fn lockdown(text: Option<&str>) -> Finding {
    let subject = "lockdown";
    let Some(text) = text else {
        return Finding::good(
            subject,
            "not known, securityfs is not mounted or has no lockdown",
            "what the other lines found to be allowed is allowed",
        );
    };
    let mode = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("unknown", |(mode, _)| mode);
    if mode == "confidentiality" {
        return Finding::bad(
            subject,
            State::Limits,
            mode,
            "BPF programs may not read kernel memory: the eBPF witness cannot work",
        )
        .mend("boot with lockdown=integrity or none");
    }
    Finding::good(subject, mode, "BPF programs may read kernel memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_confidentiality_stops_the_witness() {
        let state = |text| lockdown(Some(text)).state;
        assert_eq!(state("none [integrity] confidentiality\n"), State::Good);
        assert_eq!(state("[none] integrity confidentiality\n"), State::Good);
        assert_eq!(state("none integrity [confidentiality]\n"), State::Limits);
        assert_eq!(lockdown(None).state, State::Good);
        assert_eq!(state(""), State::Good);
    }

    #[test]
    fn a_refusal_is_told_from_an_old_kernel() {
        let old = probe("x", Ok(false), "good");
        let refused = probe("x", Err("EPERM".into()), "good");
        assert_ne!(old.remedy, refused.remedy);
        assert_eq!(probe("x", Ok(true), "good").remedy, None);
    }
}
