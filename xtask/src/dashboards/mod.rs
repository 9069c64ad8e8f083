//! `cargo xtask dashboards [check|schema|screenshots]`: Grafana's dashboards and Prometheus' rules, generated from code.
//!
//! Owns what is in `dashboards/` except runbooks, the rules' tests and provisioning, which are written by
//! hand. What a panel colours and what an alert fires on come from the same [`alerts`] and `thresholds`.

mod alerts;
mod delivery;
mod expression;
mod fleet;
mod grafana;
mod growth;
mod host;
mod losses;
mod rules;
mod schema;
mod screenshots;
mod thresholds;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::{step, test, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Fail where a generated file is not what the code makes, or does not hold on a Prometheus that scrapes collectors on this
    /// kernel while they lose events; needs root
    Check,
    /// Write the JSON Schema that tests hold the dashboards to, from Grafana's own types; needs Node.js
    Schema,
    /// Draw every dashboard with figures of a Prometheus that scrapes collectors on this kernel while they lose events, and keep the
    /// pictures in dashboards/screenshots; needs root, Node.js and Chromium, which it fetches where it is missing
    Screenshots,
}

/// The end-to-end tests of what is in `dashboards/`.
const LIVE_TEST: &str = "dashboards";

/// A generated file, by its place in the repository.
struct Generated {
    path: &'static str,
    text: String,
}

pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match arguments.action {
        Some(Action::Check) => {
            check()?;
            return test::one(LIVE_TEST);
        }
        Some(Action::Schema) => schema::write()?,
        Some(Action::Screenshots) => return screenshots::draw(),
        None => write()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// # Errors
/// Names every file that is not what the code makes.
pub(crate) fn check() -> anyhow::Result<()> {
    let stale: Vec<&str> = generated()
        .into_iter()
        .filter(|file| fs::read_to_string(file.place()).ok().as_ref() != Some(&file.text))
        .map(|file| file.path)
        .collect();
    ensure!(
        stale.is_empty(),
        "not what the code makes: {}; run cargo xtask dashboards and commit what it writes",
        stale.join(", ")
    );
    Ok(())
}

fn write() -> anyhow::Result<()> {
    for file in generated() {
        let place = file.place();
        let folder = place.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&place, &file.text)
            .with_context(|| format!("cannot write {}", place.display()))?;
        step::announce(&format!("wrote {}", file.path));
    }
    Ok(())
}

/// Every dashboard.
fn boards() -> [grafana::Board; 4] {
    [
        fleet::board(),
        host::board(),
        losses::board(),
        delivery::board(),
    ]
}

fn generated() -> Vec<Generated> {
    let mut files: Vec<Generated> = boards()
        .iter()
        .map(|board| Generated {
            path: board.path,
            text: format!("{:#}\n", board.json()),
        })
        .collect();
    files.push(Generated {
        path: "dashboards/prometheus/recording.yml",
        text: rules::recording(),
    });
    files.push(Generated {
        path: "dashboards/prometheus/alerts.yml",
        text: rules::alerts(),
    });
    files
}

impl Generated {
    fn place(&self) -> PathBuf {
        workspace::root().join(self.path)
    }
}
