//! What a virtual machine finds on its only file system: the tests' programs as cargo built them for this machine, and
//! of this machine what they load and start.
//!
//! The programs are linked dynamically, so the libraries come along. A second, static build of everything would take
//! minutes on every change and would not be what the tests on this machine run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::cpio::{Archive, Entry};
use crate::{step, workspace};

/// Programs of this machine that tests start, and those they compare with. What is not here is not there either; a
/// test that needs it says so.
const PROGRAMS: [&str; 47] = [
    "/bin/sh",
    "/bin/true",
    "setpriv",
    "unshare",
    "auditctl",
    "auditd",
    "ausearch",
    "awk",
    "cat",
    "chmod",
    "chown",
    "cp",
    "curl",
    "date",
    "env",
    "find",
    "getent",
    "grep",
    "gzip",
    "head",
    "hostname",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "rm",
    "rmdir",
    "sed",
    "setsid",
    "sleep",
    "sort",
    "strace",
    "su",
    "tar",
    "timeout",
    "touch",
    "true",
    "truncate",
    "uname",
    "uniq",
    "wc",
    "whoami",
    "xargs",
];

/// Files that these and the C library read. Tests of ours look names up in the users' database.
const FILES: [&str; 5] = [
    "/etc/ld.so.cache",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
];

/// Folders of the repository that tests read.
const DATA: [&str; 2] = ["collector", "tests"];

/// Where things are mounted, and where tests or programs expect a folder.
const FOLDERS: [&str; 9] = [
    "dev",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/share",
    "var/run",
];

/// Folders of this machine that come without their files: rules can only name what lies in a folder.
const OUTLINES: [&str; 4] = ["/etc", "/usr/bin", "/usr/sbin", "/var/log"];

/// A file system in the making.
pub(super) struct Image {
    archive: Archive<BufWriter<File>>,
    present: BTreeSet<String>,
    environment: Vec<(&'static str, OsString)>,
    /// Where the programs are made shorter, beside the image: those of other machines are written at the same time.
    shorter: PathBuf,
}

impl Image {
    /// Begins one at `path`, with what every virtual machine has. `environment` is what programs are run with.
    pub(super) fn begin(
        path: &Path,
        environment: Vec<(&'static str, OsString)>,
    ) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut image = Self {
            archive: Archive::new(BufWriter::new(file)),
            present: BTreeSet::new(),
            environment,
            shorter: path.with_added_extension("stripped"),
        };
        for folder in FOLDERS {
            image.folder(Path::new("/").join(folder).as_path())?;
        }
        for folder in OUTLINES {
            if Path::new(folder).is_dir() {
                image.outline(Path::new(folder))?;
            }
        }
        // The kernel opens it for the first program, before that can mount anything.
        image.add("dev/console", Entry::Device(5, 1))?;
        for file in FILES {
            if Path::new(file).exists() {
                image.host_path(Path::new(file))?;
            }
        }
        for name in PROGRAMS {
            if let Some(program) = image.find(name) {
                image.host_program(&program)?;
            }
        }
        for folder in DATA {
            image.tree(&workspace::root().join(folder))?;
        }
        Ok(image)
    }

    /// Adds a program that cargo built as `path`, without its debug information, and the libraries it loads.
    pub(super) fn built_program(&mut self, built: &Path, path: &str) -> anyhow::Result<()> {
        self.libraries(built)?;
        self.parents(path)?;
        self.add(path, Entry::Program(&self.stripped(built)?))
    }

    /// Whether something lies at `path`.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.present.contains(path)
    }

    /// Adds a file with this content.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        self.parents(path)?;
        self.add(path, Entry::File(content))
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        let mut file = self
            .archive
            .finish()
            .context("cannot write the file system")?;
        std::io::Write::flush(&mut file).context("cannot write the file system")
    }

    /// A program without its debug information, most of its length; as it is where there is no strip.
    fn stripped(&self, program: &Path) -> anyhow::Result<Vec<u8>> {
        let mut strip = Command::new("strip");
        strip
            .args(["--strip-debug", "-o"])
            .arg(&self.shorter)
            .arg(program);
        let file = match step::output(&mut strip) {
            Ok(_) => self.shorter.as_path(),
            Err(_) => program,
        };
        fs::read(file).with_context(|| format!("cannot read {}", file.display()))
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let (_, path) = self.environment.iter().find(|(name, _)| *name == "PATH")?;
        std::env::split_paths(path)
            .map(|folder| folder.join(program))
            .find(|candidate| candidate.is_file())
    }

    /// Adds a program of this machine at its own place, and the libraries it loads.
    fn host_program(&mut self, program: &Path) -> anyhow::Result<()> {
        self.libraries(program)?;
        self.host_path(program)
    }

    fn libraries(&mut self, program: &Path) -> anyhow::Result<()> {
        let mut ldd = Command::new("ldd");
        ldd.arg(program).envs(self.environment.iter().cloned());
        // It fails for a program that loads none.
        let listed = step::output(&mut ldd).unwrap_or_default();
        for library in loaded(&listed)? {
            self.host_path(Path::new(library))?;
        }
        Ok(())
    }

    /// Adds a file of this machine at its own place, with the links that lead there.
    fn host_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut walked = PathBuf::from("/");
        let components: Vec<_> = path.components().collect();
        for (index, component) in components.iter().enumerate() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => {
                    walked.pop();
                    continue;
                }
                Component::Normal(name) => walked.push(name),
            }
            let name = relative(&walked)?;
            let found = fs::symlink_metadata(&walked)
                .with_context(|| format!("cannot find {}", walked.display()))?;
            if found.is_symlink() {
                let target = fs::read_link(&walked)?;
                self.add(&name, Entry::Link(target.as_os_str().as_encoded_bytes()))?;
                let folder = walked.parent().unwrap_or(Path::new("/"));
                let rest: PathBuf = components[index + 1..].iter().collect();
                // A target that is absolute takes the folder's place.
                return self.host_path(&folder.join(target).join(rest));
            }
            if found.is_dir() {
                self.add(&name, Entry::Folder)?;
            } else if !self.present.contains(&name) {
                let content = fs::read(&walked)
                    .with_context(|| format!("cannot read {}", walked.display()))?;
                self.add(&name, Entry::Program(&content))?;
            }
        }
        Ok(())
    }

    /// Adds a folder of this machine with all files in it, at its own place.
    fn tree(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.host_path(folder)?;
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.tree(&entry.path())?;
            } else {
                self.host_path(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds a folder of this machine with all folders in it, at its own place.
    fn outline(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.host_path(folder)?;
        // What we may not look into stays empty.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.outline(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds a folder and those it lies in.
    fn folder(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = relative(path)?;
        self.parents(&name)?;
        self.add(&name, Entry::Folder)
    }

    fn parents(&mut self, path: &str) -> anyhow::Result<()> {
        for (end, _) in path.match_indices('/') {
            self.add(&path[..end], Entry::Folder)?;
        }
        Ok(())
    }

    /// Adds an entry that is not there yet.
    fn add(&mut self, path: &str, entry: Entry<'_>) -> anyhow::Result<()> {
        if !path.is_empty() && self.present.insert(path.to_owned()) {
            self.archive
                .add(path, entry)
                .with_context(|| format!("cannot write {path} to the file system"))?;
        }
        Ok(())
    }
}

fn relative(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.trim_start_matches('/').to_owned())
}

/// The libraries in ldd's list: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
fn loaded(listed: &str) -> anyhow::Result<Vec<&str>> {
    let mut paths = Vec::new();
    for line in listed.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("a library is missing: {line}");
        }
        let found = line.split_once(" => ").map_or(line, |(_, path)| path);
        if let Some((path, _)) = found.split_once(" (0x")
            && path.starts_with('/')
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd1)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f1)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        assert_eq!(
            loaded(listed).unwrap(),
            ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert_eq!(loaded("\tstatically linked\n").unwrap(), [""; 0]);
        assert!(loaded("\tlibaudit.so.1 => not found\n").is_err());
    }
}
