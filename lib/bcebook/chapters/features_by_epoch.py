"""The chapter on features over the epochs: how do they part, and is what a picture shows in the features?"""

from __future__ import annotations

import dataclasses
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
    import pandas
    from IPython.display import HTML
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, plt, display = lazy("pandas"), lazy("matplotlib.pyplot"), lazy("IPython.display")
frames, plots, layouts = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.report.layouts")

IMAGES = 500  # as in the paper's figure
TRUSTED = 0.9
NUMBERS = {"nc1": "NC1", "compactness": names.MEASURE["compactness"],
           "distinctiveness": names.MEASURE["distinctiveness"], "silhouette": "silhouette",
           "neighbours": "neighbours, %"}


def configs(profile: str, seed: int) -> list[RunConfig]:
    """The first network of the collapse experiment under both losses, with SGD, keeping features. The same trainings
    as without, but runs of their own: on the laptop about twenty-four minutes each on one core."""
    network = recipes.PROFILES[profile].collapse[0]
    found = [config for config in recipes.decoupled(profile, network, seed) if config.optimizer == "sgd"]
    return [dataclasses.replace(config, keep_features=IMAGES) for config in reversed(found)]


def colours() -> list[str]:
    """One for each of up to ten classes; with more they repeat."""
    return [plt.matplotlib.colors.to_hex(plt.get_cmap("tab10")(k)) for k in range(10)]


def titles(runs: list[Run]) -> dict[str, Run]:
    """Title -> run, CE first."""
    networks = frames.networks(runs)
    ordered = sorted(runs, key=lambda run: list(names.LOSS).index(run.config.loss))
    return {frames.of(frames.network(run), networks) + names.of(run.config.loss): run for run in ordered}


def pictures(runs: list[Run]) -> Figure:
    """t-SNE of the kept features at each kept epoch: a row of small pictures for each loss, a colour for each class."""
    shown, palette = titles(runs), colours()
    columns = max((len(run.features["epochs"]) for run in runs), default=1)
    size = (8.6, 0.3 + 0.95 * max(len(shown), 1))
    figure, axes = plt.subplots(max(len(shown), 1), columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_visible(False)
    for number, (title, run) in enumerate(shown.items()):
        points = [palette[label % len(palette)] for label in run.features["labels"][layouts.drawn(run)]]
        for ax, epoch, layout in zip(axes[number], run.features["epochs"], layouts.layouts(run), strict=False):
            ax.scatter(*layout.T, c=points, s=1.5, linewidth=0)
            ax.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
            if number == 0:
                ax.set_title(f"epoch {epoch}" if epoch == 0 else f"{epoch}", fontsize="small", fontweight="normal")
        axes[number, 0].set_ylabel(title)
    return figure


def slider(runs: list[Run]) -> HTML | str:
    """The same, with a slider over the epochs; works in a page without a network."""
    return display.HTML(layouts.slider(titles(runs), colours())) if runs else ""


def by_epoch(runs: list[Run]) -> pandas.DataFrame:
    """`layouts.numbers` of every run, with its loss."""
    found = [layouts.numbers(run).assign(loss=run.config.loss) for run in runs]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(
        columns=["epoch", *NUMBERS, "trust", "loss"], dtype=float)


def curves(runs: list[Run]) -> Figure:
    """The numbers of the same features over the epochs, CE beside BCE."""
    table = by_epoch(runs)
    figure, axes = plt.subplots(1, len(NUMBERS), figsize=(8.6, 2.5))
    for ax, (name, title) in zip(axes, NUMBERS.items(), strict=True):
        for loss in recipes.LOSSES:
            rows = table[table["loss"] == loss].dropna(subset=name)
            scale = 100 if name == "neighbours" else 1
            ax.plot(rows["epoch"], scale * rows[name], color=plots.COLOUR[loss], marker=".", label=names.of(loss))
        ax.set_xscale("symlog", linthresh=1)
        ax.set_title(title.replace(r"\text", r"\mathrm"), fontsize="small")
        ax.set_xlabel("epoch")
        ax.minorticks_off()
        if name == "nc1":
            ax.set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def ends(runs: list[Run]) -> tables.Table:
    """The numbers before training, after the first epoch and at the end, a row for each loss and epoch."""
    table = by_epoch(runs)
    rows = [group.iloc[[at for at in (0, 1, -1) if at < len(group)]] for _, group in table.groupby("loss", sort=False)]
    columns = {"loss": tables.Column("loss", names.of), "epoch": tables.Column("epoch", "{:.0f}".format),
               "nc1": tables.significant("NC1")}
    columns |= {name: tables.fixed(NUMBERS[name], 3) for name in ("compactness", "distinctiveness", "silhouette")}
    columns |= {"neighbours": tables.percents(NUMBERS["neighbours"]), "trust": tables.fixed("trust in the picture", 3)}
    labels = runs[0].features["labels"] if runs else []
    kept = f"the {len(labels)} kept images" if runs else "the kept images"
    pictured = f"the {len(labels[layouts.drawn(runs[0])])} pictured ones" if runs else "the pictured ones"
    return tables.Table(pd.concat(rows) if rows else table, columns, (
        f"NC1 of the whole training set; the others of {kept}. *Neighbours*: the share of images whose ten nearest "
        f"others vote for their class. *Trust*, of {pictured}: 1 where every neighbour in the picture is one among the "
        "features.",))


# ---- what the runs say

def at_every(runs: list[Run], name: str, direction: int = 1) -> Finding:
    """Is BCE's number higher (direction -1: lower) than CE's after every kept epoch of training? NC1 is known for the
    epochs at which the whole training set was measured."""
    table = by_epoch(runs)
    wide = table[table["epoch"] > 0].pivot_table(index="epoch", columns="loss", values=name, aggfunc="mean")
    gaps = (wide["bce"] - wide["ce"]).dropna() if {"bce", "ce"} <= set(wide) else pd.Series(dtype=float)
    side = "higher" if direction > 0 else "lower"
    return verdicts.every(int((direction * gaps > 0).sum()), len(gaps), f"BCE's number is the {side}", of="epochs")


def more_compact(runs: list[Run]) -> Finding:
    return at_every(runs, "compactness")


def sooner(runs: list[Run]) -> Finding:
    return at_every(runs, "nc1", -1)


def apart(runs: list[Run]) -> Finding:
    return at_every(runs, "silhouette")


def trusted(runs: list[Run]) -> Finding:
    """The least trustworthiness of any picture."""
    table = by_epoch(runs)
    return verdicts.at_least(float(table["trust"].min()) if len(table) else math.nan, TRUSTED,
                             "one is a picture that invents no neighbour; a layout at random has about a half",
                             n=len(table), of="pictures")


FIGURE = "the paper's figure of features by epoch"
ROOM = Room(
    name=__name__, part="figures", number=7, items=("tsne",), title="Features by epoch",
    of_the_paper="t-SNE of the features by epoch", asks="how do the classes separate, and is the t-SNE picture "
                                                        "faithful?",
    runs=configs, seeds={profile: (0,) for profile in recipes.PROFILES},
    figures=(pictures, curves), tables=(ends,),
    claims=(
        Claim("features_by_epoch.more_compact",
              "After every epoch, BCE's features are more compact within classes than CE's", FIGURE,
              "the epochs after which the compactness of the kept features is higher", more_compact),
        Claim("features_by_epoch.sooner", "After every epoch, BCE is nearer to collapse than CE", "ours",
              "the epochs after which NC1 of the training set is lower", sooner),
        Claim("features_by_epoch.apart", "After every epoch, BCE's classes are farther apart, relative to their "
              "width, than CE's",
              "ours", "the epochs after which the silhouette of the kept features is higher", apart),
        Claim("features_by_epoch.trusted", "Neighbours in a t-SNE picture are neighbours in feature space", "ours",
              "the least trustworthiness of a picture", trusted),
    ),
)
