//! Builds the BPF object of `collector-ebpf` and puts it into `OUT_DIR` as `collector-ebpf`.
//!
//! A Command of our own rather than aya-build: that one builds inside `OUT_DIR`, so every profile would compile
//! `core` again, and it offers no place to say where `core`'s source lies. What the child needs beyond a stable
//! toolchain (`RUSTC_BOOTSTRAP`, the source of `core`, bpf-linker on the PATH) is set for the child alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

const TARGET: &str = "bpfel-unknown-none";
/// The machines whose registers collector-ebpf/src/registers.rs knows.
const ARCHES: [&str; 2] = ["x86_64", "aarch64"];

fn main() {
    if let Err(error) = build() {
        // cargo fails the build for this line alone. Were the script to fail as well, cargo would add a page of its
        // own around the one line that a newcomer's first `cargo build` is to print.
        println!("cargo::error={error:#}");
    }
}

fn build() -> anyhow::Result<()> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir
        .parent()
        .context("the collector's folder has no parent")?;
    let target_dir = workspace.join("target");
    for watched in [
        "collector-ebpf",
        "Cargo.lock",
        "target/tools/bin/bpf-linker",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = rustc_version(&variable("RUSTC")?)?;
    println!("cargo::rustc-env=AUDIT_COLLECTOR_RUSTC={compiler}");
    println!(
        "cargo::rustc-env=AUDIT_COLLECTOR_TARGET={}",
        env::var("TARGET")?
    );

    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH is not set")?;
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN");
    if !ARCHES.contains(&arch.as_str()) || endian.as_deref() != Ok("little") {
        bail!(
            "the BPF programs know the registers of {ARCHES:?} (little-endian) only, not of {arch}"
        );
    }
    let linkers = linker_folder(&target_dir)?;
    let core_source = core_source(&target_dir)?;

    let mut flags = OsString::new();
    for flag in [
        format!("--cfg=bpf_target_arch=\"{arch}\"").as_str(),
        // aya-ebpf's own cfg for the machine the programs will run on.
        "--check-cfg=cfg(bpf_target_arch,values(any()))",
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ] {
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push(flag);
    }
    let mut path = linkers.into_os_string();
    if let Some(inherited) = env::var_os("PATH") {
        path.push(":");
        path.push(inherited);
    }

    let bpf_target_dir = target_dir.join("bpf").join(&arch);
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "collector-ebpf",
        ])
        .args([
            "--bin",
            "collector-ebpf",
            "--target",
            TARGET,
            "-Zbuild-std=core",
        ])
        .arg("--target-dir")
        .arg(&bpf_target_dir)
        .env("PATH", path)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    // Set by a parent `cargo clippy` for the host's crates; the child builds in earnest.
    for key in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "RUSTFLAGS",
    ] {
        cargo.env_remove(key);
    }
    if let Some(source) = core_source {
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", source);
    }
    let output = cargo
        .output()
        .with_context(|| format!("cannot run {cargo:?}"))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // cargo shows a script's own output only where the script fails.
        for line in diagnostics.lines() {
            println!("cargo::error={line}");
        }
        bail!("building the BPF programs failed ({})", output.status);
    }
    for line in diagnostics.lines() {
        println!("cargo::warning={line}");
    }

    let object = bpf_target_dir.join(TARGET).join("release/collector-ebpf");
    let copy = PathBuf::from(variable("OUT_DIR")?).join("collector-ebpf");
    std::fs::copy(&object, &copy)
        .with_context(|| format!("cannot copy {} to {}", object.display(), copy.display()))?;
    Ok(())
}

/// The folder of bpf-linker: ours under `target/`, or any on the PATH.
fn linker_folder(target_dir: &Path) -> anyhow::Result<PathBuf> {
    let ours = target_dir.join("tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(ours)
        .chain(env::split_paths(&path))
        .find(|folder| folder.join("bpf-linker").is_file())
        .context("bpf-linker is missing; run `cargo xtask setup` once, then build again")
}

/// Where `core`'s source is, unless rustup's rust-src component has it in the place cargo looks by itself.
fn core_source(target_dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let rustc = variable("RUSTC")?;
    let ask = |what: &str| -> anyhow::Result<String> {
        let output = Command::new(&rustc)
            .args(["--print", what])
            .output()
            .context("cannot run rustc")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let component = Path::new(&ask("sysroot")?).join("lib/rustlib/src/rust/library");
    if component.join("core/src/lib.rs").is_file() {
        return Ok(None);
    }
    let version = rustc_version(&rustc)?;
    let unpacked = target_dir.join(format!("rust-src/usr/src/rustc-{version}/library"));
    if unpacked.join("core/src/lib.rs").is_file() {
        return Ok(Some(unpacked));
    }
    bail!(
        "the source of Rust's core library is missing; run `cargo xtask setup` once, then build again"
    )
}

fn rustc_version(rustc: &OsStr) -> anyhow::Result<String> {
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .context("cannot run rustc")?;
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(version.split(' ').nth(1).unwrap_or_default().to_owned())
}

fn variable(name: &str) -> anyhow::Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set; cargo sets it for build scripts"))
}
