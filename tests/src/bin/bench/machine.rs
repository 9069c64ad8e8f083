//! On what it was measured.

use std::fs;
use std::process::Command;
use std::thread;
use std::{env, fmt};

use anyhow::Context as _;
use audit_collector_tests::built_folder;
use audit_collector_tests::requirement::find_program;
use serde::Serialize;

/// The machine, its kernel, and the versions of what was compared.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    kernel: String,
    processor: String,
    processors: usize,
    memory_gib: u64,
    /// How busy the machine was before, and with the bench itself at its end: what else ran disturbs the figures.
    load_before: String,
    load_after: String,
    versions: Vec<String>,
}

impl Machine {
    pub(crate) fn look() -> anyhow::Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map_or("unknown processor", |text| {
                text.trim_start_matches([' ', '\t', ':'])
            });
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or_default();
        let collector = built_folder().join("audit-collector");
        let versions = [
            said(&collector.display().to_string(), &["--version"]).map(with_revision),
            version("rustc", "rustc", &["--version"]),
            version("auditd", "ausearch", &["--version"]),
            version("laurel", "laurel", &["--version"]),
            version("redis", "redis-server", &["--version"]),
        ];
        Ok(Self {
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).context("cannot tell the date")?,
            kernel: said("uname", &["-sr"]).context("cannot tell the kernel")?,
            processor: processor.to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            load_before: load(),
            load_after: String::new(),
            versions: versions.into_iter().flatten().collect(),
        })
    }

    /// Notes how busy it is at the end.
    pub(crate) fn look_again(&mut self) {
        self.load_after = load();
    }
}

/// The average of a minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}, {} × {}, {} GiB, load {} before and {} at the end; {}",
            self.date,
            self.kernel,
            self.processors,
            self.processor,
            self.memory_gib,
            self.load_before,
            self.load_after,
            self.versions.join(", ")
        )
    }
}

/// With the commit that it was built from, where `cargo xtask bench` says which.
fn with_revision(version: String) -> String {
    match env::var("AUDIT_COLLECTOR_REVISION") {
        Ok(revision) => format!("{version} ({revision})"),
        Err(_) => version,
    }
}

/// `NAME VERSION` of a program that is there: the first word with a digit in what it says of itself.
fn version(name: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let path = find_program(program)?;
    let text = said(&path.display().to_string(), arguments)?;
    let version = text
        .split([' ', '='])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(format!("{name} {version}"))
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}
