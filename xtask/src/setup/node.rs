//! What comes from npm, in the versions that xtask/npm/package-lock.json names, under target/npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{step, workspace};

/// The files that tell npm and its programs what to do.
const FILES: [&str; 4] = [
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "dashboard.ts",
];

/// The folder that holds `node_modules` and [`FILES`], made anew where another version of them was there.
///
/// # Errors
/// Where node or npm is not on this machine, or a package cannot be had.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    for program in ["node", "npm"] {
        ensure!(
            workspace::find_program(program).is_some(),
            "{program} is not on this machine; install Node.js 18 or newer"
        );
    }
    let folder = workspace::fetched().join("npm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let wanted = read(&source("package-lock.json"))?;
    // npm writes its own account last, so that a set-up that was cut short begins again.
    let complete = folder.join("node_modules/.package-lock.json").is_file()
        && fs::read(folder.join("package-lock.json")).is_ok_and(|had| had == wanted);
    for file in FILES {
        let place = folder.join(file);
        fs::write(&place, read(&source(file))?)
            .with_context(|| format!("cannot write {}", place.display()))?;
    }
    if !complete {
        step::announce("fetching packages of npm into target/npm (once; 40 MB)");
        step::output(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&folder),
        )?;
    }
    Ok(folder)
}

fn source(file: &str) -> PathBuf {
    workspace::root().join("xtask/npm").join(file)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
