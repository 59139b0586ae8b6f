"""From numbers to sentences: every verdict on a page is computed here."""

import math
from collections import Counter

import numpy as np

from bcebook import frames, paper, plots
from bcebook.stats import Estimate
from bcebook.store import Run

SYMBOL = {"accuracy": "$A$", "uniform_accuracy": r"$A_\text{Uni}$"}


def verdict(difference: Estimate, claimed: float) -> str:
    """ "supported", "contradicted" or "undecided": does the interval of a difference lie on the claimed side of zero?

    difference: an estimate with its interval. claimed: the paper's difference, or just its sign. Source: ours.
    """
    if claimed == 0 or math.isnan(difference.low):
        return "undecided"
    if difference.low > 0:
        return "supported" if claimed > 0 else "contradicted"
    if difference.high < 0:
        return "supported" if claimed < 0 else "contradicted"
    return "undecided"


def percent(value: float, digits: int = 1, sign: bool = False) -> str:
    """A fraction as percent, without the sign "%"; a dash for what is not known."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def with_interval(estimate: Estimate, digits: int = 1) -> str:
    """A difference in percentage points with its interval: "+1.2 [+0.4, +2.0]"."""
    text = percent(estimate.mean, digits, True)
    return text if math.isnan(estimate.low) else f"{text} [{percent(estimate.low, digits, True)}, {percent(estimate.high, digits, True)}]"


def mean_and_std(estimate: Estimate, digits: int = 1) -> str:
    """Percent, mean ± standard deviation over seeds."""
    return percent(estimate.mean, digits) + ("" if math.isnan(estimate.std) else f" ± {percent(estimate.std, digits)}")


def initial_bias(runs: list[Run]) -> str:
    """Markdown: what the bias sweep shows, beside the paper's medians."""
    table = frames.medians(runs)
    wide = table.pivot_table(index=["loss", "optimizer", "bias_init_mean", "seed"], columns="quantity", values="median")
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == "ce"]
    bce = wide[wide.index.get_level_values("loss") == "bce"]
    between = (bce["negative"] < bce["bias"]) & (bce["bias"] < bce["positive"])
    lines = []
    if moved:
        lines.append(f"- **CE's biases stay where they start: {'supported' if max(moved) < 0.1 else 'contradicted'}.** Over {len(moved)} "
                     f"runs, the mean of the biases moves by at most {max(moved):.3f} during training.")
    if len(between):
        lines.append(f"- **BCE's bias settles between negative and positive scores: {'supported' if between.all() else 'contradicted'}.** "
                     f"The median bias lies between the medians of the negative and the positive scores in {between.sum()} of "
                     f"{len(between)} runs.")
    lines += [
        "- **How much of its start a bias keeps.** The slope of the final median bias against the initial mean is 1 if training "
        "never moves it and 0 if it forgets where it began:",
        "", "| | ours | " + " | ".join(f"paper, {m}" for m in plots.MARKER) + " |", "|---" * (2 + len(plots.MARKER)) + "|",
    ]
    published = paper.medians("initial_bias_mean", "cifar100" if runs[0].config.dataset == "cifar100" else "cifar10")
    published = published[published["quantity"] == "bias"]
    for loss in ("ce", "bce"):
        for optimizer in ("sgd", "adamw"):
            ours = table[(table["loss"] == loss) & (table["optimizer"] == optimizer) & (table["quantity"] == "bias")]
            cells = [_slope(ours["bias_init_mean"], ours["median"])]
            for model in plots.MARKER:
                rows = published[(published["model"] == model) & (published["loss"] == loss) & (published["optimizer"] == optimizer)]
                cells.append(_slope(rows["value"], rows["median"]))
            lines.append(f"| {plots.NAME[loss]}, {plots.NAME[optimizer]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def score_histograms(runs: list[Run]) -> str:
    """Markdown: how many test samples each network gets right, and how many with one threshold for all."""
    lines = ["| | $A$, % | $A_\\text{Uni}$, % | lost, points | mean bias | threshold + mean bias |",
             "|---|---|---|---|---|---|"]
    lost = {}
    for run in runs:
        final, bias = run.final, frames.summary(run, "train", "bias").mean
        lost[run.config.optimizer, run.config.loss] = final["test_accuracy"] - final["test_uniform_accuracy"]
        lines.append(f"| {plots.NAME[run.config.loss]}, {plots.NAME[run.config.optimizer]}, seed {run.config.seed} | "
                     f"{percent(final['test_accuracy'])} | {percent(final['test_uniform_accuracy'])} | "
                     f"{percent(lost[run.config.optimizer, run.config.loss])} | {_number(bias)} | {_number(final['train_uniform_threshold'] + bias)} |")
    pairs = [(lost[optimizer, "bce"], lost[optimizer, "ce"]) for optimizer in ("sgd", "adamw")
             if {(optimizer, "bce"), (optimizer, "ce")} <= set(lost)]
    fewer = sum(bce < ce for bce, ce in pairs)
    lines += ["", "*Lost*: accuracy minus uniform accuracy, on the test set. The threshold is the best one of the training set.", "",
              f"BCE loses fewer test samples than CE to the single threshold with {fewer} of {len(pairs)} optimizers. One seed a "
              "network: the accuracy chapter puts intervals around these figures."]
    return "\n".join(lines)


def accuracy(runs: list[Run]) -> str:
    """Markdown: a verdict for each setting and both measures, from Student's interval of the paired differences."""
    table = frames.differences(runs, ["test_accuracy", "test_uniform_accuracy"])
    if table.empty:
        return "No setting has runs of both losses with a common seed, so there is nothing to compare."
    table = frames.with_published(table)
    lines = ["| setting | of | BCE − CE, points [95 % bootstrap] | [95 % Student] | paper | verdict |",
             "|---|---|---|---|---|---|"]
    count, several = Counter(), frames.networks(runs) > 1
    for row in table.itertuples():
        name = row.figure.removeprefix("test_")
        claimed = getattr(row, f"paper_{name}")
        result = verdict(row.student, claimed)
        count[name, result] += 1
        lines.append(f"| {frames.label(row.optimizer, row.augmentation, row.model, row.dataset, several)} | {SYMBOL[name]} | "
                     f"{with_interval(row.difference)} | [{percent(row.student.low, sign=True)}, {percent(row.student.high, sign=True)}] | "
                     f"{percent(claimed, sign=True)} | {result} |")
    settings = len(table) // 2
    for name in ("accuracy", "uniform_accuracy"):
        told = ", ".join(f"{result} in {count[name, result]}" for result in ("supported", "contradicted", "undecided") if count[name, result])
        lines += ["", f"**{name.replace('_', ' ').capitalize()}**, BCE against CE, over {settings} settings: "
                  f"the sign of the paper's difference is {told}."]
    return "\n".join(lines)


def accuracy_table(runs: list[Run]) -> str:
    """Markdown: mean ± standard deviation over seeds of the final (and of the best) epoch, beside the paper's table."""
    figures = ["test_accuracy", "best_test_accuracy", "test_uniform_accuracy", "best_test_uniform_accuracy"]
    ours = frames.by_setting(runs, figures)
    published, several = paper.accuracy().set_index(frames.GROUP + ["loss"]), frames.networks(runs) > 1
    lines = ["| setting | loss | $A$ final | best | paper | $A_\\text{Uni}$ final | best | paper |",
             "|---|---|---|---|---|---|---|---|"]
    for setting, row in ours.iterrows():
        dataset, model, augmentation, optimizer, loss = setting
        key = setting if setting in published.index else ("cifar10", "resnet18", augmentation, optimizer, loss)
        theirs = published.loc[key]
        cells = [mean_and_std(row[name]) for name in figures]
        lines.append(f"| {frames.label(optimizer, augmentation, model, dataset, several)} | {plots.NAME[loss]} | {cells[0]} | {cells[1]} | "
                     f"{percent(theirs['accuracy'])} | {cells[2]} | {cells[3]} | {percent(theirs['uniform_accuracy'])} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _slope(x, y) -> str:
    return f"{np.polyfit(x, y, 1)[0]:.2f}" if len(set(x)) > 1 else "–"
