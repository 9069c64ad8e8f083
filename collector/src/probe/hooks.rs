//! The programs on the kernel's audit code, which a kernel may refuse.
//!
//! Owns which there are, in which order they are attached, and what hangs together: those that tell the kernel's decisions
//! make sense together only, each of those behind the audit queue for itself. Whether they can be had is tried when the
//! witness is loaded, because the other programs are told then whether the decisions can be seen.

use aya::programs::fentry::FEntryLinkId;
use aya::programs::fexit::FExitLinkId;
use aya::programs::{FEntry, FExit, ProgramError};
use aya::{Btf, Ebpf};
use collector_ebpf::TextMirror;

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

/// Those that tell what the kernel decides, in the order in which they are attached: a note is never begun without somebody to
/// take it away again. The first makes sense without the others too.
const DECISIONS: [Hook; 4] = [
    LOST,
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

const LOST: Hook = Hook::entry_of("audit_log_lost");

/// The program that tells the kernel's reasons for giving up records.
pub(super) const REASONS: &str = LOST.program;

/// What the kernel does not count where it was booted without `audit=1`.
const HOLD: Hook = Hook::entry_of("kauditd_hold_skb");

/// Those that know which record it is that is lost; the first of all, as it names the one in hand.
const TEXTS: [Hook; 4] = [
    Hook::entry_of("kauditd_send_multicast_skb"),
    Hook::entry_of("kauditd_retry_skb"),
    HOLD,
    Hook::entry_of("netlink_overrun"),
];

/// Whether a program of this name watches records behind the audit queue, and no decisions.
pub fn is_behind_the_queue(program: &str) -> bool {
    TEXTS.iter().any(|hook| hook.program == program)
}

/// For io_uring operations inside a call, which kernels before 5.16 do not audit. The first does nothing without the
/// second, and the second is not tried without the first.
const OPERATIONS: [Hook; 2] = [
    Hook {
        program: "audit_log_uring",
        function: "audit_log_uring",
        at: At::Exit,
    },
    Hook {
        program: "audit_log_uring_begun",
        function: "audit_log_uring",
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
pub(super) struct Hooks {
    /// Loaded, in the order in which they are attached; attached where there is a link.
    loaded: Vec<(Hook, Option<Link>)>,
    /// Why the kernel's decisions cannot be seen.
    decisions_refused: Option<String>,
    /// Why one of the others cannot be had, by program.
    refused: Vec<(&'static str, String)>,
}

/// The programs on the kernel's audit code.
pub(crate) fn program_names() -> impl Iterator<Item = &'static str> {
    let hooks = DECISIONS.iter().chain(&OPERATIONS).chain(&TEXTS);
    hooks.map(|hook| hook.program)
}

impl Hooks {
    /// Loads those that tell the kernel's decisions, and where the kernel allows it those for io_uring.
    ///
    /// # Errors
    /// The refusal of the first that is refused.
    pub(super) fn with_decisions(ebpf: &mut Ebpf, btf: &Btf) -> Result<Self, WitnessError> {
        let mut hooks = Self {
            loaded: Vec::new(),
            decisions_refused: None,
            refused: Vec::new(),
        };
        for hook in DECISIONS {
            hook.probe(ebpf, btf)?;
            hooks.loaded.push((hook, None));
        }
        for hook in OPERATIONS {
            if let Err(error) = hook.probe(ebpf, btf) {
                hooks.refused.push((hook.program, in_words(&error)));
                break;
            }
            hooks.loaded.push((hook, None));
        }
        Ok(hooks)
    }

    /// None of those, for this reason.
    pub(super) fn without_decisions(reason: String) -> Self {
        Self {
            loaded: Vec::new(),
            decisions_refused: Some(reason),
            refused: Vec::new(),
        }
    }

    /// Loads what there is for itself, each where the kernel allows it.
    pub(super) fn load_others(&mut self, ebpf: &mut Ebpf, btf: &Btf, texts: TextMirror) {
        let others: &[Hook] = match texts {
            TextMirror::Off => &[HOLD],
            TextMirror::Lost | TextMirror::All => &TEXTS,
        };
        for hook in [LOST].iter().chain(others) {
            if self.has(hook.program) {
                continue;
            }
            match hook.probe(ebpf, btf) {
                Ok(()) => self.loaded.push((*hook, None)),
                Err(error) => self.refused.push((hook.program, in_words(&error))),
            }
        }
    }

    /// What the programs can tell with these.
    pub(super) fn level(&self) -> Level {
        match self.decisions_refused {
            None => Level::AuditHooks,
            Some(_) => Level::Syscalls,
        }
    }

    /// Why the kernel's decisions cannot be seen.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.decisions_refused.as_deref()
    }

    /// The others that cannot be had, and why.
    pub(super) fn refused(&self) -> &[(&'static str, String)] {
        &self.refused
    }

    /// Whether the program is loaded.
    pub(super) fn has(&self, program: &str) -> bool {
        self.loaded.iter().any(|(hook, _)| hook.program == program)
    }

    /// Attaches them.
    ///
    /// # Errors
    /// [`WitnessError::Program`], [`WitnessError::Permission`].
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), WitnessError> {
        for (hook, link) in &mut self.loaded {
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
        for (hook, link) in self.loaded.iter_mut().rev() {
            if let Some(link) = link.take() {
                hook.detach(ebpf, link)?;
            }
        }
        Ok(())
    }

    /// Each program that is loaded, and whether it is attached.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.loaded
            .iter()
            .map(|(hook, link)| (hook.program, link.is_some()))
    }
}

impl Hook {
    /// On the entry of the function that it is called after.
    const fn entry_of(function: &'static str) -> Self {
        Self {
            program: function,
            function,
            at: At::Entry,
        }
    }

    /// Loads it, and attaches it for a moment, as some refusals come only then.
    fn probe(&self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), WitnessError> {
        self.load(ebpf, btf)?;
        let link = self.attach(ebpf)?;
        self.detach(ebpf, link)
    }

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
