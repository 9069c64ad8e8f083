//! The programs on the kernel's audit code, which a kernel may refuse.
//!
//! Owns which there are and in which order they are attached. Whether they can be had is tried when the witness is
//! loaded, because the other programs are told then whether the hooks are there.

use aya::programs::fentry::FEntryLinkId;
use aya::programs::fexit::FExitLinkId;
use aya::programs::{FEntry, FExit, ProgramError};
use aya::{Btf, Ebpf};

use crate::probe::error::{WitnessError, program_error};

/// What the witness can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Which calls the loaded rules ask for.
    Syscalls,
    /// Which calls the kernel itself decided to report, with their serials, and why it gave up records of theirs.
    AuditHooks,
}

impl Level {
    /// Both, for metrics created at zero.
    pub const ALL: [Self; 2] = [Self::Syscalls, Self::AuditHooks];

    /// The name in the stream and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syscalls => "syscalls",
            Self::AuditHooks => "audit-hooks",
        }
    }
}

/// One hook.
#[derive(Clone, Copy, Debug)]
struct Hook {
    program: &'static str,
    /// The kernel's function.
    function: &'static str,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Entry,
    Exit,
}

/// In the order in which they are attached: a note is never begun without somebody to take it away again.
const HOOKS: [Hook; 4] = [
    Hook {
        program: "audit_log_lost",
        function: "audit_log_lost",
        at: At::Entry,
    },
    Hook {
        program: "audit_free",
        function: "__audit_free",
        at: At::Exit,
    },
    Hook {
        program: "audit_log_exit",
        function: "audit_log_exit",
        at: At::Exit,
    },
    Hook {
        program: "audit_log_exit_begun",
        function: "audit_log_exit",
        at: At::Entry,
    },
];

#[derive(Debug)]
pub(super) enum Link {
    Entry(FEntryLinkId),
    Exit(FExitLinkId),
}

/// The hooks of one load.
#[derive(Debug)]
pub(super) enum Hooks {
    /// Loaded, and attached where there is a link.
    Allowed([Option<Link>; HOOKS.len()]),
    /// Why the kernel does not have them.
    Refused(String),
}

/// The programs on the kernel's audit code.
pub(crate) fn program_names() -> impl Iterator<Item = &'static str> {
    HOOKS.iter().map(|hook| hook.program)
}

impl Hooks {
    /// Loads each, and attaches it for a moment, as some refusals come only then.
    ///
    /// # Errors
    /// The refusal of the first that is refused: each tells what the others make sense with only.
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<Self, WitnessError> {
        for hook in &HOOKS {
            hook.load(ebpf, btf)?;
            let link = hook.attach(ebpf)?;
            hook.detach(ebpf, link)?;
        }
        Ok(Self::Allowed([const { None }; HOOKS.len()]))
    }

    /// What the programs can tell with these.
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Allowed(_) => Level::AuditHooks,
            Self::Refused(_) => Level::Syscalls,
        }
    }

    /// Why there are none.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Allowed(_) => None,
            Self::Refused(reason) => Some(reason),
        }
    }

    /// Attaches them, where there are any.
    ///
    /// # Errors
    /// [`WitnessError::Program`], [`WitnessError::Permission`].
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), WitnessError> {
        let Self::Allowed(links) = self else {
            return Ok(());
        };
        for (hook, link) in HOOKS.iter().zip(links) {
            if link.is_none() {
                *link = Some(hook.attach(ebpf)?);
            }
        }
        Ok(())
    }

    /// Takes them off, the last attached first.
    ///
    /// # Errors
    /// [`WitnessError::Program`].
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) -> Result<(), WitnessError> {
        let Self::Allowed(links) = self else {
            return Ok(());
        };
        for (hook, link) in HOOKS.iter().zip(links).rev() {
            if let Some(link) = link.take() {
                hook.detach(ebpf, link)?;
            }
        }
        Ok(())
    }

    /// Each program that is loaded, and whether it is attached.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let links = match self {
            Self::Allowed(links) => links.as_slice(),
            Self::Refused(_) => &[],
        };
        HOOKS
            .iter()
            .zip(links)
            .map(|(hook, link)| (hook.program, link.is_some()))
    }
}

impl Hook {
    fn load(&self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), WitnessError> {
        let error = |error| program_error(self.program, "load", error);
        match self.at {
            At::Entry => self.entry(ebpf)?.load(self.function, btf).map_err(error),
            At::Exit => self.exit(ebpf)?.load(self.function, btf).map_err(error),
        }
    }

    fn attach(&self, ebpf: &mut Ebpf) -> Result<Link, WitnessError> {
        let error = |error| program_error(self.program, "attach", error);
        match self.at {
            At::Entry => self.entry(ebpf)?.attach().map(Link::Entry).map_err(error),
            At::Exit => self.exit(ebpf)?.attach().map(Link::Exit).map_err(error),
        }
    }

    fn detach(&self, ebpf: &mut Ebpf, link: Link) -> Result<(), WitnessError> {
        let error = |error| program_error(self.program, "detach", error);
        match link {
            Link::Entry(link) => self.entry(ebpf)?.detach(link).map_err(error),
            Link::Exit(link) => self.exit(ebpf)?.detach(link).map_err(error),
        }
    }

    fn entry<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut FEntry, WitnessError> {
        ebpf.program_mut(self.program)
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .map_err(|error| program_error(self.program, "load", error))
    }

    fn exit<'a>(&self, ebpf: &'a mut Ebpf) -> Result<&'a mut FExit, WitnessError> {
        ebpf.program_mut(self.program)
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .map_err(|error| program_error(self.program, "load", error))
    }
}

/// An error and what is behind it, on one line.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
