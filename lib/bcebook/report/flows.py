"""The slow flow of BCE's bias beside published medians, and beside a model that is trained."""

from __future__ import annotations

import functools
import math

import numpy as np
import pandas as pd
from scipy import special, stats

from bcebook.report import predictions
from bcebook.science import theory

TIMES = (30.0, 1e5)  # between which an effective time is sought
MOST = 2 / 3  # of a panel's medians: so many have to agree with what predicts it


def published(varied: str, optimizer: str = "sgd") -> pd.DataFrame:
    """The published medians of BCE against the start or lambda_b: columns of `predictions.medians`."""
    table = predictions.medians()
    return table[(table["varied"] == varied) & (table["loss"] == "bce") & (table["optimizer"] == optimizer)]


def at_times(panel: pd.DataFrame, times: np.ndarray, features: str) -> np.ndarray:
    """What the flow says of each row of a panel after each effective time, one of `moments`, (rows, times)."""
    classes, decays = predictions.CLASSES[panel["dataset"].iloc[0]], panel["varied"].iloc[0] == predictions.DECAY_SWEEP
    at, found = np.searchsorted(moments(), times), []
    assert np.array_equal(moments()[at], times)
    for row in panel.itertuples():
        start, lambda_b = (predictions.START, row.value) if decays else (row.value, 0.0)
        found.append(getattr(_flow(classes, float(start), float(lambda_b), features), row.quantity)[at])
    return np.stack(found)


@functools.cache
def moments() -> np.ndarray:
    """The effective times that this page asks for: none, those of `fit`'s grid, and the authors' schedule's."""
    return np.unique([0.0, *grid(), predictions.effective_time("authors-step")])


def grid() -> np.ndarray:
    """TIMES in steps of 1 %."""
    return np.geomspace(*TIMES, 1 + round(math.log(TIMES[1] / TIMES[0]) / 0.01))


@functools.cache
def _flow(classes: int, start: float, lambda_b: float, features: str) -> theory.BiasFlow:
    """The flow at the paper's c at all `moments`: one integration for every fit and comparison, and for all networks
    with as many classes."""
    return theory.bias_flow(classes, predictions.paper_c(classes), start, moments(), lambda_b, features)


def rms(panel: pd.DataFrame, times: np.ndarray, features: str) -> np.ndarray:
    """Root mean square distance of a panel's medians from the flow, after each time."""
    off = at_times(panel, times, features) - panel["median"].to_numpy()[:, None]
    return np.sqrt(np.mean(off**2, axis=0))


def fit(panel: pd.DataFrame, features: str) -> tuple[float, float, float, float]:
    """(time, low, high, rms): the effective time that fits a panel best, between TIMES, and the times whose sum of
    squares is not worse at the 5 % level (F(1, n-1); low or high at an end of TIMES: not bounded by this panel). On
    `grid`."""
    times = grid()
    errors = rms(panel, times, features)
    at, n = int(errors.argmin()), len(panel)
    inside = errors <= errors[at] * math.sqrt(1 + stats.f.ppf(0.95, 1, n - 1) / (n - 1))
    return float(times[at]), float(times[inside][0]), float(times[inside][-1]), float(errors[at])


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
