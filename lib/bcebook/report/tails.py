"""Unequal classes at the minimum of the model, and trained tails beside them. The longest searches stand in
data/theory; those that run are shared within a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bcebook import paper
from bcebook.names import LOSS
from bcebook.report import markdown
from bcebook.report.theory_tables import TheoryTable
from bcebook.runs.config import PLAIN, batch_count
from bcebook.runs.specs import DATASETS
from bcebook.science import metrics, theory
from bcebook.training import datasets

if TYPE_CHECKING:
    from bcebook.runs.store import Run

CASES = {"2 of 100, 4 of 5": (100, 100, 5, 5, 5, 5), "300, 200, 100, 2 of 2": (300, 200, 100, 2, 2),
         "5 of 50, 5 of 1": (50,) * 5 + (1,) * 5, "6 equal": (7,) * 6}
BIAS_DECAYS = (0.0, 0.01)
SEARCHES = 8  # where features are not negative or dimensions are few: there are local minima
SIDED = ("2 of 100, 4 of 5", "300, 200, 100, 2 of 2", "6 equal")  # of CASES: those that `sides` minimises
ASIDE = 0.02  # how far from the threshold it does
FEW = 2  # dimensions: fewer than any of them has classes
# a bisection begins with multiples from 1/2 to 2 of the theorem's threshold, and halves so often
BRACKET, STEPS = 4.0, 12
LAST_STEP = BRACKET ** (1 / 2**STEPS) - 1  # the width of its last bracket, relative
MERGED = 1e-3  # rows closer than that have merged: above the threshold their distance grows like a square root
PAPER_PRODUCT = PLAIN["batch_size"] * PLAIN["lambda_w"] * PLAIN["lambda_h"]  # B lambda_W lambda_H


@functools.cache
def _at_share(loss: str, shares: tuple, product: float, lambda_b: float, features: str, dim: int) -> theory.Solution:
    decay, k = np.sqrt(product), len(shares)
    return theory.solve(loss, k, dim, None, decay, decay, lambda_b, counts=np.array(shares), features=features,
                        restarts=1 if features == "free" and dim >= k else SEARCHES)


def at_share(loss: str, shares, product: float, lambda_b: float = 0.0, features: str = "free",
             dim: int | None = None) -> theory.Solution:
    """The minimum in dim (None: K) dimensions for shares (K,) of the data and product = B lambda_W lambda_H. For free
    features and dim >= K every local minimum is global; otherwise it is the best of several searches.

    In mini-batches of B the size N of the data set does not matter: lambda_H acts as lambda_H B / N, so that class k's
    features are decayed by lambda_H B times the class's share. Both decays are taken equal: only their product enters
    the logits.
    """
    shares = np.asarray(shares, float) / np.sum(shares)
    return _at_share(loss, tuple(shares.tolist()), float(product), float(lambda_b), features, dim or len(shares))


def tail_width(found: theory.Solution, shares) -> float:
    """Largest distance between two rows of the smallest classes."""
    rows = found.W[np.asarray(shares) == min(shares)]
    return float(np.linalg.norm(rows[:, None] - rows[None], axis=-1).max())


def _threshold(case: str, lambda_b: float) -> dict[str, float]:
    counts = CASES[case]
    share = counts[-1] / sum(counts)
    row = {loss: bisected(loss, counts, share, lambda_b) for loss in LOSS}
    widths = [tail_width(at_share(loss, counts, share / 1.05, lambda_b), counts) for loss in ("ce", "bce")]
    return row | {"apart": widths[1] / widths[0]}


_CASES = tuple({"case": name, "lambda_b": value} for name in CASES for value in BIAS_DECAYS)
THRESHOLDS = TheoryTable(
    "imbalance_thresholds",
    f"A bisection of {STEPS} steps a loss, each one minimisation from one random start (seed 0) in K dimensions.",
    _CASES, _threshold, tuple(each for each in _CASES if each["case"] == "6 equal"), close=2 * LAST_STEP)


def thresholds() -> pd.DataFrame:
    """Bisection on `theory.solve`: where the tail rows of each of CASES separate, over the theorem's B lambda_W
    lambda_H.

    Columns case, lambda_b; ce, bce: share of a tail class at the threshold over B lambda_W lambda_H, 1 if the theorem
    holds, to the last step's width; apart: BCE's distance between tail rows over CE's where that share is 5 % above the
    threshold.
    """
    return THRESHOLDS.frame


def bisected(loss: str, counts: tuple, share: float, lambda_b: float, steps: int = STEPS) -> float:
    """The multiple share / product at which the tail opens: merged below it, apart above it."""
    low, high = BRACKET**-0.5, BRACKET**0.5
    for _ in range(steps):
        middle = np.sqrt(low * high)
        apart = tail_width(at_share(loss, counts, share / middle, lambda_b), counts) > MERGED
        low, high = (low, middle) if apart else (middle, high)
    return float(np.sqrt(low * high))


def _side(case: str, features: str, dim: int, lambda_b: float, loss: str) -> dict[str, float]:
    counts = CASES[case]
    share, tail = counts[-1] / sum(counts), np.array(counts) == min(counts)
    below = at_share(loss, counts, share / (1 - ASIDE), lambda_b, features, dim)
    row = {"below": tail_width(below, counts), "above": np.nan, "norm": np.nan}
    if dim > FEW:
        above = at_share(loss, counts, share / (1 + ASIDE), lambda_b, features, dim)
        row |= {"above": tail_width(above, counts), "norm": float(np.linalg.norm(above.H[:, tail], axis=0).max())}
    return row


def _spaces(num_classes: int) -> list[tuple[str, int, float]]:
    """Features, dimensions and lambda_b of `sides`."""
    many = num_classes * (num_classes + 1) // 2 + 1
    return [(features, FEW, 0.01) for features in theory.FEATURES] + [
        ("nonnegative", many, value) for value in BIAS_DECAYS]


_SIDES = tuple({"case": name, "features": features, "dim": dim, "lambda_b": value, "loss": loss}
               for name in SIDED for features, dim, value in _spaces(len(CASES[name])) for loss in LOSS)
SIDES = TheoryTable(
    "imbalance_sides", f"Best of {SEARCHES} minimisations from random starts (seed 0).", _SIDES, _side,
    tuple(each for each in _SIDES if each["case"] == "6 equal" and each["loss"] == "bce" and each["lambda_b"] > 0))


def sides() -> pd.DataFrame:
    """The tails of SIDED just below and just above the theorem's threshold, where features are not negative or
    dimensions are few.

    Columns case, features, dim, lambda_b, loss; below, above: the distance of two tail rows where a tail class has
    ASIDE fewer or more samples than at the threshold; norm: the largest length of a tail feature above it. above and
    norm are nan in few dimensions, of which the theorem says nothing there.
    """
    return SIDES.frame


def told(width: float, norm: float) -> str:
    """A distance of `sides` in a word where the rows are not apart."""
    if np.isnan(width):
        return markdown.DASH
    if width > MERGED:
        return markdown.number(width, 3)
    return "no features" if norm <= MERGED else "merged"


@functools.cache
def head_and_tail(loss: str, ratio: float, product: float) -> dict[str, float]:
    """Five large and five small classes, `ratio` to one: angles (degrees) within, mean length and mean bias of both
    groups.

    Angles are between rows taken around the mean row, which CE leaves free; 0 where the rows agree to a thousandth of
    the longest, because beyond the threshold they may vanish altogether.
    """
    found, row = at_share(loss, [ratio] * 5 + [1] * 5, product), {}
    W = found.W - found.W.mean(axis=0)
    lengths = np.linalg.norm(W, axis=1)
    for group, rows in (("head", slice(0, 5)), ("tail", slice(5, 10))):
        merged = np.abs(W[rows] - W[rows].mean(axis=0)).max() < 1e-3 * lengths.max()
        cosines = W[rows] @ W[rows].T / np.outer(lengths[rows], lengths[rows])
        cosine = 1.0 if merged else cosines[np.triu_indices(5, 1)].mean()
        row |= {f"{group}_angle": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
                f"{group}_norm": float(lengths[rows].mean()), f"{group}_bias": float(found.b[rows].mean())}
    return row


@functools.cache
def opened(ratio: float = 1000.0) -> pd.DataFrame:
    """The tail far from the threshold, five classes `ratio` times as large as the five others, at the paper's decay:
    lambda_b, loss, angle of two small rows, around_mean (the same around the mean row), distance of small rows over
    that of large ones."""
    rows = []
    for value in BIAS_DECAYS:
        for loss in LOSS:
            W = at_share(loss, [ratio] * 5 + [1] * 5, PAPER_PRODUCT, value).W
            angle, around = (float(np.degrees(np.arccos(V[5] @ V[6] / np.linalg.norm(V[5]) / np.linalg.norm(V[6]))))
                             for V in (W, W - W.mean(axis=0)))
            distance = float(np.linalg.norm(W[5] - W[6]) / np.linalg.norm(W[0] - W[1]))
            rows.append({"ratio": ratio, "lambda_b": value, "loss": loss, "angle": angle, "around_mean": around,
                         "distance": distance})
    return pd.DataFrame(rows)


# ---- trained networks ------------------------------------------------------------------------------------------------

def class_sizes(run: Run) -> np.ndarray:
    """Training images of each class of a run, (K,)."""
    return _class_sizes(run.config.dataset, run.config.train_size, run.config.imbalance_factor).copy()


@functools.cache
def _class_sizes(dataset: str, train_size: int | None, imbalance_factor: float | None) -> np.ndarray:
    return np.bincount(datasets.load(dataset).subset(train_size, imbalance_factor).y_train)


def predicted_tail(loss: str, sizes: np.ndarray, lambda_w: float, lambda_h: float,
                   batch_size: int) -> tuple[metrics.TailGeometry, float]:
    """The tail at the minimum for these class sizes, and the size up to which equal classes merge.

    The last batch of an epoch is smaller and counts as much as the others: B is the mean batch, N over the batches of
    an epoch.
    """
    total = int(np.sum(sizes))
    batch = total / batch_count(total, batch_size)
    found = at_share(loss, sizes, batch * lambda_w * lambda_h)
    size = theory.minority_collapse_size(total, lambda_w, lambda_h, batch)
    return metrics.tail_geometry(found.W, np.asarray(sizes)), size


def trained_tails(runs: list[Run]) -> pd.DataFrame:
    """A row a run: key, loss, lambda_w, epochs, seed, size (up to which equal classes merge), distance and cosine of
    its tail rows as trained and as predicted_*, accuracy and uniform (test, fractions). nan where a run did not measure
    its tail."""
    rows = []
    for run in runs:
        c = run.config
        tail, size = predicted_tail(c.loss, class_sizes(run), c.lambda_w, c.lambda_h, c.batch_size)
        settings = {name: getattr(c, name) for name in ("key", "loss", "lambda_w", "epochs", "seed")}
        rows.append(settings | {"size": size}
                    | {f"predicted_{name}": value for name, value in vars(tail).items()}
                    | {name: run.final.get(f"tail_{name}", np.nan) for name in ("distance", "cosine")}
                    | {"accuracy": run.final["test_accuracy"], "uniform": run.final["test_uniform_accuracy"]})
    columns = ["key", "loss", "lambda_w", "epochs", "seed", "size", "predicted_distance", "predicted_cosine",
               "distance", "cosine", "accuracy", "uniform"]
    return pd.DataFrame(rows, columns=columns)


# ---- the paper's long tail -------------------------------------------------------------------------------------------

def long_tailed_sizes(factor: float) -> np.ndarray:
    """Images a class of CIFAR100-LT, (100,): 500 factor^(-k/99), rounded down as in `datasets.Dataset.subset`."""
    spec = DATASETS["cifar100"]
    return datasets.long_tailed_sizes(spec.train_count // spec.num_classes, spec.num_classes, factor)


def _long_tail(factor: int, loss: str) -> dict[str, float]:
    tail, _ = predicted_tail(loss, long_tailed_sizes(factor), PLAIN["lambda_w"], PLAIN["lambda_h"],
                             PLAIN["batch_size"])
    return {"distance": tail.distance}


_LONG_TAILS = tuple({"factor": factor, "loss": loss} for factor in (10, 50, 100) for loss in LOSS)
LONG_TAILS = TheoryTable(
    "cifar100_long_tailed", "One minimisation from a random start (seed 0), 100 classes in 100 dimensions, both decays "
    "5e-4, batches of 128.", _LONG_TAILS, _long_tail, _LONG_TAILS[:1])


@functools.cache
def cifar100_long_tailed() -> pd.DataFrame:
    """The settings of the paper's CIFAR100-LT table: factor, total N, smallest class, size up to which equal classes
    merge at the paper's decay and batch size, ratio of the two, needed (the decay, of W and H alike, at which that size
    is the smallest class), ce_tail and bce_tail (`TailGeometry.distance` at the minimum), and the published accuracies
    ce and bce, fractions."""
    rows = []
    for factor, group in paper.long_tailed().groupby("imbalance_factor"):
        sizes = long_tailed_sizes(factor)
        smallest = int(sizes.min())
        size = theory.minority_collapse_size(sizes.sum(), PLAIN["lambda_w"], PLAIN["lambda_h"], PLAIN["batch_size"])
        minimised = LONG_TAILS.frame[LONG_TAILS.frame["factor"] == factor].set_index("loss")["distance"]
        tails = {f"{loss}_tail": minimised[loss] for loss in LOSS}
        published = dict(zip(group["loss"], group["accuracy"], strict=True))
        row = {"factor": factor, "total": int(sizes.sum()), "smallest": smallest, "size": size,
               "ratio": smallest / size}
        rows.append(row | {"needed": PLAIN["lambda_w"] * np.sqrt(smallest / size)} | tails | published)
    return pd.DataFrame(rows)


def halves(runs: list[Run]) -> pd.DataFrame:
    """`trained_tails` of the runs that measured their tail, with half (halfway between merged, 0, and the model's
    tail at the smallest lambda_W, a loss each), open and predicted_open (the distance lies above that)."""
    table = trained_tails(runs).dropna(subset=["distance"])
    table["half"] = table.groupby("loss")["predicted_distance"].transform("max") / 2
    return table.assign(open=table["distance"] > table["half"],
                        predicted_open=table["predicted_distance"] > table["half"])
