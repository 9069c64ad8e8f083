//! A whole dashboard: its rows, variables and annotations.

use serde_json::{Value, json};

use super::{ANNOTATION_STEP, COLUMNS, Panel, TAG, datasource};

/// Panels under a heading.
pub(in crate::dashboards) struct Row {
    pub(in crate::dashboards) title: &'static str,
    pub(in crate::dashboards) panels: Vec<Panel>,
}

/// What a dashboard shows before anybody has chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::dashboards) enum Opening {
    /// All hosts.
    Fleet,
    /// The first one: panels have lines for each of those that are chosen, and a fleet would be thousands.
    OneHost,
}

/// A dashboard.
pub(in crate::dashboards) struct Board {
    /// In the repository.
    pub(in crate::dashboards) path: &'static str,
    /// Fixed for ever, as links name it.
    pub(in crate::dashboards) uid: &'static str,
    pub(in crate::dashboards) title: &'static str,
    pub(in crate::dashboards) description: &'static str,
    /// Grafana's notation.
    pub(in crate::dashboards) since: &'static str,
    pub(in crate::dashboards) opening: Opening,
    pub(in crate::dashboards) annotations: Vec<Annotation>,
    pub(in crate::dashboards) rows: Vec<Row>,
}

/// Moments marked in every panel.
pub(in crate::dashboards) struct Annotation {
    pub(in crate::dashboards) name: &'static str,
    pub(in crate::dashboards) expr: String,
    pub(in crate::dashboards) colour: &'static str,
}

impl Board {
    pub(in crate::dashboards) fn json(&self) -> Value {
        let annotations: Vec<Value> = self
            .annotations
            .iter()
            .map(|annotation| {
                json!({
                    "name": annotation.name,
                    "datasource": datasource(),
                    "enable": true,
                    "hide": false,
                    "iconColor": annotation.colour,
                    "expr": annotation.expr,
                    "step": format!("{ANNOTATION_STEP}s"),
                    "titleFormat": annotation.name,
                    "textFormat": "{{instance}}",
                })
            })
            .collect();
        json!({
            "uid": self.uid,
            "id": null,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": 39,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "weekStart": "",
            "timezone": "browser",
            "refresh": "1m",
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "links": [{
                "title": "Audit collector", "type": "dashboards", "tags": [TAG], "asDropdown": true,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
                "tooltip": "", "url": "",
            }],
            "annotations": {"list": annotations},
            "templating": {"list": variables(self.opening)},
            "panels": self.panels(),
        })
    }

    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let (mut id, mut y) = (0, 0);
        for row in &self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    y += tallest;
                    (x, tallest) = (0, 0);
                }
                id += 1;
                panels.push(panel.json(id, x, y));
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        panels
    }
}

fn variables(opening: Opening) -> Value {
    let of_label = |name: &str, label: &str, title: &str, all: &str, after: &str| {
        let query = format!("label_values(audit_collector_build_info{{{after}}}, {label})");
        json!({
            "name": name, "label": title, "type": "query", "datasource": datasource(),
            "query": {"query": query, "refId": name, "qryType": 1},
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": all,
            "current": {"text": "All", "value": "$__all"}, "hide": 0, "regex": "", "options": [],
            "skipUrlSync": false,
        })
    };
    let mut instance = of_label(
        "instance",
        "instance",
        "Instance",
        ".+",
        r#"cluster=~"$cluster",job=~"$job""#,
    );
    if opening == Opening::OneHost {
        instance["includeAll"] = json!(false);
        // Grafana then chooses the first.
        if let Some(instance) = instance.as_object_mut() {
            instance.remove("current");
        }
    }
    json!([
        {
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "refresh": 1, "multi": false, "includeAll": false, "hide": 0, "regex": "", "options": [],
            "skipUrlSync": false,
        },
        // Many have no such label, which an empty value matches.
        of_label("cluster", "cluster", "Cluster", ".*", ""),
        of_label("job", "job", "Job", ".+", r#"cluster=~"$cluster""#),
        instance,
    ])
}
