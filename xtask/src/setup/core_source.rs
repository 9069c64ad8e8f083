//! The source of Rust's core library, which is compiled for the BPF target.
//!
//! rustup's rust-src component where the toolchain has it; otherwise Debian's package of the very same version,
//! unpacked under target/rust-src. Another version's source would not compile with this rustc.

use anyhow::{Context as _, bail};

use super::debian::Debian;
use crate::{step, workspace};

/// Debian suites that carry a recent rustc, the most likely first.
const SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

pub(super) fn ensure() -> anyhow::Result<()> {
    let (version, sysroot) = workspace::toolchain()?;
    let marker = "core/src/lib.rs";
    let component = sysroot.join("lib/rustlib/src/rust/library");
    let folder = workspace::fetched().join("rust-src");
    let unpacked = folder.join(format!("usr/src/rustc-{version}/library"));
    if component.join(marker).is_file() || unpacked.join(marker).is_file() {
        return Ok(());
    }
    step::announce(&format!(
        "fetching the source of Rust {version}'s core library into target/rust-src (once; 55 MB)"
    ));
    from_debian(&version, &folder).with_context(|| {
        format!(
            "the source of Rust {version}'s core library is missing; install it with `rustup component add \
             rust-src`, or your distribution's rust-src package of version {version}"
        )
    })?;
    if !unpacked.join(marker).is_file() {
        bail!(
            "Debian's rust-src package holds no library/{marker}; install rust-src {version} by hand"
        );
    }
    Ok(())
}

fn from_debian(version: &str, folder: &std::path::Path) -> anyhow::Result<()> {
    let mut refusals = Vec::new();
    for suite in SUITES {
        let attempt = Debian::open(suite, &folder.join("apt")).and_then(|debian| {
            let found = debian.newest("rust-src", &format!("{version}+"))?;
            debian.unpack(&[format!("rust-src={found}")], folder)
        });
        match attempt {
            Ok(()) => return Ok(()),
            Err(error) => refusals.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("no Debian suite has it ({})", refusals.join("; "))
}
