//! What the records of an event say of its call, and which observation they speak of where its key does not tell: because
//! the SYSCALL record was lost, or because calls with the same key differ in what they name.

use std::time::Duration;

use smallvec::SmallVec;

use crate::audit::event::{AuditEvent, Completion};
use crate::audit::fields::Text;
use crate::audit::record::RecordType;
use crate::audit::records::{NameType, PathFields, SockaddrFields, SyscallFields};
use crate::audit::types::Standing;
use crate::byte_string::ByteString;
use crate::clock::KtimeNs;
use crate::correlate::neighbours::Neighbour;
use crate::correlate::observations::ObservationId;
use crate::probe::observation::Observation;

/// How many serials away a neighbour may be to bound when a fragment's serial was drawn.
pub(super) const REACH: u32 = 256;
/// A stamp is the coarse clock at entry, cut to milliseconds: no further behind it than this where the clock ticks in time.
pub(super) const TICK: Duration = Duration::from_millis(11);
/// Where the two clocks are not read at one moment, a call may seem to enter before its stamp, by no more than this.
pub(super) const EARLIEST_ENTRY: Duration = Duration::from_millis(5);
/// A stamp is the clock at entry, at most so far behind it, however late the clock ticks.
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

/// Whether an observation can be of the call that records speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// They contradict each other.
    No,
    /// The address that the call named is in no record, as if that were lost.
    Lacking,
    /// They do not say enough.
    Perhaps,
    /// Whatever the observed call named is what they name.
    Yes,
}

/// What the records that came say of the call.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Whether none is missing, for all that is known.
    pub(super) whole: bool,
    paths: SmallVec<[ByteString; 2]>,
    cwd: Option<ByteString>,
    sockaddr: Option<ByteString>,
    executed: bool,
}

impl Content {
    /// `buffer` is what is decoded into.
    pub(super) fn of(
        event: &AuditEvent,
        fields: Option<&SyscallFields<'_>>,
        buffer: &mut Vec<u8>,
    ) -> Self {
        let mut owned = |text: Text<'_>| ByteString::from(text.decode_into(buffer));
        let mut content = Self::default();
        let mut n_paths = 0;
        for record in &event.records {
            match record.record_type {
                RecordType::PATH => {
                    n_paths += 1;
                    // The kernel adds the parent directory of what is created; the caller did not name it.
                    let path = PathFields::from_record(record)
                        .filter(|path| path.nametype != Some(NameType::Parent));
                    let name = path.and_then(|path| path.name);
                    content.paths.extend(name.map(&mut owned));
                }
                RecordType::CWD => content.cwd = record.text(b"cwd").map(&mut owned),
                RecordType::SOCKADDR => {
                    let fields = SockaddrFields::from_record(record);
                    content.sockaddr = fields.map(|fields| owned(fields.saddr));
                }
                RecordType::EXECVE => content.executed = true,
                _ => {}
            }
        }
        let ended = matches!(event.completion, Completion::Eoe | Completion::Late);
        content.whole = ended && fields.is_some_and(|fields| n_paths >= fields.items);
        content
    }

    /// How well an observation must fit to be taken before all others have had their choice.
    pub(super) fn least(&self) -> Fit {
        if self.whole { Fit::Perhaps } else { Fit::Yes }
    }

    /// How well one must fit for no other to fit better.
    pub(super) fn most(&self) -> Fit {
        if self.paths.is_empty() && self.sockaddr.is_none() {
            Fit::Perhaps
        } else {
            Fit::Yes
        }
    }

    /// Whether the observed call, whose key is the event's, can be the event's. Paths and addresses are elsewhere than the
    /// arguments that point to them, so that calls with one key may differ in them.
    pub(super) fn fit(&self, observation: &Observation) -> Fit {
        let address = match (&self.sockaddr, observation.sockaddr.whole()) {
            (Some(record), Some(observed)) if record[..] == observed[..] => Fit::Yes,
            (Some(_), Some(_)) => Fit::No,
            (None, Some(_)) => Fit::Lacking,
            (None, None) => Fit::Yes,
            (Some(_), None) => Fit::Perhaps,
        };
        let mut observed = 0;
        let mut named = 0;
        for path in observation
            .paths
            .iter()
            .filter_map(|path| path.path.whole())
        {
            observed += 1;
            named += usize::from(self.paths.iter().any(|name| name[..] == path[..]));
        }
        let paths = match (observed, named) {
            // The path of a socket is named by its address.
            (0, _) if self.paths.is_empty() || self.sockaddr.is_some() => Fit::Yes,
            (0, _) => Fit::Perhaps,
            (_, 0) if self.paths.is_empty() => Fit::Perhaps,
            (_, 0) => Fit::No,
            _ if named < observed => Fit::Perhaps,
            _ => Fit::Yes,
        };
        paths.min(address)
    }

    /// Whether they say nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.cwd.is_none() && self.sockaddr.is_none() && !self.executed
    }

    /// The observation that the records speak of, of all that wait from about the same time.
    ///
    /// Calls that are alike in all that is left of the event (one program opens one file over and over) are told apart by
    /// their order: where the nearest known serial is the third after the event's, the call is the third before
    /// the one that drew it. Calls that drew no serial in between make that a guess, but never one out of order.
    pub(super) fn choose(
        mut candidates: Vec<Candidate>,
        below: Option<Neighbour>,
        above: Option<Neighbour>,
    ) -> Option<ObservationId> {
        let most = candidates
            .iter()
            .filter_map(|candidate| candidate.agreement)
            .max()?;
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
                    candidate.from_stamp > TICK,
                    place.map_or(0, |place| at.abs_diff(place)),
                    candidate.from_stamp,
                )
            })
            .map(|(_, candidate)| candidate.id)
    }

    /// The only observation possible: where the records say nothing at all, as only the end came.
    pub(super) fn only(candidates: &[Candidate]) -> Option<ObservationId> {
        let mut possible = candidates
            .iter()
            .filter(|candidate| candidate.agreement.is_some());
        let only = possible.next()?;
        possible.next().is_none().then_some(only.id)
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
