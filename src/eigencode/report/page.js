// Places the charts of a report, and lets the reader colour and select codes, and decode new ones.
"use strict";

// -- charts: drawn when they come near the view, and all before the page is printed

const makers = new Map(), shown = new Map();  // how each place is drawn, and what was drawn there

const PAPER = 680;  // the width of a printed page

function draw(place, most = Infinity) {
  const width = Math.min(place.clientWidth, most), made = drawn(makers.get(place)(), Math.max(140, width));
  place.innerHTML = made.svg;
  shown.set(place, {...made, width});
}

function drawPrinted() {
  for (const place of makers.keys()) draw(place, PAPER);
}

function drawChanged() {
  for (const [place, {width}] of shown) if (place.clientWidth !== width) draw(place);
}

function startCharts() {
  const seen = new IntersectionObserver(places => {
    for (const {isIntersecting, target} of places) {
      if (isIntersecting && !shown.has(target)) draw(target);
    }
    document.documentElement.dataset.ready = "true";
  }, {rootMargin: "400px 0px"});
  for (const place of makers.keys()) seen.observe(place);
  for (const change of ["resize", "afterprint"]) window.addEventListener(change, drawChanged);
  window.addEventListener("beforeprint", drawPrinted);
}

const specs = document.querySelectorAll("script[type='application/json']:not([id])");
document.querySelectorAll("figure > [role=img]:not(img)").forEach((figure, i) => {
  let charts = null;
  const read = () => charts ??= JSON.parse(specs[i].textContent);
  figure.querySelectorAll(".chart").forEach((place, n) => makers.set(place, () => read()[n]));
});

// -- what is told of the shape under the pointer

const tip = document.createElement("div");
Object.assign(tip, {id: "tip", hidden: true});
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);

document.addEventListener("pointerover", event => {
  const place = event.target.closest(".chart"), n = event.target.dataset.n;
  tip.hidden = !place || n === undefined;
  if (tip.hidden) return;
  tip.textContent = shown.get(place).tips[n]();
  const box = event.target.getBoundingClientRect(), room = document.documentElement.clientWidth;
  const left = Math.min(event.clientX + 14, room - tip.offsetWidth - 6);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(left, 4) + scrollX}px`;
  tip.style.top = `${(above < 0 ? event.clientY + 18 : above) + scrollY}px`;
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

function endsOf(values) {
  const known = values.filter(value => typeof value === "number");
  return {low: Math.min(...known), high: Math.max(...known)};
}

const MOST_LABELS = 7, OTHERS = "var(--soft)";

function coloursOf(column) {  // a scale of numbers, or a colour for each of the most frequent labels
  const {name, labels, values} = column;
  if (!labels) return {values, scale: {title: name, kind: "many", log: column.log, ...endsOf(values)}};
  const counts = labels.map(() => 0), paint = labels.map(() => OTHERS);
  for (const value of values) counts[value]++;
  const frequent = [...labels.keys()].sort((a, b) => counts[b] - counts[a]).slice(0, MOST_LABELS).sort((a, b) => a - b);
  frequent.forEach((value, i) => { paint[value] = `var(--c${i})`; });
  const legend = frequent.map(value => [labels[value], paint[value]]), more = labels.length - frequent.length;
  return {colours: values.map(value => paint[value]), legend: more ? [...legend, [`${more} more`, OTHERS]] : legend};
}

function mapOf(data, column, height) {
  const valueOf = ({labels, values}, i) => labels ? labels[values[i]] : written(values[i] ?? "unknown");
  const tell = i => [`row: ${data.rows[i]}`, ...data.columns.map(each => `${each.name}: ${valueOf(each, i)}`)].join("\n");
  const {values, scale, colours, legend} = coloursOf(column), points = data.x.map((x, i) => [x, data.y[i]]);
  const [x, y] = [data.x, data.y].map((ends, n) => ({title: data.axes[n], ...endsOf(ends)}));
  return {x, y, height, series: [{kind: "points", points, values, colours, tell, opacity: 0.8}], scale, legend};
}

function startMap(place, data, menu) {
  const rows = document.getElementById("map-rows"), count = document.getElementById("map-count");
  let path = null, chosen = null;
  const redraw = () => {
    draw(place);
    place.querySelectorAll("circle").forEach((circle, i) => {
      circle.style.opacity = !chosen || chosen.has(i) ? "" : "0.12";
    });
  };
  const at = event => {
    const corner = place.firstChild.getBoundingClientRect(), {left, top} = shown.get(place).box;
    return [event.clientX - corner.left - left, event.clientY - corner.top - top];
  };
  const finish = () => {
    if (!path) return;
    const {across, down} = shown.get(place).box;
    const found = path.length < 4 ? [] : data.rows.flatMap((_, i) => inside([across(data.x[i]), down(data.y[i])], path) ? [i] : []);
    chosen = found.length ? new Set(found) : null;
    path = null;
    rows.value = found.map(i => data.rows[i]).join(", ");
    count.textContent = found.length || "none";
    redraw();
  };
  place.addEventListener("pointerdown", event => {
    path = [at(event)];
    const {left, top} = shown.get(place).box;
    const line = `<g transform="translate(${left},${top})"><polygon class="lasso" points=""/></g>`;
    place.firstChild.insertAdjacentHTML("beforeend", line);
    event.preventDefault();
  });
  window.addEventListener("pointermove", event => {
    if (!path) return;
    path.push(at(event));
    place.querySelector(".lasso").setAttribute("points", path.map(point => point.join()).join(" "));
  });
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, finish);
  menu.addEventListener("change", redraw);
}

const mapData = document.getElementById("map-data");
if (mapData) {
  const data = JSON.parse(mapData.textContent), menu = document.getElementById("map-colour");
  const place = document.getElementById("map");
  data.columns.forEach((column, i) => menu.add(new Option(column.name, i)));
  makers.set(place, () => mapOf(data, data.columns[menu.value], place.clientHeight));
  startMap(place, data, menu);
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

startCharts();
