//! qemu, which runs other kernels: the machine's own, or Debian's unpacked under target/vm/qemu.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::debian::{Debian, machine_suite};
use crate::{step, workspace};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// A qemu that can be started.
pub(crate) struct Emulator {
    program: PathBuf,
    /// Where it was unpacked; none for one of the machine's own, which finds its parts by itself.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The machine's own, or one fetched now where it has none.
    pub(crate) fn ensure() -> anyhow::Result<Self> {
        if env::consts::ARCH != "x86_64" {
            bail!("other kernels can be run on x86-64 only");
        }
        if let Some(program) = workspace::find_program(PROGRAM) {
            return Ok(Self {
                program,
                unpacked: None,
            });
        }
        let folder = workspace::fetched().join("vm/qemu");
        let program = folder.join("usr/bin").join(PROGRAM);
        if !program.is_file() {
            fetch(&folder)
                .with_context(|| format!("{PROGRAM} is missing; install it (Debian: {PACKAGE})"))?;
        }
        Ok(Self {
            program,
            unpacked: Some(folder),
        })
    }

    /// A command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(folder) = &self.unpacked {
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(folder.join(firmware));
            }
            let libraries = folder.join("usr/lib/x86_64-linux-gnu");
            command
                .env("QEMU_MODULE_DIR", libraries.join("qemu"))
                .env("LD_LIBRARY_PATH", library_path(folder));
        }
        command
    }
}

fn library_path(folder: &Path) -> OsString {
    let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|lib| folder.join(lib));
    env::join_paths(folders).expect("the repository's path was split at no colon by cargo either")
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let debian = Debian::open(&machine_suite()?, &workspace::fetched().join("vm/apt"))?;
    let packages = debian.missing_with(PACKAGE)?;
    step::announce(&format!(
        "fetching {} into target/vm/qemu (once; up to 40 MB)",
        packages.join(", ")
    ));
    debian.unpack(&packages, folder)
}
