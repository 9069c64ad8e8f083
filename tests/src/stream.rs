//! The collector's JSON lines, as a consumer reads them.

use std::collections::BTreeMap;

use serde_json::Value;

/// The cause of what the kernel counts when it leaves out a run of a program.
const MISSED_RUN: &str = "missed_run";

/// All lines of an output.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    lines: Vec<Value>,
    /// Complete lines that are not JSON.
    pub broken: Vec<String>,
}

/// One line of kind `event`.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a>(pub &'a Value);

impl Stream {
    /// Reads every complete line.
    pub fn parse(output: &[u8]) -> Self {
        let mut stream = Self::default();
        for line in output.split_inclusive(|byte| *byte == b'\n') {
            // The last one may still be being written.
            let Some(line) = line.strip_suffix(b"\n") else {
                continue;
            };
            match serde_json::from_slice(line) {
                Ok(value) => stream.lines.push(value),
                Err(_) => stream
                    .broken
                    .push(String::from_utf8_lossy(line).into_owned()),
            }
        }
        stream
    }

    fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["kind"] == kind)
    }

    /// The merged events.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.kind("event").map(Event)
    }

    /// The events of system calls by user `uid`.
    pub fn events_of(&self, uid: u32) -> Vec<Event<'_>> {
        self.events()
            .filter(|event| event.0["process"]["uid"] == uid)
            .filter(|event| event.syscall().is_some())
            .collect()
    }

    /// The events with io_uring operations by user `uid`, within a call or not.
    pub fn ring_events_of(&self, uid: u32) -> Vec<Event<'_>> {
        self.events()
            .filter(|event| event.0["process"]["uid"] == uid)
            .filter(|event| event.operations().next().is_some())
            .collect()
    }

    /// The losses told that somebody counted, by cause, but for [`Stream::missed_runs`].
    pub fn losses(&self) -> BTreeMap<&str, u64> {
        let mut losses = self.all_losses();
        losses.remove(MISSED_RUN);
        losses
    }

    /// The runs of programs that it says the kernel left out ([`Samples::missed_runs`]). They come by chance, and may be those of
    /// any process.
    ///
    /// [`Samples::missed_runs`]: crate::exposition::Samples::missed_runs
    pub fn missed_runs(&self) -> u64 {
        self.all_losses().remove(MISSED_RUN).unwrap_or_default()
    }

    fn all_losses(&self) -> BTreeMap<&str, u64> {
        let mut losses = BTreeMap::new();
        for loss in self.kind("loss").filter(|loss| loss["recovered"].is_null()) {
            let cause = loss["cause"].as_str().unwrap_or_default();
            *losses.entry(cause).or_default() += loss["count"].as_u64().unwrap_or_default();
        }
        losses
    }

    /// All loss lines.
    pub fn loss_lines(&self) -> impl Iterator<Item = &Value> {
        self.kind("loss")
    }

    /// The loss lines of one cause.
    pub fn losses_of<'a>(&'a self, cause: &'a str) -> impl Iterator<Item = &'a Value> {
        self.kind("loss").filter(move |loss| loss["cause"] == cause)
    }

    /// Whether the witness was at level `audit-hooks`, as the first line says.
    pub fn watches_kernel(&self) -> bool {
        self.states("started").any(|state| {
            let message = state["message"].as_str();
            message.is_some_and(|message| message.contains("level audit-hooks"))
        })
    }

    /// The changes of state called `what`.
    pub fn states<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Value> {
        self.kind("state").filter(move |line| line["what"] == what)
    }
}

impl<'a> Event<'a> {
    /// The text of a top-level field.
    fn text(self, name: &str) -> Option<&'a str> {
        self.0[name].as_str()
    }

    /// Its id.
    pub fn id(self) -> &'a str {
        self.text("id").unwrap_or_default()
    }

    /// `matched`, `backfilled` …
    pub fn outcome(self) -> &'a str {
        self.text("outcome").unwrap_or_default()
    }

    /// Why the audit stream lacks it.
    pub fn cause(self) -> Option<&'a str> {
        self.text("cause")
    }

    /// The kernel's serial.
    pub fn serial(self) -> Option<u64> {
        self.0["serial"].as_u64()
    }

    /// Its time, in ms since 1970.
    pub fn time_ms(self) -> Option<u64> {
        milliseconds(self.text("time")?)
    }

    /// How it is known that the kernel meant to report it.
    pub fn verdict(self) -> Option<&'a str> {
        self.text("verdict")
    }

    /// How its two parts were found to belong together.
    pub fn matched_by(self) -> Option<&'a str> {
        self.text("matched_by")
    }

    /// The name of the system call.
    pub fn syscall(self) -> Option<&'a str> {
        self.0["syscall"]["name"].as_str()
    }

    /// Name and `exit=` of each io_uring operation.
    pub fn operations(self) -> impl Iterator<Item = (&'a str, Option<i64>)> {
        let operations = self.0["operations"].as_array();
        operations.into_iter().flatten().map(|operation| {
            let name = operation["name"].as_str().unwrap_or_default();
            (name, operation["exit"].as_i64())
        })
    }

    /// An argument of the system call.
    pub fn argument(self, index: usize) -> Option<u64> {
        let argument = self.0["syscall"]["args"].get(index)?;
        match argument.as_str() {
            Some(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
            None => argument.as_u64(),
        }
    }

    /// The records as the kernel wrote them, as one text.
    pub fn records(self) -> String {
        self.0["records"].to_string()
    }
}

/// RFC 3339 with three decimals in UTC, as the stream has it.
fn milliseconds(text: &str) -> Option<u64> {
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    // Years from March on, so that a leap day is a year's last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + field(11, 13)?) * 60 + field(14, 16)?) * 60 + field(17, 19)?;
    (text.len() == 24).then_some(seconds * 1000 + field(20, 23)?)
}

/// How many of `events` have each value that `of` finds.
pub fn tally<'a, T: Ord>(
    events: impl IntoIterator<Item = Event<'a>>,
    of: impl Fn(Event<'a>) -> T,
) -> BTreeMap<T, u64> {
    let mut tally = BTreeMap::new();
    for event in events {
        *tally.entry(of(event)).or_default() += 1;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_still_being_written_is_left_out_and_a_broken_one_kept() {
        let stream = Stream::parse(b"{\"kind\":\"event\"}\nnot json\n{\"kind\":\"ev");
        assert_eq!(stream.events().count(), 1);
        assert_eq!(stream.broken, ["not json"]);
    }

    #[test]
    fn times_are_milliseconds_since_1970() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ] {
            assert_eq!(milliseconds(text), Some(ms), "{text}");
        }
        assert_eq!(milliseconds("2023-11-14"), None);
    }
}
