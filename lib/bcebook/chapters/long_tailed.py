"""The chapter on long-tailed classes: is BCE more accurate than CE where classes are unequal, and in which of them?"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.specs import DATASETS
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    import numpy
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, plt = lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, tails = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.report.tails")
imbalances = lazy("bcebook.report.imbalances")
measure, datasets = lazy("bcebook.training.measure"), lazy("bcebook.training.datasets")
seeds, stats, theory = lazy("bcebook.report.seeds"), lazy("bcebook.science.stats"), lazy("bcebook.science.theory")

FACTORS = (10, 50, 100)  # largest class / smallest, as in the paper's table
OPTIMIZER, AUGMENTATION = "sgd", "da1"  # which ones the paper's table is of, is not known
NETWORKS = {"quick": ("mlp", "digits"), "laptop": ("resnet9", "cifar100"), "paper": ("resnet18", "cifar100")}
# Of the 387 digits at imbalance 50, batches of 128 leave a last one of three images, whose batch statistics spoil what
# a network of either loss learns; batches of 100 leave no small one.
BATCH_SIZE = {"quick": 100, "laptop": recipes.BATCH_SIZE, "paper": recipes.BATCH_SIZE}
STARTED = {"laptop": max(FACTORS)}  # profile -> the imbalance at which BCE's biases start elsewhere, too
# More than 100 training images, 20 to 100, fewer than 20: Liu et al., "Large-Scale Long-Tailed Recognition in an Open
# World", CVPR 2019. `measure.shots` draws the lines.
GROUPS = {"many": "many-shot", "medium": "medium-shot", "few": "few-shot"}
MEASURES = {"test_accuracy": "accuracy", "test_uniform_accuracy": "uniform accuracy"}
SYMBOLS = {"test_accuracy": names.MEASURE["accuracy"], "test_uniform_accuracy": names.MEASURE["uniform_accuracy"],
           "train_accuracy": f"{names.MEASURE['accuracy']} of the training set"}
BY_GROUP = {f"test_accuracy_{group}": f"{title} classes" for group, title in GROUPS.items()}


def configs(profile: str, seed: int) -> list[RunConfig]:
    """Both losses at every imbalance, with the accuracy chapter's decay and first augmentation, SGD, and as many epochs
    as the profile's longest runs of the network: a long tail has few images.

    Where training is short and classes are many, BCE once more at one imbalance (STARTED), with biases that start where
    `recipes.even_start` has them: from zero they are on their way all the time.

    A pair of runs on a laptop's core: seconds on digits; 13 to 20 minutes of ResNet9 on CIFAR100 (with 11 to 20
    thousand images), so that three seeds of all imbalances take about two hours and a half.
    """
    network = NETWORKS[profile]
    epochs = recipes.PROFILES[profile].training_of(network[0]).epochs
    pairs = [dataclasses.replace(
                 recipes.run(profile, network, loss, OPTIMIZER, seed, augmentation=AUGMENTATION,
                             imbalance_factor=factor, **recipes.GLOBAL), epochs=epochs, batch_size=BATCH_SIZE[profile])
             for factor in FACTORS for loss in recipes.LOSSES]
    start = recipes.even_start(DATASETS[network[1]].num_classes)
    return pairs + [dataclasses.replace(config, bias_init_mean=start) for config in pairs
                    if config.loss == "bce" and config.imbalance_factor == STARTED.get(profile)]


def published() -> pandas.DataFrame:
    """The paper's table, a row for each imbalance (the index): ce, bce and difference (fractions, the difference
    rounded to the table's own digits)."""
    table = paper.long_tailed().pivot(index="imbalance_factor", columns="loss", values="accuracy").sort_index()
    return table.assign(difference=(table["bce"] - table["ce"]).round(6))


def class_sizes(run: Run) -> numpy.ndarray:
    """Training images of each class, (K,). CIFAR's full classes are equal, so that its files are not needed."""
    spec = DATASETS[run.config.dataset]
    if spec.torchvision is None:
        return tails.class_sizes(run)
    return datasets.long_tailed_sizes(spec.train_count // spec.num_classes, spec.num_classes,
                                      run.config.imbalance_factor)


# ---- figures ---------------------------------------------------------------------------------------------------------

def by_imbalance(runs: list[Run]) -> Figure:
    """BCE minus CE in accuracy, with the paper's difference, and in uniform accuracy, a row for each imbalance."""
    theirs = published()["difference"]
    here = imbalances.factors(runs)
    return _dots(runs, MEASURES, {"test_accuracy": [theirs.get(factor, math.nan) for factor in here]})


def by_group(runs: list[Run]) -> Figure:
    """BCE minus CE in accuracy on the many-, medium- and few-shot classes, a row for each imbalance."""
    return _dots(runs, BY_GROUP, {})


def _dots(runs: list[Run], titles: dict[str, str], theirs: dict[str, list[float]]) -> Figure:
    """A panel for each figure. theirs: figure -> the paper's differences, one for each of the `factors`."""
    table, here = imbalances.gaps(runs, titles).set_index(["factor", "figure"]), imbalances.factors(runs)
    if table.empty:
        return plots.nothing("no imbalance has runs of both losses with a common seed")
    figure, axes = plt.subplots(1, len(titles), figsize=(8.6, 1.6 + 0.5 * len(here)), sharex=True, sharey=True)
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        pairs = [(factor, name) for factor in here]
        plots.difference_dots(
            ax, [f"imbalance {factor:g}" for factor in here],
            [table["estimate"].get(pair, frames.NOTHING) for pair in pairs],
            [table["each"].get(pair, []) for pair in pairs], theirs.get(name, ()))
        ax.set_title(title)
    plots.difference_legend(figure, published=bool(theirs))
    return figure


# ---- tables ----------------------------------------------------------------------------------------------------------

def accuracies(runs: list[Run]) -> tables.Table:
    """Accuracy and uniform accuracy of both losses on the test set and their paired difference beside the paper's, and
    how much of the training set they have learnt; a row for each measure and imbalance."""
    frame, theirs = imbalances.both_losses(runs, SYMBOLS), published()
    known = frame["figure"].eq("test_accuracy") & frame["factor"].isin(theirs.index)  # the paper has no A_Uni here
    for name in theirs:
        frame[f"paper_{name}"] = frame["factor"].map(theirs[name]).where(known)
    columns = {"figure": tables.Column("", SYMBOLS.get), "factor": tables.Column("imbalance", "{:g}".format)}
    columns |= _of_losses() | {f"paper_{loss}": tables.percents(f"paper, {names.of(loss)}", 2)
                               for loss in recipes.LOSSES}
    columns["paper_difference"] = tables.percents("paper, BCE − CE", 2, sign=True)
    return tables.Table(frame.sort_values(["figure", "factor"]), columns, (_how(runs), _beside(runs)))


def groups(runs: list[Run]) -> tables.Table:
    """Accuracy on the many-, medium- and few-shot classes under both losses and its paired difference, a row for each
    imbalance and group that has a class."""
    frame = imbalances.both_losses(runs, BY_GROUP)
    sizes = {run.config.imbalance_factor: class_sizes(run) for run in runs}
    frame["group"] = frame["figure"].str.removeprefix("test_accuracy_")
    frame["classes"] = [int(measure.shots(sizes[row.factor])[row.group].sum()) for row in frame.itertuples()]
    columns = {"factor": tables.Column("imbalance", "{:g}".format), "group": tables.Column("classes", GROUPS.get),
               "classes": tables.Column("how many")} | _of_losses()
    return tables.Table(frame[frame["classes"] > 0], columns, (
        "Percent of the group's test images; a network still chooses among all classes. Means ± standard deviation "
        "over the seeds; in brackets Student's interval of the paired differences. A class is many-shot with more than "
        f"{measure.MANY} training images, few-shot with fewer than {measure.FEW}, else medium-shot.",))


def _of_losses() -> dict[str, tables.Column]:
    return {loss: tables.means(names.of(loss)) for loss in recipes.LOSSES} | {
        "difference": tables.estimates("BCE − CE, points [95 %]"), "seeds": tables.Column("seeds")}


def _how(runs: list[Run]) -> str:
    one = {run.config.dataset: run.scores["test"]["positive"]["count"] for run in runs}
    told = [f"{markdown.percent(1 / count, 2)} points on {names.dataset(name)}" for name, count in one.items()]
    return ("Percent, after the last epoch, on a test set whose classes are of equal size or nearly so; means ± "
            "standard deviation over the seeds; in brackets Student's interval of the paired differences."
            + (f" One image is {markdown.listed(told)}." if told else ""))


def _beside(runs: list[Run]) -> str:
    """What the paper's columns are of."""
    text = "The paper's columns are of CIFAR100-LT; of which network and optimizer, is not known here."
    other = list(dict.fromkeys(names.dataset(d) for _, d in frames.networks(runs) if d != "cifar100"))
    return text + (f" {markdown.listed(other).capitalize()}: another task, on which only the differences can be "
                   "compared." if other else "")


def starts(runs: list[Run]) -> tables.Table:
    """Both losses with biases that start around zero, and BCE with biases that start elsewhere, at the imbalance that
    has such runs; a row for each measure."""
    others = imbalances.started(runs)
    at = {run.config.imbalance_factor for run in others}
    frame = imbalances.both_losses(runs, SYMBOLS)
    frame = frame[frame["factor"].isin(at)].copy()
    later = frames.by_setting(others, list(SYMBOLS))
    each = {figure: imbalances.start_gaps(runs, figure) for figure in frame["figure"]}
    frame["later"] = [later[figure].iloc[0] for figure in frame["figure"]]
    frame["gained"] = [stats.student_interval(each[figure]) if each[figure] else frames.NOTHING
                       for figure in frame["figure"]]
    frame["seeds"] = [len(each[figure]) for figure in frame["figure"]]
    columns = {"figure": tables.Column("", SYMBOLS.get), "factor": tables.Column("imbalance", "{:g}".format)}
    columns |= {loss: tables.means(f"{names.of(loss)}, from 0") for loss in recipes.LOSSES}
    columns |= {"later": tables.means("BCE, from $\\log(K - 1)$"),
                "gained": tables.estimates("gained by the start, points [95 %]"), "seeds": tables.Column("seeds")}
    return tables.Table(frame, columns, ("Percent, as above; *gained*: by BCE, paired by seed.",) if at else ())


def sizes(runs: list[Run]) -> tables.Table:
    """What an imbalance does to the classes of CIFAR100-LT and of the runs' data set: how many are many-, medium- and
    few-shot, and which share of them lies at or below the minority-collapse size of the theory."""
    found = {("cifar100", factor, recipes.BATCH_SIZE): tails.long_tailed_sizes(factor) for factor in published().index}
    for run in sorted(runs, key=lambda run: run.config.imbalance_factor):
        c = run.config
        found.setdefault((c.dataset, c.imbalance_factor, c.batch_size), class_sizes(run))
    rows = []
    for (dataset, factor, batch), each in found.items():
        size = theory.minority_collapse_size(each.sum(), recipes.PAPER_DECAY, recipes.PAPER_DECAY, batch)
        rows.append({"dataset": dataset, "factor": factor, "batch": batch, "total": each.sum(), "largest": each.max(),
                     "smallest": each.min(), "size": size, "below": float((each <= size).mean())}
                    | {name: int(mask.sum()) for name, mask in measure.shots(each).items()})
    columns = {"dataset": tables.Column("images of", names.dataset),
               "factor": tables.Column("imbalance", "{:g}".format),
               "total": tables.Column("images", "{:,}".format), "largest": tables.Column("largest class"),
               "smallest": tables.Column("smallest")}
    columns |= {name: tables.Column(title) for name, title in GROUPS.items()}
    columns |= {"batch": tables.Column("batch"), "size": tables.significant("collapse size", 2),
                "below": tables.percents("at or below it, %")}
    frame = pd.DataFrame(rows)
    nearest = (frame["smallest"] / frame["size"]).min()
    return tables.Table(frame, columns, (
        f"*Collapse size*: $N B \\lambda_W \\lambda_H$ with both decays {recipes.PAPER_DECAY:g}, $N$ images and "
        f"batches of $B$; *at or below it*: the share of the classes. The lowest ratio of a smallest "
        f"class to it is {markdown.number(nearest, 1)}.",))


# ---- claims ----------------------------------------------------------------------------------------------------------

def table_higher() -> Finding:
    """The paper's own table: BCE above CE in every row?"""
    gap = published()["difference"]
    found = verdicts.every(int((gap > 0).sum()), len(gap), "BCE is above CE", of="imbalances")
    return found.but(detail=f"{_told(gap)}; the table has no seeds and no intervals")


def table_grows() -> Finding:
    """The paper's own table: a larger difference at every next larger imbalance?"""
    gap = published()["difference"]
    steps = gap.diff().dropna()
    found = verdicts.every(int((steps > 0).sum()), len(steps),
                           "BCE's gain is larger than at the next smaller imbalance", of="steps")
    return found.but(detail=_told(gap))


def _told(gap: pandas.Series) -> str:
    each = [f"{markdown.percent(value, 2, sign=True)} points at {factor:g}" for factor, value in gap.items()]
    return f"BCE − CE is {markdown.listed(each)}"


def each_imbalance(runs: list[Run], figure: str) -> Finding:
    """"BCE is higher" in a figure, tested at each imbalance by Student's interval over the seeds; Holm over them."""
    parts = [verdicts.sign(row.estimate, 1, unit="points", p=row.p, label=f"imbalance {row.factor:g}")
             for row in imbalances.gaps(runs, [figure]).itertuples()]
    return verdicts.family(parts, stats.holm, of="imbalances")


def higher(runs: list[Run]) -> Finding:
    return each_imbalance(runs, "test_accuracy")


def higher_uniform(runs: list[Run]) -> Finding:
    return each_imbalance(runs, "test_uniform_accuracy")


def few_higher(runs: list[Run]) -> Finding:
    control = each_imbalance(runs, "test_accuracy_many").but(label="the same test on the many-shot classes")
    return each_imbalance(runs, "test_accuracy_few").but(control=control)


def larger(more: dict[int, float], less: dict[int, float], label: str = "") -> Finding:
    """Is one difference of the losses larger than another? Both: seed -> value; paired by seed."""
    each = [more[seed] - less[seed] for seed in sorted(more.keys() & less.keys())]
    return seeds.tested(each, unit="points", label=label)


def few_more(runs: list[Run]) -> Finding:
    """BCE's gain on the few-shot classes less that on the many-shot ones, at each imbalance that has both."""
    pairs = {factor: [imbalances.seeds_gaps(runs, factor, f"test_accuracy_{name}") for name in ("few", "many")]
             for factor in imbalances.factors(runs)}
    parts = [larger(*pair, label=f"imbalance {factor:g}") for factor, pair in pairs.items() if all(pair)]
    return verdicts.family(parts, stats.holm, of="imbalances")


def grows(runs: list[Run]) -> Finding:
    """BCE's gain in accuracy at the largest imbalance less that at the smallest."""
    found = {factor: imbalances.seeds_gaps(runs, factor, "test_accuracy") for factor in imbalances.factors(runs)}
    known = {factor: gap for factor, gap in found.items() if gap}
    if len(known) < 2:
        return larger({}, {})
    low, high = min(known), max(known)
    return larger(known[high], known[low]).but(detail=f"the gain at {high:g} less that at {low:g}, paired by seed")


def start(runs: list[Run]) -> Finding:
    """Is BCE more accurate where its biases start at log(K - 1) than where they start around zero?"""
    return seeds.tested(imbalances.start_gaps(runs, "test_accuracy"), unit="points")


def from_zero(config: RunConfig) -> bool:
    """Whether the biases of a run start around 0, as of all runs by which the losses are compared."""
    return not config.bias_init_mean


def where_started(config: RunConfig) -> bool:
    """Whether a run is one of BCE at the imbalance at which some start elsewhere."""
    return config.loss == "bce" and config.imbalance_factor in STARTED.values()


TABLE = "the paper's table of CIFAR100-LT"
ROOM = Room(
    name=__name__, part="tables", number=3, items=("long_tail",), short="Long tails", title="Long-tailed classes",
    of_the_paper="table of CIFAR100-LT", asks="is BCE more accurate than CE on imbalanced classes?",
    runs=configs, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(by_imbalance, by_group), tables=(accuracies, groups, starts, sizes),
    claims=(
        Claim("long_tailed.higher", "BCE reaches a higher accuracy than CE on long-tailed classes", TABLE,
              "the imbalances at which BCE's test accuracy is higher, after Holm's adjustment", higher,
              compares=from_zero, end=True),
        Claim("long_tailed.table_higher",
              "In the paper's own table, BCE has a higher accuracy than CE at every imbalance", TABLE,
              "the imbalances of the table at which BCE is higher", table_higher, theory=True),
        Claim("long_tailed.table_grows", "In the paper's own table, BCE's gain grows with the imbalance",
              "ours, on the paper's table",
              "the steps from one imbalance of the table to the next at which the difference grows", table_grows,
              theory=True),
        Claim("long_tailed.grows", "BCE's gain in accuracy is larger at the largest imbalance than at the smallest",
              "ours, on the paper's table", "the difference of the two gains", grows, compares=from_zero, end=True),
        Claim("long_tailed.higher_uniform", "BCE reaches a higher uniform accuracy than CE on long-tailed classes",
              "ours",
              "the imbalances at which BCE's uniform accuracy on the test set is higher, after Holm's adjustment",
              higher_uniform, compares=from_zero, end=True),
        Claim("long_tailed.few_higher", "BCE is more accurate than CE on the few-shot classes", "ours",
              "the imbalances at which BCE's accuracy on their test images is higher, after Holm's adjustment",
              few_higher, compares=from_zero, end=True),
        Claim("long_tailed.few_more",
              "BCE's gain is in the few-shot classes: it is larger there than in the many-shot ones", "ours",
              "the imbalances at which the difference of the two gains is above zero, after Holm's adjustment",
              few_more, compares=from_zero, end=True),
        Claim("long_tailed.start",
              "In a short training, BCE is more accurate if its biases start at $\\log(K - 1)$ than if they start at 0",
              "ours", "the test accuracy of BCE from that start minus that from 0, paired by seed", start,
              compares=where_started),
    ),
)
