//! The page that draws a dashboard from its JSON, for pictures of it.
//!
//! Owns what the page is made of and how large it is; `tests/screenshots` has its script, its style, and the list of settings of
//! panels that it knows, which a test here holds the dashboards to. What Prometheus has seen and who shows the page is the caller's.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::grafana::Dashboard;
use crate::prometheus::Moments;

const SCRIPT: &str = include_str!("../screenshots/page.js");
const STYLE: &str = include_str!("../screenshots/page.css");

/// What the document has in it once everything is drawn.
pub const DRAWN: &str = "<title>drawn</title>";

/// In pixels; of what the style leaves for head and foot, and for each unit of a dashboard's grid.
const WIDTH: u64 = 1400;
const AROUND: u64 = 92;
const GRID_UNIT: u64 = 38;

/// Values chosen of variables, by their names; all values of those that are absent.
pub type Values<'a> = BTreeMap<&'a str, &'a str>;

/// In pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// From left to right.
    pub width: u64,
    /// From top to bottom.
    pub height: u64,
}

/// A dashboard and what it shows.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// From the repository.
    pub board: &'a Dashboard,
    /// What it is about.
    pub chosen: Values<'a>,
    /// Whom it asks, and nobody else.
    pub prometheus: SocketAddr,
    /// The time range, with a point at each moment.
    pub moments: Moments,
    /// A line beside the title.
    pub note: &'a str,
}

impl Page<'_> {
    /// The page, whole, with uPlot from its folder `dist`.
    ///
    /// # Errors
    /// Where that lacks a file.
    pub fn html(&self, uplot: &Path) -> anyhow::Result<String> {
        let read = |name: &str| {
            let place = uplot.join(name);
            fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))
        };
        let (charts, charts_style) = (read("uPlot.iife.min.js")?, read("uPlot.min.css")?);
        let prometheus = format!("http://{}", self.prometheus);
        let scene = json!({
            "board": self.board.0,
            "chosen": self.chosen,
            "prometheus": prometheus,
            "from": self.moments.from,
            "until": self.moments.until,
            "step": self.moments.step,
            "note": self.note,
        });
        // Nothing in it can end the script.
        let scene = scene.to_string().replace("</", r"<\/");
        Ok(format!(
            "<!doctype html><html><head><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src {prometheus}\"><title>not drawn</title>\
             <style>{charts_style}{STYLE}</style></head><body><script>{charts}</script><script>const SCENE = {scene};</script>\
             <script>{SCRIPT}</script></body></html>"
        ))
    }

    /// How large it is.
    ///
    /// # Errors
    /// Where the dashboard has no panels.
    pub fn size(&self) -> anyhow::Result<Size> {
        let panels = self.board.0["panels"].as_array().context("no panels")?;
        let end = |place: &serde_json::Value| Some(place["y"].as_u64()? + place["h"].as_u64()?);
        let units = panels
            .iter()
            .filter_map(|panel| end(&panel["gridPos"]))
            .max();
        let units = units.unwrap_or_default();
        ensure!(units > 0, "the panels have no height");
        Ok(Size {
            width: WIDTH,
            height: AROUND + GRID_UNIT * units,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const SETTINGS: &str = include_str!("../screenshots/settings.json");

    /// Objects whose keys are names of the dashboards' own.
    const FREE_KEYS: [&str; 3] = ["mappings[].options", "value[].options", "ByName"];

    /// Calls `found` with each setting in `value`, and its place.
    fn settings(value: &Value, place: &str, found: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => {
                let free = FREE_KEYS.iter().any(|end| place.ends_with(end));
                for (key, value) in map {
                    let key = if free { "*" } else { key };
                    let dot = if place.is_empty() { "" } else { "." };
                    settings(value, &format!("{place}{dot}{key}"), found);
                }
            }
            Value::Array(list) => {
                for value in list {
                    settings(value, &format!("{place}[]"), found);
                }
            }
            _ => found(place, value),
        }
    }

    /// What an override sets is listed as what panels set by default.
    fn overridden(place: &str) -> String {
        let set = "fieldConfig.overrides[].properties[].value";
        let field = |name: &str, rest: &str| format!("fieldConfig.defaults.{name}{rest}");
        match place.strip_prefix(set) {
            Some("") => field("unit", ""),
            Some(rest) if rest.starts_with(".steps") => field("thresholds", rest),
            Some(rest) if rest.starts_with("[].options") || rest == "[].type" => {
                field("mappings", rest)
            }
            _ => place.to_owned(),
        }
    }

    fn list(value: &Value) -> impl Iterator<Item = &str> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
    }

    #[test]
    fn the_page_draws_every_setting_of_every_panel() {
        let known: Value = serde_json::from_str(SETTINGS).unwrap();
        let free: BTreeSet<&str> = list(&known["any"]).collect();
        let unseen: Vec<&str> =
            list(&known["not in a still picture, or a matter of taste"]).collect();
        let mut strange = BTreeSet::new();
        for board in Dashboard::all().unwrap() {
            for panel in board.0["panels"].as_array().unwrap() {
                settings(panel, "", &mut |place, value| {
                    let place = overridden(place);
                    let is_unseen = unseen.iter().any(|known| match known.strip_suffix('*') {
                        Some(begin) => place.starts_with(begin),
                        None => place == *known,
                    });
                    let values = known["one of"][&place].as_array();
                    let is_drawn = values.is_some_and(|values| values.contains(value));
                    if !is_unseen && !is_drawn && !free.contains(&*place) {
                        strange.insert(format!("{place}: {value}"));
                    }
                });
            }
        }
        assert!(
            strange.is_empty(),
            "have tests/screenshots/page.js draw this, and list it in settings.json: {strange:#?}"
        );
    }

    /// The keys of the table `name` of the script, which has one on each line.
    fn keys(name: &str) -> BTreeSet<String> {
        let (_, rest) = SCRIPT.split_once(&format!("const {name} = {{\n")).unwrap();
        let (table, _) = rest.split_once("\n};").unwrap();
        let of_table = table
            .lines()
            .filter(|line| line.find(|character: char| character != ' ') == Some(2));
        let keys = of_table.filter_map(|line| line.trim().split([':', ',']).next());
        keys.filter(|key| !key.starts_with('}'))
            .map(|key| key.trim_matches('\'').to_owned())
            .collect()
    }

    #[test]
    fn what_is_listed_as_drawn_is_in_the_script() {
        let known: Value = serde_json::from_str(SETTINGS).unwrap();
        for (table, place) in [
            ("PANELS", "type"),
            ("UNITS", "fieldConfig.defaults.unit"),
            ("TRANSFORMATIONS", "transformations[].id"),
            ("PROPERTIES", "fieldConfig.overrides[].properties[].id"),
        ] {
            let listed = list(&known["one of"][place]).filter(|kind| *kind != "row");
            assert_eq!(keys(table), listed.map(str::to_owned).collect(), "{table}");
        }
        for place in list(&known["any"]) {
            let word = place.trim_end_matches(".*").rsplit('.').next().unwrap();
            assert!(SCRIPT.contains(word), "the script does not read {place}");
        }
    }

    #[test]
    fn annotations_and_colours_are_drawn() {
        let colours = SCRIPT.split_once("const COLOURS = {").unwrap().1;
        let colours = colours.split_once('}').unwrap().0;
        for board in Dashboard::all().unwrap() {
            for annotation in board.0["annotations"]["list"].as_array().unwrap() {
                let colour = annotation["iconColor"].as_str().unwrap();
                assert!(colours.contains(&format!("{colour}:")), "{colour}");
            }
            for panel in board.0["panels"].as_array().unwrap() {
                settings(panel, "", &mut |place, value| {
                    // Of a heatmap's scheme and exemplars, colours go by other names.
                    let of_options = place.starts_with("options.");
                    let is_colour = place.ends_with(".color") || place.ends_with(".fixedColor");
                    if is_colour && !of_options {
                        let colour = value.as_str().unwrap();
                        assert!(colours.contains(&format!("{colour}:")), "{place}: {colour}");
                    }
                });
            }
        }
    }

    #[test]
    fn every_dashboard_has_a_picture_that_the_readme_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        for board in Dashboard::all().unwrap() {
            let picture = format!("dashboards/screenshots/{}.png", board.name().unwrap());
            let size = fs::metadata(root.join(&picture)).unwrap().len();
            assert!(size < 300_000, "{picture} has {size} bytes");
            assert!(readme.contains(&picture), "{picture}");
        }
    }

    #[test]
    fn text_in_a_dashboard_cannot_end_the_script() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["uPlot.iife.min.js", "uPlot.min.css"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let board = Dashboard(json!({
            "title": "</script><script>fetch('http://example.org')</script>",
            "panels": [{"gridPos": {"y": 3, "h": 4}}, {"gridPos": {"y": 0, "h": 5}}],
        }));
        let page = Page {
            board: &board,
            chosen: Values::new(),
            prometheus: ([127, 0, 0, 1], 9090).into(),
            moments: Moments {
                from: 0.0,
                until: 1.0,
                step: 1.0,
            },
            note: "",
        };
        let html = page.html(folder.path()).unwrap();
        assert_eq!(
            html.matches("<script>").count(),
            4,
            "three of ours, one as text"
        );
        assert_eq!(html.matches("</script>").count(), 3);
        assert!(html.contains("connect-src http://127.0.0.1:9090\""));
        assert_eq!(page.size().unwrap().height, AROUND + 7 * GRID_UNIT);
    }
}
