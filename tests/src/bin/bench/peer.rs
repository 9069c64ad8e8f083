//! The programs that the collector is compared with, as processes of our own with configurations in folders of our own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use audit_collector_tests::requirement::find_program;
use tempfile::TempDir;

/// Where laurel is told to write, and how it is told.
pub(crate) struct Laurel {
    program: PathBuf,
    folder: TempDir,
}

impl Laurel {
    /// As Debian configures it, but as our own user, into `parent`, and into one file whatever its size.
    pub(crate) fn writing_below(parent: &Path) -> anyhow::Result<Self> {
        let program = find_program("laurel").context("laurel is not installed")?;
        let folder = tempfile::tempdir_in(parent)?;
        let settings = format!(
            "directory = \"{}\"\n\
             [auditlog]\nfile = \"audit.log\"\nsize = 100000000000\ngenerations = 1\n\
             [transform]\nexecve-argv = [ \"array\" ]\n\
             [translate]\nuniversal = false\nuser-db = false\n\
             [enrich]\npid = true\nexecve-env = [ \"LD_PRELOAD\", \"LD_LIBRARY_PATH\" ]\n\
             container = true\nscript = true\n",
            folder.path().display()
        );
        fs::write(folder.path().join("config.toml"), settings)?;
        Ok(Self { program, folder })
    }

    /// What a file in auditd's `plugins.d` says.
    pub(crate) fn plugin(&self) -> String {
        format!(
            "active = yes\ndirection = out\npath = {}\ntype = always\nargs = --config {}\nformat = string\n",
            self.program.display(),
            self.folder.path().join("config.toml").display()
        )
    }

    /// Where it writes events.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// Has it read `records` to their end.
    pub(crate) fn read(&self, records: &Path) -> anyhow::Result<()> {
        let status = Command::new(&self.program)
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .stdin(File::open(records)?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run laurel")?;
        ensure!(status.success(), "laurel ended with {status}");
        Ok(())
    }
}
