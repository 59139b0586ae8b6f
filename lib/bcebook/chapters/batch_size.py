"""The chapter on the batch size: what does it do to scores, biases and accuracy, and does one number predict it?

Cost: quick six runs, seconds each. laptop: six runs of ResNet9-signed on CIFAR10, about 24 minutes each on one core;
CE's at the paper's batch size is also the neural-collapse chapter's. paper: ResNet18 on CIFAR10, twelve runs a seed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
batches, frames, plots = lazy("bcebook.report.batches"), lazy("bcebook.report.frames"), lazy("bcebook.report.plots")
stats, theory = lazy("bcebook.science.stats"), lazy("bcebook.science.theory")

NETWORK = {"quick": ("mlp", "digits"), "laptop": ("resnet9-signed", "cifar10"), "paper": ("resnet18", "cifar10")}
BATCHES = {"quick": (128, 32, 512), "laptop": (128, 32, 512), "paper": (128, 16, 512, 32, 256, 64)}
START = {"ce": 0, "bce": 5}  # of the biases: CE does not see their mean, BCE moves it slowly
TOLD_APART = 2 * max(paper.READING_ERROR.values())  # as in the chapter on the initial bias
MEASURES = ("accuracy", "uniform_accuracy")
SINGLE = 1e-5  # the engine computes in single precision
FLAT = 1e-6  # of scores found by minimising: f is flat near its minimum


def configs(profile: str, seed: int) -> list[RunConfig]:
    """Decoupled decay, SGD, every batch size under both losses, the paper's first; the learning rate grows with the
    batch, as in the authors' code."""
    found = []
    for batch in BATCHES[profile]:
        for loss in recipes.LOSSES:
            plain = recipes.run(profile, NETWORK[profile], loss, "sgd", seed, bias_init_mean=START[loss], lambda_b=0.0,
                                **recipes.DECOUPLED)
            rate = float(f"{plain.learning_rate * batch / recipes.BATCH_SIZE:.6g}")
            found.append(dataclasses.replace(plain, batch_size=batch, learning_rate=rate))
    return found


# ---- figures

def scores_by_batch(runs: list[Run]) -> Figure:
    """Median scores of the training set and median biases against the batch size, CE beside BCE, with the minimum for
    each batch size and, for BCE, the minimum at the network's own bias."""
    table, shapes = batches.wide(runs), {"positive": ("o", True), "bias": ("s", False), "negative": ("o", False)}
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharex=True, sharey=True)
    for ax, loss in zip(axes, names.LOSS, strict=True):
        ax.set_title(names.of(loss))
        rows = table[table["loss"] == loss].sort_values("batch")
        for kind, (marker, full) in shapes.items():
            fits = rows["fitted"]
            ax.plot(rows["batch"], rows[f"best_{kind}"], color="black", linewidth=0.7, zorder=1)
            ax.plot(rows["batch"][fits], rows[kind][fits], marker, color=plots.COLOUR[loss], zorder=3,
                    markerfacecolor=plots.COLOUR[loss] if full else "white", markersize=5.5)
            ax.plot(rows["batch"][~fits], rows[kind][~fits], "x", color=plots.COLOUR[loss], markersize=5)
            if loss == "bce" and kind != "bias":
                ax.plot(rows["batch"][fits], rows[f"own_{kind}"][fits], ":", color="black", linewidth=1, zorder=2)
        _batch_axis(ax, table)
    axes[0].set_ylabel("decision score or bias")
    line = partial(plt.Line2D, [], [], color=plots.GREY, linestyle="")
    handles = [line(marker=marker, markerfacecolor=plots.GREY if full else "white", label=label)
               for (marker, full), label in zip(shapes.values(), ("positive scores", "biases", "negative scores"),
                                                strict=True)]
    handles += [line(marker="x", label="training images not fitted"),
                plt.Line2D([], [], color="black", linewidth=0.7, label="minimum for the batch size"),
                plt.Line2D([], [], color="black", linestyle=":", linewidth=1, label="minimum at the network's bias")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def accuracy_by_batch(runs: list[Run]) -> Figure:
    """Test accuracy and uniform accuracy against the batch size, the seeds as faint dots, a line through their mean;
    without runs that do not fit their training images."""
    table = frames.finals(runs).assign(batch=[run.config.batch_size for run in runs])
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), sharex=True)
    for ax, name in zip(axes, MEASURES, strict=True):
        for loss in names.LOSS if runs else ():
            rows = table[(table["loss"] == loss) & (table["train_accuracy"] >= batches.FITTED)]
            means = 100 * rows.groupby("batch")[f"test_{name}"].mean()
            ax.plot(rows["batch"], 100 * rows[f"test_{name}"], "o", color=plots.COLOUR[loss], alpha=0.4, markersize=4)
            ax.plot(means.index, means, color=plots.COLOUR[loss], linewidth=1.3, label=names.of(loss))
        ax.set(title=names.MEASURE[name].replace(r"\text", r"\mathrm"), ylabel="test images, %")
        _batch_axis(ax, table)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _batch_axis(ax, table: pandas.DataFrame) -> None:
    batches = sorted(set(table["batch"]))
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.minorticks_off()
    ax.set_xlabel("batch size")


# ---- tables

def measured(runs: list[Run]) -> tables.Table:
    """Medians beside the minimum for the batch size, a row a loss and batch size."""
    table, columns = batches.settings(runs), _head()
    columns |= {"rate": tables.Column("rate", "{:g}".format), "c": tables.significant("$c$"),
                "accuracy": tables.percents("$A$ (train), %")}
    for kind, head in (("positive", "positive scores"), ("bias", "biases"), ("negative", "negative scores")):
        table[f"{kind}_text"] = [f"{markdown.number(a)} ({markdown.number(b)})"
                                 for a, b in zip(table[kind], table[f"best_{kind}"], strict=True)]
        columns[f"{kind}_text"] = tables.Column(head)
    kinds = {frames.model(run)[0] for run in runs}
    return tables.Table(table, columns, (
        "Medians of the training set; in brackets the minimum for the batch size, with features "
        f"{markdown.listed(batches.FEATURES[kind] for kind in sorted(kinds))}; a dash: the objective leaves it free.",
        batches.left_out(runs)) if runs else ())


def gaps(runs: list[Run]) -> tables.Table:
    """The gap between positive and negative scores beside both minima, without the runs that do not fit."""
    table, columns = batches.settings([run for run in runs if batches.fitted(run)]), _head()
    columns["gap"] = tables.fixed("gap")
    for of, head in (("best", "minimum"), ("own", "minimum at the network's bias")):
        table[f"{of}_error"] = table["gap"] / table[f"{of}_gap"] - 1
        columns |= {f"{of}_gap": tables.fixed(head), f"{of}_error": tables.percents("off by, %", sign=True)}
    return tables.Table(table, columns, (_a_doubling(table), _last_batch(runs)))


def biases(runs: list[Run]) -> tables.Table:
    """Where BCE's bias starts, ends and would be at the minimum, and how far the flow can carry it near there."""
    columns = {"batch": tables.Column("batch size", "{:g}".format), "start": tables.fixed("start"),
               "end": tables.fixed("end"), "best_bias": tables.fixed("minimum"), "rates": tables.fixed("$T$", 0),
               "reach": tables.fixed("$c\\,T$")}
    return tables.Table(batches.bias_moves(runs), columns, (
        "Means of the biases under BCE. $T$: the learning rates of all steps added up, divided by one minus SGD's "
        "momentum.",))


def accuracies(runs: list[Run]) -> tables.Table:
    """Test accuracy and uniform accuracy, a row a batch size, runs that do not fit their training images included."""
    rows = []
    for batch in sorted({run.config.batch_size for run in runs}):
        row = {"batch": batch}
        for loss, name in itertools.product(names.LOSS, MEASURES):
            values = [run.final[f"test_{name}"] for run in frames.select(runs, batch_size=batch, loss=loss)]
            row[f"{loss}_{name}"] = stats.student_interval(values) if values else frames.NOTHING
        rows.append(row)
    columns = {"batch": tables.Column("batch size")} | {
        f"{loss}_{name}": tables.means(f"{names.of(loss)}, {names.MEASURE[name]}")
        for name, loss in itertools.product(MEASURES, names.LOSS)}
    seeds = len({run.config.seed for run in runs})
    counts = sorted({run.scores["test"]["positive"]["count"] for run in runs})
    return tables.Table(pd.DataFrame(rows), columns, tuple(
        f"Percent of the {count:,} test images, after the last epoch; {markdown.counted(seeds, 'seed')}. One "
        f"image is {markdown.percent(1 / count, 2)} points." for count in counts))


def _head() -> dict[str, tables.Column]:
    return {"loss": tables.Column("loss", names.of), "batch": tables.Column("batch size", "{:g}".format)}


def _a_doubling(table: pandas.DataFrame) -> str:
    """The slopes of the gap against the logarithm of the batch size."""
    told = []
    for loss, rows in table.groupby("loss", sort=False):
        if len(rows) > 1:
            ours, best = (markdown.number(np.polyfit(np.log2(rows["batch"]), rows[name], 1)[0], sign=True)
                          for name in ("gap", "best_gap"))
            told.append(f"{ours} under {names.of(loss)} (minimum {best})")
    return f"For each doubling of the batch the gap changes by {markdown.listed(told)}." if told else ""


def _last_batch(runs: list[Run]) -> str:
    """What the last, smaller batch of an epoch makes of the prediction."""
    most = max((abs(batches.by_mean_batch(run)) for run in runs), default=math.nan)
    return ("The last batch of an epoch is smaller. With the mean size of a batch in the place of $B$, no gap of the "
            f"minimum would change by more than {markdown.percent(most)} %.") if runs else ""


# ---- what the runs say

def judged(finding: Finding, runs: list[Run], told: str = "") -> Finding:
    """With the numbers, and with the runs that are left out."""
    if not finding.n:
        return finding
    without = f"left out, as not fitted: {markdown.listed(out)}" if (out := batches.unfitted(runs)) else ""
    rule = f"{finding.rule}; networks that do not fit their training images are at no minimum and are not judged"
    return finding.but(detail="; ".join(filter(None, (told, without))), rule=rule)


def fits(runs: list[Run]) -> Finding:
    what = f"at least {markdown.percent(batches.FITTED)} % of the training images are classified right"
    finding = verdicts.every(sum(map(batches.fitted, runs)), len(runs), what)
    out = batches.unfitted(runs)
    return finding.but(detail=f"not by {markdown.listed(out)}") if out else finding


def falls(runs: list[Run], which: tuple[str, ...], signs: dict[str, int], what: str) -> Finding:
    """From each batch size to the next, do medians move as claimed? signs: the quantity -> 1 if it is to fall."""
    holds = [all(sign * (getattr(before, kind) - getattr(after, kind)) > 0 for kind, sign in signs.items())
             for loss in which for before, after in itertools.pairwise(batches.of_loss(runs, loss).itertuples())]
    return judged(verdicts.every(sum(holds), len(holds), what, of="steps from one batch size to the next"), runs)


def same_order(runs: list[Run]) -> Finding:
    """Do the gaps of CE and BCE put every two batch sizes in the same order?"""
    ce, bce = (batches.of_loss(runs, loss).set_index("batch")["gap"] for loss in names.LOSS)
    pairs = list(itertools.combinations(ce.index.intersection(bce.index), 2))
    holds = [(ce[a] > ce[b]) == (bce[a] > bce[b]) for a, b in pairs]
    return judged(verdicts.every(sum(holds), len(holds), "the gaps of both losses put the two in the same order",
                                 of="pairs of batch sizes"), runs)


def gap_follows(runs: list[Run]) -> Finding:
    """How far the change of the gap over all batch sizes is from the minimum's, as a fraction, at worst."""
    changes = {loss: each for loss in names.LOSS if (each := batches.change(runs, loss))[2]}
    finding = verdicts.at_most(
        max((abs(gap / best - 1) for gap, best, _ in changes.values()), default=math.nan), 0.5,
        "a feature decay that is a mean over the batch would have one minimum for every batch size: the measured "
        "change must be nearer to that of a sum than to none", n=sum(n for *_, n in changes.values()), of="networks")
    told = (f"{names.of(loss)} {markdown.number(gap, sign=True)} (minimum {markdown.number(best, sign=True)})"
            for loss, (gap, best, _) in changes.items())
    return judged(finding, runs, f"the changes are {markdown.listed(told)}")


def twice(runs: list[Run]) -> Finding:
    """The ratio of BCE's change of the gap to CE's, over the batch sizes that both have, beside the minimum's."""
    common = set.intersection(*(set(batches.of_loss(runs, loss)["batch"]) for loss in names.LOSS))
    both = [run for run in runs if run.config.batch_size in common]
    (ce, best_ce, n), (bce, best_bce, _) = (batches.change(both, loss) for loss in names.LOSS)
    ratio, best = (bce / ce, best_bce / best_ce) if ce else (math.nan, math.nan)
    finding = verdicts.at_most(abs(ratio - best), 0.5, "nearer to the minimum's ratio, which is about two, than to "
                               "one, as if the losses answered alike", n=n, of="batch sizes")
    return judged(finding, runs, f"the ratio is {markdown.number(ratio)}, at the minimum {markdown.number(best)}")


def recognised(runs: list[Run], loss: str, own_bias: bool, label: str = "") -> Finding:
    found = batches.recognised(runs, loss, own_bias)
    finding = verdicts.every(sum(right for right, _ in found), len(found), "the gap is nearer to that of the minimum "
                             "for its own batch size than to that for any other that is tried", label=label)
    most = markdown.percent(max((error for _, error in found), default=math.nan))
    return judged(finding, runs, f"the gap is off by at most {most} %")


def bce_gap_at_bias(runs: list[Run]) -> Finding:
    return recognised(runs, "bce", own_bias=True).but(
        control=recognised(runs, "bce", own_bias=False, label="the minimum with the bias free"))


def bias_there(runs: list[Run]) -> Finding:
    """How far BCE's median bias ends from that of the minimum for its batch size, at most."""
    table = batches.of_loss(runs, "bce")
    finding = verdicts.at_most((table["bias"] - table["best_bias"]).abs().max(), TOLD_APART, "the resolution at which "
                               "medians can be read off the paper's figures", n=len(table), of="networks")
    return judged(finding, runs)


def bce_higher(runs: list[Run], name: str) -> Finding:
    """Is BCE's test figure higher than CE's at every batch size? Student's interval over the seeds."""
    parts = []
    for batch in sorted({run.config.batch_size for run in runs}):
        for row in frames.differences(frames.select(runs, batch_size=batch), [f"test_{name}"]).itertuples():
            parts.append(verdicts.sign(row.estimate, 1, unit="points", p=row.p, label=f"batches of {batch}"))
    finding = verdicts.family(parts, stats.holm, of="batch sizes")
    ahead = sum(part.value > 0 for part in parts)
    return finding.but(detail=f"{finding.detail}; BCE's mean is higher at {ahead} of them") if parts else finding


# ---- theory

def effective() -> Finding:
    """The mean of the mini-batches' gradients, as the engine computes them, against the model's gradient."""
    found = [batches.gradient_error(loss, size) for loss in recipes.LOSSES for size in (2, 3, 4, 6, 8, 12, 24)]
    return verdicts.check(max(found), SINGLE, "the engine computes in single precision", n=len(found),
                          of="losses and batch sizes")


def gap_formula() -> Finding:
    """The formula of the gap against a plain minimisation over W, H and b."""
    errors = []
    for loss, (classes, c) in itertools.product(recipes.LOSSES, ((3, 0.02), (4, 0.05), (6, 0.01))):
        found = theory.solve(loss, classes, classes, 1, c, c, restarts=2)
        scores = found.W @ found.H
        errors.append(abs(scores[0, 0] - scores[0, 1] - batches.gap_formula(loss, classes, c)))
    return verdicts.check(float(max(errors)), FLAT, "f is flat near its minimum", n=len(errors))


OF_CE, OF_BCE = ((lambda config, loss=loss: config.loss == loss) for loss in recipes.LOSSES)
ROOM = Room(
    name=__name__, part="figures", number=6, items=("batch_size",), title="Batch size",
    of_the_paper="table of the effect of the batch size (numbers not available)",
    asks="what does the batch size do to decision scores, classifier biases and accuracy?",
    runs=configs, seeds={"paper": (0,)},
    figures=(scores_by_batch, accuracy_by_batch), tables=(measured, gaps, biases, accuracies),
    claims=(
        Claim("batch_size.effective", r"Mini-batches of $B$ with a feature decay that is a sum over them minimise "
              r"the model with $\lambda_H B / N$ in the place of $\lambda_H$", "ours",
              "the largest difference between the mini-batches' mean gradient and the model's", effective, theory=True),
        Claim("batch_size.gap_formula", r"At the minimum, with features of either sign, the gap between positive and "
              r"negative scores is $\log\frac{1 - (K-1)\,c}{c}$ under CE and $\log\frac{(1 - c)(1 - (K-1)\,c)}"
              r"{(K-1)\,c^2}$ under BCE", "ours", "the largest difference from a numerical minimisation", gap_formula,
              theory=True),
        Claim("batch_size.fits", "With a learning rate in proportion to the batch, training fits the training images "
              "at every batch size", "ours", "the share of runs that do", fits),
        Claim("batch_size.scores_fall", "Under both losses a larger batch ends with positive and negative scores "
              "nearer to zero", "ours",
              "the share of steps from one batch size to the next in which both are nearer to zero",
              partial(falls, which=recipes.LOSSES, signs={"positive": 1, "negative": -1},
                      what="the larger batch has the lower positive and the higher negative scores"), end=True),
        Claim("batch_size.same_order", "CE and BCE rank the batch sizes alike by the gap between positive and "
              "negative scores", "ours", "the share of pairs of batch sizes in which they do", same_order, end=True),
        Claim("batch_size.gap_follows", "The gap changes with the batch size as the minimum's does", "ours",
              "the largest relative error of the change from the smallest to the largest batch", gap_follows, end=True),
        Claim("batch_size.twice", "BCE's gap changes about twice as much as CE's", "ours",
              "the distance of the ratio of the two changes from the minimum's", twice, end=True),
        Claim("batch_size.ce_gap", "CE's gap identifies the batch size of its run", "ours",
              "the share of runs whose gap is nearest to the minimum for their own batch size",
              partial(recognised, loss="ce", own_bias=False), compares=OF_CE, end=True),
        Claim("batch_size.bce_gap", "BCE's gap identifies the batch size of its run", "ours",
              "the share of runs whose gap is nearest to the minimum for their own batch size",
              partial(recognised, loss="bce", own_bias=False), compares=OF_BCE, end=True),
        Claim("batch_size.bce_gap_at_bias", "Given its own bias, BCE's gap identifies its batch size", "ours",
              "the share of runs whose gap is nearest to the minimum at their bias and batch size", bce_gap_at_bias,
              compares=OF_BCE, end=True),
        Claim("batch_size.bias_falls", "The larger the batch, the lower BCE's final bias", "ours",
              "the share of steps from one batch size to the next larger one in which the bias is lower",
              partial(falls, which=("bce",), signs={"bias": 1}, what="the larger batch has the lower median bias"),
              compares=OF_BCE, end=True),
        Claim("batch_size.bias_there", "BCE's bias ends at its value at the minimum for its batch size", "ours",
              "the largest distance between the two", bias_there, compares=OF_BCE, end=True),
        Claim("batch_size.accuracy", "BCE reaches a higher accuracy than CE at every batch size", "ours",
              "the batch sizes at which BCE's test accuracy is higher, after Holm's adjustment",
              partial(bce_higher, name="accuracy")),
        Claim("batch_size.uniform", "BCE reaches a higher uniform accuracy than CE at every batch size", "ours",
              "the batch sizes at which BCE's uniform test accuracy is higher, after Holm's adjustment",
              partial(bce_higher, name="uniform_accuracy")),
    ),
)
