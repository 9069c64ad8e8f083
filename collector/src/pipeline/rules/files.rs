//! Rule files at the start: read and understood before anything of the host is changed, then loaded, and at the end undone.

use std::collections::HashSet;

use crate::audit::client::{Client, ClientError};
use crate::audit::language::{self, Directive};
use crate::audit::rules::{Field, FilterList, KEY_SEPARATOR, Operator, Rule};
use crate::audit::settings::Restore;
use crate::audit::status::StatusField;
use crate::config::{AuditConfig, Mode, RuleKey};
use crate::ruleset::{
    self, Entry, LoadError, LocalHost, OnError, Place, ReadError, RuleSet, Trust,
};

/// Most lines that failed, and were allowed to, that are logged.
const FAILURES_TOLD: usize = 20;

/// Why rule files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A line is wrong.
    #[error("{place}:{column}: {what}{}", more(*others))]
    Fault {
        /// Where.
        place: Place,
        /// The first character that is wrong, from 1.
        column: usize,
        /// What is wrong, and what would be right.
        what: String,
        /// How many more faults there are.
        others: usize,
    },
    /// There is no room for our key beside a rule's own.
    #[error(
        "{place}: the rule's keys and rules_key are longer together than the kernel allows (256 bytes), or it has 64 fields already"
    )]
    KeyTooLong {
        /// The rule.
        place: Place,
    },
    /// The rules cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        _ => format!(" (and {others} more: `audit-collector rules check` shows them all)"),
    }
}

impl RulesError {
    /// Whether the kernel refuses for want of a capability, or from within this namespace.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Load(error) if error.is_refusal())
    }

    /// Whether the files are to blame, not the kernel.
    pub const fn is_usage(&self) -> bool {
        !matches!(self, Self::Load(_))
    }
}

/// Rule files, understood and without faults that are not allowed.
#[derive(Debug)]
pub(crate) struct RuleFiles {
    /// As written.
    set: RuleSet,
    /// With our key.
    tagged: RuleSet,
}

impl RuleFiles {
    /// Reads the configured files; none where there are none.
    pub(crate) fn read(config: &AuditConfig) -> Result<Option<Self>, RulesError> {
        if config.rules.paths.is_empty() {
            return Ok(None);
        }
        let trust = match config.mode {
            Mode::Multicast => Trust::Anyone,
            Mode::Auto | Mode::Daemon => Trust::Root,
        };
        let set = RuleSet::read(&config.rules.paths, trust, |line| {
            language::parse_line(line, &LocalHost)
        })?;
        refuse_faults(&set)?;
        let tagged = match &config.rules.key {
            Some(key) => tag_all(set.clone(), key)?,
            None => set.clone(),
        };
        Ok(Some(Self { set, tagged }))
    }

    /// Whether the files make this setting.
    pub(crate) fn set(&self, field: StatusField) -> bool {
        directives(&self.set).any(
            |(_, directive)| matches!(directive, Directive::Set { field: f, .. } if *f == field),
        )
    }

    /// Loads the rules, and makes the settings that the configuration does not.
    pub(crate) fn load(
        &self,
        restore: &mut Restore,
        config: &AuditConfig,
    ) -> Result<Option<Undo>, RulesError> {
        let set = self.tagged.clone().map(|directive| {
            let overruled =
                matches!(&directive, Directive::Set { field, .. } if config.makes(*field));
            (!overruled).then_some(directive)
        });
        let before = restore.client().rules().map_err(LoadError::from)?;
        let loaded = match ruleset::load(restore.client(), &set) {
            Ok(loaded) => loaded,
            // A host that is watched by other rules is better than one that is not watched.
            Err(error @ LoadError::Locked) => {
                tracing::error!("{error}; the collector goes on with the rules that are loaded");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        for error in loaded.failures.iter().take(FAILURES_TOLD) {
            tracing::warn!("left out, as its file allows: {error}");
        }
        tracing::info!(
            "loaded {} of {} rules: {} added, {} deleted; they {} at exit",
            loaded.loaded,
            loaded.wanted,
            loaded.added,
            loaded.deleted,
            if config.rules.remove_at_exit {
                "go"
            } else {
                "stay"
            },
        );
        if !config.rules.remove_at_exit {
            return Ok(None);
        }
        for changed in &loaded.settings {
            if let Some(old) = changed.old {
                restore.note(changed.field, old, changed.new);
            }
        }
        let met: HashSet<&Rule> = before.iter().collect();
        let after = restore.client().rules().map_err(LoadError::from)?;
        let ours = after
            .into_iter()
            .filter(|rule| !met.contains(rule))
            .collect();
        Ok(Some(Undo { before, ours }))
    }

    /// What is to be compared with the kernel's rules, where we have loaded them.
    pub(crate) fn of_ours(&self) -> RuleSet {
        rules_alone(self.tagged.clone())
    }

    /// The same where another program is to have loaded them.
    pub(crate) fn of_others(&self) -> RuleSet {
        rules_alone(self.set.clone())
    }
}

/// What loading changed of the rules.
#[derive(Debug)]
pub(crate) struct Undo {
    /// The rules before, in order.
    before: Vec<Rule>,
    /// Those that were not among them.
    ours: Vec<Rule>,
}

impl Undo {
    /// How many rules it may have to take out and put in.
    pub(crate) fn n_rules(&self) -> usize {
        self.before.len() + self.ours.len()
    }

    /// Takes our rules out and puts back what was there before; rules that others have added since stay.
    pub(crate) fn run(self, client: &mut Client) -> Result<(), ClientError> {
        let known: HashSet<&Rule> = self.before.iter().chain(&self.ours).collect();
        let now = client.rules()?;
        let of_others = now.iter().filter(|rule| !known.contains(rule));
        ruleset::replace(client, self.before.iter().chain(of_others))
    }
}

fn refuse_faults(set: &RuleSet) -> Result<(), RulesError> {
    let (fatal, allowed): (Vec<_>, Vec<_>) = set
        .faults()
        .partition(|(entry, _)| entry.on_error == OnError::Restore);
    if let Some((entry, fault)) = fatal.first() {
        return Err(RulesError::Fault {
            place: entry.source.place.clone(),
            column: entry.source.width(fault.span.start) + 1,
            what: fault.to_string(),
            others: fatal.len() - 1,
        });
    }
    for (entry, fault) in allowed.iter().take(FAILURES_TOLD) {
        tracing::warn!(
            "left out, as its file allows: {}: {fault}",
            entry.source.place
        );
    }
    let warnings = set.entries().iter().flat_map(|entry| {
        let warnings = entry.line.iter().flat_map(|line| &line.warnings);
        warnings.map(move |warning| (entry, warning))
    });
    let mut warnings = warnings.peekable();
    if let Some((entry, warning)) = warnings.peek() {
        let text = format!("{}: {warning}", entry.source.place);
        tracing::warn!("{text}{}", more(warnings.count() - 1));
    }
    Ok(())
}

fn directives(set: &RuleSet) -> impl Iterator<Item = (&Entry, &Directive)> {
    set.entries().iter().flat_map(|entry| {
        let directives = entry.line.iter().flat_map(|line| &line.directives);
        directives.map(move |directive| (entry, directive))
    })
}

/// Only what says which rules are to be loaded.
fn rules_alone(set: RuleSet) -> RuleSet {
    set.map(|directive| {
        let of_rules = matches!(
            directive,
            Directive::Add { .. } | Directive::Delete { .. } | Directive::DeleteAll { .. }
        );
        of_rules.then_some(directive)
    })
}

/// Adds `key` to each rule, and to what deletes a rule of the same files again.
fn tag_all(set: RuleSet, key: &RuleKey) -> Result<RuleSet, RulesError> {
    for (entry, directive) in directives(&set) {
        if let Directive::Add { rule, .. } = directive
            && tag(rule, key).is_none()
        {
            return Err(RulesError::KeyTooLong {
                place: entry.source.place.clone(),
            });
        }
    }
    let tagged = |rule: Rule| tag(&rule, key).unwrap_or(rule);
    let mut added = HashSet::new();
    Ok(set.map(|directive| {
        Some(match directive {
            Directive::Add { rule, placement } => {
                added.insert(rule.clone());
                Directive::Add {
                    rule: tagged(rule),
                    placement,
                }
            }
            Directive::Delete { rule } if added.contains(&rule) => {
                Directive::Delete { rule: tagged(rule) }
            }
            other => other,
        })
    }))
}

/// The rule with a further key; none where it has no room for it. On the lists `user` and `exclude` a key ends the kernel's
/// search as if nothing had matched (kernel/auditfilter.c `audit_filter`), so that their rules stay without.
fn tag(rule: &Rule, key: &RuleKey) -> Option<Rule> {
    /// `AUDIT_MAX_KEY_LEN` and `AUDIT_MAX_FIELDS` of include/uapi/linux/audit.h.
    const MAX_KEY_LEN: usize = 256;
    const MAX_FIELDS: usize = 64;
    let mut rule = rule.clone();
    if matches!(rule.list, FilterList::USER | FilterList::EXCLUDE)
        || rule.keys().any(|have| have == key.as_bytes())
    {
        return Some(rule);
    }
    let own = rule
        .conditions
        .iter_mut()
        .find(|condition| condition.field == Field::FILTERKEY);
    let Some(own) = own else {
        let room = rule.conditions.len() < MAX_FIELDS;
        return room.then(|| rule.key(key.as_bytes()));
    };
    let mut keys = own.string.take().unwrap_or_default().into_vec();
    keys.push(KEY_SEPARATOR);
    keys.extend_from_slice(key.as_bytes());
    own.operator = Operator::EQUAL;
    own.value = u32::try_from(keys.len()).ok()?;
    let fits = keys.len() <= MAX_KEY_LEN;
    own.string = Some(keys.into());
    fits.then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::rules::Action;

    fn key(text: &str) -> RuleKey {
        text.parse().unwrap()
    }

    #[test]
    fn our_key_joins_those_of_the_rule_once() {
        let ours = key("ours");
        let bare = tag(&Rule::always_exit(), &ours).unwrap();
        assert_eq!(bare, Rule::always_exit().key("ours"));
        let joined = tag(&Rule::always_exit().key("own"), &ours).unwrap();
        assert_eq!(joined, Rule::always_exit().key("own\u{1}ours"));
        assert_eq!(tag(&joined, &ours), Some(joined));
    }

    #[test]
    fn a_list_that_a_key_would_cut_short_gets_none() {
        for list in [FilterList::USER, FilterList::EXCLUDE] {
            let rule = Rule::new(list, Action::Always);
            assert_eq!(tag(&rule, &key("ours")), Some(rule));
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_no_rule() {
        assert_eq!(
            tag(&Rule::always_exit().key("k".repeat(252)), &key("ours")),
            None
        );
        assert!(tag(&Rule::always_exit().key("k".repeat(251)), &key("ours")).is_some());
        let full = (0..64).fold(Rule::always_exit(), |rule, value| {
            rule.condition(Field::ARG0, Operator::NOT_EQUAL, value)
        });
        assert_eq!(tag(&full, &key("ours")), None);
    }
}
