"""Runs of several batch sizes as numbers, beside the minimum of the model that each batch size stands for."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bcebook import names
from bcebook.lazy import lazy
from bcebook.report import frames, markdown, predictions
from bcebook.runs.config import RunConfig, batch_count
from bcebook.science import theory

if TYPE_CHECKING:
    from bcebook.runs.store import Run

torch = lazy("torch")
losses, loop = lazy("bcebook.science.losses"), lazy("bcebook.training.loop")
heads = lazy("bcebook.training.heads")

FITTED = 0.995  # share of the training images that are classified right: with less, there is no collapse to speak of
FEATURES = {"free": "of either sign", "nonnegative": "of zero or above"}
COLUMNS = ["loss", "batch", "seed", "c", "rate", "fitted", "accuracy", "positive", "bias", "negative", "gap",
           "best_positive", "best_bias", "best_negative", "best_gap", "own_positive", "own_negative", "own_gap"]


@functools.cache
def minimum(features: str, loss: str, classes: int, c: float) -> tuple[float, float, float]:
    """(positive, negative, bias) of f's minimum without decay of the bias, for "free" or "nonnegative" features;
    CE's bias is nan, as nothing determines it."""
    best = theory.minimum(loss, classes, c, features=features)
    return best.positive, best.negative, math.nan if loss == "ce" else best.bias


def gap_formula(loss: str, classes: int, c):
    """Positive minus negative score at the minimum for features of either sign, lambda_b = 0 and c < 1/K."""
    wrong = np.log((1 - (classes - 1) * c) / c)
    return wrong if loss == "ce" else wrong + np.log((1 - c) / ((classes - 1) * c))


def gap_at_minimum(run: Run, batch_size: float | None = None, own_bias: bool = False) -> float:
    """Positive minus negative score at the minimum for a run's batch size, or for another; own_bias: with BCE's biases
    held at the network's median bias."""
    features, classes, c = frames.model(run, batch_size)
    if own_bias and run.config.loss == "bce":
        positive, negative = theory.resting_scores(classes, c, frames.summary(run, "train", "bias").median, features)
    else:
        positive, negative, _ = minimum(features, run.config.loss, classes, c)
    return positive - negative


def fitted(run: Run) -> bool:
    return run.final["train_accuracy"] >= FITTED


def unfitted(runs: list[Run]) -> list[str]:
    """The runs that do not fit their training images, each loss and batch size once: "BCE at 512"."""
    return list(dict.fromkeys(f"{names.of(run.config.loss)} at {run.config.batch_size}" for run in runs
                              if not fitted(run)))


def left_out(runs: list[Run]) -> str:
    """The same in a sentence; empty where all fit."""
    each = unfitted(runs)
    return (f"Fewer than {markdown.percent(FITTED)} % of the training images right, and so left out where networks "
            f"are compared with a minimum: {markdown.listed(each)}.") if each else ""


def wide(runs: list[Run]) -> pd.DataFrame:
    """A row a run: loss, batch, seed, rate, c, fitted (a truth value), accuracy (share of the training images that are
    classified right), the medians positive, bias, negative and the gap between the scores; the same at the minimum for
    the batch size (`best_`), and scores and gap at the minimum at the network's own median bias (`own_`)."""
    rows = []
    for run in runs:
        features, classes, c = frames.model(run)
        row = {kind: frames.summary(run, "train", kind).median for kind in frames.KINDS}
        best = minimum(features, run.config.loss, classes, c)
        own = best if run.config.loss == "ce" else theory.resting_scores(classes, c, row["bias"], features)
        row |= dict(zip(("best_positive", "best_negative", "best_bias"), best, strict=True))
        row |= {"own_positive": own[0], "own_negative": own[1]}
        row |= {f"{of}gap": row[f"{of}positive"] - row[f"{of}negative"] for of in ("", "best_", "own_")}
        rows.append({"loss": run.config.loss, "batch": run.config.batch_size, "seed": run.config.seed, "c": c,
                     "rate": run.config.learning_rate, "fitted": fitted(run),
                     "accuracy": run.final["train_accuracy"]} | row)
    return pd.DataFrame(rows, columns=COLUMNS)


def settings(runs: list[Run]) -> pd.DataFrame:
    """`wide`, seeds averaged: a row a loss and batch size, in their order."""
    table = wide(runs).drop(columns=["seed", "fitted"])
    table = table.groupby(["loss", "batch"], as_index=False).mean()
    return table.iloc[np.lexsort((table["batch"], table["loss"].map(list(names.LOSS).index)))]


def of_loss(runs: list[Run], loss: str) -> pd.DataFrame:
    """`settings` of one loss, of the runs that fit their training images: those that do not are at no minimum."""
    return settings([run for run in runs if run.config.loss == loss and fitted(run)])


def change(runs: list[Run], loss: str) -> tuple[float, float, int]:
    """The gap at the largest batch minus that at the smallest, of the networks and at the minimum; over how many batch
    sizes (of a single one nothing is known)."""
    table = of_loss(runs, loss)
    if len(table) < 2:
        return math.nan, math.nan, 0
    gap, best = (table[name].iloc[-1] - table[name].iloc[0] for name in ("gap", "best_gap"))
    return float(gap), float(best), len(table)


def recognised(runs: list[Run], loss: str, own_bias: bool) -> list[tuple[bool, float]]:
    """For each run of a loss that fits its training images: whether its gap is nearer to that of the minimum for its
    own batch size than to that for any other that is tried, and by what fraction it is off."""
    runs = [run for run in runs if run.config.loss == loss]
    tried, found = {run.config.batch_size for run in runs}, []
    for run in runs if len(tried) > 1 else []:
        gap = frames.summary(run, "train", "positive").median - frames.summary(run, "train", "negative").median
        best = {size: gap_at_minimum(run, size, own_bias) for size in tried}
        own = best.pop(run.config.batch_size)
        if fitted(run):
            found.append((all(abs(gap - own) < abs(gap - other) for other in best.values()), abs(gap / own - 1)))
    return found


def bias_moves(runs: list[Run]) -> pd.DataFrame:
    """BCE's runs, seeds averaged, a row a batch size: batch, start and end (the mean bias before and after training),
    best_bias (at the minimum), rates (the learning rates of all steps, divided by one minus SGD's momentum), reach (c
    times rates)."""
    rows = []
    for run in runs:
        if run.config.loss == "bce" and fitted(run):
            features, classes, c = frames.model(run)
            rates, means = frames.rates_sum(run) / (1 - predictions.MOMENTUM), run.history["bias_mean"]
            rows.append([run.config.batch_size, means[0], means[-1], minimum(features, "bce", classes, c)[2], rates,
                         c * rates])
    table = pd.DataFrame(rows, columns=["batch", "start", "end", "best_bias", "rates", "reach"], dtype=float)
    return table.groupby("batch", as_index=False).mean()


def by_mean_batch(run: Run) -> float:
    """How the gap of the minimum changes, as a fraction, with the mean size of a batch in the place of the batch
    size, since the last batch of an epoch is smaller."""
    count = run.scores["train"]["positive"]["count"]
    size = count / batch_count(count, run.config.batch_size)
    return gap_at_minimum(run, size) / gap_at_minimum(run) - 1


def gradient_error(loss: str, size: int, classes: int = 4, dim: int = 5, per_class: int = 6) -> float:
    """The largest difference between two gradients at drawn W, H and b: of the engine's loss and decay, averaged over
    the mini-batches of an epoch, and of f with lambda_h B / N in the place of lambda_h. size: B, a divisor of N."""
    decays = {"lambda_w": 0.3, "lambda_h": 0.2, "lambda_b": 0.1}
    config = RunConfig(model="convnet", dataset="digits", loss=loss, optimizer="sgd", learning_rate=0.1, epochs=1,
                       **decays)
    generator, labels = torch.Generator().manual_seed(size), torch.arange(classes).repeat(per_class)
    head, H = heads.Linear(dim, classes), torch.randn((dim, classes), generator=generator).requires_grad_()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    share = size / len(labels)
    for batch in torch.randperm(len(labels), generator=generator).split(size):
        features = H.T[labels[batch]]  # all samples of a class share theirs
        value = losses.LOSSES[loss](head(features), labels[batch]) + loop.penalty(config, head, features)
        (share * value).backward()
    points = (head.weight, H, head.bias)
    whole = theory.gradient(loss, *(x.detach().double().numpy() for x in points), np.full(classes, per_class), 0.3,
                            0.2 * share, 0.1)
    return float(max(np.abs(x.grad.numpy() - g).max() for x, g in zip(points, whole, strict=True)))
