"""The biases of our own runs, epoch by epoch, beside their slow flow with nothing fitted."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bcebook.report import frames, predictions
from bcebook.runs.config import batch_count
from bcebook.science import theory

if TYPE_CHECKING:
    from bcebook.runs.store import Run

COLLAPSED = 0.5  # NC1 from which on a network counts as collapsed: its scores then follow its classifier and bias
SWEEP = ["network", "optimizer", "decays"]  # what runs of one have in common
LEAST_WAY = 0.05  # of the biases of a sweep, on average: a shorter one has no parts to speak of


def suits(run: Run) -> bool:
    """Whether the flow speaks of a run: BCE with decoupled decay, SGD, or AdamW if its clock was recorded."""
    config = run.config
    if (config.loss, config.decay) != ("bce", "decoupled"):
        return False
    return config.optimizer == "sgd" or "bias_pace" in run.history


def spent(run: Run) -> np.ndarray:
    """The effective time after each epoch: the sum over the steps of the learning rate times how far a step moves a
    bias for a unit of its gradient, which SGD knows and AdamW's record says (`measure.bias_pace`, the mean of an
    epoch's two ends; before its first step that of the first epoch's end)."""
    config, epochs = run.config, len(run.history["epoch"])
    steps = batch_count(run.scores["train"]["positive"]["count"], config.batch_size)
    rates = np.array([config.rate(epoch) for epoch in range(1, epochs)])
    if config.optimizer == "sgd":
        pace = np.full(epochs - 1, 1 / (1 - predictions.MOMENTUM))
    else:
        seen = np.array(run.history["bias_pace"])
        pace = (np.where(np.isfinite(seen[:-1]), seen[:-1], seen[1:]) + seen[1:]) / 2
    return steps * np.concatenate([[0.0], np.cumsum(rates * pace)])


def path(run: Run, collapsed: float = COLLAPSED) -> pd.DataFrame:
    """A run's mean bias from the epoch on at which NC1 is at most `collapsed`, and what follows from there with nothing
    fitted: epoch, bias, flow (of the bias), both (`with_classifier`); empty where it never is or nothing follows."""
    history, config = run.history, run.config
    nc1 = np.array(history["nc1"])
    known = np.flatnonzero(np.isfinite(nc1) & (nc1 <= collapsed) & (np.array(history["epoch"]) >= 1))
    if not len(known) or known[0] + 1 >= len(nc1):
        return pd.DataFrame(columns=["epoch", "bias", "flow", "both"], dtype=float)
    first = int(known[0])
    time = spent(run)[first:]
    features, classes, c = frames.model(run)
    bias = np.array(history["bias_mean"])[first:]
    flow = _bias_flow(classes, c, float(bias[0]), tuple((time - time[0]).tolist()), config.lambda_b, features)
    return pd.DataFrame({"epoch": np.array(history["epoch"])[first:], "bias": bias, "flow": flow,
                         "both": with_classifier(run, first, time)})


def with_classifier(run: Run, first: int, time: np.ndarray) -> np.ndarray:
    """The bias from an epoch on, at these effective times, by the flow of bias and classifier: from that epoch's median
    scores of the training set and with the recorded cosines of the class means. nan for AdamW, whose classifier has
    another clock than its bias, and where the cosine was not recorded."""
    history, config = run.history, run.config
    cosines = np.array(history.get("raw_cosine", []), float)[first:]
    if config.optimizer != "sgd" or not len(cosines) or not np.isfinite(cosines[0]):
        return np.full(len(history["epoch"]) - first, math.nan)
    _, classes, c = frames.model(run)
    known = np.isfinite(cosines)  # augmented runs look at the training set now and then
    cosines = np.interp(time, time[known], cosines[known])
    bias, positive, negative = (history[name][first] for name in ("bias_mean", "positive_median", "negative_median"))
    return _classifier_flow(classes, c, config.lambda_w, bias, positive, negative, tuple((time - time[0]).tolist()),
                            tuple(cosines.tolist()), config.lambda_b)


@functools.cache
def _bias_flow(classes: int, c: float, start: float, times: tuple, lambda_b: float, features: str) -> np.ndarray:
    """Kept, as is the next: a page's figure, tables and findings ask for the same paths."""
    return theory.bias_flow(classes, c, start, np.array(times), lambda_b, features).bias


@functools.cache
def _classifier_flow(*settings) -> np.ndarray:
    return theory.classifier_flow(*settings).bias


def paths(runs: list[Run], collapsed: float = COLLAPSED) -> list[tuple[Run, pd.DataFrame]]:
    """The runs that the flow speaks of and that collapse, with their paths."""
    found = [(run, path(run, collapsed)) for run in runs if suits(run)]
    return [(run, table) for run, table in found if len(table)]


def moves(runs: list[Run], collapsed: float = COLLAPSED) -> pd.DataFrame:
    """A row for each path: network, optimizer, decays (whether the biases decay), start, lambda_b, seed, epoch
    (collapsed), epochs, moved (of the bias since then), flow and both (what they say), off (the largest distance of the
    flow along the path)."""
    rows = []
    for run, table in paths(runs, collapsed):
        bias, flow, both = (table[name].to_numpy() for name in ("bias", "flow", "both"))
        rows.append({"network": frames.network(run), "optimizer": run.config.optimizer,
                     "decays": run.config.lambda_b > 0, "start": run.config.bias_init_mean,
                     "lambda_b": run.config.lambda_b, "seed": run.config.seed, "epoch": table["epoch"].iloc[0],
                     "epochs": run.config.epochs, "moved": bias[-1] - bias[0], "flow": flow[-1] - flow[0],
                     "both": both[-1] - bias[0], "off": float(np.abs(bias - flow).max())})
    return pd.DataFrame(rows, columns=["network", "optimizer", "decays", "start", "lambda_b", "seed", "epoch",
                                       "epochs", "moved", "flow", "both", "off"])


def wrong(runs: list[Run], collapsed: float = COLLAPSED) -> pd.DataFrame:
    """A row for each network, optimizer and sweep: runs, and the parts of the way that are gone wrong from the epoch on
    at which NC1 is at most `collapsed`, summed over the sweep's runs: flow and both, as in `moves`. nan where the
    way is less than LEAST_WAY, and for both where a run lacks it."""
    rows = []
    for key, group in moves(runs, collapsed).groupby(SWEEP, sort=False):
        way = group["moved"].abs().mean()
        off = group[["flow", "both"]].sub(group["moved"], axis=0).abs().mean(skipna=False)
        rows.append(dict(zip(SWEEP, key, strict=True)) | {"runs": len(group)}
                    | (off / (way if way >= LEAST_WAY else math.nan)).to_dict())
    return pd.DataFrame(rows, columns=[*SWEEP, "runs", "flow", "both"])
