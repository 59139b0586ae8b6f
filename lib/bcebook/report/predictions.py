"""The published medians beside what the model's minima predict for them, and beside how far decay alone moves CE's
bias."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from bcebook import paper
from bcebook.runs.config import PLAIN, PLAIN_RATE, RunConfig, batch_count
from bcebook.runs.specs import DATASETS, NETWORKS
from bcebook.science import theory

START_SWEEP, DECAY_SWEEP = "initial_bias_mean", "lambda_b"  # what the published figures vary
NETWORK = ["model", "dataset"]
PANEL = [*NETWORK, "loss", "optimizer"]
# ResNet18's data set is not stated on its figure; the page says which of the two its scores fit.
CLASSES = {"cifar10": 10, "cifar100": 100, "unstated": 10}
# ViT and Swin end in a LayerNorm.
FEATURES = {"ViT": "free", "Swin": "free", "ResNet18": NETWORKS["resnet18"].features}
SLACK = 0.05  # beyond the reading error: how far the median of a trained network may lie from the minimum, and agree
START = 10.0  # the initial bias mean of the sweep over lambda_b
MOMENTUM = 0.9  # SGD's, in the paper and here
MOVED = (0.3, 9.95)  # biases between these have neither decayed nor stayed, so that they tell the time


def paper_c(num_classes: int) -> float:
    """c = sqrt(n lambda_W lambda_H) of the paper's bias experiments."""
    return theory.effective_c(PLAIN["lambda_w"], PLAIN["lambda_h"], PLAIN["batch_size"], num_classes)


@functools.cache
def minimum(features: str, loss: str, num_classes: int, lambda_b: float) -> dict[str, float]:
    """positive, negative, bias and objective at the paper's c, for "free" or "nonnegative" features."""
    found = theory.minimum(loss, num_classes, paper_c(num_classes), lambda_b, features)
    return {name: float(getattr(found, name)) for name in ("positive", "negative", "bias", "objective")}


@functools.cache
def medians() -> pd.DataFrame:
    """Every published median with its predictions; one frame for all, so treat it as read-only.

    Columns of `paper.medians`; varied; trivial: CE's bias without decay, which every minimum leaves free, so that its
    prediction is its own start; free, nonnegative, other: predicted by the minimum of such features, and by the OTHER
    loss's minimum; predicted: by that of the network's own features (FEATURES); residual: median - predicted;
    tolerance; within, within_free, within_nonnegative, within_other: no further off than the tolerance, the reading
    error + SLACK.
    """
    table = pd.concat([paper.medians(varied).assign(varied=varied) for varied in (START_SWEEP, DECAY_SWEEP)],
                      ignore_index=True)
    table["trivial"] = (table["loss"] == "ce") & (table["quantity"] == "bias") & (table["varied"] == START_SWEEP)

    def predict(row, features: str, loss: str) -> float:
        lambda_b = row["value"] if row["varied"] == DECAY_SWEEP else 0.0
        found = minimum(features, loss, CLASSES[row["dataset"]], lambda_b)
        return row["value"] if row["trivial"] else found[row["quantity"]]

    rows = [row for _, row in table.iterrows()]
    for kind in ("free", "nonnegative"):
        table[kind] = [predict(row, kind, row["loss"]) for row in rows]
    swap = {"ce": "bce", "bce": "ce"}
    table["other"] = [predict(row, FEATURES[row["model"]], swap[row["loss"]]) for row in rows]
    table["predicted"] = table["free"].where(table["model"].map(FEATURES) == "free", table["nonnegative"])
    table["residual"] = table["median"] - table["predicted"]
    table["tolerance"] = table["reading_error"] + SLACK
    for name, of in (("within", "predicted"), *((f"within_{kind}", kind) for kind in ("free", "nonnegative", "other"))):
        table[name] = (table["median"] - table[of]).abs() <= table["tolerance"] + 1e-9
    return table


def where(table: pd.DataFrame, **conditions) -> pd.DataFrame:
    """The rows in which each of these columns has this value."""
    return table[(table[list(conditions)] == pd.Series(conditions)).all(axis=1)]


@functools.cache
def values() -> pd.DataFrame:
    """One row for each value that the model predicts: columns of `medians` that a value keeps, and of how many medians
    it is.

    In the sweep over the start the minimum is the same for every start, so that nine starts of one network make ONE
    value a network, loss, optimizer and quantity, their middle one; trivial medians are left out. In the sweep over
    lambda_b each median has a minimum, and a trained network, of its own.
    """
    table = medians()
    table = table[~table["trivial"]]
    starts = where(table, varied=START_SWEEP).groupby([*PANEL, "varied", "quantity"], sort=False)
    middle = starts.agg(median=("median", "median"), medians=("median", "size"), **{
        name: (name, "first") for name in ("free", "nonnegative", "other", "predicted", "tolerance", "reading_error")})
    every = pd.concat([middle.reset_index(), where(table, varied=DECAY_SWEEP).assign(medians=1)], ignore_index=True)
    for name, of in (("within", "predicted"), *((f"within_{kind}", kind) for kind in ("free", "nonnegative", "other"))):
        every[name] = (every["median"] - every[of]).abs() <= every["tolerance"] + 1e-9
    return every[[*PANEL, "varied", "value", "quantity", "median", "medians", "free", "nonnegative", "other",
                  "predicted",
                  "reading_error", "within", "within_free", "within_nonnegative", "within_other"]]


# ---- panels ----------------------------------------------------------------------------------------------------------

def panels(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each panel of a figure: medians; within; middle and largest residual; scores: all scores within;
    logits: the largest residual of score minus bias; moves: the most that one quantity's residual varies; room: what
    reading explains of it; reading."""
    rows = []
    for key, panel in table.groupby([*PANEL, "varied"], sort=False):
        wide = panel.pivot(index="value", columns="quantity", values="residual")
        row = dict(zip([*PANEL, "varied"], key, strict=True)) | {
            "medians": len(panel), "within": int(panel["within"].sum()), "middle": panel["residual"].median(),
            "largest": panel["residual"].abs().max(),
            "scores": bool(panel[panel["quantity"] != "bias"]["within"].all()),
            "logits": wide[["positive", "negative"]].sub(wide["bias"], axis=0).abs().max().max(),
            "moves": np.ptp(wide, axis=0).max(), "room": 2 * panel["tolerance"].iloc[0]}
        rows.append(row | {"reading": _reading(row)})
    return pd.DataFrame(rows)


def _reading(row: dict) -> str:
    """What a panel's residuals look like, in the words that the page explains."""
    if row["within"] == row["medians"]:
        return "agrees"
    if row["varied"] == START_SWEEP:  # the minimum is the same for every start
        return "start still shows" if row["moves"] > row["room"] else "off from every start"
    if row["loss"] == "ce":
        return "bias still decays" if row["scores"] else "scores off"
    return "logits agree" if row["logits"] <= row["room"] else "logits off"


def by_start(loss: str) -> pd.DataFrame:
    """The published biases of one loss against their start, a row for each network and optimizer: spread (largest minus
    smallest median), moved (the furthest from its start), between (in how many starts it lies between the scores'
    medians), starts, error (of reading one median)."""
    rows = []
    table = where(medians(), varied=START_SWEEP, loss=loss)
    for key, panel in table.groupby(["model", "dataset", "optimizer"], sort=False):
        wide = panel.pivot(index="value", columns="quantity", values="median").dropna()
        rows.append(dict(zip(["model", "dataset", "optimizer"], key, strict=True)) | {
            "spread": np.ptp(wide["bias"]), "moved": (wide["bias"] - wide.index).abs().max(), "starts": len(wide),
            "between": int(((wide["negative"] < wide["bias"]) & (wide["bias"] < wide["positive"])).sum()),
            "error": panel["reading_error"].iloc[0]})
    return pd.DataFrame(rows)


# ---- how far CE's bias decays ----------------------------------------------------------------------------------------

def cifar_steps() -> int:
    """SGD's steps in an epoch of CIFAR, at the paper's batch size."""
    return batch_count(DATASETS["cifar10"].train_count, PLAIN["batch_size"])


def effective_time(schedule: str) -> float:
    """Sum of learning rate / (1 - momentum) over SGD's steps in the paper's length, on CIFAR's training images."""
    config = RunConfig(model="resnet18", dataset="cifar10", loss="ce", optimizer="sgd", learning_rate=PLAIN_RATE["sgd"],
                       schedule=schedule, epochs=PLAIN["epochs"], lambda_w=PLAIN["lambda_w"],
                       lambda_h=PLAIN["lambda_h"], lambda_b=0)
    return cifar_steps() * sum(config.rate(epoch) for epoch in range(1, config.epochs + 1)) / (1 - MOMENTUM)


def ce_drift(lambda_b, time: float):
    """CE's mean bias after training from START: CE's gradient has no part along the common shift, decay alone acts."""
    return START * np.exp(-np.asarray(lambda_b) * time)


def implied_times(table: pd.DataFrame) -> pd.DataFrame:
    """For each panel of CE against lambda_b, the effective times that its bias medians allow, given their reading
    errors.

    low, high: the common range of the medians in MOVED; low > high: no one exponential fits them; count: how many
    medians enter; fits: whether one exponential does.
    """
    rows = where(table[table["median"].between(*MOVED)], loss="ce", varied=DECAY_SWEEP, quantity="bias")
    low, high = (np.log(START / (rows["median"] + sign * rows["reading_error"])) / rows["value"] for sign in (1, -1))
    grouped = rows.assign(low=low, high=high).groupby(PANEL, sort=False)
    times = grouped.agg(low=("low", "max"), high=("high", "min"), count=("low", "size"))
    return times.assign(fits=times["low"] <= times["high"]).reset_index()
