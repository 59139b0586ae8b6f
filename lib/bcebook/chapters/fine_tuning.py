"""The chapter on fine-tuning: does BCE improve a network that was pretrained with another loss?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs import specs
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

pd, plt = lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, stats = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.science.stats")

TITLES = {"accuracy": "accuracy", "uniform_accuracy": "uniform accuracy"}
MEASURES = tuple(TITLES)
NETWORKS = {  # of a profile; the other trains nothing here
    "laptop": (("efficientnet-lite0", "cifar100"),),
    "paper": (("resnet50-224", "imagenet"), ("resnet101-224", "imagenet"), ("densenet161-224", "imagenet")),
}
TRAIN_SIZE = 10_000  # images of the profile laptop: an epoch in two and a half minutes on a core
VALIDATION_IMAGES = 50_000  # of ImageNet-1k, on which the published accuracies are measured
STATES = {False: "fine-tuned", True: "frozen"}  # what `RunConfig.frozen` means, on a page


def configs(profile: str, seed: int) -> list[RunConfig]:
    """Both losses, the whole network fine-tuned; then, in the profile laptop, its classifier alone, which is where
    fine-tuning begins. SGD and DA1. The biases start around log(K - 1) (`recipes.even_start`).

    CE does not see a common start. From 0, where each begins at one half, BCE's first steps went through the
    pretrained features: after an epoch at a rate of 0.05 it had 4 % of the held-out images right, and CE 44 %; from
    log(K - 1) 45 %.
    """
    def runs(network: tuple[str, str], **settings) -> list[RunConfig]:
        start = recipes.even_start((specs.DATASETS | specs.STREAMED)[network[1]].num_classes)
        return [recipes.run(profile, network, loss, "sgd", seed, augmentation="da1", bias_init_mean=start, **settings,
                            **recipes.GLOBAL)
                for loss in recipes.LOSSES]

    networks = NETWORKS.get(profile, ())
    if profile == "paper":
        return [run for network in networks for run in runs(network)]
    return [run for network in networks for frozen in STATES
            for run in runs(network, train_size=TRAIN_SIZE, frozen=frozen)]


# ---- what the paper's table says by itself

def theirs() -> pandas.DataFrame:
    """The paper's table, a row for each network: `network`, `ce accuracy`, `bce uniform_accuracy` and so on
    (fractions), the differences BCE - CE as `accuracy` and `uniform_accuracy` (rounded to the table's own digits), and
    `error accuracy`, the standard error of that difference; see `published`."""
    table = paper.imagenet()
    wide = table.pivot(index="model", columns="loss", values=list(MEASURES)).loc[table["model"].unique()]
    rows = []
    for model, row in wide.iterrows():
        cells = {"network": f"{model} on {names.dataset('imagenet')}"}
        for name in MEASURES:
            ce, bce = (float(row[name, loss]) for loss in recipes.LOSSES)
            cells |= {f"ce {name}": ce, f"bce {name}": bce, name: round(bce - ce, 6)}
            cells[f"error {name}"] = math.sqrt((ce * (1 - ce) + bce * (1 - bce)) / VALIDATION_IMAGES)
        rows.append(cells)
    return pd.DataFrame(rows)


def published() -> tables.Table:
    """The paper's table: both losses, their difference in points, and what of it the choice of images alone makes."""
    table = theirs()
    columns = {"network": tables.Column("")}
    for name in MEASURES:
        for loss in recipes.LOSSES:
            columns[f"{loss} {name}"] = tables.percents(f"{names.of(loss)}, {names.MEASURE[name]}", 2)
        columns[name] = tables.percents("BCE − CE", 2, sign=True)
        columns[f"error {name}"] = tables.percents("standard error", 2)
    within = sum(abs(row["accuracy"]) < 1.96 * row["error accuracy"] for row in table.to_dict("records"))
    return tables.Table(table, columns, (
        f"The paper's networks, fine-tuned on ImageNet-1k; percent, and percentage points. *Standard error*: of a "
        f"difference of two accuracies on {VALIDATION_IMAGES:,} images, as if each network had images of its own; two "
        "networks that err on the same images more often than by chance have a smaller one. It tells what another "
        f"choice of images would change, not what another seed would: the table has one number a setting. In $A$ the "
        f"difference is within 1.96 of these standard errors in {within} of {len(table)} rows.",))


def table_accuracy() -> Finding:
    """The paper's own rows of A: all of them?"""
    return _whole_table("accuracy")


def table_uniform() -> Finding:
    return _whole_table("uniform_accuracy")


def _whole_table(name: str) -> Finding:
    gap = theirs()[name]
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    finding = verdicts.every(wins, len(gap), "BCE is above CE", of="networks")
    smallest = markdown.significant(stats.sign_test_p(finding.n, 0), 2)
    p = stats.sign_test_p(wins, losses)
    return finding.but(p=p, detail=f"the p is the exact sign test's, which takes the {finding.n} networks as "
                                   f"independent and of so few can give none below {smallest}")


# ---- what the runs say

def settings(runs: list[Run]) -> list[tuple[str, list[Run]]]:
    """The runs by network and by what of it was trained, each with its label, fine-tuned before frozen."""
    found = []
    for network in frames.networks(runs):
        for frozen, state in STATES.items():
            if chosen := frames.select(runs, network, frozen=frozen):
                found.append((f"{names.network(*network)}, {state}", chosen))
    return found


def differences(runs: list[Run]) -> Figure:
    """BCE minus CE in accuracy and uniform accuracy: the paper's networks, and ours with the interval that decides."""
    table, ours = theirs(), {}
    for label, chosen in settings(runs):
        rows = frames.differences(chosen, [f"test_{name}" for name in MEASURES])
        if not rows.empty:
            ours[label.removesuffix(f", {STATES[False]}")] = rows.set_index("figure")
    labels = list(dict.fromkeys([*table["network"], *ours]))
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 1.6 + 0.4 * len(labels)), sharey=True)
    for ax, name in zip(axes, MEASURES, strict=True):
        known = dict(zip(table["network"], table[name], strict=True))
        nothing = {"estimate": frames.NOTHING, "each": []}
        rows = [ours[label].loc[f"test_{name}"] if label in ours else nothing for label in labels]
        plots.difference_dots(ax, labels, [row["estimate"] for row in rows], [row["each"] for row in rows],
                              [known.get(label, math.nan) for label in labels])
        ax.set_title(TITLES[name])
    plots.difference_legend(figure)
    return figure


def results(runs: list[Run]) -> tables.Table:
    """Accuracy and uniform accuracy on training and test images after the last epoch: a row for each network, what of
    it was trained, and loss."""
    shown = [f"{split}_{name}" for split in ("test", "train") for name in MEASURES]
    rows = [row | {"setting": label} for label, chosen in settings(runs)
            for row in frames.by_setting(chosen, shown).to_dict("records")]
    columns = {"setting": tables.Column(""), "loss": tables.Column("loss", names.of)}
    for split in ("test", "train"):
        for name in MEASURES:
            columns[f"{split}_{name}"] = tables.means(f"{names.MEASURE[name]}, {split}")
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (_how(runs),) if runs else ())


def _how(runs: list[Run]) -> str:
    counts = dict.fromkeys((run.config.dataset, run.scores["train"]["positive"]["count"]) for run in runs)
    images = [f"{count:,} of {names.dataset(dataset)}" for dataset, count in counts]
    return (f"Percent; over several seeds their mean ± standard deviation. Training images: {markdown.listed(images)}. "
            "*Frozen*: the backbone is as it was pretrained, with its batch statistics, and only a new classifier is "
            "trained.")


def gaps(runs: list[Run]) -> tables.Table:
    """BCE minus CE on the test set, in points: a row for each network, what of it was trained, and measure."""
    rows = [{"setting": label, "measure": row["figure"].removeprefix("test_"), "difference": row["estimate"],
             "seeds": row["estimate"].n}
            for label, chosen in settings(runs)
            for row in frames.differences(chosen, [f"test_{name}" for name in MEASURES]).to_dict("records")]
    columns = {"setting": tables.Column(""), "measure": tables.Column("", names.MEASURE.get),
               "difference": tables.estimates("BCE − CE, points [95 %]", 2), "seeds": tables.Column("seeds")}
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "Means over the seeds with Student's interval of the paired differences, which decides the verdicts and which "
        "one seed does not have.",) if rows else ())


def _higher(runs: list[Run], name: str, frozen: bool) -> Finding:
    chosen = frames.select(runs, frozen=frozen)
    several = len(frames.networks(chosen)) > 1
    found = [verdicts.sign(row["estimate"], 1, unit="points", p=row["p"], label=frames.label(
        row["optimizer"], row["augmentation"], row["model"], row["dataset"], several))
        for row in frames.differences(chosen, [f"test_{name}"]).to_dict("records")]
    return verdicts.family(found, stats.holm)


def higher_accuracy(runs: list[Run]) -> Finding:
    return _higher(runs, "accuracy", frozen=False)


def higher_uniform(runs: list[Run]) -> Finding:
    return _higher(runs, "uniform_accuracy", frozen=False)


def frozen_uniform(runs: list[Run]) -> Finding:
    return _higher(runs, "uniform_accuracy", frozen=True)


def more_than_a_classifier(runs: list[Run]) -> Finding:
    """Is BCE's lead in uniform accuracy larger where the features are fine-tuned, seed by seed?"""
    each = []
    for network in frames.networks(runs):
        leads = [_leads(frames.select(runs, network, frozen=frozen)) for frozen in STATES]
        each += [leads[0][seed] - leads[1][seed] for seed in sorted(leads[0].keys() & leads[1].keys())]
    estimate = stats.student_interval(each) if each else None
    return verdicts.sign(estimate, 1, unit="points", of="pairs", p=stats.student_p(each))


def _leads(runs: list[Run]) -> dict[int, float]:
    """Seed -> BCE's test uniform accuracy minus CE's."""
    found = {(run.config.loss, run.config.seed): run.final["test_uniform_accuracy"] for run in runs}
    return {seed: value - found["ce", seed] for (loss, seed), value in found.items()
            if loss == "bce" and ("ce", seed) in found}


def tuned(config: RunConfig) -> bool:
    return not config.frozen


TABLE = "the paper's table of fine-tuning on ImageNet-1k"
ROOM = Room(
    name=__name__, part="tables", number=4, items=("imagenet",),
    short="Fine-tuning",
    title="Fine-tuning of pretrained networks",
    of_the_paper="table of fine-tuning on ImageNet-1k", asks="does BCE help in fine-tuning a pretrained network?",
    runs=configs, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(differences,), tables=(results, gaps),
    claims=(
        Claim("fine_tuning.higher_accuracy", "Fine-tuned with BCE, a network reaches a higher accuracy than with CE",
              TABLE, "the networks whose test accuracy is higher with BCE, after Holm's adjustment", higher_accuracy,
              compares=tuned),
        Claim("fine_tuning.higher_uniform",
              "Fine-tuned with BCE, a network reaches a higher uniform accuracy than with CE", TABLE,
              "the networks whose uniform accuracy on the test set is higher with BCE, after Holm's adjustment",
              higher_uniform, compares=tuned),
        Claim("fine_tuning.table_accuracy",
              "In the paper's own table, BCE has a higher accuracy than CE for every network", TABLE,
              "the networks of the table for which BCE is higher", table_accuracy, theory=True),
        Claim("fine_tuning.table_uniform",
              "In the paper's own table, BCE has a higher uniform accuracy than CE for every network", TABLE,
              "the networks of the table for which BCE is higher", table_uniform, theory=True),
        Claim("fine_tuning.frozen_uniform",
              "On frozen pretrained features, a classifier trained with BCE reaches a higher uniform accuracy than "
              "one trained with CE", "ours",
              "the networks whose uniform accuracy on the test set is higher with BCE, the backbone frozen",
              frozen_uniform, compares=lambda config: config.frozen),
        Claim("fine_tuning.more_than_a_classifier",
              "Fine-tuning the features widens BCE's lead in uniform accuracy beyond that of a new classifier alone",
              "ours", "BCE − CE in uniform accuracy, fine-tuned minus frozen, paired by seed", more_than_a_classifier),
    ),
)
