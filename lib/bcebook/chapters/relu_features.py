"""The chapter on ReLU features: where is the minimum if no feature can be negative, and do networks head for it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.specs import NETWORKS
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.config import RunConfig
    from bcebook.runs.store import Run

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
colors, lines = lazy("matplotlib.colors"), lazy("matplotlib.lines")
frames, plots, seeds = lazy("bcebook.report.frames"), lazy("bcebook.report.plots"), lazy("bcebook.report.seeds")
orthogonal, predictions = lazy("bcebook.report.orthogonal"), lazy("bcebook.report.predictions")
stats, theory = lazy("bcebook.science.stats"), lazy("bcebook.science.theory")

# Of each profile: networks that differ in their last ReLU, or, among the paper's, in their features.
TWINS = {"quick": (("mlp", "digits"), ("mlp-relu", "digits")),
         "laptop": (("resnet9", "cifar10"), ("resnet9-signed", "cifar10")),
         "paper": (("resnet18", "cifar10"), ("vit", "cifar10"))}
STYLE = {"free": "--", "nonnegative": "-"}
EXACT, CLOSE, COLLAPSED = 1e-10, 1e-4, 1e-7
TOLD = 0.01  # apart: two predictions that are nearer cannot be told from each other


def configs(profile: str, seed: int) -> list[RunConfig]:
    """SGD, decoupled decay, no augmentation, biases from around zero. A ResNet9 run takes about 25 minutes a core."""
    return [config for network in TWINS[profile] for config in recipes.decoupled(profile, network, seed)
            if config.optimizer == "sgd"]


# ---- figures

def phases(num_classes: int = 10) -> Figure:
    """Which geometry the class features have at BCE's minimum, over the decay of the bias and c: free features beside
    nonnegative ones. Dashed: the paper's c."""
    lambda_b, c = np.geomspace(1e-5, 1, 160), np.geomspace(2e-4, 0.2, 160)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.0), sharey=True)
    shades = ["#FFFFFF", "#E3E3E3", "#C4C4C4", "#9E9E9E", "#6E6E6E"]
    labels = ["all scores alike", "simplex ETF around zero", "cosine below 0", "orthogonal", "cosine above 0"]
    simplex = -1 / (num_classes - 1)
    for ax, features in zip(axes, theory.FEATURES, strict=True):
        m = theory.minimum("bce", num_classes, c[:, None], lambda_b[None], features)
        cosine, alike = m.cosine, m.positive - m.negative < 1e-9
        which = np.select([alike, cosine < simplex + 1e-9, cosine < -1e-9, cosine < 1e-9], [0, 1, 2, 3], 4)
        ax.pcolormesh(lambda_b, c, which, cmap=colors.ListedColormap(shades), vmin=-0.5, vmax=4.5, shading="nearest",
                      rasterized=True)
        ax.axhline(predictions.paper_c(num_classes), color="black", linewidth=0.9, linestyle="--")
        ax.set(xscale="log", yscale="log", xlabel=r"$\lambda_b$", title=f"{features} features")
    axes[0].set_ylabel(r"$c = \sqrt{n \lambda_W \lambda_H}$")
    marks = [lines.Line2D([], [], linestyle="", marker="s", markersize=9, markerfacecolor=shade, label=label,
                          markeredgecolor="black", markeredgewidth=0.6)
             for shade, label in zip(shades, labels, strict=True)]
    marks.append(lines.Line2D([], [], color="black", linewidth=0.9, linestyle="--", label="the paper's $c$"))
    figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


def along_epochs(runs: list[Run]) -> Figure:
    """The mean cosine of two class means around zero over the epochs: a panel for each network, a line for each run;
    black lines: at CE's minimum, and at BCE's without decay of the bias, of free and of nonnegative features."""
    runs = orthogonal.measured(runs)
    networks = frames.networks(runs)
    figure, axes = plt.subplots(1, max(len(networks), 1), figsize=(8.6, 3.8), sharey=True, squeeze=False)
    for ax, network in zip(axes[0], networks, strict=False):
        chosen = frames.select(runs, network=network)
        for run in chosen:
            epochs, cosines = (np.array(run.history[name]) for name in ("epoch", "raw_cosine"))
            known = np.isfinite(cosines)
            ax.plot(epochs[known], cosines[known], color=plots.COLOUR[run.config.loss], linewidth=1, alpha=0.8)
        classes = frames.model(chosen[0])[1]
        for kind, cosine in (("free", -1 / (classes - 1)), ("nonnegative", 0.0)):
            ax.axhline(cosine, color="black", linewidth=0.9, linestyle=STYLE[kind])
        ax.set(xscale="symlog", xlabel="epoch", title=names.network(*network))
        ax.set_xlim(0)
    axes[0][0].set_ylabel("cosine of two class means")
    handles = [lines.Line2D([], [], color=plots.COLOUR[loss], label=names.of(loss)) for loss in recipes.LOSSES]
    handles += [lines.Line2D([], [], color="black", linewidth=0.9, linestyle=STYLE[kind], label=f"minimum, {kind}")
                for kind in theory.FEATURES]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


# ---- tables

def minima() -> tables.Table:
    """The minimum of free features beside that of nonnegative ones, for ten classes at the paper's c."""
    frame = orthogonal.beside().copy()
    for name in (*orthogonal.KINDS, "cosine"):
        frame[name] = [f"{markdown.number(free, 3)} / {markdown.number(mine, 3)}" for free, mine in
                       zip(frame[f"{name}_free"], frame[f"{name}_nonnegative"], strict=True)]
    frame.loc[frame["loss"] == "ce", "bias"] = markdown.DASH
    columns = {"loss": tables.Column("loss", names.of), "lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}"),
               "positive": tables.Column("positive, free / nonnegative"), "negative": tables.Column("negative"),
               "bias": tables.Column("bias"), "cosine": tables.Column("cosine of class features"),
               "apart": tables.fixed("largest difference", 3)}
    signed, held = (dict.fromkeys(spec.display for spec in NETWORKS.values() if spec.features == kind)
                    for kind in ("signed", "nonnegative"))
    first, second = (theory.critical_lambda_b("bce", 10, predictions.paper_c(10), kind) for kind in theory.FEATURES)
    return tables.Table(frame, columns, (
        f"*Free*: {markdown.listed(signed)}. *Nonnegative*: {markdown.listed(held)}. CE's minimum does not depend on "
        "$\\lambda_b$, and its bias is 0 or free. Free features change their geometry at $\\lambda_b = $ "
        f"{markdown.significant(first, 3)}, nonnegative ones at {markdown.significant(second, 3)}.",))


def collapse() -> tables.Table:
    """What NC1 to NC3 and the cosines see of the two minima."""
    columns = {"features": tables.Column("features"), "loss": tables.Column("loss", names.of),
               "lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}"),
               "raw": tables.fixed("cosine, around 0", 4), "centred": tables.fixed("cosine, centred", 4)}
    columns |= {name: tables.fixed(names.MEASURE[name], 3) for name in ("nc1", "nc2", "nc2_means", "nc3")}
    return tables.Table(orthogonal.collapse(), columns)


def networks(runs: list[Run]) -> tables.Table:
    """Cosines, scores and biases of the trained networks, means over the seeds, beside both minima."""
    rows = []
    for (network, loss), group in orthogonal.trained(runs).groupby(["network", "loss"], sort=False):
        row = {"network": names.network(*network), "loss": loss, "seeds": len(group),
               "features": group["features"].iloc[0]}
        for name in ("cosine", "positive", "negative"):
            seen, free, mine = (float(group[column].mean()) for column in (name, f"{name}_free", f"{name}_nonnegative"))
            row[name] = f"{markdown.number(seen, 3)} ({markdown.number(free, 3)} / {markdown.number(mine, 3)})"
        rows.append(row | {name: float(group[name].mean()) for name in ("bias", "bias_minimum")})
    columns = {"network": tables.Column("network"), "loss": tables.Column("loss", names.of),
               "cosine": tables.Column("cosine (free / nonnegative)"), "positive": tables.Column("positive"),
               "negative": tables.Column("negative"), "bias": tables.fixed("bias"),
               "bias_minimum": tables.fixed("at the minimum"), "features": tables.Column("features"),
               "seeds": tables.Column("seeds")}
    return tables.Table(pd.DataFrame(rows, columns=list(columns)), columns, (
        "Training set, means over the seeds: the mean cosine of two class means around zero, and the medians of scores "
        "and biases. In brackets what free and nonnegative features have at rest: CE's minimum, and BCE's at the bias "
        "that the network has.",))


# ---- what is proved, and what the numbers say

def minimum() -> Finding:
    """f of a bounded minimisation against the closed form; beside it against that of free features."""
    table = orthogonal.minimised()
    mine, free = (table[name].abs().max() for name in ("above", "above_free"))
    off = markdown.power(table["off"].max())
    control = verdicts.check(free, EXACT, "rounding", n=len(table)).but(
        label="the same test on the minimum of free features")
    return verdicts.check(mine, EXACT, "rounding", n=len(table)).but(
        control=control, detail=f"the furthest score or bias of all settings is off by {off}; "
                                f"{orthogonal.MINIMISED.note.removesuffix('.')}")


def cosine() -> Finding:
    """The cosine of two class features as found, against the theorem's."""
    table = orthogonal.minimised().dropna(subset=["cosine", "cosine_found"])
    orthogonal_ones = int((table["cosine"] == 0).sum())
    return verdicts.check((table["cosine_found"] - table["cosine"]).abs().max(), CLOSE,
                          "a search for the minimum ends that near", n=len(table)).but(
        detail=f"{orthogonal_ones} of {len(table)} settings have orthogonal features")


def centred_blind() -> Finding:
    """NC2 of the centred class means at the minimum of nonnegative features; beside it the distance of the raw cosine
    from a simplex ETF's."""
    table = orthogonal.collapse()
    table = table[table["features"] == "nonnegative"]
    simplex = -1 / 9
    control = verdicts.check((table["raw"] - simplex).abs().max(), COLLAPSED, "rounding under a root", n=len(table))
    return verdicts.check(table["nc2_means"].max(), COLLAPSED, "rounding under a root", n=len(table)).but(
        control=control.but(label="the raw cosine of the same features, against a simplex ETF's"))


def resnet18() -> Finding:
    """To which of the two minima are ResNet18's published values nearer, where the two can be told apart?"""
    table = orthogonal.published()
    wins, n = int(table["nearer"].sum()), len(table)
    return verdicts.most(wins, n - wins, stats.sign_test_p(wins, n - wins),
                         "the published value is nearer to the minimum of nonnegative features", of="values")


def own_cosine(runs: list[Run]) -> Finding:
    """Of each network and loss: on whose side is the cosine of its class means? 0 where free features have it at rest,
    1 where nonnegative ones have it; minus one half, and counted towards the network's own kind. Only where the two
    are further apart than TOLD."""
    parts, table = [], orthogonal.trained(runs)
    table = table[(table["cosine_nonnegative"] - table["cosine_free"]).abs() > TOLD]
    for (network, loss), group in table.groupby(["network", "loss"], sort=False):
        place = (group["cosine"] - group["cosine_free"]) / (group["cosine_nonnegative"] - group["cosine_free"]) - 0.5
        own = 1 if group["features"].iloc[0] == "nonnegative" else -1
        parts.append(seeds.tested((own * place).tolist(), label=f"{names.network(*network)}, {names.of(loss)}"))
    return verdicts.family(parts, stats.holm, of="networks and losses")


ROOM = Room(
    name=__name__, part="theory", number=4, title="ReLU features",
    of_the_paper="theorems on neural collapse, for the networks that the paper trains",
    asks="where is the minimum with nonnegative features?",
    runs=configs, seeds={profile: recipes.THREE_SEEDS for profile in recipes.PROFILES},
    figures=(along_epochs,), tables=(networks,),
    claims=(
        Claim("relu_features.minimum",
              "With nonnegative features, minimising f reduces to three numbers: the two scores and the bias",
              "ours", "the largest difference of f, in nats, between a bounded minimisation and the closed form",
              minimum, theory=True),
        Claim("relu_features.cosine",
              r"Class features are orthogonal around zero up to the critical $\lambda_b$, and at an acute angle beyond",
              "ours", "the largest difference of the cosine of two class features from the theorem's", cosine,
              theory=True),
        Claim("relu_features.centred_blind",
              "NC2 of the centred class means is zero although nonnegative features form no simplex ETF", "ours",
              "the largest NC2 of the class means at their minimum", centred_blind, theory=True),
        Claim("relu_features.resnet18",
              "ResNet18's published scores and biases lie nearer to the minimum of nonnegative features", "ours",
              "the share of the published values that do, of those at which the two minima are distinguishable",
              resnet18,
              theory=True),
        Claim("relu_features.own_cosine",
              "The class means of a trained network reveal whether its features can be negative", "ours",
              "how far beyond the midpoint of the two predictions, towards the one for its own kind of features, the "
              "cosine of two class means lies, in units of the distance between the predictions", own_cosine),
    ),
)
