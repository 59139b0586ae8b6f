"""Biases and scores of many runs against one varied setting: the figure and the numbers that two chapters share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bcebook import names
from bcebook.report import frames, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

PANEL = ["network", "loss", "optimizer"]


def figure(runs: list[Run], varied: str) -> Figure:
    """Scores and biases against `varied` ("bias_init_mean" or "lambda_b"): a row of panels for each network and
    optimizer, CE beside BCE, with the paper's medians and the closed-form minimum."""
    published = frames.published_medians(runs, varied)
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


def wide(runs: list[Run]) -> pd.DataFrame:
    """Medians of the training set's scores and of the biases, a row a run: network, loss, optimizer, bias_init_mean,
    lambda_b, seed, start (the biases' mean before training), and positive, bias, negative."""
    index = [*PANEL, "bias_init_mean", "lambda_b", "seed", "start"]
    if not runs:
        return pd.DataFrame(columns=[*index, *frames.KINDS])
    return frames.medians(runs).pivot_table(index=index, columns="quantity", values="median", sort=False).reset_index()


def between(table: pd.DataFrame, loss: str) -> pd.Series:
    """For each run of one loss: does the median bias lie between the medians of the negative and the positive
    scores?"""
    rows = table[table["loss"] == loss]
    return (rows["negative"] < rows["bias"]) & (rows["bias"] < rows["positive"])


def slope(x, y) -> float:
    """Of the straight line through points (n,) and (n,), by least squares; nan for fewer than two different x."""
    return float(np.polyfit(x, y, 1)[0]) if len(set(x)) > 1 else np.nan
