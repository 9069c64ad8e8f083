// Draws a dashboard from its JSON, with figures from a real Prometheus: what Grafana shows, as near as plain charts come.
//
// SCENE holds the dashboard (board), Prometheus' address, the time range (from, until) and its step in seconds, what is chosen
// of the variables, and a note. What is drawn of a panel's settings is listed in settings.json; a test holds the dashboards to it.
'use strict';

const { board, prometheus, from, until, step, chosen, note } = SCENE;
const WIDTH = 1384, UNIT = 30, GAP = 8, FONT = '11px Inter, "DejaVu Sans", sans-serif';
const COLOURS = { green: '#73bf69', yellow: '#fade2a', red: '#f2495c', blue: '#5794f2', purple: '#b877d9', text: '#ccccdc' };
const PALETTE = ['#7eb26d', '#eab839', '#6ed0e0', '#ef843c', '#e24d42', '#1f78c1', '#ba43a9', '#705da0', '#508642', '#cca300'];
const DIM = '#8e8e9c', GRID = '#23252b', DARK = '#111217';

// What `table` has under `name`; what the page does not draw is an error rather than a gap.
function of(table, name) {
  if (!Object.hasOwn(table, name)) throw new Error(`the page does not draw ${name}`);
  return table[name];
}
const colour = (name) => of(COLOURS, name);

// ---- Queries

const variables = board.templating.list.filter(({ type }) => type === 'query');

function substituted(expr) {
  const values = { __interval: `${step}s`, __rate_interval: `${4 * step}s`, __range: `${until - from}s` };
  for (const { name, allValue } of variables) values[name] = chosen[name] ?? allValue;
  return expr.replace(/\$(\w+)/g, (_, name) => of(values, name));
}

const named = (format, labels) => format.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? '');

async function ask({ expr, instant, legendFormat = '', refId }) {
  const asked = new URLSearchParams({ query: substituted(expr) });
  if (instant) asked.set('time', until);
  else for (const [name, value] of Object.entries({ start: from, end: until, step })) asked.set(name, value);
  const answer = await fetch(`${prometheus}/api/v1/query${instant ? '' : '_range'}`, { method: 'POST', body: asked });
  const { status, data, error } = await answer.json();
  if (status !== 'success') throw new Error(`${expr}: ${error}`);
  return data.result.map(({ metric, value, values }) => ({
    labels: metric,
    refId,
    name: named(legendFormat, metric).trim(),
    points: (values ?? [value]).map(([time, value]) => [time, Number(value)]),
  }));
}

const last = (series) => series.points.findLast(([, value]) => Number.isFinite(value))?.[1];

// ---- Values

const three = (value) => Number(value.toPrecision(3)).toLocaleString('en');
const scaled = (...scales) => (value) => {
  const [size, name] = (value !== 0 && scales.find(([size]) => Math.abs(value) >= size)) || scales.findLast(([size]) => size >= 1);
  return three(value / size) + name;
};
const age = (seconds) => {
  const [count, unit] = seconds < 5400 ? [seconds / 60, 'minute'] : [seconds / 3600, 'hour'];
  if (seconds < 45) return 'a few seconds ago';
  return Math.round(count) === 1 ? `${unit === 'hour' ? 'an' : 'a'} ${unit} ago` : `${Math.round(count)} ${unit}s ago`;
};
const UNITS = {
  none: scaled([1, '']),
  short: scaled([1e9, ' Bil'], [1e6, ' Mil'], [1e3, ' K'], [1, '']),
  cps: scaled([1e6, 'M c/s'], [1e3, 'K c/s'], [1, ' c/s']),
  Bps: scaled([1e9, ' GB/s'], [1e6, ' MB/s'], [1e3, ' kB/s'], [1, ' B/s']),
  bytes: scaled([2 ** 30, ' GiB'], [2 ** 20, ' MiB'], [2 ** 10, ' KiB'], [1, ' B']),
  s: scaled([86400, ' d'], [3600, ' h'], [60, ' min'], [1, ' s'], [1e-3, ' ms'], [1e-6, ' µs'], [1e-9, ' ns']),
  percentunit: (value) => `${three(100 * value)}%`,
  dateTimeFromNow: (value) => age(until - value / 1000),
};
const shown = (value, unit) => of(UNITS, unit)(value);

// The word and the colour of a value, by mappings and thresholds.
function look(value, { unit, mappings = [], thresholds }) {
  const meaning = mappings.map(({ options }) => options[String(value)]).find(Boolean);
  if (meaning) return { text: meaning.text, paint: colour(meaning.color) };
  const reached = thresholds.steps.findLast((step) => step.value === null || value >= step.value);
  return { text: shown(value, unit), paint: colour(reached.color) };
}

// ---- Elements

function element(parent, tag, text = '', style = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  Object.assign(made.style, style);
  parent.append(made);
  return made;
}

function division(parent, name, style = {}) {
  const made = element(parent, 'div', '', style);
  made.className = name;
  return made;
}

function canvas(parent, width, height) {
  const made = element(parent, 'canvas', '', { width: `${width}px`, height: `${height}px` });
  [made.width, made.height] = [width, height];
  return made.getContext('2d');
}

function legend(body, entries) {
  const made = division(body, 'legend');
  for (const [name, paint] of entries) {
    const entry = element(made, 'b');
    element(entry, 'i', '', { background: paint });
    entry.append(name);
  }
  return made;
}

const clock = (time) => new Date(time * 1000).toISOString().slice(11, 19);
const share = (time) => (time - from) / (until - from);

function timeAxis(body, left) {
  const axis = division(body, 'times', { marginLeft: left });
  for (const part of [0, 0.25, 0.5, 0.75]) element(axis, 'span', clock(from + part * (until - from)));
}

// ---- Panels

function stat(body, all, { fieldConfig: { defaults } }) {
  const row = division(body, 'stats');
  for (const series of all) {
    const { text, paint } = look(last(series), defaults);
    const plain = paint === COLOURS.text;
    const cell = division(row, 'stat', plain ? {} : { background: `linear-gradient(120deg, ${paint}, ${paint}cc)`, color: DARK });
    spark(cell, series, plain ? COLOURS.text : '#ffffff');
    if (all.length > 1) element(cell, 'small', series.name);
    element(cell, 'span', text, text.length > 10 ? { fontSize: '18px' } : {});
  }
}

function spark(cell, { points }, paint) {
  const values = points.map(([, value]) => value).filter(Number.isFinite);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  if (points.length < 2 || least === most) return;
  const [width, height] = [cell.clientWidth, Math.round(cell.clientHeight * 0.45)];
  const pen = canvas(cell, width, height);
  pen.moveTo(share(points[0][0]) * width, height);
  for (const [time, value] of points) pen.lineTo(share(time) * width, height - ((value - least) / (most - least)) * (height - 3));
  pen.lineTo(width, height);
  pen.fillStyle = `${paint}40`;
  pen.fill();
}

function bargauge(body, all, { fieldConfig: { defaults } }) {
  const bars = all.map((series) => [series.name, last(series)]).sort((a, b) => b[1] - a[1]);
  for (const [name, value] of bars) {
    const { text, paint } = look(value, defaults);
    const filled = defaults.color.mode === 'fixed' ? colour(defaults.color.fixedColor) : paint;
    const bar = division(body, 'bar');
    element(bar, 'span', name);
    const width = `${(100 * value) / bars[0][1]}%`;
    element(element(bar, 'div'), 'div', '', { width, background: `linear-gradient(90deg, ${filled}66, ${filled})` });
    element(bar, 'span', text, { color: filled });
  }
}

// Steps between the marks of an axis: round in the unit's own terms.
const INCREMENTS = {
  bytes: Array.from({ length: 50 }, (_, power) => 2 ** power),
  s: [1e-6, 1e-3].flatMap((size) => [1, 2, 5, 10, 20, 50, 100, 200, 500].map((count) => count * size))
    .concat([1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]),
};

function timeseries(body, all, panel, marks) {
  const { defaults } = panel.fieldConfig;
  const { custom, unit, thresholds } = defaults;
  const stacked = custom.stacking.mode === 'normal';
  const moments = Array.from({ length: Math.floor((until - from) / step) + 1 }, (_, at) => from + at * step);
  const drawn = all.map(({ points }) => {
    const at = new Map(points.map(([time, value]) => [Math.round((time - from) / step), value]));
    return moments.map((_, index) => (Number.isFinite(at.get(index)) ? at.get(index) : null));
  });
  // What is below each value of a stack; a series that is absent is as high as those below it.
  const below = drawn.map((values) => values.map(() => 0));
  if (stacked) {
    for (let upper = 1; upper < drawn.length; upper++) {
      below[upper] = below[upper].map((_, at) => drawn[upper - 1][at] ?? below[upper - 1][at]);
      drawn[upper] = drawn[upper].map((value, at) => (value === null ? null : value + below[upper][at]));
    }
  }
  const paint = (at) => PALETTE[at % PALETTE.length];
  const area = Math.round(custom.fillOpacity * 2.55).toString(16).padStart(2, '0');
  const values = drawn.flat().filter((value) => value !== null);
  const [least, most] = [defaults.min ?? Math.min(0, ...values), defaults.max ?? (Math.max(...values) * 1.1 || 1)];

  const shownNames = panel.options.legend.showLegend ? all : [];
  const names = legend(body, shownNames.map(({ name }, at) => [name, paint(at)]));
  const place = division(body, 'plot');
  body.prepend(place);
  const axis = { stroke: DIM, grid: { stroke: GRID, width: 1 }, ticks: { show: false }, font: FONT };
  const lines = thresholds.steps.filter(({ value }) => value !== null && custom.thresholdsStyle.mode === 'line');
  const under = ({ ctx: pen, bbox, valToPos }) => {
    if (!stacked) return;
    pen.save();
    drawn.forEach((values, series) => {
      pen.fillStyle = paint(series) + area;
      const place = (index, value) => [bbox.left + share(moments[index]) * bbox.width, valToPos(value, 'y', true)];
      for (let begin = 0, end = 0; begin < values.length; begin = end + 1) {
        for (end = begin; end < values.length && values[end] !== null; end++);
        const run = Array.from({ length: end - begin }, (_, at) => begin + at);
        pen.beginPath();
        for (const index of run) pen.lineTo(...place(index, values[index]));
        for (const index of run.reverse()) pen.lineTo(...place(index, below[series][index]));
        pen.fill();
      }
    });
    pen.restore();
  };
  const over = ({ ctx: pen, bbox, valToPos }) => {
    pen.save();
    for (const { value, color } of lines) {
      if (value > most) continue;
      pen.fillStyle = colour(color);
      pen.fillRect(bbox.left, Math.round(valToPos(value, 'y', true)), bbox.width, 1.5);
    }
    pen.setLineDash([4, 3]);
    for (const { time, color } of marks) {
      pen.strokeStyle = pen.fillStyle = colour(color);
      const x = Math.round(bbox.left + share(time) * bbox.width) + 0.5;
      pen.beginPath();
      pen.moveTo(x, bbox.top);
      pen.lineTo(x, bbox.top + bbox.height);
      pen.stroke();
      pen.beginPath();
      pen.moveTo(x - 4, bbox.top + bbox.height + 5);
      pen.lineTo(x + 4, bbox.top + bbox.height + 5);
      pen.lineTo(x, bbox.top + bbox.height);
      pen.fill();
    }
    pen.restore();
  };
  // A label at the very end has no room.
  const inside = (time) => (share(time) < 0.94 ? clock(time) : '');
  new uPlot({
    width: body.clientWidth - 8, height: body.clientHeight - names.offsetHeight - 6, padding: [8, 10, 0, 0],
    legend: { show: false }, cursor: { show: false },
    scales: { x: { range: () => [from, until] }, y: { range: () => [least, most] } },
    axes: [
      { ...axis, space: 90, size: 26, gap: 6, values: (_, times) => times.map(inside) },
      { ...axis, space: 34, size: 66, gap: 6, incrs: INCREMENTS[unit], values: (_, values) => values.map((value) => shown(value, unit)) },
    ],
    series: [{}, ...drawn.map((_, at) => ({
      stroke: paint(at), fill: stacked ? undefined : paint(at) + area, width: 1.2 * custom.lineWidth, points: { show: false }, spanGaps: false,
    }))],
    hooks: { drawAxes: [under], draw: [over] },
  }, [moments, ...drawn], place);
}

function timeline(body, all, { fieldConfig: { defaults }, gridPos }) {
  const height = Math.max(9, Math.min(40, Math.floor((body.clientHeight - 46) / all.length) - 2));
  const names = gridPos.w > 12 ? '20%' : '34%';
  const seen = new Map();
  for (const { name, points } of all) {
    const lane = division(body, 'lane', {
      height: `${height + 2}px`, fontSize: `${Math.min(11, height)}px`, gridTemplateColumns: `${names} 1fr`,
    });
    element(lane, 'span', name);
    const track = element(lane, 'div', '', { height: `${height}px`, lineHeight: `${height}px` });
    for (let begin = 0, at = 1; at <= points.length; at++) {
      const goes = at < points.length && points[at][1] === points[begin][1] && points[at][0] - points[at - 1][0] < 1.5 * step;
      if (goes) continue;
      const { text, paint } = look(points[begin][1], defaults);
      seen.set(text, paint);
      const left = 100 * share(points[begin][0]);
      const width = 100 * share(Math.min(until, points[at - 1][0] + step)) - left;
      const plain = paint === COLOURS.text;
      element(track, 'span', width > 4 ? text : '', {
        left: `${left}%`, width: `${width}%`, background: paint + (plain ? '33' : 'd0'), color: plain ? paint : DARK,
      });
      begin = at;
    }
  }
  timeAxis(body, `calc(${names} + 8px)`);
  legend(body, seen);
}

function heatmap(body, all, panel) {
  const { color, filterValues, yAxis } = panel.options;
  const rows = all.map((series) => [Number(series.labels.le.replace('+Inf', 'Infinity')), series]).sort((a, b) => a[0] - b[0]);
  const [width, height] = [body.clientWidth - 16, body.clientHeight - 26];
  const pen = canvas(body, width, height);
  // What came in under one bound and not under the next lower one.
  const cells = rows.map(([, { points }], at) => {
    const below = new Map(at === 0 ? [] : rows[at - 1][1].points);
    return points.map(([time, value]) => [time, Math.max(0, value - (below.get(time) ?? 0))]);
  });
  const most = Math.max(...cells.flat().map(([, value]) => value));
  const left = 62, high = height / rows.length, wide = ((width - left) * step) / (until - from);
  pen.font = FONT;
  cells.forEach((row, at) => {
    const y = height - (at + 1) * high;
    pen.fillStyle = DIM;
    if (at % 3 === 0) pen.fillText(Number.isFinite(rows[at][0]) ? shown(rows[at][0], yAxis.unit) : 'more', 2, y + high);
    for (const [time, value] of row) {
      if (value <= filterValues.le) continue;
      pen.fillStyle = `rgba(255, 120, 10, ${0.1 + 0.9 * (value / most) ** color.exponent})`;
      pen.fillRect(left + (width - left) * share(time), y, Math.max(1, wide - 1), high - 1);
    }
  });
  timeAxis(body, `${left}px`);
}

// Each takes tables of rows and gives tables of rows; a row is an object by field.
const TRANSFORMATIONS = {
  joinByField: (tables, { byField }) => {
    const joined = new Map();
    for (const row of tables.flat()) joined.set(row[byField], { ...joined.get(row[byField]), ...row });
    return [[...joined.values()]];
  },
  filterFieldsByName: (tables, { include }) => tables.map((table) => table.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([name]) => new RegExp(include.pattern).test(name))))),
  organize: (tables, { indexByName, renameByName }) => tables.map((table) => table.map((row) => {
    const names = Object.keys(indexByName).sort((a, b) => indexByName[a] - indexByName[b]);
    return Object.fromEntries(names.map((name) => [renameByName[name] ?? name, row[name]]));
  })),
};

const PROPERTIES = {
  unit: (field, value) => { field.unit = value; },
  thresholds: (field, value) => { field.thresholds = value; },
  mappings: (field, value) => { field.mappings = value; },
  'custom.cellOptions': (field) => { field.filled = true; },
  links: (field) => { field.linked = true; },
};

function table(body, all, panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const frames = panel.targets.map(({ refId }) => all.filter((series) => series.refId === refId)
    .map((series) => ({ ...series.labels, [`Value #${refId}`]: last(series) })));
  const [rows] = panel.transformations.reduce((tables, { id, options }) => of(TRANSFORMATIONS, id)(tables, options), frames);
  const fields = Object.keys(rows[0]).map((name) => {
    const field = { ...defaults, name };
    const own = overrides.filter(({ matcher }) => matcher.options === name).flatMap(({ properties }) => properties);
    for (const { id, value } of own) of(PROPERTIES, id)(field, value);
    return field;
  });
  const [{ displayName, desc }] = panel.options.sortBy;
  rows.sort((a, b) => (desc ? -1 : 1) * ((a[displayName] ?? -1) - (b[displayName] ?? -1)));
  const made = element(body, 'table');
  const head = element(made, 'tr');
  for (const { name } of fields) element(head, 'th', name === displayName ? `${name} ${desc ? '↓' : '↑'}` : name);
  for (const row of rows) {
    const line = element(made, 'tr');
    for (const field of fields) {
      const value = row[field.name];
      const { text, paint } = typeof value === 'number' ? look(value, field) : { text: value ?? '', paint: COLOURS.text };
      const filled = field.filled && paint !== COLOURS.text;
      element(line, 'td', text, filled ? { background: paint, color: DARK } : field.linked ? { color: '#6e9fff' } : {});
    }
  }
}

const PANELS = {
  stat,
  bargauge,
  timeseries,
  'state-timeline': timeline,
  heatmap,
  table,
};

async function draw(panel, parent, marks) {
  const { x, y, w, h } = panel.gridPos;
  const column = (WIDTH + GAP) / 24;
  const section = element(parent, 'section', '', {
    left: `${x * column}px`, top: `${y * (UNIT + GAP)}px`, width: `${w * column - GAP}px`, height: `${h * (UNIT + GAP) - GAP}px`,
  });
  if (panel.type === 'row') {
    section.className = 'row';
    section.textContent = panel.title;
    return;
  }
  element(section, 'h2', panel.title);
  const body = division(section, 'body');
  const all = (await Promise.all(panel.targets.map(ask))).flat().filter((series) => last(series) !== undefined);
  if (all.length === 0) division(body, 'none').textContent = 'No data';
  else of(PANELS, panel.type)(body, all, panel, marks);
}

// When what an annotation tells of happened: its value, as time in seconds. Grafana marks the moment of its next query after that.
async function marks({ expr, iconColor, name }) {
  const times = (await ask({ expr })).flatMap(({ points }) => points.map(([, value]) => value));
  return [...new Set(times.map(Math.round))].filter((time) => time > from && time < until)
    .map((time) => ({ time, name, color: iconColor }));
}

async function page() {
  const header = element(document.body, 'header');
  element(header, 'h1', board.title);
  element(header, 'span', note);
  element(header, 'time', `${clock(from)} to ${clock(until)} UTC`);
  const bar = element(document.body, 'nav');
  const choice = (title, value) => {
    const chip = element(bar, 'div');
    element(chip, 'span', title);
    element(chip, 'b', value);
  };
  for (const { name, label, type, current } of board.templating.list) {
    choice(label, type === 'datasource' ? 'Prometheus' : chosen[name] ?? current?.text ?? '');
  }
  for (const { name, iconColor } of board.annotations.list) {
    const entry = element(bar, 'em', name);
    element(entry, 'i', '', { borderBottomColor: colour(iconColor) });
  }
  const all = (await Promise.all(board.annotations.list.map(marks))).flat();
  const parent = element(document.body, 'main');
  await document.fonts.ready;
  await Promise.all(board.panels.map((panel) => draw(panel, parent, all)));
}

page().then(
  () => { document.title = 'drawn'; },
  (error) => { document.body.textContent = `not drawn: ${error.stack}`; },
);
