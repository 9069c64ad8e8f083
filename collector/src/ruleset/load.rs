//! Bringing the kernel to what rule files ask for.
//!
//! Everything is understood and compared with what is loaded before the first request. Then, in this order: the limits
//! and the failure mode, the rules as `plan` orders them, what is to be done once, a look at what the
//! kernel has now, and at last `enabled`, which may lock all of it. The first line the kernel refuses brings back the
//! former rules, in their former order, and the former settings; only a counter that was reset, and a tree that was
//! trimmed, stay so. Nothing here is undone by a process that is killed; commands hold back the signals that end one.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tracing::warn;

use super::difference::difference;
use super::place::{Place, printable};
use super::plan::{Step, plan};
use super::replace::replace;
use super::set::{OnError, RuleSet};
use super::wanted::{Asked, Setting, Wanted};
use crate::audit::client::{Client, ClientError, UserMessage, UserMessageError};
use crate::audit::feature::{FeatureLock, FeatureState};
use crate::audit::language::Directive;
use crate::audit::record::RecordType;
use crate::audit::rules::Rule;
use crate::audit::status::{KernelStatus, StatusField};

/// What a load did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Rules the files ask for.
    pub wanted: usize,
    /// How many of them the kernel has now.
    pub loaded: usize,
    /// Rules that were added.
    pub added: usize,
    /// Rules that were deleted, those that changed their place included.
    pub deleted: usize,
    /// Lines that add a rule that is there already.
    pub repeated: usize,
    /// Settings that were changed.
    pub settings: Vec<Changed>,
    /// Lines that failed, where `-c` or `-i` allow that. Lines with faults are not among them, see
    /// [`RuleSet::faults`].
    pub failures: Vec<LineError>,
}

/// A setting that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub field: StatusField,
    /// Its value before; none where the kernel does not tell.
    pub old: Option<u32>,
    /// Its value now.
    pub new: u32,
}

/// A line that asks for something that cannot be had.
#[derive(Debug)]
pub struct LineError {
    /// The line; none for a rule that no line speaks of and that cannot be deleted.
    pub asked: Option<Asked>,
    /// Why not.
    pub refusal: Refusal,
}

/// Why a line cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] ClientError),
    /// The line deletes a rule that is not loaded.
    #[error("the rule to delete is not loaded")]
    NotLoaded,
    /// The line's message cannot be sent.
    #[error(transparent)]
    Message(#[from] UserMessageError),
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Lines are wrong, see [`RuleSet::faults`]. Nothing was touched.
    #[error(
        "{count} fault(s) in the rule files, the first in {first}; the kernel was not asked for anything"
    )]
    Faults {
        /// How many.
        count: usize,
        /// Where the first is.
        first: Place,
    },
    /// The configuration is locked, and the files ask for another. Nothing was tried.
    #[error("nothing was loaded: the audit configuration is locked until the next reboot")]
    Locked,
    /// A line that cannot be had. Nothing was touched.
    #[error("{0}; {outcome}", outcome = self.outcome())]
    Impossible(LineError),
    /// The kernel refused a line, and all was put back.
    #[error("{0}; {outcome}", outcome = self.outcome())]
    Refused(LineError),
    /// The kernel refused a line, and not all could be put back.
    #[error("{at}; {outcome}", outcome = self.outcome())]
    NotRestored {
        /// The line.
        at: LineError,
        /// What else the kernel refused.
        failed: Box<ClientError>,
    },
    /// The kernel does not tell what is loaded.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl LoadError {
    /// The line it is about, where it is about one.
    pub const fn line(&self) -> Option<&LineError> {
        match self {
            Self::Impossible(at) | Self::Refused(at) | Self::NotRestored { at, .. } => Some(at),
            _ => None,
        }
    }

    /// What the kernel has now.
    pub fn outcome(&self) -> String {
        match self {
            Self::Refused(_) => "nothing was loaded: the former rules and settings are back".into(),
            Self::NotRestored { failed, .. } => format!(
                "not all of the former rules and settings could be put back: {}",
                with_sources(failed.as_ref())
            ),
            _ => "nothing was loaded".into(),
        }
    }

    /// Whether the kernel refuses for want of a capability, or from within this namespace.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Client(error) => error.is_refusal(),
            _ => {
                let refusal = self.line().map(|at| &at.refusal);
                matches!(refusal, Some(Refusal::Kernel(error)) if error.is_refusal())
            }
        }
    }
}

/// The place and the reason, on one line.
impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.asked {
            Some(asked) => write!(f, "{}: {}", asked.source.place, self.reason()),
            None => write!(f, "{}", with_sources(&self.refusal)),
        }
    }
}

impl LineError {
    /// Why the line cannot be had, with what is behind that, on one line; without the rule, which is what the line says.
    pub fn reason(&self) -> String {
        let Refusal::Kernel(error) = &self.refusal else {
            return self.refusal.to_string();
        };
        let sources = with_sources(error);
        let behind = sources.strip_prefix(&error.to_string());
        error.without_rule() + behind.unwrap_or_default()
    }
}

/// An error with what is behind it, on one line.
pub fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    printable(text.as_bytes())
}

/// Makes the kernel's rules and settings what the files ask for, and reads the rules back.
///
/// # Errors
/// See [`LoadError`]; after each of them the kernel's rules and settings are as before, except for
/// [`LoadError::NotRestored`].
pub fn load(client: &mut Client, set: &RuleSet) -> Result<Loaded, LoadError> {
    set.must_be_sound()?;
    let status = client.status()?;
    let before = client.rules()?;
    let wanted = set.wanted(&before);
    let mut loading = Loading {
        client,
        status,
        before,
        touched: false,
        done: Loaded {
            wanted: wanted.asked().count(),
            repeated: wanted.repeated.len(),
            ..Loaded::default()
        },
    };
    if status.enabled == 2 && !loading.is_done(&wanted) {
        return Err(LoadError::Locked);
    }
    for asked in &wanted.not_found {
        let refusal = Refusal::NotLoaded;
        loading
            .judge(Some(asked), Err(refusal))
            .map_err(LoadError::Impossible)?;
    }
    loading.make(&wanted).map_err(|at| loading.undo(at))?;
    Ok(std::mem::take(&mut loading.done))
}

impl RuleSet {
    /// Refuses files with a fault that no `-c` or `-i` before it lets pass.
    ///
    /// # Errors
    /// [`LoadError::Faults`]
    pub fn must_be_sound(&self) -> Result<(), LoadError> {
        let mut fatal = self
            .faults()
            .filter(|(entry, _)| entry.on_error == OnError::Restore);
        match fatal.next() {
            None => Ok(()),
            Some((first, _)) => Err(LoadError::Faults {
                count: 1 + fatal.count(),
                first: first.source.place.clone(),
            }),
        }
    }
}

/// A load under way. Dropped in the middle of it, by a panic, it puts everything back.
struct Loading<'a> {
    client: &'a mut Client,
    status: KernelStatus,
    before: Vec<Rule>,
    touched: bool,
    done: Loaded,
}

impl Loading<'_> {
    /// Whether the kernel has already all that is wanted.
    fn is_done(&self, wanted: &Wanted) -> bool {
        difference(&self.before, wanted).is_empty()
            && wanted.actions.is_empty()
            && wanted
                .settings
                .iter()
                .all(|setting| self.status.field(setting.field) == Some(setting.value))
    }

    fn make(&mut self, wanted: &Wanted) -> Result<(), LineError> {
        self.touched = true;
        let (last, limits): (Vec<&Setting>, Vec<&Setting>) = wanted
            .settings
            .iter()
            .partition(|setting| setting.field == StatusField::Enabled);
        for setting in limits {
            self.set(setting)?;
        }
        self.make_rules(wanted)?;
        // What cannot be undone comes last.
        let is_lock = |directive: &Directive| matches!(directive, Directive::Lock { .. });
        let (locks, actions): (Vec<_>, Vec<_>) =
            wanted.actions.iter().partition(|(what, _)| is_lock(what));
        for (directive, asked) in actions.into_iter().chain(locks) {
            let result = self.act(directive);
            self.judge(Some(asked), result)?;
        }
        self.read_back(wanted)?;
        for setting in last {
            self.set(setting)?;
        }
        self.touched = false;
        Ok(())
    }

    fn make_rules(&mut self, wanted: &Wanted) -> Result<(), LineError> {
        let rules: Vec<&Rule> = wanted.rules.iter().map(|wanted| &wanted.rule).collect();
        for step in plan(&self.before, &rules) {
            match step {
                Step::Delete(index) => match self.client.delete_rule(&self.before[index]) {
                    Ok(()) => self.done.deleted += 1,
                    // Somebody else has removed it.
                    Err(ClientError::NoSuchRule { .. }) => {}
                    Err(error) => self.judge(None, Err(error.into()))?,
                },
                Step::Add(index, placement) => {
                    let asked = wanted.rules[index].asked.as_ref();
                    match self.client.add_rule_at(rules[index], placement) {
                        Ok(()) => self.done.added += 1,
                        // Somebody else has added it; no plan adds what is there.
                        Err(ClientError::RuleExists { .. }) => {}
                        Err(error) => self.judge(asked, Err(error.into()))?,
                    }
                }
            }
        }
        Ok(())
    }

    fn read_back(&mut self, wanted: &Wanted) -> Result<(), LineError> {
        match self.client.rules() {
            Ok(rules) => {
                let missing = difference(&rules, wanted).missing;
                let missing = missing.iter().filter(|rule| rule.asked.is_some()).count();
                self.done.loaded = self.done.wanted - missing;
                Ok(())
            }
            Err(error) => Err(LineError {
                asked: None,
                refusal: error.into(),
            }),
        }
    }

    fn set(&mut self, setting: &Setting) -> Result<(), LineError> {
        let (field, new) = (setting.field, setting.value);
        let old = self.status.field(field);
        if old == Some(new) {
            return Ok(());
        }
        match self.client.set_field(field, new) {
            Ok(()) => {
                self.done.settings.push(Changed { field, old, new });
                Ok(())
            }
            Err(error) => self.judge(Some(&setting.asked), Err(error.into())),
        }
    }

    fn act(&mut self, directive: &Directive) -> Result<(), Refusal> {
        let path = |bytes| Path::new(OsStr::from_bytes(bytes));
        match directive {
            Directive::Reset {
                field: StatusField::Lost,
            } => {
                self.client.reset_lost()?;
            }
            Directive::Reset { .. } => {
                self.client.reset_backlog_wait_time_actual()?;
            }
            Directive::Lock { feature } => {
                self.client
                    .set_feature(*feature, FeatureState::On, FeatureLock::Locked)?;
            }
            Directive::Trim => self.client.trim()?,
            Directive::MakeEquivalent { mount, subtree } => {
                self.client.make_equivalent(path(mount), path(subtree))?;
            }
            Directive::Message { text } => {
                let message = UserMessage::new(RecordType::USER, text)?;
                self.client.user_message(&message)?;
            }
            // `Wanted` takes no other for an action.
            _ => {}
        }
        Ok(())
    }

    /// Lets a failed line pass where its file says so, and notes it.
    fn judge(
        &mut self,
        asked: Option<&Asked>,
        result: Result<(), Refusal>,
    ) -> Result<(), LineError> {
        let Err(refusal) = result else { return Ok(()) };
        let on_error = asked.map_or(OnError::Restore, |asked| asked.on_error);
        let error = LineError {
            asked: asked.cloned(),
            refusal,
        };
        match on_error {
            OnError::Restore => Err(error),
            OnError::Continue | OnError::Ignore => {
                self.done.failures.push(error);
                Ok(())
            }
        }
    }

    fn undo(&mut self, at: LineError) -> LoadError {
        match self.restore() {
            Ok(()) => LoadError::Refused(at),
            Err(failed) => LoadError::NotRestored {
                at,
                failed: failed.into(),
            },
        }
    }

    /// Puts the rules and settings back. What fails does not keep the rest from being put back; the first failure is
    /// returned.
    fn restore(&mut self) -> Result<(), ClientError> {
        self.touched = false;
        let mut failed = None;
        let mut note = |result: Result<(), ClientError>| {
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        };
        for changed in std::mem::take(&mut self.done.settings).iter().rev() {
            if let Some(old) = changed.old {
                note(self.client.set_field(changed.field, old));
            }
        }
        note(replace(self.client, &self.before));
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if self.touched
            && let Err(error) = self.restore()
        {
            warn!(error = %error, "audit rules were not put back");
        }
    }
}
