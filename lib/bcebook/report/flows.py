"""The slow flow of BCE's bias beside published medians and beside the biases of our own runs."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special, stats

from bcebook.report import frames, predictions
from bcebook.runs.config import batch_count
from bcebook.science import theory

if TYPE_CHECKING:
    from bcebook.runs.store import Run

COLLAPSED = 0.5  # NC1 from which on a network counts as collapsed: its scores then follow its classifier and bias
TIMES = (30.0, 1e5)  # between which an effective time is sought
LEAST_WAY = 0.05  # of all biases of a sweep together: a shorter one has no parts to speak of
MOST = 2 / 3  # of a panel's medians: so many have to agree with what predicts it


# ---- the published panels of BCE -------------------------------------------------------------------------------------

def published(varied: str, optimizer: str = "sgd") -> pd.DataFrame:
    """The published medians of BCE against the start or lambda_b: columns of `predictions.medians`."""
    table = predictions.medians()
    return table[(table["varied"] == varied) & (table["loss"] == "bce") & (table["optimizer"] == optimizer)]


def at_times(panel: pd.DataFrame, times: np.ndarray, features: str) -> np.ndarray:
    """What the flow says of each row of a panel after each effective time, (rows, times)."""
    classes = predictions.CLASSES[panel["dataset"].iloc[0]]
    c, decays = predictions.paper_c(classes), panel["varied"].iloc[0] == predictions.DECAY_SWEEP
    found = {}
    for value in panel["value"].unique():
        start, lambda_b = (predictions.START, value) if decays else (value, 0.0)
        found[value] = theory.bias_flow(classes, c, float(start), times, float(lambda_b), features)
    return np.stack([getattr(found[row.value], row.quantity) for row in panel.itertuples()])


def rms(panel: pd.DataFrame, times: np.ndarray, features: str) -> np.ndarray:
    """Root mean square distance of a panel's medians from the flow, after each time."""
    off = at_times(panel, times, features) - panel["median"].to_numpy()[:, None]
    return np.sqrt(np.mean(off**2, axis=0))


def fit(panel: pd.DataFrame, features: str) -> tuple[float, float, float, float]:
    """(time, low, high, rms): the effective time that fits a panel best, between TIMES, and the times whose sum of
    squares is not worse at the 5 % level (F(1, n-1); low or high at an end of TIMES: not bounded by this panel). On a
    grid of steps of 1 %."""
    grid = np.geomspace(*TIMES, 1 + round(math.log(TIMES[1] / TIMES[0]) / 0.01))
    errors = rms(panel, grid, features)
    at, n = int(errors.argmin()), len(panel)
    inside = errors <= errors[at] * math.sqrt(1 + stats.f.ppf(0.95, 1, n - 1) / (n - 1))
    return float(grid[at]), float(grid[inside][0]), float(grid[inside][-1]), float(errors[at])


@functools.cache
def fits(optimizer: str = "sgd") -> pd.DataFrame:
    """A row for each network whose sweep of starts was published with an optimizer.

    features: its own; time, low, high, rms: of the fit; rms_other: with the other kind of features; rms_still: of a
    bias that stays; rms_rest: of one at rest; predicted, predicted_rest: rms on the sweep of lambda_b at the time of
    the starts, and at rest; schedule: rms at the time of the authors' step schedule with SGD; reading: the reading
    error; medians, decay_medians: how many, in either sweep. Of both together: every: their medians; flowed, rested:
    how many the flow at that time and the minimum come as near as `predictions.SLACK` beyond the reading error.
    """
    rows = []
    decays = published(predictions.DECAY_SWEEP, optimizer)
    for key, panel in published(predictions.START_SWEEP, optimizer).groupby(predictions.NETWORK, sort=False):
        own = predictions.FEATURES[key[0]]
        other = {"free": "nonnegative", "nonnegative": "free"}[own]
        time, low, high, error = fit(panel, own)
        now = lambda table, time: float(rms(table, np.array([time]), own)[0])  # noqa: E731
        beside = decays[(decays["model"] == key[0]) & (decays["dataset"] == key[1])]
        both = [each for each in (panel, beside) if len(each)]
        off = [np.abs(at_times(each, np.array([time]), own)[:, 0] - each["median"]) - each["tolerance"]
               for each in both]
        rows.append(dict(zip(predictions.NETWORK, key, strict=True)) | {
            "every": sum(map(len, both)), "flowed": int(sum((each <= 1e-9).sum() for each in off)),
            "rested": int(sum(each["within"].sum() for each in both)),
            "features": own, "time": time, "low": low, "high": high, "rms": error, "rms_other": fit(panel, other)[3],
            "rms_still": now(panel, 0.0), "rms_rest": now(panel, TIMES[1]),
            "predicted_rest": now(beside, TIMES[1]) if len(beside) else math.nan,
            "predicted": now(beside, time) if len(beside) else math.nan,
            "schedule": now(panel, predictions.effective_time("authors-step")),
            "reading": panel["reading_error"].iloc[0], "medians": len(panel), "decay_medians": len(beside)})
    return pd.DataFrame(rows)


@functools.cache
def panels() -> pd.DataFrame:
    """`predictions.panels`, with flow: how many of a panel's medians lie within the tolerance of the flow at the one
    effective time of its network and optimizer. BCE: that of `fits`, scores at rest beside the bias. CE, whose bias its
    own decay alone moves: the middle of those of `predictions.implied_times` (none where no time fits), scores at the
    minimum. told: "minimum" or "flow", whichever has MOST of the medians, the first if both have; else "neither"."""
    table = predictions.medians()
    frame = predictions.panels(table)
    bce = {(row.model, row.dataset, optimizer): row.time for optimizer in frame["optimizer"].unique()
           for row in fits(optimizer).itertuples()}
    ce = predictions.implied_times(table).set_index(predictions.PANEL)
    counts = []
    for row in frame.itertuples():
        panel = predictions.where(table, **{name: getattr(row, name) for name in [*predictions.PANEL, "varied"]})
        if row.loss == "bce":
            time = bce[row.model, row.dataset, row.optimizer]
            seen = at_times(panel, np.array([time]), predictions.FEATURES[row.model])[:, 0]
        else:
            known = ce.loc[row.model, row.dataset, "ce", row.optimizer]
            time = (known["low"] + known["high"]) / 2 if known["fits"] else np.nan
            start, lambda_b = (panel["value"], 0.0) if row.varied == predictions.START_SWEEP else (
                predictions.START, panel["value"])
            drifted = start * np.exp(-np.asarray(lambda_b) * time)
            seen = panel["predicted"].where(panel["quantity"] != "bias", drifted)
        counts.append(int(((panel["median"] - seen).abs() <= panel["tolerance"] + 1e-9).sum()))
    frame["flow"] = counts
    enough = MOST * frame["medians"]
    frame["told"] = np.select([frame["within"] >= enough, frame["flow"] >= enough], ["minimum", "flow"], "neither")
    return frame


# ---- our own runs ----------------------------------------------------------------------------------------------------

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
    """A run's mean bias from the epoch on at which NC1 is at most `collapsed`, and the flow from there with nothing
    fitted: epoch, bias, flow; empty where it never is or where nothing follows."""
    history, config = run.history, run.config
    nc1 = np.array(history["nc1"])
    known = np.flatnonzero(np.isfinite(nc1) & (nc1 <= collapsed) & (np.array(history["epoch"]) >= 1))
    if not len(known) or known[0] + 1 >= len(nc1):
        return pd.DataFrame(columns=["epoch", "bias", "flow"], dtype=float)
    first = int(known[0])
    time = spent(run)[first:]
    features, classes, c = frames.model(run)
    bias = np.array(history["bias_mean"])[first:]
    flow = theory.bias_flow(classes, c, float(bias[0]), time - time[0], config.lambda_b, features).bias
    return pd.DataFrame({"epoch": np.array(history["epoch"])[first:], "bias": bias, "flow": flow})


def paths(runs: list[Run], collapsed: float = COLLAPSED) -> list[tuple[Run, pd.DataFrame]]:
    """The runs that the flow speaks of and that collapse, with their paths."""
    found = [(run, path(run, collapsed)) for run in runs if suits(run)]
    return [(run, table) for run, table in found if len(table)]


def moves(runs: list[Run], collapsed: float = COLLAPSED) -> pd.DataFrame:
    """A row for each path: network, optimizer, decays (whether the biases decay), start, lambda_b, seed, epoch
    (collapsed), epochs, moved (of the bias since then), flow (what the flow says), off (the largest distance along the
    path)."""
    rows = []
    for run, table in paths(runs, collapsed):
        bias, flow = table["bias"].to_numpy(), table["flow"].to_numpy()
        rows.append({"network": frames.network(run), "optimizer": run.config.optimizer,
                     "decays": run.config.lambda_b > 0, "start": run.config.bias_init_mean,
                     "lambda_b": run.config.lambda_b, "seed": run.config.seed, "epoch": table["epoch"].iloc[0],
                     "epochs": run.config.epochs, "moved": bias[-1] - bias[0], "flow": flow[-1] - flow[0],
                     "off": float(np.abs(bias - flow).max())})
    return pd.DataFrame(rows, columns=["network", "optimizer", "decays", "start", "lambda_b", "seed", "epoch",
                                       "epochs", "moved", "flow", "off"])


def wrong(runs: list[Run], collapsed: float = COLLAPSED) -> pd.DataFrame:
    """A row for each network, optimizer and sweep: runs, and wrong: the part of the way that the flow gets wrong, from
    the epoch on at which NC1 is at most `collapsed`, summed over the sweep's runs; nan where all of it is less than
    LEAST_WAY."""
    rows = []
    for key, group in moves(runs, collapsed).groupby(["network", "optimizer", "decays"], sort=False):
        way = group["moved"].abs().sum()
        share = (group["moved"] - group["flow"]).abs().sum() / way if way >= LEAST_WAY else math.nan
        rows.append(dict(zip(("network", "optimizer", "decays"), key, strict=True))
                    | {"runs": len(group), "wrong": float(share)})
    return pd.DataFrame(rows, columns=["network", "optimizer", "decays", "runs", "wrong"])


# ---- a model that is trained -----------------------------------------------------------------------------------------

def slow_model(ratio: float, k: int = 10, c: float = 0.01, time: float = 300.0, rate: float = 0.5) -> float:
    """The largest distance, along the whole path from a bias of 0, between the flow and a model of free features under
    gradient descent: W, H (K, K), one sample a class, settled at the start; the bias's rate is `ratio` times theirs."""
    random = np.random.default_rng(0)
    W, H, b = 0.3 * random.normal(size=(k, k)), 0.3 * random.normal(size=(k, k)), np.zeros(k)
    settle, steps = 6000, int(time / (ratio * rate))
    path = np.zeros(steps + 1)
    for step in range(settle + steps):
        errors = (special.expit(W @ H - b[:, None]) - np.eye(k)) / k  # of the mean over the samples
        W, H, b = (W - rate * (errors @ H.T + c * W), H - rate * (W.T @ errors + c * H),
                   b + ratio * rate * errors.sum(axis=1) * (step >= settle))
        if step >= settle:
            path[step - settle + 1] = b.mean()
    seen = np.unique(np.linspace(0, steps, 60).astype(int))
    return float(np.abs(theory.bias_flow(k, c, 0.0, seen * ratio * rate).bias - path[seen]).max())
