"""The chapters' figures: runs in, a matplotlib figure out; each serves every profile."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from bcebook.report import frames, plots
from bcebook.chapters.catalog import LOSSES, OPTIMIZERS
from bcebook.runs.store import Run


def initial_bias(runs: list[Run]) -> Figure:
    """Scores and biases against the initial bias mean, a panel for each loss and optimizer, with the paper's medians and the
    closed-form minimum (for CE without the bias, which the objective leaves free when lambda_b = 0)."""
    return _bias_sweep(runs, "bias_init_mean")


def _bias_sweep(runs: list[Run], varied: str) -> Figure:
    published = frames.published_medians(runs, varied)
    networks = frames.networks(runs)
    rows, values = _rows(runs), sorted({getattr(run.config, varied) for run in runs}, reverse=varied == "lambda_b")
    figure, axes = plt.subplots(len(rows), 2, figsize=(8.6, 0.4 + 3.6 * len(rows)), sharex=True, sharey=True, squeeze=False)
    for row, (network, optimizer) in zip(axes, rows, strict=True):
        for ax, loss in zip(row, LOSSES, strict=True):
            chosen = [run for run in runs if (frames.network(run), run.config.loss, run.config.optimizer) == (network, loss, optimizer)]
            if chosen:
                theirs = published[(published["loss"] == loss) & (published["optimizer"] == optimizer)]
                plots.bias_sweep(ax, chosen, varied, values, lambda run, kind: frames.summary(run, "train", kind), theirs, frames.closed_form)
            else:
                plots.empty(ax)
            ax.set_title((f"{frames.name(*network)}: " if len(networks) > 1 else "") + f"{plots.NAME[loss]}, {plots.NAME[optimizer]}")
            ax.label_outer()
    plots.sweep_legend(figure, published, diagonal=varied == "bias_init_mean")
    return figure


def _rows(runs: list[Run]) -> list[tuple]:
    """The pairs of network and optimizer that have runs, one row of panels each."""
    there = {(frames.network(run), run.config.optimizer) for run in runs}
    return [(network, optimizer) for network in frames.networks(runs) for optimizer in OPTIMIZERS if (network, optimizer) in there]
