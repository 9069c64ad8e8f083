//! What auditctl prints on stdout.

use crate::audit::arch::Arch;
use crate::audit::feature::{Feature, Features};
use crate::audit::rules::Rule;
use crate::audit::status::KernelStatus;
use crate::command::rules::line;
use crate::ruleset::has_key_like;

/// How values are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// As the kernel has them.
    Numbers,
    /// As words, where auditctl has some (`-i`).
    Interpreted,
}

impl Words {
    pub(super) const fn of(interpret: bool) -> Self {
        match interpret {
            true => Self::Interpreted,
            false => Self::Numbers,
        }
    }
}

/// The status, one field per line.
pub(super) fn status(status: &KernelStatus, words: Words) -> String {
    let (enabled, failure) = match words {
        Words::Numbers => (status.enabled.to_string(), status.failure.to_string()),
        Words::Interpreted => (
            name(&["disable", "enabled", "enabled+immutable"], status.enabled),
            name(&["silent", "printk", "panic"], status.failure),
        ),
    };
    let mut text = format!(
        "enabled {enabled}\nfailure {failure}\npid {}\nrate_limit {}\nbacklog_limit {}\nlost {}\nbacklog {}\n",
        status.pid, status.rate_limit, status.backlog_limit, status.lost, status.backlog
    );
    for (name, value) in [
        ("backlog_wait_time", status.backlog_wait_time),
        ("backlog_wait_time_actual", status.backlog_wait_time_actual),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{name} {value}\n"));
        }
    }
    text
}

fn name(names: &[&str], value: u32) -> String {
    let name = names.get(value as usize);
    name.copied().unwrap_or("unknown").to_owned()
}

/// The feature that auditctl shows with the status.
pub(super) fn features(features: &Features) -> String {
    let feature = Feature::LoginuidImmutable;
    let lock = match features.is_locked(feature) {
        true => "locked",
        false => "unlocked",
    };
    format!(
        "{} {} {lock}\n",
        feature.name(),
        u8::from(features.is_on(feature))
    )
}

/// The rules, or those with a key.
pub(super) fn rules(rules: &[Rule], key: Option<&[u8]>, words: Words) -> String {
    if rules.is_empty() {
        return "No rules\n".into();
    }
    rules
        .iter()
        .filter(|rule| key.is_none_or(|key| has_key_like(rule, key)))
        .map(|rule| {
            let text = line(rule) + "\n";
            match rule.arch_condition().and_then(Arch::name) {
                Some(name) if words == Words::Interpreted => with_arch(&text, name),
                _ => text,
            }
        })
        .collect()
}

/// The rule with its architecture by name. The condition is the first of a rule.
fn with_arch(text: &str, name: &str) -> String {
    const CONDITION: &str = "-F arch=";
    let Some(at) = text.find(CONDITION) else {
        return text.into();
    };
    let (before, after) = text.split_at(at + CONDITION.len());
    let rest = after.trim_start_matches(|c: char| !c.is_whitespace());
    format!("{before}{name}{rest}")
}

/// What is printed where auditctl prints its usage. The words are our own.
pub(super) const USAGE: &str = "\
usage: auditctl [options]      (audit-collector in place of auditctl)

rules
  -a LIST,ACTION               add a rule at the end of LIST: task, exit, user, exclude, filesystem, io_uring;
                               ACTION: always, never
  -A LIST,ACTION               add a rule at the front
  -d LIST,ACTION               delete a rule
  -S CALL[,CALL…]              system calls of the rule, by name or number, or all
  -F FIELD OP VALUE            condition of the rule, as one word; OP: = != < > <= >= & &=
  -C FIELD OP FIELD            comparison of two fields; OP: = !=
  -w PATH, -W PATH             add, delete the watch of a path
  -p rwxa                      kinds of access a watch is for
  -k KEY                       key of a rule
  -D [-k KEY]                  delete all rules, or those with the key
  -l [-k KEY] [-i]             list the rules
  -R FILE                      follow the lines of a file
  -c, -i                       in a file: go on after errors, and fail, or not fail, in the end
settings
  -s [-i]                      print the status
  -e 0|1|2                     auditing off, on, on and locked until the next reboot
  -f 0|1|2                     on a lost record: nothing, a line in the kernel log, panic
  -b NUMBER                    records the queue may hold
  -r NUMBER                    records per second, 0 for no limit
  --backlog_wait_time NUMBER   longest wait of a task for room in the queue, in jiffies
  --reset-lost                 set the count of lost records to 0
  --reset_backlog_wait_time_actual
                               set the sum of the waits to 0
  --loginuid-immutable         login users cannot be changed once set, until the next reboot
others
  -m TEXT                      write a message into the log
  -t                           drop the watches of trees that were unmounted
  -q MOUNT,SUBTREE             watch a subtree as the mount point is watched
  -v, -h                       version, this help
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_numbers_on_request() {
        let now = KernelStatus {
            enabled: 2,
            failure: 7,
            backlog_wait_time: Some(15_000),
            ..KernelStatus::default()
        };
        let text = status(&now, Words::Interpreted);
        assert!(
            text.starts_with("enabled enabled+immutable\nfailure unknown\npid 0\n"),
            "{text}"
        );
        assert!(
            text.ends_with("backlog 0\nbacklog_wait_time 15000\n"),
            "{text}"
        );
        assert!(status(&now, Words::Numbers).starts_with("enabled 2\nfailure 7\n"));
    }
}
