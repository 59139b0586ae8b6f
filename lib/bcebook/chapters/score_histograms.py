"""The chapter on the histograms of scores: does one threshold tell positive from negative, and is it the bias?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import tables
from bcebook.claims import Claim
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

pd, plt, special = lazy("pandas"), lazy("matplotlib.pyplot"), lazy("scipy.special")
frames, plots, stats = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.science.stats")

NEAR = 0.1  # of the distance between the medians of positive and negative scores
BECAUSE = ("of the distance between the median positive and negative scores; a bias put at random between them would "
           "come that near at most one time in five")


def configs(profile: str, seed: int) -> list:
    """Runs of the accuracy chapter, whose table the histograms explain: its first network, the first augmentation."""
    def kind(config) -> tuple[str, str, str]:
        return config.model, config.dataset, config.augmentation

    every = recipes.studied(profile, seed)
    return [config for config in every if kind(config) == kind(every[0])]


def histograms(runs: list[Run]) -> Figure:
    """Score distributions of the lowest seed among the runs, CE beside BCE, a row for each network and optimizer."""
    networks, seed = frames.networks(runs), min(run.config.seed for run in runs)
    chosen = {(frames.network(run), run.config.optimizer, run.config.loss): run
              for run in frames.select(runs, seed=seed)}
    rows = frames.panels(list(chosen.values()))
    figure, axes = plt.subplots(len(rows), 2, figsize=(8.6, 0.8 + 2.9 * len(rows)), sharey="row", squeeze=False)
    for row, (network, optimizer) in zip(axes, rows, strict=True):
        for ax, loss in zip(row, names.LOSS, strict=True):
            run = chosen.get((network, optimizer, loss))
            if run is None:
                plots.empty(ax)
                continue
            train, test = ({kind: frames.summary(run, split, kind) for kind in frames.KINDS}
                           for split in ("train", "test"))
            plots.score_histogram(ax, train, test, loss, run.final["train_uniform_threshold"])
            title = frames.of(network, networks, ": ") + f"{names.of(loss)}, {names.of(optimizer)}\ntest accuracy "
            both = f"{run.final['test_accuracy']:.1%}, uniform {run.final['test_uniform_accuracy']:.1%}"
            ax.set_title(title + both, fontsize="small")
            ax.label_outer(remove_inner_ticks=False)
            ax.tick_params(labelbottom=True)  # the scores of each network have their own range
        row[0].set_ylim(bottom=0)  # both panels of a row share their limits, so only once both are drawn
    plots.histogram_legend(figure)
    return figure


# ---- the numbers of one run

def lost(run: Run) -> float:
    """The share of the test set that is classified rightly, but not by the one best threshold: accuracy minus uniform
    accuracy."""
    return run.final["test_accuracy"] - run.final["test_uniform_accuracy"]


def images(run: Run) -> int:
    """How many images the test set has."""
    return run.scores["test"]["positive"]["count"]


def gap(run: Run) -> float:
    """The distance between the medians of the positive and the negative scores of the training set."""
    return frames.summary(run, "train", "positive").median - frames.summary(run, "train", "negative").median


def distance(run: Run) -> float:
    """How far the mean bias lies from the best uniform threshold of the training set, as a share of `gap`.

    A threshold t for logits is t + bias for scores, since a logit is a score minus a bias: the distance is |t|. nan for
    a network without a threshold, or whose positive scores lie no higher than its negative ones.
    """
    return abs(run.final["train_uniform_threshold"]) / gap(run) if gap(run) > 0 else math.nan


def spread(run: Run) -> float:
    """The standard deviations of positive and negative scores of the training set together, as a share of `gap`; nan
    where positive scores lie no higher than negative ones."""
    deviations = sum(frames.summary(run, "train", kind).std for kind in ("positive", "negative"))
    return deviations / gap(run) if gap(run) > 0 else math.nan


def thresholds(runs: list[Run]) -> tables.Table:
    """Accuracy, uniform accuracy and what is lost between them, and where bias and threshold lie: a row a run."""
    networks, seeds, rows = frames.networks(runs), {run.config.seed for run in runs}, []
    for run in runs:
        bias = frames.summary(run, "train", "bias").mean
        rows.append({"setting": setting(run, networks, seeds), "loss": run.config.loss,
                     "accuracy": run.final["test_accuracy"], "uniform": run.final["test_uniform_accuracy"],
                     "lost": lost(run), "images": round(lost(run) * images(run)), "of": images(run),
                     "spread": spread(run), "bias": bias, "threshold": run.final["train_uniform_threshold"] + bias,
                     "distance": distance(run)})
    columns = {"setting": tables.Column(""), "loss": tables.Column("", names.of),
               "accuracy": tables.percents(f"{names.MEASURE['accuracy']}, %"),
               "uniform": tables.percents(f"{names.MEASURE['uniform_accuracy']}, %"),
               "lost": tables.percents("lost, points"), "images": tables.Column("images lost"),
               "of": tables.Column("of"), "spread": tables.percents("spread, %", 0), "bias": tables.fixed("mean bias"),
               "threshold": tables.fixed("threshold"), "distance": tables.percents("apart, %", 0)}
    return tables.Table(pd.DataFrame(rows), columns, (
        "*Lost*: accuracy minus uniform accuracy, on the test set. *Threshold*: the best one of the training set, plus "
        "the mean bias, as drawn. *Apart*: how far mean bias and threshold are from each other; *spread*: the standard "
        "deviations of positive and negative scores, added; both as a share of the distance between the two medians, "
        "on the training set.",))


def setting(run: Run, networks: list, seeds: set) -> str:
    """A run's setting without its loss: "AdamW", with network and seed where there are several."""
    seed = f", seed {run.config.seed}" if len(seeds) > 1 else ""
    return frames.of(frames.network(run), networks) + names.of(run.config.optimizer) + seed


def pairs(runs: list[Run]) -> dict[str, tuple[Run, Run]]:
    """Setting and seed in words -> its runs of BCE and of CE, for those that have both."""
    networks, seeds, found = frames.networks(runs), {run.config.seed for run in runs}, {}
    for run in runs:
        found.setdefault(setting(run, networks, seeds), {})[run.config.loss] = run
    return {label: (both["bce"], both["ce"]) for label, both in found.items() if len(both) == 2}


# ---- claims

def fewer_in(bce: Run, ce: Run, label: str) -> Finding:
    """Do two networks differ in the share of test images that they lose? With an interval over the images.

    Each loses its images as a binomial draw of n would: variance p (1 - p) / n. The two see the same images, and as far
    as they lose the same ones, their difference varies less than the sum of the variances, which is taken here.
    Source: the normal approximation (Wald); ours in taking a lost image as the draw.
    """
    shares, n = [lost(bce), lost(ce)], images(bce)
    difference, deviation = shares[0] - shares[1], math.sqrt(sum(p * (1 - p) for p in shares) / n)
    half = special.ndtri(0.975) * deviation
    p = float(2 * special.ndtr(-abs(difference) / deviation)) if deviation else float(difference == 0)
    estimate = stats.Estimate(difference, deviation, n, difference - half, difference + half)
    return verdicts.sign(estimate, -1, unit="points", of="test images", p=p, label=label)


def fewer_lost(runs: list[Run]) -> Finding:
    """A family over the pairs of networks that differ only in the loss."""
    parts = [fewer_in(bce, ce, label) for label, (bce, ce) in pairs(runs).items()]
    finding = verdicts.family(parts, stats.holm, of="pairs")
    lower = sum(part.value < 0 for part in parts)
    told = (f"{finding.detail}; BCE loses fewer at all in {lower} of {len(parts)}; the intervals speak for other test "
            "images, not for other seeds")
    return finding.but(detail=told) if parts else finding


def narrower(runs: list[Run]) -> Finding:
    """In how many pairs are BCE's scores less spread than CE's, for their distance?"""
    both = [(spread(bce), spread(ce)) for bce, ce in pairs(runs).values()]
    both = [pair for pair in both if not any(map(math.isnan, pair))]
    what = "the scores of BCE spread less than those of CE, as a share of the distance between their medians,"
    return verdicts.every(sum(bce < ce for bce, ce in both), len(both), what, of="pairs")


def bias_apart(runs: list[Run], loss: str) -> Finding:
    """The largest distance of the bias from the best uniform threshold over one loss's runs."""
    apart = [distance(run) for run in runs if run.config.loss == loss]
    apart = [value for value in apart if not math.isnan(value)]
    return verdicts.at_most(max(apart, default=math.nan), NEAR, BECAUSE, n=len(apart),
                            label=f"the same test on {names.of(loss)}")


def bias_is_threshold(runs: list[Run]) -> Finding:
    return bias_apart(runs, "bce").but(control=bias_apart(runs, "ce"))


FIGURE = "the paper's figure of score distributions"
ROOM = Room(
    name=__name__, part="figures", number=4, items=("histograms",),
    short="Score histograms", title="Histograms of positive and negative scores",
    of_the_paper="distributions of positive and negative scores",
    asks="does one threshold separate positive from negative scores?",
    runs=configs, figures=(histograms,), tables=(thresholds,),
    claims=(
        Claim("score_histograms.fewer_lost", "A single threshold costs BCE fewer test images than CE", FIGURE,
              "the pairs of networks in which it does, after Holm's adjustment", fewer_lost),
        Claim("score_histograms.narrower",
              "BCE concentrates the scores at two levels: relative to the distance of the levels, they spread less "
              "than CE's",
              FIGURE, "the pairs of networks in which they do", narrower),
        Claim("score_histograms.bias_is_threshold",
              "BCE learns its threshold: the bias lies at the best uniform threshold", FIGURE,
              "the largest distance of the mean bias from that threshold, as a share of the distance between the "
              "medians of the scores", bias_is_threshold),
    ),
)
