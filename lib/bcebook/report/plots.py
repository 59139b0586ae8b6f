"""One function per kind of figure, and the book's one palette. Functions take numbers and axes, and return the axes."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from bcebook import names
from bcebook.report import drawn

COLOUR = {"ce": "#0072B2", "bce": "#D55E00"}  # nothing else takes these two
NAME = {"ce": "CE", "bce": "BCE", "sgd": "SGD", "adamw": "AdamW"}
GREY = "#555555"
MARKER = {"ViT": "o", "Swin": "s", "ResNet18": "^"}  # the paper's values: always hollow, one shape a network


def style() -> None:
    """The look of every figure in the book, whatever a person's matplotlibrc says; a chapter calls it once."""
    matplotlib.rcdefaults()
    sns.set_theme(
        style="ticks",
        context="notebook",
        font_scale=0.9,
        rc={
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "legend.fontsize": "small",
            "hatch.linewidth": 0.6,
            "svg.fonttype": "path",
            "svg.hashsalt": "bcebook",
            "axes.unicode_minus": True,
        },
    )
    try:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})  # the same figure is the same file
        if shell := get_ipython():
            shell.display_formatter.mimebundle_formatter.for_type(Figure, drawn.bundle)
    except ImportError:  # outside a notebook there is nothing to tell
        pass


def violin(ax: Axes, at: float, summary, colour: str, style: str, width: float = 0.62) -> Axes:
    """A violin from a stored histogram (`summaries.ScoreSummary`), with its median as a bar.

    style: "filled" (positive scores) or "hatched" (negative scores). The widest bin is `width` wide; the violin is
    cut at the 0.1 % and 99.9 % quantiles, so that a handful of samples does not draw a needle.
    """
    edges, density = np.asarray(summary.edges), np.asarray(summary.density)
    centres = (edges[:-1] + edges[1:]) / 2
    inside = (edges[1:] >= summary.quantile(0.001)) & (edges[:-1] <= summary.quantile(0.999))
    centres, half = centres[inside], density[inside] / density.max() * width / 2
    # A collapsed distribution fills one or two bins: close the shape half a bin beyond its ends.
    step = edges[1] - edges[0]
    centres = np.r_[centres[0] - step / 2, centres, centres[-1] + step / 2]
    half = np.r_[half[0] * 0.4, half, half[-1] * 0.4]
    ax.fill_betweenx(
        centres,
        at - half,
        at + half,
        facecolor=colour if style == "filled" else "white",
        edgecolor=colour,
        linewidth=0.8,
        zorder=3,
        hatch="//////" if style == "hatched" else None,
        alpha=0.85 if style == "filled" else 1,
    )
    ax.hlines(summary.median, at - width / 2, at + width / 2, color=colour, linewidth=1.8, zorder=4)
    return ax


def bias_box(ax: Axes, at: float, summary, colour: str, width: float = 0.36) -> Axes:
    """The biases of one network as an outlined box from the smallest to the largest, their median as a bar: K values
    make no density."""
    low, high = summary.quantiles[0], summary.quantiles[-1]
    ax.add_patch(
        Rectangle(
            (at - width / 2, low), width, high - low, facecolor="white", edgecolor=colour, linewidth=1.1, zorder=5
        )
    )
    ax.hlines(summary.median, at - width / 2, at + width / 2, color=colour, linewidth=1.8, zorder=5)
    return ax


def bias_sweep(ax: Axes, runs: list, varied: str, values: list, summaries, published, theory) -> Axes:
    """Positive scores, negative scores and biases of one loss and optimizer against `varied`: "bias_init_mean" on a
    linear axis with the diagonal on which a bias stays at its start, or "lambda_b", its values side by side, the
    largest at the left.

    runs: the runs of the panel; values: those of `varied` in all panels of the figure, in their order; summaries(run,
    kind) gives their `summaries.ScoreSummary`; published: rows of `paper.medians` (columns model, value, median,
    reading_error) drawn as hollow markers; theory(run): kind -> value of the closed form.
    """
    loss = runs[0].config.loss
    place = {value: value if varied == "bias_init_mean" else index for index, value in enumerate(values)}
    for run in runs:
        at = place[getattr(run.config, varied)]
        violin(ax, at, summaries(run, "positive"), COLOUR[loss], "filled")
        violin(ax, at, summaries(run, "negative"), COLOUR[loss], "hatched")
        bias_box(ax, at, summaries(run, "bias"), COLOUR[loss])
    shift = {"ViT": -0.34, "ResNet18": 0.0, "Swin": 0.34}
    published = published[published["value"].isin(values)]
    for model, rows in published.groupby("model"):
        ax.scatter(
            rows["value"].map(place) + shift[model],
            rows["median"],
            marker=MARKER[model],
            s=17,
            facecolor="none",
            edgecolor="black",
            linewidth=0.7,
            zorder=6,
        )
    lines = {getattr(run.config, varied): theory(run) for run in runs}
    for kind in theory(runs[0]):
        xs, ys = zip(*[(place[v], lines[v][kind]) for v in values if v in lines], strict=True)
        ax.plot([xs[0] - 0.5, *xs, xs[-1] + 0.5], [ys[0], *ys, ys[-1]], color="black", linewidth=0.6, zorder=1)
    if varied == "bias_init_mean":
        ax.plot([0, max(values)], [0, max(values)], color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    ax.set_xticks([place[value] for value in values], [f"{value:g}" for value in values])
    ax.set(
        xlabel={"bias_init_mean": "initial bias mean", "lambda_b": r"$\lambda_b$"}[varied],
        ylabel="decision score or bias",
    )
    return ax


def empty(ax: Axes) -> Axes:
    """A panel whose runs are not there yet; its frame stays, because it may carry the labels of its neighbours."""
    ax.text(0.5, 0.5, "no run", transform=ax.transAxes, ha="center", va="center", color=GREY)
    return ax


def nothing(why: str):
    """A figure that says why there is nothing to draw."""
    figure, ax = plt.subplots(figsize=(8.6, 1))
    ax.axis("off")
    ax.text(0.5, 0.5, why, ha="center", transform=ax.transAxes)
    return figure


def sweep_legend(figure, published, diagonal: bool) -> None:
    """The key of `bias_sweep`, below the panels."""
    handles = [
        Patch(facecolor=GREY, edgecolor=GREY, label="positive scores"),
        Patch(facecolor="white", edgecolor=GREY, hatch="//////", label="negative scores"),
        Patch(facecolor="white", edgecolor=GREY, label="biases"),
        Line2D([], [], color="black", linewidth=0.6, label="closed form"),
    ]
    if diagonal:
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=0.8, label="bias = its initial mean"))
    figure.legend(
        handles=handles + paper_handles(sorted(published["model"].unique())), loc="outside lower center", ncols=4
    )


def paper_handles(models) -> list[Line2D]:
    """The keys of the paper's hollow markers, one for each network."""
    return [
        Line2D(
            [],
            [],
            marker=MARKER[model],
            color="black",
            markerfacecolor="none",
            linestyle="",
            markersize=5,
            label=f"paper, {model}",
        )
        for model in models
    ]


def collapse_curves(ax: Axes, runs: list, name: str, until: float = np.inf, levels=()) -> Axes:
    """One measure of neural collapse over the epochs: colour the loss, solid SGD, dashed AdamW.

    A curve is the median over the seeds, with a dot at each measured epoch; the band around it goes from the lowest
    seed to the highest. until: the last epoch that is drawn; levels: values marked by a thin grey line.
    """
    for level in levels:
        ax.axhline(level, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
    groups: dict[tuple[str, str], dict[float, list[float]]] = {}
    for run in runs:
        points = groups.setdefault((run.config.loss, run.config.optimizer), {})
        for epoch, value in zip(run.history["epoch"], run.history.get(name, ()), strict=False):
            if np.isfinite(value) and epoch <= until:  # a run of an earlier engine may lack a measure
                points.setdefault(epoch, []).append(value)
    for (loss, optimizer), points in groups.items():
        epochs = sorted(points)
        if not epochs:
            continue
        low, middle, high = ([f(points[epoch]) for epoch in epochs] for f in (min, np.median, max))
        ax.fill_between(epochs, low, high, color=COLOUR[loss], alpha=0.2, linewidth=0)
        ax.plot(epochs, middle, color=COLOUR[loss], linestyle={"sgd": "-", "adamw": "--"}[optimizer], linewidth=1.3,
                marker=".", markersize=3)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set(xlabel="epoch")
    return ax


def collapse_legend(figure, several: bool = False) -> None:
    """The key of `collapse_curves`, below the panels; several: whether there are seeds to make a band of."""
    handles = [
        Line2D([], [], color=COLOUR[loss], linestyle=style, label=f"{names.of(loss)}, {names.of(optimizer)}")
        for loss in ("ce", "bce")
        for optimizer, style in (("sgd", "-"), ("adamw", "--"))
    ]
    if several:
        handles.append(Patch(color=GREY, alpha=0.2, linewidth=0, label="all seeds"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)


def score_histogram(ax: Axes, train: dict, test: dict, loss: str, threshold: float) -> Axes:
    """Positive (filled) and negative (hatched) scores on train (solid) and test (dashed outline), with the biases and
    the best uniform threshold of the training set.

    train, test: kind -> `summaries.ScoreSummary`. threshold: in units of the logit; drawn at threshold + mean bias,
    since a logit is a score minus a bias. Each distribution has area 1; a box on the axis is the range of the biases,
    the bar in it their mean.
    """
    colour = COLOUR[loss]
    for kind, fill in (
        ("positive", {"facecolor": colour, "alpha": 0.55}),
        ("negative", {"facecolor": "none", "hatch": "/////"}),
    ):
        edges, density = _coarse(train[kind])
        ax.stairs(density, edges, fill=True, edgecolor=colour, linewidth=0.6, **fill)
        edges, density = _coarse(test[kind])
        ax.stairs(density, edges, color=colour, linestyle="--", linewidth=1.1)
    bias = train["bias"]
    ax.axvspan(
        bias.quantiles[0], bias.quantiles[-1], ymax=0.035, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=5
    )
    ax.axvline(bias.mean, ymax=0.1, color=colour, linewidth=1.6, zorder=5)
    if np.isfinite(threshold):
        ax.axvline(threshold + bias.mean, color="black", linewidth=1.1, linestyle="-.", zorder=4)
    ax.set(xlabel="decision score", ylabel="density")
    ax.margins(y=0.08)
    return ax


def histogram_legend(figure) -> None:
    """The key of `score_histogram`, below the panels."""
    figure.legend(
        handles=[
            Patch(facecolor=GREY, alpha=0.55, label="positive, train"),
            Patch(facecolor="white", edgecolor=GREY, hatch="/////", label="negative, train"),
            Line2D([], [], color=GREY, linestyle="--", label="the same on test"),
            Patch(facecolor="white", edgecolor=GREY, linewidth=1.2, label="range and mean of the biases"),
            Line2D([], [], color="black", linestyle="-.", label="best uniform threshold (train) + mean bias"),
        ],
        loc="outside lower center",
        ncols=3,
    )


def _coarse(summary, bins: int = 45) -> tuple[np.ndarray, np.ndarray]:
    """Edges and density (area 1) of a stored histogram, its bins joined to at most `bins`."""
    edges, counts = np.asarray(summary.edges), np.asarray(summary.counts, float)
    factor = max(1, -(-len(counts) // bins))
    counts = np.r_[counts, np.zeros(-len(counts) % factor)]
    step = edges[1] - edges[0]
    edges = edges[0] + step * factor * np.arange(len(counts) // factor + 1)
    return edges, counts.reshape(-1, factor).sum(1) / (counts.sum() * step * factor)


def difference_dots(ax: Axes, labels: list[str], estimates: list, each: list, published=(), points=True) -> Axes:
    """BCE minus CE for each row: the seeds as faint dots, their mean and its interval, the paper's difference as a
    hollow diamond.

    estimates: `stats.Estimate`s whose interval is the one that decides; a single seed has none and no bar. each: the
    seeds' own differences. published: the paper's, or nothing. points: they are fractions, drawn in percentage points;
    else they have no unit and are drawn as they are.
    """
    rows, scale = np.arange(len(labels))[::-1], 100 if points else 1
    for row, estimate, seeds in zip(rows, estimates, each, strict=True):
        ax.scatter(
            scale * np.asarray(seeds), np.full(len(seeds), row - 0.2), s=14, color=COLOUR["bce"], alpha=0.4, linewidth=0
        )  # below the bar, which would hide them
        if np.isfinite(estimate.low):
            ax.hlines(row, scale * estimate.low, scale * estimate.high, color=COLOUR["bce"], linewidth=2)
        ax.scatter(scale * estimate.mean, row, s=34, color=COLOUR["bce"], zorder=3)
    if len(published):
        ax.scatter(
            scale * np.asarray(published, float),
            rows,
            marker="D",
            s=26,
            facecolor="none",
            edgecolor="black",
            linewidth=0.9,
            zorder=4,
        )
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(rows, labels)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set_xlabel("BCE − CE, percentage points" if points else "BCE − CE")
    return ax


def differences(pairs, titles: dict[str, str], published: dict[str, str]) -> Figure:
    """BCE minus CE, a panel for each measure and a row for each setting: a `frame.compare` with the column label.

    titles: measure -> title of its panel; published: measure -> the column with the paper's difference. Accuracies are
    drawn in percentage points, other measures in their own unit.
    """
    if pairs.empty:
        return nothing("no setting has runs of both losses with a common seed")
    rows = pairs["label"].nunique()
    width = max(8.6, 2.4 + 3.1 * len(titles))
    figure, axes = plt.subplots(1, len(titles), figsize=(width, 1.6 + 0.5 * rows), sharey=True, squeeze=False)
    for ax, (measure, title) in zip(axes[0], titles.items(), strict=True):
        chosen = pairs[pairs["measure"] == measure]
        theirs = chosen[published[measure]] if measure in published else ()
        columns = (list(chosen[name]) for name in ("label", "estimate", "each"))
        difference_dots(ax, *columns, list(theirs), names.is_fraction(measure))
        ax.set_title(title)
    difference_legend(figure, published=bool(pairs[list(published.values())].notna().any(axis=None)))
    return figure


def difference_legend(figure, published: bool = True) -> None:
    """The key of `difference_dots`, below the panels."""
    handles = [
        Line2D([], [], marker="o", color=COLOUR["bce"], alpha=0.3, linestyle="", markersize=4, label="one seed"),
        Line2D([], [], marker="o", color=COLOUR["bce"], linewidth=2, label="mean and its 95 % interval (Student's)"),
    ]
    if published:
        handles.append(
            Line2D([], [], marker="D", color="black", markerfacecolor="none", linestyle="", markersize=5, label="paper")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
