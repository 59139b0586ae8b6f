// Both losses of one sample in the plane, with their pulls on its feature: drag the feature.
"use strict";

// Loss and gradient in the feature of CE and BCE; rows: K vectors [x, y]; the sample's class is 0.
function bothLosses(feature, rows, bias) {
  const logits = rows.map(([x, y]) => x * feature[0] + y * feature[1] - bias);
  const top = Math.max(...logits);
  const sum = logits.reduce((total, z) => total + Math.exp(z - top), 0);
  const soft = logits.map((z) => Math.exp(z - top) / sum);
  const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)));
  const sigmoid = (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));
  const pulled = (errors) => [0, 1].map((axis) => errors.reduce((total, error, k) => total + error * rows[k][axis], 0));
  return {
    ce: { loss: top + Math.log(sum) - logits[0], gradient: pulled(soft.map((p, k) => p - (k === 0))) },
    bce: {
      loss: logits.reduce((total, z, k) => total + softplus(k === 0 ? -z : z), 0),
      gradient: pulled(logits.map((z, k) => sigmoid(z) - (k === 0))),
    },
  };
}

if (document.getElementById("losses")) {
  const box = document.getElementById("losses");
  const COLOUR = { ce: "#0072B2", bce: "#D55E00" };
  const [size, reach] = [460, 6];
  const scale = size / 2 / reach;
  let feature = [1.5, 1];
  box.innerHTML = `<div class="explorer-fields"><label for="losses-bias">bias of every class</label>
    <input type="range" id="losses-bias" min="-4" max="8" step="any" value="2"><output></output></div>
    <p class="losses-values" role="status"></p>
    <svg viewBox="${-size / 2} ${-size / 2} ${size} ${size}" tabindex="0" role="application"
      aria-label="Plane of features: arrow keys move the feature of a sample of the first class"></svg>`;
  const [slider, shown, values, picture] = ["input", "output", ".losses-values", "svg"].map((what) => box.querySelector(what));
  const rows = [90, 210, 330].map((angle) => [2 * Math.cos((angle * Math.PI) / 180), 2 * Math.sin((angle * Math.PI) / 180)]);
  const at = ([x, y]) => `${(x * scale).toFixed(1)},${(-y * scale).toFixed(1)}`;
  const arrow = (from, to, colour, width) =>
    `<path d="M${at(from)}L${at(to)}" stroke="${colour}" stroke-width="${width}" marker-end="url(#tip-${colour.slice(1)})" fill="none"/>`;

  function look() {
    const bias = Number(slider.value);
    const both = bothLosses(feature, rows, bias);
    shown.textContent = bias.toFixed(2).replace("-", "−");
    values.innerHTML = ["ce", "bce"].map((loss) =>
      `<strong style="border-bottom:3px solid ${COLOUR[loss]}">${loss.toUpperCase()} ${both[loss].loss.toFixed(3)}</strong> nats, pull of length
       ${Math.hypot(...both[loss].gradient).toFixed(3)}`).join(" · ");
    const tips = [...Object.values(COLOUR), "#888888"].map((colour) => `<marker id="tip-${colour.slice(1)}" orient="auto"
      markerWidth="5" markerHeight="5" refX="4" refY="2.5"><path d="M0,0L5,2.5L0,5z" fill="${colour}"/></marker>`);
    const pulls = ["ce", "bce"].map((loss) =>
      arrow(feature, feature.map((x, axis) => x - both[loss].gradient[axis]), COLOUR[loss], 2.5));
    picture.innerHTML = `<defs>${tips.join("")}</defs>${rows.map((row) => arrow([0, 0], row, "#888888", 1.5)).join("")}
      <text x="6" y="${-2.2 * scale}">own class</text>${pulls.join("")}<circle r="7" cx="${feature[0] * scale}" cy="${-feature[1] * scale}"
      fill="currentColor"/>`;
  }

  const move = (event) => {
    if (!event.buttons) return;
    const frame = picture.getBoundingClientRect();
    feature = [((event.clientX - frame.left) / frame.width - 0.5) * 2 * reach, (0.5 - (event.clientY - frame.top) / frame.height) * 2 * reach];
    look();
  };
  picture.addEventListener("pointerdown", (event) => (picture.setPointerCapture(event.pointerId), move(event)));
  picture.addEventListener("pointermove", move);
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] }[event.key];
    if (!step) return;
    event.preventDefault();
    feature = feature.map((x, axis) => x + step[axis]);
    look();
  });
  slider.addEventListener("input", look);
  look();
}
