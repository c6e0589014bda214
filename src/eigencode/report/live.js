// Takes the steps of a decoder. Values are flat arrays; value 0 is the code, value n the result of step n.
"use strict";

function erf(x) {
  // Abramowitz and Stegun 7.1.26 has an error of 1.5e-7; this is the series and the continued fraction instead.
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x, sum = x;
    for (let n = 1; n < 60; n++) { term *= -x * x / n; sum += term / (2 * n + 1); }
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let f = 0;
  for (let n = 60; n >= 1; n--) f = n / 2 / (a + f);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f));
}

const UNARY = {
  gelu: x => 0.5 * x * (1 + erf(x / Math.SQRT2)), sigmoid: x => 1 / (1 + Math.exp(-x)), exp: Math.exp,
  log1p: Math.log1p, expm1: Math.expm1, log: Math.log, relu: x => Math.max(x, 0), tanh: Math.tanh, sqrt: Math.sqrt,
  rsqrt: x => 1 / Math.sqrt(x), neg: x => -x, abs: Math.abs, floor: Math.floor, erf: erf, reciprocal: x => 1 / x,
  softplus: x => x > 20 ? x : Math.log1p(Math.exp(x)), sin: Math.sin, cos: Math.cos,
  isnan: x => +Number.isNaN(x), logical_not: x => +!x,
  silu: x => x / (1 + Math.exp(-x)), elu: x => x > 0 ? x : Math.expm1(x),
  round: x => { const r = Math.round(x); return r - x === 0.5 && r % 2 ? r - 1 : r; },
};
const BINARY = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, maximum: Math.max,
  minimum: Math.min, ge: (a, b) => +(a >= b), gt: (a, b) => +(a > b), le: (a, b) => +(a <= b), lt: (a, b) => +(a < b),
  eq: (a, b) => +(a === b), pow: Math.pow, logical_and: (a, b) => +(a && b), logical_or: (a, b) => +(a || b),
};
const REDUCING = {
  sum: v => v.reduce((a, b) => a + b, 0), mean: v => v.reduce((a, b) => a + b, 0) / v.length,
  amax: v => Math.max(...v), amin: v => Math.min(...v),
  prod: v => v.reduce((a, b) => a * b, 1),
  argmax: v => v.reduce((best, x, i) => x > v[best] ? i : best, 0),
};

const OTHER = {
  gather: (v, positions) => Float64Array.from(positions, i => v[i]),
  concat: (...parts) => { const all = []; for (const p of parts) all.push(...p); return Float64Array.from(all); },
  where: (c, a, b) => Float64Array.from({length: Math.max(c.length, a.length, b.length)},
    (_, i) => at(c, i) ? at(a, i) : at(b, i)),
  product: (x, w, nIn, nOut) => {
    const y = new Float64Array(nOut);
    for (let i = 0; i < nIn; i++) for (let j = 0; j < nOut; j++) y[j] += x[i] * w[i * nOut + j];
    return y;
  },
  softmax: (v, width) => {
    const y = new Float64Array(v.length);
    for (let s = 0; s < v.length; s += width) {
      const part = v.subarray(s, s + width), top = Math.max(...part);
      let total = 0;
      part.forEach((x, i) => { y[s + i] = Math.exp(x - top); total += y[s + i]; });
      for (let i = 0; i < width; i++) y[s + i] /= total;
    }
    return y;
  },
  convolve: (x, w, ci, hi, wi, co, ho, wo, kh, kw, sh, sw, ph, pw) => {
    const y = new Float64Array(co * ho * wo);
    for (let o = 0; o < co; o++) for (let c = 0; c < ci; c++) for (let a = 0; a < kh; a++) for (let b = 0; b < kw; b++) {
      const weight = w[((o * ci + c) * kh + a) * kw + b];
      for (let i = 0; i < ho; i++) {
        const r = i * sh - ph + a;
        if (r < 0 || r >= hi) continue;
        for (let j = 0; j < wo; j++) {
          const s = j * sw - pw + b;
          if (s >= 0 && s < wi) y[(o * ho + i) * wo + j] += weight * x[(c * hi + r) * wi + s];
        }
      }
    }
    return y;
  },
  convolve_transposed: (x, w, ci, hi, wi, co, ho, wo, kh, kw, sh, sw, ph, pw) => {
    const y = new Float64Array(co * ho * wo);
    for (let c = 0; c < ci; c++) for (let o = 0; o < co; o++) for (let a = 0; a < kh; a++) for (let b = 0; b < kw; b++) {
      const weight = w[((c * co + o) * kh + a) * kw + b];
      for (let i = 0; i < hi; i++) {
        const r = i * sh - ph + a;
        if (r < 0 || r >= ho) continue;
        for (let j = 0; j < wi; j++) {
          const s = j * sw - pw + b;
          if (s >= 0 && s < wo) y[(o * ho + r) * wo + s] += weight * x[(c * hi + i) * wi + j];
        }
      }
    }
    return y;
  },
};

function at(values, i) { return values.length === 1 ? values[0] : values[i]; }

function decoderOf(live) {
  const constants = live.constants.map(([width, text]) => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    return width === 8 ? new Float64Array(bytes.buffer) : Float64Array.from(new Float32Array(bytes.buffer));
  });
  return code => {
    const values = [Float64Array.from(code)];
    const value = given => typeof given === "string" ? constants[+given.slice(1)] : values[given];
    for (const [name, ...given] of live.steps) {
      if (name in UNARY) values.push(value(given[0]).map(UNARY[name]));
      else if (name in BINARY) {
        const a = value(given[0]), b = value(given[1]), f = BINARY[name];
        values.push(Float64Array.from({length: Math.max(a.length, b.length)}, (_, i) => f(at(a, i), at(b, i))));
      } else if (name in REDUCING) {
        const v = value(given[0]), found = [];
        for (let s = 0; s < v.length; s += given[1]) found.push(REDUCING[name](v.subarray(s, s + given[1])));
        values.push(Float64Array.from(found));
      } else if (name === "gather") values.push(OTHER.gather(value(given[0]), given[1]));
      else if (name === "concat" || name === "where") values.push(OTHER[name](...given.map(value)));
      else {
        const isProduct = name === "product" || name.startsWith("convolve");
        const head = given.slice(0, isProduct ? 2 : 1).map(value);
        values.push(OTHER[name](...head, ...given.slice(isProduct ? 2 : 1)));
      }
    }
    return values[live.output];
  };
}

// A time as text: in seconds since 1970 (UTC); a date has no time of the day, and times beyond JavaScript's are cut off.
function timeText(seconds, isDate) {
  const time = new Date(1000 * Math.min(Math.max(seconds, -8.64e12), 8.64e12));
  const [date, clock] = time.toISOString().split("T");
  return isDate ? date : `${date} ${clock.replace(/(:00)?\.\d+Z$/, "")}`;
}

if (typeof module !== "undefined") module.exports = {decoderOf, timeText};
