"""The chapter on neural collapse: do both losses lead to it, and does BCE get there faster and further?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bcebook import names, paper
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.specs import DENSE_EPOCHS
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots = lazy("bcebook.report.frames"), lazy("bcebook.report.plots")
seeds, stats = lazy("bcebook.report.seeds"), lazy("bcebook.science.stats")

# NC2 as the paper's poster defines it, of the centred class means; as the authors' line of work does, of the
# classifier's rows, it is "nc2".
PAPERS = ("nc1", "nc2_means", "nc3")
MEASURES = ("nc1", "nc2", "nc2_means", "nc3")
LEVELS = (1.0, 0.1, 0.01)  # whole decades, the same for every measure, so that no curve has chosen its own
COLLAPSED = 0.1  # the middle one of the levels
POSTER = ("resnet18", "cifar10")


# --- figures ------------------------------------------------------------

def whole_training(runs: list[Run]) -> Figure:
    """NC1, both NC2 and NC3 of the training set over all epochs, a row of panels for each network; every seed."""
    return panels(runs)


def first_epochs(runs: list[Run]) -> Figure:
    """The same, enlarged: the first epochs, every one of which is measured, and the levels whose passing is timed."""
    return panels(runs, DENSE_EPOCHS, LEVELS)


def panels(runs: list[Run], until: float = math.inf, levels: tuple[float, ...] = ()) -> Figure:
    networks = frames.networks(runs)
    size = (8.6, 0.7 + 2.4 * len(networks))
    figure, axes = plt.subplots(len(networks), len(MEASURES), figsize=size, sharey="col", squeeze=False)
    for row, network in zip(axes, networks, strict=True):
        for ax, name in zip(row, MEASURES, strict=True):
            plots.collapse_curves(ax, frames.select(runs, network=network), name, until, levels)
        row[0].set_ylabel(frames.of(network, networks, ""))
    for ax, name in zip(axes[0], MEASURES, strict=True):
        ax.set_title(names.MEASURE[name])
    plots.collapse_legend(figure, several=len({run.config.seed for run in runs}) > 1)
    return figure


# --- tables -------------------------------------------------------------

def settings(runs: list[Run]) -> dict[RunConfig, list[Run]]:
    """Setting -> its runs of all seeds and both losses. A setting is all of a configuration but loss and seed."""
    found: dict[RunConfig, list[Run]] = {}
    for run in runs:
        found.setdefault(dataclasses.replace(run.config, loss="ce", seed=0), []).append(run)
    return found


def label(setting: RunConfig, networks: list) -> str:
    return frames.of((setting.model, setting.dataset), networks) + names.of(setting.optimizer)


def log_final(run: Run, name: str) -> float:
    """The decadic logarithm of a measure of the finished network, on the training set; nan where it is not known."""
    return log(run.final.get(f"train_{name}", math.nan))


def log(value: float) -> float:
    return math.log10(value) if value > 0 and math.isfinite(value) else math.nan


def mean_final(runs: list[Run], name: str) -> float:
    """The geometric mean of a measure over finished networks: the mean on the axis on which it is drawn."""
    logs = [x for run in runs if math.isfinite(x := log_final(run, name))]
    return 10 ** float(np.mean(logs)) if logs else math.nan


def ends(runs: list[Run]) -> tables.Table:
    """Collapse at the last epoch, a row for each setting and loss."""
    rows, networks = [], frames.networks(runs)
    for setting, group in settings(runs).items():
        for loss in names.LOSS:
            if chosen := frames.select(group, loss=loss):
                accuracy = float(np.mean([run.final["train_accuracy"] for run in chosen]))
                rows.append({"setting": label(setting, networks), "loss": names.of(loss), "seeds": len(chosen),
                             "accuracy": accuracy} | {name: mean_final(chosen, name) for name in MEASURES})
    columns = {"setting": tables.Column(""), "loss": tables.Column("loss"), "seeds": tables.Column("seeds"),
               "accuracy": tables.percents("$A$ (train), %", 2)}
    columns |= {name: tables.significant(names.MEASURE[name]) for name in MEASURES}
    return tables.Table(pd.DataFrame(rows), columns, (
        "Of the training set in evaluation mode, after the last epoch. Several seeds: the mean accuracy, and the "
        "geometric mean of each measure, as on a logarithmic axis.",))


def passing(runs: list[Run]) -> tables.Table:
    """When the curves first fall below each level: the median epoch over seeds, a row for each setting and measure."""
    rows, networks, never, every = [], frames.networks(runs), 0, 0
    for setting, group in settings(runs).items():
        for name in MEASURES:
            row = {"setting": label(setting, networks), "measure": names.MEASURE[name]}
            for level in LEVELS:
                for loss in names.LOSS:
                    epochs = [first_below(curve(run, name), level) for run in frames.select(group, loss=loss)]
                    epochs = [epoch for epoch in epochs if not math.isnan(epoch)]
                    row[f"{loss}_{level:g}"] = float(np.median(epochs)) if epochs else math.nan
                    never, every = never + epochs.count(math.inf), every + len(epochs)
            rows.append(row)
    columns = {"setting": tables.Column(""), "measure": tables.Column("measure")}
    columns |= {f"{loss}_{level:g}": tables.Column(f"{names.of(loss)}, below {level:g}", epoch_text)
                for level in LEVELS for loss in names.LOSS}
    return tables.Table(pd.DataFrame(rows), columns, (
        "The first measured epoch at which a curve is below the level; over several seeds the median. *Never*: not "
        "within the training. A dash: the network before training is below it already, or there is no run. "
        f"Of {every} curves and levels to pass, {never} are never passed.",))


def epoch_text(epoch: float) -> str:
    return "never" if math.isinf(epoch) else markdown.significant(epoch, 4)


def poster(runs: list[Run]) -> tables.Table:
    """Where the curves of the paper's poster end, beside ours: of the poster's own network and data set if they are
    among the runs, else of all networks."""
    networks, rows = frames.networks(runs), []
    networks = [POSTER] if POSTER in networks else networks
    for theirs in paper.poster().itertuples():
        row = {"measure": names.MEASURE[theirs.measure], "reading": theirs.reading, "poster": theirs.value,
               "setting": f"{names.of(theirs.loss)}, {names.of(theirs.optimizer)}"}
        for network in networks:
            ours = frames.select(runs, network=network, loss=theirs.loss, optimizer=theirs.optimizer)
            row[names.network(*network)] = mean_final(ours, theirs.measure)
        rows.append(row)
    columns = {"measure": tables.Column(""), "setting": tables.Column(""), "reading": tables.Column("read as"),
               "poster": tables.significant(f"paper, {names.network(*POSTER)}")}
    columns |= {name: tables.significant(f"ours, {name}") for name in (names.network(*each) for each in networks)}
    return tables.Table(pd.DataFrame(rows), columns, ("The paper's values are read off its poster by eye.",))


# --- claims -------------------------------------------------------------

def pairs(group: list[Run]) -> dict[int, tuple[Run, Run]]:
    """Seed -> (CE's run, BCE's run) of one setting, for the seeds that have both."""
    found: dict[int, dict[str, Run]] = {}
    for run in group:
        found.setdefault(run.config.seed, {})[run.config.loss] = run
    return {seed: (both["ce"], both["bce"]) for seed, both in sorted(found.items()) if len(both) == len(names.LOSS)}


def curve(run: Run, name: str) -> dict[int, float]:
    """Epoch -> a measure of the training set, at the epochs that were measured; epoch 0 is before training."""
    history = run.history
    values = zip(history["epoch"], history.get(name, []), strict=False)  # an earlier engine may lack a measure
    return {int(epoch): value for epoch, value in values if math.isfinite(value)}


def first_below(values: dict[int, float], level: float) -> float:
    """The first epoch of a curve with a value below the level: infinite if there is none, nan if the curve does not
    start above the level, so that it has nothing to pass."""
    if not values or values[min(values)] < level:
        return math.nan
    return float(min((epoch for epoch, value in values.items() if value < level), default=math.inf))


def in_common(ce: Run, bce: Run, name: str) -> tuple[dict[int, float], dict[int, float]]:
    """Both curves at the epochs that both runs measured, which are the same for runs of one engine."""
    first, second = curve(ce, name), curve(bce, name)
    epochs = sorted(first.keys() & second.keys())
    return {epoch: first[epoch] for epoch in epochs}, {epoch: second[epoch] for epoch in epochs}


def dense(epochs: list[int]) -> list[int]:
    """The epochs up to the first one that was left out: [0, 1, 2, 3, 6, 10] -> [0, 1, 2, 3]."""
    return [epoch for at, epoch in enumerate(epochs) if epoch == epochs[0] + at]


def difference_of_ends(ce: Run, bce: Run, name: str) -> float:
    return log_final(bce, name) - log_final(ce, name)


def difference_of_areas(ce: Run, bce: Run, name: str) -> float:
    """The area under BCE's logarithmic curve minus that under CE's, an epoch: over the dense epochs in common."""
    first, second = in_common(ce, bce, name)
    epochs = dense(list(first))
    if len(epochs) < 2:
        return math.nan
    gaps = [log(second[epoch]) - log(first[epoch]) for epoch in epochs]
    return float(np.trapezoid(gaps, epochs)) / (epochs[-1] - epochs[0])


def lower(runs: list[Run], name: str, difference: Callable[[Run, Run, str], float]) -> Finding:
    """Is the mean over seeds of a difference BCE - CE of one measure below zero, in every setting? A family of
    tests."""
    parts, networks = [], frames.networks(runs)
    for setting, group in settings(runs).items():
        gaps = [difference(ce, bce, name) for ce, bce in pairs(group).values()]
        gaps = [gap for gap in gaps if math.isfinite(gap)]  # a run that lacks the measure leaves its pair out
        parts.append(seeds.tested(gaps, -1, "difference", label(setting, networks)))
    finding = verdicts.family(parts, stats.holm)
    below = sum(part.value < 0 for part in parts)
    single = f"; a single one: {parts[0].rule}" if parts else ""
    return finding.but(rule=finding.rule + single,
                       detail=f"{finding.detail}; the mean is below zero in {below}" if finding.n else "")


def further(runs: list[Run], name: str) -> Finding:
    return lower(runs, name, difference_of_ends)


def smaller_area(runs: list[Run], name: str) -> Finding:
    finding = lower(runs, name, difference_of_areas)
    epochs = [dense(list(in_common(ce, bce, name)[0])) for group in settings(runs).values()
              for ce, bce in pairs(group).values()]
    last = markdown.listed(str(epoch) for epoch in sorted({each[-1] for each in epochs if len(each) > 1}))
    return finding.but(detail=f"{finding.detail}; the dense epochs end at {last}" if finding.n else "")


def earlier(runs: list[Run], name: str) -> Finding:
    """In how many settings does BCE's curve pass more of the levels first, on average over the seeds? A sign test over
    the settings: the seeds of one are no independent evidence."""
    leads = [[lead(ce, bce, name) for ce, bce in pairs(group).values()] for group in settings(runs).values()]
    ahead = [float(np.mean(each)) for each in leads if each]
    wins, losses = sum(x > 0 for x in ahead), sum(x < 0 for x in ahead)
    what = "BCE is the first below more of the levels, on average over the seeds,"
    finding = verdicts.most(wins, losses, stats.sign_test_p(wins, losses), what, of="settings")
    if ahead and not wins + losses:  # there are runs, and none leads
        finding = finding.but(verdict=verdicts.UNDECIDED, value=0.0, n=len(ahead), unit="share", p=1.0)
    even = len(ahead) - wins - losses
    told = f"{wins} of {wins + losses} settings; {even} in which neither loss leads left out"
    return finding.but(detail=told if ahead else "")


def lead(ce: Run, bce: Run, name: str) -> int:
    """At how many more of the levels BCE is the first to fall below than CE is; a level that neither reaches, or both
    at the same measured epoch, counts for none."""
    first, second = in_common(ce, bce, name)
    times = [(first_below(first, level), first_below(second, level)) for level in LEVELS]
    return sum((theirs < ours) - (ours < theirs) for ours, theirs in times)  # a comparison with nan is false


def both_collapse(runs: list[Run]) -> Finding:
    """In how many runs do NC1, NC2 of the means and NC3 end below a tenth?"""
    known = [run for run in runs if all(math.isfinite(log_final(run, name)) for name in PAPERS)]
    failed = [run for run in known if any(run.final[f"train_{name}"] >= COLLAPSED for name in PAPERS)]
    told = markdown.listed(names.MEASURE[name] for name in PAPERS)
    finding = verdicts.every(len(known) - len(failed), len(known), f"each of {told} ends below {COLLAPSED:g}")
    if not failed:
        return finding
    largest = (f"{names.MEASURE[name]} {markdown.significant(max(run.final[f'train_{name}'] for run in failed))}"
               for name in PAPERS)
    fitted = markdown.percent(min(run.final["train_accuracy"] for run in failed))
    return finding.but(detail=f"{finding.detail}; in the others the largest values are {markdown.listed(largest)}, and "
                              f"the lowest accuracy on the training set is {fitted} %")


FIGURE = "the paper's figure of neural collapse"
SETTINGS = r"the settings in which it is, by the mean over seeds of the difference BCE − CE of its $\log_{10}$"
ENDS = f"{SETTINGS} at the last epoch, after Holm's adjustment"
AREAS = f"{SETTINGS}, averaged over the dense epochs that both runs of a pair measured, after Holm's adjustment"
FIRST = ("the settings in which BCE is the first below more of the levels "
         f"{markdown.listed(f'{level:g}' for level in LEVELS)}, on average over the seeds; those in which neither loss "
         "leads are left out")
NAMED = {"nc1": ("nc1", "NC1"), "nc2_means": ("nc2", "NC2 of the means"), "nc3": ("nc3", "NC3"),
         "nc2": ("rows", "NC2 of the classifier's rows")}  # measure -> name in a claim's, and in its text


def _of_measure(name: str) -> tuple[Claim, ...]:
    """How far and how fast the networks get in one measure: a claim each, so that no measure hides another."""
    short, text = NAMED[name]
    front = {"front": 3, "effect": "log10 NC1, BCE − CE"} if name == "nc1" else {}
    return (
        Claim(f"neural_collapse.{short}_further", f"BCE ends closer to collapse than CE: final {text} is lower", FIGURE,
              ENDS, partial(further, name=name), end=True, **front),
        Claim(f"neural_collapse.{short}_smaller_area",
              f"BCE approaches collapse faster than CE: the area under the curve of {text} is smaller", FIGURE, AREAS,
              partial(smaller_area, name=name)),
        Claim(f"neural_collapse.{short}_earlier",
              f"BCE approaches collapse faster than CE: {text} falls below preset levels earlier", FIGURE, FIRST,
              partial(earlier, name=name)),
    )


ROOM = Room(
    name=__name__, part="figures", number=3, items=("collapse",),
    short="Neural collapse",
    title="Neural collapse over the epochs",
    of_the_paper="figure of NC1, NC2 and NC3 over the epochs", asks="which loss collapses faster, and which ends "
        "closer to collapse?",
    runs=recipes.collapse, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(whole_training, first_epochs), tables=(ends, passing, poster),
    claims=(
        Claim("neural_collapse.both_collapse", "Both losses lead to neural collapse", FIGURE,
              f"the share of runs in which NC1, NC2 of the means and NC3 end below {COLLAPSED:g}", both_collapse,
              end=True),
        *(claim for name in NAMED for claim in _of_measure(name)),
    ),
)
