"""From runs to sentences: every verdict on a chapter of experiments is computed here."""

import math
from collections import Counter

import numpy as np
import pandas as pd

from bcebook.report import frames, plots
from bcebook.chapters.catalog import LOSSES, OPTIMIZERS
from bcebook.science.stats import Estimate
from bcebook.runs.store import Run

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
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == "ce"]
    lines = []
    if moved:
        lines.append(f"- **CE's biases stay where they start: {'supported' if max(moved) < 0.1 else 'contradicted'}.** Over {len(moved)} "
                     f"runs, the mean of the biases moves by at most {max(moved):.3f} during training.")
    lines += _between(table)
    networks = frames.networks(runs)
    closed = {(frames.network(run), run.config.loss): frames.closed_form(run) for run in runs}
    kinds = ("positive", "bias", "negative")
    lines += ["- **Where scores and biases end**: the smallest and the largest median over the initial means; in brackets the closed form.",
              "", "| | positive scores | biases | negative scores |", "|---|---|---|---|"]
    medians = table.groupby(["network", "loss", "optimizer", "quantity"])["median"].agg(["min", "max"])
    for network in networks:
        for loss in LOSSES:
            for optimizer in OPTIMIZERS:
                if (network, loss, optimizer, "bias") in medians.index:
                    ends = medians.loc[network, loss, optimizer]
                    cells = [f"{_number(ends['min'][kind])} to {_number(ends['max'][kind])} ({_number(closed[network, loss].get(kind, math.nan))})" for kind in kinds]
                    lines.append(f"| {_of(network, networks)}{plots.NAME[loss]}, {plots.NAME[optimizer]} | " + " | ".join(cells) + " |")
    lines += [
        "", "- **How much of its start a bias keeps.** The slope of the final median bias against the initial mean is 1 if training "
        "never moves it and 0 if it forgets where it began:",
        "", "| | ours | " + " | ".join(f"paper, {m}" for m in plots.MARKER) + " |", "|---" * (2 + len(plots.MARKER)) + "|",
    ]
    published = frames.published_medians(runs, "bias_init_mean")
    published = published[published["quantity"] == "bias"]
    for network in networks:
        for loss in LOSSES:
            for optimizer in OPTIMIZERS:
                ours = table[(table["network"] == network) & (table["loss"] == loss) & (table["optimizer"] == optimizer) & (table["quantity"] == "bias")]
                cells = [_slope(ours["bias_init_mean"], ours["median"])]
                for model in plots.MARKER:
                    rows = published[(published["model"] == model) & (published["loss"] == loss) & (published["optimizer"] == optimizer)]
                    cells.append(_slope(rows["value"], rows["median"]))
                lines.append(f"| {_of(network, networks)}{plots.NAME[loss]}, {plots.NAME[optimizer]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _between(table: pd.DataFrame) -> list[str]:
    """Does BCE's median bias lie between the medians of negative and positive scores?"""
    wide = table[table["loss"] == "bce"].pivot_table(index=["network", "optimizer", "bias_init_mean", "lambda_b", "seed"], columns="quantity", values="median")
    if wide.empty:
        return []
    between = (wide["negative"] < wide["bias"]) & (wide["bias"] < wide["positive"])
    return [f"- **BCE's bias settles between negative and positive scores: {'supported' if between.all() else 'contradicted'}.** "
            f"The median bias lies between the medians of the negative and the positive scores in {between.sum()} of {len(between)} runs."]


def score_histograms(runs: list[Run]) -> str:
    """Markdown: how many test samples each network gets right, and how many with one threshold for all."""
    lines = ["| | $A$, % | $A_\\text{Uni}$, % | lost, points | mean bias | threshold |",
             "|---|---|---|---|---|---|"]
    lost, networks, seeds = {}, frames.networks(runs), len({run.config.seed for run in runs})
    for run in runs:
        final, bias, network = run.final, frames.summary(run, "train", "bias").mean, frames.network(run)
        lost[network, run.config.optimizer, run.config.seed, run.config.loss] = final["test_accuracy"] - final["test_uniform_accuracy"]
        lines.append(f"| {_of(network, networks)}{plots.NAME[run.config.loss]}, {plots.NAME[run.config.optimizer]}"
                     f"{f', seed {run.config.seed}' if seeds > 1 else ''} | "
                     f"{percent(final['test_accuracy'])} | {percent(final['test_uniform_accuracy'])} | "
                     f"{percent(final['test_accuracy'] - final['test_uniform_accuracy'])} | {_number(bias)} | {_number(final['train_uniform_threshold'] + bias)} |")
    pairs = [(value, lost[*key, "ce"]) for (*key, loss), value in lost.items() if loss == "bce" and (*key, "ce") in lost]
    fewer = sum(bce < ce for bce, ce in pairs)
    lines += ["", "*Lost*: accuracy minus uniform accuracy, on the test set. *Threshold*: the best one of the training set, plus the mean "
              "bias, as drawn.", "",
              f"BCE loses fewer test samples than CE to the single threshold in {fewer} of {len(pairs)} pairs of networks. The accuracy "
              "chapter puts intervals around these figures."]
    return "\n".join(lines)


def accuracy(runs: list[Run]) -> str:
    """Markdown: a verdict for each setting and both measures, from Student's interval of the paired differences."""
    table = frames.differences(runs, ["test_accuracy", "test_uniform_accuracy"])
    if table.empty:
        return "No setting has runs of both losses with a common seed, so there is nothing to compare."
    table = frames.with_published(table)
    lines = ["| setting | of | BCE − CE, points [95 % bootstrap] | [95 % Student] | paper | verdict |",
             "|---|---|---|---|---|---|"]
    count, several = Counter(), len(frames.networks(runs)) > 1
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
    several = len(frames.networks(runs)) > 1
    lines = ["| setting | loss | $A$ final | best | paper | $A_\\text{Uni}$ final | best | paper |",
             "|---|---|---|---|---|---|---|---|"]
    for setting, row in ours.iterrows():
        dataset, model, augmentation, optimizer, loss = setting
        theirs = frames.published_accuracy(*setting)
        cells = [mean_and_std(row[name]) for name in figures]
        lines.append(f"| {frames.label(optimizer, augmentation, model, dataset, several)} | {plots.NAME[loss]} | {cells[0]} | {cells[1]} | "
                     f"{percent(theirs['accuracy'])} | {cells[2]} | {cells[3]} | {percent(theirs['uniform_accuracy'])} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _of(network: tuple[str, str], networks: list) -> str:
    """The network and data set in front of a row, only where a table has several."""
    return f"{frames.name(*network)}, " if len(networks) > 1 else ""


def _slope(x, y) -> str:
    return f"{np.polyfit(x, y, 1)[0]:.2f}" if len(set(x)) > 1 else "–"
