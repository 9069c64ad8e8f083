//! Why the witness does not work, in words a person can act on.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use crate::audit::privilege::Capability;
use crate::probe::btf::BtfError;
use crate::probe::features;

/// How much of the verifier's words goes into an error.
const VERIFIER_LINES: usize = 6;

/// Why the witness does not work.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The kernel's types do not tell what the programs need.
    #[error(transparent)]
    Types(#[from] BtfError),
    /// The kernel refuses BPF to us.
    #[error("the kernel refuses to load BPF programs ({operation}): {reason}")]
    Permission {
        /// What was refused.
        operation: &'static str,
        /// Which capability is missing, or what else may be the reason.
        reason: String,
    },
    /// The verifier rejected a program.
    #[error("the kernel's verifier rejects the program {program}: {last_words}")]
    Verifier {
        /// The program.
        program: &'static str,
        /// The end of the verifier's log, on one line.
        last_words: String,
    },
    /// A program could not be loaded or attached for another reason.
    #[error("cannot {operation} the program {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// `load` or `attach`.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: ProgramError,
    },
    /// The object or its maps could not be set up.
    #[error("cannot set up the BPF maps")]
    Object(#[source] Box<EbpfError>),
    /// A map could not be read or written.
    #[error("cannot {operation} the BPF map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// `open`, `read` or `write`.
        operation: &'static str,
        /// What went wrong.
        #[source]
        source: MapError,
    },
    /// The size of the ring is none the kernel takes.
    #[error("the ring's size must be a power of two of at least {least} bytes, not {bytes}")]
    RingSize {
        /// What was asked for.
        bytes: u32,
        /// The page size.
        least: u32,
    },
    /// More processes to exempt than there is room for.
    #[error("at most {most} processes can be exempt from observation, not {count}")]
    TooManyExempt {
        /// How many were asked for.
        count: usize,
        /// The room.
        most: usize,
    },
}

pub(super) fn no_map(map: &'static str) -> WitnessError {
    WitnessError::Map {
        map,
        operation: "open",
        source: MapError::ElementNotFound,
    }
}

pub(super) fn map_error(
    map: &'static str,
    operation: &'static str,
) -> impl Fn(MapError) -> WitnessError {
    move |source| WitnessError::Map {
        map,
        operation,
        source,
    }
}

/// Errors of creating maps: mostly permission.
pub(super) fn object_error(error: EbpfError) -> WitnessError {
    if is_refused(&error) {
        WitnessError::Permission {
            operation: "creating maps",
            reason: refusal(),
        }
    } else {
        WitnessError::Object(Box::new(error))
    }
}

pub(super) fn program_error(
    program: &'static str,
    operation: &'static str,
    source: ProgramError,
) -> WitnessError {
    if let ProgramError::LoadError { verifier_log, .. } = &source {
        let words = verifier_log.to_string();
        // Lockdown takes the helpers away that read memory, which the verifier reports as if the program were wrong.
        let without_helper = ["cannot use helper", "unknown func"]
            .iter()
            .any(|complaint| words.contains(complaint));
        if without_helper && features::confidential() {
            return WitnessError::Permission {
                operation: "loading a program",
                reason: "lockdown=confidentiality forbids reading the kernel's memory".to_owned(),
            };
        }
        if !words.trim().is_empty() {
            return WitnessError::Verifier {
                program,
                last_words: last_words(&words),
            };
        }
    }
    if is_refused(&source) {
        WitnessError::Permission {
            operation: if operation == "load" {
                "loading a program"
            } else {
                "attaching a program"
            },
            reason: refusal(),
        }
    } else {
        WitnessError::Program {
            program,
            operation,
            source,
        }
    }
}

/// The end of a verifier's log, without its statistics.
fn last_words(log: &str) -> String {
    let mut lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| {
            !line.is_empty()
                && !["verification time", "stack depth", "processed "]
                    .iter()
                    .any(|statistics| line.starts_with(statistics))
        })
        .collect();
    lines.drain(..lines.len().saturating_sub(VERIFIER_LINES));
    lines.join(" | ")
}

/// Whether EPERM or EACCES is at the bottom of an error.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}

/// Why the kernel may have refused.
fn refusal() -> String {
    match features::missing_for_bpf() {
        missing if missing.is_empty() => {
            "the capabilities are there; a seccomp filter, a security module or lockdown forbids it"
                .to_owned()
        }
        missing => {
            let names: Vec<&str> = missing.into_iter().map(Capability::name).collect();
            format!("{} missing", names.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifiers_log_is_cut_to_its_last_words() {
        let log = "0: (b7) r0 = 1\n\nR2 unbounded memory access\nverification time 3 usec\nstack depth 0\nprocessed 2 insns\n";
        assert_eq!(
            last_words(log),
            "0: (b7) r0 = 1 | R2 unbounded memory access"
        );
        let long = "x\n".repeat(100);
        assert_eq!(last_words(&long).matches('x').count(), VERIFIER_LINES);
    }
}
