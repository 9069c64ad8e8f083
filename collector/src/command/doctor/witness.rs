//! What the kernel allows the eBPF witness.

use crate::probe::features::Features;

use super::{Finding, State};

const NO_WITNESS: &str = "the eBPF witness cannot work, so nothing is cross-checked or backfilled";

const CAPABILITIES: &str = "give CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN)";

/// Judges what was detected.
pub(super) fn judge(features: &Features) -> Vec<Finding> {
    let needed = [
        (
            "BTF",
            &features.btf,
            "the kernel shows its types",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
        (
            "kernel structs",
            &features.layout,
            "every member the programs read is there",
            "report this kernel's release to the project",
        ),
        (
            "raw tracepoints",
            &features.raw_tracepoint,
            "tracing programs load",
            CAPABILITIES,
        ),
        (
            "tracepoints",
            &features.btf_tracepoint,
            "every system call can be watched",
            CAPABILITIES,
        ),
        (
            "ring buffer",
            &features.ring_buffer,
            "observations reach user space",
            "boot Linux 5.8 or newer and give CAP_BPF",
        ),
    ];
    let mut findings: Vec<_> = needed
        .into_iter()
        .map(|(subject, answer, good, remedy)| match answer {
            Ok(()) => Finding::good(subject, "allowed", good),
            Err(reason) => Finding::bad(subject, State::Limits, reason, NO_WITNESS).mend(remedy),
        })
        .collect();
    let hooks = features.function_tracing.as_ref();
    findings.push(match hooks.and(features.context_layout.as_ref()) {
        Ok(_) => Finding::good(
            "function tracing",
            "allowed",
            "the kernel's own decision on each call can be read",
        ),
        Err(reason) => Finding::bad(
            "function tracing",
            State::Limits,
            reason,
            "verdicts are inferred from the rules, not read from the kernel's own decision; what io_uring does, and calls that only another part of the kernel has reported, are not seen",
        ),
    });
    findings.push(lockdown(features.lockdown.as_deref()));
    findings
}

/// Judges the lockdown mode.
fn lockdown(mode: Option<&str>) -> Finding {
    let subject = "lockdown";
    match mode {
        None => Finding::good(
            subject,
            "not known, securityfs is not mounted or has no lockdown",
            "what the other lines found to be allowed is allowed",
        ),
        Some("confidentiality") => Finding::bad(
            subject,
            State::Limits,
            "confidentiality",
            "BPF programs may not read kernel memory: the eBPF witness cannot work",
        )
        .mend("boot with lockdown=integrity or none"),
        Some(mode) => Finding::good(subject, mode, "BPF programs may read kernel memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::hooks::Level;

    fn all_good() -> Features {
        Features {
            release: "6.1".into(),
            btf: Ok(()),
            layout: Ok(()),
            raw_tracepoint: Ok(()),
            btf_tracepoint: Ok(()),
            ring_buffer: Ok(()),
            function_tracing: Ok(()),
            context_layout: Ok(()),
            lockdown: Some("integrity".into()),
            missing_capabilities: Vec::new(),
        }
    }

    #[test]
    fn a_refusal_comes_with_its_reason_and_a_remedy() {
        assert!(judge(&all_good()).iter().all(|f| f.state == State::Good));
        let findings = judge(&Features {
            ring_buffer: Err("EPERM".into()),
            ..all_good()
        });
        let refused: Vec<_> = findings.iter().filter(|f| f.state != State::Good).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (refused[0].subject, refused[0].found.as_str()),
            ("ring buffer", "EPERM")
        );
        assert!(refused[0].remedy.is_some());
    }

    #[test]
    fn what_the_lower_level_does_not_see_is_said() {
        let findings = judge(&Features {
            function_tracing: Err("EPERM".into()),
            ..all_good()
        });
        let said = findings.iter().find(|f| f.subject == "function tracing");
        assert!(said.is_some_and(|f| f.state == State::Limits && f.follows.contains("io_uring")));
    }

    #[test]
    fn the_level_is_what_the_kernel_allows() {
        assert_eq!(all_good().level(), Some(Level::AuditHooks));
        let without_hooks = Features {
            function_tracing: Err("EPERM".into()),
            ..all_good()
        };
        assert_eq!(without_hooks.level(), Some(Level::Syscalls));
        let without_ring = Features {
            ring_buffer: Err("EPERM".into()),
            ..all_good()
        };
        assert_eq!(without_ring.level(), None);
    }

    #[test]
    fn only_confidentiality_stops_the_witness() {
        assert_eq!(lockdown(Some("integrity")).state, State::Good);
        assert_eq!(lockdown(Some("none")).state, State::Good);
        assert_eq!(lockdown(Some("confidentiality")).state, State::Limits);
        assert_eq!(lockdown(None).state, State::Good);
    }
}
