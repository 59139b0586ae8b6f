"""Features that cannot be negative: their minimum beside that of free ones, and trained networks between the two."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bcebook.lazy import lazy
from bcebook.report import frames, predictions
from bcebook.report.theory_tables import TheoryTable
from bcebook.runs.config import PLAIN
from bcebook.science import theory

if TYPE_CHECKING:
    from bcebook.runs.store import Run

metrics = lazy("bcebook.science.metrics")

SETTINGS, RESTARTS = 40, 12
KINDS = ("positive", "negative", "bias")


@functools.cache
def _drawn() -> list[dict]:
    """loss, K, c and lambda_b of each setting."""
    rng, found = np.random.default_rng(0), []
    for at in range(SETTINGS):
        k = int(rng.choice([2, 3, 4, 5, 6, 8]))
        within = at % 5 > 0  # every fifth setting beyond the c at which the scores vanish
        c = float(np.sqrt((k - 1) / k) / k * np.exp(rng.uniform(*((-5, -0.1) if within else (-0.1, 0.6)))))
        lambda_b = float(c * np.exp(rng.uniform(-4, 4))) if at % 4 else 0.0
        found.append({"loss": "ce" if at % 8 == 3 else "bce", "K": k, "c": c, "lambda_b": lambda_b})
    return found


def _minimised(draw: int) -> dict:
    loss, k, c, lambda_b = (setting := _drawn()[draw]).values()
    m, free = (theory.minimum(loss, k, c, lambda_b, features) for features in ("nonnegative", "free"))
    found = theory.solve(loss, k, k, 1.0, c, c, lambda_b, restarts=RESTARTS, features="nonnegative")
    own = np.eye(k, dtype=bool)
    off = np.abs(found.W @ found.H - np.where(own, m.positive, m.negative)).max()
    off = np.nan if (k, lambda_b) == (2, 0) else max(off, np.abs(found.b - m.bias).max())
    lengths = np.linalg.norm(found.H, axis=0)
    cosines = (found.H.T @ found.H / np.outer(lengths, lengths))[~own] if lengths.min() > 1e-6 else [np.nan]
    furthest = max(cosines, key=lambda value: abs(value - m.cosine))
    return setting | {"above": found.objective - m.objective, "above_free": found.objective - free.objective,
                      "off": float(off), "cosine": float(m.cosine), "cosine_found": float(furthest)}


MINIMISED = TheoryTable(
    "nonnegative_minima",
    f"Best of {RESTARTS} minimisations over W, H >= 0 and b from random starts (seed 0), d = K, n = 1, both decays c, "
    "at drawn settings (seed 0).", tuple({"draw": draw} for draw in range(SETTINGS)), _minimised,
    tuple({"draw": draw} for draw in range(4)))


def minimised() -> pd.DataFrame:
    """The minimum of nonnegative features beside a bounded minimisation over W, H and b, a row for each drawn setting.

    loss, K, c, lambda_b; above, above_free: f as found minus f at the minimum of nonnegative features, and of free
    ones, in nats; off: the largest distance of any score or bias from the first (nan where it is not the only minimum:
    two classes, and no decay of the bias); cosine, cosine_found: of two class features, the largest of the found ones
    by distance (nan where there is no length).
    """
    return MINIMISED.frame


@functools.cache
def beside(num_classes: int = 10) -> pd.DataFrame:
    """Both minima at the paper's c: loss, lambda_b; positive, negative, bias and cosine of each, as <name>_free and
    <name>_nonnegative; apart: the largest difference of the three."""
    rows, c = [], predictions.paper_c(num_classes)
    for loss, value in [("ce", 0.0), *(("bce", x) for x in (0.0, 5e-6, 5e-5, 3e-4, 5e-4, 5e-3, 0.05, 0.5))]:
        row = {"loss": loss, "lambda_b": value}
        for features in theory.FEATURES:
            found = theory.minimum(loss, num_classes, c, value, features)
            row |= {f"{name}_{features}": float(getattr(found, name)) for name in (*KINDS, "cosine")}
        rows.append(row | {"apart": max(abs(row[f"{name}_free"] - row[f"{name}_nonnegative"]) for name in KINDS)})
    return pd.DataFrame(rows)


@functools.cache
def collapse(num_classes: int = 10) -> pd.DataFrame:
    """What the measures of collapse see of the assembled minima at the paper's decays: features, loss, lambda_b, nc1,
    nc2, nc2_means, nc3 (`metrics.neural_collapse`), raw (cosine of two class means around zero) and centred."""
    rows, c, decay = [], predictions.paper_c(num_classes), PLAIN["lambda_w"]
    per_class = PLAIN["batch_size"] / num_classes
    labels = np.arange(num_classes)
    for features in theory.FEATURES:
        for loss, value in (("ce", 0.0), ("bce", 0.0), ("bce", 5e-5), ("bce", 5e-4), ("bce", 0.5)):
            m = theory.minimum(loss, num_classes, c, value, features)
            W, H, _ = theory.assemble(m, num_classes, num_classes, decay, decay, per_class)
            rows.append({"features": features, "loss": loss, "lambda_b": value}
                        | vars(metrics.neural_collapse(H.T, labels, W))
                        | {"raw": metrics.mean_cosines(H.T, labels, False).mean,
                           "centred": metrics.mean_cosines(H.T, labels, True).mean})
    return pd.DataFrame(rows)


def published() -> pd.DataFrame:
    """ResNet18's published values (`predictions.values`) as far as the two minima differ by more than the reading
    error there, with nearer: whether the median is nearer to the minimum of nonnegative features."""
    table = predictions.values()
    table = table[table["model"].map(predictions.FEATURES) == "nonnegative"]
    table = table[(table["free"] - table["nonnegative"]).abs() > table["reading_error"]]
    mine, free = ((table["median"] - table[name]).abs() for name in ("nonnegative", "free"))
    return table.assign(nearer=mine < free)


# ---- trained networks ------------------------------------------------------------------------------------------------

def measured(runs: list[Run]) -> list[Run]:
    """The runs whose engine measured the cosines of class means around zero."""
    return [run for run in runs if "train_raw_cosine_mean" in run.final]


def at_rest(run: Run, features: str) -> dict[str, float]:
    """positive, negative, cosine of the least loss plus decay for features of a kind: CE's minimum; BCE's at the
    network's own median bias, which creeps long after the scores have settled."""
    _, classes, c = frames.model(run)
    if run.config.loss == "ce":
        best = theory.minimum("ce", classes, c, features=features)
        return {"positive": best.positive, "negative": best.negative, "cosine": best.cosine}
    p, q = theory.resting_scores(classes, c, frames.summary(run, "train", "bias").median, features)
    return {"positive": p, "negative": q,
            "cosine": theory.feature_cosine(classes, p - q, abs(p + (classes - 1) * q), features)}


def trained(runs: list[Run]) -> pd.DataFrame:
    """A row for each run whose engine measured raw cosines: network (pair), features, loss, seed, nc1; cosine (of two
    class means around zero, training set), positive and negative (medians), with `at_rest` for either kind of features
    beside each as <name>_free and <name>_nonnegative; bias (median) and bias_minimum; CE's are nan, as nothing
    determines it."""
    rows = []
    for run in measured(runs):
        features, classes, c = frames.model(run)
        config = run.config
        row = {"network": frames.network(run), "features": features, "loss": config.loss, "seed": config.seed,
               "nc1": run.final["train_nc1"], "cosine": run.final["train_raw_cosine_mean"]}
        row |= {name: frames.summary(run, "train", name).median for name in KINDS}
        for kind in theory.FEATURES:
            row |= {f"{name}_{kind}": float(value) for name, value in at_rest(run, kind).items()}
        row["bias_minimum"] = theory.minimum(config.loss, classes, c, config.lambda_b, features).bias
        rows.append(row | (dict.fromkeys(("bias", "bias_minimum"), np.nan) if config.loss == "ce" else {}))
    columns = ["network", "features", "loss", "seed", "nc1", *KINDS, "bias_minimum", "cosine",
               *(f"{name}_{kind}" for kind in theory.FEATURES for name in ("positive", "negative", "cosine"))]
    return pd.DataFrame(rows, columns=columns)
