//! Requests to the kernel over a netlink socket of their own: status, settings, rules.
//!
//! Owns one socket for requests and answers, and what each refusal of the kernel means. Synchronous; every wait has a
//! deadline. Knows nothing of records: a socket for those is [`crate::audit::socket::EventSocket`].
//!
//! Bounds: an answer is at most [`ANSWER_BYTES`]; a list at most [`RULES_LIMIT`] rules; of messages that answer no
//! request of ours the last [`UNRELATED_LIMIT`] are kept. The kernel works on a request inside the `send` call, where
//! it may wait for its own lock; no user-space timeout covers that.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::audit::message::{self, Datagram, Kind};
use crate::audit::privilege::{Capability, Privileges};
use crate::audit::rules::{Placement, Rule, RuleDecodeError, RuleEncodeError};
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

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading the status.
    GetStatus,
    /// Changing one setting.
    Set {
        /// Which.
        field: StatusField,
        /// To what.
        value: u32,
    },
    /// Setting a counter back to zero.
    Reset {
        /// Which.
        field: StatusField,
    },
    /// Registering as the audit daemon.
    Claim,
    /// Giving the audit pid back.
    Release,
    /// Reading the rules.
    ListRules,
    /// Adding a rule.
    AddRule,
    /// Removing a rule.
    DeleteRule,
    /// Reading the features.
    GetFeatures,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GetStatus => write!(f, "read the audit status"),
            Self::Set { field, value } => write!(f, "set {} to {value}", field.name()),
            Self::Reset { field } => write!(f, "reset {}", field.name()),
            Self::Claim => write!(f, "claim the audit pid"),
            Self::Release => write!(f, "release the audit pid"),
            Self::ListRules => write!(f, "list the audit rules"),
            Self::AddRule => write!(f, "add an audit rule"),
            Self::DeleteRule => write!(f, "delete an audit rule"),
            Self::GetFeatures => write!(f, "read the audit features"),
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket could not be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A system call on the socket failed.
    #[error("cannot {operation}")]
    System {
        /// What was asked.
        operation: Operation,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A capability is missing.
    #[error("cannot {operation}: {} is missing", capability.name())]
    MissingCapability {
        /// What was asked.
        operation: Operation,
        /// Which.
        capability: Capability,
    },
    /// Audit can only be controlled from the initial pid namespace.
    #[error("cannot {operation}: this process is not in the initial pid namespace")]
    ForeignPidNamespace {
        /// What was asked.
        operation: Operation,
    },
    /// Audit can only be reached from the initial user namespace.
    #[error("cannot {operation}: this process is not in the initial user namespace")]
    ForeignUserNamespace {
        /// What was asked.
        operation: Operation,
    },
    /// The configuration was locked (`enabled` 2).
    #[error("cannot {operation}: the audit configuration is locked until the next reboot")]
    Locked {
        /// What was asked.
        operation: Operation,
    },
    /// Another daemon is registered and lives.
    #[error("cannot claim the audit pid: process {pid} holds it")]
    PidHeld {
        /// The holder, 0 where it could not be learnt.
        pid: u32,
    },
    /// Another process holds the audit pid, so it is not ours to release.
    #[error("cannot release the audit pid: another process holds it")]
    NotHolder,
    /// The rule is loaded already.
    #[error("the rule is loaded already: {rule}")]
    RuleExists {
        /// The rule in auditctl's words.
        rule: String,
    },
    /// The rule to delete is not loaded, or a file the rule to add names does not exist.
    #[error("cannot {operation}: no such rule, or no such file: {rule}")]
    NotFound {
        /// What was asked.
        operation: Operation,
        /// The rule in auditctl's words.
        rule: String,
    },
    /// The kernel does not accept the rule.
    #[error("cannot {operation}: the kernel does not accept it (errno {errno}): {rule}")]
    RuleRefused {
        /// What was asked.
        operation: Operation,
        /// The rule in auditctl's words.
        rule: String,
        /// The errno.
        errno: i32,
    },
    /// The kernel does not accept the value.
    #[error("cannot {operation}: the kernel does not accept it")]
    Invalid {
        /// What was asked.
        operation: Operation,
    },
    /// The kernel refused for another reason.
    #[error("cannot {operation}: {}", io::Error::from_raw_os_error(*errno))]
    Refused {
        /// What was asked.
        operation: Operation,
        /// The errno.
        errno: i32,
    },
    /// No answer came in time.
    #[error("cannot {operation}: no answer within {after:?}")]
    TimedOut {
        /// What was asked.
        operation: Operation,
        /// How long was waited.
        after: Duration,
    },
    /// The kernel could not deliver its answer, because the receive buffer was full.
    #[error("cannot {operation}: the answer did not fit the receive buffer")]
    AnswerLost {
        /// What was asked.
        operation: Operation,
    },
    /// The answer cannot be read.
    #[error("cannot {operation}: malformed answer of type {message_type}, {length} bytes")]
    MalformedReply {
        /// What was asked.
        operation: Operation,
        /// The type of the message.
        message_type: u16,
        /// Its length in bytes.
        length: usize,
    },
    /// The status cannot be read.
    #[error("cannot read the audit status")]
    MalformedStatus(#[from] StatusTooShort),
    /// A rule of the list cannot be read.
    #[error("cannot read rule {index} of the list")]
    MalformedRule {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: RuleDecodeError,
    },
    /// The rule does not fit what the kernel's interface can carry.
    #[error("cannot {operation}: {rule}")]
    Unencodable {
        /// What was asked.
        operation: Operation,
        /// The rule in auditctl's words.
        rule: String,
        /// What does not fit.
        #[source]
        source: RuleEncodeError,
    },
    /// The list is longer than [`RULES_LIMIT`].
    #[error("the kernel lists more than {RULES_LIMIT} rules")]
    TooManyRules,
}

impl ClientError {
    /// Every value of [`ClientError::label`], for metrics created at zero.
    pub const LABELS: [&str; 10] = [
        "socket",
        "system",
        "permission",
        "namespace",
        "locked",
        "held",
        "refused",
        "timeout",
        "answer_lost",
        "malformed",
    ];

    /// The error's name in metrics, from a closed set.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Socket(_) => "socket",
            Self::System { .. } => "system",
            Self::MissingCapability { .. } => "permission",
            Self::ForeignPidNamespace { .. } | Self::ForeignUserNamespace { .. } => "namespace",
            Self::Locked { .. } => "locked",
            Self::PidHeld { .. } | Self::NotHolder => "held",
            Self::RuleExists { .. }
            | Self::NotFound { .. }
            | Self::RuleRefused { .. }
            | Self::Unencodable { .. }
            | Self::Invalid { .. }
            | Self::Refused { .. } => "refused",
            Self::TimedOut { .. } => "timeout",
            Self::AnswerLost { .. } => "answer_lost",
            Self::MalformedReply { .. }
            | Self::MalformedStatus(_)
            | Self::MalformedRule { .. }
            | Self::TooManyRules => "malformed",
        }
    }

    /// What a refusal means, as far as `errno`, the request and this process's own privileges tell.
    pub(super) fn refused(operation: Operation, errno: i32) -> Self {
        match errno {
            // The kernel answers as if nobody listened (kernel/audit.c `audit_netlink_ok`).
            libc::ECONNREFUSED => Self::ForeignUserNamespace { operation },
            libc::EPERM => Self::not_permitted(operation, Privileges::of_this_process()),
            libc::EEXIST if operation == Operation::Claim => Self::PidHeld { pid: holder() },
            libc::EACCES if operation == Operation::Release => Self::NotHolder,
            libc::EINVAL => Self::Invalid { operation },
            errno => Self::Refused { operation, errno },
        }
    }

    /// Why the kernel answers EPERM. It checks the pid namespace, then the capability, then the lock.
    fn not_permitted(operation: Operation, privileges: io::Result<Privileges>) -> Self {
        match privileges {
            Ok(privileges) if privileges.initial_pid_namespace == Some(false) => {
                Self::ForeignPidNamespace { operation }
            }
            Ok(privileges) if privileges.has(Capability::AuditControl) => {
                Self::Locked { operation }
            }
            _ => Self::MissingCapability {
                operation,
                capability: Capability::AuditControl,
            },
        }
    }

    /// The same for requests about a rule.
    fn rule_refused(operation: Operation, errno: i32, rule: &Rule) -> Self {
        let rule = rule.to_string();
        match errno {
            libc::EEXIST => Self::RuleExists { rule },
            libc::ENOENT => Self::NotFound { operation, rule },
            libc::EPERM | libc::ECONNREFUSED => Self::refused(operation, errno),
            errno => Self::RuleRefused {
                operation,
                rule,
                errno,
            },
        }
    }
}

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

/// The registered daemon; 0 where that cannot be learnt.
fn holder() -> u32 {
    Client::connect()
        .and_then(|mut client| client.status())
        .map_or(0, |status| status.pid)
}
