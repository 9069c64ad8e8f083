//! The programs on sys_enter and sys_exit, in the kind that the running kernel lets run whole.
//!
//! A kernel that can preempt programs with BTF skips the runs of all other tasks on that CPU meanwhile, so there the
//! programs are plain tracepoints, which cost more and need tracefs. Where these cannot be had the others are taken: what
//! is skipped is counted.

use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::{BtfTracePoint, ProgramError, TracePoint};
use aya::{Btf, Ebpf};

use crate::probe::error::{WitnessError, program_error};
use crate::probe::features;

/// The tracepoints, which there are programs on in any case; the programs with BTF are named like them.
pub const TRACEPOINTS: [&str; 2] = ["sys_enter", "sys_exit"];
/// The plain programs on them.
const PLAIN: [&str; 2] = ["sys_enter_plain", "sys_exit_plain"];
/// Where tracefs has them.
const CATEGORY: &str = "raw_syscalls";
/// The first major version of Linux that is taken to preempt programs with BTF. Seen on 7.2; 6.13 to 6.18 turn preemption
/// off around them, and before that the tracepoints themselves did (include/trace/bpf_probe.h).
const PREEMPTS_SINCE: u32 = 7;

#[derive(Debug)]
enum Link {
    Btf(BtfTracePointLinkId),
    Plain(TracePointLinkId),
}

/// Which programs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Btf,
    Plain,
}

/// The two programs of one load, attached where there is a link.
#[derive(Debug)]
pub(super) struct Tracepoints {
    kind: Kind,
    links: [Option<Link>; TRACEPOINTS.len()],
}

impl Tracepoints {
    /// Loads the programs of the kind that suits the running kernel.
    ///
    /// # Errors
    /// [`WitnessError::Verifier`], [`WitnessError::Program`], [`WitnessError::Permission`].
    pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> Result<Self, WitnessError> {
        if preempts(&features::release()) {
            let plain = Self::of(Kind::Plain);
            if plain.try_out(ebpf, btf).is_ok() {
                return Ok(plain);
            }
        }
        let with_btf = Self::of(Kind::Btf);
        for index in 0..TRACEPOINTS.len() {
            with_btf.load_one(ebpf, btf, index)?;
        }
        Ok(with_btf)
    }

    /// Attaches them, where they are not.
    ///
    /// # Errors
    /// [`WitnessError::Program`], [`WitnessError::Permission`].
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) -> Result<(), WitnessError> {
        // The exit first: an entry is never remembered without somebody to take it out again.
        for index in (0..TRACEPOINTS.len()).rev() {
            if self.links[index].is_none() {
                self.links[index] = Some(self.attach_one(ebpf, index)?);
            }
        }
        Ok(())
    }

    /// Takes them off.
    ///
    /// # Errors
    /// [`WitnessError::Program`].
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) -> Result<(), WitnessError> {
        for index in 0..TRACEPOINTS.len() {
            if let Some(link) = self.links[index].take() {
                self.detach_one(ebpf, index, link)?;
            }
        }
        Ok(())
    }

    /// Whether none is attached.
    pub(super) fn all_detached(&self) -> bool {
        self.links.iter().all(Option::is_none)
    }

    /// The tracepoint, the program's name, and whether it is attached.
    pub(super) fn programs(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        (0..TRACEPOINTS.len()).map(|index| {
            let attached = self.links[index].is_some();
            (TRACEPOINTS[index], self.name(index), attached)
        })
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            links: [const { None }; TRACEPOINTS.len()],
        }
    }

    fn name(&self, index: usize) -> &'static str {
        match self.kind {
            Kind::Btf => TRACEPOINTS[index],
            Kind::Plain => PLAIN[index],
        }
    }

    /// Loads them and attaches them for a moment: whether tracefs is there shows only then.
    fn try_out(&self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), WitnessError> {
        for index in 0..TRACEPOINTS.len() {
            self.load_one(ebpf, btf, index)?;
            let link = self.attach_one(ebpf, index)?;
            self.detach_one(ebpf, index, link)?;
        }
        Ok(())
    }

    fn load_one(&self, ebpf: &mut Ebpf, btf: &Btf, index: usize) -> Result<(), WitnessError> {
        let name = self.name(index);
        match self.kind {
            Kind::Btf => with_btf(ebpf, name)?.load(TRACEPOINTS[index], btf),
            Kind::Plain => plain(ebpf, name)?.load(),
        }
        .map_err(|error| program_error(name, "load", error))
    }

    fn attach_one(&self, ebpf: &mut Ebpf, index: usize) -> Result<Link, WitnessError> {
        let name = self.name(index);
        match self.kind {
            Kind::Btf => with_btf(ebpf, name)?.attach().map(Link::Btf),
            Kind::Plain => plain(ebpf, name)?
                .attach(CATEGORY, TRACEPOINTS[index])
                .map(Link::Plain),
        }
        .map_err(|error| program_error(name, "attach", error))
    }

    fn detach_one(&self, ebpf: &mut Ebpf, index: usize, link: Link) -> Result<(), WitnessError> {
        let name = self.name(index);
        match link {
            Link::Btf(link) => with_btf(ebpf, name)?.detach(link),
            Link::Plain(link) => plain(ebpf, name)?.detach(link),
        }
        .map_err(|error| program_error(name, "detach", error))
    }
}

/// Whether the kernel of this release is taken to preempt programs with BTF.
fn preempts(release: &str) -> bool {
    let major = release
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= PREEMPTS_SINCE)
}

fn with_btf<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut BtfTracePoint, WitnessError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::NotLoaded)
        .and_then(TryInto::try_into)
        .map_err(|error| program_error(name, "load", error))
}

fn plain<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut TracePoint, WitnessError> {
    ebpf.program_mut(name)
        .ok_or(ProgramError::NotLoaded)
        .and_then(TryInto::try_into)
        .map_err(|error| program_error(name, "load", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_tells_which_kernels_preempt() {
        assert!(!preempts("6.18.44-fc"));
        assert!(preempts("7.2.13+deb14-amd64"));
        assert!(preempts("10.0"));
        assert!(!preempts("?"));
    }
}
