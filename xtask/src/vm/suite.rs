//! Which tests run in virtual machines: every test on the kernel, as cargo built it for this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{step, workspace};

/// Test programs that another kernel could tell nothing new: they compare with files or with programs of this machine.
const HOST_ONLY: [&str; 3] = ["abi", "codec_golden", "dashboards"];

/// The program whose tests change what lasts until the next boot, so that each gets a kernel of its own.
const UNTIL_REBOOT: &str = "until_reboot";

/// The programs beside the tests': the one under test, the load, and the first program of a virtual machine.
const PROGRAMS: [&str; 3] = ["audit-collector", "workload", "vm_init"];

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// The name of its program, which is that of the file in tests/.
    pub(crate) program: String,
    /// Its own.
    pub(crate) name: String,
}

impl Test {
    /// Whether it needs a kernel of its own.
    pub(crate) fn lasts_until_reboot(&self) -> bool {
        self.program == UNTIL_REBOOT
    }

    /// Whether `filter` is the name of its program or a part of its own.
    pub(crate) fn matches(&self, filter: &str) -> bool {
        self.program == filter || self.name.contains(filter)
    }
}

/// A program that cargo built.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The folder of its package, where cargo would start it.
    pub(super) package: PathBuf,
}

/// What cargo built.
pub(super) struct Suite {
    pub(super) programs: Vec<Program>,
    pub(super) test_programs: Vec<Program>,
    pub(super) tests: Vec<Test>,
}

impl Suite {
    /// Builds the tests exactly as `cargo xtask test` does, so that neither builds the other's programs anew.
    pub(super) fn build() -> anyhow::Result<Self> {
        let mut cargo = workspace::cargo();
        cargo
            .args([
                "test",
                "--no-run",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
            ])
            .arg("--message-format=json-render-diagnostics")
            .stderr(Stdio::inherit());
        let output = cargo.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("the tests cannot be built ({})", output.status);
        }
        let mut suite = Self {
            programs: Vec::new(),
            test_programs: Vec::new(),
            tests: Vec::new(),
        };
        for line in output.stdout.split(|byte| *byte == b'\n') {
            if let Ok(message) = serde_json::from_slice::<Value>(line) {
                suite.take(&message);
            }
        }
        for program in &suite.test_programs {
            let listed =
                step::output(Command::new(&program.path).args(["--list", "--format", "terse"]))?;
            suite.tests.extend(names(&listed).map(|name| Test {
                program: program.name.clone(),
                name: name.to_owned(),
            }));
        }
        for name in PROGRAMS {
            if !suite.programs.iter().any(|program| program.name == name) {
                bail!("cargo built no program {name}");
            }
        }
        Ok(suite)
    }

    /// Takes in what cargo says it built.
    fn take(&mut self, message: &Value) {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let (Some(path), Some(name), Some(kind), Some(manifest)) = (
            text("/executable"),
            text("/target/name"),
            text("/target/kind/0"),
            text("/manifest_path"),
        ) else {
            return;
        };
        let program = Program {
            name: name.to_owned(),
            path: path.into(),
            package: Path::new(manifest)
                .parent()
                .unwrap_or(workspace::root())
                .to_owned(),
        };
        let tested = message.pointer("/profile/test") == Some(&Value::Bool(true));
        match kind {
            "test" if !HOST_ONLY.contains(&name) => self.test_programs.push(program),
            "bin" if !tested && PROGRAMS.contains(&name) => self.programs.push(program),
            _ => {}
        }
    }
}

/// The names in a test program's list: `NAME: test`.
fn names(listed: &str) -> impl Iterator<Item = &str> {
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_tests() {
        let listed = "rules::a_rule: test\nslow: benchmark\nb: test\n";
        assert_eq!(names(listed).collect::<Vec<_>>(), ["rules::a_rule", "b"]);
    }

    #[test]
    fn only_the_kernels_tests_and_the_programs_they_start_are_taken() {
        let mut suite = Suite {
            programs: Vec::new(),
            test_programs: Vec::new(),
            tests: Vec::new(),
        };
        let mut take = |name: &str, kind: &str, tested: bool| {
            suite.take(&serde_json::json!({
                "manifest_path": "/w/tests/Cargo.toml",
                "target": {"name": name, "kind": [kind]},
                "profile": {"test": tested},
                "executable": format!("/w/target/debug/{name}"),
            }));
        };
        take("account", "test", true);
        take("dashboards", "test", true);
        take("collector", "lib", true);
        take("workload", "bin", false);
        take("workload", "bin", true);
        take("demo", "bin", false);
        let names = |programs: &[Program]| -> Vec<String> {
            programs
                .iter()
                .map(|program| program.name.clone())
                .collect()
        };
        assert_eq!(names(&suite.test_programs), ["account"]);
        assert_eq!(names(&suite.programs), ["workload"]);
        assert_eq!(suite.programs[0].package, Path::new("/w/tests"));
    }
}
