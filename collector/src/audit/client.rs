//! Requests to the kernel over a netlink socket of their own: status, settings, features, rules, user messages.
//!
//! Owns what can be asked, and what each refusal of the kernel means. Synchronous; every wait has a deadline. Knows nothing of records: a socket for those is [`crate::audit::socket::EventSocket`].
//!
//! Bounds: an answer is at most [`ANSWER_BYTES`]; a list at most [`RULES_LIMIT`] rules; of messages that answer no
//! request of ours the last [`UNRELATED_LIMIT`] are kept. The kernel works on a request inside the `send` call, where
//! it may wait for its own lock, and makes the sender sleep up to `backlog_wait_time` while its queue is over the limit
//! (kernel/audit.c `audit_receive`); no user-space timeout covers that.

mod connection;
mod equivalent;
mod error;
mod operation;
mod signal_info;
mod tty;
mod user_message;

pub use error::{ClientError, KEY_LIMIT, RULE_TEXT_LIMIT};
pub use operation::Operation;
pub use signal_info::SignalInfo;
pub use tty::TtyStatus;
pub use user_message::{UserMessage, UserMessageError};

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use crate::audit::feature::{self, Feature, FeatureLock, FeatureState, Features};
use crate::audit::message;
use crate::audit::rules::{Field, Placement, Rule};
use crate::audit::socket::MemoryInfo;
use crate::audit::status::{self, KernelStatus, StatusChange, StatusField};
use connection::Connection;

/// How long a request waits for its answer by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most messages kept that answer no request of ours.
pub const UNRELATED_LIMIT: usize = 256;

/// Most rules one listing takes.
pub const RULES_LIMIT: usize = 65_536;

/// Room for one answer. The longest is a rule with 64 strings of PATH_MAX.
pub const ANSWER_BYTES: usize = 320 * 1024;

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
///
/// A request that fails with [`ClientError::TimedOut`] or [`ClientError::AnswerLost`] may have had its effect, or may
/// have it later; its answer, should it come, is kept ([`Client::take_unrelated`]) and never taken for another's.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Opens the socket. Needs no privileges; the requests do.
    ///
    /// # Errors
    /// Where the kernel has no audit subsystem or a system call fails.
    pub fn connect() -> Result<Self, ClientError> {
        Ok(Self {
            connection: Connection::open()?,
        })
    }

    /// The same connection with another timeout per request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.connection.set_timeout(timeout);
        self
    }

    /// How often the kernel could not deliver an answer because the socket's receive buffer was full (ENOBUFS).
    pub const fn overruns(&self) -> u64 {
        self.connection.overruns()
    }

    /// The socket's memory figures.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn memory_info(&self) -> io::Result<MemoryInfo> {
        self.connection.memory_info()
    }

    /// The kernel's audit status. Needs CAP_AUDIT_CONTROL, like every request here but [`Client::user_message`].
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn status(&mut self) -> Result<KernelStatus, ClientError> {
        let status =
            self.connection
                .query(Operation::GetStatus, message::AUDIT_GET, |payload| {
                    Some(KernelStatus::decode(payload))
                })?;
        Ok(status?)
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

    pub(crate) fn set_field(&mut self, field: StatusField, value: u32) -> Result<(), ClientError> {
        let payload = status::encode_set(field, value);
        self.change(
            Operation::Set { field, value },
            message::AUDIT_SET,
            &payload,
        )
    }

    /// Gives the audit pid back, from whichever socket of this process it was claimed
    /// ([`EventSocket::claim`](crate::audit::socket::EventSocket::claim)).
    ///
    /// # Errors
    /// [`ClientError::NotHolder`] where another process holds it.
    pub fn release_pid(&mut self) -> Result<(), ClientError> {
        let payload = status::encode_set(StatusField::Pid, 0);
        self.change(Operation::Release, message::AUDIT_SET, &payload)
    }

    /// Sets the kernel's count of lost records to zero and returns what it was.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn reset_lost(&mut self) -> Result<u32, ClientError> {
        self.reset(StatusField::Lost)
    }

    /// Sets the kernel's sum of the times tasks have waited for room in its queue to zero and returns what it was, in
    /// jiffies.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`] before Linux 5.9, and where the kernel refuses or does not answer.
    pub fn reset_backlog_wait_time_actual(&mut self) -> Result<u32, ClientError> {
        let field = StatusField::BacklogWaitTimeActual;
        // An older kernel says yes and does nothing.
        if self.status()?.field(field).is_none() {
            let operation = Operation::Reset { field };
            return Err(ClientError::Unsupported { operation });
        }
        self.reset(field)
    }

    /// The features of the audit subsystem.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn features(&mut self) -> Result<Features, ClientError> {
        self.connection.query(
            Operation::GetFeatures,
            message::AUDIT_GET_FEATURE,
            Features::decode,
        )
    }

    /// Switches a feature, and locks it until the next reboot where that is asked for.
    ///
    /// # Errors
    /// [`ClientError::FeatureLocked`] where it is locked the other way, and whatever else the kernel refuses.
    pub fn set_feature(
        &mut self,
        feature: Feature,
        state: FeatureState,
        lock: FeatureLock,
    ) -> Result<(), ClientError> {
        self.change(
            Operation::SetFeature {
                feature,
                state,
                lock,
            },
            message::AUDIT_SET_FEATURE,
            &feature::encode_set(feature, state, lock),
        )
    }

    /// The rules in the kernel, in its order.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time, a rule cannot be read, or one may be missing
    /// ([`ClientError::AnswerLost`]).
    pub fn rules(&mut self) -> Result<Vec<Rule>, ClientError> {
        let mut rules = Vec::new();
        self.connection
            .list(Operation::ListRules, message::AUDIT_LIST_RULES, |payload| {
                let index = rules.len();
                if index == RULES_LIMIT {
                    return Err(ClientError::TooManyRules);
                }
                let rule = Rule::decode(payload)
                    .map_err(|source| ClientError::MalformedRule { index, source })?;
                rules.push(rule);
                Ok(())
            })?;
        Ok(rules)
    }

    /// Adds a rule at the end of its list.
    ///
    /// # Errors
    /// [`ClientError::RuleExists`] for a duplicate, [`ClientError::NoSuchFile`], and whatever else the kernel refuses.
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
    /// [`ClientError::NoSuchRule`] where there is none. [`ClientError::NoSuchFile`] where it is loaded, but the kernel
    /// needs the file of its `exe` to find it and that is gone. Whatever else the kernel refuses.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), ClientError> {
        let operation = Operation::DeleteRule;
        let deleted = self.change_rule(operation, message::AUDIT_DEL_RULE, rule, Placement::Last);
        let names_exe = rule.conditions.iter().any(|c| c.field == Field::EXE);
        match deleted {
            // ENOENT is also what a path that cannot be looked up gives.
            Err(ClientError::NoSuchRule { rule: text })
                if names_exe && self.rules()?.contains(rule) =>
            {
                Err(ClientError::NoSuchFile {
                    operation,
                    rule: text,
                })
            }
            result => result,
        }
    }

    /// Writes a record of user space. Needs CAP_AUDIT_WRITE and nothing else. While auditing is switched off, or where
    /// a rule of the `user` list says never, the kernel accepts the message and writes nothing, which nobody is told.
    ///
    /// # Errors
    /// [`ClientError::TtyOff`] for `USER_TTY` where that is so ([`Client::set_tty`]), and where the kernel refuses or
    /// does not answer.
    pub fn user_message(&mut self, message: &UserMessage<'_>) -> Result<(), ClientError> {
        let message_type = message.message_type();
        let operation = Operation::UserMessage { message_type };
        self.change(operation, message_type.0, &message.encode())
    }

    /// Whether what is typed on terminals is recorded for this process.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn tty(&mut self) -> Result<TtyStatus, ClientError> {
        self.connection
            .query(Operation::GetTty, message::AUDIT_TTY_GET, TtyStatus::decode)
    }

    /// Sets whether what is typed on terminals is recorded for this process and those it starts from now on.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn set_tty(&mut self, status: TtyStatus) -> Result<(), ClientError> {
        self.change(
            Operation::SetTty { status },
            message::AUDIT_TTY_SET,
            &status.encode(),
        )
    }

    /// Who last sent the audit daemon a signal.
    ///
    /// # Errors
    /// Where the kernel refuses, does not answer in time or answers what cannot be read.
    pub fn signal_info(&mut self) -> Result<SignalInfo, ClientError> {
        self.connection.query(
            Operation::SignalInfo,
            message::AUDIT_SIGNAL_INFO,
            SignalInfo::decode,
        )
    }

    /// Drops the watches of subtrees that are no longer mounted below a watched directory.
    ///
    /// # Errors
    /// Where the kernel refuses or does not answer.
    pub fn trim(&mut self) -> Result<(), ClientError> {
        self.change(Operation::Trim, message::AUDIT_TRIM, &[])
    }

    /// Extends the directory watches that cover `mount_point` to `subtree`, which is or will be mounted there.
    ///
    /// # Errors
    /// [`ClientError::NotEquivalent`] where a path does not exist or cannot be sent, and whatever else the kernel
    /// refuses.
    pub fn make_equivalent(
        &mut self,
        mount_point: &Path,
        subtree: &Path,
    ) -> Result<(), ClientError> {
        let not_equivalent = |errno| ClientError::NotEquivalent {
            mount_point: mount_point.into(),
            subtree: subtree.into(),
            source: io::Error::from_raw_os_error(errno),
        };
        let payload = equivalent::encode(mount_point, subtree).map_err(not_equivalent)?;
        let operation = Operation::MakeEquivalent;
        match self
            .connection
            .command(operation, message::AUDIT_MAKE_EQUIV, &payload)?
        {
            error if error < 0 => Err(match ClientError::refused(operation, -error) {
                ClientError::Refused { errno, .. } => not_equivalent(errno),
                ClientError::Invalid { .. } => not_equivalent(libc::EINVAL),
                refused => refused,
            }),
            _ => Ok(()),
        }
    }

    /// Takes the messages that answered no request of ours, oldest first.
    pub fn take_unrelated(&mut self) -> impl Iterator<Item = Unrelated> {
        self.connection.take_unrelated().into_iter()
    }

    /// Sends a request that is accepted or refused.
    fn change(
        &mut self,
        operation: Operation,
        message_type: u16,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let error = self.connection.command(operation, message_type, payload)?;
        ClientError::check(operation, error)
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
        match self.connection.command(operation, message_type, &payload)? {
            error if error < 0 => Err(ClientError::rule_refused(operation, -error, rule)),
            _ => Ok(()),
        }
    }

    fn reset(&mut self, field: StatusField) -> Result<u32, ClientError> {
        let operation = Operation::Reset { field };
        let payload = status::encode_set(field, 0);
        // The old value comes in the place of the errno. From 2³¹ on it is negative as well; only what an errno can
        // be is taken for one.
        match self
            .connection
            .command(operation, message::AUDIT_SET, &payload)?
        {
            error @ -4095..0 => Err(ClientError::refused(operation, -error)),
            old => Ok(old as u32),
        }
    }
}

impl AsFd for Client {
    /// The socket, for its options. What is read from it is lost to the client.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
