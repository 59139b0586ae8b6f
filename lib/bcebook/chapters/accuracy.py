"""The chapter on accuracies: is BCE more accurate than CE, sample by sample and with one threshold for all?"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.report.claims import Claim
from bcebook.runs.specs import DATASETS
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, plt = lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, stats = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.science.stats")

MEASURES = ("accuracy", "uniform_accuracy")
LABEL = ("optimizer", "augmentation", "model", "dataset")  # what `frames.label` takes
# Of the profile laptop: recorded before the authors' recipe was known, so of the former one.
FORMER_SEEDS, LAPTOP_SEEDS = recipes.THREE_SEEDS, (3, 4, 5)
TITLES = {"accuracy": "accuracy", "uniform_accuracy": "uniform accuracy"}


def configs(profile: str, seed: int) -> list[RunConfig]:
    """The authors' recipe; then what varies it: the former recipe, and in the profile laptop other starts of BCE's
    biases."""
    if profile != "laptop":
        return [*recipes.classification(profile, seed), *recipes.former(profile, seed)]
    if seed in FORMER_SEEDS:
        return recipes.former(profile, seed)
    network = recipes.PROFILES[profile].accuracy[0]
    even = recipes.even_start(DATASETS[network[1]].num_classes)
    return recipes.classification(profile, seed) + [
        recipes.accuracy_run(profile, network, "bce", optimizer, seed, "da1", start)
        for optimizer in recipes.OPTIMIZERS for start in (even, 0.0)]


def by_recipe(runs: list[Run], table: Callable[[list[Run]], pandas.DataFrame]) -> pandas.DataFrame:
    """A table of the runs of each recipe, one below the other, with the column `recipe`."""
    found = [table(of_recipe(runs, recipe)).assign(recipe=recipe)
             for recipe in (recipes.AUTHORS, recipes.FORMER)]
    return pd.concat([each for each in found if len(each)] or found, ignore_index=True)


def differences(runs: list[Run], name: str | None = None) -> pandas.DataFrame:
    """`frames.differences` in one measure of the test set, or in both, for each recipe."""
    measures = [f"test_{each}" for each in ([name] if name else MEASURES)]
    return by_recipe(runs, lambda chosen: frames.differences(chosen, measures))


def label(row: dict, several: bool) -> str:
    """A setting in a few words, and its recipe where it is the former one."""
    return frames.label(*(row[name] for name in LABEL), several) + (
        ", former recipe" if row.get("recipe") == recipes.FORMER else "")


def accuracy_differences(runs: list[Run]) -> Figure:
    """BCE minus CE in test accuracy and in test uniform accuracy, a row for each setting, with the interval that
    decides and the paper's difference."""
    table = differences(runs)
    if table.empty:
        return plots.nothing("no setting has runs of both losses with a common seed")
    table, several = frames.with_published(table), len(frames.networks(runs)) > 1
    settings = table.groupby([*frames.GROUP, "recipe"], sort=False).ngroups
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 1.6 + 0.5 * settings), sharey=True)
    for ax, name in zip(axes, MEASURES, strict=True):
        rows = table[table["figure"] == f"test_{name}"]
        labels = [label(row, several) for row in rows.to_dict("records")]
        plots.difference_dots(ax, labels, list(rows["estimate"]), list(rows["each"]), list(rows[f"paper_{name}"]))
        ax.set_title(TITLES[name])
    plots.difference_legend(figure, published=bool(table["paper_accuracy"].notna().any()))
    return figure


def final_and_best(runs: list[Run]) -> tables.Table:
    """Accuracy and uniform accuracy on the test set, after the last and at the best epoch, beside the paper's: a row
    for each setting and loss."""
    figures = {name: (f"test_{name}", f"best_test_{name}") for name in MEASURES}
    wanted = [figure for pair in figures.values() for figure in pair]
    table = by_recipe(runs, lambda chosen: frames.by_setting(chosen, wanted))
    several, rows = len(frames.networks(runs)) > 1, []
    for row in table.to_dict("records"):
        theirs = frames.published_accuracy(*(row[name] for name in [*frames.GROUP, "loss"]))
        rows.append(row | {"setting": label(row, several), "of": theirs["of"]}
                    | {f"paper_{name}": theirs[name] for name in MEASURES})
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
    table = frames.with_published(differences(runs))
    count, several, rows = images_of(runs), len(frames.networks(runs)) > 1, []
    for row in table.to_dict("records"):
        name = row["figure"].removeprefix("test_")
        rows.append({"setting": label(row, several), "measure": name, "difference": row["estimate"],
                     "seeds": row["estimate"].n,
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
    authors = of_recipe(runs, recipes.AUTHORS)
    ours = frames.by_setting(authors, [f"test_{name}" for name in MEASURES]).set_index([*frames.GROUP, "loss"])
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


def tested(table: pandas.DataFrame, label_of: Callable[[dict], str]) -> list[Finding]:
    """Each row's test of "BCE is higher", by Student's interval over the seeds: the paper's direction in every cell,
    including those where its table has the opposite."""
    return [verdicts.sign(row["estimate"], 1, unit="points", p=row["p"], label=label_of(row))
            for row in table.to_dict("records")]


def parts(runs: list[Run], name: str, recipe: str) -> list[Finding]:
    """Each setting's test of a recipe in a measure."""
    several, table = len(frames.networks(runs)) > 1, differences(runs, name)
    return tested(table[table["recipe"] == recipe], lambda row: label(row, several))


def with_signs(finding: Finding) -> Finding:
    """A family's finding, and in how many settings the mean difference is above zero at all."""
    means = [part.value for part in finding.parts]
    wins, losses = sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)
    if not wins + losses:
        return finding
    p = markdown.significant(stats.sign_test_p(wins, losses), 2)
    return finding.but(detail=f"{finding.detail}; the mean difference is above zero in {wins} of {len(means)} (exact "
                              f"sign test over the settings: p = {p})")


def of_recipe(runs: list[Run], recipe: str) -> list[Run]:
    return [run for run in runs if recipe in recipes.recipes_of(run.config)]


def higher_accuracy(runs: list[Run], recipe: str = recipes.AUTHORS) -> Finding:
    return with_signs(verdicts.majority(parts(runs, "accuracy", recipe), stats.holm)).but(runs=keys(runs, recipe))


def higher_uniform(runs: list[Run], recipe: str = recipes.AUTHORS) -> Finding:
    return with_signs(verdicts.family(parts(runs, "uniform_accuracy", recipe), stats.holm)).but(runs=keys(runs, recipe))


def keys(runs: list[Run], recipe: str) -> tuple[str, ...]:
    """Of the runs that are compared: those with a partner of the other loss."""
    def pair(run: Run) -> tuple:
        return (*(getattr(run.config, name) for name in frames.GROUP), run.config.seed)

    chosen = of_recipe(runs, recipe)
    losses = Counter(map(pair, chosen))
    return tuple(run.config.key for run in chosen if losses[pair(run)] == len(recipes.LOSSES))


# ---- what the recipe and its start change

def changes(runs: list[Run]) -> pandas.DataFrame:
    """BCE minus CE by the authors' recipe less the same by the former one: a row for each setting and measure that has
    both. Columns GROUP, figure, authors and former (estimates), change (an estimate with Welch's interval: the two have
    seeds of their own) and p."""
    table, rows = differences(runs), []
    for setting, group in table.groupby([*frames.GROUP, "figure"], sort=False):
        found = group.set_index("recipe")
        if {recipes.AUTHORS, recipes.FORMER} <= set(found.index):
            ours, theirs = found.loc[recipes.AUTHORS], found.loc[recipes.FORMER]
            change, p = stats.welch(ours["each"], theirs["each"])
            rows.append(dict(zip([*frames.GROUP, "figure"], setting, strict=True)) | {
                "authors": ours["estimate"], "former": theirs["estimate"], "change": change, "p": p})
    return pd.DataFrame(rows, columns=[*frames.GROUP, "figure", "authors", "former", "change", "p"])


def recipe_table(runs: list[Run]) -> tables.Table:
    """What the recipe alone changes in BCE - CE: a row for each setting and measure."""
    several = len(frames.networks(runs)) > 1
    rows = [{"setting": label(row, several), "measure": row["figure"].removeprefix("test_"),
             **{name: row[name] for name in ("authors", "former", "change")}}
            for row in changes(runs).to_dict("records")]
    columns = {"setting": tables.Column("setting"), "measure": tables.Column("", names.MEASURE.get),
               "authors": tables.estimates("BCE − CE, authors' recipe", 2),
               "former": tables.estimates("former recipe", 2), "change": tables.estimates("change", 2)}
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "Percentage points of the test set; in brackets 95 % intervals over the seeds: Student's of the paired "
        "differences, Welch's of the change, since each recipe has seeds of its own.",))


def starts(runs: list[Run]) -> tables.Table:
    """BCE by the authors' recipe from each start of its biases: test accuracies, and where the biases end."""
    chosen = [run for run in runs if run.config.loss == "bce" and run.config.decay == "global"
              and (run.config.optimizer == "sgd") == (run.config.weight_decay == recipes.PAPER_DECAY)]
    frame = frames.finals(chosen).assign(
        start=[run.config.bias_init_mean for run in chosen],
        end=[frames.summary(run, "train", "bias").mean for run in chosen])
    figures, several, rows = [*(f"test_{name}" for name in MEASURES), "end"], len(frames.networks(runs)) > 1, []
    for setting, group in frame.groupby([*frames.GROUP, "start"], sort=True) if chosen else ():
        row = dict(zip([*frames.GROUP, "start"], setting, strict=True))
        rows.append({"setting": label(row, several), "start": row["start"],
                     "seeds": len(group)} | {name: stats.student_interval(group[name]) for name in figures})
    columns = {"setting": tables.Column("setting"), "start": tables.Column("biases start at", "{:g}".format),
               **{f"test_{name}": tables.means(names.MEASURE[name]) for name in MEASURES},
               "end": tables.Column("biases end at", lambda e: markdown.number(e.mean, 2)),
               "seeds": tables.Column("seeds")}
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "BCE, percent of the test set, mean ± standard deviation over the seeds, and the mean bias at the end. SGD "
        "from 0 is the former recipe too.",))


def recipe_helps(runs: list[Run]) -> Finding:
    several = len(frames.networks(runs)) > 1
    found = [verdicts.sign(row["change"], 1, unit="points", p=row["p"], label=label(row, several))
             for row in changes(runs).to_dict("records") if row["figure"] == "test_accuracy"]
    return verdicts.family(found, stats.holm)


TABLE = "the paper's table of accuracies"
ROOM = Room(
    name=__name__, part="tables", number=1, items=("accuracy",),
    short="Accuracy", title="Accuracy and uniform accuracy",
    of_the_paper="table of accuracies on CIFAR10 and CIFAR100", asks="is BCE more accurate than CE?",
    runs=configs, seeds={"quick": recipes.THREE_SEEDS, "laptop": LAPTOP_SEEDS + FORMER_SEEDS,
                         "paper": recipes.THREE_SEEDS},
    figures=(accuracy_differences,), tables=(final_and_best, gaps, recipe_table, starts),
    claims=(
        Claim("accuracy.higher_accuracy", "BCE reaches a higher accuracy than CE in most settings", TABLE,
              "the settings in which BCE's test accuracy is higher, after Holm's adjustment", higher_accuracy),
        Claim("accuracy.higher_uniform", "BCE reaches a higher uniform accuracy than CE in all settings", TABLE,
              "the settings in which BCE's uniform accuracy on the test set is higher, after Holm's adjustment",
              higher_uniform),
        Claim("accuracy.former_uniform", "With the former recipe, too, BCE reaches a higher uniform accuracy than CE",
              "ours", "the settings in which BCE's uniform accuracy on the test set is higher, after Holm's adjustment",
              lambda runs: higher_uniform(runs, recipes.FORMER)),
        Claim("accuracy.former_accuracy", "With the former recipe, too, BCE reaches a higher accuracy than CE",
              "ours", "the settings in which BCE's test accuracy is higher, after Holm's adjustment",
              lambda runs: higher_accuracy(runs, recipes.FORMER)),
        Claim("accuracy.recipe", "The authors' recipe alone raises BCE's accuracy against CE's", "ours",
              "BCE − CE in test accuracy by the authors' recipe less the same by the former one, in each setting, "
              "after Holm's adjustment", recipe_helps),
        Claim("accuracy.table_accuracy",
              "In the paper's own table, BCE has a higher accuracy than CE in most settings", TABLE,
              "of its pairs that differ, those in which BCE is higher", table_accuracy, theory=True),
        Claim("accuracy.table_uniform",
              "In the paper's own table, BCE has a higher uniform accuracy than CE in all settings", TABLE,
              "its pairs in which BCE is higher", table_uniform, theory=True),
    ),
)
