"""Features in two dimensions, epoch by epoch: t-SNE layouts, numbers of the same features, and a page's slider."""

from __future__ import annotations

import json
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from bcebook import names
from bcebook.lazy import lazy

if TYPE_CHECKING:
    from bcebook.runs.store import Run

torch = lazy("torch")
kept, metrics = lazy("bcebook.training.kept"), lazy("bcebook.science.metrics")

PERPLEXITY, NEIGHBOURS = 30, 10
FIRST, THEN = 500, 250  # iterations of the first layout, and of each that starts from the one before
DRAWN = 250  # images, at most: twice as many take four times as long, and look the same
_LAYOUTS: dict[str, np.ndarray] = {}  # of this process, by the key of the run: several views draw the same
_NUMBERS: dict[str, pd.DataFrame] = {}


def features(run: Run) -> np.ndarray:
    """The features that a run kept, (E, n, d)."""
    return kept.decode(run.features).numpy()


def drawn(run: Run) -> slice:
    """Which of the kept images the layouts show: all, or evenly spaced ones."""
    return slice(None, None, -(-len(run.features["labels"]) // DRAWN))


def layouts(run: Run) -> np.ndarray:
    """t-SNE of the features of the images `drawn` at each kept epoch, (E, n, 2), largest coordinate 1; each starts from
    the last one's layout, so that a point moves only as far as its features do. Deterministic."""
    if run.config.key not in _LAYOUTS:
        found, last = [], None
        for each in features(run)[:, drawn(run)]:
            few = min(PERPLEXITY, (len(each) - 1) / 3)
            start = dict(init="pca", max_iter=FIRST) if last is None else dict(
                init=last, early_exaggeration=1.0, max_iter=THEN)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a machine that has no thread pools to count
                last = TSNE(perplexity=few, random_state=0, n_jobs=1, **start).fit_transform(each)
            last = last - last.mean(axis=0)
            found.append(last / np.abs(last).max())
        _LAYOUTS[run.config.key] = np.stack(found)
    return _LAYOUTS[run.config.key]


def numbers(run: Run) -> pd.DataFrame:
    """`_numbers`, computed once; read-only."""
    if run.config.key not in _NUMBERS:
        _NUMBERS[run.config.key] = _numbers(run)
    return _NUMBERS[run.config.key]


def _numbers(run: Run) -> pd.DataFrame:
    """What the pictures are of, a row for each kept epoch: epoch, nc1 (of the whole training set, nan where it was not
    measured), and of the kept images compactness, distinctiveness, silhouette (Rousseeuw, 1987; -1 to 1), neighbours
    (accuracy of the vote of the 10 nearest other images, by distance of their features) and trust (trustworthiness of
    the layout, of the images `drawn`: Venna and Kaski, 2001; 1 where every neighbour in the picture is one among the
    features)."""
    labels, rows = np.array(run.features["labels"]), []
    near = min(NEIGHBOURS, len(labels) // 3)  # a rehearsal keeps few images
    for epoch, each, layout in zip(run.features["epochs"], features(run), layouts(run), strict=True):
        h, y = torch.from_numpy(each).double(), torch.from_numpy(labels)
        nearest = KNeighborsClassifier(near).fit(each, labels).kneighbors(return_distance=False)
        votes = np.array([np.bincount(labels[row]).argmax() for row in nearest])
        rows.append({
            "epoch": epoch, "nc1": run.history["nc1"][epoch] if "nc1" in run.history else math.nan,
            "compactness": metrics.compactness(h, y), "distinctiveness": metrics.distinctiveness(h, y),
            "silhouette": float(silhouette_score(each, labels)), "neighbours": float((votes == labels).mean()),
            "trust": float(trustworthiness(each[drawn(run)], layout, n_neighbors=near))})
    return pd.DataFrame(rows)


def slider(runs: dict[str, Run], colours: list[str]) -> str:
    """HTML with a slider over the epochs: the layouts of some runs (title -> run) beside each other, drawn by a few
    lines of JavaScript; nothing is loaded from anywhere. Between two epochs the points go straight."""
    first = next(iter(runs.values()))
    panels = [{"title": title, "points": np.round(layouts(run).astype(float), 3).tolist(),
               "labels": run.features["labels"][drawn(run)]}
              for title, run in runs.items()]
    data = json.dumps({"epochs": first.features["epochs"], "panels": panels, "colours": colours},
                      separators=(",", ":"))
    last = str(len(first.features["epochs"]) - 1)
    html = _SLIDER.replace("PLACE", f"slider-{first.config.key}").replace("LAST", last).replace("DATA", data)
    return html.replace("LOSSES", " and ".join(names.of(run.config.loss) for run in runs.values()))


_SLIDER = """<figure id="PLACE">
<label style="display:block">Epoch <output></output><br>
<input type="range" min="0" max="LAST" step="0.05" value="LAST" style="width:100%"
 aria-label="epoch of the layouts of LOSSES"></label>
<div style="display:flex;flex-wrap:wrap;gap:1em"></div>
<script>(() => {
  const data = DATA, root = document.getElementById("PLACE");
  const input = root.querySelector("input"), told = root.querySelector("output"), place = root.querySelector("div");
  const canvases = data.panels.map(panel => {
    const box = document.createElement("div"), title = document.createElement("div");
    const canvas = document.createElement("canvas");
    title.textContent = panel.title; canvas.width = canvas.height = 640; canvas.style.width = "100%";
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", "layout of the features, " + panel.title);
    box.style.flex = "1 1 260px"; box.append(title, canvas); place.append(box);
    return canvas;
  });
  const draw = () => {
    const at = Number(input.value), low = Math.floor(at), high = Math.min(low + 1, data.epochs.length - 1);
    const part = at - low, nearest = Math.round(at);
    told.textContent = data.epochs[nearest];
    data.panels.forEach((panel, i) => {
      const pen = canvases[i].getContext("2d");
      pen.clearRect(0, 0, 640, 640);
      panel.labels.forEach((label, n) => {
        const [a, b] = [panel.points[low][n], panel.points[high][n]];
        const x = a[0] + part * (b[0] - a[0]), y = a[1] + part * (b[1] - a[1]);
        pen.fillStyle = data.colours[label % data.colours.length];
        pen.beginPath(); pen.arc(320 + 305 * x, 320 - 305 * y, 5, 0, 7); pen.fill();
      });
    });
  };
  input.addEventListener("input", draw); draw();
})();</script></figure>"""
