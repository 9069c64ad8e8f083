//! Grafana's dashboard JSON (classic model, schemaVersion 39): typed builders for the few kinds of panel in use.
//!
//! Owns the form: identifiers, layout, colours, data source. What is shown is the dashboards' own.

mod board;

use serde_json::{Map, Value, json};

pub(super) use board::{Annotation, Board, Opening, Row};

/// Tags and links by which the dashboards find each other.
const TAG: &str = "audit-collector";
const COLUMNS: u32 = 24;
/// Seconds between the moments for which an annotation is asked.
pub(super) const ANNOTATION_STEP: u32 = 60;
/// The label by which a table of hosts is joined.
pub(super) const HOST_KEY: &str = "host";

/// What a value is a measure of, by Grafana's name for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    PerSecond,
    Seconds,
    Bytes,
    BytesPerSecond,
    /// 0 to 1.
    Ratio,
    /// Milliseconds since 1970, shown as an age.
    Age,
    /// Cores.
    Cores,
    /// A value that a mapping or a label puts into words.
    Words,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::PerSecond => "cps",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "Bps",
            Self::Ratio => "percentunit",
            Self::Age => "dateTimeFromNow",
            Self::Cores => "none",
            Self::Words => "none",
        }
    }
}

/// What colour a value has: green, and from each bound on the colour beside it.
pub(super) type Steps = &'static [(f64, &'static str)];

/// Anything but nothing is bad.
pub(super) const NOT_ONE: Steps = &[(1.0, RED)];
/// Anything but nothing deserves a look.
pub(super) const NOT_ONE_MILD: Steps = &[(1.0, YELLOW)];
/// The same of what is counted per second: once in a week is more than nothing too.
pub(super) const NONE_PER_SECOND: Steps = &[(1e-6, RED)];
/// The same, milder.
pub(super) const NONE_PER_SECOND_MILD: Steps = &[(1e-6, YELLOW)];
/// Every value is as good as any other.
pub(super) const PLAIN: Steps = &[];

pub(super) const YELLOW: &str = "yellow";
pub(super) const RED: &str = "red";

/// Numbers that stand for something: the number, its word, its colour.
pub(super) type Meanings = &'static [(&'static str, &'static str, &'static str)];

/// One query.
pub(super) struct Query {
    expr: String,
    legend: &'static str,
}

/// What a panel shows its values as.
#[derive(Clone, Copy)]
enum Kind {
    TimeSeries { stacked: bool },
    Stat,
    Once,
    BarGauge,
    Heatmap,
    Timeline,
    Table,
}

/// A label of the first column's series that has a column of its own.
pub(super) struct Word {
    pub(super) title: &'static str,
    pub(super) label: &'static str,
    /// What it leads to, where it leads anywhere; `${__value.raw}` stands for it.
    pub(super) link: Option<(&'static str, String)>,
}

/// A column of a table: one value per host.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) expr: String,
    pub(super) unit: Unit,
    pub(super) steps: Steps,
    pub(super) meanings: Meanings,
}

/// A panel.
pub(super) struct Panel {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: Unit,
    steps: Steps,
    meanings: Meanings,
    queries: Vec<Query>,
    words: Vec<Word>,
    columns: Vec<Column>,
    width: u32,
    height: u32,
}

impl Panel {
    fn new(kind: Kind, title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self {
            kind,
            title,
            description,
            unit,
            steps: PLAIN,
            meanings: &[],
            queries: Vec::new(),
            words: Vec::new(),
            columns: Vec::new(),
            width: 8,
            height: 7,
        }
    }

    /// Lines over time.
    pub(super) fn lines(title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self::new(
            Kind::TimeSeries { stacked: false },
            title,
            description,
            unit,
        )
    }

    /// Areas over time that add up.
    pub(super) fn areas(title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self::new(Kind::TimeSeries { stacked: true }, title, description, unit)
    }

    /// One number, or one per series.
    pub(super) fn number(title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self::new(Kind::Stat, title, description, unit).sized(4, 4)
    }

    /// One number without a graph behind it: asked once, where each point of a graph would be as dear.
    pub(super) fn once(title: &'static str, description: &'static str) -> Self {
        Self::new(Kind::Once, title, description, Unit::Count).sized(6, 4)
    }

    /// One bar per series, as of now.
    pub(super) fn bars(title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self::new(Kind::BarGauge, title, description, unit)
    }

    /// A histogram over time.
    pub(super) fn heatmap(title: &'static str, description: &'static str, unit: Unit) -> Self {
        Self::new(Kind::Heatmap, title, description, unit)
    }

    /// What state something was in, over time.
    pub(super) fn timeline(title: &'static str, description: &'static str, of: Meanings) -> Self {
        let mut panel = Self::new(Kind::Timeline, title, description, Unit::Words);
        panel.meanings = of;
        panel
    }

    /// A row per host. `columns[0]` decides which hosts are there, and the order: its greatest value comes first, and of equal ones
    /// that with the greatest of `columns[1]`. `words` stand behind it.
    pub(super) fn hosts(
        title: &'static str,
        description: &'static str,
        words: Vec<Word>,
        columns: Vec<Column>,
    ) -> Self {
        let mut panel = Self::new(Kind::Table, title, description, Unit::Words).sized(24, 12);
        panel.words = words;
        panel.columns = columns;
        panel
    }

    /// Adds a query; `legend` names its series by their labels.
    pub(super) fn query(mut self, expr: impl Into<String>, legend: &'static str) -> Self {
        let expr = expr.into();
        self.queries.push(Query { expr, legend });
        self
    }

    /// Colours.
    pub(super) fn steps(mut self, steps: Steps) -> Self {
        self.steps = steps;
        self
    }

    /// Words in place of numbers.
    pub(super) fn meanings(mut self, meanings: Meanings) -> Self {
        self.meanings = meanings;
        self
    }

    /// In twenty-fourths of the width and units of 30 pixels.
    pub(super) fn sized(mut self, width: u32, height: u32) -> Self {
        self.width = width;
        self.height = height;
        self
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let (kind, options) = self.options();
        let mut panel = json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": options,
            "targets": self.targets(),
        });
        if let Kind::Table = self.kind {
            panel["transformations"] = self.transformations();
        }
        panel
    }

    fn options(&self) -> (&'static str, Value) {
        let now = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        let legend = json!({
            "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [],
        });
        match self.kind {
            Kind::TimeSeries { .. } => (
                "timeseries",
                json!({"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}),
            ),
            Kind::Stat | Kind::Once => (
                "stat",
                json!({
                    "reduceOptions": now, "colorMode": "background", "graphMode": "area",
                    "justifyMode": "auto", "orientation": "auto", "textMode": "auto", "wideLayout": true,
                    "showPercentChange": false, "percentChangeColorMode": "standard",
                }),
            ),
            Kind::BarGauge => (
                "bargauge",
                json!({
                    "reduceOptions": now, "displayMode": "gradient", "orientation": "horizontal",
                    "showUnfilled": true, "valueMode": "color", "namePlacement": "auto",
                    "sizing": "auto", "minVizHeight": 16, "minVizWidth": 8, "maxVizHeight": 300,
                    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
                }),
            ),
            Kind::Heatmap => (
                "heatmap",
                json!({
                    "calculate": false, "cellGap": 1, "showValue": "never",
                    "color": {
                        "mode": "scheme", "scheme": "Oranges", "steps": 32, "exponent": 0.5,
                        "fill": "dark-orange", "reverse": false,
                    },
                    "yAxis": {"unit": self.unit.name(), "axisPlacement": "left"},
                    "tooltip": {"mode": "single", "showColorScale": false, "yHistogram": false},
                    "legend": {"show": true},
                    "exemplars": {"color": "rgba(255,0,255,0.7)"},
                    "rowsFrame": {"layout": "auto"},
                    "filterValues": {"le": 1e-9},
                }),
            ),
            Kind::Timeline => (
                "state-timeline",
                json!({
                    "legend": legend, "tooltip": {"mode": "single", "sort": "none"},
                    "mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
                }),
            ),
            Kind::Table => (
                "table",
                json!({
                    "showHeader": true, "cellHeight": "sm", "frameIndex": 0,
                    "sortBy": [
                        {"displayName": self.columns[0].title, "desc": true},
                        {"displayName": self.columns[1].title, "desc": true},
                    ],
                }),
            ),
        }
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({
            "unit": self.unit.name(),
            "thresholds": thresholds(self.steps),
            "mappings": mappings(self.meanings),
            "color": {"mode": "thresholds"},
        });
        if self.unit == Unit::Ratio {
            defaults["min"] = json!(0);
            defaults["max"] = json!(1);
        }
        match self.kind {
            Kind::TimeSeries { stacked } => {
                defaults["color"] = json!({"mode": "palette-classic"});
                if !matches!(self.unit, Unit::Ratio | Unit::Age) {
                    defaults["min"] = json!(0);
                }
                let shown = if self.steps.is_empty() { "off" } else { "line" };
                defaults["custom"] = json!({
                    "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
                    "fillOpacity": if stacked { 40 } else { 8 }, "showPoints": "never",
                    "spanNulls": false, "thresholdsStyle": {"mode": shown},
                    "stacking": {"group": "A", "mode": if stacked { "normal" } else { "none" }},
                });
            }
            Kind::Timeline => {
                defaults["custom"] = json!({"fillOpacity": 70, "lineWidth": 0});
            }
            Kind::Table => {
                defaults["custom"] = json!({"align": "auto", "filterable": true, "inspect": false});
            }
            // Without bounds a bar is as good as any other, and no shade of the text.
            Kind::BarGauge if self.steps.is_empty() => {
                defaults["color"] = json!({"mode": "fixed", "fixedColor": "blue"});
            }
            Kind::Stat | Kind::Once | Kind::BarGauge | Kind::Heatmap => {}
        }
        defaults
    }

    fn targets(&self) -> Vec<Value> {
        let target = |at: usize, expr: &str, legend: &str, instant: bool, format: &str| {
            json!({
                "refId": letter(at),
                "datasource": datasource(),
                "expr": expr,
                "legendFormat": legend,
                "instant": instant,
                "range": !instant,
                "format": format,
                "editorMode": "code",
            })
        };
        if let Kind::Table = self.kind {
            let columns = self.columns.iter().enumerate();
            return columns
                .map(|(at, column)| target(at, &column.expr, "", true, "table"))
                .collect();
        }
        let (instant, format) = match self.kind {
            Kind::BarGauge | Kind::Once => (true, "time_series"),
            Kind::Heatmap => (false, "heatmap"),
            _ => (false, "time_series"),
        };
        let queries = self.queries.iter().enumerate();
        queries
            .map(|(at, query)| target(at, &query.expr, query.legend, instant, format))
            .collect()
    }

    /// Joins the columns' tables by host, and names them.
    fn transformations(&self) -> Value {
        let host = ("instance".to_owned(), "Host");
        let mut columns = self.columns.iter().enumerate().map(|(at, column)| {
            let field = format!("Value #{}", letter(at));
            (field, column.title)
        });
        let first = columns.next();
        let words = self.words.iter();
        let words = words.map(|word| (word.label.to_owned(), word.title));
        let fields = std::iter::once(host)
            .chain(first)
            .chain(words)
            .chain(columns);
        let (mut names, mut order) = (Map::new(), Map::new());
        for (at, (field, title)) in fields.enumerate() {
            order.insert(field.clone(), json!(at));
            names.insert(field, json!(title));
        }
        let labels: Vec<&str> = self.words.iter().map(|word| word.label).collect();
        let shown = format!("^(instance|{}|Value.*)$", labels.join("|"));
        json!([
            {"id": "joinByField", "options": {"byField": HOST_KEY, "mode": "outer"}},
            {"id": "filterFieldsByName", "options": {"include": {"pattern": shown}}},
            {"id": "organize", "options": {
                "excludeByName": {}, "includeByName": {}, "indexByName": order, "renameByName": names,
            }},
        ])
    }

    fn overrides(&self) -> Vec<Value> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        let link = |column: &str, title: &str, url: &str| {
            json!({
                "matcher": {"id": "byName", "options": column},
                "properties": [{"id": "links", "value": [{"title": title, "url": url}]}],
            })
        };
        let detail = format!(
            "/d/{}?var-datasource=${{datasource}}&var-cluster=${{__data.fields.Cluster}}&var-job=${{__data.fields.Job}}\
             &var-instance=${{__value.raw}}&${{__url_time_range}}",
            super::host::UID,
        );
        let host = link("Host", "This host in detail", &detail);
        let words = self.words.iter().filter_map(|word| {
            let (title, url) = word.link.as_ref()?;
            Some(link(word.title, title, url))
        });
        let columns = self.columns.iter().map(|column| {
            let mut properties = vec![
                json!({"id": "unit", "value": column.unit.name()}),
                json!({"id": "thresholds", "value": thresholds(column.steps)}),
                json!({"id": "mappings", "value": mappings(column.meanings)}),
            ];
            if !column.steps.is_empty() || !column.meanings.is_empty() {
                let cell = json!({"type": "color-background", "mode": "basic"});
                properties.push(json!({"id": "custom.cellOptions", "value": cell}));
            }
            json!({
                "matcher": {"id": "byName", "options": column.title},
                "properties": properties,
            })
        });
        std::iter::once(host).chain(words).chain(columns).collect()
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn thresholds(steps: Steps) -> Value {
    let base = if steps.is_empty() { "text" } else { "green" };
    let mut list = vec![json!({"color": base, "value": null})];
    list.extend(
        steps
            .iter()
            .map(|(value, color)| json!({"color": color, "value": value})),
    );
    json!({"mode": "absolute", "steps": list})
}

fn mappings(meanings: Meanings) -> Value {
    if meanings.is_empty() {
        return json!([]);
    }
    let options: Map<String, Value> = meanings
        .iter()
        .enumerate()
        .map(|(index, (value, text, color))| {
            (
                (*value).to_owned(),
                json!({"text": text, "color": color, "index": index}),
            )
        })
        .collect();
    json!([{"type": "value", "options": options}])
}

/// `A`, `B` …, as Grafana names queries.
fn letter(at: usize) -> char {
    char::from(b'A' + u8::try_from(at).expect("a panel has few queries"))
}
