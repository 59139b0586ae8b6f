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


def score_histograms(runs: list[Run]) -> Figure:
    """Score distributions of the lowest seed among the runs, CE beside BCE, a row for each network and optimizer."""
    seed = min(run.config.seed for run in runs)
    networks = frames.networks(runs)
    chosen = {(frames.network(run), run.config.optimizer, run.config.loss): run for run in runs if run.config.seed == seed}
    rows = _rows(list(chosen.values()))
    figure, axes = plt.subplots(len(rows), 2, figsize=(8.6, 3 * len(rows)), sharey="row", squeeze=False)
    for row, (network, optimizer) in zip(axes, rows, strict=True):
        for ax, loss in zip(row, LOSSES, strict=True):
            run = chosen.get((network, optimizer, loss))
            if run is None:
                plots.empty(ax)
                continue
            train, test = ({kind: frames.summary(run, split, kind) for kind in ("positive", "negative", "bias")} for split in ("train", "test"))
            plots.score_histogram(ax, train, test, loss, run.final["train_uniform_threshold"])
            ax.set_title((f"{frames.name(*network)}: " if len(networks) > 1 else "") + f"{plots.NAME[loss]}, {plots.NAME[optimizer]}\ntest accuracy "
                         f"{run.final['test_accuracy']:.1%}, uniform {run.final['test_uniform_accuracy']:.1%}", fontsize="small")
            ax.label_outer(remove_inner_ticks=False)
            ax.tick_params(labelbottom=True)  # the scores of each network have their own range
        row[0].set_ylim(bottom=0)  # both panels of a row share their limits, so only once both are drawn
    plots.histogram_legend(figure)
    return figure


def accuracy_differences(runs: list[Run]) -> Figure:
    """BCE minus CE in accuracy and in uniform accuracy, a row for each setting, with the paper's ResNet18 / CIFAR10 rows (or,
    at paper scale, the rows of the same network and data set) beside ours."""
    table = frames.differences(runs, ["test_accuracy", "test_uniform_accuracy"])
    if table.empty:
        figure = plt.figure(figsize=(8.6, 1))
        figure.text(0.5, 0.5, "no setting has runs of both losses with a common seed", ha="center")
        return figure
    settings = table.groupby(frames.GROUP, sort=False).ngroups
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 1.6 + 0.5 * settings), sharey=True)
    for ax, (figure_name, title) in zip(axes, (("test_accuracy", "accuracy"), ("test_uniform_accuracy", "uniform accuracy")), strict=True):
        rows = table[table["figure"] == figure_name]
        published = frames.with_published(rows)[f"paper_{title.replace(' ', '_')}"]
        labels = [frames.label(r.optimizer, r.augmentation, r.model, r.dataset, len(frames.networks(runs)) > 1) for r in rows.itertuples()]
        plots.difference_dots(ax, labels, list(rows["difference"]), list(rows["each"]), list(published))
        ax.set_title(title)
    plots.difference_legend(figure)
    return figure
