"""The chapter on how the bias travels: where is BCE's bias while training goes on, and how long is its start seen?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import experiments, recipes, relu_features
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.config import PLAIN_RATE
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
frames, plots, flows = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.report.flows")
bias_paths, predictions = lazy("bcebook.report.bias_paths"), lazy("bcebook.report.predictions")
theory = lazy("bcebook.science.theory")

SWEEP = {False: "starts", True: "decays"}
FLOWS = {"flow": "flow of the bias", "both": "of bias and classifier"}
ACROSS = 3  # panels in a row
LEVELS = (0.5, 0.1, 0.02)  # of NC1, from which on the flow is asked
FEATURES = {"free": "free in sign", "nonnegative": "nonnegative"}
ODDS = 3.0  # difference of log-likelihoods from which on two kinds of features are told apart: odds of twenty to one
UNEXPLAINED = 0.25  # of the way that biases go
RATIO, APART = 0.01, 0.03


def configs(profile: str, seed: int) -> list[RunConfig]:
    """BCE of the chapter on the bias, its starts and its decays, and of the networks that differ in their last
    ReLU, these with all their seeds: no run of ours that the flow speaks of is left out."""
    every = experiments.initial_bias(profile, seed)
    every += [config for each in recipes.THREE_SEEDS for config in relu_features.configs(profile, each)]
    return [config for config in dict.fromkeys(every) if config.loss == "bce"]


# ---- figures

def published_paths() -> Figure:
    """The flow's bias after each effective time, a line for each start, and the published median biases of BCE with SGD
    at the time that fits their network best."""
    fits, figure = flows.fits(), None
    kinds = [kind for kind in FEATURES if (fits["features"] == kind).any()]
    figure, axes = plt.subplots(1, len(kinds), figsize=(8.6, 4.2), sharey=True, squeeze=False)
    times = np.geomspace(10, 3e4, 200)
    for ax, kind in zip(axes[0], kinds, strict=True):
        for start in recipes.PAPER_MEANS:
            path = theory.bias_flow(10, predictions.paper_c(10), float(start), times, features=kind)
            ax.plot(times, path.bias, color=plots.COLOUR["bce"], linewidth=0.9)
        for row in fits[(fits["features"] == kind) & (fits["dataset"] != "cifar100")].itertuples():
            panel = flows.published(predictions.START_SWEEP)
            panel = panel[(panel["model"] == row.model) & (panel["dataset"] == row.dataset)]
            biases = panel[panel["quantity"] == "bias"]["median"]
            ax.scatter(np.full(len(biases), row.time), biases, marker=plots.MARKER[row.model], s=30, facecolor="none",
                       edgecolor="black", linewidth=0.9, zorder=3)
        ax.set(xscale="log", xlabel="effective time", title=f"features {FEATURES[kind]}, ten classes")
    axes[0, 0].set_ylabel("BCE's bias")
    figure.legend(handles=plots.paper_handles(plots.MARKER), loc="outside lower center", ncols=3)
    return figure


def own_paths(runs: list[Run]) -> Figure:
    """The mean biases of our runs over the epochs (dots), and from the epoch on at which each is collapsed the flow of
    the bias (lines) and of bias and classifier (dashed): a panel for each optimizer, network and sweep."""
    panels: dict[tuple, list] = {}
    for run, table in bias_paths.paths(runs):
        panels.setdefault((run.config.optimizer, frames.network(run), run.config.lambda_b > 0), []).append((run, table))
    if not panels:
        return plots.nothing("no run has come so far that the flow speaks of it")
    rows = -(-len(panels) // ACROSS)
    figure, axes = plt.subplots(rows, ACROSS, figsize=(8.6, 0.4 + 2.7 * rows), squeeze=False)
    for ax in axes.flat[len(panels):]:
        ax.set_visible(False)
    for ax, ((optimizer, network, decays), group) in zip(axes.flat, panels.items(), strict=False):
        for run, table in group:
            ax.plot(run.history["epoch"], run.history["bias_mean"], ".", color=plots.GREY, markersize=2.5)
            ax.plot(table["epoch"], table["flow"], color=plots.COLOUR["bce"], linewidth=1.2)
            ax.plot(table["epoch"], table["both"], "--", color="black", linewidth=0.9)
        ax.set(xlabel="epoch", title=f"{names.network(*network)}\n{names.of(optimizer)}, {SWEEP[decays]}")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean bias")
    return figure


# ---- tables

def times(optimizer: str = "sgd") -> tables.Table:
    """Each published network's effective time with an optimizer, and how near the flow comes with it."""
    table = flows.fits(optimizer)
    rows = [_named(row) | {"time": _time(row.time, row.low, row.high), "rms": row.rms, "other": row.rms_other,
                           "rested": f"{row.rested} of {row.every}", "flowed": f"{row.flowed} of {row.every}"}
            for row in table.itertuples()]
    columns = {"network": tables.Column("network, features"), "time": tables.Column("effective time [95 %]"),
               "rms": tables.fixed("rms"), "other": tables.fixed("with the other features"),
               "rested": tables.Column("agree with the minimum"), "flowed": tables.Column("with the flow")}
    return tables.Table(pd.DataFrame(rows), columns, (
        f"Medians of BCE with {names.of(optimizer)} over the starts: root mean square distance from the flow at the "
        "time that fits best, and with the other kind of features. A dash in an interval: this panel does not bound "
        "the time. *Agree*: "
        f"medians of both sweeps no further off than {predictions.SLACK:g} beyond the reading error; together "
        f"{table['rested'].sum()} of {table['every'].sum()} with the minimum, {table['flowed'].sum()} with the flow.",))


def unfitted(optimizer: str = "sgd") -> tables.Table:
    """What is left where nothing is fitted: root mean square distances, a row for each published network."""
    rows = [_named(row) | {name: getattr(row, name) for name in ("rms_still", "rms_rest", "schedule", "predicted",
                                                                 "predicted_rest", "reading")}
            for row in flows.fits(optimizer).itertuples()]
    heads = {"rms_still": "no move", "rms_rest": "the minimum", "schedule": "the authors' schedule",
             "predicted": r"sweep of $\lambda_b$, same time", "predicted_rest": "the same, the minimum",
             "reading": "reading error"}
    if optimizer != "sgd":
        del heads["schedule"]
    columns = {"network": tables.Column("network, features")}
    columns |= {name: tables.fixed(head, 3) for name, head in heads.items()}
    note = ("Root mean square distances of the medians over the starts from biases that stay, and from the minimum; "
            "and of those over $\\lambda_b$ from the flow at the time that the starts gave, and from the minimum.")
    if optimizer == "sgd":
        schedule, kept = (predictions.effective_time(name) for name in ("authors-step", "constant"))
        note += (f" *The authors' schedule*: the starts at the time of their step schedule, {schedule:,.0f}; a rate "
                 f"that is never lowered has {kept:,.0f}.")
    return tables.Table(pd.DataFrame(rows), columns, (note,))


def _named(row) -> dict:
    return {"network": f"{row.model}, {names.dataset(row.dataset)}: {FEATURES[row.features]}"}


def _time(time: float, low: float, high: float) -> str:
    lowest, highest = flows.TIMES
    ends = (markdown.DASH if low <= lowest else f"{low:,.0f}", markdown.DASH if high >= highest else f"{high:,.0f}")
    return f"{time:,.0f} [{ends[0]}, {ends[1]}]"


def moved(runs: list[Run]) -> tables.Table:
    """How far each bias of ours moves from the epoch on at which its network is collapsed, and what the flow says."""
    table = bias_paths.moves(runs)
    rows = table.assign(setting=[names.network(*network) for network in table["network"]])
    columns = {"setting": tables.Column("network"), "optimizer": tables.Column("optimizer", names.of),
               "start": tables.Column("start", "{:g}".format),
               "lambda_b": tables.powers(r"$\lambda_b$"), "epoch": tables.Column("from epoch", "{:.0f}".format),
               "epochs": tables.Column("of"), "moved": tables.fixed("moved", sign=True),
               "flow": tables.fixed(FLOWS["flow"], sign=True), "both": tables.fixed(FLOWS["both"], sign=True),
               "off": tables.fixed("largest distance")}
    return tables.Table(rows, columns, (
        f"*From epoch*: the first at which NC1 of the training set is at most {bias_paths.COLLAPSED:g}. *Largest "
        "distance*: between the recorded bias and its own flow at any epoch since then.",))


def domain(runs: list[Run]) -> tables.Table:
    """How much of the way either flow gets wrong, by how far a network is collapsed when it begins: two rows for each
    network, optimizer and sweep."""
    keys = [*bias_paths.SWEEP, "of"]
    found = pd.concat([bias_paths.wrong(runs, level).assign(level=level) for level in LEVELS])
    found = found.melt([*bias_paths.SWEEP, "runs", "level"], list(FLOWS), "of", "wrong").dropna(subset=["wrong"])
    found["told"] = [f"{markdown.percent(row.wrong)} % of {row.runs:.0f} runs" for row in found.itertuples()]
    found = found.pivot(index=keys, columns="level", values="told").reindex(columns=LEVELS, fill_value=markdown.DASH)
    found = found.fillna(markdown.DASH).reset_index().sort_values(keys, ascending=[True, False, True, False])
    found["network"] = [names.network(*network) for network in found["network"]]
    columns = {"network": tables.Column("network"), "optimizer": tables.Column("optimizer", names.of),
               "decays": tables.Column("sweep", SWEEP.get), "of": tables.Column("by", FLOWS.get)}
    columns |= {level: tables.Column(f"from NC1 ≤ {level:g}") for level in LEVELS}
    return tables.Table(found, columns, (
        "The part of the way that a flow gets wrong, summed over a sweep's runs, from the first epoch on at which "
        "NC1 of the training set is so small; a dash where no run has come so far, or they "
        f"move less than {bias_paths.LEAST_WAY:g} from there.",))


def forgetting() -> tables.Table:
    """For somebody who chooses an initial bias: where it comes to rest, and how long that takes."""
    rows = []
    for kind, words in FEATURES.items():
        for k in (10, 100, 1000):
            c = predictions.paper_c(k)
            rest, scale = theory.forgetting_time(k, c, 0.0, kind)
            row = {"features": words, "classes": k, "c": c, "rest": rest, "least": rest / c, "scale": scale}
            row |= {f"epochs_{rate:g}": rest / c / _per_epoch(rate) for rate in (0.01, 0.1)}
            rows.append(row | {"adamw": rest / _adamw_step(k, c, rest, kind) / predictions.cifar_steps()})
    columns = {"features": tables.Column("features"), "classes": tables.Column("classes"), "c": tables.powers("c"),
               "rest": tables.fixed("rest"), "least": tables.Column("least time from 0", "{:,.0f}".format),
               "scale": tables.Column("time scale at rest", "{:,.0f}".format),
               "epochs_0.01": tables.fixed("epochs at rate 0.01", 0), "epochs_0.1": tables.fixed("at 0.1", 0),
               "adamw": tables.fixed(f"AdamW, at {PLAIN_RATE['adamw']:g}", 0)}
    return tables.Table(pd.DataFrame(rows), columns, (
        r"At the paper's decays and batch size, $\lambda_b = 0$. *Least time from 0*: no faster by the speed limit; "
        "*epochs*: that time in epochs of CIFAR's length with momentum 0.9 and a rate that is never lowered; *AdamW*: "
        "no faster than the noise of its batches lets a collapsed network. *Time scale at rest*: in which the distance "
        "falls by a factor e near the end.",))


def _per_epoch(rate: float) -> float:
    """SGD's effective time in one epoch of CIFAR at a rate."""
    return predictions.cifar_steps() * rate / (1 - predictions.MOMENTUM)


def _adamw_step(k: int, c: float, rest: float, features: str) -> float:
    """The most that AdamW moves a bias in a step between 0 and its rest: the learning rate times g / sqrt(g^2 + s^2)
    for the largest steady gradient g = c and the least noise s on the way."""
    noise = min(theory.batch_noise(k, c, bias, recipes.BATCH_SIZE, features) for bias in np.linspace(0, rest, 25))
    return PLAIN_RATE["adamw"] * c / float(np.hypot(c, noise))


# ---- what is proved, and what the numbers say

def speed_limit(draws: int = 300) -> Finding:
    """The largest speed over c, at drawn numbers of classes, c and biases."""
    random, over = np.random.default_rng(0), []
    for _ in range(draws):
        k, bias = int(random.integers(2, 40)), random.uniform(-6, 14)
        c = 10 ** random.uniform(-4.5, np.log10(0.9 / k))
        over += [abs(theory.speed(k, c, bias, 0.0, kind)) / c - 1 for kind in FEATURES]
    return verdicts.check(max(over, default=float("nan")), 1e-9, "equations of double precision", n=len(over))


@functools.cache
def limit_of_slow_biases() -> Finding:
    """A trained model's distance from the flow where the bias is a hundred times slower than the rest."""
    slow, quick = flows.slow_model(RATIO), flows.slow_model(1.0)
    finding = verdicts.at_most(slow, APART, "smaller than any published median could be read", n=1, of="models")
    return finding.but(detail=f"with equal rates the distance is {markdown.significant(quick, 2)}")


def one_time() -> Finding:
    """Does one effective time a network say where the scores and biases of all its starts are? Against biases that have
    not moved, with the scores that rest beside them."""
    parts = []
    for row in flows.fits().itertuples():
        parts.append(verdicts.at_most(row.rms / row.rms_still, UNEXPLAINED, "a quarter of what is left by biases that "
                                      "have not moved", n=row.medians, of="medians",
                                      label=f"{row.model}, {names.dataset(row.dataset)}"))
    return verdicts.family(parts, None, of="networks")


def _likelier(other: float, ours: float, n: int, label: str) -> Finding:
    """Are n medians likelier where they are off by `ours` than where by `other` (root mean squares)?"""
    odds = n * float(np.log(other / ours))
    part = verdicts.at_least(odds, ODDS, "odds of twenty to one; the other way below minus that, else undecided", n=n,
                             of="medians", label=label)
    return part if abs(odds) >= ODDS else part.but(verdict=verdicts.UNDECIDED)


def told_by_features() -> Finding:
    """Do the medians fit the flow of the network's own features better? By the difference of log-likelihoods."""
    parts = [_likelier(row.rms_other, row.rms, row.medians, f"{row.model}, {names.dataset(row.dataset)}")
             for row in flows.fits().itertuples()]
    return verdicts.family(parts, None, of="networks")


def predicts_decays() -> Finding:
    """Does the one time that a network's starts gave say where its biases and scores are under each decay, better than
    the minimum does? Nothing is fitted to that sweep; by the difference of log-likelihoods."""
    parts = [_likelier(row.predicted_rest, row.predicted, row.decay_medians,
                       f"{row.model}, {names.dataset(row.dataset)}, {names.of(optimizer)}")
             for optimizer in recipes.OPTIMIZERS
             for row in flows.fits(optimizer).dropna(subset=["predicted"]).itertuples()]
    return verdicts.family(parts, None, of="networks")


def ways(runs: list[Run], optimizer: str, by: str) -> Finding:
    """From the epoch of collapse on: the part of the way that one of FLOWS gets wrong, summed over a sweep's runs."""
    networks, parts = frames.networks(runs), []
    for row in bias_paths.wrong(frames.select(runs, optimizer=optimizer)).dropna(subset=[by]).itertuples():
        label = f"{frames.of(row.network, networks, ', ')}sweep of {SWEEP[row.decays]}"
        parts.append(verdicts.at_most(getattr(row, by), UNEXPLAINED, "a quarter of the way; a bias that stayed would "
                                      "be wrong by all of it", n=row.runs, label=label))
    return verdicts.family(parts, None, of="sweeps")


def own_runs(runs: list[Run]) -> Finding:
    return ways(runs, "sgd", "flow")


def own_classifier(runs: list[Run]) -> Finding:
    return ways(runs, "sgd", "both")


def own_clock(runs: list[Run]) -> Finding:
    return ways(runs, "adamw", "flow")


ROOM = Room(
    name=__name__, part="theory", number=6, title="How the bias travels",
    of_the_paper="bias and score figures, on the way to the minimum", asks="where is the bias during training?",
    runs=configs, seeds={"paper": (0,)}, figures=(own_paths,), tables=(moved, domain),
    claims=(
        Claim("bias_travels.speed_limit", r"Without decay of the bias, no bias travels faster than $c$", "ours",
              r"the largest speed over $c$, minus one", speed_limit, theory=True),
        Claim("bias_travels.limit_of_slow_biases",
              "A model whose bias is slow follows the flow along its whole path", "ours",
              "the largest distance where the bias is a hundred times slower than the rest", limit_of_slow_biases,
              theory=True),
        Claim("bias_travels.one_time",
              "One effective time for each network explains the published medians over all starts", "ours",
              "the networks to whose medians the flow is four times as near as biases that have not moved", one_time,
              theory=True),
        Claim("bias_travels.told_by_features",
              "The published medians distinguish nonnegative features from free ones", "ours",
              "the difference of log-likelihoods of the network's own features and the others", told_by_features,
              theory=True),
        Claim("bias_travels.predicts_decays",
              r"The effective time fitted to a network's starts predicts its sweep of $\lambda_b$ better than the "
              r"minimum does, with AdamW as with SGD", "ours",
              "the difference of log-likelihoods of the flow at that time and the "
              "minimum", predicts_decays, theory=True),
        Claim("bias_travels.own_runs",
              "From collapse on, the flow predicts how far a bias still moves, without fitted parameters", "ours",
              "the error of the predicted distance as a share of the distance, summed over a sweep", own_runs),
        Claim("bias_travels.own_classifier",
              "The flow of bias and classifier predicts how far a bias still moves, from the scores at collapse and "
              "the angle of the class means",
              "ours", "the error of the predicted distance as a share of the distance, summed over a sweep",
              own_classifier),
        Claim("bias_travels.own_clock",
              "With AdamW the same flow predicts it, in the effective time given by AdamW's second moments", "ours",
              "the error of the predicted distance as a share of the distance, summed over a sweep", own_clock),
    ),
)
