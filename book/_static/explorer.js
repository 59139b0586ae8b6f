// The minimum of CE and BCE in closed form, as bcebook.science.theory.minimum has it, and a page to play with it.
"use strict";

const minimum = (() => {
  const free = (k, c, g) => {
    const [w, r] = [Math.min(c, 1 / k), Math.max(0, 1 - k * c)];
    const [u, v] = [(k - 1) * w - g, w + g];
    const gap = Math.log1p(r / u) + Math.log1p(r / v);
    const level = (Math.log(u / (v + r)) - (k - 1) * Math.log(v / (u + r))) / k;
    return { level, positive: ((k - 1) / k) * gap, negative: -gap / k };
  };
  const nonnegative = (k, c, g) => {
    const w = Math.min(Math.sqrt(Math.max(0, k * c * c - g * g)), Math.sqrt(k - 1) / k);
    const r = Math.max(0, 1 - (w * k) / Math.sqrt(k - 1));
    const [u, v] = [Math.sqrt(k - 1) * w - g, g + w / Math.sqrt(k - 1)];
    const gap = Math.log1p(r / u) + Math.log1p(r / v);
    const level = (v * Math.log(u / (v + r)) - u * Math.log(v / (u + r))) / (u + v);
    return { level, positive: (gap * u) / (u + v), negative: (-gap * v) / (u + v) };
  };
  const widest = {
    free: (k) => (k - 2) / (2 * k),
    nonnegative: (k, c) => ((k - 2) / Math.sqrt(k)) * Math.min(c, 1 / (2 * Math.sqrt(k))),
  };

  // The pull g = lambda_b b on the bias, halved down to; whether the bias would be pulled harder than c.
  const pull = (k, c, decay, at, high) => {
    let [low, up] = [0, Math.min(c, high)];
    const beyond = up === c && c <= decay * at(k, c, up).level;
    for (let i = 0; i < 100; i++) {
      const g = (low + up) / 2;
      if (g < decay * at(k, c, g).level) low = g;
      else up = g;
    }
    return [beyond ? c : low, beyond];
  };

  const ofBce = (k, c, decay, features) => {
    const at = features === "free" ? free : nonnegative;
    const [g, beyond] = pull(k, c, decay, at, widest[features](k, c));
    if (beyond && features === "nonnegative") return ofBce(k, c, decay, "free");
    const { level, positive, negative } = at(k, c, g);
    const bias = beyond || decay > 1 ? g / decay : level;
    const shift = beyond ? Math.min(bias - level, 0) : 0;
    return { positive: positive + shift, negative: negative + shift, bias };
  };

  return (loss, k, c, decay, features) => {
    c = Math.min(c, 1);
    let found;
    if (loss === "ce") {
      const v = Math.min(features === "free" ? c : c * Math.sqrt(k / (k - 1)), 1 / k);
      const gap = Math.log1p((1 - k * v) / v);
      found = { positive: ((k - 1) / k) * gap, negative: -gap / k, bias: 0 };
    } else found = ofBce(k, c, decay, features);
    const gap = found.positive - found.negative;
    let common = Math.abs(found.positive + (k - 1) * found.negative);
    if (features === "nonnegative") common = Math.max(common, gap);
    const whole = common + (k - 1) * gap;
    return { ...found, cosine: whole > 1e-12 ? (common - gap) / whole : NaN };
  };
})();

if (document.getElementById("explorer")) {
  const box = document.getElementById("explorer");
  const make = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const log = (value) => 10 ** value;
  const decay = (value) => (value <= -7 ? 0 : 10 ** value);
  const FIELDS = [
    ["classes", "classes K", 2, 1000, 1, 10, Number],
    ["w", "decay of the classifier λ_W", -6, -1, 0.05, Math.log10(5e-4), log],
    ["h", "decay of the features λ_H", -6, -1, 0.05, Math.log10(5e-4), log],
    ["b", "decay of the bias λ_b", -7, 0, 0.05, -7, decay],
    ["batch", "batch size B", 8, 1024, 8, 128, Number],
  ];
  const inputs = {};
  const shown = {};
  const form = make("div", { className: "explorer-fields" });
  for (const [name, text, min, max, step, value] of FIELDS) {
    inputs[name] = make("input", { type: "range", id: `explorer-${name}`, min, max, step: "any", value });
    shown[name] = make("output", { htmlFor: `explorer-${name}` });
    form.append(make("label", { htmlFor: `explorer-${name}`, textContent: text }), inputs[name], shown[name]);
  }
  const table = make("table", { className: "explorer-table" });
  const picture = make("div", { className: "explorer-picture" });
  box.append(form, make("div", { className: "explorer-wide", tabIndex: 0 }, table), picture);

  const digits = (x) => (Number.isNaN(x) ? "–" : x.toFixed(3).replace("-", "−"));
  const short = (x) => (x === 0 ? "0" : Number(x.toPrecision(2)).toString());

  function draw(k, c, at) {
    const [width, height, pad] = [640, 240, 34];
    const decays = [...Array(121).keys()].map((i) => 10 ** (-6 + i / 20));
    const lines = [];
    for (const [loss, colour] of [["ce", "#0072B2"], ["bce", "#D55E00"]])
      for (const kind of ["positive", "negative", "bias"])
        if (loss === "bce" || kind !== "bias")
          lines.push([colour, kind === "bias" ? "5 4" : "", decays.map((d) => minimum(loss, k, c, d, "free")[kind])]);
    const every = lines.flatMap(([, , values]) => values);
    const [low, high] = [Math.min(...every, -1), Math.max(...every, 1)];
    const x = (d) => pad + ((Math.log10(Math.max(d, 1e-6)) + 6) / 6) * (width - 2 * pad);
    const y = (value) => height - pad - ((value - low) / (high - low)) * (height - 2 * pad);
    const paths = lines.map(([colour, dash, values]) =>
      `<path fill="none" stroke="${colour}" stroke-width="1.6" stroke-dasharray="${dash}" d="M${values
        .map((value, i) => `${x(decays[i]).toFixed(1)},${y(value).toFixed(1)}`).join("L")}"/>`);
    const ticks = [-6, -5, -4, -3, -2, -1, 0].map((e) =>
      `<text x="${x(10 ** e)}" y="${height - 12}" text-anchor="middle">10${["⁻⁶", "⁻⁵", "⁻⁴", "⁻³", "⁻²", "⁻¹", "⁰"][e + 6]}</text>`);
    const levels = [low, 0, high].map((v) => `<text x="${pad - 6}" y="${y(v) + 4}" text-anchor="end">${v.toFixed(0)}</text>`);
    picture.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Scores and bias against the decay of the
      bias, CE blue and BCE vermilion, free features"><line x1="${pad}" x2="${width - pad}" y1="${y(0)}" y2="${y(0)}"
      stroke="currentColor" stroke-width="0.4"/><line x1="${x(at)}" x2="${x(at)}" y1="${pad / 2}" y2="${height - pad}"
      stroke="currentColor" stroke-dasharray="2 3"/>${paths.join("")}${ticks.join("")}${levels.join("")}</svg>`;
  }

  function look() {
    const value = Object.fromEntries(FIELDS.map(([name, , , , , , read]) => [name, read(Number(inputs[name].value))]));
    value.classes = Math.round(value.classes);
    value.batch = Math.round(value.batch);
    for (const name in value) shown[name].textContent = name === "classes" || name === "batch" ? value[name] : short(value[name]);
    const c = Math.sqrt((value.w * value.h * value.batch) / value.classes);
    const heads = ["effective c = " + short(c), "positive score", "negative score", "bias", "cosine"];
    table.replaceChildren(make("tr", {}, ...heads.map((text) => make("th", { textContent: text }))));
    for (const [loss, features] of [["ce", "free"], ["ce", "nonnegative"], ["bce", "free"], ["bce", "nonnegative"]]) {
      const m = minimum(loss, value.classes, c, value.b, features);
      const bias = loss === "ce" && value.b === 0 ? NaN : m.bias;
      const cells = [`${loss.toUpperCase()}, ${features} features`, ...[m.positive, m.negative, bias, m.cosine].map(digits)];
      table.append(make("tr", {}, ...cells.map((text) => make("td", { textContent: text }))));
    }
    draw(value.classes, c, value.b);
  }
  Object.values(inputs).forEach((input) => input.addEventListener("input", look));
  look();
}
