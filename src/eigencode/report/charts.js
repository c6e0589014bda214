// Draws charts as SVG: a chart and a width give text, so that nothing waits and any program can test it.
"use strict";

const LINE = 18, SWATCHES = 24, MOST_NAME = 0.4;  // heights of lines of text; steps of a scale; of the width, for names

function escaped(text) {
  return String(text).replace(/[&<>"']/g, sign => `&#${sign.charCodeAt(0)};`);
}

function shape(tag, attributes, content = "") {
  const listed = Object.entries(attributes).filter(each => each[1] !== undefined);
  return `<${tag}${listed.map(([name, value]) => ` ${name}="${escaped(value)}"`).join("")}>${content}</${tag}>`;
}

const near = value => Math.round(value * 100) / 100;

function widthOf(text) {  // about, in pixels, of letters of 12 pixels
  let sum = 0;
  for (const sign of String(text)) {
    sum += sign > "\u2e80" ? 12 : /[ilj.,:;'|!()\[\] ]/.test(sign) ? 4.2 : /[mwMW%@]/.test(sign) ? 11 : /[A-Z0-9]/.test(sign) ? 8 : 7.2;
  }
  return sum;
}

function shortened(text, most) {
  if (widthOf(text) <= most) return String(text);
  const signs = [...String(text)];  // the middle is left out: names often differ at their ends only
  const parts = half => [signs.slice(0, half), signs.slice(signs.length - half)].map(part => part.join(""));
  let half = Math.floor(signs.length / 2);
  while (half > 1 && widthOf(parts(half).join("")) > most - 9) half--;
  return parts(half).join("…");
}

function written(value) {  // a number as it is told
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-4)) return value.toExponential(2).replace("-", "−");
  return value.toLocaleString("en", {maximumSignificantDigits: 5}).replace("-", "−");
}

// -- scales

function ticksOf(low, high, most) {
  const rough = (high - low) / Math.max(most, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(times => times * power).find(size => size >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) ticks.push(n * step);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const large = Math.max(Math.abs(low), Math.abs(high));
  const label = value => large >= 1e4
    ? value.toLocaleString("en", {notation: "compact", maximumSignificantDigits: 4})
    : large < 1e-3 ? value.toExponential(1) : value.toFixed(decimals);
  return {step, ticks, labels: ticks.map(value => label(value === 0 ? 0 : value).replace("-", "−"))};
}

function axisOf(axis, most) {  // the ends of an axis, and its ticks with their labels
  if (axis.names) {
    const every = Math.max(1, Math.ceil(axis.names.length / Math.max(most, 1)));
    const ticks = axis.names.map((_, i) => i).filter(i => i % every === 0);
    return {low: -0.5, high: axis.names.length - 0.5, ticks, labels: ticks.map(i => axis.names[i])};
  }
  let {low, high} = axis;
  if (!(high > low)) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  if (!axis.exact) {
    const {step} = ticksOf(low, high, most);
    [low, high] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  }
  const found = ticksOf(low, high, most), whole = found.ticks.map(value => !axis.whole || Number.isInteger(value));
  return {low, high, ticks: found.ticks.filter((_, i) => whole[i]), labels: found.labels.filter((_, i) => whole[i])};
}

function colourOf(scale, value) {  // what a value of a scale is painted with
  const bend = scale.log ? size => Math.sign(size) * Math.log1p(Math.abs(size)) : size => size;
  const [low, high] = [bend(scale.low), bend(scale.high)];
  const part = high > low ? Math.min(1, Math.max(0, (bend(value) - low) / (high - low))) : 0.5;
  if (scale.kind === "signed") {
    return {fill: `var(--c${part < 0.5 ? 1 : 0})`, "fill-opacity": near(Math.abs(2 * part - 1))};
  }
  if (scale.kind === "amount") return {fill: "var(--c0)", "fill-opacity": near(part)};
  const place = Math.min(1, Math.floor(2 * part)), percent = Math.round(100 * (2 * part - place));
  return {fill: `color-mix(in srgb, var(--s${place}), var(--s${place + 1}) ${percent}%)`};
}

// -- legends

function legendOf(items, width) {
  let x = 0, y = 0, drawn = "";
  for (const [name, colour, dashed] of items) {
    const label = shortened(name, width - 20), size = 18 + widthOf(label) + 14;
    if (x > 0 && x + size - 14 > width) [x, y] = [0, y + LINE];
    drawn += dashed
      ? shape("line", {x1: near(x), x2: near(x + 12), y1: y + 8, y2: y + 8, stroke: colour, "stroke-width": 2, "stroke-dasharray": "5 3"})
      : shape("rect", {x: near(x), y: y + 3, width: 11, height: 11, rx: 2, fill: colour});
    drawn += shape("text", {x: near(x + 17), y: y + 13}, escaped(label));
    x += size;
  }
  return {drawn, height: items.length ? y + LINE + 4 : 0};
}

function scaleLegendOf(scale, width) {
  const title = shortened(scale.title, width - 190), left = widthOf(title) + 12, bar = Math.min(130, width - left - 60);
  let drawn = shape("text", {x: 0, y: 13}, escaped(title));
  const [low, high] = ["low", "high"].map(end => written(Number(scale[end].toPrecision(3))));
  const from = left + widthOf(low) + 6, bend = scale.log ? Math.log1p : size => size;
  drawn += shape("text", {x: near(left), y: 13}, escaped(low));
  for (let i = 0; i < SWATCHES; i++) {
    const part = (i + 0.5) / SWATCHES, bent = bend(scale.low) + part * (bend(scale.high) - bend(scale.low));
    const value = scale.log ? Math.expm1(bent) : bent;
    drawn += shape("rect", {x: near(from + i * bar / SWATCHES), y: 3, width: near(bar / SWATCHES + 0.3), height: 11, ...colourOf(scale, value)});
  }
  return {drawn: drawn + shape("text", {x: near(from + bar + 6), y: 13}, escaped(high)), height: LINE + 4};
}

// -- marks: each draws its series and adds what is told of each of its shapes

const MARKS = {
  rects({series, across, down, add, scale}) {
    return series.rects.map(([x0, x1, y0, y1], i) => {
      const [left, right] = [across(x0), across(x1)].sort((a, b) => a - b);
      const [top, low] = [down(y0), down(y1)].sort((a, b) => a - b);
      const paint = series.values ? colourOf(scale, series.values[i]) : {fill: series.colour, "fill-opacity": series.opacity};
      return shape("rect", {x: near(left), y: near(top), width: near(Math.max(right - left, 0.6)), height: near(Math.max(low - top, 2)),
        ...paint, "data-n": add(() => series.tips[i])});
    }).join("");
  },
  points({series, across, down, add, tell, scale}) {
    return series.points.map(([x, y], i) => {
      const paint = series.values && scale ? colourOf(scale, series.values[i]) : {fill: series.colours ? series.colours[i] : series.colour};
      return shape("circle", {cx: near(across(x)), cy: near(down(y)), r: series.size ?? 3, ...paint, opacity: series.opacity,
        "data-n": add(() => series.tell ? series.tell(i) : tell(series, i))});
    }).join("");
  },
  line(given) {
    const {series, across, down} = given;
    const points = series.points.map(([x, y]) => `${near(across(x))},${near(down(y))}`).join(" ");
    const dash = series.dashed ? "6 4" : undefined;
    const drawn = shape("polyline", {points, fill: "none", stroke: series.colour, "stroke-width": 2, "stroke-dasharray": dash});
    return drawn + (series.dashed ? "" : MARKS.points(given));
  },
  rule({series, across, down, box}) {
    const [x1, x2] = series.x === undefined ? [0, box.width] : [across(series.x), across(series.x)];
    const [y1, y2] = series.y === undefined ? [0, box.height] : [down(series.y), down(series.y)];
    return shape("line", {x1: near(x1), x2: near(x2), y1: near(y1), y2: near(y2), stroke: series.colour, "stroke-width": 2,
      "stroke-dasharray": series.dashed ? "6 4" : undefined});
  },
};

function axesOf(chart, x, y, box, left) {
  const text = (place, content) => shape("text", place, escaped(content)), {across, down} = box;
  let drawn = "";
  y.ticks.forEach((value, i) => {
    const at = near(down(value)), label = shortened(y.labels[i], left - 6);
    if (!chart.y.names) drawn += shape("line", {class: "grid", x1: 0, x2: box.width, y1: at, y2: at});
    drawn += text({x: -6, y: at + 4, "text-anchor": "end"}, label);
  });
  x.ticks.forEach((value, i) => {
    const at = near(across(value)), isLast = at > box.width - 12 && !chart.x.names;
    if (!chart.x.names && chart.y.names) drawn += shape("line", {class: "grid", x1: at, x2: at, y1: 0, y2: box.height});
    drawn += text({x: at, y: box.height + 16, "text-anchor": isLast ? "end" : "middle"}, x.labels[i]);
  });
  drawn += shape("line", {class: "base", x1: 0, x2: box.width, y1: box.height, y2: box.height});
  if (chart.x.title) {
    const title = shortened(chart.x.title, box.width + left), middle = Math.min(box.width / 2, box.width + 8 - widthOf(title) / 2);
    drawn += text({x: near(middle), y: box.height + 36, "text-anchor": "middle"}, title);
  }
  if (chart.y.title) drawn += text({x: -left, y: -13}, shortened(chart.y.title, box.width + left));
  return drawn;
}

// The chart as SVG of a width, with its scales, and what is told of each shape.
function drawn(chart, width) {
  const named = chart.series.filter(each => each.name), keys = named.map(each => [each.name, each.colour, each.dashed]);
  const items = chart.legend ?? (keys.length > 1 ? keys : []);
  const legend = chart.scale ? scaleLegendOf(chart.scale, width) : legendOf(items, width);
  const top = legend.height + (chart.y.title ? LINE + 12 : 6), bottom = chart.x.title ? 44 : 22, height = chart.height - top - bottom;
  const y = axisOf(chart.y, chart.y.names ? Infinity : Math.max(2, height / 45));
  if (chart.y.bare) y.ticks = [];
  const left = Math.min(MOST_NAME * width, Math.max(4, ...y.ticks.map((_, i) => widthOf(y.labels[i]) + 8)));
  const room = width - left - 10, longest = Math.max(...(chart.x.names ?? ["00000"]).map(widthOf)) + 12;
  const x = axisOf(chart.x, chart.x.names ? Math.floor(room / longest) : Math.max(2, Math.min(8, room / 75)));
  const box = {width: room, height};
  box.across = value => (value - x.low) / (x.high - x.low) * room;
  box.down = value => chart.y.names ? (value - y.low) / (y.high - y.low) * height : (y.high - value) / (y.high - y.low) * height;
  const tips = [], add = tip => tips.push(tip) - 1;
  const tell = (series, i) => [series.name, series.tips && series.tips[i],
    ...["x", "y"].map((name, j) => `${chart[name].title || name}: ${written(series.points[i][j])}`)].filter(Boolean).join("\n");
  const marks = chart.series.map(series => MARKS[series.kind]({series, ...box, box, add, tell, scale: chart.scale})).join("");
  // An inner picture cuts what is beyond the axes; marks on the axes stay whole.
  const inner = shape("svg", {x: -6, y: -6, width: near(room + 12), height: near(height + 12), viewBox: `-6 -6 ${near(room + 12)} ${near(height + 12)}`}, marks);
  const plot = shape("g", {transform: `translate(${near(left)},${top})`}, axesOf(chart, x, y, box, left) + inner);
  const size = {width: near(width), height: chart.height, viewBox: `0 0 ${near(width)} ${chart.height}`};
  return {svg: shape("svg", {xmlns: "http://www.w3.org/2000/svg", ...size}, legend.drawn + plot), tips, box: {...box, left, top}};
}

if (typeof module !== "undefined") module.exports = {drawn, ticksOf, axisOf};
