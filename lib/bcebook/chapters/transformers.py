"""The chapter on transformers: where do bias and scores of ViT and Swin settle?"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, sweeps, frames = lazy("pandas"), lazy("bcebook.report.sweeps"), lazy("bcebook.report.frames")
frame = lazy("bcebook.frame")

NETWORKS = tuple((model, dataset) for dataset in ("cifar10", "cifar100") for model in ("vit", "swin"))  # the paper's
# Ours, in the profiles without a GPU, where a step of the paper's ViT takes seconds: network, initial bias means and
# lambda_b.
SMALL = {"quick": (("vit-mini", "digits"), (0, 5, 10), (0.5, 5e-3)),
         "laptop": (("vit-tiny", "digits"), (0, 2, 5, 10), (0.5, 0.05, 5e-3))}
NEAR = 0.1  # of the closed form's gap between the scores


def configs(profile: str, seed: int) -> list[RunConfig]:
    """The sweeps of the initial bias mean and of lambda_b: of the paper's ViT and Swin, or of a small ViT with AdamW
    (with SGD it takes several times as many epochs)."""
    if profile in SMALL:
        both = both_sweeps(profile, SMALL[profile][0], seed, *SMALL[profile][1:])
        return [dataclasses.replace(config, precision="float32") for config in both if config.optimizer == "adamw"]
    return [config for network in NETWORKS
            for config in both_sweeps(profile, network, seed, recipes.PAPER_MEANS, recipes.LAMBDA_B)]


def both_sweeps(profile: str, network: tuple[str, str], seed: int, means, lambdas) -> list[RunConfig]:
    return [*recipes.decoupled(profile, network, seed, means),
            *recipes.decoupled(profile, network, seed, (recipes.LAMBDA_B_START,), lambdas)]


def decays(config: RunConfig) -> bool:
    """Whether a run is of the sweep of lambda_b; the others are of the sweep of the initial bias mean."""
    return bool(config.lambda_b)


def free(config: RunConfig) -> bool:
    return not decays(config)


def of_starts(runs: list[Run]) -> list[Run]:
    """The sweep of the initial bias mean."""
    return [run for run in runs if free(run.config)]


def of_decays(runs: list[Run]) -> list[Run]:
    """The sweep of lambda_b."""
    return [run for run in runs if decays(run.config)]


def start_sweep(runs: list[Run]) -> Figure:
    """Scores and biases against the initial bias mean, with the paper's medians and the closed-form minimum."""
    return sweeps.figure(frame.of(of_starts(runs)), "bias_init_mean")


def decay_sweep(runs: list[Run]) -> Figure:
    """Scores and biases against lambda_b, with the paper's medians and the closed-form minimum."""
    return sweeps.figure(frame.of(of_decays(runs)), "lambda_b")


def ends(runs: list[Run]) -> tables.Table:
    """The smallest and the largest median over the initial means beside the closed form."""
    columns = {"label": tables.Column(""), "positive": tables.Column("positive scores"),
               "bias": tables.Column("biases"), "negative": tables.Column("negative scores")}
    return tables.Table(sweeps.ends(frame.of(of_starts(runs))), columns, (
        "In brackets the closed form; a dash: the objective leaves it free.",))


def gaps(runs: list[Run]) -> tables.Table:
    """The distance between the medians of positive and negative scores over the closed form's, and how well the network
    fits its training set: means over a sweep, a row for each network, loss and optimizer."""
    rows, networks = [], frames.networks(runs)
    groups: dict[tuple, list[Run]] = {}
    for run in of_starts(runs):
        groups.setdefault((frames.network(run), run.config.loss, run.config.optimizer), []).append(run)
    for (network, loss, optimizer), group in groups.items():
        row = {"setting": frames.of(network, networks) + f"{names.of(loss)}, {names.of(optimizer)}",
               "gap": sum(map(relative_gap, group)) / len(group)}
        for column, name in (("nc1", "train_nc1"), ("train", "train_accuracy"), ("test", "test_accuracy")):
            row[column] = sum(run.final[name] for run in group) / len(group)
        rows.append(row)
    columns = {"setting": tables.Column(""), "gap": tables.fixed("gap / closed form"), "nc1": tables.significant("NC1"),
               "train": tables.percents("$A$ (train), %"), "test": tables.percents("$A$ (test), %")}
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "*Gap*: median of the positive scores minus that of the negative ones, on the training set without dropout, as "
        "a multiple of the gap at the minimum. Means over the initial bias means.",))


def relative_gap(run: Run) -> float:
    """The distance between the medians of positive and negative scores, over that of the closed form."""
    closed = frames.closed_form(run)
    positive, negative = (frames.summary(run, "train", kind).median for kind in ("positive", "negative"))
    return (positive - negative) / (closed["positive"] - closed["negative"])


# ---- what the runs say

def ce_stays(runs: list[Run]) -> Finding:
    return largest_move(of_starts(runs), "ce").but(control=largest_move(of_starts(runs), "bce"))


def largest_move(runs: list[Run], loss: str) -> Finding:
    """The largest change of the mean bias over the runs of one loss."""
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == loss]
    return verdicts.at_most(max(moved, default=float("nan")), sweeps.CLOSE, "a hundredth of the range of starts",
                            n=len(moved), label=f"the same test on {names.of(loss)}")


def bce_between(runs: list[Run]) -> Finding:
    found = frame.of(runs)
    return sweeps.lies_between(found, "bce").but(control=sweeps.lies_between(found, "ce"))


def bce_forgets(runs: list[Run]) -> Finding:
    found = frame.of(of_starts(runs))
    return sweeps.spread_of_ends(found, "bce").but(control=sweeps.spread_of_ends(found, "ce"))


def ce_goes_down(runs: list[Run]) -> Finding:
    found = frame.of(of_decays(runs))
    return sweeps.goes_down(found, "ce").but(control=sweeps.goes_down(found, "bce"))


def at_minimum(runs: list[Run], loss: str) -> Finding:
    """Is the gap between the scores that of the closed form? The largest relative difference."""
    off = [abs(relative_gap(run) - 1) for run in frames.select(of_starts(runs), loss=loss)]
    finding = verdicts.at_most(max(off, default=float("nan")), NEAR, "a tenth of the closed form's gap", n=len(off))
    if not off:
        return finding
    return finding.but(detail=f"the smallest difference is {markdown.percent(min(off))} %")


def reaches_minimum(runs: list[Run]) -> Finding:
    return at_minimum(runs, "bce").but(control=at_minimum(runs, "ce").but(label="the same test on CE"))


FIGURES = "the paper's figures of ViT and Swin"
ROOM = Room(
    name=__name__, part="figures", number=5, items=("transformers",), title="ViT and Swin",
    of_the_paper="violin figures of ViT and Swin", asks="where do bias and scores of transformers settle?",
    runs=configs, seeds={"paper": (0,)}, figures=(start_sweep, decay_sweep), tables=(ends, gaps),
    claims=(
        Claim("transformers.ce_stays", "Under CE a transformer's biases stay where they start", FIGURES,
              "the largest change of the mean bias during training", ce_stays, compares=free),
        Claim("transformers.bce_between",
              "Under BCE a transformer's bias settles between the negative and the positive scores", FIGURES,
              "the share of runs in which it does", bce_between, end=True),
        Claim("transformers.bce_forgets", "Under BCE a transformer's final bias does not depend on its start", FIGURES,
              "the largest difference between the final median biases of two starts", bce_forgets, compares=free,
              end=True),
        Claim("transformers.ce_goes_down", "Under CE decay lowers a transformer's biases, and stronger decay lowers "
              "them further", FIGURES,
              "the share of sweeps in which it does", ce_goes_down, compares=decays),
        Claim("transformers.reaches_minimum",
              "A transformer's positive and negative scores are as far apart as at the closed-form minimum", "ours",
              "the largest relative difference between their gap and the closed form's", reaches_minimum,
              compares=free, end=True),
    ),
)
