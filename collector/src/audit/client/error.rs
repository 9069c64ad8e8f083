//! What was asked of the kernel, and what each of its refusals means.

use std::fmt;
use std::io;
use std::time::Duration;

use super::{Client, RULES_LIMIT};
use crate::audit::privilege::{Capability, Privileges};
use crate::audit::rules::{Rule, RuleDecodeError, RuleEncodeError};
use crate::audit::socket::SocketError;
use crate::audit::status::{StatusField, StatusTooShort};

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

    /// Whether the kernel refuses for want of a capability, or from within this namespace.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::MissingCapability { .. }
                | Self::ForeignPidNamespace { .. }
                | Self::ForeignUserNamespace { .. }
        )
    }

    /// What a refusal means, as far as `errno`, the request and this process's own privileges tell.
    pub(in crate::audit) fn refused(operation: Operation, errno: i32) -> Self {
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
    pub(super) fn rule_refused(operation: Operation, errno: i32, rule: &Rule) -> Self {
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

/// The registered daemon; 0 where that cannot be learnt.
fn holder() -> u32 {
    Client::connect()
        .and_then(|mut client| client.status())
        .map_or(0, |status| status.pid)
}
