"""The chapter on accuracies: is BCE more accurate than CE, sample by sample and with one threshold for all?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.report.claims import Claim
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

pd, plt = lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, stats = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.science.stats")

MEASURES = ("accuracy", "uniform_accuracy")
LABEL = ("optimizer", "augmentation", "model", "dataset")  # what `frames.label` takes
TITLES = {"accuracy": "accuracy", "uniform_accuracy": "uniform accuracy"}


def accuracy_differences(runs: list[Run]) -> Figure:
    """BCE minus CE in test accuracy and in test uniform accuracy, a row for each setting, with the interval that
    decides and the paper's difference."""
    table = frames.differences(runs, [f"test_{name}" for name in MEASURES])
    if table.empty:
        return plots.nothing("no setting has runs of both losses with a common seed")
    table, several = frames.with_published(table), len(frames.networks(runs)) > 1
    settings = table.groupby(frames.GROUP, sort=False).ngroups
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 1.6 + 0.5 * settings), sharey=True)
    for ax, name in zip(axes, MEASURES, strict=True):
        rows = table[table["figure"] == f"test_{name}"]
        labels = [frames.label(r.optimizer, r.augmentation, r.model, r.dataset, several) for r in rows.itertuples()]
        plots.difference_dots(ax, labels, list(rows["estimate"]), list(rows["each"]), list(rows[f"paper_{name}"]))
        ax.set_title(TITLES[name])
    plots.difference_legend(figure, published=bool(table["paper_accuracy"].notna().any()))
    return figure


def final_and_best(runs: list[Run]) -> tables.Table:
    """Accuracy and uniform accuracy on the test set, after the last and at the best epoch, beside the paper's: a row
    for each setting and loss."""
    figures = {name: (f"test_{name}", f"best_test_{name}") for name in MEASURES}
    table = frames.by_setting(runs, [figure for pair in figures.values() for figure in pair])
    several, rows = len(frames.networks(runs)) > 1, []
    for row in table.to_dict("records"):
        theirs = frames.published_accuracy(*(row[name] for name in [*frames.GROUP, "loss"]))
        label = frames.label(row["optimizer"], row["augmentation"], row["model"], row["dataset"], several)
        rows.append(row | {"setting": label, "of": theirs["of"]} | {f"paper_{name}": theirs[name] for name in MEASURES})
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of)}
    for name, (final, best) in figures.items():
        symbol = names.MEASURE[name]
        columns |= {final: tables.means(f"{symbol}, final"), best: tables.means("best"),
                    f"paper_{name}": tables.percents("paper")}
    return tables.Table(pd.DataFrame(rows), columns, (
        "Percent; over several seeds their mean ± standard deviation. *Final*: after the last epoch. *Best*: the "
        f"largest value over {looked_at(runs)}, chosen on the test set, and for each of the two measures by itself.",
        beside({row["of"]: (row["model"], row["dataset"]) for row in rows})))


def looked_at(runs: list[Run]) -> str:
    """Over how many epochs "best" was sought: "all epochs", or how many of how many, with the runs they are of."""
    found: dict[str, list[tuple[str, str]]] = {}
    for run in runs:
        pairs = zip(run.history["epoch"], run.history["test_accuracy"], strict=True)
        seen = sum(epoch >= 1 and not math.isnan(value) for epoch, value in pairs)
        every = run.config.epochs
        told = "all epochs" if seen == every else f"those {seen} of {every} epochs that were measured"
        found.setdefault(told, []).append(frames.network(run))
    if len(found) == 1:
        return next(iter(found))
    return markdown.listed(f"{told} ({', '.join(names.network(*each) for each in dict.fromkeys(networks))})"
                           for told, networks in sorted(found.items()))


def beside(networks: dict) -> str:
    """What the paper's columns are of; networks: the paper's (model, data set), or None -> one of ours beside it."""
    theirs = [each for each in networks if each]
    if not theirs:
        return "The paper's table has none of these settings."
    others = [names.network(*each) for each in theirs if networks[each] != each]
    text = "Where the paper's table lacks a setting, there is a dash. " if None in networks else ""
    if not others:
        return text + "The paper's columns are of the same network, data set, optimizer and augmentation."
    return (f"{text}The paper's columns are of {markdown.listed(others)} with the same optimizer and augmentation: "
            "another task, on which only the differences between the losses can be compared.")


def images_of(runs: list[Run]) -> dict[str, int]:
    """Data set -> images in its test set."""
    return {run.config.dataset: run.scores["test"]["positive"]["count"] for run in runs}


def gaps(runs: list[Run]) -> tables.Table:
    """BCE minus CE in percentage points and in test images, beside the paper's difference: a row for each setting and
    measure."""
    table = frames.with_published(frames.differences(runs, [f"test_{name}" for name in MEASURES]))
    count, several, rows = images_of(runs), len(frames.networks(runs)) > 1, []
    for row in table.to_dict("records"):
        name = row["figure"].removeprefix("test_")
        label = frames.label(row["optimizer"], row["augmentation"], row["model"], row["dataset"], several)
        rows.append({"setting": label, "measure": name, "difference": row["estimate"], "seeds": row["estimate"].n,
                     "images": row["estimate"].mean * count[row["dataset"]], "of": count[row["dataset"]],
                     "paper": row[f"paper_{name}"]})
    columns = {"setting": tables.Column("setting"), "measure": tables.Column("", names.MEASURE.get),
               "difference": tables.estimates("BCE − CE, points [95 %]", 2),
               "images": tables.fixed("test images", 1, sign=True), "of": tables.Column("of"),
               "seeds": tables.Column("seeds"), "paper": tables.percents("paper, points", sign=True)}
    one = [f"{markdown.percent(1 / n, 2)} points on {names.dataset(dataset)}" for dataset, n in count.items()]
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "Means over the seeds; in brackets Student's interval of the paired differences, which decides the verdicts "
        "and which one seed does not have. *Test images*: the same mean difference, as so many images of the test "
        f"set. One image is {markdown.listed(one)}.",))


def published() -> tables.Table:
    """The paper's own table as differences BCE - CE in points: a row for each network and data set, A and A_Uni for
    each optimizer and augmentation."""
    table = paper_pairs()
    rows, columns = [], {"network": tables.Column("")}
    for (dataset, model), group in table.groupby(["dataset", "model"], sort=False):
        row = {"network": names.network(model, dataset)}
        for pair in group.to_dict("records"):
            for name in MEASURES:
                key = f"{pair['optimizer']} {pair['augmentation']} {name}"
                head = f"{names.of(pair['optimizer'])}, {names.of(pair['augmentation'])}: {names.MEASURE[name]}"
                row[key], columns[key] = pair[name], tables.percents(head, sign=True)
        rows.append(row)
    return tables.Table(pd.DataFrame(rows), columns, ("The paper's table, BCE − CE in percentage points.",))


def whole(runs: list[Run]) -> tables.Table:
    """The paper's table as it stands, a row for each pair of losses, and beside it ours where the runs are of the same
    network, data set, optimizer and augmentation."""
    theirs = paper.accuracy().pivot(index=frames.GROUP, columns="loss", values=list(MEASURES))
    ours = frames.by_setting(runs, [f"test_{name}" for name in MEASURES]).set_index([*frames.GROUP, "loss"])
    rows, known = [], False
    order = paper_pairs()[frames.GROUP].itertuples(index=False, name=None)
    for key in order:
        setting = dict(zip(frames.GROUP, key, strict=True))
        row = {"setting": frames.label(*(setting[name] for name in LABEL), True)}
        for name in MEASURES:
            for loss in recipes.LOSSES:
                row[f"{name} {loss}"] = theirs.loc[key, (name, loss)]
                there = (*key, loss) in ours.index
                row[f"our {name} {loss}"] = ours.loc[(*key, loss), f"test_{name}"].mean if there else math.nan
                known |= there
        rows.append(row)
    columns = {"setting": tables.Column("setting")}
    for whose in ["", "our "] if known else [""]:
        for name in MEASURES:
            for loss in recipes.LOSSES:
                head = f"{whose}{names.of(loss)}, {names.MEASURE[name]}"
                columns[f"{whose}{name} {loss}"] = tables.percents(head)
    told = ("*Our*: after the last epoch, means over the seeds; a dash: no run of that setting is there." if known else
            "None of these networks is among the runs of this profile; ours have a table of their own above.")
    return tables.Table(pd.DataFrame(rows), columns, (f"The paper's table, percent. {told}",))


def paper_pairs() -> pandas.DataFrame:
    """The paper's table, a row for each pair of losses: GROUP and BCE minus CE in accuracy and uniform_accuracy
    (fractions, rounded to the table's own digits: a tie is a tie)."""
    table = paper.accuracy().set_index([*frames.GROUP, "loss"])[list(MEASURES)].unstack("loss", sort=False)
    return pd.DataFrame({name: (table[name, "bce"] - table[name, "ce"]).round(6) for name in MEASURES}).reset_index()


def counted(gaps) -> tuple[int, int, int, float]:
    """Of differences BCE - CE: how many are above zero, below, level; the exact sign test's p over those that
    differ."""
    wins, losses = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    return wins, losses, len(gaps) - wins - losses, stats.sign_test_p(wins, losses)


def signs(name: str) -> tuple[int, int, int, float, str]:
    """Of the paper's pairs in a measure: what `counted` says, and what to think of it, in words."""
    gap = paper_pairs()[name]
    wins, losses, ties, p = counted(gap)
    told = (f"of all {len(gap)} pairs, BCE is above CE in {wins}, below in {losses}, level in {ties}; the p of the "
            "exact sign test takes the pairs that differ as independent, which those of one network and data set are "
            "not: it overstates the evidence")
    return wins, losses, ties, p, told


def table_accuracy() -> Finding:
    """The paper's own rows of A: most of them?"""
    wins, losses, _, p, told = signs("accuracy")
    return verdicts.most(wins, losses, p, "BCE is above CE", of="pairs").but(detail=told)


def table_uniform() -> Finding:
    """The paper's own rows of A_Uni: all of them?"""
    wins, losses, ties, p, told = signs("uniform_accuracy")
    return verdicts.every(wins, wins + losses + ties, "BCE is above CE", of="pairs").but(detail=told, p=p)


def parts(runs: list[Run], name: str) -> list[Finding]:
    """Each setting's test of "BCE is higher" in a measure, by Student's interval over the seeds: the paper's direction,
    whatever its table has in this cell, if anything."""
    several, found = len(frames.networks(runs)) > 1, []
    for row in frames.differences(runs, [f"test_{name}"]).itertuples():
        label = frames.label(row.optimizer, row.augmentation, row.model, row.dataset, several)
        found.append(verdicts.sign(row.estimate, 1, unit="points", p=row.p, label=label))
    return found


def with_signs(finding: Finding) -> Finding:
    """A family's finding, and in how many settings the mean difference is above zero at all."""
    means = [part.value for part in finding.parts]
    wins, losses = sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)
    if not wins + losses:
        return finding
    p = markdown.significant(stats.sign_test_p(wins, losses), 2)
    return finding.but(detail=f"{finding.detail}; the mean difference is above zero in {wins} of {len(means)} (exact "
                              f"sign test over the settings: p = {p})")


def higher_accuracy(runs: list[Run]) -> Finding:
    return with_signs(verdicts.majority(parts(runs, "accuracy"), stats.holm))


def higher_uniform(runs: list[Run]) -> Finding:
    return with_signs(verdicts.family(parts(runs, "uniform_accuracy"), stats.holm))


TABLE = "the paper's table of accuracies"
ROOM = Room(
    name=__name__, part="tables", number=1, items=("accuracy",),
    short="Accuracy", title="Accuracy and uniform accuracy",
    of_the_paper="table of accuracies on CIFAR10 and CIFAR100", asks="is BCE more accurate than CE?",
    runs=recipes.classification, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(accuracy_differences,), tables=(final_and_best, gaps),
    claims=(
        Claim("accuracy.higher_accuracy", "BCE reaches a higher accuracy than CE in most settings", TABLE,
              "the settings in which BCE's test accuracy is higher, after Holm's adjustment", higher_accuracy),
        Claim("accuracy.higher_uniform", "BCE reaches a higher uniform accuracy than CE in all settings", TABLE,
              "the settings in which BCE's uniform accuracy on the test set is higher, after Holm's adjustment",
              higher_uniform),
        Claim("accuracy.table_accuracy",
              "In the paper's own table, BCE has a higher accuracy than CE in most settings", TABLE,
              "of its pairs that differ, those in which BCE is higher", table_accuracy, theory=True),
        Claim("accuracy.table_uniform",
              "In the paper's own table, BCE has a higher uniform accuracy than CE in all settings", TABLE,
              "its pairs in which BCE is higher", table_uniform, theory=True),
    ),
)
