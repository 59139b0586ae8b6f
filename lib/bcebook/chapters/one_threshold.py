"""The chapter on what uniform accuracy measures: what of CE's loss to one threshold is length, direction, or scale?"""

from __future__ import annotations

from collections.abc import Callable
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
    import pandas
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, seeds = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.report.seeds")
stats = lazy("bcebook.science.stats")

# From the paper's measure to plain accuracy; figure of a run's final figures, without its split -> how it is written.
LADDER = {"uniform_accuracy": "logits", "uniform_accuracy_no_bias": "no bias", "uniform_accuracy_unit": "unit length",
          "uniform_accuracy_log_softmax": "log-softmax", "accuracy": "accuracy"}
CENTRED = "uniform_accuracy_centred"
# What the loss to one threshold is made of (`uniform.uniform_gap`): part -> how it is written.
PARTS = {"biases": "biases", "rows": "rows", "lengths": "lengths", "directions": "directions"}
MARGINS = (0.05, 0.5, 0.95)  # quantiles of `measure.MARGIN_LEVELS`
SMALL = 0.005  # of the images: half a point
POINT = 0.01


def measured(runs: list[Run]) -> list[Run]:
    """The runs whose engine measured every scale."""
    return [run for run in runs if f"test_{CENTRED}" in run.final]


def taken_apart(runs: list[Run]) -> list[Run]:
    """The runs whose engine took the loss to one threshold apart."""
    return [run for run in runs if "test_gap_lengths" in run.final]


def groups(runs: list[Run]) -> dict[tuple, dict[str, dict[int, Run]]]:
    """Setting (dataset, model, augmentation, optimizer) -> loss -> seed -> run."""
    return seeds.by_loss(measured(runs), lambda run: tuple(getattr(run.config, name) for name in frames.GROUP))


def each_group(runs: list[Run], number: Callable[[Run], dict[str, float]]) -> pandas.DataFrame:
    """A row for each setting and loss: setting, loss, seeds, and the means over the seeds of the numbers of a run."""
    rows, many = [], several(runs)
    for setting, losses in groups(taken_apart(runs)).items():
        for loss, chosen in losses.items():
            if chosen:
                found = [number(run) for run in chosen.values()]
                rows.append({"setting": label(setting, many), "loss": loss, "seeds": len(chosen)}
                            | {name: float(np.mean([each[name] for each in found])) for name in found[0]})
    return pd.DataFrame(rows)


def label(setting: tuple, several: bool) -> str:
    dataset, model, augmentation, optimizer = setting
    return frames.label(optimizer, augmentation, model, dataset, several)


def several(runs: list[Run]) -> bool:
    return len(frames.networks(measured(runs))) > 1


# ---- figure and tables

def ladder(runs: list[Run]) -> Figure:
    """Uniform accuracy of the test set on each scale, and accuracy: a panel for each setting, a line for each loss, the
    seeds as dots."""
    found = groups(runs)
    columns = min(max(len(found), 1), 4)
    rows = -(-max(len(found), 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.6, 0.7 + 2.7 * rows), sharey=True, squeeze=False)
    for ax in axes.flat[len(found):]:
        ax.axis("off")
    at = np.arange(len(LADDER))
    for ax, (setting, losses) in zip(axes.flat, found.items(), strict=False):
        for loss, chosen in losses.items():
            values = [[100 * run.final[f"test_{name}"] for name in LADDER] for run in chosen.values()]
            for each in values:
                ax.plot(at, each, ".", color=plots.COLOUR[loss], alpha=0.5, markersize=4)
            if values:
                ax.plot(at, np.mean(values, axis=0), color=plots.COLOUR[loss], label=names.of(loss))
        ax.set_xticks(at, LADDER.values(), rotation=60, ha="right", fontsize="small")
        ax.set_title(label(setting, several(runs)).replace(": ", "\n"), fontsize="small")
    for row in axes:
        row[0].set_ylabel("test set, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def scales(runs: list[Run]) -> tables.Table:
    """Uniform accuracy on each scale and accuracy, on the test set: a row for each setting and loss."""
    rows = []
    for setting, losses in groups(runs).items():
        for loss, chosen in losses.items():
            if chosen:
                row = {"setting": label(setting, several(runs)), "loss": loss, "seeds": len(chosen)}
                for name in [*LADDER, CENTRED]:
                    row[name] = stats.student_interval([run.final[f"test_{name}"] for run in chosen.values()])
                rows.append(row)
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of)}
    columns |= {name: tables.means(LADDER.get(name, "centred")) for name in ["uniform_accuracy", CENTRED]}
    columns |= {name: tables.means(title) for name, title in LADDER.items() if name not in columns}
    columns["seeds"] = tables.Column("seeds")
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "Percent of the test set that one threshold for all samples serves: on the logits (the paper's measure); on "
        "logits less each sample's mean; on scores without the bias; on scores of features of length one; on "
        "log-probabilities. Then plain accuracy, which no threshold limits. Mean ± standard deviation over seeds.",))


def parts(run: Run, split: str = "test") -> dict[str, float]:
    """Of one run: what one threshold loses of a split's accuracy, and its four parts."""
    found = {name: run.final[f"{split}_gap_{name}"] for name in PARTS}
    return {"total": sum(found.values())} | found


def journey(run: Run) -> dict[str, float]:
    """Of one run: what is lost between the uniform accuracy of the training set and the share of the test set that the
    training set's threshold serves, and its six parts: errors (of accuracy), what each part loses more on the test
    set, and the way of the threshold. They add up."""
    train, test = parts(run, "train"), parts(run)
    value = lambda name: run.final[name]  # noqa: E731
    found = {"errors": value("train_accuracy") - value("test_accuracy")}
    found |= {name: test[name] - train[name] for name in PARTS}
    found["transfer"] = value("test_uniform_accuracy") - value("test_served_by_train_threshold")
    return {"total": sum(found.values())} | found


def shares(runs: list[Run]) -> tables.Table:
    """What of the distance from uniform accuracy to accuracy is biases, rows, lengths and directions: points of the
    test set, a row for each setting and loss."""
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of),
               "total": tables.percents("lost"),
               **{name: tables.percents(head, sign=True) for name, head in PARTS.items()},
               "seeds": tables.Column("seeds")}
    return tables.Table(each_group(runs, parts), columns, (
        "Percentage points of the test set, means over the seeds. *Lost*: accuracy minus uniform accuracy, the sum of "
        "the next four. *Biases*, *rows*, *lengths*: what is won back by making the classes' biases, the rows' lengths "
        "and the features' lengths equal, on average over every order of doing so. *Directions*: what is lost with all "
        "three equal.",))


def way(runs: list[Run]) -> tables.Table:
    """What is lost between training and test set, a row for each setting and loss."""
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of),
               "total": tables.percents("lost"), "errors": tables.percents("errors", sign=True),
               **{name: tables.percents(head, sign=True) for name, head in PARTS.items()},
               "transfer": tables.percents("threshold's way", 2)}
    return tables.Table(each_group(runs, journey), columns, (
        "Percentage points, means over the seeds: uniform accuracy of the training set minus the share of the test set "
        "that the same threshold serves, the sum of the others. *Errors*: accuracy. *Biases* to *directions*: what "
        "each part of the loss to one threshold grows by. *Threshold's way*: what the test set's own best threshold "
        "would win.",))


def margins(runs: list[Run]) -> tables.Table:
    """Margins of training and test images at a few quantiles, a row for each setting and loss."""
    names_of = {f"{split}_margin_{level:g}": f"{split}, {level:.0%}" for split in ("train", "test")
                for level in MARGINS}
    columns = {"setting": tables.Column("setting"), "loss": tables.Column("loss", names.of)}
    columns |= {name: tables.fixed(head) for name, head in names_of.items()}
    return tables.Table(each_group(runs, lambda run: {name: run.final[name] for name in names_of}), columns, (
        "Margins: a sample's own logit less the largest of its others, above zero where it is classified rightly; the "
        "value below which so many per cent of the images lie, means over the seeds.",))


# ---- what the runs say

def paired(runs: list[Run], figure, direction: int) -> list[Finding]:
    """BCE against CE in a number of a run, seed by seed, a finding for each setting."""
    found = [seeds.tested(seeds.gaps(losses["bce"], losses["ce"], figure), direction, "points",
                          label(setting, several(runs))) for setting, losses in groups(runs).items()]
    return [finding for finding in found if finding.n]


def gap_on(runs: list[Run], name: str) -> Finding:
    """Is BCE above CE on a scale, in every setting? Beside it, the same on the logits."""
    on_scale, on_logits = (verdicts.family(paired(runs, lambda run, of=of: run.final[f"test_{of}"], 1), stats.holm)
                           for of in (name, "uniform_accuracy"))
    return on_scale.but(control=on_logits.but(label="the same test on the logits", parts=()))


def on_unit(runs: list[Run]) -> Finding:
    return gap_on(runs, "uniform_accuracy_unit")


def on_probabilities(runs: list[Run]) -> Finding:
    """As `gap_on`; how small the gap is, is told as a detail. No margin was fixed before these seeds, so that it gives
    no verdict of equivalence."""
    name = "uniform_accuracy_log_softmax"
    told = []
    for setting, losses in groups(runs).items():
        each = seeds.gaps(losses["bce"], losses["ce"], lambda run: run.final[f"test_{name}"])
        if len(each) > 1:
            told.append(f"p = {stats.equivalence_p(each, POINT):.2g} for {label(setting, several(runs))}")
    finding = gap_on(runs, name)
    return finding.but(detail=f"{finding.detail}; exploratory: two one-sided tests place the difference within one "
                              f"point with {markdown.listed(told)}") if told else finding


def mostly(runs: list[Run], number: Callable[[Run], dict[str, float]], part: str, loss: str) -> Finding:
    """Is one part more than half of a total? The part minus half of the total, over the seeds of each setting."""
    found = []
    for setting, losses in groups(taken_apart(runs)).items():
        each = [numbers[part] - numbers["total"] / 2 for numbers in map(number, losses[loss].values())]
        if each:
            found.append(seeds.tested(each, unit="points", label=label(setting, several(runs))))
    return verdicts.family(found, stats.holm)


def mostly_length(runs: list[Run]) -> Finding:
    return mostly(runs, parts, "lengths", "ce").but(
        control=mostly(runs, parts, "lengths", "bce").but(label="the same test on BCE", parts=()))


def mostly_errors(runs: list[Run]) -> Finding:
    return mostly(runs, journey, "errors", "ce").but(
        control=mostly(runs, journey, "errors", "bce").but(label="the same test on BCE", parts=()))


def largest(runs: list[Run], number, losses: tuple[str, ...] = recipes.LOSSES) -> tuple[float, int]:
    """Of the means over the seeds of a number of a run, the one farthest from zero over settings and losses; and how
    many settings there are."""
    means = [float(np.mean([number(run) for run in by_loss[loss].values()]))
             for by_loss in groups(runs).values() for loss in losses if by_loss[loss]]
    return max(map(abs, means), default=float("nan")), len(means)


def no_shift(runs: list[Run]) -> Finding:
    """What centring each sample's logits changes under CE."""
    def change(run: Run) -> float:
        return run.final[f"test_{CENTRED}"] - run.final["test_uniform_accuracy"]

    found = {}
    for loss in recipes.LOSSES:
        value, n = largest(runs, change, (loss,))
        found[loss] = verdicts.at_most(value, SMALL, "half a point", n=n, of="settings")
    return found["ce"].but(control=found["bce"].but(label="the same test on BCE"))


def transfers(runs: list[Run]) -> Finding:
    """What the training set's threshold loses beyond the test set's own."""
    def lost(run: Run) -> float:
        return run.final["test_uniform_accuracy"] - run.final["test_served_by_train_threshold"]

    value, n = largest(runs, lost)
    return verdicts.at_most(value, SMALL, "half a point", n=n, of="settings and losses")


ROOM = Room(
    name=__name__, part="beyond", number=5, short="Uniform accuracy", title="What uniform accuracy measures",
    of_the_paper="open question: uniform accuracy", asks="what does CE lose to one threshold, and why?",
    runs=recipes.studied, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(ladder,), tables=(scales, shares, way, margins),
    claims=(
        Claim("one_threshold.on_unit", "With features of length one, BCE still reaches a higher uniform accuracy "
              "than CE",
              "ours", "the settings in which it is higher on scores of unit features, after Holm's adjustment",
              on_unit),
        Claim("one_threshold.on_probabilities",
              "Measured on log-probabilities, BCE still reaches a higher uniform accuracy than CE", "ours",
              "the settings in which it is higher on log-softmax, after Holm's adjustment", on_probabilities,
              front=4, effect="uniform accuracy on log-probabilities, BCE − CE"),
        Claim("one_threshold.mostly_length",
              "Most of the accuracy that CE loses to one threshold is due to the lengths of the features", "ours",
              "the loss due to the lengths minus half of the whole loss, in each setting, after Holm's adjustment",
              mostly_length),
        Claim("one_threshold.mostly_errors",
              "Most of the drop of CE's uniform accuracy from training to test set is a drop of its accuracy", "ours",
              "the drop of accuracy minus half of the drop of uniform accuracy, in each setting, after Holm's "
              "adjustment", mostly_errors),
        Claim("one_threshold.no_shift", "Centring the logits of each sample leaves CE's uniform accuracy unchanged",
              "ours",
              "the largest mean change of uniform accuracy by centring", no_shift),
        Claim("one_threshold.transfers",
              "On the test set, the training set's best threshold is as good as the test set's own", "ours",
              "the largest mean loss of uniform accuracy from using the training set's threshold", transfers),
    ),
)
