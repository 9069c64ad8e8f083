//! bpf-linker, built by cargo into target/tools.

use std::process::Command;

use crate::{step, workspace};

/// Links through rustc's own LLVM; later ones need a later rustc.
const VERSION: &str = "0.10.3";

pub(super) fn ensure() -> anyhow::Result<()> {
    let tools = workspace::fetched().join("tools");
    let program = tools.join("bin/bpf-linker");
    if program.is_file() {
        let found = step::output(Command::new(&program).arg("--version"))?;
        if found.trim() == format!("bpf-linker {VERSION}") {
            return Ok(());
        }
    }
    step::announce(&format!(
        "installing bpf-linker {VERSION} into target/tools (once; 2 to 3 minutes on 2 cores)"
    ));
    step::run(
        workspace::cargo()
            .args(["install", "bpf-linker", "--version", VERSION])
            .args(["--locked", "--force", "--root"])
            .arg(tools),
    )
}
