//! Of which dashboard a committed picture is: so that a picture older than its dashboard is told.
//!
//! Owns the note beside each picture, the hash of the dashboard's file in the form of `sha256sum`.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use ring::digest::{SHA256, digest};

use crate::grafana;

/// What the note beside the picture of the dashboard `name` says, as that now lies in the repository.
///
/// # Errors
/// Where it cannot be read.
pub fn note(name: &str) -> anyhow::Result<String> {
    let file = format!("{name}.json");
    let place = grafana::folder().join(&file);
    let board = fs::read(&place).with_context(|| format!("cannot read {}", place.display()))?;
    let mut note = String::new();
    for byte in digest(&SHA256, &board).as_ref() {
        write!(note, "{byte:02x}")?;
    }
    writeln!(note, "  {file}")?;
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grafana::Dashboard;

    #[test]
    fn every_picture_is_of_its_dashboard_as_it_is_now() {
        let pictures = grafana::folder().join("screenshots");
        for board in Dashboard::all().unwrap() {
            let name = board.name().unwrap();
            assert!(pictures.join(name).with_extension("png").exists());
            let noted = fs::read_to_string(pictures.join(name).with_extension("sha256")).unwrap();
            assert_eq!(
                noted,
                note(name).unwrap(),
                "the picture of {name} is stale: run cargo xtask dashboards screenshots"
            );
        }
    }
}
