//! `cargo xtask instructions`: how many instructions a replayed record costs, in all and in each stage, and what a call costs that
//! eBPF programs saw, against what is recorded.
//!
//! Counted by valgrind's callgrind, which says the same on a busy machine as on an idle one: two replays of one log of different
//! length, so that the difference is the records' alone; and likewise two runs of those benches of the collector that have a witness.
//! More than [`ALLOWED`] above the recorded figure fails, unless the record is changed in the same commit. The figures are of one
//! compiler and of x86_64; elsewhere they are printed and compared with nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::build::Profile;
use crate::{setup, step, workspace};

/// How far above what is recorded a figure may be, as a part of it.
const ALLOWED: f64 = 0.05;
/// How often the corpus is repeated in the two logs: behind the first, buffers and tables have their size.
const REPEATS: (u64, u64) = (10, 30);
/// The formats of the output.
const FORMATS: [&str; 2] = ["json", "raw"];
/// The stages, and the function that each is. Rendering is counted for each format.
const STAGES: [(&str, &str); 4] = [
    ("parse", "collector::audit::parse::log_line"),
    (
        "reassemble",
        "collector::audit::reassemble::Reassembler::push",
    ),
    (
        "correlate",
        "collector::correlate::matcher::Correlator::audit_event",
    ),
    (RENDER, "collector::output::render::Renderer::render"),
];
const RENDER: &str = "render";
/// How many storms of calls the benches are run with.
const STORMS: (u64, u64) = (2, 4);
/// Calls of one storm (`CALLS` in collector/benches/stages/storm.rs).
const CALLS: u64 = 10_240;
/// The benches that have a witness, and the function that each times.
const BENCHES: [(&str, &str); 3] = [
    ("decode", "stages::decode_samples"),
    ("correlate_matched", "stages::match_calls"),
    ("correlate_backfilled", "stages::give_back_calls"),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the figures to xtask/instructions.json rather than compare with it
    #[arg(long)]
    record: bool,
}

/// What xtask/instructions.json holds.
#[derive(Deserialize, Serialize)]
struct Recorded {
    /// The compiler's version.
    rustc: String,
    /// Instructions for one record: of a whole replay, by the format of the output, and of its stages.
    per_record: BTreeMap<String, u64>,
    /// Instructions for one call, by the bench.
    per_call: BTreeMap<String, u64>,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.record {
        let counted = count()?;
        let text = serde_json::to_string_pretty(&counted)? + "\n";
        fs::write(record(), text).context("cannot write xtask/instructions.json")?;
    } else {
        check()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares what is counted with what is recorded.
pub(crate) fn check() -> anyhow::Result<()> {
    let text = fs::read_to_string(record()).context("cannot read xtask/instructions.json")?;
    let recorded: Recorded =
        serde_json::from_str(&text).context("cannot read xtask/instructions.json")?;
    let counted = count()?;
    if recorded.rustc != counted.rustc {
        bail!(
            "xtask/instructions.json is of rustc {}, and this is {}: compare the two commits with one compiler, \
             then run `cargo xtask instructions --record` and commit the file",
            recorded.rustc,
            counted.rustc
        );
    }
    if !cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    compare("record", &recorded.per_record, &counted.per_record)?;
    compare("call", &recorded.per_call, &counted.per_call)
}

/// Compares what each `unit` costs now with what is recorded.
fn compare(
    unit: &str,
    recorded: &BTreeMap<String, u64>,
    counted: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    for (what, now) in counted {
        let before = *recorded
            .get(what)
            .with_context(|| format!("xtask/instructions.json has no figure for {what}"))?;
        ensure!(
            *now as f64 <= before as f64 * (1.0 + ALLOWED),
            "{what}: a {unit} costs {now} instructions, {:.1} % more than the {before} recorded: see what made it so, or, \
             where that is worth it, run `cargo xtask instructions --record` and commit xtask/instructions.json with it",
            (*now as f64 / before as f64 - 1.0) * 100.0
        );
    }
    Ok(())
}

fn record() -> PathBuf {
    workspace::root().join("xtask/instructions.json")
}

fn count() -> anyhow::Result<Recorded> {
    setup::for_tests();
    setup::for_build()?;
    // Cargo builds a package's programs for its benches, so that its library is built once for both.
    step::run(cargo_bench().arg("--no-run"))?;
    let (rustc, _) = workspace::toolchain()?;
    let folder = workspace::built().join("instructions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let corpus = workspace::root().join("collector/testdata/debian12-6.18/records.log");
    let corpus = fs::read(&corpus).with_context(|| format!("cannot read {}", corpus.display()))?;
    let short = folder.join("short.log");
    let long = folder.join("long.log");
    let mut records = 0;
    for (file, repeats) in [(&short, REPEATS.0), (&long, REPEATS.1)] {
        let (log, lines) = repeated(&corpus, repeats)?;
        fs::write(file, log).with_context(|| format!("cannot write {}", file.display()))?;
        records = lines - records;
    }
    let mut per_record = BTreeMap::new();
    for format in FORMATS {
        let (long, short) = (replay(&long, format)?, replay(&short, format)?);
        for (what, instructions) in &long {
            let before = short.get(what).copied().unwrap_or_default();
            let each = instructions.saturating_sub(before) / records;
            // The stages before are the same for both formats.
            if per_record.insert(what.clone(), each).is_none() {
                step::announce(&format!("{each} instructions for a record: {what}"));
            }
        }
    }
    let (long, short) = (bench(&folder, STORMS.1)?, bench(&folder, STORMS.0)?);
    let calls = CALLS * (STORMS.1 - STORMS.0);
    let mut per_call = BTreeMap::new();
    for (what, instructions) in long {
        let before = short.get(&what).copied().unwrap_or_default();
        let each = instructions.saturating_sub(before) / calls;
        step::announce(&format!("{each} instructions for a call: {what}"));
        per_call.insert(what, each);
    }
    Ok(Recorded {
        rustc,
        per_record,
        per_call,
    })
}

/// The corpus `repeats` times, each with later times and serials than the one before, and how many lines that are.
fn repeated(corpus: &[u8], repeats: u64) -> anyhow::Result<(Vec<u8>, u64)> {
    let text = String::from_utf8_lossy(corpus);
    let mut stamps = Vec::new();
    for line in text.lines() {
        stamps.push(split_stamp(line).with_context(|| format!("no stamp in {line}"))?);
    }
    let span = |value: fn(&Line<'_>) -> u64| {
        let values = stamps.iter().map(value);
        values.clone().max().unwrap_or_default() - values.min().unwrap_or_default() + 1
    };
    let (ms_span, serial_span) = (span(|line| line.ms), span(|line| line.serial));
    let mut log = String::new();
    for repeat in 0..repeats {
        for line in &stamps {
            let (ms, serial) = (
                line.ms + repeat * ms_span,
                line.serial + repeat * serial_span,
            );
            let (seconds, ms) = (ms / 1_000, ms % 1_000);
            log += &format!("{}{seconds}.{ms:03}:{serial}{}\n", line.before, line.behind);
        }
    }
    Ok((log.into_bytes(), stamps.len() as u64 * repeats))
}

/// A line taken apart at its stamp.
struct Line<'a> {
    before: &'a str,
    ms: u64,
    serial: u64,
    behind: &'a str,
}

fn split_stamp(line: &str) -> Option<Line<'_>> {
    let begin = line.find("audit(")? + "audit(".len();
    let (before, rest) = line.split_at(begin);
    let end = rest.find(')')?;
    let (stamp, behind) = rest.split_at(end);
    let (time, serial) = stamp.split_once(':')?;
    let (seconds, ms) = time.split_once('.')?;
    Some(Line {
        before,
        ms: seconds.parse::<u64>().ok()? * 1_000 + ms.parse::<u64>().ok()?,
        serial: serial.parse().ok()?,
        behind,
    })
}

/// How many instructions it takes to replay `log`, in all (under the format's name) and in each stage.
fn replay(log: &Path, format: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let account = log.with_extension("callgrind");
    let mut valgrind = Command::new(VALGRIND);
    for (name, value) in setup::test_tools_environment()? {
        valgrind.env(name, value);
    }
    valgrind
        .args(options(&account))
        .arg(Profile::Release.folder().join("audit-collector"))
        .args(["replay", "--log", "error", "--format", format])
        .arg(log)
        .stdout(Stdio::null());
    step::output(&mut valgrind)?;
    let text = read(&account)?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let total = total.context("callgrind wrote no summary")?;
    let total = total
        .trim()
        .parse()
        .with_context(|| format!("callgrind's summary is {total}"))?;
    let calls = calls(&text);
    let mut counts = BTreeMap::from([(format.to_owned(), total)]);
    for (stage, function) in STAGES {
        let name = match stage {
            RENDER => format!("{stage} to {format}"),
            _ => stage.to_owned(),
        };
        counts.insert(name, within(&calls, function)?);
    }
    Ok(counts)
}

fn cargo_bench() -> Command {
    let mut cargo = workspace::cargo();
    cargo.args(["bench", "--package", "audit-collector", "--bench", "stages"]);
    cargo
}

/// How many instructions each bench takes for so many storms.
fn bench(folder: &Path, storms: u64) -> anyhow::Result<BTreeMap<String, u64>> {
    let account = folder.join("bench.callgrind");
    let mut runner = vec![VALGRIND.to_owned()];
    runner.extend(options(&account));
    let mut cargo = cargo_bench();
    for (name, value) in setup::test_tools_environment()? {
        cargo.env(name, value);
    }
    cargo
        .arg("--config")
        .arg(format!("target.'cfg(all())'.runner={runner:?}"))
        .args(["--", "--exact", "--sample-size=1"])
        .arg(format!("--sample-count={storms}"))
        .args(BENCHES.map(|(bench, _)| format!("stages::{bench}")));
    step::output(&mut cargo)?;
    let text = read(&account)?;
    let calls = calls(&text);
    let counts = BENCHES.iter().map(|(bench, function)| {
        let within = within(&calls, function)?;
        Ok(((*bench).to_owned(), within))
    });
    counts.collect()
}

const VALGRIND: &str = "valgrind";

/// How valgrind is to count, and where it writes its account.
fn options(account: &Path) -> [String; 3] {
    let file = account.display();
    [
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={file}"),
    ]
}

fn read(account: &Path) -> anyhow::Result<String> {
    fs::read_to_string(account).with_context(|| format!("cannot read {}", account.display()))
}

fn within(calls: &BTreeMap<&str, u64>, function: &str) -> anyhow::Result<u64> {
    let within = calls.get(function).copied();
    within.with_context(|| format!("callgrind saw no call of {function}"))
}

/// How many instructions the calls of each function took, its own and those of all it called, by callgrind's account: behind a
/// line `cfn=(number) name`, of which the name stands only in the first, and a line `calls=` comes one with a place and the costs.
fn calls(account: &str) -> BTreeMap<&str, u64> {
    let mut names = BTreeMap::new();
    let mut costs = BTreeMap::<&str, u64>::new();
    let mut called = "";
    let mut lines = account.lines();
    while let Some(line) = lines.next() {
        if let Some((kind, function)) = line.split_once("fn=") {
            let (number, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if kind == "c" {
                called = number;
            }
        } else if line.starts_with("calls=") {
            let cost = lines.next().and_then(|line| line.split(' ').nth(1));
            let cost: u64 = cost.and_then(|cost| cost.parse().ok()).unwrap_or_default();
            *costs.entry(called).or_default() += cost;
        }
    }
    costs
        .into_iter()
        .filter_map(|(number, cost)| Some((*names.get(number)?, cost)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_function_add_up_wherever_its_name_stands() {
        let account = "fn=(1) main\n0 5\ncfn=(2) push\ncalls=3 7\n+2 100\n0 4\ncfn=(3)\ncalls=1 9\n* 50\n\n\
                       fn=(3) other one\n9 50\ncfn=(2)\ncalls=1 0\n-1 11\n";
        let expected = BTreeMap::from([("push", 111), ("other one", 50)]);
        assert_eq!(calls(account), expected);
    }

    #[test]
    fn each_repetition_has_times_and_serials_of_its_own() {
        let corpus = b"type=A msg=audit(1.998:7): x (1)\ntype=B msg=audit(1.999:9):\n";
        let (log, lines) = repeated(corpus, 2).unwrap();
        let wanted = "type=A msg=audit(1.998:7): x (1)\ntype=B msg=audit(1.999:9):\n\
                      type=A msg=audit(2.000:10): x (1)\ntype=B msg=audit(2.001:12):\n";
        assert_eq!(String::from_utf8(log).unwrap(), wanted);
        assert_eq!(lines, 4);
    }
}
