//! Events of system calls whose SYSCALL record was lost, and which observation their remaining records speak of.

use std::borrow::Cow;
use std::time::Duration;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::RecordType;
use crate::audit::records::{NameType, PathFields, SockaddrFields};
use crate::audit::types::Standing;
use crate::probe::observation::Observation;

/// How many serials away a neighbour may be to bound when a fragment's serial was drawn.
pub(super) const REACH: i32 = 256;
/// A stamp is the clock at entry, at most so far behind it.
pub(super) const LATEST_ENTRY: Duration = Duration::from_millis(200);

/// Whether an event without a SYSCALL record is what remains of a system call's.
pub(super) fn is_fragment(event: &AuditEvent) -> bool {
    // A rate limit can leave nothing of an event but its end.
    if event.records.is_empty() {
        return event.completion == Completion::Eoe;
    }
    // An io_uring operation has no SYSCALL record of its own to lose.
    event
        .records
        .iter()
        .all(|record| record.record_type != RecordType::URINGOP)
        && event
            .records
            .iter()
            .any(|record| record.record_type.standing() == Standing::Inside)
}

/// What the records that remain say of the call.
#[derive(Debug, Default)]
pub(super) struct Content {
    paths: Vec<Vec<u8>>,
    cwd: Option<Vec<u8>>,
    sockaddr: Option<Vec<u8>>,
    executed: bool,
}

impl Content {
    pub(super) fn of(event: &AuditEvent) -> Self {
        let mut content = Self::default();
        for record in &event.records {
            match record.record_type {
                RecordType::PATH => {
                    // The kernel adds the parent directory of what is created; the caller did not name it.
                    let path = PathFields::from_record(record)
                        .filter(|path| path.nametype != Some(NameType::Parent));
                    content.paths.extend(path.and_then(|path| path.name));
                }
                RecordType::CWD => content.cwd = record.decoded(b"cwd").map(Cow::into_owned),
                RecordType::SOCKADDR => {
                    content.sockaddr =
                        SockaddrFields::from_record(record).map(|fields| fields.saddr);
                }
                RecordType::EXECVE => content.executed = true,
                _ => {}
            }
        }
        content
    }

    /// Whether they say nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.cwd.is_none() && self.sockaddr.is_none() && !self.executed
    }

    /// How many things the records and the observation agree on; none where they contradict each other.
    pub(super) fn agreement(&self, observation: &Observation) -> Option<u32> {
        let mut agreed = 0;
        if !self.paths.is_empty() {
            let mut named = observation
                .paths
                .iter()
                .filter_map(|argument| argument.path.whole())
                .peekable();
            if named.peek().is_some() {
                if !named.any(|path| self.paths.iter().any(|name| name[..] == path[..])) {
                    return None;
                }
                agreed += 2;
            } else if observation.paths.is_empty() && observation.sockaddr.value().is_none() {
                return None;
            }
        }
        if let (Some(cwd), Some(observed)) = (&self.cwd, observation.cwd.whole()) {
            agreed += same(cwd, observed)?;
        }
        if let Some(sockaddr) = &self.sockaddr {
            agreed += same(sockaddr, observation.sockaddr.whole()?)?;
        }
        if self.executed {
            observation.argv.value()?;
            agreed += 1;
        }
        Some(agreed)
    }
}

fn same(record: &[u8], observed: &[u8]) -> Option<u32> {
    (record == observed).then_some(1)
}
