//! Kernel images of Debian, unpacked under target/vm/kernels: each series from the suite that carries it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::debian::Debian;
use crate::{step, workspace};

/// The series that tests run on, oldest first, and the Debian suite whose kernel each is.
pub(crate) const SERIES: [(&str, &str); 3] =
    [("6.1", "bookworm"), ("6.12", "trixie"), ("7.2", "sid")];

/// A kernel's image, fetched now where it is missing; `name` is one of [`SERIES`] or the path of an image.
pub(crate) fn ensure(name: &str) -> anyhow::Result<PathBuf> {
    let Some((series, suite)) = SERIES.into_iter().find(|(series, _)| *series == name) else {
        let path = PathBuf::from(name);
        if !path.is_file() {
            let known = SERIES.map(|(series, _)| series).join(", ");
            bail!("{name} is neither the file of a kernel image nor one of {known}");
        }
        return Ok(path);
    };
    let image = workspace::fetched()
        .join("vm")
        .join(format!("linux-{series}"));
    if !image.is_file() {
        fetch(series, suite, &image)
            .with_context(|| format!("Linux {series} is missing; an image can be named by path"))?;
    }
    Ok(image)
}

fn fetch(series: &str, suite: &str, image: &Path) -> anyhow::Result<()> {
    let debian = Debian::open(suite, &workspace::fetched().join("vm/apt"))?;
    let package = debian
        .dependency("linux-image-amd64", &format!("linux-image-{series}."))
        .with_context(|| format!("the kernel of Debian's {suite} is another"))?;
    // Newer packages keep the image apart from the modules.
    let apart = package.replacen("image", "binary", 1);
    let package = if debian.has(&apart) { apart } else { package };
    step::announce(&format!(
        "fetching {package} into target/vm (once; up to 110 MB)"
    ));
    let folder = image.with_extension("package");
    debian.unpack(std::slice::from_ref(&package), &folder)?;
    let found = image_in(&folder).with_context(|| format!("{package} holds no vmlinuz"))?;
    fs::rename(&found, image).with_context(|| format!("cannot move {}", found.display()))?;
    // The modules: what the tests need of a kernel is built in.
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// `boot/vmlinuz-VERSION`, or `usr/lib/modules/VERSION/vmlinuz` as newer packages have it.
fn image_in(folder: &Path) -> Option<PathBuf> {
    let entries = |folder: PathBuf| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
    };
    entries(folder.join("boot"))
        .chain(entries(folder.join("usr/lib/modules")).map(|version| version.join("vmlinuz")))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz") && path.is_file()
        })
}
