// Draws the charts of a report, and lets the reader colour and select codes, and decode new ones.
"use strict";

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
let isDark, INK, COLOURS, CONFIG, OPTIONS;

function takeColours(dark) {
  isDark = dark;
  INK = isDark ? "#e8eaee" : "#1f2430";
  COLOURS = isDark
    ? ["#7fb2ec", "#f0a35e", "#7fd1a0", "#e58ac0", "#d8cc5f", "#a99af0", "#e9837a", "#9aa6b5"]
    : ["#1f5fa8", "#d1701a", "#23864f", "#a83279", "#8a7a00", "#5b46b8", "#c1442e", "#6b7480"];
  const soft = isDark ? "#353c47" : "#d9dee6";
  CONFIG = {
    background: "transparent", font: "system-ui, sans-serif", view: {stroke: null},
    axis: {labelColor: INK, titleColor: INK, gridColor: soft, domainColor: soft, tickColor: soft, titleFontWeight: "normal",
      labelFontSize: 12, titleFontSize: 12}, axisX: {labelFlush: false},
    legend: {labelColor: INK, titleColor: INK, orient: "top", titleFontWeight: "normal", labelFontSize: 12},
    header: {labelColor: INK, titleColor: INK}, range: {category: COLOURS},
    bar: {color: COLOURS[0]}, point: {color: COLOURS[0]},
  };
  OPTIONS = {renderer: "svg", config: CONFIG, actions: false, tooltip: {theme: isDark ? "dark" : "light"}};
}
takeColours(darkScheme.matches);

// -- charts: drawn when they come near the view, one after another, and all before the page is printed

const NEAR = "400px 0px", PANEL = {width: 165, height: 128};
const whenIdle = window.requestIdleCallback ? f => requestIdleCallback(f, {timeout: 300}) : f => setTimeout(f, 20);
const places = [...document.querySelectorAll(".chart")], makers = new Map(), queue = [];
const shown = new Map(), drawn = new Set();  // the charts in the page, and those of them that have the present colours
let isDrawing = false;

function across(place) { return Math.max(1, Math.min(4, Math.floor(place.clientWidth / PANEL.width))); }

function drawChart(place, text) {
  const spec = JSON.parse(text);
  CONFIG.legend.columns = place.clientWidth < 500 ? 2 : undefined;
  if (spec.facet) spec.columns = across(place);
  return vegaEmbed(place, spec, OPTIONS);
}

function draw(place) {
  if (!window.vegaEmbed) {
    const program = document.createElement("script");
    program.textContent = `(() => {${document.getElementById("vega").textContent}\n})();`;  // its names stay its own
    document.head.append(program);
  }
  place.style.minHeight = `${place.offsetHeight}px`;
  const before = shown.get(place), made = makers.get(place)();
  if (before) before.then(result => result.finalize());
  shown.set(place, made);
  drawn.add(place);
  return made.then(() => { place.style.minHeight = ""; });
}

async function drawWaiting() {
  isDrawing = true;
  while (queue.length) {
    await new Promise(whenIdle);
    const place = queue.shift();
    if (!drawn.has(place)) await draw(place).catch(reportError);
  }
  isDrawing = false;
  document.documentElement.dataset.ready = "true";
}

function ask(asked) {
  queue.push(...asked);
  if (!isDrawing) drawWaiting();
}

function useScheme(dark) {
  if (dark !== isDark) drawn.clear();
  takeColours(dark);
}

window.drawAll = () => {
  for (const place of places) if (!drawn.has(place)) draw(place);
  return Promise.all(shown.values());
};

function startCharts() {
  const near = new IntersectionObserver(seen => {
    const come = seen.filter(each => each.isIntersecting).map(each => each.target);
    for (const place of come) near.unobserve(place);
    ask(come);
  }, {rootMargin: NEAR});
  for (const place of places) near.observe(place);
  const follow = () => { useScheme(darkScheme.matches); ask(shown.keys()); };
  darkScheme.addEventListener("change", follow);
  window.addEventListener("beforeprint", () => { useScheme(false); window.drawAll(); });
  window.addEventListener("afterprint", follow);
}

const specs = document.querySelectorAll("script[type='application/json']:not([id])");
document.querySelectorAll("figure .chart").forEach((place, i) => {
  makers.set(place, () => drawChart(place, specs[i].textContent));
  const panels = +place.dataset.panels;
  if (panels) place.style.minHeight = `${Math.ceil(panels / across(place)) * PANEL.height}px`;
});

// -- the map of codes

function inside([x, y], path) {
  let isIn = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [xi, yi] = path[i], [xj, yj] = path[j];
    if ((yi > y) !== (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) isIn = !isIn;
  }
  return isIn;
}

let mapView, chosen = null;

function mapSize(place) {
  const width = Math.max(280, place.clientWidth - 70);
  return {width, height: Math.round(Math.min(width * 0.7, 440))};
}

function drawMap(place, data, column) {
  const {width, height} = mapSize(place), isNumber = column.type === "quantitative";
  const spec = {
    $schema: "https://vega.github.io/schema/vega/v6.json", width, height, padding: 5, background: "transparent",
    data: [{name: "points", values: data.points}],
    signals: [
      {name: "lasso", value: [], on: [
        {events: "pointerdown", update: "[[x(), y()]]"},
        {events: "[pointerdown, window:pointerup] > window:pointermove!", update: "lassoAppend(lasso, x(), y())"}]},
      {name: "chosen", value: chosen},
    ],
    scales: [
      {name: "x", domain: {data: "points", field: "x"}, range: "width", nice: true, zero: false},
      {name: "y", domain: {data: "points", field: "y"}, range: "height", nice: true, zero: false},
      isNumber
        ? {name: "colour", type: column.field === "error" ? "symlog" : "linear", domain: {data: "points", field: column.field}, zero: false,
            range: isDark ? ["#5b8ff9", "#8fd694", "#f9e04b"] : {scheme: "viridis"}}
        : {name: "colour", type: "ordinal", domain: {data: "points", field: column.field, sort: true}, range: COLOURS},
    ],
    axes: [{orient: "bottom", scale: "x", title: data.axes[0], tickCount: 6}, {orient: "left", scale: "y", title: data.axes[1], tickCount: 6}],
    legends: [{fill: "colour", title: column.name, orient: "top", direction: "horizontal", symbolLimit: 12, columns: 6}],
    marks: [
      {type: "symbol", name: "symbols", aria: false, from: {data: "points"}, encode: {
        enter: {x: {scale: "x", field: "x"}, y: {scale: "y", field: "y"}, size: {value: 34}},
        update: {
          fill: {scale: "colour", field: column.field},
          opacity: {signal: "chosen === null || chosen[datum.row] ? 0.8 : 0.12"},
          tooltip: {signal: "{" + ["'row': datum.row", ...data.columns.map(c => JSON.stringify(c.name) + ": datum['" + c.field + "']")].join(", ") + "}"},
        }}},
      {type: "path", interactive: false, aria: false, encode: {update: {path: {signal: "lassoPath(lasso)"}, stroke: {value: INK}, strokeDash: {value: [4, 3]}, fill: {value: INK}, fillOpacity: {value: 0.06}}}},
    ],
    config: CONFIG,
  };
  return vegaEmbed(place, spec, {...OPTIONS, mode: "vega"}).then(result => { mapView = result.view; return result; });
}

function finishLasso(points) {
  const path = mapView ? mapView.signal("lasso") : [];
  if (!path.length) return;
  const [x, y] = ["x", "y"].map(name => mapView.scale(name));
  const rows = path.length < 4 ? [] : points.filter(p => inside([x(p.x), y(p.y)], path)).map(p => p.row);
  chosen = rows.length ? Object.fromEntries(rows.map(r => [r, true])) : null;
  mapView.signal("chosen", chosen).signal("lasso", []).runAsync();
  document.getElementById("map-rows").value = rows.join(", ");
  document.getElementById("map-count").textContent = rows.length ? String(rows.length) : "none";
}

const mapData = document.getElementById("map-data");
if (mapData) {
  const data = JSON.parse(mapData.textContent), menu = document.getElementById("map-colour");
  const place = document.getElementById("map");
  data.columns.forEach((column, i) => menu.add(new Option(column.name, i)));
  makers.set(place, () => drawMap(place, data, data.columns[menu.value]));
  menu.addEventListener("change", () => draw(place));
  window.addEventListener("pointerup", () => finishLasso(data.points));
  Object.assign(place.style, {touchAction: "none", minHeight: `${mapSize(place).height + 114}px`});
}

// -- sliders

const liveData = document.getElementById("live-data");
if (liveData) {
  const live = JSON.parse(liveData.textContent), decode = decoderOf(live), code = [...live.center];
  const sliders = document.getElementById("sliders"), output = document.getElementById("decoded");
  const clock = seconds => new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16);
  const shown = (value, j) => {
    const labels = live.labels[live.columns[j]];
    if (labels) return labels[value] ?? "another";
    if (live.kinds[j] === "boolean") return value > 0.5 ? "true" : "false";
    if (live.kinds[j] === "time") return clock(value);
    return Number(value.toPrecision(5)).toLocaleString("en", {maximumSignificantDigits: 5});
  };
  const first = decode(code);
  const draw = () => {
    const row = decode(code);
    window.decodedRow = row;
    if (live.image) {
      const [channels, height, width] = live.image, canvas = output.firstChild, context = canvas.getContext("2d");
      const image = context.createImageData(width, height), [low, high] = live.range;
      for (let i = 0; i < height * width; i++) for (let c = 0; c < 3; c++) {
        image.data[4 * i + c] = 255 * (row[(channels === 1 ? 0 : c) * height * width + i] - low) / (high - low);
        image.data[4 * i + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      return;
    }
    output.querySelectorAll("tbody tr").forEach((line, n) => {
      const j = live.order[n];
      line.cells[1].textContent = shown(row[j], j);
      line.style.fontWeight = shown(row[j], j) === shown(first[j], j) ? "normal" : "bold";
    });
  };
  for (const {component, low, high} of live.sliders) {
    const label = document.createElement("label"), input = document.createElement("input");
    const value = document.createElement("output");
    Object.assign(input, {type: "range", min: low, max: high, step: (high - low) / 200, value: code[component]});
    value.textContent = code[component].toPrecision(3);
    input.addEventListener("input", () => { code[component] = +input.value; value.textContent = (+input.value).toPrecision(3); draw(); });
    label.append(`component ${component + 1}`, input, value);
    sliders.append(label);
  }
  if (live.image) {
    const canvas = document.createElement("canvas");
    [canvas.height, canvas.width] = live.image.slice(1);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The image decoded from the code of the sliders");
    output.append(canvas);
  } else {
    const table = document.createElement("table");
    table.innerHTML = "<thead><tr><th scope='col'>column</th><th scope='col'>decoded</th></tr></thead>";
    const body = table.createTBody();
    for (const j of live.order) { const line = body.insertRow(); line.insertCell().textContent = live.columns[j]; line.insertCell(); }
    output.append(table);
  }
  document.getElementById("reset").addEventListener("click", () => {
    live.center.forEach((x, j) => { code[j] = x; });
    sliders.querySelectorAll("input").forEach((input, n) => {
      input.value = code[live.sliders[n].component];
      input.nextElementSibling.textContent = (+input.value).toPrecision(3);
    });
    draw();
  });
  draw();
}

document.addEventListener("DOMContentLoaded", startCharts);
