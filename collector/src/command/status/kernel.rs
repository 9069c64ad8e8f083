//! The kernel's audit status, for a person and as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::audit::client::{Client, ClientError};
use crate::audit::feature::Features;
use crate::audit::status::{KernelStatus, TickRate};
use crate::command::status::{line, process_name};

/// The kernel's audit status with what is needed to read it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status.
    pub status: KernelStatus,
    /// The features, where the kernel has them.
    pub features: Option<Features>,
    /// Rules loaded, by list.
    pub rules: BTreeMap<&'static str, u64>,
    /// The unit of the kernel's times.
    pub tick: Option<TickRate>,
    /// The name of the process that holds the audit pid, where it can be read.
    pub holder: Option<String>,
}

impl Report {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Where it refuses or does not answer.
    pub fn read(client: &mut Client) -> Result<Self, ClientError> {
        let status = client.status()?;
        let mut rules = BTreeMap::new();
        for rule in client.rules()? {
            *rules.entry(rule.list.name()).or_default() += 1;
        }
        Ok(Self {
            status,
            features: client.features().ok(),
            rules,
            tick: TickRate::of_kernel(),
            holder: process_name(status.pid),
        })
    }

    /// One line per field.
    pub fn text(&self) -> String {
        let status = &self.status;
        let mut lines: Vec<(&str, String, String)> = vec![
            (
                "enabled",
                status.enabled.to_string(),
                enabled(status.enabled).into(),
            ),
            (
                "failure",
                status.failure.to_string(),
                failure(status.failure).into(),
            ),
            ("pid", status.pid.to_string(), self.holder_text()),
            (
                "rate_limit",
                format!("{} records/s", status.rate_limit),
                unlimited(status.rate_limit),
            ),
            (
                "backlog_limit",
                format!("{} records", status.backlog_limit),
                unlimited(status.backlog_limit),
            ),
            (
                "backlog",
                format!("{} records", status.backlog),
                "waiting now".into(),
            ),
            (
                "lost",
                format!("{} records", status.lost),
                "since boot or the last reset, as the kernel counts".into(),
            ),
        ];
        for (name, jiffies, note) in [
            (
                "backlog_wait_time",
                status.backlog_wait_time,
                "longest wait of a task for room in the queue",
            ),
            (
                "backlog_wait_time_actual",
                status.backlog_wait_time_actual,
                "sum of the waits since boot or the last reset",
            ),
        ] {
            if let Some(jiffies) = jiffies {
                let value = match self.seconds(jiffies) {
                    Some(seconds) => format!("{jiffies} jiffies = {seconds} s"),
                    None => format!("{jiffies} jiffies"),
                };
                lines.push((name, value, note.into()));
            }
        }
        if let Some(bitmap) = status.feature_bitmap {
            lines.push((
                "feature_bitmap",
                format!("{bitmap:#x}"),
                feature_names(bitmap).join(" "),
            ));
        }
        for (name, on, locked) in self.features() {
            let lock = if locked { "locked" } else { "unlocked" };
            lines.push((name, u32::from(on).to_string(), lock.into()));
        }
        let lists: Vec<_> = self
            .rules
            .iter()
            .map(|(list, count)| format!("{list} {count}"))
            .collect();
        let total: u64 = self.rules.values().sum();
        lines.push(("rules", total.to_string(), lists.join(", ")));

        let mut text = String::new();
        for (name, value, note) in lines {
            text.push_str(&line(name, &value, &note));
        }
        text
    }

    /// The same as one JSON object; times also in seconds.
    pub fn json(&self) -> Value {
        let status = &self.status;
        let features: serde_json::Map<String, Value> = self
            .features()
            .map(|(name, on, locked)| (name.into(), json!({ "on": on, "locked": locked })))
            .collect();
        json!({
            "enabled": status.enabled,
            "failure": status.failure,
            "pid": status.pid,
            "pid_name": self.holder,
            "rate_limit": status.rate_limit,
            "backlog_limit": status.backlog_limit,
            "backlog": status.backlog,
            "lost": status.lost,
            "feature_bitmap": status.feature_bitmap,
            "backlog_wait_time": status.backlog_wait_time,
            "backlog_wait_time_seconds": status.backlog_wait_time.and_then(|j| self.seconds(j)),
            "backlog_wait_time_actual": status.backlog_wait_time_actual,
            "backlog_wait_time_actual_seconds":
                status.backlog_wait_time_actual.and_then(|j| self.seconds(j)),
            "hz": self.tick.map(TickRate::hz),
            "features": features,
            "rules": self.rules,
        })
    }

    fn seconds(&self, jiffies: u32) -> Option<f64> {
        Some(self.tick?.duration(u64::from(jiffies)).as_secs_f64())
    }

    fn holder_text(&self) -> String {
        match &self.holder {
            _ if self.status.pid == 0 => "no audit daemon is registered".into(),
            Some(name) => format!("{name} is the audit daemon"),
            None => "the audit daemon has ended or cannot be seen from here".into(),
        }
    }

    fn features(&self) -> impl Iterator<Item = (&'static str, bool, bool)> {
        self.features.into_iter().flat_map(|features| {
            ["only_unset_loginuid", "loginuid_immutable"]
                .into_iter()
                .enumerate()
                .map(move |(bit, name)| {
                    let is_set = |word: u32| word >> bit & 1 == 1;
                    (name, is_set(features.features), is_set(features.lock))
                })
        })
    }
}

const fn enabled(value: u32) -> &'static str {
    match value {
        0 => "auditing is off",
        1 => "auditing is on",
        2 => "auditing is on, its configuration locked until reboot",
        _ => "",
    }
}

const fn failure(value: u32) -> &'static str {
    match value {
        0 => "a lost record is passed over in silence",
        1 => "a lost record is reported in the kernel log",
        2 => "a lost record makes the kernel panic",
        _ => "",
    }
}

fn unlimited(limit: u32) -> String {
    if limit == 0 {
        "no limit".into()
    } else {
        String::new()
    }
}

/// `AUDIT_FEATURE_BITMAP_*`
fn feature_names(bitmap: u32) -> Vec<&'static str> {
    [
        "backlog_limit",
        "backlog_wait_time",
        "executable_path",
        "exclude_extend",
        "sessionid_filter",
        "lost_reset",
        "filter_fs",
    ]
    .into_iter()
    .enumerate()
    .filter(|(bit, _)| bitmap >> bit & 1 == 1)
    .map(|(_, name)| name)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            status: KernelStatus {
                enabled: 1,
                failure: 1,
                pid: 77,
                rate_limit: 0,
                backlog_limit: 64,
                lost: 5,
                backlog: 2,
                feature_bitmap: Some(0x21),
                backlog_wait_time: Some(15_000),
                backlog_wait_time_actual: None,
            },
            features: Some(Features {
                version: 1,
                features: 2,
                lock: 1,
            }),
            rules: BTreeMap::from([("exit", 3)]),
            tick: TickRate::of_kernel(),
            holder: Some("auditd".into()),
        }
    }

    #[test]
    fn every_field_has_a_line_with_its_unit() {
        let text = report().text();
        for line in [
            "enabled                   1                         auditing is on",
            "pid                       77                        auditd is the audit daemon",
            "rate_limit                0 records/s               no limit",
            "backlog_limit             64 records",
            "feature_bitmap            0x21                      backlog_limit lost_reset",
            "only_unset_loginuid       0                         locked",
            "loginuid_immutable        1                         unlocked",
            "rules                     3                         exit 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        // A field the kernel did not report has no line.
        assert!(!text.contains("actual"));
    }

    #[test]
    fn json_has_the_kernels_names_and_nulls_for_what_is_unknown() {
        let json = report().json();
        assert_eq!(json["lost"], 5);
        assert_eq!(json["pid_name"], "auditd");
        assert!(json["backlog_wait_time_actual"].is_null());
        assert_eq!(json["features"]["loginuid_immutable"]["on"], true);
        assert_eq!(json["rules"]["exit"], 3);
    }
}
