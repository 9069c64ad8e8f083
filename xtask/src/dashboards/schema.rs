//! `cargo xtask dashboards schema`: what Grafana's own types ask of a dashboard, as JSON Schema.
//!
//! Generated once per version of Grafana's package and committed, so that tests need neither npm nor network. It refuses
//! properties that it does not know.

use std::fs;
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{setup, step, workspace};

/// In the repository.
const PATH: &str = "xtask/npm/dashboard.schema.json";
const PACKAGE: &str = "@grafana/schema";

pub(super) fn write() -> anyhow::Result<()> {
    let folder = setup::npm()?;
    let text = step::output(
        Command::new("node")
            .arg("node_modules/ts-json-schema-generator/bin/ts-json-schema-generator.js")
            .args(["--path", "dashboard.ts", "--tsconfig", "tsconfig.json"])
            .args(["--type", "Dashboard", "--expose", "none", "--jsDoc", "none"])
            .arg("--minify")
            .current_dir(&folder),
    )?;
    let mut schema: Value = serde_json::from_str(&text).context("the schema is not JSON")?;
    schema["$comment"] = json!(origin()?);
    let place = workspace::root().join(PATH);
    fs::write(&place, format!("{schema}\n"))
        .with_context(|| format!("cannot write {}", place.display()))?;
    step::announce(&format!("wrote {PATH}"));
    Ok(())
}

/// Where the schema comes from, with the version that package.json names.
fn origin() -> anyhow::Result<String> {
    let text = fs::read_to_string(workspace::root().join("xtask/npm/package.json"))
        .context("cannot read xtask/npm/package.json")?;
    let package: Value = serde_json::from_str(&text).context("package.json is not JSON")?;
    let version = package["dependencies"][PACKAGE].as_str();
    let version = version.with_context(|| format!("package.json does not name {PACKAGE}"))?;
    Ok(format!(
        "Made by cargo xtask dashboards schema from {PACKAGE} {version}, Copyright Grafana Labs, Apache-2.0"
    ))
}

#[cfg(test)]
mod tests {
    use jsonschema::Validator;
    use serde_json::Map;

    use super::super::boards;
    use super::*;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../npm/dashboard.schema.json")).unwrap()
    }

    fn refused(validator: &Validator, board: &Value) -> Vec<String> {
        validator
            .iter_errors(board)
            .map(|error| format!("{}: {}", error.instance_path(), error.masked()))
            .collect()
    }

    #[test]
    fn grafana_takes_every_dashboard() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for board in boards() {
            let board = board.json();
            let refused = refused(&validator, &board);
            assert!(refused.is_empty(), "{}: {refused:#?}", board["title"]);
        }
    }

    #[test]
    fn a_wrong_dashboard_is_refused() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let slips: [(&str, &str, Value); 9] = [
            ("timeseries", "/options/legend/placement", json!("under")),
            (
                "timeseries",
                "/fieldConfig/defaults/custom/drawStyle",
                json!("lines"),
            ),
            ("timeseries", "/targets/0/expr", json!(7)),
            ("stat", "/options/colorMode", json!("backdrop")),
            (
                "stat",
                "/fieldConfig/defaults/thresholds/mode",
                json!("relative"),
            ),
            ("bargauge", "/options/orientation", json!(1)),
            ("table", "/options/sortBy/0/desc", json!("yes")),
            ("heatmap", "/options/color", json!("Oranges")),
            ("state-timeline", "/gridPos/w", json!("wide")),
        ];
        for (kind, place, value) in slips {
            let mut board = with_panel(kind);
            *panel(&mut board, kind).pointer_mut(place).unwrap() = value;
            assert!(!refused(&validator, &board).is_empty(), "{kind}{place}");
        }
        for kind in [
            "timeseries",
            "stat",
            "bargauge",
            "table",
            "heatmap",
            "state-timeline",
        ] {
            let mut board = with_panel(kind);
            let options: &mut Map<_, _> =
                panel(&mut board, kind)["options"].as_object_mut().unwrap();
            options.insert("legends".to_owned(), json!({}));
            assert!(
                !refused(&validator, &board).is_empty(),
                "{kind}: an unknown option"
            );
        }
        let mut board = with_panel("stat");
        panel(&mut board, "stat")["type"] = json!("singlestat");
        assert!(
            !refused(&validator, &board).is_empty(),
            "an unknown kind of panel"
        );
    }

    /// The first dashboard with such a panel.
    fn with_panel(kind: &str) -> Value {
        let mut all = boards().into_iter().map(|board| board.json());
        all.find(|board| {
            board["panels"]
                .as_array()
                .unwrap()
                .iter()
                .any(|panel| panel["type"] == kind)
        })
        .unwrap()
    }

    fn panel<'a>(board: &'a mut Value, kind: &str) -> &'a mut Value {
        let mut panels = board["panels"].as_array_mut().unwrap().iter_mut();
        panels.find(|panel| panel["type"] == kind).unwrap()
    }

    #[test]
    fn the_schema_is_of_the_version_that_npm_is_asked_for() {
        assert_eq!(schema()["$comment"], origin().unwrap());
    }
}
