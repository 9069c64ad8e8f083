//! How fast records are read back, by one processor.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use audit_collector_tests::built_folder;
use audit_collector_tests::requirement::find_program;
use tempfile::TempDir;

use crate::input::{Input, Shape};
use crate::peer::Laurel;
use crate::report::{Column, Report, Target};
use crate::rounds::{Extent, Sample, Session, Subject};
use crate::usage;

const COLUMNS: [Column; 3] = [
    Column::new("per_cpu_second", "records per second of processor time", 0),
    Column::new("per_second", "records per second on the wall", 0),
    Column::new("ns", "ns per record", 0),
];

/// How often the storm's records are repeated: for ausearch fewer, which is slow.
const COPIES: u64 = 20;
const COPIES_FULL: u64 = 100;
const AUSEARCH_COPIES: u64 = 1;

const JSON: &str = "audit-collector, log to JSON";
const RAW: &str = "audit-collector, log to raw";
const JSON_FILE: &str = "audit-collector, log to JSON in a file";
const LAUREL: &str = "laurel, the same records to JSON in a file";
const AUSEARCH: &str = "ausearch --raw, log";

pub(crate) fn run(session: &Session) -> anyhow::Result<Report> {
    let folder = folder_in_memory()?;
    let copies = match session.extent {
        Extent::Usual => COPIES,
        Extent::Full => COPIES_FULL,
    };
    let input = Input::make(folder.path(), Shape::of(copies))?;
    let few = tempfile::tempdir_in(folder.path())?;
    let original = folder.path().join("original");
    let short = Input::repeat(few.path(), &original, Shape::of(AUSEARCH_COPIES))?;
    let laurel = Laurel::writing_below(folder.path())?;
    let file = folder.path().join("output");
    let null = Path::new("/dev/null");
    let ours = |name, form: &'static str, from: &Path, to: &Path, records| {
        let (from, to) = (from.to_owned(), to.to_owned());
        Subject::new(name, move || timed(records, || replay(form, &from, &to)))
    };
    let subjects = vec![
        ours(RAW, "raw", &input.log, null, input.log_records),
        ours(JSON, "json", &input.log, null, input.log_records),
        ours(
            "audit-collector, capture to raw",
            "raw",
            &input.capture,
            null,
            input.records,
        ),
        ours(
            "audit-collector, capture to JSON",
            "json",
            &input.capture,
            null,
            input.records,
        ),
        ours(JSON_FILE, "json", &input.log, &file, input.log_records),
        Subject::new(LAUREL, || {
            // Written anew, as our own file is.
            let _ = std::fs::remove_file(laurel.log());
            timed(input.records, || laurel.read(&input.plugin))
        }),
        Subject::new(AUSEARCH, || {
            timed(short.log_records, || ausearch(&short.log))
        }),
    ];
    let title = format!(
        "{} records of a mixed storm, a few at a time repeated with other serials",
        input.log_records
    );
    let group = session.alternate(&title, &COLUMNS, subjects)?;
    let key = "per_cpu_second";
    let ratios = [
        group.figure(
            "records/s of one processor to raw",
            key,
            RAW,
            0,
            Target::AtLeast(1_500_000.0),
        ),
        group.figure(
            "records/s of one processor to JSON",
            key,
            JSON,
            0,
            Target::AtLeast(1_000_000.0),
        ),
        group.ratio("times as fast as laurel", key, JSON_FILE, LAUREL, None),
        group.ratio("times as fast as ausearch", key, RAW, AUSEARCH, None),
    ];
    Ok(Report {
        bench: "replay",
        title: "Replay: records from a log or a capture",
        how: vec![
            "Input and output lie in memory (tmpfs), or the output goes to /dev/null where no file is named. \
             laurel reads the same records from its standard input, with the ends of events, as auditd passes them to it; \
             ausearch reads fewer of them, since it is slow."
                .into(),
        ],
        ratios: ratios.into_iter().flatten().collect(),
        groups: vec![group],
    })
}

/// In memory where there is such a place: it is not the disk that is measured.
pub(crate) fn folder_in_memory() -> anyhow::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    })
}

/// `audit-collector replay`
pub(crate) fn replay(format: &str, from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new(built_folder().join("audit-collector"))
        .args(["replay", "--format", format, "--log=error"])
        .arg(from)
        .stdin(Stdio::null())
        .stdout(File::create(to)?)
        .stderr(Stdio::null())
        .status()
        .context("cannot run the collector")?;
    ensure!(status.success(), "the replay ended with {status}");
    Ok(())
}

fn ausearch(log: &Path) -> anyhow::Result<()> {
    let status = Command::new(find_program("ausearch").context("ausearch is not installed")?)
        .args(["--raw", "-if"])
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run ausearch")?;
    ensure!(status.success(), "ausearch ended with {status}");
    Ok(())
}

pub(crate) fn timed(
    records: u64,
    program: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    let (began, before) = (Instant::now(), usage::children_seconds()?);
    program()?;
    let wall = began.elapsed().as_secs_f64();
    let processor = usage::children_seconds()? - before;
    ensure!(processor > 0.0, "too short to measure");
    let records = records as f64;
    Ok(Sample::from([
        ("per_cpu_second", records / processor),
        ("per_second", records / wall),
        ("ns", processor / records * 1e9),
    ]))
}
