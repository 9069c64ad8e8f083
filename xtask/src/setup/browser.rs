//! Chromium, which draws pictures of pages: the machine's own, or Debian's unpacked under target/browser.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::debian::{Debian, machine_suite};
use crate::{step, workspace};

const PROGRAM: &str = "chromium";
/// The second is the font that pages ask for.
const PACKAGES: [&str; 2] = ["chromium", "fonts-inter"];

/// A program that can be started like Chromium.
///
/// # Errors
/// Where it is not on this machine and cannot be had.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    if let Some(program) = workspace::find_program(PROGRAM) {
        return Ok(program);
    }
    let folder = workspace::fetched().join("browser");
    let starter = folder.join(PROGRAM);
    // Written last, so that a set-up that was cut short begins again.
    if !starter.is_file() {
        fetch(&folder)
            .with_context(|| format!("{PROGRAM} is missing; install it (Debian: {PROGRAM})"))?;
        write_starter(&folder, &starter)
            .with_context(|| format!("cannot write {}", starter.display()))?;
    }
    Ok(starter)
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let debian = Debian::open(&machine_suite()?, &folder.join("apt"))?;
    let mut packages = Vec::new();
    for package in PACKAGES {
        packages.extend(debian.missing_with(package)?);
    }
    packages.sort();
    packages.dedup();
    step::announce(&format!(
        "fetching {} packages, {PROGRAM} and what it needs, into target/browser (once; 400 MB unpacked)",
        packages.len()
    ));
    debian.unpack(&packages, folder)
}

/// A script that starts what was unpacked into `folder`, with libraries and fonts from there.
fn write_starter(folder: &Path, starter: &Path) -> std::io::Result<()> {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let here = folder.display();
    let fonts = folder.join("fonts.conf");
    fs::write(
        &fonts,
        format!(
            "<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"fonts.dtd\"><fontconfig><dir>{here}/usr/share/fonts</dir>\
             <cachedir>{here}/font-cache</cachedir></fontconfig>\n"
        ),
    )?;
    fs::write(
        starter,
        format!(
            "#!/bin/sh\nlib='{here}/usr/lib/{triplet}'\n\
             export LD_LIBRARY_PATH=\"$lib:$lib/pulseaudio:{here}/lib/{triplet}\" FONTCONFIG_FILE='{}'\n\
             exec '{here}/usr/lib/chromium/chromium' \"$@\"\n",
            fonts.display()
        ),
    )?;
    fs::set_permissions(starter, Permissions::from_mode(0o755))
}
