//! The rule mirror as the correlator asks it.

use collector_ebpf::{Fact, Facts, TaskState};

use crate::audit::arch::Arch;
use crate::audit::record::RecordType;
use crate::audit::records::SyscallFields;
use crate::audit::rules::Keys;
use crate::correlate::witness::Watch;
use crate::probe::mirror::{Mirror, facts_of};
use crate::probe::observation::{Observation, Verdict};
use crate::probe::places::Places;
use crate::probe::settle::Settled;

impl Watch for Mirror {
    fn covers(&self, arch: u32, syscall: u32) -> bool {
        Mirror::covers(self, Arch(arch), syscall)
    }

    fn judge_record(&self, fields: &SyscallFields<'_>) -> Option<Verdict> {
        let facts = facts_of_record(fields);
        self.judge(Arch(fields.arch), fields.syscall, &facts)
            .verdict
    }

    fn judge_observation(&self, observation: &Observation) -> Option<Verdict> {
        let facts = facts_of(observation);
        self.judge(Arch(observation.arch), observation.syscall, &facts)
            .verdict
    }

    fn settle(&self, observation: &Observation, places: &Places) -> Settled {
        Mirror::settle(self, observation, places)
    }

    fn excludes(
        &self,
        observation: &Observation,
        places: &Places,
        record_type: RecordType,
    ) -> bool {
        Mirror::excludes(self, observation, places, record_type)
    }

    fn keys(&self, rule: u16) -> Keys {
        Mirror::keys(self, rule).into()
    }
}

/// The facts a SYSCALL record carries.
fn facts_of_record(fields: &SyscallFields<'_>) -> Facts {
    let mut facts = Facts::default();
    for (fact, value) in [
        (Fact::One, 1),
        (Fact::Pid, fields.pid),
        (Fact::Ppid, fields.ppid),
        (Fact::Uid, fields.uid),
        (Fact::Gid, fields.gid),
        (Fact::Suid, fields.suid),
        (Fact::Sgid, fields.sgid),
        (Fact::Euid, fields.euid),
        (Fact::Egid, fields.egid),
        (Fact::Fsuid, fields.fsuid),
        (Fact::Fsgid, fields.fsgid),
        (Fact::Auid, fields.auid),
        (Fact::AuidSet, u32::from(fields.auid != u32::MAX)),
        (Fact::Session, fields.session),
        // Whether the task list asked for it does not show: what the exit list does not ask for is nobody's then.
        (Fact::TaskState, TaskState::Build as u32),
    ] {
        facts.set(fact, value);
    }
    let [a0, a1, a2, a3] = fields.args;
    facts.set_args(&[a0, a1, a2, a3, 0, 0, 0, 0]);
    match fields.exit {
        Some(result) => facts.set_result(result),
        None => facts.impossible = Fact::RESULT,
    }
    facts
}
