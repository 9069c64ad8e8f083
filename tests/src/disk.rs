//! A file system so small that it fills up.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// One in memory, unmounted when dropped.
#[derive(Debug)]
pub struct TinyDisk {
    path: PathBuf,
    _folder: TempDir,
}

impl TinyDisk {
    /// One of `size`, as tmpfs takes it (`1m`).
    ///
    /// # Errors
    /// Where it cannot be mounted.
    pub fn new(size: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("disk");
        std::fs::create_dir(&path)?;
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(&*options),
        )
        .context("cannot mount a tmpfs")?;
        Ok(Self {
            path,
            _folder: folder,
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
