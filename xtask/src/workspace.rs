//! Where things lie in the workspace, and which toolchain builds it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The repository's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask's folder lies in the repository's")
}

/// Where tools and sources fetched by `setup` lie; the collector's build script looks here too.
pub(crate) fn fetched() -> PathBuf {
    root().join("target")
}

/// Where cargo puts what it builds.
pub(crate) fn built() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(fetched, |folder| root().join(folder))
}

/// The cargo that runs us, so that its toolchain is used throughout.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(root());
    // Set by cargo for us; a child that sees another manifest than ours would rebuild for no reason.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// rustc's version (`1.95.0`) and its sysroot.
pub(crate) fn toolchain() -> anyhow::Result<(String, PathBuf)> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(&rustc)
            .args(arguments)
            .current_dir(root())
            .output()
            .context("cannot run rustc")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version = ask(&["--version"])?
        .split(' ')
        .nth(1)
        .context("rustc does not tell its version")?
        .to_owned();
    Ok((version, PathBuf::from(ask(&["--print", "sysroot"])?)))
}

/// The first folder of `PATH`, then of the system's own, that holds `program`.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        // Administrators' tools are often not on a user's path.
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
