"""The chapter on learning rates: which one does a rule pick that never sees the test set, and does it decide?"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.specs import DATASETS
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, plt = lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots = lazy("bcebook.report.frames"), lazy("bcebook.report.plots")
stats = lazy("bcebook.science.stats")

MEASURES = ("accuracy", "uniform_accuracy")
# Rates that are tried, as multiples of the one that the accuracy chapter trains with.
FACTORS = {"quick": (0.5, 1, 2), "laptop": (0.25, 0.5, 1, 2), "paper": (0.5, 1, 2, 5, 10)}
WIDER = {("laptop", "adamw"): (1 / 64, 1 / 32, 1 / 16, 1 / 8)}  # tried too, before the rule had led so far up
WHOLE = {"quick": (0.5, 1, 2), "laptop": (0.5, 1), "paper": (0.5, 1, 2)}  # of SGD's, trained to the end as well
HELD_OUT, AT_LEAST = 0.1, 300  # of the training images: this share, and never fewer
SHARE = 1 / 3  # of the epochs of a run


def configs(profile: str, seed: int) -> list[RunConfig]:
    """The first network of the accuracy chapter at every rate, the chapter's own first: DA1, shorter, measured on
    training images that are held out. Then, with SGD, the chapter's run itself at a few rates."""
    network = recipes.PROFILES[profile].accuracy[0]

    def at(factor: float, loss: str, optimizer: str) -> RunConfig:
        run = recipes.run(profile, network, loss, optimizer, seed, augmentation="da1", **recipes.GLOBAL)
        return dataclasses.replace(run, learning_rate=float(f"{run.learning_rate * factor:.6g}"))

    count = DATASETS[network[1]].train_count
    size = count - max(round(HELD_OUT * count), AT_LEAST)
    found = []
    for optimizer in recipes.OPTIMIZERS:
        factors = (*FACTORS[profile], *WIDER.get((profile, optimizer), ()))
        for factor in sorted(factors, key=lambda factor: abs(math.log(factor))):
            for loss in recipes.LOSSES:
                run = at(factor, loss, optimizer)
                found.append(dataclasses.replace(run, epochs=max(1, round(SHARE * run.epochs)), train_size=size,
                                                 held_out=True))
    return found + [at(factor, loss, "sgd") for factor in WHOLE[profile] for loss in recipes.LOSSES]


def tried(runs: list[Run]) -> pandas.DataFrame:
    """A row for each optimizer and rate: for each loss both measures on the held-out images (fractions, means over
    seeds; nan for a run that is missing), `both`, the mean accuracy of the two losses, and `picked`, whether the rule
    picks the rate."""
    return _by_rate(frames.select(runs, held_out=True))


def _by_rate(runs: list[Run]) -> pandas.DataFrame:
    rows = []
    for optimizer in recipes.OPTIMIZERS:
        chosen = frames.select(runs, optimizer=optimizer)
        for rate in sorted({run.config.learning_rate for run in chosen}):
            row = {"optimizer": optimizer, "rate": rate}
            for loss in recipes.LOSSES:
                here = frames.select(chosen, loss=loss, learning_rate=rate)
                for name in MEASURES:
                    values = [run.final[f"test_{name}"] for run in here]
                    row[f"{loss}_{name}"] = sum(values) / len(values) if values else math.nan
            rows.append(row | {"both": sum(row[f"{loss}_accuracy"] for loss in recipes.LOSSES) / 2})
    columns = [f"{loss}_{name}" for loss in recipes.LOSSES for name in MEASURES]
    table = pd.DataFrame(rows, columns=["optimizer", "rate", *columns, "both"])
    best = picks(table)
    return table.assign(picked=[best.get(row.optimizer) == row.rate for row in table.itertuples()])


def picks(table: pandas.DataFrame, by: str = "both") -> dict[str, float]:
    """Optimizer -> the rate with the largest value in a column of `tried`; of equal ones the lowest."""
    groups = table.dropna(subset=[by]).groupby("optimizer", sort=False)
    return {optimizer: float(group.loc[group[by].idxmax(), "rate"]) for optimizer, group in groups}


def by_rate(runs: list[Run]) -> Figure:
    """Accuracy and uniform accuracy on the held-out images against the learning rate, a panel for each optimizer."""
    table = tried(runs)
    optimizers = [o for o in recipes.OPTIMIZERS if (table["optimizer"] == o).any()]
    figure, axes = plt.subplots(1, max(len(optimizers), 1), figsize=(8.6, 3.6), sharey=True, squeeze=False)
    for ax, optimizer in zip(axes[0], optimizers, strict=False):
        rows = table[table["optimizer"] == optimizer]
        for loss in recipes.LOSSES:
            for name, line in zip(MEASURES, ("-", "--"), strict=True):
                ax.plot(rows["rate"], 100 * rows[f"{loss}_{name}"], line, color=plots.COLOUR[loss], marker="o",
                        markersize=4, markerfacecolor=plots.COLOUR[loss] if line == "-" else "white",
                        label=f"{names.of(loss)}, {names.MEASURE[name]}".replace(r"\text", r"\mathrm"))
        ax.axvline(picks(table).get(optimizer, math.nan), color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set_xscale("log", base=2)
        ax.set_xticks(rows["rate"], [f"{rate:g}" for rate in rows["rate"]])
        ax.set(xlabel="largest learning rate", title=names.of(optimizer))
        ax.minorticks_off()
    axes[0][0].set_ylabel("held-out images, %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def rates(runs: list[Run]) -> tables.Table:
    """What the figure shows, in numbers, and which rate the rule picks."""
    table = tried(runs)
    columns = {"optimizer": tables.Column("", names.of), "rate": tables.Column("rate", "{:g}".format),
               "picked": tables.Column("picked", lambda yes: "yes" if yes else ""),
               "both": tables.percents("$A$, mean of both losses")}
    for name in MEASURES:
        for loss in recipes.LOSSES:
            columns[f"{loss}_{name}"] = tables.percents(f"{names.of(loss)}, {names.MEASURE[name]}")
    return tables.Table(table, columns, (_how(runs), _alone(table)))


def to_the_end(runs: list[Run]) -> tables.Table:
    """The accuracy chapter's own run with SGD, at its rate and at others, on the test set."""
    table = _by_rate(frames.select(runs, held_out=False))
    for name in MEASURES:
        table[f"gap_{name}"] = table[f"bce_{name}"] - table[f"ce_{name}"]
    columns = {"optimizer": tables.Column("", names.of), "rate": tables.Column("rate", "{:g}".format)}
    for name in MEASURES:
        for loss in recipes.LOSSES:
            columns[f"{loss}_{name}"] = tables.percents(f"{names.of(loss)}, {names.MEASURE[name]}")
        columns[f"gap_{name}"] = tables.percents(f"BCE − CE, {names.MEASURE[name]}", sign=True)
    return tables.Table(table, columns, (
        "Percent of the test set, after all epochs, with all training images; one seed. No rate was chosen by these.",))


def _how(runs: list[Run]) -> str:
    runs = frames.select(runs, held_out=True)
    if not runs:
        return ""
    run = runs[0]
    held = run.scores["test"]["positive"]["count"]
    seeds = len({each.config.seed for each in runs})
    return (f"Percent of the {held:,} held-out images, after {run.config.epochs} epochs on the other "
            f"{run.config.train_size:,} of the training images; {markdown.counted(seeds, 'seed')}. "
            f"One image is {markdown.percent(1 / held, 2)} points.")


def _alone(table: pandas.DataFrame) -> str:
    """What each loss would pick for itself."""
    told = []
    for loss in recipes.LOSSES:
        if own := picks(table, f"{loss}_accuracy"):
            each = markdown.listed(f"{names.of(optimizer)} {rate:g}" for optimizer, rate in own.items())
            told.append(f"by {names.of(loss)}'s accuracy alone it would be {each}")
    return markdown.sentence("; ".join(told)) if told else ""


# ---- what the runs say

def trained_with(runs: list[Run]) -> Finding:
    """Are the picked rates those of the accuracy chapter? Which those are, follows from the runs' network."""
    table = _with_a_choice(tried(runs))
    found, ours = picks(table), _of_the_profile(runs)
    finding = verdicts.every(sum(found[o] == ours[o] for o in found), len(found),
                             "the rate of the accuracy chapter is the one that is picked", of="optimizers")
    edges = [o for o, rate in found.items() if rate in _ends(table, o)]
    if not edges:
        return finding
    return finding.but(detail=f"{finding.detail}; the picked rate is at an end of those tried: "
                              f"{markdown.listed(map(names.of, edges))}")


def _with_a_choice(table: pandas.DataFrame) -> pandas.DataFrame:
    """The optimizers with several rates that both losses have: of a single one nothing can be picked."""
    known = table.dropna(subset=["both"])
    return known[known.groupby("optimizer")["rate"].transform("count") > 1]


def _ends(table: pandas.DataFrame, optimizer: str) -> tuple[float, float]:
    rates_ = table.loc[table["optimizer"] == optimizer, "rate"]
    return rates_.min(), rates_.max()


def _of_the_profile(runs: list[Run]) -> dict[str, float]:
    """The rates with which the accuracy chapter trains the network of these runs."""
    for profile in recipes.PROFILES.values():
        if runs and profile.accuracy[0] == frames.network(runs[0]):
            return profile.training_of(runs[0].config.model).rates
    return dict.fromkeys(recipes.OPTIMIZERS, math.nan)


def same_rate(runs: list[Run]) -> Finding:
    """Would each loss, asked alone, pick the same rate?"""
    table = _with_a_choice(tried(runs))
    ce, bce = (picks(table, f"{loss}_accuracy") for loss in recipes.LOSSES)
    both = [optimizer for optimizer in ce if optimizer in bce]
    return verdicts.every(sum(ce[o] == bce[o] for o in both), len(both), "both losses pick the same rate",
                          of="optimizers")


def bce_higher(runs: list[Run], name: str) -> Finding:
    """Is BCE above CE at every rate, by more than the choice of the held-out images explains?"""
    parts = []
    for row in tried(runs).dropna(subset=[f"bce_{name}", f"ce_{name}"]).to_dict("records"):
        here = frames.select(runs, held_out=True, optimizer=row["optimizer"], learning_rate=row["rate"])
        label = f"{names.of(row['optimizer'])}, {row['rate']:g}"
        parts.append(_by_images(row[f"bce_{name}"], row[f"ce_{name}"], here, label))
    finding = verdicts.family(parts, stats.holm, of="rates")
    if not finding.n:
        return finding
    gaps = [part.value for part in parts]
    ends = [markdown.percent(gap, 1, sign=True) for gap in (min(gaps), max(gaps))]
    rule = (f"{finding.rule}; a single one: {parts[0].rule}. The interval is 1.96 binomial standard errors of the "
            "held-out images, so that a difference which another choice of images would turn decides nothing; it does "
            "not cover the seeds")
    return finding.but(rule=rule, detail=(
        f"{finding.detail}; BCE's number is above CE's at {sum(g > 0 for g in gaps)} of {len(gaps)} rates, and "
        f"BCE − CE goes from {ends[0]} to {ends[1]} points"))


def _by_images(bce: float, ce: float, runs: list[Run], label: str) -> Finding:
    """Is one share of held-out images above another? The standard error is that of two independent samples: two
    networks that err on the same images more often than by chance have a smaller one."""
    seeds = len({run.config.seed for run in runs})
    images = seeds * runs[0].scores["test"]["positive"]["count"]
    gap, error = bce - ce, math.sqrt((bce * (1 - bce) + ce * (1 - ce)) / images)
    estimate = stats.Estimate(gap, error, seeds, gap - 1.96 * error, gap + 1.96 * error)
    p = math.erfc(abs(gap) / error / math.sqrt(2)) if error else float(gap == 0)
    return verdicts.sign(estimate, unit="points", p=p, label=label)


def accuracy_at_every(runs: list[Run]) -> Finding:
    return bce_higher(runs, "accuracy")


def uniform_at_every(runs: list[Run]) -> Finding:
    return bce_higher(runs, "uniform_accuracy")


def held_out(config: RunConfig) -> bool:
    """Whether a run is one of those by which the rule picks."""
    return config.held_out


ROOM = Room(
    name=__name__, part="beyond", number=3, title="Learning rates",
    of_the_paper="table of accuracies, at other learning rates", asks="which learning rate is best, and does it "
        "change the comparison?",
    runs=configs, seeds={profile: (0,) for profile in recipes.PROFILES},
    figures=(by_rate,), tables=(rates, to_the_end),
    claims=(
        Claim("learning_rates.trained_with",
              "The accuracy chapter trains with the learning rates that this chapter's rule selects", "ours",
              "the optimizers for which the selected rate is that of the accuracy chapter",
              trained_with, compares=held_out),
        Claim("learning_rates.same_rate", "CE and BCE, tuned separately, select the same learning rate", "ours",
              "the optimizers for which the rates with the highest held-out accuracy agree", same_rate,
              compares=held_out),
        Claim("learning_rates.accuracy_at_every",
              "BCE reaches a higher accuracy than CE at every learning rate tried", "ours",
              "the rates at which BCE's held-out accuracy is higher, after Holm's adjustment", accuracy_at_every,
              compares=held_out),
        Claim("learning_rates.uniform_at_every",
              "BCE reaches a higher uniform accuracy than CE at every learning rate tried", "ours",
              "the rates at which BCE's held-out uniform accuracy is higher, after Holm's adjustment", uniform_at_every,
              compares=held_out),
    ),
)
