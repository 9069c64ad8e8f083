//! What came of tests in virtual machines, as their first programs tell it.

use std::fmt;

use serde_json::Value;

use super::machine::Machine;
use super::suite::Test;
use crate::step;

/// What came of tests in virtual machines.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<Failed>,
    /// Those among `passed` that had failed before, beside another machine.
    pub(crate) passed_alone: Vec<String>,
    /// The kernel and the test, a tab, what is missing there.
    pub(crate) could_not_run: Vec<String>,
}

/// A test that failed in a virtual machine.
pub(crate) struct Failed {
    /// The kernel and what it was booted with.
    pub(super) machine: String,
    program: String,
    pub(super) name: String,
    why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            program,
            name,
            why,
        } = self;
        write!(f, "{machine}: {program} {name} ({why})")
    }
}

impl Results {
    /// Whether a test of this name has run.
    pub(crate) fn include(&self, test: &str) -> bool {
        self.passed
            .iter()
            .any(|named| named.split(' ').any(|word| word == test))
            || self.failed.iter().any(|failed| failed.name == test)
    }

    pub(crate) fn add(&mut self, mut other: Self) {
        self.passed.append(&mut other.passed);
        self.failed.append(&mut other.failed);
        self.passed_alone.append(&mut other.passed_alone);
        self.could_not_run.append(&mut other.could_not_run);
    }
}

/// What has come of one machine's tests so far.
pub(super) struct Progress<'a, 'b> {
    pub(super) label: String,
    pub(super) tests: &'b [&'a Test],
    pub(super) reported: Vec<bool>,
    /// What the machine's first program could not do.
    pub(super) error: Option<String>,
    pub(super) results: &'b mut Results,
}

impl Progress<'_, '_> {
    /// Takes a message of the machine's first program, and prints it as a test runner would.
    pub(super) fn take(&mut self, message: &Value) {
        if let Some(release) = message["kernel"].as_str() {
            step::announce(&format!("Linux {release} has started"));
        }
        if let Some(error) = message["error"].as_str() {
            self.error = Some(error.to_owned());
        }
        let index = message["test"].as_u64().map(|index| index as usize);
        let Some((index, test)) = index.and_then(|index| Some((index, *self.tests.get(index)?)))
        else {
            return;
        };
        self.reported[index] = true;
        let name = format!("{} {}", test.program, test.name);
        let named = format!("{}: {name}", self.label);
        let word = if let Some(failure) = message["failure"].as_str() {
            self.fail(test, failure);
            "FAIL"
        } else if let Some(lacks) = message["lacks"].as_str() {
            self.results.could_not_run.push(format!("{named}\t{lacks}"));
            "SKIP"
        } else {
            self.results.passed.push(named);
            "PASS"
        };
        let seconds = message["milliseconds"].as_f64().unwrap_or_default() / 1000.0;
        let mut said = format!("{word:>12} [{seconds:>8.3}s] {}: {name}\n", self.label);
        for line in message["output"].as_str().unwrap_or_default().lines() {
            said += &format!("    {line}\n");
        }
        // At once, as other machines report as well.
        print!("{said}");
    }

    /// Counts as failed whatever has no result.
    pub(super) fn finish(mut self, ran: anyhow::Result<()>, machine: &Machine<'_>) {
        let tests = self.tests.iter().zip(&self.reported);
        let silent: Vec<&Test> = tests
            .filter_map(|(test, reported)| (!reported).then_some(*test))
            .collect();
        if let Err(error) = &ran {
            eprintln!("xtask: Linux {}: {error:#}", self.label);
        }
        if silent.is_empty() {
            return;
        }
        if ran.is_ok() {
            eprintln!(
                "xtask: Linux {} ended before its tests did{}",
                self.label,
                machine.last_words()
            );
        }
        for test in silent {
            let named = format!("{}: {} {}", self.label, test.program, test.name);
            println!("{:>12} [        ] {named}: no result", "FAIL");
            self.fail(test, "no result");
        }
    }

    fn fail(&mut self, test: &Test, why: &str) {
        self.results.failed.push(Failed {
            machine: self.label.clone(),
            program: test.program.clone(),
            name: test.name.clone(),
            why: why.to_owned(),
        });
    }
}
