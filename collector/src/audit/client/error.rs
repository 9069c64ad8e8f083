//! What each refusal of the kernel means.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{Client, Operation, RULES_LIMIT};
use crate::audit::feature::Feature;
use crate::audit::privilege::{Capability, Privileges};
use crate::audit::record::RecordType;
use crate::audit::rules::{Field, Rule, RuleDecodeError, RuleEncodeError};
use crate::audit::socket::SocketError;
use crate::audit::status::StatusTooShort;

/// Longest key of a rule, or several keys with what parts them, in bytes (`AUDIT_MAX_KEY_LEN`).
pub const KEY_LIMIT: usize = 256;

/// Longest other text in a rule, in bytes (`PATH_MAX`).
pub const RULE_TEXT_LIMIT: usize = libc::PATH_MAX as usize;

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
    #[error(
        "cannot claim the audit pid: process {pid} holds it; stop that daemon, or read beside it (`--mode multicast`)"
    )]
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
    /// The rule to delete is not loaded.
    #[error("no such rule is loaded: {rule}")]
    NoSuchRule {
        /// The rule in auditctl's words.
        rule: String,
    },
    /// A file or directory the rule names, or the directory it is in, does not exist.
    #[error("cannot {operation}: a file or directory it names does not exist: {rule}")]
    NoSuchFile {
        /// What was asked.
        operation: Operation,
        /// The rule in auditctl's words.
        rule: String,
    },
    /// The keys of a rule are too long.
    #[error("cannot {operation}: a key of {length} bytes is longer than {KEY_LIMIT}")]
    KeyTooLong {
        /// What was asked.
        operation: Operation,
        /// Length of all keys, with one byte between two, in bytes.
        length: usize,
    },
    /// Another text of a rule is too long.
    #[error(
        "cannot {operation}: a {} of {length} bytes is longer than {RULE_TEXT_LIMIT}",
        field.name().unwrap_or("text")
    )]
    RuleTextTooLong {
        /// What was asked.
        operation: Operation,
        /// Of which field.
        field: Field,
        /// Its length in bytes.
        length: usize,
    },
    /// The kernel does not accept the rule.
    #[error(
        "cannot {operation}: the kernel does not accept it ({}): {rule}",
        io::Error::from_raw_os_error(*errno)
    )]
    RuleRefused {
        /// What was asked.
        operation: Operation,
        /// The rule in auditctl's words.
        rule: String,
        /// The errno.
        errno: i32,
    },
    /// The feature was locked.
    #[error("cannot {operation}: {} is locked until the next reboot", feature.name())]
    FeatureLocked {
        /// What was asked.
        operation: Operation,
        /// Which feature.
        feature: Feature,
    },
    /// What is typed is not recorded for this process, and so it cannot say what was typed.
    #[error("cannot {operation}: tty auditing is switched off for this process")]
    TtyOff {
        /// What was asked.
        operation: Operation,
    },
    /// The kernel is too old for it.
    #[error("cannot {operation}: this kernel does not have it")]
    Unsupported {
        /// What was asked.
        operation: Operation,
    },
    /// Two paths cannot be made equivalent.
    #[error("cannot make {subtree:?} equivalent to {mount_point:?}")]
    NotEquivalent {
        /// Where the subtree is mounted.
        mount_point: PathBuf,
        /// The subtree.
        subtree: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
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
    #[error("cannot {operation}: the answer, or part of it, did not fit the receive buffer")]
    AnswerLost {
        /// What was asked.
        operation: Operation,
    },
    /// So many records came before the answer that no more are kept while it is waited for.
    #[error(
        "cannot {operation}: {records} records came before the kernel's answer, and no more are kept; try again while fewer are \
         written, or with a smaller backlog limit"
    )]
    AnswerBehind {
        /// What was asked.
        operation: Operation,
        /// How many.
        records: usize,
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
            Self::Locked { .. } | Self::FeatureLocked { .. } => "locked",
            Self::PidHeld { .. } | Self::NotHolder => "held",
            Self::RuleExists { .. }
            | Self::NoSuchRule { .. }
            | Self::NoSuchFile { .. }
            | Self::KeyTooLong { .. }
            | Self::RuleTextTooLong { .. }
            | Self::RuleRefused { .. }
            | Self::Unencodable { .. }
            | Self::NotEquivalent { .. }
            | Self::TtyOff { .. }
            | Self::Unsupported { .. }
            | Self::Invalid { .. }
            | Self::Refused { .. } => "refused",
            Self::TimedOut { .. } => "timeout",
            Self::AnswerLost { .. } | Self::AnswerBehind { .. } => "answer_lost",
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

    /// What is said of it beside the line that asks for the rule, so without the rule.
    pub(crate) fn without_rule(&self) -> String {
        let text = self.to_string();
        let whole = match self {
            Self::RuleExists { rule }
            | Self::NoSuchRule { rule }
            | Self::NoSuchFile { rule, .. }
            | Self::RuleRefused { rule, .. } => text.strip_suffix(&format!(": {rule}")),
            _ => None,
        };
        whole.map_or(text.clone(), str::to_owned)
    }

    /// Reads the `error` of an acknowledgement.
    pub(super) fn check(operation: Operation, error: i32) -> Result<(), Self> {
        match error {
            ..0 => Err(Self::refused(operation, -error)),
            _ => Ok(()),
        }
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

    /// Why the kernel answers EPERM. It checks the pid namespace, which user messages do not depend on, then the
    /// capability, then the locks.
    fn not_permitted(operation: Operation, privileges: io::Result<Privileges>) -> Self {
        let capability = operation.capability();
        match (privileges, operation) {
            (Ok(privileges), _)
                if capability == Capability::AuditControl
                    && privileges.initial_pid_namespace == Some(false) =>
            {
                Self::ForeignPidNamespace { operation }
            }
            (Ok(privileges), _) if !privileges.has(capability) => Self::MissingCapability {
                operation,
                capability,
            },
            (Ok(_), Operation::SetFeature { feature, .. }) => {
                Self::FeatureLocked { operation, feature }
            }
            // drivers/tty/tty_audit.c `tty_audit_push`.
            (Ok(_), Operation::UserMessage { message_type })
                if message_type == RecordType::USER_TTY =>
            {
                Self::TtyOff { operation }
            }
            (Ok(_), _) if operation.is_locked_with_the_configuration() => {
                Self::Locked { operation }
            }
            (Ok(_), _) => Self::Refused {
                operation,
                errno: libc::EPERM,
            },
            (Err(_), _) => Self::MissingCapability {
                operation,
                capability,
            },
        }
    }

    /// The same for requests about a rule.
    pub(super) fn rule_refused(operation: Operation, errno: i32, rule: &Rule) -> Self {
        // Such a rule is not quoted: what is wrong with it is its length.
        if let libc::EINVAL | libc::ENAMETOOLONG = errno
            && let Some(error) = Self::too_long(operation, rule)
        {
            return error;
        }
        let rule = rule.to_string();
        match errno {
            libc::EEXIST => Self::RuleExists { rule },
            libc::ENOENT if operation == Operation::DeleteRule => Self::NoSuchRule { rule },
            libc::ENOENT => Self::NoSuchFile { operation, rule },
            libc::EPERM | libc::ECONNREFUSED => Self::refused(operation, errno),
            errno => Self::RuleRefused {
                operation,
                rule,
                errno,
            },
        }
    }

    fn too_long(operation: Operation, rule: &Rule) -> Option<Self> {
        rule.conditions.iter().find_map(|condition| {
            let field = condition.field;
            let length = condition.string.as_ref()?.len();
            if field == Field::FILTERKEY {
                (length > KEY_LIMIT).then_some(Self::KeyTooLong { operation, length })
            } else {
                (length > RULE_TEXT_LIMIT).then_some(Self::RuleTextTooLong {
                    operation,
                    field,
                    length,
                })
            }
        })
    }
}

/// The registered daemon; 0 where that cannot be learnt.
fn holder() -> u32 {
    Client::connect()
        .and_then(|mut client| client.status())
        .map_or(0, |status| status.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::feature::{FeatureLock, FeatureState};
    use crate::audit::rules::Operator;
    use crate::audit::status::StatusField;

    const SET: Operation = Operation::Set {
        field: StatusField::Enabled,
        value: 1,
    };

    fn message(message_type: RecordType) -> Operation {
        Operation::UserMessage { message_type }
    }

    #[test]
    fn eperm_is_told_apart_in_the_order_of_the_kernels_checks() {
        let control = [Capability::AuditControl];
        let said = |operation, capabilities: &[Capability], initial| {
            let privileges = Privileges::of(capabilities, initial);
            ClientError::not_permitted(operation, Ok(privileges)).to_string()
        };
        let feature = Operation::SetFeature {
            feature: Feature::LoginuidImmutable,
            state: FeatureState::Off,
            lock: FeatureLock::Open,
        };
        for (operation, capabilities, initial, expected) in [
            (SET, &[][..], false, "not in the initial pid namespace"),
            (SET, &[], true, "CAP_AUDIT_CONTROL is missing"),
            (SET, &control, true, "configuration is locked"),
            (
                Operation::AddRule,
                &control,
                true,
                "configuration is locked",
            ),
            (feature, &control, true, "loginuid_immutable is locked"),
            // Nothing known explains these.
            (Operation::GetStatus, &control, true, "not permitted"),
            (Operation::Claim, &control, true, "not permitted"),
            // Another namespace is no hindrance to messages.
            (
                message(RecordType::USER),
                &[],
                false,
                "CAP_AUDIT_WRITE is missing",
            ),
            (
                message(RecordType::USER_TTY),
                &[Capability::AuditWrite],
                false,
                "tty auditing is switched off",
            ),
        ] {
            let said = said(operation, capabilities, initial);
            assert!(said.contains(expected), "{said}");
        }
        let unknown = ClientError::not_permitted(SET, Err(io::ErrorKind::NotFound.into()));
        assert_eq!(unknown.label(), "permission");
    }

    #[test]
    fn enoent_means_the_rule_or_a_file_of_it() {
        let rule = Rule::always_exit().text(Field::DIR, Operator::EQUAL, "/gone");
        let refused = |operation| ClientError::rule_refused(operation, libc::ENOENT, &rule);
        assert!(matches!(
            refused(Operation::AddRule),
            ClientError::NoSuchFile { .. }
        ));
        assert!(matches!(
            refused(Operation::DeleteRule),
            ClientError::NoSuchRule { .. }
        ));
    }

    #[test]
    fn only_what_is_longer_than_the_kernel_takes_is_called_too_long() {
        let refused = |rule: &Rule| {
            ClientError::rule_refused(Operation::AddRule, libc::EINVAL, rule).to_string()
        };
        let key = |length| Rule::always_exit().key(vec![b'k'; length]);
        assert!(refused(&key(257)).contains("a key of 257 bytes"));
        assert!(refused(&key(256)).contains("Invalid argument"));
        let path =
            |length| Rule::always_exit().text(Field::WATCH, Operator::EQUAL, vec![b'/'; length]);
        assert!(refused(&path(4097)).contains("a path of 4097 bytes"));
        assert!(refused(&path(4096)).contains("Invalid argument"));
        // What a duplicate is called does not depend on its length.
        let exists = ClientError::rule_refused(Operation::AddRule, libc::EEXIST, &path(4097));
        assert!(matches!(exists, ClientError::RuleExists { .. }));
    }

    #[test]
    fn an_acknowledgement_is_a_refusal_only_below_zero() {
        assert!(ClientError::check(SET, 0).is_ok());
        assert!(ClientError::check(SET, 132).is_ok());
        let error = ClientError::check(SET, -libc::EINVAL).unwrap_err();
        assert!(ClientError::LABELS.contains(&error.label()));
        assert_eq!(
            error.to_string(),
            "cannot set enabled to 1: the kernel does not accept it"
        );
    }
}
