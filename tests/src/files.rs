//! Files opened in every way that decides about rules on files: inside and outside of a directory, through links, new
//! ones and old ones, by paths of all kinds.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use nix::fcntl::OFlag;
use nix::unistd::{chdir, unlink};

use crate::sys;
use crate::workload::Report;

/// Opens and closes `path`, with a mode whose upper bits, which the kernel leaves out, number the calls.
fn numbered(folder: i32, path: &Path, flags: OFlag, report: &mut Report) -> anyhow::Result<()> {
    let number = u32::try_from(report.calls)? + 1;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let result = sys::openat_for(folder, &path, flags.bits(), number << 12 | 0o640);
    report.add(&result);
    if let Ok(descriptor) = result {
        sys::close(descriptor);
    }
    Ok(())
}

/// Makes `in` and `out`, with links from each to the other.
fn lay_out(root: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::symlink;
    for folder in ["in/sub/deep", "out", "in/bound", "out/bound"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    for file in ["in/a", "in/sub/deep/b", "out/c", "out/h", "out/w"] {
        std::fs::write(root.join(file), file)?;
    }
    symlink("../out/c", root.join("in/link"))?;
    symlink("../in/a", root.join("out/link"))?;
    symlink("../in/sub", root.join("out/folder"))?;
    symlink("../out/made", root.join("in/dangling"))?;
    symlink("../in/made", root.join("out/dangling"))?;
    std::fs::hard_link(root.join("out/h"), root.join("in/hard"))?;
    Ok(())
}

/// Opens them all `rounds` times; changes and restores what is in `root`, which it fills where it is empty.
///
/// # Errors
/// Where something that must work does not.
pub fn use_all(root: &Path, rounds: u32) -> anyhow::Result<Report> {
    if !root.join("in").exists() {
        lay_out(root)?;
    }
    let mut report = Report::default();
    let read = OFlag::O_RDONLY;
    let write = OFlag::O_WRONLY;
    let create = OFlag::O_CREAT;
    for _ in 0..rounds {
        chdir(root).context("cannot go to the folder")?;
        let mut try_open = |path: &str, flags: OFlag| -> anyhow::Result<()> {
            let path = if path.starts_with('/') {
                path.into()
            } else if let Some(path) = path.strip_prefix("@/") {
                root.join(path)
            } else {
                Path::new(path).to_owned()
            };
            numbered(sys::AT_FDCWD, &path, flags, &mut report)
        };
        for path in [
            "@/in/a",
            "@/in/sub/../a",
            "in/./sub//deep/b",
            "@/out/c",
            "@/in/link",
            "@/out/link",
            "out/folder/deep/b",
            "@/in/hard",
            "@/out/h",
            "@/out/bound/x",
            "@/in/bound/x",
            "@/in/none",
            "@/in/none/none",
            "/dev/null",
            "/proc/self/status",
            "/etc/hostname",
        ] {
            try_open(path, read)?;
        }
        try_open("@/in/a", write)?;
        try_open("@/in/a", OFlag::O_RDWR | OFlag::O_TRUNC)?;
        try_open("@/out/w", write | OFlag::O_APPEND)?;
        try_open("@/out/w", write | create)?;
        try_open("@/in/link", write | create)?;
        try_open("@/out/link", write | create | OFlag::O_NOFOLLOW)?;
        try_open("@/in", OFlag::O_DIRECTORY)?;
        try_open("@/in", write)?;
        try_open("@/in/link", OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        try_open("@/in", OFlag::O_TMPFILE | write)?;
        for new in ["@/in/new", "in/new", "@/out/new", "out/new"] {
            try_open(new, write | create | OFlag::O_EXCL)?;
            try_open(new, write | create | OFlag::O_EXCL)?;
            try_open(new, write | create)?;
            try_open(new, read | create)?;
            unlink(&root.join(new.trim_start_matches("@/")))?;
        }
        for (dangling, made) in [("@/in/dangling", "out/made"), ("out/dangling", "in/made")] {
            try_open(dangling, write | create)?;
            unlink(&root.join(made))?;
        }
        chdir("in/sub")?;
        for path in ["deep/b", "../a", "../../out/c", "./deep/../deep/b", "new"] {
            try_open(path, read)?;
        }
        try_open("new", write | create)?;
        unlink("new")?;
        chdir(root)?;
        // A directory under another name, inside, and then outside.
        for name in ["in/other", "out/other"] {
            std::fs::rename(root.join("in/sub"), root.join(name))?;
            try_open(&format!("{name}/deep/b"), read)?;
            std::fs::rename(root.join(name), root.join("in/sub"))?;
        }
        let folder = sys::openat(sys::AT_FDCWD, c"in", 0)?;
        report.add(&Ok(()));
        for (path, flags) in [
            ("a", read),
            ("../out/c", read),
            ("sub/deep/b", read),
            ("new", write | create),
        ] {
            numbered(folder, Path::new(path), flags, &mut report)?;
        }
        sys::close(folder);
        unlink(&root.join("in/new"))?;
    }
    report.pids.push(std::process::id());
    Ok(report)
}
