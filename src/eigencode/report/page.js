// Draws the charts of a report, and lets the reader colour and select codes, and decode new ones.
"use strict";

const isDark = matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;
const INK = isDark ? "#e8eaee" : "#1f2430", SOFT = isDark ? "#353c47" : "#d9dee6";
const COLOURS = isDark
  ? ["#7fb2ec", "#f0a35e", "#7fd1a0", "#e58ac0", "#d8cc5f", "#a99af0", "#e9837a", "#9aa6b5"]
  : ["#1f5fa8", "#d1701a", "#23864f", "#a83279", "#8a7a00", "#5b46b8", "#c1442e", "#6b7480"];
const CONFIG = {
  background: "transparent", font: "system-ui, sans-serif", view: {stroke: null},
  axis: {labelColor: INK, titleColor: INK, gridColor: SOFT, domainColor: SOFT, tickColor: SOFT, titleFontWeight: "normal",
    labelFontSize: 12, titleFontSize: 12}, axisX: {labelFlush: false},
  legend: {labelColor: INK, titleColor: INK, orient: "top", titleFontWeight: "normal", labelFontSize: 12},
  header: {labelColor: INK, titleColor: INK}, range: {category: COLOURS},
  bar: {color: COLOURS[0]}, point: {color: COLOURS[0]},
};
const OPTIONS = {renderer: "svg", config: CONFIG, actions: false, tooltip: {theme: isDark ? "dark" : "light"}};
const drawn = [];

for (const place of document.querySelectorAll("figure .chart")) {
  const spec = JSON.parse(place.nextElementSibling.textContent);
  CONFIG.legend.columns = place.clientWidth < 500 ? 2 : undefined;
  if (spec.facet) spec.columns = Math.max(1, Math.min(4, Math.floor(place.clientWidth / 165)));
  drawn.push(vegaEmbed(place, spec, OPTIONS));
}

// -- the map of codes

function inside([x, y], path) {
  let isIn = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [xi, yi] = path[i], [xj, yj] = path[j];
    if ((yi > y) !== (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) isIn = !isIn;
  }
  return isIn;
}

function drawMap(data, column) {
  const place = document.getElementById("map"), isNumber = column.type === "quantitative";
  const width = Math.max(280, place.clientWidth - 70), height = Math.round(Math.min(width * 0.7, 440));
  const spec = {
    $schema: "https://vega.github.io/schema/vega/v6.json", width, height, padding: 5, background: "transparent",
    data: [{name: "points", values: data.points}],
    signals: [
      {name: "lasso", value: [], on: [
        {events: "pointerdown", update: "[[x(), y()]]"},
        {events: "[pointerdown, window:pointerup] > window:pointermove!", update: "lassoAppend(lasso, x(), y())"}]},
      {name: "chosen", value: null},
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
  return vegaEmbed(place, spec, {...OPTIONS, mode: "vega"}).then(({view}) => {
    const finish = () => {
      const path = view.signal("lasso");
      if (!path.length) return;
      const rows = path.length < 4 ? [] : data.points.filter(p => inside([view.scale("x")(p.x), view.scale("y")(p.y)], path)).map(p => p.row);
      view.signal("chosen", rows.length ? Object.fromEntries(rows.map(r => [r, true])) : null).signal("lasso", []).runAsync();
      document.getElementById("map-rows").value = rows.join(", ");
      document.getElementById("map-count").textContent = rows.length ? String(rows.length) : "none";
    };
    if (window.finishLasso) window.removeEventListener("pointerup", window.finishLasso);
    window.finishLasso = finish;
    window.addEventListener("pointerup", finish);
    window.mapView = view;
  });
}

const mapData = document.getElementById("map-data");
if (mapData) {
  const data = JSON.parse(mapData.textContent), menu = document.getElementById("map-colour");
  data.columns.forEach((column, i) => menu.add(new Option(column.name, i)));
  menu.addEventListener("change", () => drawMap(data, data.columns[menu.value]));
  document.getElementById("map").style.touchAction = "none";
  drawn.push(drawMap(data, data.columns[0]));
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

Promise.all(drawn).then(() => { document.documentElement.dataset.ready = "true"; });
