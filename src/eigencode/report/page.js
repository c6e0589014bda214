// Draws the charts of a report, and lets the reader colour and select codes, and decode new ones.
"use strict";

// -- charts: pictures at first. When the reader acts, those near the view are drawn by Vega, one after another, and answer
// to the pointer. A print shows the pictures.

const CONFIG = JSON.parse(document.getElementById("chart-config").textContent);
const NEAR = "400px 0px", PANEL = {width: 160, height: 128}, NARROW = 500;
const FIRST_ACTS = ["pointermove", "pointerdown", "wheel", "scroll", "keydown"];
const places = [...document.querySelectorAll(".chart")], makers = new Map(), queue = [], shown = new Map();
let isDrawing = false, vegaRuns;

async function runVega() {
  const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), letter => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const program = document.createElement("script");
  program.textContent = `(() => {${await new Response(unpacked).text()}\n})();`;  // its names stay its own
  document.head.append(program);
}

function liveOf(place) {  // where a chart is drawn, beside its picture
  return place.querySelector(".live") ?? place.appendChild(Object.assign(document.createElement("div"), {className: "live"}));
}

function nAcross(place) { return Math.max(1, Math.min(4, Math.floor(place.clientWidth / PANEL.width))); }

const tip = document.body.appendChild(Object.assign(document.createElement("div"), {id: "tip", hidden: true}));

function showTip(_, event, item, value) {  // a line for each value of a mark, beside the pointer
  tip.hidden = value === null || typeof value !== "object";
  if (tip.hidden) return;
  const table = document.createElement("table");
  for (const [name, own] of Object.entries(value)) {
    const line = table.insertRow();
    for (const text of [name, own]) line.insertCell().textContent = text;
  }
  tip.replaceChildren(table);
  const at = (pointer, size, room) => `${Math.max(4, pointer + 14 + size < room ? pointer + 14 : pointer - 14 - size)}px`;
  tip.style.left = at(event.clientX, tip.offsetWidth, innerWidth);
  tip.style.top = at(event.clientY, tip.offsetHeight, innerHeight);
}

async function show(live, spec, config) {
  live.replaceChildren();
  const view = new window.vega.View(window.vega.parse(spec, config), {renderer: "svg", container: live, hover: true, tooltip: showTip});
  return view.runAsync();
}

function drawChart(live, text) {
  const spec = JSON.parse(text), place = live.parentElement, width = place.clientWidth, isNarrow = width < NARROW;
  if (spec.layout) spec.layout.columns = nAcross(place); else spec.width = width;
  for (const signal of spec.signals ?? []) if (signal.name === "letters" && isNarrow) signal.value /= 2;
  return show(live, spec, isNarrow ? {...CONFIG, legend: {...CONFIG.legend, columns: 2, columnPadding: 8}} : CONFIG);
}

async function draw(place) {
  await (vegaRuns ??= runVega());
  place.style.minHeight = `${place.offsetHeight}px`;
  place.classList.add("drawn");
  const live = liveOf(place), before = shown.get(place), made = await makers.get(place)(live);
  if (before) before.finalize();
  for (const part of live.querySelectorAll("[role], [aria-roledescription]")) {  // the element around says what it shows
    for (const name of ["role", "aria-roledescription", "aria-label"]) part.removeAttribute(name);
  }
  shown.set(place, made);
  place.style.minHeight = "";
}

async function ask(asked) {
  queue.push(...asked);
  if (isDrawing) return;
  isDrawing = true;
  while (queue.length) {
    const place = queue.shift();
    await draw(place).catch(error => {
      place.classList.remove("drawn");  // its picture stays
      reportError(error);
    });
  }
  isDrawing = false;
  document.documentElement.dataset.ready = "true";
}

function startCharts() {
  for (const act of FIRST_ACTS) window.removeEventListener(act, startCharts);
  const near = new IntersectionObserver(seen => {
    const come = seen.filter(each => each.isIntersecting).map(each => each.target);
    for (const place of come) near.unobserve(place);
    ask(come);
  }, {rootMargin: NEAR});
  for (const place of places) near.observe(place);
}
if (window.DecompressionStream) for (const act of FIRST_ACTS) window.addEventListener(act, startCharts, {passive: true});

const specs = document.querySelectorAll("script[type='application/json']:not([id])");
document.querySelectorAll("figure .chart").forEach((place, i) => {
  makers.set(place, live => drawChart(live, specs[i].textContent));
  const panels = +place.dataset.panels;
  if (panels) place.style.minHeight = `${Math.ceil(panels / nAcross(place)) * PANEL.height}px`;
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

function pointsOf(data) {  // a point a row; the columns by which the map can be coloured are c0, c1, ...
  return data.x.map((x, i) => ({x, y: data.y[i], row: data.rows[i],
    ...Object.fromEntries(data.columns.map(({values, labels}, j) => [`c${j}`, labels ? labels[values[i]] : values[i]]))}));
}

function drawMap(live, data, points, chosenColumn) {
  const width = Math.max(280, live.parentElement.clientWidth - 70), height = Math.round(Math.min(width * 0.7, 440));
  const column = data.columns[chosenColumn], field = `c${chosenColumn}`, isNumber = !column.labels;
  const spec = {
    width, height, padding: 5, background: "transparent",
    data: [{name: "points", values: points}],
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
        ? {name: "colour", type: chosenColumn === 0 ? "symlog" : "linear", domain: {data: "points", field}, zero: false,
            range: CONFIG.range.ramp}
        : {name: "colour", type: "ordinal", domain: {data: "points", field, sort: true}, range: CONFIG.range.category},
    ],
    axes: [{orient: "bottom", scale: "x", title: data.axes[0], tickCount: 6}, {orient: "left", scale: "y", title: data.axes[1], tickCount: 6}],
    legends: [{fill: "colour", title: column.name, orient: "top", direction: "horizontal", symbolLimit: 12, columns: 6}],
    marks: [
      {type: "symbol", name: "symbols", aria: false, from: {data: "points"}, encode: {
        enter: {x: {scale: "x", field: "x"}, y: {scale: "y", field: "y"}, size: {value: 34}},
        update: {
          fill: {scale: "colour", field},
          opacity: {signal: "chosen === null || chosen[datum.row] ? 0.8 : 0.12"},
          tooltip: {signal: "{" + ["'row': datum.row", ...data.columns.map((each, j) => `${JSON.stringify(each.name)}: datum.c${j}`)].join(", ") + "}"},
        }}},
      {type: "path", interactive: false, aria: false, encode: {update: {path: {signal: "lassoPath(lasso)"}, stroke: {value: "var(--ink)"}, strokeDash: {value: [4, 3]}, fill: {value: "var(--ink)"}, fillOpacity: {value: 0.06}}}},
    ],
  };
  return show(live, spec, CONFIG).then(view => { mapView = view; return view; });
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
  const place = document.getElementById("map"), points = pointsOf(data);
  data.columns.forEach((column, i) => menu.add(new Option(column.name, i)));
  makers.set(place, live => drawMap(live, data, points, +menu.value));
  menu.addEventListener("change", () => ask([place]));
  window.addEventListener("pointerup", () => finishLasso(points));
}

// -- sliders

const liveData = document.getElementById("live-data");
if (liveData) {
  const live = JSON.parse(liveData.textContent), decode = decoderOf(live), code = [...live.center];
  const sliders = document.getElementById("sliders"), output = document.getElementById("decoded");
  const shown = (value, j) => {
    const labels = live.labels[live.columns[j]];
    if (labels) return labels[value] ?? "another";
    if (live.kinds[j] === "boolean") return value > 0.5 ? "true" : "false";
    if (live.kinds[j] === "time" || live.kinds[j] === "date") return timeText(value, live.kinds[j] === "date");
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
  const short = (x, {step}) => Math.abs(x) < step / 2 ? "0" : x.toPrecision(3);  // rounding is not a value
  for (const {component, low, high} of live.sliders) {
    const label = document.createElement("label"), input = document.createElement("input");
    const value = document.createElement("output");
    Object.assign(input, {type: "range", min: low, max: high, step: (high - low) / 200, value: code[component]});
    value.textContent = short(code[component], input);
    input.addEventListener("input", () => { code[component] = +input.value; value.textContent = short(+input.value, input); draw(); });
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
      input.nextElementSibling.textContent = short(+input.value, input);
    });
    draw();
  });
  draw();
}
