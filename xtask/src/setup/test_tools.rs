//! The programs that tests compare with or run: ausearch and auditctl as oracles for formats and rules, Prometheus and its
//! promtool for metrics, rules and dashboards, strace for calls, valgrind for counting
//! instructions.
//!
//! Unpacked under target/test-tools rather than installed: installing auditd would start its service, which changes
//! the kernel's audit state.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::debian::{Debian, machine_suite};
use crate::{step, workspace};

/// auditd's package and the libraries that no minimal Debian has: without them its programs do not start.
const AUDITD: &[&str] = &[
    "auditd",
    "libauparse0",
    "libaudit1",
    "libcap-ng0",
    "libgssapi-krb5-2",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libnsl2",
    "libtirpc3",
    "libwrap0",
];

/// Programs and the packages that hold them; libraries that a program needs come with it.
const TOOLS: [(&str, &[&str]); 6] = [
    ("ausearch", AUDITD),
    ("auditctl", AUDITD),
    ("prometheus", &["prometheus"]),
    ("promtool", &["prometheus"]),
    ("strace", &["strace", "libunwind8"]),
    ("valgrind", &["valgrind"]),
];

/// What benches compare with or measure besides.
const PEERS: [(&str, &[&str]); 3] = [
    ("auditd", AUDITD),
    ("laurel", &["laurel"]),
    (
        "redis-server",
        &["redis-server", "redis-tools", "libjemalloc2", "liblzf1"],
    ),
];

pub(super) fn ensure() -> anyhow::Result<()> {
    fetch(&TOOLS)
}

/// The same for what benches need.
pub(super) fn ensure_peers() -> anyhow::Result<()> {
    fetch(&TOOLS)?;
    fetch(&PEERS)
}

fn fetch(tools: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let folder = folder();
    let mut packages: Vec<String> = Vec::new();
    for (program, holders) in tools {
        let unpacked = ["usr/bin", "usr/sbin", "sbin"]
            .iter()
            .any(|bin| folder.join(bin).join(program).is_file());
        if !unpacked && workspace::find_program(program).is_none() {
            packages.extend(holders.iter().map(|&name| name.to_owned()));
        }
    }
    packages.sort();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    step::announce(&format!(
        "fetching {} into target/test-tools (once; up to 30 MB)",
        packages.join(", ")
    ));
    Debian::open(&machine_suite()?, &folder.join("apt"))?.unpack(&packages, &folder)
}

/// `PATH` and `LD_LIBRARY_PATH` for tests, with what was unpacked behind what the machine has itself.
pub(crate) fn environment() -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let folder = folder();
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(["usr/bin", "usr/sbin", "sbin"].map(|bin| folder.join(bin)));
    let mut environment = vec![("PATH", env::join_paths(programs)?)];
    if folder.join("usr").is_dir() {
        let triplet = format!("{}-linux-gnu", env::consts::ARCH);
        let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let libraries = env::split_paths(&inherited)
            .filter(|folder| !folder.as_os_str().is_empty())
            .chain(["usr/lib", "lib"].map(|lib| folder.join(lib).join(&triplet)))
            .collect::<Vec<_>>();
        environment.push(("LD_LIBRARY_PATH", env::join_paths(libraries)?));
        let valgrind = folder.join("usr/libexec/valgrind");
        if valgrind.is_dir() {
            environment.push(("VALGRIND_LIB", valgrind.into()));
        }
    }
    Ok(environment)
}

fn folder() -> PathBuf {
    workspace::fetched().join("test-tools")
}
