//! `cargo xtask policy`: which dependencies are allowed, judged from `cargo metadata`.
//!
//! deny.toml says the same for those who have cargo-deny, which takes longer to build than the whole of CI may take.
//! Known vulnerabilities are not looked up here: that needs the advisory database over the network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{step, workspace};

/// Licences that a dependency may come under; keep in step with deny.toml.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Packages under another licence, each with what makes that right; keep in step with deny.toml.
const EXCEPTIONS: [(&str, &str); 2] = [
    // Used unchanged; its users may relink the collector with another version, whose whole source is at hand.
    ("btf-rs", "LGPL-2.1-or-later"),
    ("btf-rs-derive", "LGPL-2.1-or-later"),
];

/// The only registry that dependencies may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Packages that must not come in: C libraries that do what a Rust dependency of ours does already, or nothing we need.
const BANNED: [&str; 4] = [
    "openssl-sys",
    "native-tls",
    "libsqlite3-sys",
    "netlink-packet-audit",
];

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Fails with every breach in its message.
pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = step::output(
        workspace::cargo()
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"]),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let packages = packages(&metadata)?;
    let breaches: Vec<String> = packages.iter().flat_map(Package::breaches).collect();
    if !breaches.is_empty() {
        bail!("dependency policy broken:\n  {}", breaches.join("\n  "));
    }
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
    }
    let duplicates: Vec<String> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            format!(
                "{name} {}",
                versions.iter().copied().collect::<Vec<_>>().join(" and ")
            )
        })
        .collect();
    println!(
        "dependency policy: {} packages, all from crates.io or this workspace, all under allowed licences; in two \
         versions: {}; advisories are not checked here",
        packages.len(),
        if duplicates.is_empty() {
            "none".to_owned()
        } else {
            duplicates.join(", ")
        }
    );
    Ok(())
}

/// What the policy looks at.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// None for a path.
    source: Option<String>,
    in_workspace: bool,
}

fn packages(metadata: &Value) -> anyhow::Result<Vec<Package>> {
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .context("cargo metadata names no workspace members")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // The resolved graph, not the list of packages: that one holds what other platforms need, too.
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo metadata has no resolved graph")?
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)))
        .map(|package| {
            Ok(Package {
                name: text(&package["name"]).context("a package without a name")?,
                version: text(&package["version"]).context("a package without a version")?,
                licence: text(&package["license"]),
                source: text(&package["source"]),
                in_workspace: package["id"]
                    .as_str()
                    .is_some_and(|id| members.contains(id)),
            })
        })
        .collect()
}

impl Package {
    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut breach = |what: String| {
            breaches.push(format!("{} {}: {what}", self.name, self.version));
        };
        if self.in_workspace {
            return breaches;
        }
        match self.source.as_deref() {
            Some(REGISTRY) => {}
            Some(other) => breach(format!("comes from {other}")),
            None => breach("is a path outside the workspace".into()),
        }
        match self.licence.as_deref() {
            Some(licence) if licence_allowed(licence) => {}
            Some(licence) if EXCEPTIONS.contains(&(&self.name, licence)) => {}
            Some(licence) => breach(format!("licence {licence} is not allowed")),
            None => breach("names no licence".into()),
        }
        if BANNED.contains(&self.name.as_str()) {
            breach("is banned".into());
        }
        breaches
    }
}

/// Whether an SPDX expression can be met with [`LICENCES`]; `/` is the old way to write OR. A text that is not an
/// expression is not allowed.
fn licence_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all_of(words)?;
    while let [first, rest @ ..] = *words
        && *first == "OR"
    {
        *words = rest;
        allowed |= all_of(words)?;
    }
    Some(allowed)
}

fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(words)?;
    while let [first, rest @ ..] = *words
        && *first == "AND"
    {
        *words = rest;
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any_of(words)?;
            let [")", rest @ ..] = *words else {
                return None;
            };
            *words = rest;
            Some(allowed)
        }
        [licence, "WITH", exception, rest @ ..] => {
            let name = format!("{licence} WITH {exception}");
            *words = rest;
            Some(LICENCES.contains(&name.as_str()))
        }
        [licence, rest @ ..] => {
            *words = rest;
            Some(LICENCES.contains(licence))
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough_but_every_part_must_be_allowed() {
        assert!(licence_allowed("MIT OR GPL-3.0"));
        assert!(licence_allowed("MIT/Apache-2.0"));
        assert!(licence_allowed("(MIT OR GPL-2.0-only) AND Unicode-3.0"));
        assert!(licence_allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!licence_allowed("MIT AND GPL-3.0"));
        assert!(!licence_allowed("GPL-2.0 WITH Classpath-exception-2.0"));
    }

    #[test]
    fn what_is_no_expression_is_not_allowed() {
        for text in ["", "MIT OR", "(MIT", "MIT MIT", "OR MIT"] {
            assert!(!licence_allowed(text), "{text}");
        }
    }

    #[test]
    fn a_package_from_a_git_repository_breaks_the_policy() {
        let package = Package {
            name: "a".into(),
            version: "1.0.0".into(),
            licence: Some("MIT".into()),
            source: Some("git+https://example.org/a".into()),
            in_workspace: false,
        };
        assert_eq!(
            package.breaches(),
            ["a 1.0.0: comes from git+https://example.org/a"]
        );
    }
}
