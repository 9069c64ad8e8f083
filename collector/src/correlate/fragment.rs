//! Events of system calls whose SYSCALL record was lost, and which observation their remaining records speak of.

use std::borrow::Cow;
use std::time::Duration;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::record::RecordType;
use crate::audit::records::{NameType, PathFields, SockaddrFields};
use crate::audit::types::Standing;
use crate::clock::KtimeNs;
use crate::correlate::neighbours::Neighbour;
use crate::correlate::observations::ObservationId;
use crate::probe::observation::Observation;

/// How many serials away a neighbour may be to bound when a fragment's serial was drawn.
pub(super) const REACH: u32 = 256;
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

    /// The observation that the records speak of, of all that wait from about the same time.
    ///
    /// Calls that are alike in all that is left of the event (one program opens one file over and over) are told apart by
    /// their order: where the nearest known serial is the third after the event's, the call is the third before
    /// the one that drew it. Calls that drew no serial in between make that a guess, but never one out of order. Where the
    /// records say nothing at all (only the end came), the call must be the only one possible.
    pub(super) fn choose(
        &self,
        mut candidates: Vec<Candidate>,
        below: Option<Neighbour>,
        above: Option<Neighbour>,
    ) -> Option<ObservationId> {
        let most = candidates
            .iter()
            .filter_map(|candidate| candidate.agreement)
            .max()?;
        if self.is_empty() {
            let mut possible = candidates
                .iter()
                .filter(|candidate| candidate.agreement.is_some());
            let only = possible.next()?;
            return possible.next().is_none().then_some(only.id);
        }
        candidates.sort_unstable_by_key(|candidate| candidate.taken);
        let until =
            |at: KtimeNs| candidates.partition_point(|candidate| candidate.taken <= at) as u32;
        // The place that the event has among the calls, counted from its nearest neighbour.
        let place = match (below, above) {
            (Some(below), above) if above.is_none_or(|above| below.serials < above.serials) => {
                Some(i64::from(until(below.at)) + i64::from(below.serials) - 1)
            }
            (_, Some(above)) => Some(i64::from(until(above.at)) - i64::from(above.serials)),
            (_, None) => None,
        };
        (0_i64..)
            .zip(&candidates)
            .filter(|(_, candidate)| candidate.agreement == Some(most))
            .min_by_key(|(at, candidate)| {
                (
                    place.map_or(0, |place| at.abs_diff(place)),
                    candidate.from_stamp,
                )
            })
            .map(|(_, candidate)| candidate.id)
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

/// An observation that waits, as seen from a fragment.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) id: ObservationId,
    /// When it was sampled, which is about when its call drew its serial if it did.
    pub(super) taken: KtimeNs,
    /// Between its entry and the fragment's stamp.
    pub(super) from_stamp: Duration,
    /// [`Content::agreement`]; none also where its neighbours contradict.
    pub(super) agreement: Option<u32>,
}

fn same(record: &[u8], observed: &[u8]) -> Option<u32> {
    (record == observed).then_some(1)
}
