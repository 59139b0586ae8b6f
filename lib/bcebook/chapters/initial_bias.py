"""The chapter on the initial bias mean: where do biases and scores settle, and does it depend on where the biases
start?"""

from __future__ import annotations

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
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

pd, plots = lazy("pandas"), lazy("bcebook.report.plots")
frames, sweeps = lazy("bcebook.report.frames"), lazy("bcebook.report.sweeps")

STAYS = 0.01 * max(recipes.PAPER_MEANS)  # a hundredth of the range of starts
# Two medians closer than that cannot be told apart in the paper's figures.
TOLD_APART = 2 * max(paper.READING_ERROR.values())


def configs(profile: str, seed: int) -> list:
    """The sweep on the profile's first network; in the profile laptop, where a run takes minutes, on all of them."""
    spec = recipes.PROFILES[profile]
    networks = spec.networks if profile == "laptop" else spec.networks[:1]
    return [config for network in networks for config in recipes.decoupled(profile, network, seed, spec.means)]


def bias_sweep(runs: list[Run]) -> Figure:
    """Scores and biases against the initial bias mean, with the paper's medians and the closed-form minimum (for CE
    without the bias, which the objective leaves free when lambda_b = 0)."""
    return sweeps.figure(runs, "bias_init_mean")


def ends(runs: list[Run]) -> tables.Table:
    """The smallest and the largest median over the initial means beside the closed form, a row a network, loss and
    optimizer."""
    table, networks, rows = sweeps.wide(runs), frames.networks(runs), []
    closed = {(frames.network(run), run.config.loss): frames.closed_form(run) for run in runs}
    for (network, loss, optimizer), group in table.groupby(sweeps.PANEL, sort=False):
        row = {"setting": frames.of(network, networks) + f"{names.of(loss)}, {names.of(optimizer)}"}
        for kind in frames.KINDS:
            row |= {
                f"{kind}_least": group[kind].min(),
                f"{kind}_most": group[kind].max(),
                f"{kind}_closed": closed[network, loss].get(kind, float("nan")),
            }
            row[kind] = (
                f"{markdown.number(row[f'{kind}_least'])} to {markdown.number(row[f'{kind}_most'])} "
                f"({markdown.number(row[f'{kind}_closed'])})"
            )
        rows.append(row)
    columns = {
        "setting": tables.Column(""),
        "positive": tables.Column("positive scores"),
        "bias": tables.Column("biases"),
        "negative": tables.Column("negative scores"),
    }
    return tables.Table(
        pd.DataFrame(rows), columns, ("In brackets the closed form; a dash: the objective leaves it free.",)
    )


def slopes(runs: list[Run]) -> tables.Table:
    """How much of its start a bias keeps, ours and in the paper's figures: the slope of the final median against the
    initial mean."""
    table, networks, rows = sweeps.wide(runs), frames.networks(runs), []
    published = frames.published_medians(runs, "bias_init_mean")
    published = published[published["quantity"] == "bias"]
    for (network, loss, optimizer), group in table.groupby(sweeps.PANEL, sort=False):
        row = {
            "setting": frames.of(network, networks) + f"{names.of(loss)}, {names.of(optimizer)}",
            "ours": sweeps.slope(group["bias_init_mean"], group["bias"]),
        }
        for model in paper.READING_ERROR:
            theirs = published[
                (published["model"] == model) & (published["loss"] == loss) & (published["optimizer"] == optimizer)
            ]
            row[model] = sweeps.slope(theirs["value"], theirs["median"])
        rows.append(row)
    columns = {"setting": tables.Column(""), "ours": tables.fixed("ours")}
    columns |= {model: tables.fixed(f"paper, {model}") for model in paper.READING_ERROR}
    return tables.Table(
        pd.DataFrame(rows),
        columns,
        ("The slope is 1 where training never moves a bias, 0 where it forgets its start.",),
    )


def largest_move(runs: list[Run], loss: str) -> Finding:
    """The largest change of the mean bias over the runs of one loss."""
    moved = [abs(run.history["bias_mean"][-1] - run.history["bias_mean"][0]) for run in runs if run.config.loss == loss]
    return verdicts.at_most(
        max(moved, default=float("nan")),
        STAYS,
        "a hundredth of the range of starts",
        n=len(moved),
        label=f"the same test on {names.of(loss)}",
    )


def ce_stays(runs: list[Run]) -> Finding:
    return largest_move(runs, "ce").but(control=largest_move(runs, "bce"))


def lies_between(runs: list[Run], loss: str) -> Finding:
    """In how many runs of one loss does the median bias lie between the medians of negative and positive scores?"""
    holds = sweeps.between(sweeps.wide(runs), loss)
    return verdicts.every(
        int(holds.sum()),
        len(holds),
        "the median bias lies between the medians of negative and positive scores",
        label=f"the same test on {names.of(loss)}",
    )


def bce_between(runs: list[Run]) -> Finding:
    return lies_between(runs, "bce").but(control=lies_between(runs, "ce"))


def spread_of_ends(runs: list[Run], loss: str) -> Finding:
    """The largest difference between the final median biases of two starts, over the networks and optimizers of one
    loss."""
    table = sweeps.wide(runs)
    table = table[table["loss"] == loss]
    panels = [
        group["bias"] for _, group in table.groupby([*sweeps.PANEL, "seed"]) if group["bias_init_mean"].nunique() > 1
    ]
    largest = max((float(bias.max() - bias.min()) for bias in panels), default=float("nan"))
    return verdicts.at_most(
        largest,
        TOLD_APART,
        "two medians closer than that cannot be told apart in the paper's figures",
        n=len(panels),
        of="sweeps",
        label=f"the same test on {names.of(loss)}",
    )


def bce_forgets(runs: list[Run]) -> Finding:
    return spread_of_ends(runs, "bce").but(control=spread_of_ends(runs, "ce"))


ROOM = Room(
    name=__name__,
    part="figures",
    number=1,
    items=("bias_start",),
    short="Initial bias", title="Classifier bias and decision scores against the initial bias mean",
    of_the_paper="violin figures of biases and scores against the initial bias mean",
    asks="where does the bias settle?",
    runs=configs,
    seeds={"paper": (0,)},
    figures=(bias_sweep,),
    tables=(ends, slopes),
    claims=(
        Claim(
            "initial_bias.ce_stays",
            "Under CE the biases stay where they start",
            "the paper's bias figures",
            "the largest change of the mean bias during training",
            ce_stays,
        ),
        Claim(
            "initial_bias.bce_between",
            "Under BCE the bias settles between the negative and the positive scores",
            "the paper's bias figures",
            "the share of runs in which it does",
            bce_between,
        ),
        Claim(
            "initial_bias.bce_forgets",
            "Under BCE it settles there wherever it starts: the end does not depend on the start",
            "the paper's bias figures",
            "the largest difference between the final median biases of two starts",
            bce_forgets,
        ),
    ),
)
