"""Classifier rows of small classes: at minima of the model, whose longest searches stand in data/theory, and in trained
networks."""

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
from bcebook.science import metrics, minority, theory, verdicts
from bcebook.science.verdicts import Finding
from bcebook.training import datasets, measure

if TYPE_CHECKING:
    from bcebook.runs.store import Run

CASES = {"2 × 100, 4 × 5": (100, 100, 5, 5, 5, 5), "300, 200, 100, 2 × 2": (300, 200, 100, 2, 2),
         "2 × 60, 30, 2 × 8": (60, 60, 30, 8, 8), "5 × 50, 5 × 1": (50,) * 5 + (1,) * 5, "6 × 7": (7,) * 6}
BIAS_DECAYS = (0.0, 0.01)
SIDED = ("2 × 100, 4 × 5", "300, 200, 100, 2 × 2", "6 × 7")  # of CASES: those that SIDES minimises
ASIDE = 0.02  # how far from the threshold it does
FEW = 2  # dimensions: fewer than any of them has classes
PAPER_PRODUCT = PLAIN["batch_size"] * PLAIN["lambda_w"] * PLAIN["lambda_h"]  # B lambda_W lambda_H


# ---- minima of the model ---------------------------------------------------------------------------------------------

def _threshold(case: str, lambda_b: float) -> dict[str, float]:
    return {loss: minority.threshold(loss, CASES[case], lambda_b) for loss in LOSS}


# Columns: ce, bce, the `minority.threshold` of each loss.
_CASES = tuple({"case": name, "lambda_b": value} for name in CASES for value in BIAS_DECAYS)
THRESHOLDS = TheoryTable(
    "imbalance_thresholds",
    f"A bisection of {minority.STEPS} steps a loss, each one minimisation from one random start (seed 0) in K "
    "dimensions.", _CASES, _threshold, tuple(each for each in _CASES if each["case"] == "6 × 7"),
    close=2 * minority.LAST_STEP)


def _side(case: str, features: str, dim: int, lambda_b: float, loss: str) -> dict[str, float]:
    counts = CASES[case]
    found = minority.at_multiple(loss, counts, 1 - ASIDE, lambda_b, features, dim)
    row = {"below": minority.relative_distance(found.W, counts), "above": np.nan, "norm": np.nan}
    if dim > FEW:
        found = minority.at_multiple(loss, counts, 1 + ASIDE, lambda_b, features, dim)
        norms = np.linalg.norm(found.H[:, np.array(counts) == min(counts)], axis=0)
        row |= {"above": minority.relative_distance(found.W, counts), "norm": float(norms.max())}
    return row


def _spaces(num_classes: int) -> list[tuple[str, int, float]]:
    """Features, dimensions and lambda_b of SIDES."""
    many = num_classes * (num_classes + 1) // 2 + 1
    return [(features, FEW, 0.01) for features in theory.FEATURES] + [
        ("nonnegative", many, value) for value in BIAS_DECAYS]


# Columns: below, above: the relative distance where a tail class has ASIDE fewer or more samples than at the threshold;
# norm: the largest length of a tail feature above it. above and norm are nan in few dimensions, where the theorem makes
# no statement above the threshold.
_SIDES = tuple({"case": name, "features": features, "dim": dim, "lambda_b": value, "loss": loss}
               for name in SIDED for features, dim, value in _spaces(len(CASES[name])) for loss in LOSS)
SIDES = TheoryTable(
    "imbalance_sides", f"Best of {minority.SEARCHES} minimisations from random starts (seed 0).", _SIDES, _side,
    tuple(each for each in _SIDES if each["case"] == "6 × 7" and each["loss"] == "bce" and each["lambda_b"] > 0))


def opening(cases: dict[str, tuple[int, ...]], multiples: tuple[float, ...]) -> pd.DataFrame:
    """How far the tail is open above the threshold; read-only. A row for each case (name -> class sizes), lambda_b and
    multiple of the threshold; columns ce, bce (`minority.relative_distance`) and ratio (BCE's over CE's)."""
    return _opening(tuple(cases.items()), tuple(multiples))


@functools.cache
def _opening(cases: tuple, multiples: tuple[float, ...]) -> pd.DataFrame:
    rows = []
    for name, counts in cases:
        if len(set(counts)) > 1:
            for lambda_b in BIAS_DECAYS:
                for multiple in multiples:
                    found = {loss: minority.at_multiple(loss, counts, multiple, lambda_b).W for loss in LOSS}
                    rows.append({"case": name, "lambda_b": lambda_b, "multiple": multiple}
                                | {loss: minority.relative_distance(W, counts) for loss, W in found.items()})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["bce"] / table["ce"])


# ---- trained networks ------------------------------------------------------------------------------------------------

def class_sizes(run: Run) -> np.ndarray:
    """Training images of each class of a run, (K,). CIFAR's full classes are equal, so its files are not needed."""
    spec = DATASETS[run.config.dataset]
    if run.config.dataset.startswith("cifar") and run.config.imbalance_factor and not run.config.train_size:
        full = spec.train_count // spec.num_classes
        return datasets.long_tailed_sizes(full, spec.num_classes, run.config.imbalance_factor)
    return _class_sizes(run.config.dataset, run.config.train_size, run.config.imbalance_factor).copy()


def shots_of(run: Run) -> str:
    """How many classes are what: "41 many-shot, 41 medium-shot and 18 few-shot at imbalance 50"."""
    counts = measure.shots(class_sizes(run)).items()
    each = markdown.listed(f"{each.sum()} {name}-shot" for name, each in counts)
    return f"{each} at imbalance {run.config.imbalance_factor:g}"


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
    found = minority.at_share(loss, sizes, batch * lambda_w * lambda_h)
    size = theory.minority_collapse_size(total, lambda_w, lambda_h, batch)
    return metrics.tail_geometry(found.W, np.asarray(sizes)), size


def trained_tails(runs: pd.DataFrame) -> pd.DataFrame:
    """A `frame.of` with the minimum of the model beside each run.

    Columns: size, up to which equal classes merge; distance, `TailGeometry.distance` as trained (nan where the run did
    not measure it); predicted_distance; half, halfway between merged (0) and the widest tail of the model, for each
    loss; open and predicted_open, whether the distance lies above that.
    """
    predicted = [predicted_tail(row.loss, class_sizes(row.run), row.lambda_w, row.lambda_h, row.batch_size)
                 for row in runs.itertuples()]
    table = runs.assign(size=[size for _, size in predicted], distance=runs.get("tail_distance", np.nan),
                        predicted_distance=np.array([tail.distance for tail, _ in predicted], float))
    table["half"] = table.groupby("loss")["predicted_distance"].transform("max") / 2
    return table.assign(open=table["distance"] > table["half"],
                        predicted_open=table["predicted_distance"] > table["half"])


def loss_pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """Whether the tail is open under each loss (columns ce, bce): a row for each lambda_W, length of training and seed
    that has both."""
    table = trained_tails(runs).dropna(subset=["distance"])
    pairs = table.pivot(index=["lambda_w", "epochs", "seed"], columns="loss", values="open")
    return pairs.reindex(columns=LOSS).dropna()


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


# ---- what checks the theorem -----------------------------------------------------------------------------------------

def threshold() -> Finding:
    """The bisected thresholds against the theorem's."""
    table = THRESHOLDS.frame
    apart = float((table[["ce", "bce"]] - 1).abs().max().max())
    found = verdicts.check(apart, minority.LAST_STEP, "the width of the bisections' last step", n=2 * len(table),
                           of="thresholds", unit="")
    return found.but(detail=f"the largest difference is {markdown.percent(apart, 3)} %")


def same_threshold() -> Finding:
    """The bisected thresholds of BCE against those of CE."""
    table = THRESHOLDS.frame
    apart = float((table["bce"] / table["ce"] - 1).abs().max())
    found = verdicts.check(apart, 2 * minority.LAST_STEP,
                           "twice the width of the bisections' last step, one for each loss", n=len(table),
                           of="settings", unit="")
    return found.but(detail=f"the largest difference is {markdown.percent(apart, 3)} %")


def sides() -> Finding:
    """The share of the minima of SIDES that contradict the theorem: a tail that is apart below the threshold, or merged
    above it although it has features. Beside it the same without that exception."""
    table = SIDES.frame
    above = table.dropna(subset=["above"])
    early, closed = int((table["below"] > 0).sum()), above["above"] == 0
    vanished = closed & (above["norm"] <= minority.MERGED)
    n = len(table) + len(above)
    plain, found = (verdicts.check((early + int(count.sum())) / n, 0, "one counterexample is enough", n=n,
                                   of="minima", unit="share") for count in (closed, closed & ~vanished))
    return found.but(control=plain.but(label="the same test without the exception for features that are zero"),
                     detail=f"above the threshold {int(vanished.sum())} of {len(above)} tails have zero features")


def far_from_collapse() -> Finding:
    """The collapse size of CIFAR100-LT at the default decays, over its smallest class."""
    table = cifar100_long_tailed()
    found = verdicts.check(float((1 / table["ratio"]).max()), 1,
                           "at a ratio of one equal classes merge", n=len(table),
                           of="imbalances", unit="")
    return found.but(detail=f"the collapse size is at most {markdown.number(table['size'].max())} images, the smallest "
                            f"class at least {markdown.number(table['ratio'].min(), 0)} times that")
