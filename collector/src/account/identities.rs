//! The identities that the account keeps, whatever is lost.
//!
//! Owns which there are. Those of the core and of the sinks hold in every copy of an account. The programs and the ring's
//! reader go on counting while their counters are read, so theirs are bounds then, and exact once both have stopped.

use crate::account::{Account, Ebpf, Mirror};

impl Account {
    /// The identities that do not hold, by name; none unless the collector counts wrongly.
    pub fn broken_identities(&self) -> Vec<&'static str> {
        let assembly = &self.assembly;
        let passed_on = assembly.completed
            + assembly.standalone
            + assembly.timed_out
            + assembly.flushed
            + assembly.evicted;
        let sinks = self.sinks.values().all(|sink| {
            let dropped: u64 = sink.dropped.values().sum();
            sink.handed_over == sink.delivered + dropped + sink.queued
        });
        let all = [
            (
                "records",
                self.input.records == self.input.parsed + self.input.malformed,
            ),
            ("events", assembly.begun == passed_on + assembly.pending),
            ("copies", self.mirror.balances()),
            (
                "observations",
                (self.ebpf.iter()).all(|ebpf| ebpf.n_read() <= ebpf.submitted),
            ),
            ("expected", self.crosscheck.balances()),
            ("sinks", sinks),
        ];
        let broken = all.into_iter().filter(|(_, holds)| !holds);
        broken.map(|(name, _)| name).collect()
    }
}

impl Mirror {
    fn balances(&self) -> bool {
        let given_back: u64 = self.given_back.values().sum();
        let unusable = self.malformed + self.cut + self.unjudged;
        self.received == self.confirmed + given_back + self.put_behind + unusable + self.waiting
    }
}

impl Ebpf {
    /// Samples that the programs could not send.
    pub fn refused(&self) -> u64 {
        let reasons = ["ring_full", "in_flight_full"].into_iter();
        reasons.filter_map(|reason| self.dropped.get(reason)).sum()
    }

    /// Whether everything the programs tried to send was sent, or refused and counted, and everything sent has been read:
    /// what is left when the programs are detached and the ring has been read to its end.
    pub fn is_settled(&self) -> bool {
        self.attempted == self.submitted + self.refused() && self.submitted == self.n_read()
    }

    fn n_read(&self) -> u64 {
        self.read.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Sink;

    #[test]
    fn each_identity_is_named_when_it_breaks() {
        let mut account = Account::default();
        assert!(account.broken_identities().is_empty());
        account.input.records = 1;
        account.assembly.begun = 1;
        account.mirror.received = 1;
        account.crosscheck.expected = 1;
        account.ebpf = Some(Ebpf {
            attempted: 3,
            submitted: 2,
            read: [("sys_exit", 3)].into(),
            dropped: [("ring_full", 1)].into(),
            ..Ebpf::default()
        });
        let sink = Sink {
            handed_over: 2,
            delivered: 1,
            ..Sink::default()
        };
        account.sinks.insert("file".to_owned(), sink);
        assert_eq!(
            account.broken_identities(),
            [
                "records",
                "events",
                "copies",
                "observations",
                "expected",
                "sinks"
            ]
        );
    }

    #[test]
    fn samples_in_the_ring_are_not_settled() {
        let mut ebpf = Ebpf {
            attempted: 3,
            submitted: 2,
            read: [("sys_exit", 1)].into(),
            dropped: [("ring_full", 1)].into(),
            ..Ebpf::default()
        };
        assert!(!ebpf.is_settled());
        ebpf.read.insert("sys_exit", 2);
        assert!(ebpf.is_settled());
    }
}
