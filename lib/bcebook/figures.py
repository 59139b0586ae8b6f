"""The chapters' figures: runs in, a matplotlib figure out; each serves every profile."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from bcebook import frames, plots, theory
from bcebook.catalog import LOSSES, OPTIMIZERS
from bcebook.store import Run


def initial_bias(runs: list[Run]) -> Figure:
    """Scores and biases against the initial bias mean, a panel for each loss and optimizer, with the paper's medians and the
    closed-form minimum (for CE without the bias, which the objective leaves free when lambda_b = 0)."""
    published = frames.published_medians(runs)
    panels = [(optimizer, loss) for optimizer in OPTIMIZERS for loss in LOSSES]
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 7.6), sharex=True, sharey=True)
    for ax, (optimizer, loss) in zip(axes.flat, panels, strict=True):
        chosen = [run for run in runs if (run.config.loss, run.config.optimizer) == (loss, optimizer)]
        if not chosen:
            ax.set_axis_off()
            continue
        rows = published[(published["loss"] == loss) & (published["optimizer"] == optimizer)]
        plots.bias_sweep(ax, chosen, lambda run, kind: frames.summary(run, "train", kind), rows, closed_form(chosen[0]))
        ax.label_outer()
    plots.sweep_legend(figure, published)
    return figure


def closed_form(run: Run) -> dict[str, float]:
    """The minimum that a run with decoupled decay heads for: positive and negative score and, for BCE, the bias."""
    config = run.config
    classes = run.scores["train"]["bias"]["count"]
    c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, classes)
    best = theory.minimum(config.loss, classes, c, config.lambda_b)
    found = {"positive": float(best.positive), "negative": float(best.negative)}
    return found | ({"bias": float(best.bias)} if config.loss == "bce" else {})


def score_histograms(runs: list[Run]) -> Figure:
    """Score distributions of the lowest seed among the runs, CE beside BCE, a row for each optimizer."""
    seed = min(run.config.seed for run in runs)
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 6), sharey="row")
    chosen = {(run.config.optimizer, run.config.loss): run for run in runs if run.config.seed == seed}
    for row, optimizer in zip(axes, OPTIMIZERS, strict=True):
        for ax, loss in zip(row, LOSSES, strict=True):
            run = chosen.get((optimizer, loss))
            if run is None:
                ax.set_axis_off()
                continue
            train, test = ({kind: frames.summary(run, split, kind) for kind in ("positive", "negative", "bias")} for split in ("train", "test"))
            plots.score_histogram(ax, train, test, loss, run.final["train_uniform_threshold"])
            ax.set_title(f"{plots.NAME[loss]}, {plots.NAME[optimizer]}: test accuracy {run.final['test_accuracy']:.1%}, "
                         f"uniform {run.final['test_uniform_accuracy']:.1%}", fontsize="small")
            ax.label_outer()
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
        labels = [frames.label(r.optimizer, r.augmentation, r.model, r.dataset, frames.networks(runs) > 1) for r in rows.itertuples()]
        plots.difference_dots(ax, labels, list(rows["difference"]), list(rows["each"]), list(published))
        ax.set_title(title)
    plots.difference_legend(figure)
    return figure
