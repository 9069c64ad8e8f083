//! Requests to the kernel over a netlink socket of their own: status, settings, rules.
//!
//! Owns one socket for requests and answers, and what each refusal of the kernel means. Synchronous; every wait has a
//! deadline. Knows nothing of records: a socket for those is [`crate::audit::socket::EventSocket`].
//!
//! Bounds: an answer is at most [`ANSWER_BYTES`]; a list at most [`RULES_LIMIT`] rules; of messages that answer no
//! request of ours the last [`UNRELATED_LIMIT`] are kept. The kernel works on a request inside the `send` call, where
//! it may wait for its own lock; no user-space timeout covers that.

mod error;

pub use error::{ClientError, Operation};

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::audit::message::{self, Datagram, Kind};
use crate::audit::rules::{Placement, Rule};
use crate::audit::socket::{self, Batch, SocketError};
use crate::audit::status::{self, KernelStatus, StatusChange, StatusField, StatusTooShort};
use crate::audit::sys::{self, Arrival};
use crate::clock::KtimeNs;

/// How long a request waits for its answer by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most messages kept that answer no request of ours.
pub const UNRELATED_LIMIT: usize = 256;

/// Most rules one listing takes.
pub const RULES_LIMIT: usize = 65_536;

/// Room for one answer. The longest is a rule with 64 strings of PATH_MAX.
pub const ANSWER_BYTES: usize = 320 * 1024;

/// Wished size of the receive buffer: the kernel throws away the rest of a list when the reader is slow
/// (kernel/audit.c `audit_send_list_thread`).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// `struct audit_features`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Version of the struct.
    pub version: u32,
    /// The features that are on: bit 0 `only_unset_loginuid`, bit 1 `loginuid_immutable`.
    pub features: u32,
    /// The features that can no longer be changed.
    pub lock: u32,
}

/// A message that answered no request of ours: a late answer to one that had timed out, or something unexpected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrelated {
    /// Its type.
    pub message_type: u16,
    /// Its sequence number.
    pub sequence: u32,
    /// What follows its header.
    pub payload: Box<[u8]>,
}

/// A connection to the kernel's audit subsystem for requests.
#[derive(Debug)]
pub struct Client {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
    sequence: u32,
    timeout: Duration,
    unrelated: VecDeque<Unrelated>,
}

impl Client {
    /// Opens the socket. Needs no privileges; the requests do.
    ///
    /// # Errors
    /// Where the kernel has no audit subsystem or a system call fails.
    pub fn connect() -> Result<Self, ClientError> {
        let mut socket = socket::open_socket()?;
        socket::size_receive_buffer(&socket, Some(RECEIVE_BUFFER))?;
        socket.bind_auto().map_err(|source| SocketError::System {
            operation: "bind",
            source,
        })?;
        Ok(Self {
            socket,
            buffer: vec![0; ANSWER_BYTES],
            sequence: 0,
            timeout: DEFAULT_TIMEOUT,
            unrelated: VecDeque::new(),
        })
    }

    /// The same connection with another timeout per request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The kernel's audit status. Needs CAP_AUDIT_CONTROL like every request here.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn status(&mut self) -> Result<KernelStatus, ClientError> {
        let mut status = None;
        self.exchange(Operation::GetStatus, message::AUDIT_GET, &[], |datagram| {
            status = Some(KernelStatus::decode(datagram.payload));
            Ok(Progress::Done)
        })?;
        Ok(status.ok_or(StatusTooShort { length: 0 })??)
    }

    /// Changes settings, one request per field, in the order of [`StatusChange::fields`].
    ///
    /// # Errors
    /// The first field the kernel refuses is named; the ones before it have been changed.
    pub fn set(&mut self, change: &StatusChange) -> Result<(), ClientError> {
        for (field, value) in change.fields() {
            self.set_field(field, value)?;
        }
        Ok(())
    }

    pub(super) fn set_field(&mut self, field: StatusField, value: u32) -> Result<(), ClientError> {
        let operation = Operation::Set { field, value };
        let payload = status::encode_set(field, value);
        let error = self.command(operation, message::AUDIT_SET, &payload)?;
        accepted(operation, error)
    }

    /// Gives the audit pid back, from whichever socket of this process it was claimed.
    ///
    /// # Errors
    /// [`ClientError::NotHolder`] where another process holds it.
    pub fn release_pid(&mut self) -> Result<(), ClientError> {
        let operation = Operation::Release;
        let payload = status::encode_set(StatusField::Pid, 0);
        let error = self.command(operation, message::AUDIT_SET, &payload)?;
        accepted(operation, error)
    }

    /// Sets the kernel's count of lost records to zero and returns what it was.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn reset_lost(&mut self) -> Result<u32, ClientError> {
        let operation = Operation::Reset {
            field: StatusField::Lost,
        };
        let payload = status::encode_set(StatusField::Lost, 0);
        let answer = self.command(operation, message::AUDIT_SET, &payload)?;
        // The old value comes in the place of the errno. From 2³¹ on it is negative as well; only what an errno can
        // be is taken for one.
        match answer {
            -4095..0 => Err(ClientError::refused(operation, -answer)),
            old => Ok(old as u32),
        }
    }

    /// The rules in the kernel, in its order.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time, or a rule cannot be read.
    pub fn rules(&mut self) -> Result<Vec<Rule>, ClientError> {
        let mut rules = Vec::new();
        self.exchange(
            Operation::ListRules,
            message::AUDIT_LIST_RULES,
            &[],
            |datagram| {
                if datagram.kind() == Kind::Done {
                    return Ok(Progress::Done);
                }
                if rules.len() == RULES_LIMIT {
                    return Err(ClientError::TooManyRules);
                }
                let rule = Rule::decode(datagram.payload).map_err(|source| {
                    ClientError::MalformedRule {
                        index: rules.len(),
                        source,
                    }
                })?;
                rules.push(rule);
                Ok(Progress::More)
            },
        )?;
        Ok(rules)
    }

    /// Adds a rule at the end of its list.
    ///
    /// # Errors
    /// [`ClientError::RuleExists`] for a duplicate, and whatever else the kernel refuses.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), ClientError> {
        self.add_rule_at(rule, Placement::Last)
    }

    /// Adds a rule at either end of its list.
    ///
    /// # Errors
    /// As [`Client::add_rule`]; the kernel does not notice duplicates of rules put first.
    pub fn add_rule_at(&mut self, rule: &Rule, placement: Placement) -> Result<(), ClientError> {
        self.change_rule(Operation::AddRule, message::AUDIT_ADD_RULE, rule, placement)
    }

    /// Removes the rule that equals `rule`.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] where there is none, and whatever else the kernel refuses.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), ClientError> {
        self.change_rule(
            Operation::DeleteRule,
            message::AUDIT_DEL_RULE,
            rule,
            Placement::Last,
        )
    }

    /// The features of the audit subsystem.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn features(&mut self) -> Result<Features, ClientError> {
        let operation = Operation::GetFeatures;
        let mut features = Features::default();
        self.exchange(operation, message::AUDIT_GET_FEATURE, &[], |datagram| {
            let word = |index: usize| {
                message::u32_at(datagram.payload, index * 4)
                    .ok_or_else(|| malformed(operation, datagram))
            };
            features = Features {
                version: word(0)?,
                features: word(2)?,
                lock: word(3)?,
            };
            Ok(Progress::Done)
        })?;
        Ok(features)
    }

    /// Takes the messages that answered no request of ours, oldest first.
    pub fn take_unrelated(&mut self) -> impl Iterator<Item = Unrelated> {
        std::mem::take(&mut self.unrelated).into_iter()
    }

    fn change_rule(
        &mut self,
        operation: Operation,
        message_type: u16,
        rule: &Rule,
        placement: Placement,
    ) -> Result<(), ClientError> {
        let payload = rule
            .encode(placement)
            .map_err(|source| ClientError::Unencodable {
                operation,
                rule: rule.to_string(),
                source,
            })?;
        match self.command(operation, message_type, &payload)? {
            error if error < 0 => Err(ClientError::rule_refused(operation, -error, rule)),
            _ => Ok(()),
        }
    }

    /// Sends a request that is answered by an acknowledgement alone, and returns its `error`.
    fn command(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
    ) -> Result<i32, ClientError> {
        self.send(operation, message_type, payload)?;
        let deadline = KtimeNs::now().plus(self.timeout);
        let mut answer = None;
        while answer.is_none() {
            self.next_answer(operation, message_type, deadline, |datagram| {
                if let Kind::Acknowledgement { error } = datagram.kind() {
                    answer = Some(error.ok_or_else(|| malformed(operation, datagram))?);
                }
                Ok(())
            })?;
        }
        Ok(answer.unwrap_or_default())
    }

    /// Sends a request that is answered by an acknowledgement and by messages, which go to `take` until it is done.
    fn exchange(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
        mut take: impl FnMut(&Datagram<'_>) -> Result<Progress, ClientError>,
    ) -> Result<(), ClientError> {
        self.send(operation, message_type, payload)?;
        let deadline = KtimeNs::now().plus(self.timeout);
        let mut progress = Progress::More;
        while progress == Progress::More {
            self.next_answer(operation, message_type, deadline, |datagram| {
                match datagram.kind() {
                    Kind::Acknowledgement { error } => {
                        accepted(
                            operation,
                            error.ok_or_else(|| malformed(operation, datagram))?,
                        )?;
                    }
                    _ if datagram.truncated() => return Err(malformed(operation, datagram)),
                    _ => progress = take(datagram)?,
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        // 0 is what records and messages of the kernel's own accord carry.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let request = message::request(message_type, self.sequence, payload);
        socket::send(&self.socket, &request).map_err(|source| match source.raw_os_error() {
            Some(libc::ECONNREFUSED) => ClientError::ForeignUserNamespace { operation },
            _ => ClientError::System { operation, source },
        })
    }

    /// Waits for the next message that belongs to the request under way and gives it to `take`. Others are kept.
    fn next_answer(
        &mut self,
        operation: Operation,
        message_type: u16,
        deadline: KtimeNs,
        mut take: impl FnMut(&Datagram<'_>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        loop {
            let mut arrival = [Arrival::default()];
            let stride = self.buffer.len();
            match sys::receive_many(self.socket.as_fd(), &mut self.buffer, stride, &mut arrival) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(operation, deadline)?;
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Err(ClientError::AnswerLost { operation });
                }
                Err(source) => return Err(ClientError::System { operation, source }),
            }
            let [arrival] = arrival;
            let raw = &self.buffer[..arrival.length.min(stride)];
            // A message not sent by the kernel answers nothing, whatever it says.
            let datagram = match Datagram::parse(raw, arrival.length, KtimeNs::now()) {
                Some(datagram) if arrival.sender == 0 => datagram,
                _ => continue,
            };
            if datagram.sequence == self.sequence && is_answer(&datagram, message_type) {
                return take(&datagram);
            }
            if self.unrelated.len() == UNRELATED_LIMIT {
                self.unrelated.pop_front();
            }
            self.unrelated.push_back(Unrelated {
                message_type: datagram.message_type,
                sequence: datagram.sequence,
                payload: datagram.payload[..datagram.payload.len().min(Batch::DATAGRAM_BYTES)]
                    .into(),
            });
        }
    }

    fn wait(&self, operation: Operation, deadline: KtimeNs) -> Result<(), ClientError> {
        let left = deadline.since(KtimeNs::now());
        if left.is_zero() {
            return Err(ClientError::TimedOut {
                operation,
                after: self.timeout,
            });
        }
        match sys::wait_readable(self.socket.as_fd(), left) {
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                Err(ClientError::System { operation, source })
            }
            _ => Ok(()),
        }
    }
}

/// Whether more messages answer a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

fn is_answer(datagram: &Datagram<'_>, message_type: u16) -> bool {
    match datagram.kind() {
        Kind::Acknowledgement { .. } | Kind::Done => true,
        _ => datagram.message_type == message_type,
    }
}

fn accepted(operation: Operation, error: i32) -> Result<(), ClientError> {
    if error < 0 {
        return Err(ClientError::refused(operation, -error));
    }
    Ok(())
}

fn malformed(operation: Operation, datagram: &Datagram<'_>) -> ClientError {
    ClientError::MalformedReply {
        operation,
        message_type: datagram.message_type,
        length: datagram.length,
    }
}
