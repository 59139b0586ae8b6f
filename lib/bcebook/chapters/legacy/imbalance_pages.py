"""Imbalance and minority collapse: what the chapter computes, draws and says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bcebook.report import plots
from bcebook.science import metrics, theory
from bcebook.training import datasets as data
from bcebook.chapters.catalog import LOSSES
from bcebook.runs.config import batch_count
from bcebook.paths import published
from bcebook.runs.store import Run
from bcebook.chapters.legacy.theory_pages import BATCH, DECAY, markdown_table

CASES = {"2 of 100, 4 of 5": (100, 100, 5, 5, 5, 5), "300, 200, 100, 2 of 2": (300, 200, 100, 2, 2),
         "5 of 50, 5 of 1": (50,) * 5 + (1,) * 5, "6 equal": (7,) * 6}


def at_share(loss: str, shares, product: float, lambda_b: float = 0.0, restarts: int = 1) -> theory.Solution:
    """The minimum at d = K, where every local minimum is global, for shares (K,) of the data and product = B lambda_W lambda_H.

    In mini-batches of B the size N of the data set does not matter: lambda_H acts as lambda_H B / N, so that class k's features
    are decayed by lambda_H B times the class's share. Both decays are taken equal: only their product enters the logits.
    """
    shares = np.asarray(shares, float) / np.sum(shares)
    k, decay = len(shares), np.sqrt(product)
    return theory.solve(loss, k, k, None, decay, decay, lambda_b, counts=shares, restarts=restarts)


def tail_width(found: theory.Solution, shares) -> float:
    """Largest distance between two rows of the smallest classes."""
    rows = found.W[np.asarray(shares) == min(shares)]
    return float(np.linalg.norm(rows[:, None] - rows[None], axis=-1).max())


def thresholds(lambda_b=(0.0, 0.01), steps: int = 12) -> pd.DataFrame:
    """Bisection on `theory.solve`: where the tail rows of each of CASES separate, over the theorem's value of B lambda_W lambda_H.

    Columns case, lambda_b; ce, bce: share of a tail class at the threshold over B lambda_W lambda_H, 1 if the theorem holds, to
    the last step's width; apart: BCE's distance between tail rows over CE's where that share is 5 % above the threshold.
    """
    rows = []
    for name, counts in CASES.items():
        share = counts[-1] / sum(counts)
        for value in lambda_b:
            row = {"case": name, "lambda_b": value}
            for loss in LOSSES:
                low, high = 0.5, 2.0  # of the multiple share / product: merged below the threshold, apart above it
                for _ in range(steps):
                    middle = np.sqrt(low * high)
                    apart = tail_width(at_share(loss, counts, share / middle, value), counts) > 1e-3
                    low, high = (low, middle) if apart else (middle, high)
                row[loss] = np.sqrt(low * high)
            widths = [tail_width(at_share(loss, counts, share / 1.05, value), counts) for loss in LOSSES]
            rows.append(row | {"apart": widths[1] / widths[0]})
    return pd.DataFrame(rows)


def head_and_tail(loss: str, ratio: float, product: float) -> dict[str, float]:
    """Five large and five small classes, `ratio` to one: angles (degrees) within, mean length and mean bias of both groups.

    Angles are between rows taken around the mean row, which CE leaves free; 0 where the rows agree to a thousandth of the longest,
    because beyond the threshold they may vanish altogether.
    """
    found, row = at_share(loss, [ratio] * 5 + [1] * 5, product), {}
    W = found.W - found.W.mean(axis=0)
    lengths = np.linalg.norm(W, axis=1)
    for group, rows in (("head", slice(0, 5)), ("tail", slice(5, 10))):
        merged = np.abs(W[rows] - W[rows].mean(axis=0)).max() < 1e-3 * lengths.max()
        cosine = 1.0 if merged else (W[rows] @ W[rows].T / np.outer(lengths[rows], lengths[rows]))[np.triu_indices(5, 1)].mean()
        row |= {f"{group}_angle": np.degrees(np.arccos(np.clip(cosine, -1, 1))), f"{group}_norm": lengths[rows].mean(),
                f"{group}_bias": found.b[rows].mean()}
    return row


def above_threshold() -> Figure:
    """Angles, lengths and biases of head and tail against the imbalance ratio (at the paper's decay) and against c (20 to 1)."""
    paper_product = BATCH * DECAY**2
    figure, axes = plt.subplots(3, 2, figsize=(8.6, 8.6), sharex="col", sharey="row")
    ratios, cs = np.geomspace(1, 2e4, 40), np.geomspace(1e-3, 6e-2, 40)
    sweeps = ((ratios, [(ratio, paper_product) for ratio in ratios], 1 / (5 * paper_product) - 1, "largest / smallest class"),
              (cs, [(20, 10 * c**2) for c in cs], np.sqrt(1 / (5 * 21) / 10), r"$c = \sqrt{\lambda_W \lambda_H B / K}$"))
    for column, (x, points, critical, label) in zip(axes.T, sweeps, strict=True):
        for loss in LOSSES:
            table = pd.DataFrame([head_and_tail(loss, *point) for point in points])
            for ax, name in zip(column, ("angle", "norm", "bias"), strict=True):
                for group, style in (("head", "-"), ("tail", "--")):
                    ax.plot(x, table[f"{group}_{name}"], color=plots.COLOUR[loss], linestyle=style, linewidth=1.5)
        for ax in column:
            ax.axvline(critical, color="black", linewidth=0.8, linestyle=":")
            ax.set(xscale="log")
        column[-1].set_xlabel(label)
    for ax, name in zip(axes[:, 0], ("angle within the group, degrees", "length of a row", "bias"), strict=True):
        ax.set_ylabel(name)
    axes[0, 0].set_title("at the paper's decay")
    axes[0, 1].set_title("20 to 1")
    handles = [Line2D([], [], color=plots.COLOUR[loss], linestyle=style, label=f"{plots.NAME[loss]}, {group}")
               for loss in LOSSES for group, style in (("large classes", "-"), ("small classes", "--"))]
    handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="threshold"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def class_sizes(run: Run) -> np.ndarray:
    """Training images of each class of a run, (K,)."""
    return np.bincount(data.load(run.config.dataset).subset(run.config.train_size, run.config.imbalance_factor).y_train)


def predicted_tail(loss: str, sizes: np.ndarray, lambda_w, lambda_h, batch_size: int) -> tuple[metrics.TailGeometry, float]:
    """The tail at the minimum for these class sizes, and the size up to which equal classes merge.

    The last batch of an epoch is smaller and counts as much as the others: B is the mean batch, N over the batches of an epoch.
    """
    total = int(sizes.sum())
    batch = total / batch_count(total, batch_size)
    found = at_share(loss, sizes, batch * lambda_w * lambda_h)
    return metrics.tail_geometry(found.W, sizes), theory.minority_collapse_size(total, lambda_w, lambda_h, batch)


def trained_tails(runs: list[Run]) -> pd.DataFrame:
    """A row a run: loss, lambda_w, epochs, size (up to which equal classes merge), distance and cosine of its tail rows as trained and as
    predicted_*, accuracy and uniform (test, fractions)."""
    rows = []
    for run in runs:
        c = run.config
        tail, size = predicted_tail(c.loss, class_sizes(run), c.lambda_w, c.lambda_h, c.batch_size)
        rows.append({"loss": c.loss, "lambda_w": c.lambda_w, "epochs": c.epochs, "size": size}
                    | {f"predicted_{name}": value for name, value in vars(tail).items()}
                    | {name: run.final.get(f"tail_{name}", np.nan) for name in ("distance", "cosine")}
                    | {"accuracy": run.final["test_accuracy"], "uniform": run.final["test_uniform_accuracy"]})
    return pd.DataFrame(rows)


def trained(runs: list[Run]) -> Figure:
    """Distance between tail rows (left) and test accuracies (right) of trained networks against the collapse size."""
    table, config = trained_tails(runs), runs[0].config
    figure, (ax, right) = plt.subplots(1, 2, figsize=(8.6, 4.2))
    sizes, grid = class_sizes(runs[0]), np.geomspace(0.6 * table["lambda_w"].min(), 1.5 * table["lambda_w"].max(), 40)
    for loss, style in zip(LOSSES, ("-", "--"), strict=True):
        lines = [predicted_tail(loss, sizes, value, config.lambda_h, config.batch_size) for value in grid]
        ax.plot([size for _, size in lines], [tail.distance for tail, _ in lines], color="black", linewidth=0.8, linestyle=style)
        of = table[table["loss"] == loss]
        longer, rows = of[of["epochs"] > table["epochs"].min()], of[of["epochs"] == table["epochs"].min()]
        look = {"color": plots.COLOUR[loss], "marker": "o", "linewidth": 1}
        ax.scatter(longer["size"], longer["distance"], color=look["color"], s=44, zorder=3, marker="^")
        ax.scatter(rows["size"], rows["distance"], color=look["color"], s=36, zorder=3)
        right.plot(rows["size"], 100 * rows["accuracy"], **look)
        right.plot(rows["size"], 100 * rows["uniform"], **look, markerfacecolor="none", linestyle=":")
    for each in (ax, right):
        for size in np.sort(sizes)[:3]:
            each.axvline(size, color=plots.GREY, linewidth=0.7, linestyle=":")
        each.set(xscale="log", xlabel="collapse size, images a class")
        each.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        each.minorticks_off()
    ax.set(ylabel="distance of tail rows / of head rows", ylim=(0, None), title="The tail of the classifier")
    right.set(ylabel="test accuracy, percent", title="What it costs")
    handles = [Line2D([], [], marker="o", linestyle="", color=plots.COLOUR[loss], label=f"{plots.NAME[loss]}, trained") for loss in LOSSES]
    handles += [Line2D([], [], color="black", linewidth=0.8, linestyle=style, label=f"{plots.NAME[loss]}, predicted")
                for loss, style in zip(LOSSES, ("-", "--"), strict=True)]
    handles += [Line2D([], [], color=plots.GREY, marker="^", linestyle="", label="trained longer"),
                Line2D([], [], color=plots.GREY, marker="o", linewidth=1, label="accuracy"),
                Line2D([], [], color=plots.GREY, marker="o", markerfacecolor="none", linewidth=1, linestyle=":", label="uniform accuracy")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def long_tailed_sizes(factor: float) -> np.ndarray:
    """Images a class of CIFAR100-LT, (100,): 500 factor^(-k/99), rounded down as in `data.Dataset.subset`."""
    return data.long_tailed_sizes(500, 100, factor)


def cifar100_long_tailed() -> pd.DataFrame:
    """The settings of the paper's CIFAR100-LT table: factor, total N, smallest class, size up to which equal classes merge at the
    paper's decay and batch size, and the published accuracies ce and bce, percent."""
    table = pd.read_csv(published() / "cifar100_long_tailed_accuracy.csv")
    rows = []
    for factor, group in table.groupby("imbalance_factor"):
        sizes = long_tailed_sizes(factor)
        rows.append({"factor": factor, "total": int(sizes.sum()), "smallest": int(sizes.min()),
                     "size": theory.minority_collapse_size(sizes.sum(), DECAY, DECAY, BATCH)}
                    | dict(zip(group["loss"].str.lower(), group["accuracy"], strict=True)))
    return pd.DataFrame(rows)


def threshold_table(table: pd.DataFrame) -> str:
    """Markdown: the rows of `thresholds`, and how far they are from the theorem."""
    lines = markdown_table("classes, of samples | $\\lambda_b$ | found / theorem, CE | found / theorem, BCE | distance, BCE / CE",
                   ([r.case, f"{r.lambda_b:g}", f"{r.ce:.4f}", f"{r.bce:.4f}", f"{r.apart:.2f}"] for r in table.itertuples()))
    far = (table[["ce", "bce"]] - 1).abs().max().max()
    return "\n".join([
        *lines, f"**All {2 * len(table)} thresholds agree with the theorem to {100 * far:.2f} % or better.** What differs is how the "
        f"tail opens: with 5 % more samples than that, BCE's tail rows are between {table['apart'].min():.2f} and "
        f"{table['apart'].max():.2f} times as far apart as CE's."])


def opened(ratio: float = 1000, lambda_b=(0.0, 0.01)) -> str:
    """Markdown: the tail far from the threshold (five classes `ratio` times as large as the five others, the paper's decay)."""
    rows = []
    for value in lambda_b:
        for loss in LOSSES:
            W = at_share(loss, [ratio] * 5 + [1] * 5, BATCH * DECAY**2, value).W
            angles = [np.degrees(np.arccos(V[5] @ V[6] / np.linalg.norm(V[5]) / np.linalg.norm(V[6]))) for V in (W, W - W.mean(axis=0))]
            distance = np.linalg.norm(W[5] - W[6]) / np.linalg.norm(W[0] - W[1])
            rows.append([f"{value:g}", plots.NAME[loss], *(f"{angle:.1f}°" for angle in angles), f"{distance:.3f}"])
    return "\n".join(markdown_table("$\\lambda_b$ | loss | angle of small rows | around the mean row | distance, small / large", rows))


def trained_table(runs: list[Run]) -> str:
    """Markdown: tail rows of trained networks beside the minimum's, and how far apart they are on both sides of the tail's sizes."""
    table, sizes = trained_tails(runs), np.sort(class_sizes(runs[0]))
    number = lambda value, digits: "–" if np.isnan(value) else f"{value:.{digits}f}"  # noqa: E731
    lines = markdown_table("$\\lambda_W$ | epochs | size | loss | distance | model | cosine | model | $A$, % | $A_\\text{Uni}$, %", (
        [f"{r.lambda_w:g}", f"{r.epochs}", f"{r.size:.1f}", plots.NAME[r.loss], number(r.distance, 3), f"{r.predicted_distance:.3f}",
         number(r.cosine, 2), f"{r.predicted_cosine:.2f}", f"{100 * r.accuracy:.1f}", f"{100 * r.uniform:.1f}"]
        for r in table.itertuples()))
    short, low, high, told = table["epochs"] == table["epochs"].min(), sizes[0], sizes[2], []
    for name, least, most in ((f"below {low / 10:g}", 0, low / 10), (f"from {low / 10:g} to {low}", low / 10, low),
                              (f"from {low} to {high}", low, high), (f"above {high}", high, np.inf)):
        rows = table[short & table["size"].between(least, most, inclusive="left") & table["distance"].notna()]
        if len(rows):
            ends = [f"{rows[x].min():.3f} to {rows[x].max():.3f}" for x in ("distance", "predicted_distance")]
            told.append(f"{name}: {ends[0]} (model {ends[1]})")
    off = (table["distance"] - table["predicted_distance"])[~short].abs().max()
    return "\n".join([
        *lines, f"The three smallest classes have {sizes[0]}, {sizes[1]} and {sizes[2]} images. **Distance by collapse size**, both "
        f"losses, after {table['epochs'].min()} epochs: {'; '.join(told) or 'not measured'}."
        + (f" After {table['epochs'].max()} epochs it is off by {off:.3f} at most." if not np.isnan(off) else "")])


def long_tailed_table() -> str:
    """Markdown: the paper's CIFAR100-LT settings beside the theorem's threshold, and the minimum's tail at the largest imbalance."""
    table = cifar100_long_tailed()
    lines = markdown_table("imbalance | images | smallest class | collapse size | ratio | CE, % | BCE, % | BCE − CE", (
        [f"{r.factor}", f"{r.total:,}", f"{r.smallest}", f"{r.size:.2f}", f"{r.smallest / r.size:.0f}", f"{r.ce:.2f}", f"{r.bce:.2f}",
         f"{r.bce - r.ce:+.2f}"] for r in table.itertuples()))
    last = table.iloc[-1]
    needed = DECAY * np.sqrt(last["smallest"] / last["size"])
    tails = [predicted_tail(loss, long_tailed_sizes(last["factor"]), DECAY, DECAY, BATCH)[0].distance for loss in LOSSES]
    return "\n".join([
        *lines, f"The smallest class is at least {(table['smallest'] / table['size']).min():.0f} times the collapse size, which is at "
        f"most {table['size'].max():.2f} images. At imbalance {last['factor']:.0f} both decays would have to be {needed:.4f} for its "
        f"{last['smallest']:.0f}-image classes to merge. At the minimum there, the rows of the three smallest classes are "
        f"{tails[0]:.2f} (CE) and {tails[1]:.2f} (BCE) times as far apart as those of the three largest."])
