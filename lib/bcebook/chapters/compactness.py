"""The chapter on compactness and distinctiveness: how close are the features of a class, how far apart the classes?"""

from __future__ import annotations

import math
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
    import torch as torch_types
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

np, pd, plt, torch = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot"), lazy("torch")
frames, plots = lazy("bcebook.report.frames"), lazy("bcebook.report.plots")
stats, metrics = lazy("bcebook.science.stats"), lazy("bcebook.science.metrics")

MEASURES, SPLITS = ("compactness", "distinctiveness"), {"train": "training set", "test": "test set"}
CLOSEST = "centred_cosine_largest"  # of two class means, in the runs of today's engine
LABEL = ["optimizer", "augmentation", "model", "dataset"]  # what `frames.label` takes
EXACT = 1e-9  # cosines of doubles: rounding leaves some 1e-16 each


def configs(profile: str, seed: int) -> list:
    """The networks of the accuracy chapter, and those of the chapter on neural collapse."""
    return list(dict.fromkeys([*recipes.studied(profile, seed), *recipes.collapse(profile, seed)]))


def differences(runs: list[Run]) -> Figure:
    """BCE minus CE in compactness and in distinctiveness (rows), on the training and on the test set (columns), a line
    for each setting, with the interval that decides."""
    table = frames.differences(runs, [f"{split}_{name}" for name in MEASURES for split in SPLITS])
    if table.empty:
        return plots.nothing("no setting has runs of both losses with a common seed")
    several, settings = len(frames.networks(runs)) > 1, table.groupby(frames.GROUP, sort=False).ngroups
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 2.4 + 0.7 * settings), sharey=True)
    for row, name in zip(axes, MEASURES, strict=True):
        for ax, (split, title) in zip(row, SPLITS.items(), strict=True):
            rows = table[table["figure"] == f"{split}_{name}"]
            labels = [frames.label(*row[LABEL], several) for _, row in rows.iterrows()]
            plots.difference_dots(ax, labels, list(rows["estimate"]), list(rows["each"]), points=False)
            ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 2))  # distinctiveness differs in late digits
            ax.set_title(f"{names.MEASURE[name]}, {title}")
    plots.difference_legend(figure, published=False)
    return figure


def measured(runs: list[Run]) -> tables.Table:
    """Compactness and distinctiveness on both splits, and how far apart the two closest classes are: a row for each
    setting and loss."""
    figures = {f"{split}_{name}": f"{names.MEASURE[name]}, {split}" for name in MEASURES for split in SPLITS}
    table = frames.by_setting(runs, [*figures, f"test_{CLOSEST}"])
    several = len(frames.networks(runs)) > 1
    rows = [row | {"setting": frames.label(*(row[name] for name in LABEL), several)}
            for row in table.to_dict("records")]
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of)}
    columns |= {name: means(head, 3 if "compactness" in name else 5) for name, head in figures.items()}
    columns[f"test_{CLOSEST}"] = means("largest cosine, test", 3)
    return tables.Table(pd.DataFrame(rows), columns, (
        "Over several seeds the mean ± standard deviation. *Largest cosine*: of two class means around the global "
        "mean, the two closest classes; a dash: the run was recorded before it was measured.",
        at_collapse(runs), decays(runs)))


def means(head: str, digits: int) -> tables.Column:
    """A column of `stats.Estimate`s without a unit: mean ± standard deviation over seeds."""
    def write(e) -> str:
        return markdown.number(e.mean, digits) + (f" ± {markdown.number(e.std, digits)}" if e.n > 1 else "")
    return tables.Column(head, write)


def at_collapse(runs: list[Run]) -> str:
    """What both measures and the cosine are at neural collapse, for the numbers of classes among the runs."""
    tops = sorted({run.scores["train"]["bias"]["count"] for run in runs})
    told = [f"{names.MEASURE['distinctiveness']} is {markdown.number(k / (k - 1), 5)} and each cosine "
            f"{markdown.number(-1 / (k - 1), 3)} for {k} classes" for k in tops]
    return f"At neural collapse {names.MEASURE['compactness']} is 1, {markdown.listed(told)}."


def decays(runs: list[Run]) -> str:
    """Which runs have which kind of decay, by their augmentation, which tells the two experiments apart."""
    kinds = {"global": "weight decay on every parameter", "decoupled": "decay of classifier and features alone"}
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(kinds[run.config.decay], []).append(names.of(run.config.augmentation))
    return markdown.sentence("; ".join(f"{markdown.listed(sorted(set(which)))}: {kind}"
                                       for kind, which in found.items()))


# ---- what the runs say

def higher(runs: list[Run], figure: str, direction: int = 1) -> Finding:
    """Is BCE's figure higher (direction -1: lower) than CE's, in every setting? Student's interval over the seeds."""
    table, several = frames.differences(runs, [figure]), len(frames.networks(runs)) > 1
    parts = [verdicts.sign(row.estimate, direction, p=row.p,
                           label=frames.label(*row[LABEL], several)) for _, row in table.iterrows()]
    finding = verdicts.family(parts, stats.holm)
    if not parts:
        return finding
    largest = markdown.significant(max(abs(part.value) for part in parts), 2)
    return finding.but(detail=f"{finding.detail}; the largest difference either way is {largest}")


def compact_on_test(runs: list[Run]) -> Finding:
    return higher(runs, "test_compactness")


def compact_on_train(runs: list[Run]) -> Finding:
    return higher(runs, "train_compactness")


def distinct_on_test(runs: list[Run]) -> Finding:
    return higher(runs, "test_distinctiveness")


def distinct_on_train(runs: list[Run]) -> Finding:
    return higher(runs, "train_distinctiveness")


def closest_apart(runs: list[Run]) -> Finding:
    return higher(runs, f"test_{CLOSEST}", -1)


# ---- what distinctiveness sees

def of_one_length(draw: int) -> torch_types.Tensor:
    """Class means (K, d) of length 1 that add up to zero and are no simplex: opposite pairs and equilateral triangles,
    each turned at random, from 4 to 12 classes in 8 dimensions; every third draw has its first piece twice."""
    random = np.random.default_rng(draw)
    pieces = []
    for _ in range(2 + draw % 2):
        plane = np.linalg.qr(random.normal(size=(8, 2)))[0]  # (8, 2) orthonormal columns
        corners = 2 if random.random() < 0.5 else 3
        angles = 2 * np.pi * np.arange(corners) / corners
        pieces.append(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T)  # (corners, 8)
    if draw % 3 == 0:
        pieces.append(pieces[0])
    return torch.tensor(np.concatenate(pieces))


def blind(draws: int = 60) -> Finding:
    """Distinctiveness of class means of one length against K / (K - 1), and how close two of the classes come."""
    errors, closest = [], []
    for draw in range(draws):
        means_ = of_one_length(draw)
        labels = torch.arange(len(means_))
        top = len(means_) / (len(means_) - 1)
        errors.append(abs(metrics.distinctiveness(means_, labels) - top))
        closest.append(metrics.mean_cosines(means_, labels, centred=True).largest)
    finding = verdicts.check(max(errors, default=math.nan), EXACT, "cosines of double precision", n=draws,
                             of="drawn sets of class means")
    return finding.but(detail=f"in them, the two closest classes have cosines from {markdown.number(min(closest))} to "
                              f"{markdown.number(max(closest))}")


TABLE = "the paper's table of compactness and distinctiveness"
ROOM = Room(
    name=__name__, part="tables", number=2, items=("compactness",),
    short="Compactness", title="Compactness and distinctiveness",
    of_the_paper="table of compactness and distinctiveness",
    asks="are BCE's features closer within classes and farther apart between them?",
    runs=configs, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(differences,), tables=(measured,),
    claims=(
        Claim("compactness.test_compact", "On the test set, BCE's features are more compact within classes than CE's",
              TABLE, "the settings in which BCE's compactness is higher, after Holm's adjustment", compact_on_test),
        Claim("compactness.train_compact",
              "On the training set, BCE's features are more compact within classes than CE's",
              TABLE, "the settings in which BCE's compactness is higher, after Holm's adjustment", compact_on_train),
        Claim("compactness.test_distinct",
              "On the test set, BCE's features are more distinct between classes than CE's", TABLE,
              "the settings in which BCE's distinctiveness is higher, after Holm's adjustment", distinct_on_test),
        Claim("compactness.train_distinct",
              "On the training set, BCE's features are more distinct between classes than CE's", TABLE,
              "the settings in which BCE's distinctiveness is higher, after Holm's adjustment", distinct_on_train),
        Claim("compactness.closest_apart",
              "On the test set, the two closest classes are farther apart under BCE than under CE", "ours",
              "the settings in which the largest cosine of two class means is lower under BCE, after Holm's adjustment",
              closest_apart),
        Claim("compactness.blind",
              r"$E_\text{dis}$ is maximal whenever the centred class means have equal lengths, whatever their angles",
              "ours", "the largest distance from the maximum, over class means of equal length that form no simplex",
              blind, theory=True),
    ),
)
