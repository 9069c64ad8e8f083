//! Debian packages, downloaded and unpacked into a folder of ours without installing them.
//!
//! apt gets lists, cache and sources of its own, so that neither the machine's package database nor its sources
//! change; no maintainer script runs, so no service starts. Works without root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{step, workspace};

/// One suite of the Debian archive, from the mirror that this machine itself uses.
pub(super) struct Debian {
    options: Vec<String>,
    downloads: PathBuf,
}

impl Debian {
    /// Reads the package lists of `suite` into `folder`.
    pub(super) fn open(suite: &str, folder: &Path) -> anyhow::Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            if workspace::find_program(program).is_none() {
                bail!("{program} is not on this machine");
            }
        }
        let mirror = mirror()?;
        for inner in ["lists/partial", "cache/archives/partial", "downloads"] {
            let inner = folder.join(inner);
            fs::create_dir_all(&inner)
                .with_context(|| format!("cannot create {}", inner.display()))?;
        }
        let sources = folder.join("sources.list");
        fs::write(&sources, format!("deb {mirror} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let path = |inner: &str| folder.join(inner).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::Etc::Preferences=/dev/null".into(),
            "Dir::Etc::PreferencesParts=/dev/null".into(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            // Root's apt would drop to a user that may not reach a folder in somebody's home.
            "APT::Sandbox::User=".into(),
            // Only the package index: no translations, no desktop data.
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "APT::Default-Release=".into(),
        ]
        .into_iter()
        .flat_map(|option| ["-o".to_owned(), option])
        .collect();
        let debian = Self {
            options,
            downloads: folder.join("downloads"),
        };
        step::output(debian.apt("apt-get").args(["update", "--error-on=any"]))?;
        Ok(debian)
    }

    /// The newest version of `package` that begins with `prefix`.
    pub(super) fn newest(&self, package: &str, prefix: &str) -> anyhow::Result<String> {
        let listed = step::output(self.apt("apt-cache").args(["madison", package]))?;
        listed
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(str::trim)
            .find(|version| version.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("no {package} {prefix}…"))
    }

    /// The first of the packages `package` depends on whose name begins with `prefix`.
    pub(super) fn dependency(&self, package: &str, prefix: &str) -> anyhow::Result<String> {
        let listed = step::output(self.apt("apt-cache").args(["depends", package]))?;
        listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("no {prefix}…"))
    }

    /// Whether the suite has a package of this name.
    pub(super) fn has(&self, package: &str) -> bool {
        step::output(self.apt("apt-cache").args(["show", package])).is_ok()
    }

    /// `package` and all it needs that this machine does not have.
    pub(super) fn missing_with(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let planned = step::output(self.apt("apt-get").args([
            "install",
            "--simulate",
            "--no-install-recommends",
            package,
        ]))?;
        Ok(to_install(&planned))
    }

    /// Downloads `packages` (`name` or `name=version`) and unpacks them into `folder`.
    pub(super) fn unpack(&self, packages: &[String], folder: &Path) -> anyhow::Result<()> {
        for package in packages {
            let before = self.archives()?;
            step::run(
                self.apt("apt-get")
                    .args(["download", package])
                    .current_dir(&self.downloads),
            )?;
            for archive in self.archives()? {
                if !before.contains(&archive) {
                    step::run(Command::new("dpkg").arg("-x").arg(&archive).arg(folder))?;
                    // Unpacked; keeping the archive would only cost room.
                    fs::remove_file(&archive)
                        .with_context(|| format!("cannot remove {}", archive.display()))?;
                }
            }
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    fn archives(&self) -> anyhow::Result<Vec<PathBuf>> {
        fs::read_dir(&self.downloads)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .with_context(|| format!("cannot list {}", self.downloads.display()))
    }
}

/// The packages that apt's plan of an installation names: `Inst NAME (VERSION …)`.
fn to_install(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The suite this machine was installed from, as os-release names it.
pub(super) fn machine_suite() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    codename(&release).context("/etc/os-release has no VERSION_CODENAME")
}

fn codename(release: &str) -> Option<String> {
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|value| value.trim_matches('"').to_owned())
}

/// The archive address that this machine's own apt uses for its own suite.
fn mirror() -> anyhow::Result<String> {
    let suite = machine_suite()?;
    let listed = step::output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        &format!("Codename: {suite}"),
        "Origin: Debian",
    ]))?;
    listed
        .lines()
        .next()
        .map(str::to_owned)
        .with_context(|| format!("apt has no Debian archive for {suite}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codename_is_read_with_and_without_quotes() {
        assert_eq!(
            codename("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(),
            Some("bookworm")
        );
        assert_eq!(
            codename("VERSION_CODENAME=\"noble\"\n").as_deref(),
            Some("noble")
        );
        assert_eq!(codename("ID=arch\n"), None);
    }

    #[test]
    fn a_plan_names_what_it_installs() {
        let plan = "Reading package lists...\nInst seabios (1.16.2-1 Debian:12 [all])\n\
                    Inst libusb-1.0-0 [1.0.25] (2:1.0.26-1 Debian:12 [amd64])\nConf seabios (1.16.2-1)\n";
        assert_eq!(to_install(plan), ["seabios", "libusb-1.0-0"]);
    }
}
