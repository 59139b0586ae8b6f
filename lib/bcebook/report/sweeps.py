"""Biases and scores of many runs against one varied setting: the figure, table and rules that several chapters share.

Each function takes a `frame.of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bcebook import names, paper
from bcebook.report import frames, markdown, plots
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = ["network", "loss", "optimizer"]
READING_RESOLUTION = 2 * max(paper.READING_ERROR.values())
UNRESOLVED = "the resolution at which medians can be read off the paper's figures"
CLOSE = 0.1  # a hundredth of the range of starts, 0 to 10


def figure(runs: pd.DataFrame, varied: str) -> Figure:
    """Scores and biases against `varied` ("bias_init_mean" or "lambda_b"): a row of panels for each network and
    optimizer, CE beside BCE, with the paper's medians and the closed-form minimum."""
    if runs.empty:
        return plots.nothing("no run yet")
    runs = list(runs["run"])
    published = frames.published_medians(runs[0].config.dataset, varied)
    networks, rows = frames.networks(runs), frames.panels(runs)
    values = sorted({getattr(run.config, varied) for run in runs}, reverse=varied == "lambda_b")
    figure, axes = plt.subplots(
        len(rows), 2, figsize=(8.6, 0.4 + 3.6 * len(rows)), sharex=True, sharey=True, squeeze=False
    )
    for row, (network, optimizer) in zip(axes, rows, strict=True):
        for ax, loss in zip(row, names.LOSS, strict=True):
            chosen = frames.select(runs, network=network, loss=loss, optimizer=optimizer)
            if chosen:
                theirs = published[(published["loss"] == loss) & (published["optimizer"] == optimizer)]
                plots.bias_sweep(
                    ax,
                    chosen,
                    varied,
                    values,
                    lambda run, kind: frames.summary(run, "train", kind),
                    theirs,
                    frames.closed_form,
                )
            else:
                plots.empty(ax)
            ax.set_title(frames.of(network, networks, ": ") + f"{names.of(loss)}, {names.of(optimizer)}")
            ax.label_outer()
    plots.sweep_legend(figure, published, diagonal=varied == "bias_init_mean")
    return figure


def ends(runs: pd.DataFrame) -> pd.DataFrame:
    """Where scores and biases end over all starts: a row for each network, loss and optimizer.

    Columns: PANEL; label; for each kind of score and the biases its smallest and largest median and the closed form
    (bias_least, bias_most, bias_closed, ...; nan: the objective leaves it free) and all three as text (bias); slope, of
    the final median bias against the initial mean.
    """
    rows = []
    for panel, group in runs.groupby(PANEL, sort=False):
        row = dict(zip(PANEL, panel, strict=True)) | {"label": label(*panel, runs["network"].nunique() > 1)}
        closed = frames.closed_form(group["run"].iloc[0])
        for kind in frames.KINDS:
            found = (*group[f"train_{kind}"].agg(["min", "max"]), closed.get(kind, np.nan))
            row |= dict(zip((f"{kind}_least", f"{kind}_most", f"{kind}_closed"), found, strict=True))
            row[kind] = "{} to {} ({})".format(*map(markdown.number, found))
        rows.append(row | {"slope": slope(group["bias_init_mean"], group["train_bias"])})
    return pd.DataFrame(rows)


def label(network: str, loss: str, optimizer: str, several: bool) -> str:
    """A panel in a few words, the network only where there are several."""
    return f"{network}, " * several + f"{names.of(loss)}, {names.of(optimizer)}"


def by_decay(runs: pd.DataFrame, loss: str) -> list[pd.DataFrame]:
    """The sweeps of lambda_b of one loss, one for each network, optimizer and seed, each from weak decay to strong;
    those of a single lambda_b are left out."""
    groups = runs[runs["loss"] == loss].sort_values("lambda_b").groupby(["network", "optimizer", "seed"], sort=False)
    return [group for _, group in groups if group["lambda_b"].nunique() > 1]


def lies_between(runs: pd.DataFrame, loss: str) -> Finding:
    """In how many runs of one loss does the median bias lie between the medians of negative and positive scores?"""
    chosen = runs[runs["loss"] == loss]
    holds = (chosen["train_negative"] < chosen["train_bias"]) & (chosen["train_bias"] < chosen["train_positive"])
    what = "the median bias lies between the medians of negative and positive scores"
    return verdicts.every(int(holds.sum()), len(holds), what, label=f"the same test on {names.of(loss)}")


def spread_of_ends(runs: pd.DataFrame, loss: str) -> Finding:
    """The largest difference between the final median biases of two starts, over the networks and optimizers of one
    loss."""
    chosen = runs[runs["loss"] == loss]
    groups = [group for _, group in chosen.groupby([*PANEL, "seed"]) if group["bias_init_mean"].nunique() > 1]
    spreads = [float(group["train_bias"].max() - group["train_bias"].min()) for group in groups]
    return verdicts.at_most(
        max(spreads, default=np.nan),
        READING_RESOLUTION,
        UNRESOLVED,
        n=len(spreads),
        of="sweeps",
        label=f"the same test on {names.of(loss)}",
    )


def goes_down(runs: pd.DataFrame, loss: str, column: str = "bias_end", name: str = "the final mean bias") -> Finding:
    """In how many sweeps of lambda_b of one loss does a column, in words `name`, fall as the decay grows?"""
    found = [sweep[column].to_numpy() for sweep in by_decay(runs, loss)]
    falls = [end[0] - end[-1] for end in found]
    down = [fall > READING_RESOLUTION and max(np.diff(end)) <= CLOSE for fall, end in zip(falls, found, strict=True)]
    what = (
        f"{name} rises by at most {CLOSE:g} from one decay to the next stronger one (a hundredth of the start) and "
        f"falls by more than {READING_RESOLUTION:g} over the whole sweep ({UNRESOLVED}),"
    )
    finding = verdicts.every(int(sum(down)), len(down), what, of="sweeps", label=f"the same test on {names.of(loss)}")
    if not falls:
        return finding
    least = markdown.number(min(falls))
    return finding.but(detail=f"the smallest fall from the weakest decay to the strongest is {least}")


def slope(x, y) -> float:
    """Of the straight line through points (n,) and (n,), by least squares; nan for fewer than two different x."""
    return float(np.polyfit(x, y, 1)[0]) if len(set(x)) > 1 else np.nan
