//! What a workload did, call by call, and whether a stream tells just that.
//!
//! Each call is recognisable by itself: a path, a port, a number or an argument that no other call of the workload has.
//! So an event that mixes two calls up, tells one twice or makes one up is found.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use nix::time::ClockId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::requirement::patience;
use crate::stream::Event;

/// Who gives an event back knows its entry by another clock than the wall's, and does not read the two at one moment.
const CLOCKS_APART: Duration = Duration::from_millis(5);

/// One system call as its maker knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Process, thread and parent of the maker.
    pub pid: u32,
    /// See above.
    pub tid: u32,
    /// See above.
    pub ppid: u32,
    /// The call's name.
    pub name: String,
    /// The first four arguments, as the kernel got them.
    pub args: [u64; 4],
    /// What it returned; the errno, negative, where it failed.
    pub result: i64,
    /// [`Clock::Coarse`] before and [`Clock::Precise`] after, in ms since 1970: the first is what the kernel takes an event's time
    /// from, however late it ticks.
    pub between: (u64, u64),
    /// The paths it named, in the order of its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The address it named, as the stream tells it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub socket: Value,
    /// The arguments of the program it executed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
}

/// All calls of a workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Journal {
    /// The workload's own program and name.
    pub exe: String,
    /// See above.
    pub comm: String,
    /// Its current directory.
    pub cwd: String,
    /// The calls; those of one thread in their order.
    pub calls: Vec<Call>,
}

impl Call {
    /// Whether an event of it can have this time, where two clocks are so far apart.
    fn was_at(&self, time: Option<u64>, apart: u64) -> bool {
        let (before, after) = self.between;
        time.is_some_and(|time| time + apart >= before && time <= after)
    }
}

/// The wall clock.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// As it was at the last tick.
    Coarse,
    /// As it is.
    Precise,
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(self) -> u64 {
        let id = match self {
            Self::Coarse => ClockId::CLOCK_REALTIME_COARSE,
            Self::Precise => ClockId::CLOCK_REALTIME,
        };
        // The kernel has had both since 2.6.32.
        let since = id.now().map(Duration::from).unwrap_or_default();
        since.as_millis() as u64
    }
}

/// How the events of a stream compare with a journal.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Calls told once and right, by outcome.
    pub told: BTreeMap<String, u64>,
    /// Events with something that is not so of the call they tell, and what.
    pub wrong: Vec<String>,
    /// The same where the records that came name neither path nor address: without a serial such a call cannot be told from
    /// a twin of the same moment.
    pub taken_for_twin: Vec<String>,
    /// Events of calls that have been told already.
    pub twice: Vec<String>,
    /// Events of calls that nobody made.
    pub made_up: Vec<String>,
    /// Calls that no event tells.
    pub untold: Vec<String>,
    /// What events say that they lack, or do not say, by outcome.
    pub lacking: BTreeMap<String, u64>,
}

/// What a call is found by.
type Key<'a> = (u64, &'a str, [u64; 4], i64);

impl Journal {
    /// Compares `events`, which must be those of the workload's user and no others, with what it did.
    pub fn compare(&self, uid: u32, events: &[Event<'_>]) -> Comparison {
        let mut calls: HashMap<Key<'_>, Vec<(&Call, bool)>> = HashMap::new();
        for call in &self.calls {
            let key = (u64::from(call.pid), &*call.name, call.args, call.result);
            calls.entry(key).or_default().push((call, false));
        }
        let apart = patience(CLOCKS_APART).as_millis() as u64;
        let mut comparison = Comparison::default();
        // Those that name their paths first: the others could be any of several calls.
        let mut events = events.to_vec();
        events.sort_by_key(|event| event.0["missing"].as_array().map_or(0, Vec::len));
        for event in events {
            let Some(alike) = key(event).and_then(|key| calls.get_mut(&key)) else {
                comparison.made_up.push(event.0.to_string());
                continue;
            };
            let time = event.time_ms();
            let mut objection = None;
            let mut same = None;
            let mut told_already = false;
            for (index, (call, told)) in alike.iter().enumerate() {
                // There may be ten thousand that are alike but for this.
                if !call.was_at(time, apart) {
                    continue;
                }
                match self.objection(call, uid, event) {
                    Some(reason) => objection = Some(reason),
                    None if *told => told_already = true,
                    None => {
                        same = Some(index);
                        break;
                    }
                }
            }
            if let Some(index) = same {
                alike[index].1 = true;
                let outcome = event.outcome().to_owned();
                *comparison.told.entry(outcome).or_default() += 1;
                comparison.note_lacking(event, alike[index].0);
            } else if told_already {
                comparison.twice.push(event.0.to_string());
            } else {
                let objection = objection.unwrap_or_else(|| {
                    let between = alike.iter().map(|(call, _)| call.between);
                    let between: Vec<_> = between.take(4).collect();
                    format!("the time is within {between:?} … and not {time:?}")
                });
                let line = format!("{objection}: {}", event.0);
                if event.outcome() == "matched" && !names_something(event) {
                    comparison.taken_for_twin.push(line);
                } else {
                    comparison.wrong.push(line);
                }
            }
        }
        let untold = calls.values().flatten().filter(|(_, told)| !told);
        comparison
            .untold
            .extend(untold.map(|(call, _)| format!("{call:?}")));
        comparison
    }

    /// What `event` says that is not so of `call`, beside its time.
    fn objection(&self, call: &Call, uid: u32, event: Event<'_>) -> Option<String> {
        let executed = (call.name == "execve" && call.result == 0).then(|| &call.paths[0]);
        let exe = executed.unwrap_or(&self.exe);
        let comm = executed.map_or(&*self.comm, |path| {
            path.rsplit('/').next().unwrap_or_default()
        });
        let process = &event.0["process"];
        let own = u64::from(uid);
        let socket = &event.0["socket"];
        if !socket.is_null() && *socket != call.socket {
            return Some(format!("socket is {} and not {socket}", call.socket));
        }
        let facts: [(&str, Value); 14] = [
            ("tid", call.tid.into()),
            ("ppid", call.ppid.into()),
            ("uid", own.into()),
            ("gid", own.into()),
            ("euid", own.into()),
            ("suid", own.into()),
            ("fsuid", own.into()),
            ("egid", own.into()),
            ("sgid", own.into()),
            ("fsgid", own.into()),
            ("comm", comm.into()),
            ("exe", (**exe).into()),
            ("cwd", (*self.cwd).into()),
            ("argv", call.argv.clone().into()),
        ];
        for (name, fact) in facts {
            let said = &process[name];
            if !said.is_null() && *said != fact {
                return Some(format!("{name} is {fact} and not {said}"));
            }
        }
        if let Some(stranger) = names(event).find(|(name, role)| !names_path(call, name, *role)) {
            return Some(format!(
                "the paths are {:?} and not {stranger:?}",
                call.paths
            ));
        }
        None
    }
}

impl Comparison {
    /// Calls told, by whatever outcome.
    pub fn n_told(&self) -> u64 {
        self.told.values().sum()
    }

    /// Fails unless every call was told once and right, but for very few taken for their twins.
    ///
    /// # Panics
    /// With the first few of what is not so.
    pub fn assert_whole(&self) {
        for (what, lines) in [
            ("wrong", &self.wrong),
            ("told twice", &self.twice),
            ("made up", &self.made_up),
            ("taken for their twins", &self.taken_for_twin),
            ("not told", &self.untold),
        ] {
            let tolerated = match what {
                "taken for their twins" => 1 + self.n_told() as usize / 1_000,
                // The twin's own call.
                "not told" => self.taken_for_twin.len(),
                _ => 0,
            };
            assert!(
                lines.len() <= tolerated,
                "{} {what}, among them\n{}\n{self}",
                lines.len(),
                lines[..lines.len().min(4)].join("\n")
            );
        }
    }

    fn note_lacking(&mut self, event: Event<'_>, call: &Call) {
        let mut note = |what: &str| {
            let entry = format!("{} {}: {what}", event.outcome(), call.name);
            *self.lacking.entry(entry).or_default() += 1;
        };
        for what in event.0["missing"].as_array().into_iter().flatten() {
            note(what.as_str().unwrap_or_default());
        }
        let told: Vec<&str> = names(event).map(|(name, _)| name).collect();
        if !call.paths.iter().all(|path| told.contains(&&**path)) {
            note("a path it does not tell");
        }
        if !call.socket.is_null() && event.0["socket"].is_null() {
            note("an address it does not tell");
        }
        let executed = call.name == "execve" && call.result == 0;
        if executed && event.0["process"]["argv"].is_null() {
            note("arguments it does not tell");
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |lines: &[String]| lines.len();
        write!(
            f,
            "told {:?}; {} wrong, {} taken for a twin, {} twice, {} made up, {} not told; lacking {:?}",
            self.told,
            count(&self.wrong),
            count(&self.taken_for_twin),
            count(&self.twice),
            count(&self.made_up),
            count(&self.untold),
            self.lacking
        )
    }
}

fn key<'a>(event: Event<'a>) -> Option<Key<'a>> {
    let pid = event.0["process"]["pid"].as_u64()?;
    let mut args = [0; 4];
    for (index, arg) in args.iter_mut().enumerate() {
        *arg = event.argument(index)?;
    }
    let result = event.0["syscall"]["exit"].as_i64()?;
    Some((pid, event.syscall()?, args, result))
}

/// The names an event tells, each with its role (none from eBPF, where it is not known).
fn names<'a>(event: Event<'a>) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    let paths = event.0["paths"].as_array().into_iter().flatten();
    paths.filter_map(|path| Some((path["name"].as_str()?, path["nametype"].as_str())))
}

/// Whether a record says what the call was about.
fn names_something(event: Event<'_>) -> bool {
    let records = event.0["records"].as_array().into_iter().flatten();
    records.into_iter().any(|record| {
        let body = record["body"].as_str().unwrap_or_default();
        match record["type"].as_str() {
            Some("SOCKADDR") => true,
            Some("PATH") => !body.contains("nametype=PARENT"),
            _ => false,
        }
    })
}

/// Whether `name` is one that `call` gave, the directory of one, or the loader of the program it executed.
fn names_path(call: &Call, name: &str, role: Option<&str>) -> bool {
    match role {
        Some("PARENT") => {
            let folder = name.strip_suffix('/').unwrap_or(name);
            call.paths.iter().any(|path| {
                path.rsplit_once('/')
                    .is_some_and(|(parent, _)| parent == folder)
            })
        }
        _ => {
            let loader = call.name == "execve" && call.result == 0 && name.contains("/ld-");
            loader || call.paths.iter().any(|path| path == name)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn journal() -> Journal {
        let call = |number: u64| Call {
            pid: 10,
            tid: 10,
            ppid: 9,
            name: "openat".into(),
            args: [0xffff_ff9c, 0x1000, 0, number],
            result: 3,
            between: (1_700_000_000_120, 1_700_000_000_125),
            paths: vec![format!("/tmp/{number}")],
            socket: Value::Null,
            argv: Vec::new(),
        };
        Journal {
            exe: "/bin/w".into(),
            comm: "w".into(),
            cwd: "/".into(),
            calls: vec![call(1), call(2)],
        }
    }

    fn event(number: u64, path: &str) -> Value {
        json!({
            "kind": "event", "outcome": "matched", "missing": [],
            "time": "2023-11-14T22:13:20.123Z",
            "syscall": {
                "name": "openat", "exit": 3,
                "args": ["0xffffff9c", "0x1000", "0x0", format!("{number:#x}")]
            },
            "process": {"pid": 10, "ppid": 9, "uid": 5, "exe": "/bin/w"},
            "paths": [{"name": path, "nametype": "NORMAL"}]
        })
    }

    fn compare(events: &[Value]) -> Comparison {
        let events: Vec<Event<'_>> = events.iter().map(Event).collect();
        journal().compare(5, &events)
    }

    #[test]
    fn what_is_told_once_and_right_is_whole() {
        let comparison = compare(&[event(1, "/tmp/1"), event(2, "/tmp/2")]);
        comparison.assert_whole();
        assert_eq!(comparison.n_told(), 2);
        assert!(comparison.lacking.is_empty(), "{comparison}");
    }

    #[test]
    fn the_path_of_another_call_is_wrong_but_where_no_record_has_it() {
        let mut recorded = event(1, "/tmp/2");
        recorded["records"] = json!([{"type": "PATH", "body": "name=\"/tmp/2\" nametype=NORMAL"}]);
        let comparison = compare(&[recorded, event(2, "/tmp/2")]);
        assert_eq!((comparison.wrong.len(), comparison.untold.len()), (1, 1));
        let comparison = compare(&[event(1, "/tmp/2"), event(2, "/tmp/2")]);
        let mistaken = (comparison.wrong.len(), comparison.taken_for_twin.len());
        assert_eq!(mistaken, (0, 1));
    }

    #[test]
    fn the_same_call_again_is_told_twice() {
        let comparison = compare(&[event(1, "/tmp/1"), event(1, "/tmp/1")]);
        assert_eq!((comparison.twice.len(), comparison.untold.len()), (1, 1));
    }

    #[test]
    fn a_call_with_other_arguments_is_made_up_and_one_at_another_time_is_wrong() {
        let mut late = event(2, "/tmp/2");
        late["time"] = "2023-11-14T22:13:20.126Z".into();
        let comparison = compare(&[event(3, "/tmp/3"), late]);
        let of_call = comparison.wrong.len() + comparison.taken_for_twin.len();
        assert_eq!((comparison.made_up.len(), of_call), (1, 1));
    }
}
