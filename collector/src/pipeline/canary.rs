//! The canary: a message of our own, sent into the audit subsystem now and then and timed until it is handed to the sink.
//!
//! It takes every step of the way that an event takes, and stays in the stream as what it is, a USER event. It is known by the
//! number this process made up, and by the process id that the kernel writes before the message, which nobody else can forge.

use std::time::{Duration, Instant};

use crate::account;
use crate::audit::client::{Client, UserMessage};
use crate::audit::record::{Record, RecordType};
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::event::Event;

/// What the message begins with.
const OPERATION: &str = "op=audit-collector-canary";

/// Sends it.
#[derive(Debug)]
pub(super) struct Sender {
    marker: String,
    interval: Duration,
    next: Instant,
    sent: u64,
    refused: bool,
}

/// Knows it again.
#[derive(Debug)]
pub(super) struct Receiver {
    marker: String,
    figures: account::Canary,
}

/// The two ends; a message every `interval`, the first after one.
pub(super) fn pair(interval: Duration) -> std::io::Result<(Sender, Receiver)> {
    let number: [u8; 8] = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| std::io::Error::other("the kernel gives no random numbers"))?
        .expose();
    let marker = format!("{OPERATION} id={:016x}-", u64::from_ne_bytes(number));
    let sender = Sender {
        marker: marker.clone(),
        interval,
        next: Instant::now() + interval,
        sent: 0,
        refused: false,
    };
    let receiver = Receiver {
        marker,
        figures: account::Canary {
            interval,
            // So that a canary that never comes through is late after a while, and not at once.
            last_success: RealtimeOffset::sample().wall(KtimeNs::now()),
            ..account::Canary::default()
        },
    };
    Ok((sender, receiver))
}

impl Sender {
    /// Sends it where it is due. To be called only while auditing is on: otherwise the kernel would drop it.
    pub(super) fn send_if_due(&mut self, client: &mut Client, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.interval;
        self.sent += 1;
        let (marker, number, at) = (&self.marker, self.sent, KtimeNs::now().0);
        let text = format!("{marker}{number} at={at} res=success");
        let message = UserMessage::new(RecordType::USER, text.as_bytes())
            .expect("a short line of printable characters is a message");
        match client.user_message(&message) {
            Ok(()) => self.refused = false,
            Err(error) if !self.refused => {
                self.refused = true;
                tracing::warn!(%error, "the canary cannot be sent");
            }
            Err(_) => {}
        }
    }

    /// How many were sent, those included that the kernel refused.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }
}

impl Receiver {
    /// When the canary that `event` is was sent; none where it is none of ours.
    pub(super) fn sent_at(&self, event: &Event) -> Option<KtimeNs> {
        let records = &event.audit.as_ref()?.records;
        records.iter().find_map(|record| self.sent_in(&record))
    }

    fn sent_in(&self, record: &Record<'_>) -> Option<KtimeNs> {
        if record.record_type != RecordType::USER {
            return None;
        }
        let begin = memchr::memmem::find(record.body, self.marker.as_bytes())?;
        let own = record.field(b"pid")?.as_u64() == Some(u64::from(std::process::id()));
        let text = std::str::from_utf8(&record.body[begin + self.marker.len()..]).ok()?;
        let (_, at) = text.split_once(" at=")?;
        let at = at.split(' ').next()?.parse().ok()?;
        own.then_some(KtimeNs(at))
    }

    /// One that was sent at `sent` has been handed to the sink at `now`.
    pub(super) fn arrived(&mut self, sent: KtimeNs, now: KtimeNs, wall: TimeMs) {
        self.figures.received += 1;
        self.figures.last_success = wall;
        self.figures.latency.observe(now.since(sent));
    }

    /// How many were sent, as its sender says.
    pub(super) fn sent(&mut self, sent: u64) {
        self.figures.sent = sent;
    }

    /// The figures.
    pub(super) const fn figures(&self) -> account::Canary {
        self.figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse::netlink_record;

    fn record(body: &str) -> Record<'_> {
        Record {
            body: body.as_bytes(),
            ..netlink_record(1005, b"audit(1700000000.001:7): ").unwrap()
        }
    }

    #[test]
    fn only_our_own_message_is_the_canary() {
        let (sender, receiver) = pair(Duration::from_secs(60)).unwrap();
        let own = std::process::id();
        let text = |pid: u32, marker: &str| {
            format!("pid={pid} uid=0 auid=0 ses=1 msg='{marker}3 at=1234 res=success'")
        };
        let sent_in = |body: &str| receiver.sent_in(&record(body));
        assert_eq!(sent_in(&text(own, &sender.marker)), Some(KtimeNs(1234)));
        assert_eq!(sent_in(&text(own + 1, &sender.marker)), None);
        assert_eq!(sent_in(&text(own, "op=audit-collector-canary id=0-")), None);
        assert_eq!(
            sent_in(&format!("pid={own} msg='{}1 at='", sender.marker)),
            None
        );
        assert_eq!(sent_in("pid=1 msg='op=login'"), None);
    }

    #[test]
    fn it_is_timed_from_its_sending() {
        let (_, mut receiver) = pair(Duration::from_secs(60)).unwrap();
        receiver.sent(1);
        receiver.arrived(KtimeNs(1_000_000), KtimeNs(4_000_000), TimeMs(9));
        let figures = receiver.figures();
        assert_eq!((figures.sent, figures.received), (1, 1));
        assert_eq!(figures.last_success, TimeMs(9));
        assert_eq!(figures.interval, Duration::from_secs(60));
        assert_eq!(figures.latency.counts[4], 1);
    }
}
