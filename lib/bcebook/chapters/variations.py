"""The chapter on what reviewers of the paper asked: fixed classifiers, no bias, normalised features, other decays and
starts, Mixup and CutMix apart, random labels."""

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
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots = lazy("bcebook.report.frames"), lazy("bcebook.report.plots")
seeds, stats, theory = lazy("bcebook.report.seeds"), lazy("bcebook.science.stats"), lazy("bcebook.science.theory")

MEASURES = ("accuracy", "uniform_accuracy")
# Its steps do not depend on how long the rows of a fixed classifier are. SGD's do, and at its rate for trained rows BCE
# then learns nothing.
OPTIMIZER = "adamw"
MIXED = ("da1", "da1+mixup", "da1+cutmix")
PLAIN, RANDOM = "as it is", "random labels"
COLLAPSED = 0.1  # NC1 of the poster's networks is below that when they are done


def configs(profile: str, seed: int) -> list[RunConfig]:
    """One thing changed at a time on the first network of the collapse experiment, both losses; and the accuracy
    experiment's first network with DA1 alone, with Mixup and with CutMix. In the profile laptop about twenty-four
    minutes a run on one core."""
    spec = recipes.PROFILES[profile]
    network = spec.collapse[0]
    plain = [config for config in recipes.decoupled(profile, network, seed) if config.optimizer == OPTIMIZER]
    changed = [dataclasses.replace(config, **changes(config)) for config in plain for changes in CHANGES]
    mixed = [recipes.run(profile, spec.accuracy[0], loss, OPTIMIZER, seed, augmentation=augmentation, **recipes.GLOBAL)
             for augmentation in MIXED for loss in recipes.LOSSES]
    return changed + mixed


def own_scale(config: RunConfig) -> float:
    """The length of a classifier's row at the minimum of a run's loss, where |w|^2 lambda_W K = |h|^2 lambda_H B and
    |w| |h| is the positive score: to four digits, as it becomes part of the run's settings."""
    classes = DATASETS[config.dataset].num_classes
    per_length = math.sqrt(config.lambda_h * config.batch_size / (config.lambda_w * classes))
    return float(f"{math.sqrt(own_score(config) * per_length):.4g}")


def own_score(config: RunConfig) -> float:
    """The positive score of the minimum of a run's loss."""
    classes = DATASETS[config.dataset].num_classes
    c = theory.effective_c(config.lambda_w, config.lambda_h, config.batch_size, classes)
    return float(f"{theory.minimum(config.loss, classes, c, 0.0).positive:.4g}")


CHANGES = (
    lambda config: {},
    lambda config: {"head": "etf", "scale": own_scale(config)},
    lambda config: {"head": "etf", "scale": own_scale(config), "bias": "none"},
    lambda config: {"bias": "none"},
    # Lengths do nothing under a cosine, so that decays would only take them to zero.
    lambda config: {"head": "cosine", "scale": own_score(config), "lambda_w": 0.0, "lambda_h": 0.0},
    lambda config: {"lambda_w": 10 * config.lambda_w},
    lambda config: {"weight_start": 4.0},
    lambda config: {"random_labels": True},
)


def told(config: RunConfig) -> str:
    """What is changed in a run, in words."""
    parts = []
    if config.decay == "global":
        parts.append(names.of(config.augmentation))
    if config.head == "etf":
        parts.append("fixed simplex ETF")
    if config.head == "cosine":
        parts.append("cosine scores")
    if config.bias == "none":
        parts.append("no bias")
    if config.decay == "decoupled" and config.head != "cosine" and config.lambda_w != recipes.PAPER_DECAY:
        parts.append(f"classifier's decay times {config.lambda_w / recipes.PAPER_DECAY:g}")
    if config.weight_start != 1:
        parts.append(f"classifier starts {config.weight_start:g} times as large")
    if config.random_labels:
        parts.append(RANDOM)
    return ", ".join(parts) or PLAIN


def groups(runs: list[Run]) -> dict[str, dict[str, dict[int, Run]]]:
    """Variation, in words -> loss -> seed -> run."""
    return seeds.by_loss(runs, lambda run: told(run.config))


def final(name: str):
    """A final figure of a run, as a function."""
    return lambda run: run.final[name]


# ---- figure and table

def differences(runs: list[Run]) -> Figure:
    """BCE minus CE in test accuracy and in test uniform accuracy, a row for each variation."""
    found = {name: losses for name, losses in groups(runs).items() if losses["bce"].keys() & losses["ce"].keys()}
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 1.4 + 0.36 * len(found)), sharey=True)
    for ax, name in zip(axes, MEASURES, strict=True):
        each = [seeds.gaps(losses["bce"], losses["ce"], final(f"test_{name}")) for losses in found.values()]
        plots.difference_dots(ax, list(found), list(map(stats.student_interval, each)), each)
        ax.set_title({"accuracy": "accuracy", "uniform_accuracy": "uniform accuracy"}[name])
    plots.difference_legend(figure, published=False)
    return figure


def measured(runs: list[Run]) -> tables.Table:
    """What each network came to: a row for each variation and loss."""
    rows = []
    for name, losses in groups(runs).items():
        for loss, chosen in losses.items():
            if chosen:
                rows.append({"variation": name, "loss": loss} | _means(list(chosen.values())))
    columns = {"variation": tables.Column("variation"), "loss": tables.Column("loss", names.of),
               "test_accuracy": tables.means("$A$"), "test_uniform_accuracy": tables.means(r"$A_\text{Uni}$"),
               "train_accuracy": tables.means("$A$ (train)"), "nc1": tables.significant("NC1"),
               "compactness": tables.fixed(r"$E_\text{com}$ (test)", 3), "positive": tables.fixed("positive"),
               "bias": tables.fixed("bias"), "negative": tables.fixed("negative")}
    count = len({run.config.seed for run in runs})
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        f"Percent, {markdown.counted(count, 'seed')}; over several their mean ± standard deviation. The others are "
        "means over the seeds: NC1 (geometric) and the medians of scores and biases of the training set, compactness "
        "of the test set.",))


def _means(runs: list[Run]) -> dict:
    row = {name: stats.student_interval(np.array([run.final[name] for run in runs]))
           for name in ("test_accuracy", "test_uniform_accuracy", "train_accuracy")}
    for kind in frames.KINDS:
        row[kind] = float(np.mean([frames.summary(run, "train", kind).median for run in runs]))
    row["nc1"] = math.exp(np.mean([math.log(run.final["train_nc1"]) for run in runs]))
    return row | {"compactness": float(np.mean([run.final["test_compactness"] for run in runs]))}


# ---- what the runs say

def against(*variations: str) -> Callable[[RunConfig], bool]:
    """Which configurations are one of these variations, or the network as it is."""
    return lambda config: told(config) in (PLAIN, *variations)


def compared(ours: dict[int, Run], theirs: dict[int, Run], figure, direction: int, label: str = "") -> Finding:
    """Is a figure higher (direction -1: lower) in our runs than in the others, seed by seed?"""
    return seeds.tested(seeds.gaps(ours, theirs, figure), direction, label=label)


def of(runs: list[Run], variation: str, loss: str) -> dict[int, Run]:
    return groups(runs).get(variation, {}).get(loss, {})


def uniform_everywhere(runs: list[Run]) -> Finding:
    """BCE above CE in uniform accuracy, whatever is changed; random labels have nothing to learn."""
    parts = [compared(losses["bce"], losses["ce"], final("test_uniform_accuracy"), 1, name)
             for name, losses in groups(runs).items() if name != RANDOM]
    return verdicts.family(parts, stats.holm, of="variations")


def against_plain(runs: list[Run], variation: str, figure, direction: int) -> Finding:
    """A variation against the network as it is, under BCE; the same under CE beside it."""
    bce, ce = (compared(of(runs, variation, loss), of(runs, PLAIN, loss), figure, direction,
                        f"the same test on {names.of(loss)}") for loss in ("bce", "ce"))
    return bce.but(label="", control=ce)


def etf_costs(runs: list[Run]) -> Finding:
    return against_plain(runs, "fixed simplex ETF", final("test_accuracy"), -1)


def bias_needed(runs: list[Run]) -> Finding:
    return against_plain(runs, "no bias", final("test_uniform_accuracy"), -1)


def lost(run: Run) -> float:
    """The part of the test set that one threshold for all loses."""
    return run.final["test_accuracy"] - run.final["test_uniform_accuracy"]


def normalised(runs: list[Run]) -> Finding:
    """The question is CE's, so that CE is tested and BCE is the control."""
    bce = against_plain(runs, "cosine scores", lost, -1)
    return bce.control.but(label="", control=bce.but(label="the same test on BCE", control=None))


def random_collapse(runs: list[Run]) -> Finding:
    """NC1 of the training set after training on random labels, the largest over both losses."""
    found = [run for run in runs if run.config.random_labels]
    largest = max((run.final["train_nc1"] for run in found), default=math.nan)
    finding = verdicts.at_most(largest, COLLAPSED, "the paper's networks end below that on labels that mean something",
                               n=len(found))
    if not found:
        return finding
    fitted = [markdown.percent(run.final["train_accuracy"]) for run in sorted(found, key=lambda r: r.config.loss)]
    return finding.but(detail=f"accuracy on the random labels: {markdown.listed(dict.fromkeys(fitted))} %")


def mixing_spreads(runs: list[Run]) -> Finding:
    """Compactness on the test set with Mixup and with CutMix against DA1 alone, each loss."""
    parts = [compared(of(runs, names.of(mixed), loss), of(runs, names.of("da1"), loss), final("test_compactness"), -1,
                      f"{names.of(mixed)}, {names.of(loss)}") for mixed in MIXED[1:] for loss in recipes.LOSSES]
    return verdicts.family(parts, stats.holm)


ROOM = Room(
    name=__name__, part="beyond", number=4, title="What reviewers asked",
    of_the_paper="questions of the reviewers", asks="does the comparison change when one setting is changed?",
    runs=configs, seeds={profile: (0,) for profile in recipes.PROFILES},
    figures=(differences,), tables=(measured,),
    claims=(
        Claim("variations.uniform_everywhere", "BCE's uniform accuracy is above CE's in every variation", "ours",
              "the variations in which it is higher, after Holm's adjustment", uniform_everywhere,
              compares=lambda config: told(config) != RANDOM),
        Claim("variations.etf_costs", "Under BCE, a classifier fixed to a simplex ETF costs accuracy", "ours",
              "accuracy with the fixed classifier minus that with a trained one", etf_costs,
              compares=against("fixed simplex ETF")),
        Claim("variations.bias_needed", "Under BCE, a classifier without a bias has a lower uniform accuracy", "ours",
              "uniform accuracy without a bias minus that with one", bias_needed, compares=against("no bias")),
        Claim("variations.normalised",
              "Under CE, cosine scores lose less accuracy if one threshold serves all samples", "ours",
              "the accuracy lost with cosine scores minus that lost without", normalised,
              compares=against("cosine scores")),
        Claim("variations.random_collapse", "Both losses collapse on random labels too", "ours",
              "the largest NC1 of the training set", random_collapse,
              compares=lambda config: config.random_labels, end=True),
        Claim("variations.mixing_spreads", "Mixup and CutMix each make the features of the test set less compact",
              "ours", "the settings in which compactness is lower than with DA1 alone, after Holm's adjustment",
              mixing_spreads, compares=lambda config: config.decay == "global"),
    ),
)
